package host

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
)

// A link makes the connections of gRPC to one plugin and knows whether the
// newest of them is whole. gRPC gives a call the same status, UNAVAILABLE or
// CANCELLED, when the plugin is gone and when a plugin that lives has answered
// with just that; only who reads from the connection can tell one from the
// other. It is safe for concurrent use.
type link struct {
	network, address string
	admit            func(net.Conn) error // says who else listens there than the plugin; nil for an address

	mu   sync.Mutex
	open net.Conn // the newest connection; nil when it has ended, or was never made
	ends int64    // connections that have ended, and those that could not be made
}

// dial makes a connection, for gRPC. Its target says nothing that is not known.
func (l *link) dial(ctx context.Context, _ string) (net.Conn, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, l.network, l.address)
	if err == nil && l.admit != nil {
		if err = l.admit(raw); err != nil {
			raw.Close()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.ends++
		l.open = nil
		return nil, err
	}
	c := &linked{Conn: raw, link: l}
	l.open = c
	return c, nil
}

// ended returns how many connections have ended so far.
func (l *link) ended() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ends
}

// broken says whether there is no connection, or whether one has ended since
// that many had.
func (l *link) broken(since int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open == nil || l.ends != since
}

// A linked connection tells its link when it ends. gRPC hears of it later, and
// the calls in it later still.
type linked struct {
	net.Conn
	link *link
	once sync.Once
}

func (c *linked) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.look(err)
	return n, err
}

func (c *linked) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.look(err)
	return n, err
}

func (c *linked) Close() error {
	c.end()
	return c.Conn.Close()
}

func (c *linked) look(err error) {
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.end()
	}
}

func (c *linked) end() {
	c.once.Do(func() {
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		c.link.ends++
		if c.link.open == net.Conn(c) {
			c.link.open = nil
		}
	})
}
