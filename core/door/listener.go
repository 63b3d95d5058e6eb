package door

import (
	"errors"
	"fmt"
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
	handed bool         // somebody else holds the socket too, and what waits in it is for the next process
	ending atomic.Bool
	ended  chan struct{} // closed when nothing more is accepted
}

// Bounds of the end of a listener: it is over when nobody has connected for as
// long as backlogQuiet, and at the latest after backlogMost.
const (
	backlogQuiet = 2 * time.Millisecond
	backlogMost  = time.Second
)

// listen listens on addr, or on the socket that was handed over, unless it is nil.
func listen(addr string, handed *os.File, came func()) (*listener, error) {
	open := func() (net.Listener, error) { return net.Listen("tcp", addr) }
	if handed != nil {
		open = func() (net.Listener, error) { return net.FileListener(handed) }
	}
	l, err := open()
	if err != nil {
		return nil, err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("%s is no TCP socket", l.Addr().Network())
	}
	return &listener{TCPListener: tcp, came: came, handed: handed != nil, ended: make(chan struct{})}, nil
}

// Accept is called by one goroutine.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.TCPListener.Accept()
	if l.ending.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		l.SetDeadline(time.Now().Add(backlogQuiet))
		if !l.handed {
			conn, err = l.TCPListener.Accept()
		}
		if err != nil {
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
// works; elsewhere those are bounded who do. Of a socket that was handed over nothing
// more is accepted: it stays open, and who waits in it is answered by the next process.
func (l *listener) end() {
	if !l.handed {
		deafen(l.TCPListener)
	}
	l.ending.Store(true)
	l.SetDeadline(time.Now())
	timer := time.NewTimer(backlogMost)
	defer timer.Stop()
	select {
	case <-l.ended:
	case <-timer.C:
	}
}
