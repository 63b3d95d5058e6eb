package pool

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// manyPool returns a pool that asks for HTTP/2 and trusts u.
func manyPool(t testing.TB, u *upstream, change func(*Config)) *Pool {
	return tlsPool(t, u, func(c *Config) {
		c.Protocol, c.WarmConnections, c.MaxConnections = HTTP2, 2, 4
		if change != nil {
			change(c)
		}
	})
}

// startTwo is startUpstream with a server that speaks HTTP/2 as well.
func startTwo(t testing.TB, handler http.HandlerFunc, change func(*http.Server)) *upstream {
	return startUpstreamWith(t, handler, func(s *http.Server) {
		s.Protocols = protocols(true)
		if change != nil {
			change(s)
		}
	})
}

// A peer is one end of an HTTP/2 connection, played by hand.
type peer struct {
	*http2.Framer
	net.Conn
	number int // of the connection, from 1
	write  sync.Mutex
}

// startPeers serves every connection with play, and closes it when play is
// over.
func startPeers(t *testing.T, play func(*peer)) *upstream {
	u := &upstream{}
	u.cert, u.caFile = certificate(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{u.cert}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	u.url = "https://" + listener.Addr().String()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for n := 1; ; n++ {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			u.accepted.Add(1)
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() { playPeer(c, n, play) })
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

func playPeer(c net.Conn, number int, play func(*peer)) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	p := &peer{Framer: http2.NewFramer(c, c), Conn: c, number: number}
	p.WriteSettings()
	play(p)
}

// request returns the stream of the next whole request; 0 when the client is
// gone.
func (p *peer) request() uint32 {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return 0
		}
		p.write.Lock()
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				p.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				p.WritePing(true, f.Data)
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				p.write.Unlock()
				return f.StreamID
			}
		}
		p.write.Unlock()
	}
}

// answer says hello.
func (p *peer) answer(stream uint32) {
	p.write.Lock()
	defer p.write.Unlock()
	var block bytes.Buffer
	hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
	p.WriteData(stream, true, []byte("hello"))
}

// serve answers everything.
func (p *peer) serve() {
	for stream := p.request(); stream != 0; stream = p.request() {
		p.answer(stream)
	}
}

func TestManyCallsShareFewConnections(t *testing.T) {
	var arrived sync.WaitGroup
	arrived.Add(64)
	u := startTwo(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("a call came with %s", r.Proto)
		}
		arrived.Done()
		arrived.Wait() // until all are there at once
		echo(w, r)
	}, nil)
	p := manyPool(t, u, nil)
	defer warm(t, p, u.url)()
	until(t, p, "2 ready", func(s OriginStats) bool { return s.Ready == 2 })
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
				t.Errorf("got %q, %v", text, err)
			}
		})
	}
	wg.Wait()
	until(t, p, "all at rest", func(s OriginStats) bool { return s.Ready == 2 && s.InUse == 0 })
	if s := only(t, p); s.Dials != 2 || s.Open != 2 || s.Cold != 0 || s.Waits != 0 || u.accepted.Load() != 2 {
		t.Errorf("got %+v; want two connections for all", s)
	}
}

func TestCallsOneByOneStayOnOneConnection(t *testing.T) {
	var mu sync.Mutex
	from := map[string]int{}
	u := startTwo(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from[r.RemoteAddr]++
		mu.Unlock()
		echo(w, r)
	}, nil)
	p := manyPool(t, u, nil)
	defer warm(t, p, u.url)()
	until(t, p, "2 ready", func(s OriginStats) bool { return s.Ready == 2 })
	for range 20 {
		if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
			t.Errorf("got %q, %v", text, err)
		}
	}
	if len(from) != 1 {
		t.Errorf("calls by connection: %v; want one", from)
	}
}

func TestCancelledCallsCostNoConnection(t *testing.T) {
	arrived, left := make(chan bool), make(chan bool)
	u := startTwo(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			echo(w, r)
			return
		}
		if r.URL.Path == "/body" {
			io.WriteString(w, "some of it")
			w.(http.Flusher).Flush()
		}
		arrived <- true
		<-r.Context().Done()
		left <- true
	}, nil)
	p := manyPool(t, u, nil)
	defer warm(t, p, u.url)()
	until(t, p, "2 ready", func(s OriginStats) bool { return s.Ready == 2 })
	why := errors.New("superseded")
	for i := range 100 {
		ctx, cancel := context.WithCancelCause(t.Context())
		failed := make(chan error)
		go func() { _, err := post(ctx, p, u.url+[]string{"/header", "/body"}[i%2]); failed <- err }()
		<-arrived
		cancel(why)
		if err := <-failed; !errors.Is(err, why) {
			t.Errorf("got %v, want the cause of the context", err)
		}
		<-left // the upstream hears of it
		if text, err := post(t.Context(), p, u.url+"/"); err != nil || text != "hello" {
			t.Errorf("after it: %q, %v", text, err)
		}
	}
	until(t, p, "all at rest", func(s OriginStats) bool { return s.InUse == 0 })
	if s := only(t, p); s.Cancelled != 100 || s.Dials != 2 || s.Ready != 2 || s.Resends != 0 || u.accepted.Load() != 2 {
		t.Errorf("got %+v; want 100 cancelled and the two connections there were", s)
	}
}

func TestABodyCutShortByItsContextSaysWhy(t *testing.T) {
	u := startTwo(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}, nil)
	p := manyPool(t, u, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", u.url, nil)
	res, err := p.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	why := errors.New("superseded")
	cancel(why)
	if _, err := io.ReadAll(res.Body); err != why {
		t.Errorf("got %v, want the cause of the context", err)
	}
	if s := only(t, p); s.Cancelled != 1 || s.Ready != 1 {
		t.Errorf("got %+v; want one cancelled and its connection ready", s)
	}
}

// A call that was given up takes its place until the server has confirmed that.
func TestACancelledCallsPlaceGoesToWhoWaits(t *testing.T) {
	arrived, finish := make(chan uint32), make(chan bool)
	u := startPeers(t, func(p *peer) {
		p.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
		p.answer(p.request()) // now that is known
		go func() {
			for stream := p.request(); stream != 0; stream = p.request() {
				arrived <- stream
			}
			close(arrived)
		}()
		<-finish
		p.answer(3)
		for range arrived {
		}
	})
	p := manyPool(t, u, func(c *Config) { c.WarmConnections, c.MaxConnections = 1, 1 })
	if _, err := post(t.Context(), p, u.url); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	first, second, third := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { _, err := post(t.Context(), p, u.url); first <- err }()
	<-arrived
	go func() { _, err := post(ctx, p, u.url); second <- err }()
	<-arrived
	later, stop := context.WithCancel(t.Context())
	go func() { _, err := post(later, p, u.url); third <- err }()
	until(t, p, "the third waits", func(s OriginStats) bool { return s.Waiting == 1 })
	cancel()
	<-second
	if stream := <-arrived; stream != 7 {
		t.Errorf("stream %d came, want the third call's, 7", stream)
	}
	close(finish)
	if err := <-first; err != nil {
		t.Error(err)
	}
	stop()
	<-third
}

func TestBodiesClosedEarlyCostNoConnection(t *testing.T) {
	u := startTwo(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "some of it")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}, nil)
	p := manyPool(t, u, nil)
	for range 10 {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", u.url, nil)
		res, err := p.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		res.Body.Close()
	}
	if s := only(t, p); s.Cancelled != 10 || s.Dials != 1 || s.Ready != 1 || s.InUse != 0 {
		t.Errorf("got %+v; want 10 cancelled and one connection", s)
	}
}

func TestAnswersWithoutABodyAreNoCancelledCalls(t *testing.T) {
	u := startTwo(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "HEAD" {
			w.WriteHeader(http.StatusNoContent)
		}
	}, nil)
	p := manyPool(t, u, nil)
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
	if s := only(t, p); s.Cancelled != 0 || s.Ready != 1 || s.Dials != 1 {
		t.Errorf("got %+v; want none cancelled and one connection", s)
	}
}

func TestRequestAtFaultLeavesTheOthersOnItsConnection(t *testing.T) {
	arrived, finish := make(chan bool), make(chan bool)
	u := startTwo(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-finish
		echo(w, r)
	}, nil)
	p := manyPool(t, u, func(c *Config) { c.WarmConnections, c.MaxConnections = 1, 1 })
	result := make(chan error)
	go func() { _, err := post(t.Context(), p, u.url); result <- err }()
	<-arrived
	req, _ := http.NewRequestWithContext(t.Context(), "GET", u.url, nil)
	req.Header["bad name"] = []string{"x"}
	if _, err := p.RoundTrip(req); err == nil {
		t.Error("a header with a space in its name was sent")
	}
	close(finish)
	if err := <-result; err != nil {
		t.Error(err)
	}
	if s := only(t, p); s.Dials != 1 || s.Ready != 1 || s.Resends != 0 {
		t.Errorf("got %+v; want the one connection", s)
	}
}

func TestRefusedStreamIsSentAgain(t *testing.T) {
	for _, test := range []struct{ refuse, resends int }{{1, 1}, {3, 3}, {4, 3}} {
		// The first refusal is of a server that had not said what it takes.
		refused := 0
		u := startPeers(t, func(p *peer) {
			for stream := p.request(); stream != 0; stream = p.request() {
				if refused++; refused <= test.refuse {
					p.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
				} else {
					p.answer(stream)
				}
			}
		})
		p := manyPool(t, u, func(c *Config) { c.MaxConnections, c.WarmConnections = 1, 1 })
		text, err := post(t.Context(), p, u.url)
		if test.refuse <= maxTries && (err != nil || text != "hello") {
			t.Errorf("refused %d times: got %q, %v", test.refuse, text, err)
		}
		if _, ok := errors.AsType[*CallError](err); test.refuse > maxTries && !ok {
			t.Errorf("refused %d times: got %v, want a CallError", test.refuse, err)
		}
		if s := only(t, p); s.Resends != int64(test.resends) || s.Dials != 1 || s.Ready != 1 {
			t.Errorf("refused %d times: got %+v; want it sent again on the connection there is", test.refuse, s)
		}
	}
}

// One refusal is enough to be careful with the connections after it.
func TestRefusedCallsAreNotAllGivenToTheNextConnection(t *testing.T) {
	u := startPeers(t, func(p *peer) {
		first := p.request()
		for stream := p.request(); stream != 0; stream = p.request() {
			if p.number == 1 {
				p.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
			}
		}
		_ = first // is never answered
	})
	p := manyPool(t, u, func(c *Config) { c.WarmConnections = 0 })
	dial, dials, more := p.dial, 0, make(chan bool)
	p.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials++; dials > 1 {
			<-more
		}
		return dial(ctx, network, address)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 20 {
		wg.Go(func() { post(ctx, p, u.url) })
	}
	until(t, p, "19 refused", func(s OriginStats) bool { return s.Waiting == 19 && s.Resends == 19 })
	close(more)
	until(t, p, "one more on each connection", func(s OriginStats) bool { return s.InUse == 4 && s.Waiting == 16 })
}

func TestStreamResetForAProtocolErrorIsSentAgainElsewhere(t *testing.T) {
	u := startPeers(t, func(p *peer) {
		if p.number == 1 {
			p.WriteRSTStream(p.request(), http2.ErrCodeProtocol)
		}
		p.serve()
	})
	p := manyPool(t, u, nil)
	if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
		t.Errorf("got %q, %v", text, err)
	}
	if s := only(t, p); s.Resends != 1 || s.Dials != 2 || s.Open != 1 || s.IdleLimitNew != 0 {
		t.Errorf("got %+v; want it sent again on another connection, and no limit learned", s)
	}
}

func TestCallWhoseConnectionsAreAllSentAwayIsGivenUpInTheEnd(t *testing.T) {
	for _, last := range []int{maxAway, maxAway + 1} {
		u := startPeers(t, func(p *peer) {
			if p.number < last {
				p.request()
				p.WriteGoAway(0, http2.ErrCodeNo, nil)
			}
			p.serve()
		})
		p := manyPool(t, u, nil)
		_, err := post(t.Context(), p, u.url)
		if _, failed := errors.AsType[*CallError](err); failed != (last > maxAway) || !failed && err != nil {
			t.Errorf("answered at connection %d: got %v", last, err)
		}
		if s := only(t, p); s.Resends != maxAway-1 {
			t.Errorf("%d resent, want %d", s.Resends, maxAway-1)
		}
	}
}

func TestResetStreamIsTheAttemptsFailureAndCostsNoConnection(t *testing.T) {
	calls := 0
	u := startPeers(t, func(p *peer) {
		for stream := p.request(); stream != 0; stream = p.request() {
			calls++
			p.WriteRSTStream(stream, http2.ErrCodeInternal)
		}
	})
	p := manyPool(t, u, nil)
	defer warm(t, p, u.url)()
	until(t, p, "2 ready", func(s OriginStats) bool { return s.Ready == 2 })
	for range 2 {
		_, err := post(t.Context(), p, u.url)
		if failure, ok := errors.AsType[*CallError](err); !ok || !failure.Written {
			t.Errorf("got %v; want a CallError with bytes written", err)
		}
	}
	if s := only(t, p); s.Resends != 0 || s.Dials != 2 || s.Ready != 2 || s.Cancelled != 0 || calls != 2 {
		t.Errorf("got %+v after %d calls; want two, and the two connections", s, calls)
	}
}

// Every request that a server did not take before its GOAWAY is sent again, and
// those that it took are answered.
func TestGoAwayFailsNoCall(t *testing.T) {
	for _, before := range []uint32{0, 1, 3, 7} {
		t.Run(fmt.Sprint("after stream ", before), func(t *testing.T) {
			var arrived atomic.Int64
			all := make(chan bool)
			u := startPeers(t, func(p *peer) {
				if p.number > 2 {
					p.serve()
					return
				}
				var sent sync.WaitGroup
				defer sent.Wait()
				for stream := p.request(); stream != 0; stream = p.request() {
					if arrived.Add(1) == 16 {
						close(all)
					}
					sent.Go(func() {
						<-all
						p.write.Lock()
						p.WriteGoAway(before, http2.ErrCodeNo, nil)
						p.write.Unlock()
						if stream <= before {
							p.answer(stream)
						}
					})
				}
			})
			p := manyPool(t, u, nil)
			defer warm(t, p, u.url)()
			until(t, p, "2 ready", func(s OriginStats) bool { return s.Ready == 2 })
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
						t.Errorf("got %q, %v", text, err)
					}
				})
			}
			wg.Wait()
			until(t, p, "all at rest", func(s OriginStats) bool { return s.InUse == 0 && s.Ready >= 2 && s.Dialling == 0 })
			if s := only(t, p); s.Resends < int64(2*(8-(before+1)/2)) || s.Open > 4 {
				t.Errorf("got %+v; want at least %d sent again", s, 2*(8-(before+1)/2))
			}
		})
	}
}

func TestIdleConnectionThatIsSentAwayIsReplacedBeforeACallNeedsIt(t *testing.T) {
	u := startPeers(t, func(p *peer) {
		if p.number <= 2 {
			p.WriteGoAway(0, http2.ErrCodeNo, nil) // and stays open
		}
		p.serve()
	})
	p := manyPool(t, u, nil)
	defer warm(t, p, u.url)()
	until(t, p, "2 others ready", func(s OriginStats) bool { return s.Dials >= 4 && s.Ready == 2 })
	if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
		t.Errorf("got %q, %v", text, err)
	}
	if s := only(t, p); s.Cold != 0 || s.Resends != 0 || s.Open != 2 {
		t.Errorf("got %+v; want none cold or resent", s)
	}
}

// A connection that was sent away is not counted while its calls end, so that
// even with a maximum of one the next call is served.
func TestConnectionThatIsSentAwayWithACallMakesRoom(t *testing.T) {
	finish := make(chan bool)
	u := startPeers(t, func(p *peer) {
		if p.number > 1 {
			p.serve()
			return
		}
		p.answer(p.request()) // now its settings are known
		stream := p.request()
		p.WriteGoAway(stream, http2.ErrCodeNo, nil)
		<-finish
		p.answer(stream)
		p.serve()
	})
	p := manyPool(t, u, func(c *Config) { c.WarmConnections, c.MaxConnections = 1, 1 })
	if _, err := post(t.Context(), p, u.url); err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() { _, err := post(t.Context(), p, u.url); result <- err }()
	o := p.origins[key{"https", strings.TrimPrefix(u.url, "https://")}]
	until(t, p, "the goodbye", func(OriginStats) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.leaving == 1
	})
	if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
		t.Errorf("got %q, %v", text, err)
	}
	if s := only(t, p); s.Open != 2 || s.InUse != 1 || s.Ready != 1 {
		t.Errorf("got %+v; want one in use and one ready", s)
	}
	close(finish)
	if err := <-result; err != nil {
		t.Error(err)
	}
	until(t, p, "the end of it", func(s OriginStats) bool { return s.Open == 1 && s.Ready == 1 })
	if s := only(t, p); s.Resends != 0 || s.Dials != 2 {
		t.Errorf("got %+v; want two dials and none resent", s)
	}
}

// Nor is one that closed, although nobody has read the answer that it cut.
func TestConnectionThatClosesWithACallMakesRoom(t *testing.T) {
	u := startPeers(t, func(p *peer) {
		if p.number > 1 {
			p.serve()
			return
		}
		var block bytes.Buffer
		hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		p.WriteHeaders(http2.HeadersFrameParam{StreamID: p.request(), BlockFragment: block.Bytes(), EndHeaders: true})
	})
	p := manyPool(t, u, func(c *Config) { c.WarmConnections, c.MaxConnections = 1, 1 })
	req, _ := http.NewRequestWithContext(t.Context(), "POST", u.url, strings.NewReader("hello"))
	res, err := p.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	o := p.origins[key{"https", strings.TrimPrefix(u.url, "https://")}]
	until(t, p, "the close", func(OriginStats) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.shared) == 0
	})
	if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err := read(res, nil); err != io.ErrUnexpectedEOF {
		t.Errorf("got %v for the one that was cut", err)
	}
	if s := only(t, p); s.Open != 1 || s.Ready != 1 || s.Dials != 2 {
		t.Errorf("got %+v; want the second connection", s)
	}
}

func TestServersOwnGoAwaysUnderLoadFailNoCall(t *testing.T) {
	var calls atomic.Int64
	u := startTwo(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1)%50 == 0 {
			w.Header().Set("Connection", "close") // which is a GOAWAY
		}
		echo(w, r)
	}, nil)
	p := manyPool(t, u, nil)
	defer warm(t, p, u.url)()
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 50 {
				if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
					t.Errorf("got %q, %v", text, err)
				}
			}
		})
	}
	wg.Wait()
	until(t, p, "all at rest", func(s OriginStats) bool { return s.InUse == 0 && s.Ready >= 2 && s.Dialling == 0 })
	if s := only(t, p); s.Open > 4 || s.Dials < 10 {
		t.Errorf("got %+v; want connections replaced, and at most 4", s)
	}
}

func TestServersMaximumOfCallsIsHonoured(t *testing.T) {
	for _, most := range []int{1, 3} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			var mu sync.Mutex
			now, high := map[string]int{}, 0
			u := startTwo(t, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				now[r.RemoteAddr]++
				high = max(high, now[r.RemoteAddr])
				mu.Unlock()
				echo(w, r)
				mu.Lock()
				now[r.RemoteAddr]--
				mu.Unlock()
			}, func(s *http.Server) { s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: most} })
			p := manyPool(t, u, nil)
			defer warm(t, p, u.url)()
			until(t, p, "2 ready", func(s OriginStats) bool { return s.Ready == 2 })
			var wg sync.WaitGroup
			for range 40 {
				wg.Go(func() {
					for range 10 {
						if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
							t.Errorf("got %q, %v", text, err)
						}
					}
				})
			}
			wg.Wait()
			s := only(t, p)
			if high > most || s.Open > 4 || s.Waits == 0 {
				t.Errorf("%d at once on a connection, want at most %d: %+v", high, most, s)
			}
		})
	}
}

// Calls that were waiting for the first connection all go to it before it could
// say how many it takes.
func TestTheFirstCallsDoNotKnowTheMaximum(t *testing.T) {
	u := startTwo(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(5 * time.Millisecond) // the work, during which its connection is full
		echo(w, r)
	}, func(s *http.Server) { s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1} })
	for range 10 {
		p := manyPool(t, u, nil)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if text, err := post(ctx, p, u.url); err != nil || text != "hello" {
					t.Errorf("got %q, %v", text, err)
				}
			})
		}
		wg.Wait()
		if s := only(t, p); s.Open > 4 || s.Cold+s.Waits > 20 {
			t.Errorf("got %+v; want at most 4 open, and no call counted twice", s)
		}
	}
}

// Calls that joined one that had been idle have met the same fate.
func TestIdleConnectionClosedAtReuseResendsAllItsCalls(t *testing.T) {
	for name, away := range map[string]bool{"closed": false, "sent away and closed": true} {
		t.Run(name, func(t *testing.T) {
			var end atomic.Bool
			u := startPeers(t, func(p *peer) {
				for stream := p.request(); stream != 0; stream = p.request() {
					if end.Load() && p.number == 1 {
						for range 7 {
							p.request()
						}
						if away {
							p.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
						}
						return
					}
					p.answer(stream)
				}
			})
			p := manyPool(t, u, func(c *Config) { c.WarmConnections = 1 })
			defer warm(t, p, u.url)()
			until(t, p, "1 ready", func(s OriginStats) bool { return s.Ready == 1 })
			if _, err := post(t.Context(), p, u.url); err != nil {
				t.Fatal(err)
			}
			distant(t, p, 1)
			end.Store(true)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
						t.Errorf("got %q, %v", text, err)
					}
				})
			}
			wg.Wait()
			if s := only(t, p); s.Resends != 8 || s.Dials != 2 {
				t.Errorf("got %+v; want 8 sent again over one other connection", s)
			}
		})
	}
}

// One that joined after the connection gave a sign of life has met another.
func TestCallThatJoinsALivingConnectionIsNotResent(t *testing.T) {
	joined := make(chan bool)
	u := startPeers(t, func(p *peer) {
		p.answer(p.request())
		var block bytes.Buffer
		hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		p.WriteHeaders(http2.HeadersFrameParam{StreamID: p.request(), BlockFragment: block.Bytes(), EndHeaders: true})
		p.request()
		joined <- true
	})
	p := manyPool(t, u, func(c *Config) { c.WarmConnections, c.MaxConnections = 1, 1 })
	if _, err := post(t.Context(), p, u.url); err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), "POST", u.url, strings.NewReader("hello"))
	res, err := p.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() { _, err := post(t.Context(), p, u.url); result <- err }()
	<-joined
	if err := <-result; err == nil {
		t.Error("got an answer")
	}
	if _, err := read(res, nil); err != io.ErrUnexpectedEOF {
		t.Errorf("got %v for the one that was being answered", err)
	}
	if s := only(t, p); s.Resends != 0 || s.IdleLimitUsed != 0 {
		t.Errorf("got %+v; want none resent", s)
	}
}

func TestConnectionDialledForCallsIsNotResent(t *testing.T) {
	u := startPeers(t, func(p *peer) { p.request() })
	for _, mode := range []string{Pooled, Direct} {
		p := manyPool(t, u, func(c *Config) { c.Mode = mode })
		_, err := post(t.Context(), p, u.url)
		if failure, ok := errors.AsType[*CallError](err); !ok || !failure.Written {
			t.Errorf("%s: got %v; want a CallError with bytes written", mode, err)
		}
		if s := only(t, p); s.Resends != 0 {
			t.Errorf("%s: %d resent, want none", mode, s.Resends)
		}
	}
}

func TestServerWithoutHTTP2IsCalledWithHTTP1AndSaidSoOnce(t *testing.T) {
	u := startUpstreamWith(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("a call came with %s", r.Proto)
		}
		echo(w, r)
	}, func(s *http.Server) { s.Protocols = protocols(false) })
	core, logged := observer.New(zap.WarnLevel)
	cfg := Defaults()
	cfg.CAFile, cfg.Protocol = u.caFile, HTTP2
	p, err := New(cfg, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	defer warm(t, p, u.url)()
	until(t, p, "6 ready", func(s OriginStats) bool { return s.Ready == 6 })
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if text, err := post(t.Context(), p, u.url); err != nil || text != "hello" {
				t.Errorf("got %q, %v", text, err)
			}
		})
	}
	wg.Wait()
	if s := only(t, p); s.Open > 10 || s.DialFailures != 0 {
		t.Errorf("got %+v", s)
	}
	if all := logged.All(); len(all) != 1 || all[0].ContextMap()["origin"] != u.url {
		t.Errorf("logged %v; want one warning that names the origin", all)
	}
}

// After the first connection it is known that each takes one call only.
func TestServerWithoutHTTP2IsDialledForAllWhoWaitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := twoPool(t, &http.Server{Handler: http.HandlerFunc(slow), Protocols: protocols(false)}, func(c *Config) {
			c.WarmConnections, c.MaxConnections = 0, 10
		})
		start := time.Now()
		burstTo(t, p, twoOrigin, 8)
		if took := time.Since(start); took > 410*time.Millisecond {
			t.Errorf("took %s, want 400ms: two dials of 50 ms, one after the other, and the answer", took)
		}
	})
}

func TestPlainUpstreamsAndProxiesBehindTLSKeepToHTTP1(t *testing.T) {
	u := startTwo(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }, nil)
	p := manyPool(t, u, nil)
	if text, err := post(t.Context(), p, "http://"+startPlain(t)); err != nil || text != "hello" {
		t.Errorf("got %q, %v", text, err)
	}
	for kind, want := range map[string]string{"http": "HTTP/2.0", "socks5": "HTTP/2.0", "https": "HTTP/1.1"} {
		p := manyPool(t, u, func(c *Config) { c.Proxy = startProxy(t, kind, u.cert).url })
		if text, err := post(t.Context(), p, u.url); err != nil || text != want {
			t.Errorf("through a proxy of kind %s: got %q, %v; want %s", kind, text, err, want)
		}
		p.Close()
	}
}

func TestDirectOpensOneConnectionForEachCallOfHTTP2(t *testing.T) {
	u := startTwo(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("a call came with %s", r.Proto)
		}
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
		echo(w, r)
	}, nil)
	p := manyPool(t, u, func(c *Config) { c.Mode = Direct })
	defer warm(t, p, u.url)()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if text, err := post(t.Context(), p, u.url+"/"); err != nil || text != "hello" {
				t.Errorf("got %q, %v", text, err)
			}
		})
	}
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := post(ctx, p, u.url+"/hang"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	wg.Wait()
	if s := only(t, p); s.Open != 0 || s.Dials != 21 || s.Cold != 21 || s.Waits != 0 {
		t.Errorf("got %+v; want 21 cold dials and nothing open", s)
	}
}

func TestCloseUnderLoadLetsSharedConnectionsEnd(t *testing.T) {
	started, finish := make(chan bool, 20), make(chan bool)
	u := startTwo(t, func(w http.ResponseWriter, r *http.Request) {
		started <- true
		<-finish
		echo(w, r)
	}, nil)
	p := manyPool(t, u, nil)
	warm(t, p, u.url)
	results := make(chan error, 20)
	for range 20 {
		go func() { _, err := post(t.Context(), p, u.url); results <- err }()
	}
	for range 20 {
		<-started
	}
	p.Close()
	close(finish)
	for range 20 {
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
}

// Calls, cancelled ones, and a server that sends connections away, all at once:
// each call that is not given up gets its own answer.
func TestEveryCallGetsItsOwnAnswer(t *testing.T) {
	var calls atomic.Int64
	u := startTwo(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1)%97 == 0 {
			w.Header().Set("Connection", "close")
		}
		text, _ := io.ReadAll(r.Body)
		w.Write(text[:1])
		w.(http.Flusher).Flush()
		w.Write(text[1:])
	}, func(s *http.Server) { s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 5} })
	p := manyPool(t, u, nil)
	defer warm(t, p, u.url)()
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			for i := range 40 {
				ctx, cancel := context.WithCancel(t.Context())
				impatient := rand.N(3) == 0
				if impatient {
					go cancel()
				}
				text := fmt.Sprintf("%d of %d", i, n)
				req, _ := http.NewRequestWithContext(ctx, "POST", u.url, strings.NewReader(text))
				got, err := read(p.RoundTrip(req))
				if err == nil && got != text || err != nil && !(impatient && errors.Is(err, context.Canceled)) {
					t.Errorf("got %q, %v; want %q", got, err, text)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	until(t, p, "all at rest", func(s OriginStats) bool {
		return s.InUse == 0 && s.Waiting == 0 && s.Dialling == 0 && s.Ready >= 2 && s.Open <= 4
	})
}

const twoOrigin = "https://upstream.test"

// twoPool is startPipeNet and pipePool with TLS and HTTP/2.
func twoPool(t *testing.T, server *http.Server, change func(*Config)) (*pipeNet, *Pool) {
	cert, caFile := certificate(t)
	n := &pipeNet{open: map[*pipeConn]bool{}, accept: make(chan net.Conn), closed: make(chan struct{})}
	if server.Protocols == nil {
		server.Protocols = protocols(true)
	}
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	serveInBubble(t, server, func() { server.ServeTLS(n, "", "") })
	p := pipePool(t, n, func(c *Config) {
		c.CAFile, c.Protocol, c.WarmConnections, c.MaxConnections = caFile, HTTP2, 2, 4
		if change != nil {
			change(c)
		}
	})
	return n, p
}

func TestBurstsOverHTTP2AfterIdleGapsAreNeverCold(t *testing.T) {
	for _, idle := range []time.Duration{5 * time.Second, 30 * time.Second} {
		t.Run(fmt.Sprint("server closes after ", idle), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, p := twoPool(t, &http.Server{Handler: http.HandlerFunc(slow), IdleTimeout: idle}, nil)
				warm(t, p, twoOrigin)
				time.Sleep(time.Second)
				burstTo(t, p, twoOrigin, 20)
				time.Sleep(4 * idle) // the first gap teaches
				before := only(t, p)
				for range 3 {
					for _, gap := range []time.Duration{4, 5, 30, 60} {
						time.Sleep(gap * time.Second)
						burstTo(t, p, twoOrigin, 20)
					}
				}
				s := only(t, p)
				if before.Cold != 0 || s.Cold != 0 || s.Resends != before.Resends || s.Waits != 0 {
					t.Errorf("got %d cold, %d resent, %d waited; want none: %+v", s.Cold, s.Resends-before.Resends, s.Waits, s)
				}
				if s.IdleLimitUsed < idle*9/10 || s.IdleLimitUsed > idle*11/10 {
					t.Errorf("learned %s, want %s", s.IdleLimitUsed, idle)
				}
				if most := n.mostOpen(); most > 5 {
					t.Errorf("%d connections were open at once, want at most 5", most)
				}
			})
		})
	}
}

// A connection that is never without a call is replaced all the same, and its
// calls end on it.
func TestASharedConnectionIsReplacedAtMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := twoPool(t, &http.Server{Handler: http.HandlerFunc(slow)}, func(c *Config) {
			c.WarmConnections, c.MaxConnections, c.MaxAge = 1, 1, 10*time.Second
		})
		warm(t, p, twoOrigin)
		time.Sleep(time.Second)
		var wg sync.WaitGroup
		for i := range 300 { // one begins every 100 ms and takes 300
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				if text, err := post(t.Context(), p, twoOrigin); err != nil || text != "hello" {
					t.Errorf("got %q, %v", text, err)
				}
			})
		}
		wg.Wait()
		if s := only(t, p); s.Dials < 3 || s.Dials > 5 || s.Cold != 0 || s.Waits != 0 || s.Open != 1 {
			t.Errorf("got %+v; want one dial every 9 to 10 s, and none cold", s)
		}
		if most := n.mostOpen(); most != 2 {
			t.Errorf("%d were open at once, want 2 while one ends", most)
		}
	})
}

// A stillConn is one whose path was cut, without a word to either end.
type stillConn struct {
	net.Conn
	cut    *atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (c *stillConn) Write(b []byte) (int, error) {
	if c.cut.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *stillConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.cut.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *stillConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// cuttable returns what cuts the path of all connections of p; those dialled
// afterwards find another.
func cuttable(p *Pool) *atomic.Bool {
	dial, cut := p.dial, new(atomic.Bool)
	p.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil || cut.Load() {
			return c, err
		}
		return &stillConn{Conn: c, cut: cut, closed: make(chan struct{})}, nil
	}
	return cut
}

func TestCallThatHeardNothingUntilItsDeadlineCondemnsItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := twoPool(t, &http.Server{Handler: http.HandlerFunc(slow)}, nil)
		cut := cuttable(p)
		warm(t, p, twoOrigin)
		time.Sleep(time.Second)
		burstTo(t, p, twoOrigin, 1)
		cut.Store(true)
		var wg sync.WaitGroup
		patient, cancel := context.WithCancel(t.Context())
		for range 2 {
			go post(patient, p, twoOrigin) // has no deadline, and says nothing against it
		}
		for range 10 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				if _, err := post(ctx, p, twoOrigin); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("over a dead path: %v", err)
				}
			})
		}
		wg.Wait()
		time.Sleep(100 * time.Millisecond)
		burstTo(t, p, twoOrigin, 10)
		cancel()
		synctest.Wait()
		if s := only(t, p); s.Dials != 4 || s.Cold != 0 || s.Ready != 2 || s.Open != 2 {
			t.Errorf("got %+v; want both connections replaced after the first deadline", s)
		}
	})
}

func TestSilentPeerIsFoundOutWithoutACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := twoPool(t, &http.Server{Handler: http.HandlerFunc(slow)}, nil)
		cut := cuttable(p)
		warm(t, p, twoOrigin)
		time.Sleep(time.Second)
		cut.Store(true)
		time.Sleep(pingAfter + pingWait + time.Second)
		burstTo(t, p, twoOrigin, 10)
		if s := only(t, p); s.Dials != 4 || s.Ready != 2 || s.Open != 2 {
			t.Errorf("got %+v; want both connections replaced", s)
		}
	})
}

// A server that thinks for long is alive, and a call that is cancelled or has
// another deadline says nothing against its connection.
func TestSlowServerKeepsItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := twoPool(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(time.Minute):
			case <-r.Context().Done():
			}
		})}, nil)
		warm(t, p, twoOrigin)
		time.Sleep(time.Second)
		for _, patience := range []time.Duration{10 * time.Millisecond, 500 * time.Millisecond, 3 * time.Second, 10 * time.Second} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(patience, cancel)
			if _, err := post(ctx, p, twoOrigin); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		for _, patience := range []time.Duration{10 * time.Millisecond, 500 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if _, err := post(ctx, p, twoOrigin); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
		}
		if s := only(t, p); s.Dials != 2 || s.Cancelled != 6 || s.Ready != 2 {
			t.Errorf("got %+v; want 6 cancelled and the two connections there were", s)
		}
	})
}

func TestServerThatSendsNewConnectionsAwayIsNotStormed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := twoPool(t, &http.Server{Handler: http.HandlerFunc(slow), IdleTimeout: time.Millisecond}, nil)
		warm(t, p, twoOrigin)
		time.Sleep(10 * time.Minute)
		if got := n.dialled(); got > 1000 {
			t.Errorf("%d dials in 10 minutes", got)
		}
	})
}

func TestWhateverHappensTheCountsOfSharedConnectionsHold(t *testing.T) {
	property.Few(t, 35)
	property.InBubbles(t, func(t *testing.T, r *rapid.T) {
		maximum := rapid.IntRange(1, 4).Draw(r, "max_connections")
		streams := rapid.IntRange(1, 5).Draw(r, "streams")
		var calls atomic.Int64
		away := int64(rapid.IntRange(2, 30).Draw(r, "calls until a GOAWAY"))
		n, p := twoPool(t, &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1)%away == 0 {
					w.Header().Set("Connection", "close")
				}
				slow(w, r)
			}),
			IdleTimeout: 5 * time.Second,
			HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: streams},
		}, func(c *Config) {
			c.MaxConnections = maximum
			c.WarmConnections = rapid.IntRange(0, maximum).Draw(r, "warm_connections")
			c.IdleTimeout, c.MaxAge = 20*time.Second, 15*time.Second
		})
		release := warm(t, p, twoOrigin)
		var wg sync.WaitGroup
		o := p.origins[key{"https", "upstream.test:443"}]
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			switch rapid.IntRange(0, 5).Draw(r, "step") {
			case 0, 1:
				patience := time.Duration(rapid.IntRange(1, 2000).Draw(r, "patience")) * time.Millisecond
				for range rapid.IntRange(1, 10).Draw(r, "calls") {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						defer cancel()
						post(ctx, p, twoOrigin)
					})
				}
			case 2:
				n.closeAll()
			case 3:
				n.fail(syscall.ECONNREFUSED)
			case 4:
				n.dial.Store(nil)
			case 5:
				time.Sleep(time.Duration(rapid.IntRange(1, 9000).Draw(r, "pause")) * time.Millisecond)
			}
			synctest.Wait()
			o.mu.Lock()
			shared, calls := len(o.shared), 0
			for _, c := range o.shared {
				calls += c.calls
				if c.calls == 0 || c.phase != busy {
					r.Errorf("a shared connection with %d calls in state %d", c.calls, c.phase)
				}
			}
			if o.open != len(o.stack)+shared || o.open > maximum+1 || o.leaving < 0 || o.retiring < 0 || o.retiring > o.open {
				r.Errorf("of at most %d: %d open, %d on the stack, %d shared, %d leaving, %d retiring", maximum, o.open, len(o.stack), shared, o.leaving, o.retiring)
			}
			o.mu.Unlock()
		}
		wg.Wait()
		n.dial.Store(nil)
		time.Sleep(30 * time.Second)
		if s := only(t, p); s.InUse != 0 || s.Waiting != 0 || s.Ready < p.cfg.WarmConnections || s.Open > maximum+1 {
			r.Fatalf("at rest: %+v", s)
		}
		release()
		time.Sleep(time.Minute)
		if s := only(t, p); s.Open != 0 || s.Dialling != 0 {
			r.Fatalf("after release: %+v", s)
		}
		p.Close()
		n.closeAll()
	})
}
