package pool

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An upstream is a real server over TLS.
type upstream struct {
	url    string
	caFile string
	cert   tls.Certificate

	accepted atomic.Int64
	mu       sync.Mutex
	open     map[net.Conn]bool
	most     int // connections open at once
}

func startUpstream(t testing.TB, handler http.HandlerFunc) *upstream {
	t.Helper()
	return startUpstreamWith(t, handler, func(*http.Server) {})
}

func startUpstreamWith(t testing.TB, handler http.HandlerFunc, change func(*http.Server)) *upstream {
	t.Helper()
	u := &upstream{open: map[net.Conn]bool{}}
	u.cert, u.caFile = certificate(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.url = "https://" + listener.Addr().String()
	server := &http.Server{
		Handler:   handler,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{u.cert}},
		ErrorLog:  log.New(io.Discard, "", 0),
		ConnState: u.state,
	}
	change(server)
	done := make(chan struct{})
	go func() { defer close(done); server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { server.Close(); <-done })
	return u
}

func (u *upstream) state(c net.Conn, s http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch s {
	case http.StateNew:
		u.accepted.Add(1)
		u.open[c] = true
		u.most = max(u.most, len(u.open))
	case http.StateClosed, http.StateHijacked:
		delete(u.open, c)
	}
}

// certificate returns one for 127.0.0.1 and the file of its authority.
func certificate(t testing.TB) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pool test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"upstream.test"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// newPool returns a pool with the defaults, changed.
func newPool(t testing.TB, change func(*Config)) *Pool {
	t.Helper()
	cfg := Defaults()
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// post makes a call that can be sent again and reads its answer.
func post(ctx context.Context, p http.RoundTripper, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader("hello"))
	if err != nil {
		return "", err
	}
	return read(p.RoundTrip(req))
}

func read(res *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// only returns the stats of the one origin there is.
func only(t testing.TB, p *Pool) OriginStats {
	t.Helper()
	stats := p.Stats()
	if len(stats) != 1 {
		t.Fatalf("got stats of %d origins, want 1: %+v", len(stats), stats)
	}
	return stats[0]
}

// until waits for the stats to come true. The pool has no event for that, and
// what is waited for has happened already or is on its way.
func until(t testing.TB, p *Pool, what string, is func(OriginStats) bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for {
		if stats := p.Stats(); len(stats) == 1 && is(stats[0]) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never came: %s; now %+v", what, p.Stats())
		}
	}
}

func echo(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }

// A pipeNet is a network inside a synctest bubble, with a real server at its
// end.
type pipeNet struct {
	dial atomic.Pointer[func() error] // what happens before a connection is made

	mu    sync.Mutex
	open  map[*pipeConn]bool
	most  int
	dials []time.Time

	accept chan net.Conn
	closed chan struct{}
}

const pipeOrigin = "http://upstream.test"

type pipeConn struct {
	net.Conn
	net *pipeNet
}

func (c *pipeConn) Close() error {
	c.net.mu.Lock()
	delete(c.net.open, c)
	c.net.mu.Unlock()
	return c.Conn.Close()
}

// startPipeNet starts server in the bubble; a dial takes 50 ms.
func startPipeNet(t *testing.T, server *http.Server) *pipeNet {
	n := &pipeNet{open: map[*pipeConn]bool{}, accept: make(chan net.Conn), closed: make(chan struct{})}
	serveInBubble(t, server, func() { server.Serve(n) })
	return n
}

// serveInBubble runs serve, and at the end waits for the handlers as well, which
// Close does not: one may sleep although its caller gave up.
func serveInBubble(t *testing.T, server *http.Server, serve func()) {
	var handling sync.WaitGroup
	handler := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handling.Add(1)
		defer handling.Done()
		handler.ServeHTTP(w, r)
	})
	server.ErrorLog = log.New(io.Discard, "", 0)
	go serve()
	t.Cleanup(func() {
		server.Close()
		synctest.Wait()
		handling.Wait()
		synctest.Wait()
	})
}

func (n *pipeNet) Accept() (net.Conn, error) {
	select {
	case c := <-n.accept:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *pipeNet) Close() error   { close(n.closed); return nil }
func (n *pipeNet) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (n *pipeNet) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, time.Now())
	n.mu.Unlock()
	select {
	case <-time.After(50 * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if before := n.dial.Load(); before != nil {
		if err := (*before)(); err != nil {
			return nil, err
		}
	}
	here, there := net.Pipe()
	c := &pipeConn{here, n}
	select {
	case n.accept <- &pipeConn{there, n}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	n.open[c] = true
	n.most = max(n.most, len(n.open))
	n.mu.Unlock()
	return c, nil
}

func (n *pipeNet) fail(err error) {
	f := func() error { return err }
	n.dial.Store(&f)
}

func (n *pipeNet) dialled() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.dials)
}

func (n *pipeNet) mostOpen() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.most
}

// closeAll closes every connection, as a restart of the server does.
func (n *pipeNet) closeAll() { n.closeSome(math.MaxInt) }

// closeSome closes so many connections.
func (n *pipeNet) closeSome(most int) {
	n.mu.Lock()
	var some []*pipeConn
	for c := range n.open {
		if len(some) < most {
			some = append(some, c)
		}
	}
	n.mu.Unlock()
	for _, c := range some {
		c.Close()
	}
}

// pipePool returns a pool over n, in the bubble.
func pipePool(t *testing.T, n *pipeNet, change func(*Config)) *Pool {
	t.Helper()
	p := newPool(t, change)
	p.proxy = noProxy
	p.dial = n.Dial
	return p
}

// burst makes n calls at once and fails the test when one does.
func burst(t *testing.T, p *Pool, n int) {
	t.Helper()
	burstTo(t, p, pipeOrigin, n)
}

func burstTo(t *testing.T, p *Pool, origin string, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if text, err := post(t.Context(), p, origin); err != nil || text != "hello" {
				t.Errorf("got %q, %v", text, err)
			}
		})
	}
	wg.Wait()
}

func warm(t *testing.T, p *Pool, origin string) (release func()) {
	t.Helper()
	release, err := p.Warm(origin)
	if err != nil {
		t.Fatal(err)
	}
	return release
}
