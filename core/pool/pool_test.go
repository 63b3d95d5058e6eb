package pool

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// tlsPool returns a pool that trusts u.
func tlsPool(t testing.TB, u *upstream, change func(*Config)) *Pool {
	return newPool(t, func(c *Config) {
		c.CAFile = u.caFile
		if change != nil {
			change(c)
		}
	})
}

func TestWarmConnectionsAreHandshakenBeforeTheFirstRequest(t *testing.T) {
	u := startUpstream(t, echo)
	p := tlsPool(t, u, nil)
	defer warm(t, p, u.url+"/v1?x=y")()
	until(t, p, "6 ready", func(s OriginStats) bool { return s.Ready == 6 })
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
				t.Errorf("got %q, %v", text, err)
			}
		})
	}
	wg.Wait()
	until(t, p, "6 ready and none in use", func(s OriginStats) bool { return s.Ready >= 6 && s.InUse == 0 && s.Dialling == 0 })
	s := only(t, p)
	if s.Cold != 0 || s.Waits != 0 || s.Open > 10 || s.Handshakes != s.Dials || s.Origin != u.url {
		t.Errorf("got %+v; want no cold request and one handshake a dial", s)
	}
}

func TestConnectionsAreReplacedBeforeARealServerClosesThem(t *testing.T) {
	u := startUpstreamWith(t, echo, func(s *http.Server) { s.ReadHeaderTimeout, s.IdleTimeout = time.Second, time.Second })
	p := tlsPool(t, u, nil)
	defer warm(t, p, u.url)()
	until(t, p, "the first idle close", func(s OriginStats) bool { return s.IdleLimitNew > 0 && s.Dials >= 12 })
	if s := only(t, p); s.IdleLimitNew < 900*time.Millisecond || s.IdleLimitNew > 1500*time.Millisecond {
		t.Errorf("learned %s, want 1s", s.IdleLimitNew)
	}
	until(t, p, "all replaced in time, and ready", func(s OriginStats) bool { return s.Dials >= 18 && s.Ready >= 6 })
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := post(t.Context(), p, u.url); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s := only(t, p); s.Cold != 0 || s.Resends != 0 {
		t.Errorf("got %+v; want none cold or resent", s)
	}
}

func TestLaterHandshakesResumeTheSession(t *testing.T) {
	u := startUpstream(t, echo)
	p := tlsPool(t, u, func(c *Config) { c.Mode = Direct })
	for range 3 {
		if _, err := post(t.Context(), p, u.url); err != nil {
			t.Fatal(err)
		}
	}
	if s := only(t, p); s.Handshakes != 3 || s.Resumptions != 2 {
		t.Errorf("%d handshakes resumed %d times, want 3 and 2", s.Handshakes, s.Resumptions)
	}
}

func TestDirectOpensOneConnectionForEachCall(t *testing.T) {
	u := startUpstream(t, echo)
	p := tlsPool(t, u, func(c *Config) { c.Mode, c.WarmConnections, c.MaxConnections = Direct, 2, 2 })
	defer warm(t, p, u.url)()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
				t.Errorf("got %q, %v", text, err)
			}
		})
	}
	wg.Wait()
	if got := u.accepted.Load(); got != 20 {
		t.Errorf("%d connections for 20 calls", got)
	}
	if s := only(t, p); s.Open != 0 || s.Dials != 20 || s.Cold != 20 || s.Waits != 0 || s.Cancelled != 0 {
		t.Errorf("got %+v; want 20 cold dials and nothing open", s)
	}
}

func TestMaximumIsHonoured(t *testing.T) {
	u := startUpstream(t, echo)
	p := tlsPool(t, u, nil)
	defer warm(t, p, u.url)()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 20 {
				if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
					t.Errorf("got %q, %v", text, err)
				}
			}
		})
	}
	wg.Wait()
	// The server hears later of a connection that the pool has let go.
	s := only(t, p)
	gone := int(s.Spent + s.Retired)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.most > 10+gone || s.Open > 10 {
		t.Errorf("%d connections were open at once and %d at the end, want at most 10 and the %d that were let go", u.most, s.Open, gone)
	}
}

// hijacked takes the connection from the server.
func hijacked(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter) {
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	return c, rw
}

// reset closes c with a TCP reset, without a word of TLS.
func reset(c net.Conn) {
	raw := c.(*tls.Conn).NetConn()
	raw.(*net.TCPConn).SetLinger(0)
	raw.Close()
}

// The ways in which a server ends a connection when a request arrives on it.
var endings = map[string]func(w http.ResponseWriter){
	"closed": func(w http.ResponseWriter) { c, _ := hijacked(w); c.Close() },
	"cut":    func(w http.ResponseWriter) { c, _ := hijacked(w); c.(*tls.Conn).NetConn().Close() },
	"reset":  func(w http.ResponseWriter) { c, _ := hijacked(w); reset(c) },
}

// distant waits for so many idle connections, and makes them pass for ones to a
// server far away: what it closes is resent however late this machine, which may
// be busy, hears of it.
func distant(t *testing.T, p *Pool, ready int) {
	t.Helper()
	until(t, p, fmt.Sprint(ready, " ready"), func(s OriginStats) bool {
		return s.Ready >= ready && s.InUse == 0 && s.Dialling == 0
	})
	for _, o := range p.all() {
		o.mu.Lock()
		for _, c := range o.stack {
			c.took = time.Minute
		}
		o.mu.Unlock()
	}
}

func TestIdleConnectionClosedAtReuseIsResentOnce(t *testing.T) {
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			var calls, bad atomic.Int64
			u := startUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				calls.Add(1)
				if bad.Add(-1) >= 0 {
					end(w)
					return
				}
				io.WriteString(w, "hello")
			})
			p := tlsPool(t, u, func(c *Config) { c.WarmConnections, c.MaxConnections = 3, 4 })
			defer warm(t, p, u.url)()
			distant(t, p, 3)

			bad.Store(1)
			if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
				t.Errorf("got %q, %v", text, err)
			}
			if s := only(t, p); s.Resends != 1 || s.Cold != 0 || s.Cancelled != 0 || calls.Load() != 2 {
				t.Errorf("got %+v and %d calls; want one resent", s, calls.Load())
			}

			distant(t, p, 3)
			calls.Store(0)
			bad.Store(2)
			_, err := post(t.Context(), p, u.url)
			if failure, ok := errors.AsType[*CallError](err); !ok || !failure.Written {
				t.Errorf("got %v; want a CallError with bytes written", err)
			}
			if s := only(t, p); s.Resends != 2 || calls.Load() != 2 {
				t.Errorf("%d calls and %d resent; want 2 of each, for it is sent again once", calls.Load(), s.Resends)
			}
		})
	}
}

func TestResendUsesAConnectionDialledSince(t *testing.T) {
	var first sync.Map // connections that were there before the call
	u := startUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if _, old := first.Load(r.RemoteAddr); old {
			endings["closed"](w)
			return
		}
		io.WriteString(w, "hello")
	})
	p := tlsPool(t, u, nil)
	defer warm(t, p, u.url)()
	distant(t, p, 6)
	u.mu.Lock()
	for c := range u.open {
		first.Store(c.RemoteAddr().String(), true)
	}
	u.mu.Unlock()
	if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
		t.Errorf("got %q, %v; want an answer over a new connection", text, err)
	}
}

func TestConnectionDialledForTheCallIsNotResent(t *testing.T) {
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			u := startUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				calls.Add(1)
				end(w)
			})
			for _, mode := range []string{Pooled, Direct} {
				calls.Store(0)
				p := tlsPool(t, u, func(c *Config) { c.Mode = mode })
				_, err := post(t.Context(), p, u.url)
				if failure, ok := errors.AsType[*CallError](err); !ok || !failure.Written {
					t.Errorf("%s: got %v; want a CallError with bytes written", mode, err)
				}
				if s := only(t, p); s.Resends != 0 || calls.Load() != 1 {
					t.Errorf("%s: %d calls and %d resent; want one call", mode, calls.Load(), s.Resends)
				}
			}
		})
	}
}

func TestBodyThatCannotBeReplayedIsNotResent(t *testing.T) {
	var calls atomic.Int64
	u := startUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		calls.Add(1)
		endings["closed"](w)
	})
	p := tlsPool(t, u, nil)
	defer warm(t, p, u.url)()
	distant(t, p, 6)
	req, _ := http.NewRequestWithContext(t.Context(), "POST", u.url, io.NopCloser(strings.NewReader("hello")))
	if _, err := read(p.RoundTrip(req)); err == nil || calls.Load() != 1 {
		t.Errorf("got %v after %d calls; want a failure after one", err, calls.Load())
	}
}

// A heardConn tells of every read that brought bytes.
type heardConn struct {
	net.Conn
	heard func()
}

func (c *heardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard()
	}
	return n, err
}

func TestAnswerThatBeganIsNotResent(t *testing.T) {
	for _, start := range []string{"H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Le"} {
		for name, end := range map[string]func(net.Conn){"closed": func(c net.Conn) { c.Close() }, "reset": reset} {
			var calls atomic.Int64
			var began atomic.Bool
			heard := make(chan bool, 1)
			u := startUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				calls.Add(1)
				c, rw := hijacked(w)
				began.Store(true)
				rw.WriteString(start)
				rw.Flush()
				<-heard // a reset overtakes what was not read yet
				end(c)
			})
			p := tlsPool(t, u, func(c *Config) { c.WarmConnections = 1 })
			dial := p.dial
			p.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := dial(ctx, network, address)
				return &heardConn{c, func() {
					if began.CompareAndSwap(true, false) {
						heard <- true
					}
				}}, err
			}
			release := warm(t, p, u.url)
			distant(t, p, 1)
			_, err := post(t.Context(), p, u.url)
			if err == nil || calls.Load() != 1 {
				t.Errorf("%s after %q: got %v after %d calls; want a failure after one", name, start, err, calls.Load())
			}
			release()
		}
	}
}

// A muteConn fails the first write after mute was set, as a connection does
// that broke unnoticed.
type muteConn struct {
	net.Conn
	mute *atomic.Bool
}

func (c *muteConn) Write(b []byte) (int, error) {
	if c.mute.CompareAndSwap(true, false) {
		return 0, syscall.ETIMEDOUT
	}
	return c.Conn.Write(b)
}

func TestRequestOfWhichNothingWasWrittenIsSentAgain(t *testing.T) {
	var calls atomic.Int64
	u := startUpstream(t, func(w http.ResponseWriter, r *http.Request) { calls.Add(1); echo(w, r) })
	p := tlsPool(t, u, func(c *Config) { c.WarmConnections, c.MaxConnections = 1, 1 })
	var mute atomic.Bool
	dial := p.dial
	p.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		return &muteConn{c, &mute}, err
	}
	defer warm(t, p, u.url)()
	until(t, p, "1 ready", func(s OriginStats) bool { return s.Ready == 1 })
	mute.Store(true) // TLS still writes its good-bye, which is no request
	text, err := post(t.Context(), p, u.url)
	if err != nil || text != "hello" || calls.Load() != 1 {
		t.Errorf("got %q, %v after %d calls; want hello after one", text, err, calls.Load())
	}
	if s := only(t, p); s.Resends != 1 || s.Dials != 2 {
		t.Errorf("got %+v; want 1 resent and 2 dials", s)
	}
}

func TestRequestAtFaultCostsNoConnection(t *testing.T) {
	u := startUpstream(t, echo)
	p := tlsPool(t, u, nil)
	if _, err := post(t.Context(), p, u.url); err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", u.url, nil)
	req.Header["bad name"] = []string{"x"}
	if _, err := p.RoundTrip(req); err == nil {
		t.Error("a header with a space in its name was sent")
	}
	if s := only(t, p); s.Open != 1 || s.Ready != 1 || s.Resends != 0 {
		t.Errorf("got %+v; want the one connection ready", s)
	}
}

func TestBodyClosedEarlyCostsItsConnection(t *testing.T) {
	u := startUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "some of it")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	p := tlsPool(t, u, func(c *Config) { c.WarmConnections = 2 })
	defer warm(t, p, u.url)()
	until(t, p, "2 ready", func(s OriginStats) bool { return s.Ready == 2 })
	req, _ := http.NewRequestWithContext(t.Context(), "GET", u.url, nil)
	res, err := p.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	res.Body.Close()
	until(t, p, "its replacement", func(s OriginStats) bool {
		return s.Cancelled == 1 && s.InUse == 0 && s.Ready == 2 && s.Dialling == 0
	})
	if s := only(t, p); s.Dials != 3 {
		t.Errorf("%d dials, want 3", s.Dials)
	}
}

func TestCancelledCallCostsItsConnectionAndIsReplaced(t *testing.T) {
	arrived := make(chan bool, 1)
	left := make(chan bool, 1)
	u := startUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/body" {
			w.(http.Flusher).Flush()
		}
		arrived <- true
		<-r.Context().Done()
		left <- true
	})
	p := tlsPool(t, u, func(c *Config) { c.WarmConnections = 2 })
	defer warm(t, p, u.url)()
	for i, path := range []string{"/header", "/body"} {
		until(t, p, "2 ready", func(s OriginStats) bool { return s.Ready == 2 && s.InUse == 0 })
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("superseded")
		failed := make(chan error)
		go func() { _, err := post(ctx, p, u.url+path); failed <- err }()
		<-arrived
		cancel(why)
		if err := <-failed; !errors.Is(err, why) {
			t.Errorf("%s: got %v, want the cause of the context", path, err)
		}
		<-left // the upstream hears of it
		if s := only(t, p); s.Cancelled != int64(i+1) || s.Resends != 0 {
			t.Errorf("%s: got %+v; want %d cancelled", path, s, i+1)
		}
	}
}

func TestUnreadableCertificatesAndAddressesAreSaid(t *testing.T) {
	u := startUpstream(t, echo)
	stranger := newPool(t, nil)
	trusting := tlsPool(t, u, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	listener.Close()
	lost := newPool(t, nil)
	lost.dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "nowhere.test", IsNotFound: true}}
	}
	lost.proxy = noProxy
	plainHTTP := startPlain(t)
	for _, test := range []struct {
		p         *Pool
		url, want string
	}{
		{stranger, u.url, "certificate signed by unknown authority (pool.ca_file adds an authority)"},
		{trusting, strings.Replace(u.url, "127.0.0.1", "localhost", 1), "certificate is not valid for any names, but wanted to match localhost"},
		{trusting, "https://" + nobody, "connection refused"},
		{trusting, "https://" + plainHTTP, "does the server speak TLS on this port?"},
		{lost, "https://nowhere.test", "connecting to https://nowhere.test: dial tcp: lookup nowhere.test: no such host"},
	} {
		_, err := post(t.Context(), test.p, test.url)
		_, ok := errors.AsType[*DialError](err)
		if !ok || !strings.Contains(err.Error(), test.want) && !strings.Contains(err.Error(), "valid for upstream.test, not localhost") {
			t.Errorf("%s: got %v; want a DialError that says %q", test.url, err, test.want)
		}
	}
}

// startPlain serves echo without TLS and returns its address.
func startPlain(t testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(echo)}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	t.Cleanup(func() { server.Close(); <-done })
	return listener.Addr().String()
}

func TestProxyCarriesEveryConnection(t *testing.T) {
	u := startUpstream(t, echo)
	plainHTTP := "http://" + startPlain(t)
	for _, kind := range []string{"http", "https", "socks5"} {
		t.Run(kind, func(t *testing.T) {
			through := startProxy(t, kind, u.cert)
			p := tlsPool(t, u, func(c *Config) { c.Proxy, c.WarmConnections = through.url, 2 })
			for _, origin := range []string{u.url, plainHTTP} {
				release := warm(t, p, origin)
				if text, err := post(t.Context(), p, origin); err != nil || text != "hello" {
					t.Errorf("%s: got %q, %v", origin, text, err)
				}
				release()
			}
			p.Close()
			if through.used.Load() < 3 {
				t.Errorf("the proxy saw %d connections, want at least 3", through.used.Load())
			}
		})
	}
	t.Run("refuses", func(t *testing.T) {
		p := tlsPool(t, u, func(c *Config) { c.Proxy = "http://user:secret@" + startPlain(t) })
		// It answers CONNECT as it answers everything.
		_, err := post(t.Context(), p, u.url)
		if _, ok := errors.AsType[*DialError](err); !ok || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "through the proxy") {
			t.Errorf("got %v; want a DialError that names the proxy without its password", err)
		}
	})
}

func TestProxyComesFromTheEnvironment(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy.test:3128")
	t.Setenv("NO_PROXY", "direct.test:8443")
	p := newPool(t, nil)
	for origin, want := range map[string]string{
		"https://api.test": "http://proxy.test:3128", "https://direct.test:8443": "", "https://direct.test": "http://proxy.test:3128", "http://api.test": "",
	} {
		u, _ := url.Parse(origin)
		k, err := keyOf(u)
		if err != nil {
			t.Fatal(err)
		}
		o, err := p.origin(k)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if o.proxy != nil {
			got = o.proxy.String()
		}
		if got != want {
			t.Errorf("%s goes through %q, want %q", origin, got, want)
		}
	}
}

type proxy struct {
	url  string
	used atomic.Int64
}

// startProxy starts a small proxy of a kind that can tunnel, and for http also
// forward.
func startProxy(t *testing.T, kind string, cert tls.Certificate) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &proxy{url: kind + "://" + listener.Addr().String()}
	if kind == "https" {
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			x.used.Add(1)
			wg.Go(func() {
				defer c.Close()
				if kind == "socks5" {
					socks(c)
				} else {
					forward(c)
				}
			})
		}
	})
	t.Cleanup(func() { listener.Close(); wg.Wait() })
	return x
}

func tunnel(c io.ReadWriter, to net.Conn) {
	go func() { io.Copy(to, c); to.Close() }()
	io.Copy(c, to)
}

func forward(c net.Conn) {
	in := bufio.NewReader(c)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	to, err := net.Dial("tcp", req.URL.Host)
	if err != nil {
		return
	}
	defer to.Close()
	if req.Method == "CONNECT" {
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	} else {
		req.Write(to)
	}
	tunnel(struct {
		io.Reader
		io.Writer
	}{in, c}, to)
}

func socks(c net.Conn) {
	b := make([]byte, 256)
	io.ReadFull(c, b[:2])
	io.ReadFull(c, b[:b[1]])
	c.Write([]byte{5, 0})
	if _, err := io.ReadFull(c, b[:10]); err != nil || b[3] != 1 { // version, connect, 0, IPv4, port
		return
	}
	to, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IP(b[4:8]), Port: int(binary.BigEndian.Uint16(b[8:10]))})
	if err != nil {
		return
	}
	defer to.Close()
	c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	tunnel(c, to)
}

func TestCloseUnderLoadLeavesNothingBehind(t *testing.T) {
	started := make(chan bool, 100)
	finish := make(chan bool)
	u := startUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		started <- true
		<-finish
		io.WriteString(w, "hello")
	})
	p := tlsPool(t, u, func(c *Config) { c.WarmConnections, c.MaxConnections = 4, 4 })
	warm(t, p, u.url)
	results := make(chan error, 20)
	for range 20 {
		go func() { _, err := post(t.Context(), p, u.url); results <- err }()
	}
	for range 4 {
		<-started
	}
	until(t, p, "16 waiting", func(s OriginStats) bool { return s.Waiting == 16 })
	p.Close()
	p.Close()
	for range 16 {
		if err := <-results; !errors.Is(err, ErrClosed) {
			t.Errorf("a waiting call got %v, want ErrClosed", err)
		}
	}
	close(finish)
	for range 4 {
		if err := <-results; err != nil {
			t.Errorf("a call in flight got %v", err)
		}
	}
	if s := only(t, p); s.Open != 0 {
		t.Errorf("%d still open", s.Open)
	}
	if _, err := post(t.Context(), p, u.url); !errors.Is(err, ErrClosed) {
		t.Errorf("a call after Close got %v, want ErrClosed", err)
	}
	if _, err := p.Warm(u.url); !errors.Is(err, ErrClosed) {
		t.Errorf("Warm after Close got %v, want ErrClosed", err)
	}
}

func TestAnswersWithoutABodyKeepTheConnection(t *testing.T) {
	u := startUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "HEAD" {
			w.WriteHeader(http.StatusNoContent)
		}
	})
	p := tlsPool(t, u, nil)
	for _, method := range []string{"GET", "HEAD", "POST"} {
		req, _ := http.NewRequestWithContext(t.Context(), method, u.url, nil)
		res, err := p.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Request != req {
			t.Error("the answer does not name its request")
		}
	}
	if s := only(t, p); s.Open != 1 || s.Ready != 1 || s.Dials != 1 {
		t.Errorf("got %+v; want the one connection", s)
	}
}

func TestConfigurationMistakesNameTheirKeys(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"warm_connections: 6 is more than max_connections, which is 5": func(c *Config) { c.MaxConnections = 5 },
		`mode: must be pooled or direct, got "poold"`:                  func(c *Config) { c.Mode = "poold" },
		"idle_timeout: must be more than 0s":                           func(c *Config) { c.IdleTimeout = 0 },
		"ca_file: open /nowhere/ca.pem":                                func(c *Config) { c.CAFile = "/nowhere/ca.pem" },
		"holds no certificate":                                         func(c *Config) { c.CAFile = empty },
		"must start with http://, https:// or socks5://":               func(c *Config) { c.Proxy = "ftp://user:hunter2@x" },
		"names no host":       func(c *Config) { c.Proxy = "http://:80" },
		"proxy: is not a URL": func(c *Config) { c.Proxy = "http://user:hunter2 x@[" },
	} {
		cfg := Defaults()
		change(&cfg)
		_, err := New(cfg, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v tells the password", err)
		}
	}
}

func TestOriginsAreTheSameHoweverTheyAreWritten(t *testing.T) {
	for in, want := range map[string]string{
		"https://API.openai.com/v1":    "https://api.openai.com",
		"https://api.openai.com:443":   "https://api.openai.com",
		"http://127.0.0.1:8080/x":      "http://127.0.0.1:8080",
		"https://[FE80::1]:8443":       "https://[fe80::1]:8443",
		"https://[::1]":                "https://[::1]",
		"https://BÜCHER.example/v1":    "https://xn--bcher-kva.example",
		"https://user:pw@host.test/v1": "https://host.test",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		k, err := keyOf(u)
		if err != nil || k.name() != want {
			t.Errorf("%s: got %q, %v; want %q", in, k.name(), err, want)
		}
	}
	p := newPool(t, nil)
	for _, bad := range []string{"", "api.openai.com", "ftp://x", "https://", "https:///v1", "https://:443", "https://a b"} {
		if _, err := p.Warm(bad); err == nil {
			t.Errorf("Warm took %q", bad)
		}
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	u := startUpstream(b, echo)
	p := tlsPool(b, u, nil)
	roots := x509.NewCertPool()
	pem, _ := os.ReadFile(u.caFile)
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableCompression: true, Protocols: protocols(false)}
	defer transport.CloseIdleConnections()
	address := strings.TrimPrefix(u.url, "https://")
	bare, err := transport.NewClientConn(b.Context(), "https", address)
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	release, err := p.Warm(u.url)
	if err != nil {
		b.Fatal(err)
	}
	defer release()
	until(b, p, "6 ready", func(s OriginStats) bool { return s.Ready == 6 })
	two := manyPool(b, u, nil)
	for _, subject := range []struct {
		name string
		http.RoundTripper
	}{{"ClientConn", bare}, {"Pool", p}, {"Transport", transport}, {"Pool over HTTP/2", two}} {
		b.Run(subject.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := post(b.Context(), subject, u.url); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What the pool adds to a round trip: finding a connection, and its return.
func BenchmarkTakeAndPut(b *testing.B) {
	u := startUpstream(b, echo)
	p := tlsPool(b, u, nil)
	release, err := p.Warm(u.url)
	if err != nil {
		b.Fatal(err)
	}
	defer release()
	if _, err := post(b.Context(), p, u.url); err != nil {
		b.Fatal(err)
	}
	until(b, p, "7 ready", func(s OriginStats) bool { return s.Ready >= 6 && s.Dialling == 0 })
	target, _ := url.Parse(u.url)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			k, _ := keyOf(target)
			c, err := p.take(b.Context(), k, 0, false)
			if err != nil {
				b.Fatal(err)
			}
			c.c.o.ended(c.c, true, false)
		}
	})
}
