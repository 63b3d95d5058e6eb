package pool

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync/atomic"
	"time"
)

// What is particular to connections that carry many calls at once, which are
// those of HTTP/2. An idle one is on the stack like any other. Its first call
// takes it from there to origin.shared, where others join, and the last brings it
// back.
//
// How many calls one can carry is the server's to say, and is asked each time.
// Nothing is reserved: net/http counts reservations against a maximum that the
// server may lower when they were made, and then none of them would ever be used.

// silence is how long a call that ran into its deadline must have waited without
// a byte from its connection, for that to be taken as dead.
const silence = time.Second

// exchange sends req. begun says that the first bytes of it were handed on to be
// written, with success or without.
func (c *conn) exchange(req *http.Request) (res *http.Response, begun bool, err error) {
	ctx := req.Context()
	var wrote atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }}
	res, err = c.cc.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil && err == ctx.Err() {
		err = context.Cause(ctx) // as HTTP/1.1 has it
	}
	return res, wrote.Load(), err
}

// departed reports whether c, which is open, takes no call although it has none:
// its server has sent a GOAWAY, or allows none. The second look is for a call
// that begins meanwhile and fills it.
func (c *conn) departed() bool {
	return c.cc.InFlight() == 0 && c.cc.Available() == 0 && c.cc.InFlight() == 0
}

// roomy reports whether c, which has a call, can carry another.
func (c *conn) roomy() bool {
	if !c.multi || c.broken {
		return false
	}
	free := c.cc.Available()
	most := free + c.cc.InFlight()
	if c.streams == 0 && c.o.streams > 0 {
		// What it says itself may be on its way.
		most = min(most, c.o.streams)
	}
	return free > 0 && c.calls < most
}

// vacant is how many connections can carry another call. One that is retiring
// counts until it left.
func (o *origin) vacant() int {
	if len(o.shared) == 0 {
		return len(o.stack)
	}
	return len(o.stack) + o.roomier()
}

func (o *origin) roomier() int {
	n := 0
	for _, c := range o.shared {
		if c.retiring || c.roomy() {
			n++
		}
	}
	return n
}

// share lets a call join the connection that has the fewest, if one has room.
// Those who wait go first.
func (o *origin) share(since uint64, now time.Time) (t call, ok bool) {
	for c := o.least(since); c != nil; c = o.least(since) {
		o.serve(c, now)
		if c.roomy() {
			t, ok = o.join(c), true
			break
		}
	}
	if ok && o.short() > 0 && o.room() > 0 {
		o.nudge()
	}
	return t, ok
}

func (o *origin) least(since uint64) *conn {
	var best *conn
	for _, c := range o.shared {
		if c.serial > since && (best == nil || c.calls < best.calls) && c.roomy() {
			best = c
		}
	}
	return best
}

func (o *origin) join(c *conn) call {
	c.calls++
	return call{c, o.seq, c.idle && c.wire.read.Load() == c.heard, c.told}
}

// parted ends the use of c by a call whose answer has begun.
func (o *origin) parted(c *conn, cancelled bool) {
	o.mu.Lock()
	c.told = true
	// Behind an answer the server's settings are known.
	if free := c.cc.Available(); free > 0 && c.current() {
		if n := free + c.cc.InFlight(); c.streams == 0 || n < c.streams {
			c.streams = n
		}
		o.streams = c.streams
	}
	o.mu.Unlock()
	if c.spent() {
		o.lost(c, cancelled, false, false)
	} else {
		o.kept(c, true, cancelled, false)
	}
}

// kept is put for a call that may have failed, on a connection that did not.
func (o *origin) kept(c *conn, carried, cancelled, resent bool) {
	o.mu.Lock()
	o.count(cancelled, resent)
	o.mu.Unlock()
	o.put(c, carried)
}

// refused notes that the server did not take a call on c. The connections after
// it are not given as many before they have said what they carry.
func (o *origin) refused(c *conn) {
	o.mu.Lock()
	c.told = true
	if n := max(1, c.cc.InFlight()); c.current() && (o.streams == 0 || n < o.streams) {
		o.streams = n
	}
	o.mu.Unlock()
}

// leave gives c, which has calls, to no more. It is out of the maximum and is
// closed after the last of them.
func (o *origin) leave(c *conn) {
	if c.phase != busy {
		return
	}
	o.unshare(c)
	c.phase, c.broken = leaving, true
	o.open--
	o.leaving++
	o.nudge()
}

// unshare removes c from the shared ones, if it is one.
func (o *origin) unshare(c *conn) {
	i := slices.Index(o.shared, c)
	if i < 0 {
		return
	}
	o.shared = slices.Delete(o.shared, i, i+1)
	if c.retiring {
		c.retiring = false
		o.retiring--
	}
}

// roomMade is told that a call on c has ended for the server, too, or that it
// allows more.
func (o *origin) roomMade(c *conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.phase == busy && c.calls > 0 {
		o.serve(c, time.Now())
	}
}

// look finds out whether the server wants to be rid of c.
func (c *conn) look() {
	if c.cc.Available() > 0 {
		return
	}
	o := c.o
	o.mu.Lock()
	away := c.departed()
	if c.calls > 0 {
		// It is full or has been sent away. It is not full with fewer than it was
		// seen to carry.
		if away || c.cc.InFlight() < c.streams && c.cc.Available() == 0 {
			o.leave(c)
		}
		away = false
	}
	o.mu.Unlock()
	if away {
		c.cc.Close() // the state hook sees to the rest
	}
}
