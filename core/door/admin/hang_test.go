package admin_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/admin"
)

// large returns what fills every buffer between two sockets, and some more
// metrics after it.
func large() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "large", Help: strings.Repeat("x", 16<<20)}))
	for i := range 20 {
		reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: fmt.Sprint("small_", i)}))
	}
	return reg
}

const scrape = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"

// A watched connection tells when it is closed.
type watched struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *watched) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A listener accepts what it is sent.
type listener chan net.Conn

func (l listener) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l listener) Close() error { close(l); return nil }
func (listener) Addr() net.Addr { return &net.TCPAddr{} }

func TestAScrapeThatNobodyReadsIsCutAndSaidOnceAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen, logs := observer.New(zap.DebugLevel)
		ln := make(listener)
		server := &http.Server{
			Handler:      admin.New(admin.Options{Gatherer: large(), Log: zap.New(seen)}),
			WriteTimeout: time.Hour, // of answers that are no scrape
		}
		var serving sync.WaitGroup
		serving.Go(func() { server.Serve(ln) })
		dial := func() (net.Conn, *watched) {
			near, far := net.Pipe()
			w := &watched{Conn: far, closed: make(chan struct{})}
			ln <- w
			io.WriteString(near, scrape)
			return near, w
		}
		status := func(c net.Conn) string {
			line, _ := bufio.NewReader(c).ReadString('\n')
			c.Close()
			return strings.TrimSpace(line)
		}

		begin := time.Now()
		var hang []*watched
		for range 8 {
			_, w := dial()
			hang = append(hang, w)
		}
		synctest.Wait()
		ninth, _ := dial()
		if got := status(ninth); !strings.Contains(got, "503") {
			t.Errorf("a ninth scrape beside eight that hang: %q, want to be sent away", got)
		}
		for _, w := range hang {
			<-w.closed
		}
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("scrapes that nobody read were cut after %v, want 10s", took)
		}
		synctest.Wait()
		after, _ := dial()
		if got := status(after); !strings.Contains(got, "200") {
			t.Errorf("a scrape after they were cut: %q", got)
		}
		if logs.Len() > 8 {
			t.Errorf("eight scrapes that hang make %d lines: %v", logs.Len(), logs.All()[0])
		}
		server.Close()
		serving.Wait()
	})
}

// dialSmall connects with the smallest buffer for what it is sent.
func dialSmall(t *testing.T, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		err2 := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1) })
		if err == nil {
			err = err2
		}
		return err
	}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Scrapers that ask and never read, and some that never finish asking: texts
// are translated as ever, and stopping does not wait for them.
func TestScrapersThatHangHinderNobody(t *testing.T) {
	c := door.Defaults()
	c.Listen, c.DrainTimeout = "127.0.0.1:0", 10*time.Minute
	server := door.NewServer(door.Options{
		Config: c, Service: door.New(c, nil), Log: zap.NewNop(),
		Doors:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "answered") }),
		Admin:   admin.New(admin.Options{Gatherer: large(), Log: zap.NewNop()}),
		Metrics: door.NewMetrics(prometheus.NewRegistry()),
	})
	if err := server.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(path string) (int, string) {
		t.Helper()
		res, err := client.Get("http://" + server.Addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(io.LimitReader(res.Body, 100))
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	for range 8 {
		io.WriteString(dialSmall(t, server.Addr()), scrape)
		io.WriteString(dialSmall(t, server.Addr()), scrape[:20])
	}
	for status := 0; status != http.StatusServiceUnavailable; { // all eight are being answered
		status, _ = ask("/metrics")
	}
	for range 100 {
		if status, body := ask("/v1/translate"); status != 200 || body != "answered" {
			t.Fatalf("beside scrapers that hang: %d %q", status, body)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
