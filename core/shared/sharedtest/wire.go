package sharedtest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// A Wire is a TCP address in front of a Redis, which can be made slow, or pass nothing. Each
// side finds what it lost when the wire is whole again, as over a network that was down: what
// was sent meanwhile arrives late.
type Wire struct {
	URL  string // redis://HOST:PORT
	Addr string // HOST:PORT

	mu    sync.Mutex
	slow  time.Duration // each way
	whole chan struct{} // is closed while the wire is
}

// Wire returns a new one to r, on a port of this machine.
func (r *Redis) Wire() *Wire {
	t := r.t
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return wire(t, ln, "unix", r.socket)
}

func wire(t testing.TB, ln net.Listener, network, address string) *Wire {
	w := &Wire{Addr: ln.Addr().String(), URL: "redis://" + ln.Addr().String(), whole: make(chan struct{})}
	close(w.whole)
	ended := make(chan struct{})
	var running sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{} // nil once it has ended
	keep := func(c net.Conn) bool {
		mu.Lock()
		defer mu.Unlock()
		if open == nil {
			c.Close()
			return false
		}
		open[c] = true
		return true
	}
	drop := func(c net.Conn) {
		c.Close()
		mu.Lock()
		defer mu.Unlock()
		delete(open, c)
	}
	t.Cleanup(func() {
		close(ended)
		ln.Close()
		mu.Lock()
		all := open
		open = nil
		mu.Unlock()
		for c := range all {
			c.Close()
		}
		running.Wait()
	})
	// passes waits until the wire passes what has come, and says whether it does.
	passes := func() bool {
		w.mu.Lock()
		slow, whole := w.slow, w.whole
		w.mu.Unlock()
		if slow > 0 {
			select {
			case <-time.After(slow):
			case <-ended:
			}
		}
		select {
		case <-whole:
			return true
		case <-ended:
			return false
		}
	}
	pass := func(to, from net.Conn) {
		defer drop(to)
		defer drop(from)
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			// What has broken off is not heard of either while nothing passes.
			if !passes() || err != nil {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	running.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			if !keep(in) {
				return
			}
			running.Go(func() {
				if !passes() {
					drop(in)
					return
				}
				out, err := net.Dial(network, address)
				if err != nil || !keep(out) {
					drop(in)
					return
				}
				running.Go(func() { pass(out, in) })
				pass(in, out)
			})
		}
	})
	return w
}

// Slow has everything take d longer, each way.
func (w *Wire) Slow(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slow = d
}

// Cut has nothing pass, until Join.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.whole:
		w.whole = make(chan struct{})
	default:
	}
}

// Join lets everything pass again.
func (w *Wire) Join() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.whole:
	default:
		close(w.whole)
	}
}
