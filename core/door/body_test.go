package door

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// echo is a door that answers with the length of the body, or its failure. The
// client is what stands in a header.
func echo(s *Service) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := s.Rules().Body(w, r, r.Header.Get("Client"))
		if err != nil {
			WriteError(w, r, err)
			return
		}
		defer body.Close()
		fmt.Fprint(w, len(body.Bytes()))
	}
}

// send writes a call of client with a body of length bytes, of which it sends
// part, over a connection of its own.
func send(t *testing.T, dial func() (net.Conn, error), client string, length int, part []byte) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nClient: %s\r\nContent-Length: %d\r\n\r\n%s", client, length, part)
	return conn, bufio.NewReader(conn)
}

func response(t *testing.T, r *bufio.Reader) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestBodiesThatStallHoldUpNobodyElseAndNoSmallOnes(t *testing.T) {
	bubble(t, func(t *testing.T, s *Service, dial func() (net.Conn, error)) {
		const large = 1 << 20
		fits := clientBodyBytes / (large - smallBody)
		for range fits {
			send(t, dial, "greedy", large, make([]byte, 1000))
		}
		synctest.Wait()
		begin := time.Now()
		var all sync.WaitGroup
		for range 3 * fits {
			_, r := send(t, dial, "greedy", large, nil)
			all.Go(func() {
				res, body := response(t, r)
				if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") != "1" || !strings.Contains(body, `"overloaded"`) || !strings.Contains(body, "this client sends more") {
					t.Errorf("one too many: %d %s", res.StatusCode, body)
				}
				if took := time.Since(begin); took != bodyWait {
					t.Errorf("it was refused after %v, want %v", took, bodyWait)
				}
			})
		}
		for client, length := range map[string]int{"greedy": smallBody, "another": large} {
			_, r := send(t, dial, client, length, make([]byte, length))
			if res, body := response(t, r); body != strconv.Itoa(length) || time.Since(begin) != 0 {
				t.Errorf("%d bytes of %s: %d %s after %v", length, client, res.StatusCode, body, time.Since(begin))
			}
		}
		all.Wait()
	})
}

func TestABurstOfLargeBodiesIsTakenOneAfterTheOther(t *testing.T) {
	bubble(t, func(t *testing.T, s *Service, dial func() (net.Conn, error)) {
		const large, calls = 1 << 20, 40
		content := make([]byte, large)
		var all sync.WaitGroup
		for range calls {
			all.Go(func() {
				_, r := send(t, dial, "c", large, content)
				if res, body := response(t, r); body != strconv.Itoa(large) {
					t.Errorf("%d %s", res.StatusCode, body)
				}
			})
		}
		all.Wait()
		synctest.Wait()
		if !s.bodies.all.bytes.TryAcquire(mostBodyBytes) || !s.bodies.all.number.TryAcquire(mostBodies) || len(s.bodies.clients) > 0 {
			t.Error("room is held by bodies that were read")
		}
	})
}

// inMemory is a listener whose connections stay within a bubble.
type inMemory struct {
	conns chan net.Conn
	once  sync.Once
}

func (l *inMemory) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l *inMemory) Close() error   { l.once.Do(func() { close(l.conns) }); return nil }
func (l *inMemory) Addr() net.Addr { return &net.TCPAddr{} }
func (l *inMemory) dial() (net.Conn, error) {
	client, server := net.Pipe()
	l.conns <- server
	return client, nil
}

// bubble serves echo in memory and virtual time.
func bubble(t *testing.T, test func(t *testing.T, s *Service, dial func() (net.Conn, error))) {
	synctest.Test(t, func(t *testing.T) {
		l, s := &inMemory{conns: make(chan net.Conn)}, New(Defaults(), nil)
		server := &http.Server{Handler: echo(s)}
		go server.Serve(l)
		var mu sync.Mutex
		var conns []net.Conn
		test(t, s, func() (net.Conn, error) {
			conn, err := l.dial()
			mu.Lock()
			defer mu.Unlock()
			conns = append(conns, conn)
			return conn, err
		})
		for _, c := range conns {
			c.Close()
		}
		server.Close()
		time.Sleep(time.Second) // as long as net/http lingers
	})
}

func TestABodyIsCutWhenItIsTooSlow(t *testing.T) {
	for name, c := range map[string]struct {
		every time.Duration
		bytes int
		after time.Duration // 0: it is taken
	}{
		"nothing more comes":      {time.Hour, 0, bodyStall},
		"a byte a second":         {time.Second, 1, bodyStall},
		"slow, but steady":        {time.Second, bodyStep, 0},
		"steady, and far too big": {time.Second, 8 << 10, slowBody},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *Service, dial func() (net.Conn, error)) {
				length := 64 << 10
				if c.after == slowBody {
					length = 1 << 20
				}
				begin := time.Now()
				conn, r := send(t, dial, "c", length, nil)
				ended := make(chan struct{})
				defer func() { conn.Close(); <-ended }()
				go func() {
					defer close(ended)
					for sent := 0; sent < length; sent += c.bytes {
						time.Sleep(c.every)
						if _, err := conn.Write(make([]byte, min(max(c.bytes, 1), length-sent))); err != nil {
							return
						}
					}
				}()
				res, body := response(t, r)
				took := time.Since(begin)
				switch {
				case c.after == 0 && body != strconv.Itoa(length):
					t.Errorf("%d %s", res.StatusCode, body)
				case c.after > 0 && (res.StatusCode != http.StatusGatewayTimeout || took != c.after):
					t.Errorf("%d after %v, want 504 after %v: %s", res.StatusCode, took, c.after, body)
				}
			})
		})
	}
}

func pack(t testing.TB, coding string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "raw":
		w, _ = flate.NewWriter(&b, flate.BestCompression)
	default:
		return content
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAPackedBodyIsUnpackedOrRefused(t *testing.T) {
	const limit = 1 << 20
	text := []byte(`{"text": "Good morning", "target": "es"}`)
	long, bomb, full := pack(t, "gzip", text), pack(t, "gzip", make([]byte, 3*limit)), pack(t, "gzip", make([]byte, limit))
	for name, c := range map[string]struct {
		encoding []string
		body     []byte
		status   int
		want     string
	}{
		"gzip":                   {[]string{"gzip"}, pack(t, "gzip", text), 200, strconv.Itoa(len(text))},
		"its old name, capitals": {[]string{"X-GZip"}, pack(t, "gzip", text), 200, strconv.Itoa(len(text))},
		"in two members":         {[]string{"gzip"}, append(bytes.Clone(long), long...), 200, strconv.Itoa(2 * len(text))},
		"deflate":                {[]string{"deflate"}, pack(t, "deflate", text), 200, strconv.Itoa(len(text))},
		"deflate without a head": {[]string{"deflate"}, pack(t, "raw", text), 200, strconv.Itoa(len(text))},
		"identity":               {[]string{"identity"}, text, 200, strconv.Itoa(len(text))},
		"identity and gzip":      {[]string{"identity, gzip"}, pack(t, "gzip", text), 200, strconv.Itoa(len(text))},
		"nothing":                {[]string{""}, text, 200, strconv.Itoa(len(text))},
		"empty":                  {[]string{"gzip"}, nil, 200, "0"},
		"as long as may be":      {[]string{"gzip"}, full, 200, strconv.Itoa(limit)},
		"a byte longer":          {[]string{"gzip"}, pack(t, "gzip", make([]byte, limit+1)), 413, "max_body"},
		"a bomb":                 {[]string{"gzip"}, bomb, 413, "max_body"},
		"brotli":                 {[]string{"br"}, text, 415, `packed with \"br\" is not taken; send it as it is, or packed with gzip or deflate`},
		"twice":                  {[]string{"gzip, gzip"}, pack(t, "gzip", long), 415, "more than once"},
		"twice, in two lines":    {[]string{"deflate", "gzip"}, pack(t, "gzip", long), 415, "more than once"},
		"not packed at all":      {[]string{"gzip"}, text, 400, "Content-Encoding: gzip"},
		"cut off":                {[]string{"gzip"}, long[:len(long)-9], 400, "broken, or cut off"},
		"a wrong sum":            {[]string{"gzip"}, append(bytes.Clone(long[:len(long)-8]), make([]byte, 8)...), 400, "broken"},
		"something follows":      {[]string{"deflate"}, append(pack(t, "deflate", text), 'x'), 400, "broken"},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Defaults(), nil)
			server := httptest.NewServer(echo(s))
			defer server.Close()
			for _, chunked := range []bool{false, true} {
				var body io.Reader = bytes.NewReader(c.body)
				if chunked {
					body = io.MultiReader(body)
				}
				req, err := http.NewRequest(http.MethodPost, server.URL, body)
				if err != nil {
					t.Fatal(err)
				}
				req.Header["Content-Encoding"] = c.encoding
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				got, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if res.StatusCode != c.status || !strings.Contains(string(got), c.want) {
					t.Errorf("chunked %v: %d %s; want %d %s", chunked, res.StatusCode, got, c.status, c.want)
				}
				if takes := res.Header.Get("Accept-Encoding"); (takes == "gzip, deflate") != (c.status == 415) {
					t.Errorf("Accept-Encoding: %q with %d", takes, c.status)
				}
			}
			if !s.bodies.all.bytes.TryAcquire(mostBodyBytes) {
				t.Error("room is held by a body that has ended")
			}
		})
	}
}

// FuzzUnpack proves that whatever is unpacked ends as it says, reads its source
// to the end, and gives back what was packed.
func FuzzUnpack(f *testing.F) {
	for _, coding := range []string{"gzip", "deflate", "raw", ""} {
		f.Add(coding == "gzip", pack(f, coding, []byte(`{"text": "Good morning", "target": "es"}`)))
	}
	f.Fuzz(func(t *testing.T, zipped bool, content []byte) {
		coding := "deflate"
		if zipped {
			coding = "gzip"
		}
		const most = 1 << 20
		source := bytes.NewReader(content)
		got, err := io.ReadAll(io.LimitReader(unpack(coding, source), most))
		if err == nil && len(got) < most && source.Len() > 0 {
			t.Fatalf("%d bytes of %q were passed over", source.Len(), content)
		}
		again, err := io.ReadAll(unpack(coding, bytes.NewReader(pack(t, coding, content))))
		if err != nil || !bytes.Equal(again, content) {
			t.Fatalf("%q came back as %q, %v", content, again, err)
		}
	})
}

func TestRoomThatWasAwaitedInVainIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Defaults(), nil).bodies
		if !s.all.bytes.TryAcquire(mostBodyBytes - 1) {
			t.Fatal("something is held")
		}
		b := &Body{bodies: s, client: "c", share: s.share("c")}
		begin := time.Now()
		if err := b.charge(t.Context(), 1<<20); core.KindOf(err) != core.Overloaded || time.Since(begin) != bodyWait {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if err := b.charge(gone, 1<<20); core.KindOf(err) != core.Canceled {
			t.Error(err)
		}
		if !b.share.bytes.TryAcquire(clientBodyBytes) || b.held != 0 {
			t.Error("the share of the client is smaller now")
		}
		b.Close()
	})
}

// A body that says its length in two ways has the one that RFC 9112 section 6.3 gives
// precedence, the chunks, and what follows them is the next call: nothing that a proxy
// with the other opinion let pass is taken for a part of a body, or a body for a call.
func TestABodyOfTwoLengthsIsItsChunks(t *testing.T) {
	r := run(t, Defaults(), func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %q %v", r.Method, r.URL.Path, body, err)
	})
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "POST /one HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"+
		"GET /two HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	in := bufio.NewReader(conn)
	for _, want := range []string{`POST /one "hello" <nil>`, `GET /two "" <nil>`} {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); err != nil || string(body) != want {
			t.Errorf("got %s, %v; want %s", body, err, want)
		}
	}
	for _, both := range []string{"Content-Length: 3\r\nContent-Length: 5", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "Transfer-Encoding: gzip, chunked", "Content-Length: +5", "Transfer-Encoding: xchunked"} {
		conn, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, "POST /one HTTP/1.1\r\nHost: 127.0.0.1\r\n"+both+"\r\n\r\nhello")
		answer, _ := io.ReadAll(conn) // it ends: such a connection is closed
		if status, _, _ := strings.Cut(string(answer), "\r\n"); status != "HTTP/1.1 400 Bad Request" && status != "HTTP/1.1 501 Not Implemented" {
			t.Errorf("%q: %s", both, status)
		}
		conn.Close()
	}
}
