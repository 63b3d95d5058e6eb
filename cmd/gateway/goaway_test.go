package gateway

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An upstream of HTTP/2 has more places to write a text into than one of HTTP/1.1: what
// it says when it closes a connection, and headers that are none.
func TestNoTextIsLoggedWhateverAnUpstreamWritesBackOverHTTP2(t *testing.T) {
	t.Parallel()
	const head = http2.FlagHeadersEndHeaders
	ways := map[string]func(f *http2.Framer, stream uint32, text string){
		"as the reason to go away": func(f *http2.Framer, stream uint32, text string) {
			f.WriteGoAway(0, http2.ErrCodeProtocol, []byte(text))
		},
		"as the reason to go away after this": func(f *http2.Framer, stream uint32, text string) {
			f.WriteGoAway(stream, http2.ErrCodeEnhanceYourCalm, []byte(text))
		},
		"in mid answer": func(f *http2.Framer, stream uint32, text string) {
			f.WriteRawFrame(http2.FrameHeaders, head, stream, packedHeaders(":status", "200", "content-type", "application/json"))
			f.WriteData(stream, false, []byte(`{"choices":`))
			f.WriteGoAway(stream, http2.ErrCodeInternal, []byte(text))
		},
		"as a status": func(f *http2.Framer, stream uint32, text string) {
			f.WriteRawFrame(http2.FrameHeaders, head|http2.FlagHeadersEndStream, stream, packedHeaders(":status", text))
		},
		"as a pseudo-header": func(f *http2.Framer, stream uint32, text string) {
			f.WriteRawFrame(http2.FrameHeaders, head|http2.FlagHeadersEndStream, stream, packedHeaders(":status", "200", ":"+text, text))
		},
		"as a header's name": func(f *http2.Framer, stream uint32, text string) {
			f.WriteRawFrame(http2.FrameHeaders, head|http2.FlagHeadersEndStream, stream, packedHeaders(":status", "500", text, "x"))
		},
		"as a length": func(f *http2.Framer, stream uint32, text string) {
			f.WriteRawFrame(http2.FrameHeaders, head|http2.FlagHeadersEndStream, stream, packedHeaders(":status", "500", "content-length", text))
		},
		"as a frame that nobody knows": func(f *http2.Framer, stream uint32, text string) {
			f.WriteRawFrame(0xbb, 0, stream, []byte(text))
			f.WriteRSTStream(stream, http2.ErrCode(0xbbbb))
		},
		"instead of frames": func(f *http2.Framer, stream uint32, text string) {
			f.WriteRawFrame(http2.FrameType(text[0]), http2.Flags(text[1]), 1<<31-1, []byte(text))
			f.WriteRawFrame(http2.FrameData, 0, 0, []byte(text))
		},
	}
	cert, ca := authority(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu      sync.Mutex
		way     string // of the next text
		met     = map[string]int{}
		serving sync.WaitGroup
	)
	serve := func(c net.Conn) {
		defer c.Close()
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(c, c)
		f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		f.WriteSettings()
		get := map[uint32]bool{}
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			ended := false
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if !frame.IsAck() {
					f.WriteSettingsAck()
				}
			case *http2.PingFrame:
				if !frame.IsAck() {
					f.WritePing(true, frame.Data)
				}
			case *http2.MetaHeadersFrame:
				get[frame.StreamID] = frame.PseudoValue("method") == http.MethodGet
				ended = frame.StreamEnded()
			case *http2.DataFrame:
				ended = frame.StreamEnded()
			}
			if !ended {
				continue
			}
			stream := frame.Header().StreamID
			if get[stream] {
				f.WriteRawFrame(http2.FrameHeaders, head, stream, packedHeaders(":status", "200", "content-type", "application/json"))
				f.WriteData(stream, true, []byte("{}"))
				continue
			}
			mu.Lock()
			writes := ways[way]
			met[way]++
			mu.Unlock()
			writes(f, stream, canary+" sings for John Smith")
		}
	}
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serve(c) })
		}
	})
	u := &rawUpstream{base: "https://" + listener.Addr().String() + "/v1", ca: ca}
	yaml := strings.NewReplacer("server:", "log: {level: debug}\nserver:", "mode: pooled", "mode: pooled, protocol: http2").
		Replace(u.config("", "{use: openai, retries: 0, breaker: {failures: 0}}"))
	g := serveYAML(t, yaml, nil)
	for name := range ways {
		mu.Lock()
		way = name
		mu.Unlock()
		for _, stream := range []bool{false, true} {
			body := fmt.Sprintf(`{"text":"%s sings for John Smith","source":"en","target":"es","no_cache":true,"stream":%v}`, canary, stream)
			res, err := http.Post(g.url+"/v1/translate", "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || strings.Contains(string(answer), "sings") {
				t.Errorf("%s: %d %s %v", name, res.StatusCode, answer, err)
			}
		}
	}
	g.signal(syscall.SIGTERM)
	g.wait()
	listener.Close()
	serving.Wait()
	for name := range ways {
		if met[name] == 0 {
			t.Errorf("%s: the upstream was never asked", name)
		}
	}
	said := strings.ToLower(g.output())
	for _, word := range []string{strings.ToLower(canary), "sings", "smith"} {
		if i := strings.Index(said, word); i >= 0 {
			t.Errorf("%q is in %q", word, said[max(0, i-300):min(len(said), i+100)])
		}
	}
	if !strings.Contains(said, "provider failed") {
		t.Error("the log tells nothing of the failures at all")
	}
}

// packedHeaders are headers as HPACK packs them, whatever they hold.
func packedHeaders(pairs ...string) []byte {
	var packed strings.Builder
	e := hpack.NewEncoder(&packed)
	for i := 0; i < len(pairs); i += 2 {
		e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return []byte(packed.String())
}
