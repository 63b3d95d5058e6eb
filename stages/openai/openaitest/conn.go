package openaitest

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

type listener struct {
	net.Listener
	s *Server
}

func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.s.accepted(raw.(*net.TCPConn)), nil
}

// A conn is an accepted connection, under TLS if there is any.
type conn struct {
	s      *Server
	raw    *net.TCPConn
	in     io.Reader // raw, or the delay that stands for the network
	far    *delay    // nil without an emulated round trip
	number int64
	born   time.Time
	spoke  atomic.Int64 // when something passed last, as time since born
	lost   bool         // forgotten by the firewall on the way; only who reads looks

	// Guarded by Server.mu.
	outer    net.Conn // what net/http holds: raw, or the TLS connection
	active   bool
	requests int64
	idle     *time.Timer
	reset    *time.Timer // of one that is lost; nil when none comes
}

func (s *Server) accepted(raw *net.TCPConn) *conn {
	c := &conn{s: s, raw: raw, in: raw, born: time.Now()}
	if rtt := s.config().RTT; rtt > 0 {
		c.far = newDelay(raw, rtt)
		c.in = c.far
		s.running.Go(c.far.run)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepts++
	s.stats.Connections++
	s.stats.Open++
	c.number = s.accepts
	c.outer = c
	c.idle = time.AfterFunc(time.Hour, func() { s.idled(c) })
	c.idle.Stop()
	s.conns[c] = struct{}{}
	if s.ctx.Err() != nil { // Close has been through the list already
		c.Close()
	}
	return c
}

// connState keeps the book of connections and arms the timers of idle ones.
func (s *Server) connState(outer net.Conn, state http.ConnState) {
	c := connOf(outer)
	cfg := s.config()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.running.Add(1) // from the accept loop, which is counted itself
		c.outer = outer
		c.arm(cfg.FreshTimeout, cfg.MaxAge)
	case http.StateActive:
		c.active = true
		c.idle.Stop()
	case http.StateIdle:
		c.active = false
		c.arm(cfg.IdleTimeout, cfg.MaxAge)
	case http.StateClosed, http.StateHijacked:
		c.idle.Stop()
		if c.reset != nil {
			c.reset.Stop()
		}
		delete(s.conns, c)
		s.stats.Open--
		s.running.Done()
	}
}

func (c *conn) arm(idle, maxAge time.Duration) {
	if maxAge > 0 {
		left := max(maxAge-time.Since(c.born), 1)
		if idle == 0 || left < idle {
			idle = left
		}
	}
	if idle > 0 {
		c.idle.Reset(idle)
	}
}

func (s *Server) idled(c *conn) {
	s.mu.Lock()
	outer, active := c.outer, c.active
	s.mu.Unlock()
	if active {
		return
	}
	if t, ok := outer.(*tls.Conn); ok && t.Handshake() == nil {
		// Only now could a client tell an end from a broken handshake. It may have
		// taken so long that a request is here.
		s.mu.Lock()
		active = c.active
		s.mu.Unlock()
	}
	if !active {
		outer.Close()
	}
}

type connKey struct{}

func connOf(outer net.Conn) *conn {
	if t, ok := outer.(*tls.Conn); ok {
		outer = t.NetConn()
	}
	return outer.(*conn)
}

// abort ends the connection so that the client sees a reset.
func (c *conn) abort() {
	c.raw.SetLinger(0)
	c.Close()
}

func (c *conn) Close() error {
	if c.far != nil {
		c.far.close()
	}
	return c.raw.Close()
}

// Read returns what arrives. What a firewall on the way has swallowed does not.
func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err := c.in.Read(p)
		if n == 0 || !c.forgotten() {
			c.spoke.Store(int64(time.Since(c.born)))
			return n, err
		}
		if err != nil {
			return 0, err
		}
	}
}

// forgotten says whether what has just come in is lost, because nothing had
// passed for longer than the firewall on the way remembers a connection.
func (c *conn) forgotten() bool {
	cfg := c.s.config()
	silence := time.Since(c.born) - time.Duration(c.spoke.Load())
	if c.lost || cfg.Forget == 0 || silence <= cfg.Forget {
		return c.lost
	}
	c.lost = true
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.stats.Forgotten++
	if cfg.ForgetReset > 0 {
		c.reset = time.AfterFunc(cfg.ForgetReset, c.abort)
	}
	return true
}

func (c *conn) Write(p []byte) (int, error) {
	c.spoke.Store(int64(time.Since(c.born)))
	return c.raw.Write(p)
}

func (c *conn) LocalAddr() net.Addr                { return c.raw.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr               { return c.raw.RemoteAddr() }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.raw.SetWriteDeadline(t) }

func (c *conn) SetReadDeadline(t time.Time) error {
	if c.far != nil {
		c.far.setDeadline(t)
		return nil
	}
	return c.raw.SetReadDeadline(t)
}

func (c *conn) SetDeadline(t time.Time) error {
	c.raw.SetWriteDeadline(t)
	return c.SetReadDeadline(t)
}

// A delay lets bytes arrive a round trip after they were sent, and those of a
// new connection no sooner than two round trips after it was accepted, since
// the kernel of one machine connects without paying the first. Everything is on
// the way in: a client that waits for answers cannot tell. What is sent
// together arrives together.
type delay struct {
	raw     io.Reader
	rtt     time.Duration
	born    time.Time
	packets chan packet

	gone    chan struct{} // closed when the connection was closed here
	closing sync.Once

	reading sync.Mutex
	head    packet

	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{} // closed when the read deadline has passed
}

type packet struct {
	due  time.Time
	data []byte
	err  error // after data
}

func newDelay(raw io.Reader, rtt time.Duration) *delay {
	return &delay{raw: raw, rtt: rtt, born: time.Now(),
		packets: make(chan packet, 64), gone: make(chan struct{}), passed: make(chan struct{})}
}

// run stamps what arrives until the connection ends.
func (d *delay) run() {
	buf := make([]byte, 32<<10)
	for {
		n, err := d.raw.Read(buf)
		sent := time.Now()
		if open := d.born.Add(d.rtt); sent.Before(open) {
			sent = open
		}
		select {
		case d.packets <- packet{sent.Add(d.rtt), append([]byte(nil), buf[:n]...), err}:
		case <-d.gone:
			return
		}
		if err != nil {
			return
		}
	}
}

func (d *delay) Read(p []byte) (int, error) {
	d.reading.Lock()
	defer d.reading.Unlock()
	passed := d.deadline()
	if len(d.head.data) == 0 && d.head.err == nil {
		select {
		case d.head = <-d.packets:
		case <-passed:
			return 0, os.ErrDeadlineExceeded
		case <-d.gone:
			return 0, net.ErrClosed
		}
	}
	if wait := time.Until(d.head.due); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-passed:
			return 0, os.ErrDeadlineExceeded
		case <-d.gone:
			return 0, net.ErrClosed
		}
	}
	n := copy(p, d.head.data)
	d.head.data = d.head.data[n:]
	if len(d.head.data) == 0 && d.head.err != nil {
		return n, d.head.err // kept: it stays the answer to every later Read
	}
	return n, nil
}

func (d *delay) close() { d.closing.Do(func() { close(d.gone) }) }

func (d *delay) deadline() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}

// setDeadline works on a Read that has begun as well: net/http ends its read in
// the background that way.
func (d *delay) setDeadline(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.passed // it fired, so it closes, or has closed, the old channel
	}
	d.timer = nil
	select {
	case <-d.passed:
		d.passed = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	passed := d.passed
	if wait := time.Until(t); wait > 0 {
		d.timer = time.AfterFunc(wait, func() { close(passed) })
	} else {
		close(passed)
	}
}
