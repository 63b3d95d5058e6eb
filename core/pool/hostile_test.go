package pool

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A raw server answers every request with what its script says, and then keeps
// the connection without another word.
func startRaw(t *testing.T, secure bool, script func(number int) string) *upstream {
	t.Helper()
	u := &upstream{url: "http://"}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if secure {
		u.url = "https://"
		u.cert, u.caFile = certificate(t)
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{u.cert}})
	}
	u.url += listener.Addr().String()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		open []net.Conn
		n    int
	)
	wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				for buf := make([]byte, 64<<10); ; {
					if _, err := c.Read(buf); err != nil {
						return
					}
					mu.Lock()
					n++
					say := script(n)
					mu.Unlock()
					io.WriteString(c, say)
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return u
}

const good = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

func TestAServerThatLeavesHTTPLosesItsConnectionAndHoldsNobody(t *testing.T) {
	for name, switched := range map[string]string{
		"to a protocol":    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"with a good body": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",
		"to nothing":       "HTTP/1.1 101 Switching Protocols\r\n\r\n",
	} {
		for _, secure := range []bool{false, true} {
			for _, mode := range []string{Pooled, Direct} {
				t.Run(name, func(t *testing.T) {
					u := startRaw(t, secure, func(n int) string {
						if n <= 3 {
							return switched
						}
						return good
					})
					p := newPool(t, func(c *Config) {
						c.Mode, c.CAFile, c.WarmConnections, c.MaxConnections = mode, u.caFile, 1, 1
					})
					for range 3 {
						req, err := http.NewRequestWithContext(t.Context(), "POST", u.url, strings.NewReader("hello"))
						if err != nil {
							t.Fatal(err)
						}
						res, err := p.RoundTrip(req)
						if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
							t.Fatalf("got %v, %v", res, err)
						}
						if text, err := read(res, err); text != "" || err != nil {
							t.Errorf("read %q, %v of a connection that is no answer", text, err)
						}
					}
					if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
						t.Errorf("the next call: %q, %v", text, err)
					}
					if s := only(t, p); s.Dials < 4 {
						t.Errorf("%+v: a connection that left HTTP was used again", s)
					}
				})
			}
		}
	}
}

// An answer that says its length in two ways has the one of the chunks, as RFC 9112
// section 6.3 wants it, and its rest is no part of the answer to the next call; one whose
// lengths contradict each other is a failure, and its connection is not used again.
func TestAnAnswerOfTwoLengthsReachesNoOtherCall(t *testing.T) {
	for said, want := range map[string]string{
		"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n":   "first",
		"Transfer-Encoding: chunked\r\nContent-Length: 500\r\n\r\n5\r\nfirst\r\n0\r\n\r\n": "first",
		"Content-Length: 5\r\nContent-Length: 5\r\n\r\nfirst":                              "first",
		"Content-Length: 3\r\nContent-Length: 5\r\n\r\nfirst":                              "",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":        "",
		"Content-Length: -5\r\n\r\nfirst":                                                  "",
	} {
		u := startRaw(t, false, func(n int) string {
			if n == 1 {
				return "HTTP/1.1 200 OK\r\n" + said
			}
			return good
		})
		p := newPool(t, func(c *Config) { c.WarmConnections, c.MaxConnections = 1, 1 })
		req, err := http.NewRequestWithContext(t.Context(), "POST", u.url, io.NopCloser(strings.NewReader("hello"))) // which cannot be sent again
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = 5
		if text, err := read(p.RoundTrip(req)); text != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", said, text, err)
		}
		if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
			t.Errorf("%q: the next call got %q, %v", said, text, err)
		}
	}
}

// Headers on a usual answer are no change of protocol.
func TestAnUpgradeThatIsOnlyOfferedChangesNothing(t *testing.T) {
	u := startRaw(t, false, func(int) string {
		return "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello"
	})
	p := newPool(t, nil)
	for range 3 {
		if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
			t.Errorf("%q, %v", text, err)
		}
	}
}

// What a server may do in the middle of an answer, so that it never ends.
func TestReadingABodyEndsWithItsContext(t *testing.T) {
	endless := map[string]string{
		"silence after the head": "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
		"silence in the body":    "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello",
		"no length":              "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
		"a chunk without end":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\nhello",
		"chunks without end":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"a trailer without end":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n5\r\nhello\r\n0\r\nX-A: ",
	}
	for name, answer := range endless {
		for _, secure := range []bool{false, true} {
			for _, early := range []bool{false, true} {
				t.Run(name, func(t *testing.T) {
					u := startRaw(t, secure, func(int) string { return answer })
					p := newPool(t, func(c *Config) { c.CAFile = u.caFile })
					endsWithItsContext(t, p, u.url, strings.NewReader("hello"), early)
				})
			}
		}
	}
}

// A peer that answers and then takes no more bytes keeps net/http from telling it
// that the call is over, which is what net/http does first.
func TestReadingABodyOverHTTP2EndsThoughThePeerTakesNoBytes(t *testing.T) {
	for _, early := range []bool{false, true} {
		stuck := make(chan struct{})
		u := startPeers(t, func(p *peer) {
			p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
			p.WriteWindowUpdate(0, 1<<30)
			for {
				f, err := p.ReadFrame()
				if err != nil {
					return
				}
				switch f := f.(type) {
				case *http2.SettingsFrame:
					if !f.IsAck() {
						p.WriteSettingsAck()
					}
				case *http2.DataFrame:
					var block bytes.Buffer
					hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
					p.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: block.Bytes(), EndHeaders: true})
					p.WriteData(f.StreamID, false, []byte("hello"))
					<-stuck
					return
				}
			}
		})
		t.Cleanup(func() { close(stuck) })
		p := manyPool(t, u, nil)
		endsWithItsContext(t, p, u.url, bytes.NewReader(make([]byte, 32<<20)), early)
	}
}

// endsWithItsContext makes a call whose answer never ends, and reads the answer,
// or closes it early.
func endsWithItsContext(t *testing.T, p *Pool, url string, body io.Reader, early bool) {
	t.Helper()
	ctx, end := context.WithCancelCause(t.Context())
	defer end(nil)
	req, err := http.NewRequestWithContext(ctx, "POST", url, body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	// Its time begins with the answer: how long a busy machine takes to connect is
	// no matter here.
	begun := time.Now()
	if !early {
		defer time.AfterFunc(100*time.Millisecond, func() { end(context.DeadlineExceeded) }).Stop()
		if _, err := io.ReadAll(res.Body); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("reading ended with %v, want the deadline", err)
		}
	}
	res.Body.Close()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("reading and closing took %v", took)
	}
}

// A deadline may be somebody's who ends the context for it: then it is the cause,
// and the context is merely cancelled.
func TestADeadlineThatComesAsACauseCondemnsItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := twoPool(t, &http.Server{Handler: http.HandlerFunc(slow)}, nil)
		cut := cuttable(p)
		warm(t, p, twoOrigin)
		time.Sleep(time.Second)
		burstTo(t, p, twoOrigin, 1)
		cut.Store(true)
		call := func() error {
			ctx, end := context.WithCancelCause(t.Context())
			timer := time.AfterFunc(2*time.Second, func() { end(context.DeadlineExceeded) })
			defer timer.Stop()
			_, err := post(ctx, p, twoOrigin)
			return err
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := call(); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("over a dead path: %v", err)
				}
			})
		}
		wg.Wait()
		time.Sleep(100 * time.Millisecond)
		if s := only(t, p); s.Dials != 4 || s.Ready != 2 {
			t.Errorf("got %+v; want both connections replaced after the first deadline", s)
		}
		for range 5 {
			if err := call(); err != nil {
				t.Errorf("lost on a dead connection: %v", err)
			}
		}
	})
}

// Whoever accepts a connection and then says nothing, or reads nothing, holds a
// call as long as the call has time, and the end of the pool not at all.
func TestSilenceHoldsNoCallLongerThanItsContext(t *testing.T) {
	silent := func(t *testing.T) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var (
			mu   sync.Mutex
			open []net.Conn
			wg   sync.WaitGroup
		)
		wg.Go(func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
			}
		})
		t.Cleanup(func() {
			listener.Close()
			wg.Wait()
			for _, c := range open {
				c.Close()
			}
		})
		return listener.Addr().String()
	}
	for name, c := range map[string]struct {
		scheme, proxy string
		body          int
	}{
		"a server in its handshake":           {"https", "", 5},
		"a server before its answer":          {"http", "", 5},
		"a server that reads no body":         {"http", "", 32 << 20},
		"a proxy before its tunnel":           {"https", "http", 5},
		"a proxy before its answer":           {"http", "http", 5},
		"a proxy in its handshake":            {"https", "https", 5},
		"a socks proxy before its greeting":   {"https", "socks5", 5},
		"a socks proxy of a plain upstream":   {"http", "socks5", 5},
		"a handshake when much is to be sent": {"https", "", 32 << 20},
	} {
		for _, mode := range []string{Pooled, Direct} {
			for _, protocol := range []string{HTTP1, HTTP2} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					address := silent(t)
					p := newPool(t, func(cfg *Config) {
						cfg.Mode, cfg.Protocol = mode, protocol
						if c.proxy != "" {
							cfg.Proxy = c.proxy + "://" + address
						}
					})
					url := c.scheme + "://" + address
					if c.proxy != "" {
						url = c.scheme + "://192.0.2.1" // nobody's: RFC 5737
					}
					ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
					defer cancel()
					req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(make([]byte, c.body)))
					if err != nil {
						t.Fatal(err)
					}
					begun := time.Now()
					if _, err := p.RoundTrip(req); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("got %v, want the deadline", err)
					}
					if took := time.Since(begun); took > 5*time.Second {
						t.Errorf("the call took %v", took)
					}
					begun = time.Now()
					p.Close()
					if took := time.Since(begun); took > 5*time.Second {
						t.Errorf("closing took %v", took)
					}
				})
			}
		}
	}
}
