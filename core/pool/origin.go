package pool

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

var errGone = errors.New("the origin was let go")

// An origin holds the connections to one scheme, host and port. Its keeper alone
// dials, retires and refuses; calls take, put back and nudge the keeper when
// there is something to do.
type origin struct {
	pool *Pool
	key  key
	name string
	wake chan struct{}

	handshakes, resumptions atomic.Int64

	// mu is never held round a call into a connection that may run the state
	// hook, which takes it. Err, Available and InFlight run none.
	mu    sync.Mutex
	route // of the connections that are dialled now
	// seq numbers waiters and connections in the order in which they came.
	seq      uint64
	stack    []*conn // ready ones, the latest on top
	shared   []*conn // busy ones that may carry more calls
	retiring int     // how many of stack and shared are
	open     int     // ready and busy
	leaving  int     // in that state, or in use on former terms, beside open
	closing  []*conn // that the keeper is to close
	multi    bool    // a connection carries many calls, as far as is known
	streams  int     // how many at most, as far as is known; 0 before an answer
	warned   bool    // of a server that does not speak HTTP/2
	probes   [2]*conn
	limits   [2]limit // of connections never used, and used
	dialling int
	stale    int       // dials on former terms, beside dialling
	waiting  list.List // of *waiter
	newest   uint64    // seq of the latest waiter
	held     int       // by Warm
	lastUsed time.Time
	armed    time.Time // when the keeper wakes by itself
	shut     bool      // the pool is closed
	gone     bool      // let go

	failures int   // dials that failed since the last that did not
	early    int   // connections closed at once since the last that was not; failures, too
	lastErr  error // of the last failed dial
	failedAt time.Time
	pause    time.Duration
	failedTo uint64 // seq when it failed: who waited then has had its chance

	dials, dialFailures, resends, waits, cold, cancelled, spent, retired int64
}

// A limit is how long the server keeps a connection that idles.
type limit struct {
	after time.Duration // 0 when not known
	sure  bool          // a probe found it
	odd   time.Duration // idle time at a close that nothing has borne out yet; 0 for none
}

// kind is the index of probes and limits.
func (c *conn) kind() int {
	if c.used {
		return 1
	}
	return 0
}

// A waiter is a call without a connection.
type waiter struct {
	since uint64 // a connection must be younger than this; 0 for any
	seq   uint64
	place *list.Element // nil once it was given something
	got   chan grant    // of one
}

type grant struct {
	call
	err error
}

// OriginStats says how one origin does.
type OriginStats struct {
	Origin string // scheme, host, and port where it is not the usual one

	Open     int // connections there are
	Ready    int // of them, idle
	InUse    int // of them, with a call, or with many where they speak HTTP/2
	Dialling int // on their way
	Probing  int // kept aside, to see how long the server keeps them
	Waiting  int // calls waiting for a connection

	Dials        int64 // connections tried
	DialFailures int64 // of them, without success
	Handshakes   int64 // TLS handshakes, those with a proxy included
	Resumptions  int64 // of them, that resumed a session
	Resends      int64 // requests sent again
	Waits        int64 // calls that waited because the maximum was open
	Cold         int64 // calls that waited though it was not; in direct mode every call
	Cancelled    int64 // calls given up before the end of their answer; with HTTP/1.1 each that was sent cost its connection

	Spent   int64 // connections that ended with a whole answer
	Retired int64 // idle connections that were closed for their age, for idling, or by a reload

	// How long the server keeps an idle connection that never carried a
	// request, and one that did; 0 when not learned.
	IdleLimitNew, IdleLimitUsed time.Duration
}

// newOrigin returns one on the terms in force; p.mu is held.
func newOrigin(p *Pool, k key) *origin {
	r := newRoute(p.terms, k)
	return &origin{pool: p, key: k, name: k.name(), route: r, multi: r.many(), wake: make(chan struct{}, 1), lastUsed: time.Now()}
}

// take returns a connection for a call, waiting for one when it has to. again
// says that the call has had one before. errGone means that the origin must be
// looked up again, errMoved that the terms changed meanwhile.
func (o *origin) take(ctx context.Context, since uint64, again bool) (call, error) {
	now := time.Now()
	o.mu.Lock()
	if err := o.usable(); err != nil {
		o.mu.Unlock()
		return call{}, err
	}
	o.lastUsed = now
	if o.terms.cfg.Mode == Direct {
		if !again {
			o.cold++
		}
		o.dials++
		o.dialling++
		r := o.route
		o.mu.Unlock()
		return o.takeDirect(ctx, r)
	}
	for i := len(o.stack) - 1; i >= 0; i-- {
		if c := o.stack[i]; c.serial > since {
			o.unstack(i)
			t := o.begin(c, now, true)
			if o.short() > 0 && o.room() > 0 {
				o.nudge()
			}
			o.mu.Unlock()
			return t, nil
		}
	}
	if len(o.shared) > 0 {
		if t, ok := o.share(since, now); ok {
			o.mu.Unlock()
			return t, nil
		}
	}
	o.seq++
	w := &waiter{since: since, seq: o.seq, got: make(chan grant, 1)}
	o.newest = o.seq
	switch {
	case again:
		// It keeps its place. When it waits for a younger connection, the one
		// that it lost left room for that.
		w.place = o.waiting.PushFront(w)
	case o.open < o.terms.cfg.MaxConnections:
		o.cold++
		w.place = o.waiting.PushBack(w)
	default:
		o.waits++
		w.place = o.waiting.PushBack(w)
	}
	o.nudge()
	o.mu.Unlock()

	select {
	case g := <-w.got:
		return g.call, g.err
	case <-ctx.Done():
	}
	o.mu.Lock()
	if w.place != nil {
		o.waiting.Remove(w.place)
		w.place = nil
		o.mu.Unlock()
	} else {
		o.mu.Unlock()
		if g := <-w.got; g.c != nil {
			o.put(g.c, false)
		}
	}
	return call{}, &CallError{Origin: o.name, Err: fmt.Errorf("waiting for a connection: %w", context.Cause(ctx))}
}

// takeDirect dials on the caller's time.
func (o *origin) takeDirect(ctx context.Context, r route) (call, error) {
	c, err := o.pool.connect(ctx, o, r)
	now := time.Now()
	o.mu.Lock()
	if o.dialled(r) {
		o.mu.Unlock()
		if c != nil {
			c.cc.Close()
		}
		return call{}, errMoved
	}
	defer o.mu.Unlock()
	if err != nil {
		o.dialFailures++
		return call{}, err
	}
	o.admit(c, now)
	c.since = now
	return o.begin(c, now, false), nil
}

// dialled ends a dial on r. It reports whether another way is in force, so that
// what came of it is not to be used.
func (o *origin) dialled(r route) (stale bool) {
	if r.terms.way != o.terms.way {
		o.stale--
		o.nudge()
		return true
	}
	o.dialling--
	return false
}

// admit counts c in, which was dialled.
func (o *origin) admit(c *conn, now time.Time) {
	o.open++
	o.seq++
	c.opened, c.serial = now, o.seq
	o.multi = c.multi
	if !c.multi && c.many() && !o.warned {
		o.warned = true
		o.pool.log.Warn("the server does not speak HTTP/2 (pool.protocol), so it is called with HTTP/1.1", zap.String("origin", o.name))
	}
}

// begin hands c to a call, the only one on it.
func (o *origin) begin(c *conn, now time.Time, idle bool) call {
	c.phase, c.taken, c.calls = busy, now, 1
	if c.multi {
		c.idle, c.heard = idle, c.wire.read.Load()
		o.shared = append(o.shared, c)
	}
	return call{c, o.seq, idle, c.told}
}

// ended ends the use of c by a call. whole says that the answer was read to its
// end, gaveUp that the caller wanted no more of it.
func (o *origin) ended(c *conn, whole, gaveUp bool) {
	switch {
	case c.multi:
		o.parted(c, !whole && gaveUp)
	case whole && !c.spent():
		o.put(c, true)
	default:
		if whole && c.terms.cfg.Mode == Pooled {
			o.mu.Lock()
			o.spent++
			o.mu.Unlock()
		}
		o.lost(c, !whole && gaveUp, false, false)
	}
}

// put brings c back; carried says that it has carried a request since.
func (o *origin) put(c *conn, carried bool) {
	now := time.Now()
	o.mu.Lock()
	since := c.since
	if carried {
		if c.current() {
			o.served(c.kind(), c.taken.Sub(since))
			o.proven()
		}
		c.used, since = true, now
	}
	if c.calls--; c.calls > 0 {
		c.since = since
		o.serve(c, now)
		o.mu.Unlock()
		return
	}
	if o.shut || c.broken || !c.current() || o.terms.cfg.Mode == Direct || o.surplus() {
		o.drop(c)
		o.mu.Unlock()
		c.cc.Close()
		return
	}
	if c.multi {
		o.unshare(c)
	}
	if o.place(c, since, now) && (o.open > o.terms.cfg.MaxConnections || o.due(c, now).Before(o.armed)) {
		o.nudge()
	}
	o.mu.Unlock()
}

// count notes how a call ended.
func (o *origin) count(cancelled, resent bool) {
	if cancelled {
		o.cancelled++
	}
	if resent {
		o.resends++
	}
}

// lost ends the use by a call of a connection that can carry no more. cancelled
// says that its caller gave up, idled that the peer closed it for having been
// idle, resent that the request will be sent again.
func (o *origin) lost(c *conn, cancelled, idled, resent bool) {
	o.mu.Lock()
	o.count(cancelled, resent)
	if idled && c.current() {
		o.learn(c.kind(), c.taken.Sub(c.since), false)
	}
	if c.calls--; c.calls > 0 {
		o.leave(c)
		o.mu.Unlock()
		return
	}
	o.drop(c)
	o.mu.Unlock()
	c.cc.Close()
}

// peerClosed is told of every connection that closes, by whomever.
func (o *origin) peerClosed(c *conn, err error) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	idle := now.Sub(c.since)
	switch c.phase {
	case busy:
		c.broken = true
		if c.multi && c.calls > 0 {
			o.leave(c)
		}
	case ready:
		o.unstack(slices.Index(o.stack, c))
		o.drop(c)
		if idle < minLimit && !c.used {
			o.early++
			o.fail(fmt.Errorf("%w: %w", errRefuse, err), now, o.early)
		} else {
			o.proven()
			o.learn(c.kind(), idle, false)
		}
	case probe:
		c.phase = closed
		o.probes[c.kind()] = nil
		o.learn(c.kind(), idle, true)
		o.nudge()
	}
}

// place gives c, which idles since then, to who waits for it, else puts it on
// the stack and says so.
func (o *origin) place(c *conn, since, now time.Time) bool {
	c.since = since
	if o.waiting.Len() > 0 {
		o.serve(c, now)
		if c.calls > 0 {
			return false
		}
	}
	c.phase = ready
	o.stack = append(o.stack, c)
	return true
}

// serve gives c to those who wait for it, as many as it can carry.
func (o *origin) serve(c *conn, now time.Time) {
	var next *list.Element
	for e := o.waiting.Front(); e != nil; e = next {
		next = e.Next()
		w := e.Value.(*waiter)
		switch {
		case c.serial <= w.since:
		case c.calls == 0:
			o.answer(w, grant{call: o.begin(c, now, c.used)})
		case c.roomy():
			o.answer(w, grant{call: o.join(c)})
		default:
			return
		}
	}
}

func (o *origin) answer(w *waiter, g grant) {
	o.waiting.Remove(w.place)
	w.place = nil
	w.got <- g
}

// unstack removes the i-th from the stack.
func (o *origin) unstack(i int) {
	if o.stack[i].retiring {
		o.stack[i].retiring = false
		o.retiring--
	}
	o.stack = slices.Delete(o.stack, i, i+1)
}

// drop forgets c, which is off the stack; the caller closes it.
func (o *origin) drop(c *conn) {
	if c.phase == leaving || !c.current() {
		o.leaving--
	} else {
		o.open--
		o.unshare(c)
	}
	c.phase = closed
	o.nudge()
}

// hold changes the number of holders; it fails when the origin was let go.
func (o *origin) hold(n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone {
		return false
	}
	o.held += n
	o.lastUsed = time.Now()
	o.nudge()
	return true
}

func (o *origin) usable() error {
	switch {
	case o.shut:
		return &CallError{Origin: o.name, Err: ErrClosed}
	case o.gone:
		return errGone
	}
	return nil
}

// nudge makes the keeper look.
func (o *origin) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *origin) stats() OriginStats {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	return OriginStats{
		Origin: o.name,
		Open:   o.open + o.leaving + o.probing(), Ready: len(o.stack), InUse: o.open + o.leaving - len(o.stack),
		Dialling: o.dialling + o.stale, Probing: o.probing(), Waiting: o.waiting.Len(),
		Dials: o.dials, DialFailures: o.dialFailures,
		Handshakes: o.handshakes.Load(), Resumptions: o.resumptions.Load(),
		Resends: o.resends, Waits: o.waits, Cold: o.cold, Cancelled: o.cancelled, Spent: o.spent, Retired: o.retired,
		IdleLimitNew: o.limitAt(0, now), IdleLimitUsed: o.limitAt(1, now),
	}
}
