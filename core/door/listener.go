package door

import (
	"errors"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// A listener takes what has connected before it closes. Closing a socket resets
// the connections that the kernel has set up and nobody has accepted yet, and
// their clients may have sent a call by then.
type listener struct {
	*net.TCPListener
	came   func()       // told of each connection
	room   func()       // makes room for one; set before the first is accepted
	owed   atomic.Int64 // connections that may bring a call, or are owed the answer to one
	ending atomic.Bool
	ended  chan struct{} // closed when nothing more is accepted
}

// Bounds of the end of a listener: it is over when nobody has connected for as
// long as backlogQuiet, and at the latest after backlogMost.
const (
	backlogQuiet = 2 * time.Millisecond
	backlogMost  = time.Second
)

func listen(addr string, came func()) (*listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &listener{TCPListener: l.(*net.TCPListener), came: came, ended: make(chan struct{})}, nil
}

// Accept is called by one goroutine.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.TCPListener.Accept()
	if l.ending.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		l.SetDeadline(time.Now().Add(backlogQuiet))
		if conn, err = l.TCPListener.Accept(); err != nil {
			l.TCPListener.Close()
			close(l.ended)
			return nil, net.ErrClosed
		}
		l.SetDeadline(time.Now()) // so that the next one comes here too
	}
	if err != nil {
		if l.room != nil && (errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)) {
			l.room() // net/http logs it, and accepts again in a moment
		}
		return nil, err
	}
	l.came()
	l.owed.Add(1)
	c := &accepted{TCPConn: conn.(*net.TCPConn)}
	c.owed.Store(true)
	return c, nil
}

// An accepted connection knows whether its client is owed something: from when it
// was accepted until its first call is answered, and during every later one.
type accepted struct {
	*net.TCPConn
	owed atomic.Bool
}

// became is told by net/http what has become of a connection of l.
func (l *listener) became(conn net.Conn, state http.ConnState) {
	c, ours := conn.(*accepted)
	if !ours {
		return
	}
	owed := state == http.StateNew || state == http.StateActive
	switch was := c.owed.Swap(owed); {
	case owed && !was:
		l.owed.Add(1)
	case was && !owed:
		l.owed.Add(-1)
		if l.ending.Load() {
			l.came()
		}
	}
}

// end makes Accept return what waits to be accepted and then net.ErrClosed, and
// waits for that. Something accepts meanwhile. Nobody connects any more where deafen
// works; elsewhere those are bounded who do.
func (l *listener) end() {
	deafen(l.TCPListener)
	l.ending.Store(true)
	l.SetDeadline(time.Now())
	timer := time.NewTimer(backlogMost)
	defer timer.Stop()
	select {
	case <-l.ended:
	case <-timer.C:
	}
}
