package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"sync/atomic"
	"time"
)

// A conn is one connection of an origin. The fields below mu's line are guarded
// by origin.mu, but belong to the call alone while the conn is busy.
type conn struct {
	o       *origin
	route   // on which it was dialled
	cc      *http.ClientConn
	wire    *wire
	multi   bool          // speaks HTTP/2: carries many calls at once
	stagger float64       // 0 to 0.1: what its limits are shortened by
	took    time.Duration // to connect: a round trip or more
	opened  time.Time     // when it was ready first
	serial  uint64        // origin.seq when it was

	phase phase
	calls int // that own it
	// broken says that it was closed, or is to be, while it was busy.
	broken   bool
	used     bool      // has carried a request
	retiring bool      // is due, and stays until its replacement is there
	since    time.Time // ready since
	taken    time.Time // busy since

	// Of one that carries many calls:
	streams int   // how many calls at most; 0 before its first answer
	told    bool  // an answer or a refusal came: the server has said how many
	idle    bool  // was idle when the first of its calls took it
	heard   int64 // bytes read before that
}

// A call owns a connection, alone or with others.
type call struct {
	c    *conn
	seq  uint64 // origin.seq when it took c
	idle bool   // c was idle and gave no sign of life since: its peer may have closed it
	told bool   // c was
}

type phase uint8

const (
	busy    phase = iota // being dialled, or owned by calls
	ready                // in the stack
	probe                // kept to find out how long the server keeps it
	leaving              // owned by calls, and given to no more
	closed               // no longer the pool's
)

type connKey struct{}

// connect makes a connection to o on r. Nothing of ours is locked here.
func (p *Pool) connect(ctx context.Context, o *origin, r route) (*conn, error) {
	if r.err != nil {
		return nil, &DialError{Origin: o.name, Err: fmt.Errorf("choosing its proxy: %w", r.err)}
	}
	dial, cancel := context.WithTimeout(ctx, r.terms.cfg.DialTimeout)
	defer cancel()
	defer context.AfterFunc(r.terms.over, cancel)()
	c, begun := &conn{o: o, route: r, stagger: rand.Float64() / 10}, time.Now()
	trace := &httptrace.ClientTrace{TLSHandshakeDone: c.handshaken}
	dial = httptrace.WithClientTrace(context.WithValue(dial, connKey{}, c), trace)
	cc, err := r.transport.NewClientConn(dial, o.key.scheme, o.key.address)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// Net/http gives a socks proxy the context's deadline as the connection's,
		// which may be a moment ahead.
		<-dial.Done()
	}
	switch {
	case err == nil:
		c.cc, c.took = cc, time.Since(begun)
		cc.SetStateHook(c.changed)
		if c.multi {
			c.wire.carries.Store(c)
			c.look()
		}
		return c, nil
	case ctx.Err() != nil:
		return nil, &CallError{Origin: o.name, Err: fmt.Errorf("connecting: %w", context.Cause(ctx))}
	case dial.Err() != nil:
		err = fmt.Errorf("no connection within %s (pool.dial_timeout)", r.terms.cfg.DialTimeout)
	}
	if r.proxy != nil {
		err = fmt.Errorf("through the proxy %s://%s: %w", r.proxy.Scheme, r.proxy.Host, err)
	}
	return nil, &DialError{Origin: o.name, Err: err}
}

// handshaken is told of every TLS handshake that c takes; a proxy's is the
// first.
func (c *conn) handshaken(s tls.ConnectionState, err error) {
	if err != nil {
		return
	}
	c.multi = s.NegotiatedProtocol == "h2"
	c.o.handshakes.Add(1)
	if s.DidResume {
		c.o.resumptions.Add(1)
	}
}

// proxyOf is the transport's Proxy. The request it is asked with is made up and
// lacks the port, so the origin's own answer is taken.
func proxyOf(r *http.Request) (*url.URL, error) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		return c.proxy, nil
	}
	return nil, errors.New("pool: a connection was asked for outside connect")
}

// open is the transport's DialContext: it puts the counting wire under TLS.
func (p *Pool) open(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := p.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: nc}
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		c.wire = w
	}
	return w, nil
}

// A wire counts what passes under TLS, the only place from which one can tell
// that nothing of a request was written.
type wire struct {
	net.Conn
	written, read atomic.Int64
	ending        atomic.Bool
	carries       atomic.Pointer[conn] // that speaks HTTP/2 over it; nil for others
}

func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if !w.ending.Load() {
		w.written.Add(int64(n))
	}
	return n, err
}

// Read is called again when what came before was dealt with, which is when a
// GOAWAY shows: no state hook tells of one.
func (w *wire) Read(b []byte) (int, error) {
	if c := w.carries.Load(); c != nil {
		c.look()
	}
	n, err := w.Conn.Read(b)
	w.read.Add(int64(n))
	return n, err
}

// SetWriteDeadline is called by crypto/tls before it writes its close_notify,
// and by nobody else: what is written from then on is no request.
func (w *wire) SetWriteDeadline(t time.Time) error {
	w.ending.Store(true)
	return w.Conn.SetWriteDeadline(t)
}

// changed is the state hook. It is needed for a connection that closes while no
// call owns it, and for one with many calls that has room again; the end of a
// call is seen by the call.
func (c *conn) changed(cc *http.ClientConn) {
	if err := cc.Err(); err != nil {
		c.o.peerClosed(c, err)
	} else if c.multi {
		c.o.roomMade(c)
	}
}

// spent reports whether c, of which the caller is a call that has ended, can
// carry no more.
func (c *conn) spent() bool {
	if c.multi {
		return c.cc.Err() != nil || c.departed()
	}
	return c.cc.Available() == 0
}

// A body brings its connection back when the answer has been read to its end.
type body struct {
	io.ReadCloser
	c    *conn
	ctx  context.Context
	stop func() bool // nil with HTTP/1.1
	open bool        // nothing but the end of the connection tells its end
	over atomic.Bool
}

// closeWait bounds how long a body may take to close.
const closeWait = 250 * time.Millisecond

// newBody makes the body of res, which c carries, end with ctx. With HTTP/1.1
// net/http sees to that: it closes the connection. With HTTP/2 it tells the
// server first, and that waits while the server takes no bytes.
func newBody(res *http.Response, c *conn, ctx context.Context) *body {
	b := &body{ReadCloser: res.Body, c: c, ctx: ctx}
	if c.multi {
		inner := res.Body
		b.stop = context.AfterFunc(ctx, func() { inner.Close() })
	} else {
		b.open = res.ContentLength < 0 && len(res.TransferEncoding) == 0
	}
	return b
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && b.open && b.ctx.Err() != nil {
		// It ends with its connection, which ended with ctx: a server over TLS answers
		// the farewell with its own, and then what has come looks whole.
		err = context.Cause(b.ctx)
	}
	if err != nil {
		b.end(err == io.EOF, b.ctx.Err() != nil)
	}
	if b.c.multi && err != nil && err != io.EOF && b.ctx.Err() != nil {
		err = context.Cause(b.ctx) // as HTTP/1.1 has it
	}
	return n, err
}

func (b *body) Close() error {
	if b.over.Load() {
		return b.ReadCloser.Close()
	}
	// The server is told that the rest is not wanted, and may take no bytes.
	closed := make(chan error, 1)
	go func() { closed <- b.ReadCloser.Close() }()
	limit := time.NewTimer(closeWait)
	defer limit.Stop()
	var err error
	select {
	case err = <-closed:
	case <-limit.C:
		// Whoever is closing it ends with the connection, which dies of silence.
	}
	b.end(false, true)
	return err
}

// end ends the use of the connection, once.
func (b *body) end(whole, gaveUp bool) {
	if !b.over.CompareAndSwap(false, true) {
		return
	}
	if b.stop != nil {
		b.stop()
	}
	b.c.o.ended(b.c, whole, gaveUp)
}
