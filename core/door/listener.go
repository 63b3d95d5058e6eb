package door

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// A listener takes what has connected before it closes. Closing a socket resets
// the connections that the kernel has set up and nobody has accepted yet, and
// their clients may have sent a call by then.
type listener struct {
	*net.TCPListener
	came   func() // told of each connection
	ending atomic.Bool
	ended  chan struct{} // closed when nothing more is accepted
}

// Bounds of the end of a listener: it is over when nobody has connected for as
// long as backlogQuiet, and at the latest after backlogMost.
const (
	backlogQuiet = 2 * time.Millisecond
	backlogMost  = 200 * time.Millisecond
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
	if err == nil {
		l.came()
	}
	return conn, err
}

// end makes Accept return what waits to be accepted and then net.ErrClosed, and
// waits for that. Something accepts meanwhile.
func (l *listener) end() {
	l.ending.Store(true)
	l.SetDeadline(time.Now())
	timer := time.NewTimer(backlogMost)
	defer timer.Stop()
	select {
	case <-l.ended:
	case <-timer.C:
	}
}
