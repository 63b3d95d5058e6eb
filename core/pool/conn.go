package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

// A conn is one connection of an origin. The fields below mu's line are guarded
// by origin.mu, but belong to the call alone while the conn is busy.
type conn struct {
	o       *origin
	cc      *http.ClientConn
	wire    *wire
	stagger float64   // 0 to 0.1: what its limits are shortened by
	opened  time.Time // when it was ready first
	serial  uint64    // origin.seq when it was

	state state
	// broken says that it was closed while it was busy.
	broken   bool
	used     bool      // has carried a request
	retiring bool      // is due, and stays until its replacement is there
	since    time.Time // ready since
	taken    time.Time // busy since
	takenSeq uint64    // origin.seq when it was taken
	idle     bool      // was idle when it was taken: its peer may have closed it
}

type state uint8

const (
	busy   state = iota // being dialled, or owned by a call
	ready               // in the stack
	probe               // kept to find out how long the server keeps it
	closed              // no longer the pool's
)

type connKey struct{}

// connect makes a connection to o. Nothing of ours is locked here.
func (p *Pool) connect(ctx context.Context, o *origin) (*conn, error) {
	dial, cancel := context.WithTimeout(ctx, p.cfg.DialTimeout)
	defer cancel()
	c := &conn{o: o, stagger: rand.Float64() / 10}
	dial = httptrace.WithClientTrace(context.WithValue(dial, connKey{}, c), o.trace)
	cc, err := p.transport.NewClientConn(dial, o.key.scheme, o.key.address)
	switch {
	case err == nil:
		c.cc = cc
		cc.SetStateHook(c.changed)
		return c, nil
	case ctx.Err() != nil:
		return nil, &CallError{Origin: o.name, Err: fmt.Errorf("connecting: %w", context.Cause(ctx))}
	case dial.Err() != nil:
		err = fmt.Errorf("no connection within %s (pool.dial_timeout)", p.cfg.DialTimeout)
	}
	if o.proxy != nil {
		err = fmt.Errorf("through the proxy %s: %w", o.proxy.Redacted(), err)
	}
	return nil, &DialError{Origin: o.name, Err: err}
}

// proxyOf is the transport's Proxy. The request it is asked with is made up and
// lacks the port, so the origin's own answer is taken.
func proxyOf(r *http.Request) (*url.URL, error) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		return c.o.proxy, nil
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
}

func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if !w.ending.Load() {
		w.written.Add(int64(n))
	}
	return n, err
}

func (w *wire) Read(b []byte) (int, error) {
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

// changed is the state hook. All it is needed for is a connection that closes
// while no call owns it; the end of a call is seen by the call.
func (c *conn) changed(cc *http.ClientConn) {
	if err := cc.Err(); err != nil {
		c.o.peerClosed(c, err)
	}
}

// A body brings its connection back when the answer has been read to its end.
type body struct {
	io.ReadCloser
	c    *conn
	ctx  context.Context
	over atomic.Bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && b.over.CompareAndSwap(false, true) {
		b.c.o.ended(b.c, err == io.EOF, b.ctx.Err() != nil)
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	if b.over.CompareAndSwap(false, true) {
		b.c.o.ended(b.c, false, true)
	}
	return err
}
