package pool

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// minLimit is the shortest idle time that is taken for a server's limit. A
	// connection that is closed sooner was refused rather than forgotten.
	minLimit = 50 * time.Millisecond
	// firstPause and maxPause bound the wait after a failed dial; it doubles.
	firstPause, maxPause = 100 * time.Millisecond, 10 * time.Second
	// callerPause is that wait when somebody new waits for the outcome.
	callerPause = 25 * time.Millisecond
	// keepOrigin is how long an origin without holder or connection is
	// remembered.
	keepOrigin = 10 * time.Minute
)

var (
	errGone   = errors.New("the origin was let go")
	errRefuse = errors.New("the server closes new connections at once")
)

// An origin holds the connections to one scheme, host and port. Its keeper alone
// dials, retires and refuses; calls take, put back and nudge the keeper when
// there is something to do.
type origin struct {
	pool  *Pool
	key   key
	name  string
	proxy *url.URL
	trace *httptrace.ClientTrace
	wake  chan struct{}

	handshakes, resumptions atomic.Int64

	// mu is never held round a call into a connection: the state hook takes it.
	mu sync.Mutex
	// seq numbers waiters and connections in the order in which they came.
	seq      uint64
	stack    []*conn // ready ones, the latest on top
	retiring int     // how many of them are
	open     int     // ready and busy
	probes   [2]*conn
	limits   [2]limit // of connections never used, and used
	dialling int
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

	dials, dialFailures, resends, waits, cold, cancelled int64
}

// A limit is how long the server keeps a connection that idles.
type limit struct {
	after time.Duration // 0 when not known
	sure  bool          // a probe found it
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
	c   *conn
	err error
}

// OriginStats says how one origin does.
type OriginStats struct {
	Origin string // scheme, host, and port where it is not the usual one

	Open     int // connections there are
	Ready    int // of them, waiting for a call
	InUse    int // of them, owned by a call
	Dialling int // on their way
	Waiting  int // calls waiting for a connection

	Dials        int64 // connections tried
	DialFailures int64 // of them, without success
	Handshakes   int64 // TLS handshakes, those with a proxy included
	Resumptions  int64 // of them, that resumed a session
	Resends      int64 // requests sent again
	Waits        int64 // calls that waited because the maximum was open
	Cold         int64 // calls that waited though it was not; in direct mode every call
	Cancelled    int64 // calls given up before the end of their answer; each cost its connection

	// How long the server keeps an idle connection that never carried a
	// request, and one that did; 0 when not learned.
	IdleLimitNew, IdleLimitUsed time.Duration
}

func newOrigin(p *Pool, k key, proxy *url.URL) *origin {
	o := &origin{pool: p, key: k, name: k.name(), proxy: proxy, wake: make(chan struct{}, 1), lastUsed: time.Now()}
	o.trace = &httptrace.ClientTrace{TLSHandshakeDone: func(s tls.ConnectionState, err error) {
		if err == nil {
			o.handshakes.Add(1)
			if s.DidResume {
				o.resumptions.Add(1)
			}
		}
	}}
	return o
}

// take returns a connection that the caller owns, waiting for one when it has
// to. errGone means that the origin must be looked up again.
func (o *origin) take(ctx context.Context, since uint64) (*conn, error) {
	now := time.Now()
	o.mu.Lock()
	if err := o.usable(); err != nil {
		o.mu.Unlock()
		return nil, err
	}
	o.lastUsed = now
	if o.pool.cfg.Mode == Direct {
		o.cold++
		o.dials++
		o.dialling++
		o.mu.Unlock()
		return o.takeDirect(ctx)
	}
	for i := len(o.stack) - 1; i >= 0; i-- {
		if c := o.stack[i]; c.serial > since {
			o.unstack(i)
			o.begin(c, now, true)
			if o.short() > 0 && o.room() > 0 {
				o.nudge()
			}
			o.mu.Unlock()
			return c, nil
		}
	}
	o.seq++
	w := &waiter{since: since, seq: o.seq, got: make(chan grant, 1)}
	o.newest = o.seq
	switch {
	case since > 0:
		// It has been sent before and keeps its place. The connection that it
		// lost left room for the one it waits for.
		w.place = o.waiting.PushFront(w)
	case o.open < o.pool.cfg.MaxConnections:
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
		return g.c, g.err
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
	return nil, &CallError{Origin: o.name, Err: fmt.Errorf("waiting for a connection: %w", context.Cause(ctx))}
}

// takeDirect dials on the caller's time.
func (o *origin) takeDirect(ctx context.Context) (*conn, error) {
	c, err := o.pool.connect(ctx, o)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dialling--
	if err != nil {
		o.dialFailures++
		return nil, err
	}
	o.open++
	o.seq++
	c.opened, c.serial = time.Now(), o.seq
	c.since = c.opened
	o.begin(c, c.opened, false)
	return c, nil
}

// begin hands c to a call.
func (o *origin) begin(c *conn, now time.Time, idle bool) {
	c.state, c.taken, c.takenSeq, c.idle = busy, now, o.seq, idle
}

// ended ends the use of c by a call. whole says that the answer was read to its
// end, gaveUp that the caller wanted no more of it.
func (o *origin) ended(c *conn, whole, gaveUp bool) {
	if whole && c.cc.Available() > 0 {
		o.put(c, true)
		return
	}
	o.lost(c, !whole && gaveUp, false, false)
}

// put brings c back; carried says that it has carried a request since.
func (o *origin) put(c *conn, carried bool) {
	now := time.Now()
	o.mu.Lock()
	since := c.since
	if carried {
		c.used, since = true, now
		o.proven()
	}
	if o.shut || c.broken || o.pool.cfg.Mode == Direct {
		o.drop(c)
		o.mu.Unlock()
		c.cc.Close()
		return
	}
	if o.place(c, since, now) && (o.open > o.pool.cfg.MaxConnections || o.due(c, now).Before(o.armed)) {
		o.nudge()
	}
	o.mu.Unlock()
}

// lost ends a connection that can serve no more. cancelled says that its caller
// gave up, idled that the peer closed it for having been idle, resent that the
// request will be sent again.
func (o *origin) lost(c *conn, cancelled, idled, resent bool) {
	o.mu.Lock()
	if cancelled {
		o.cancelled++
	}
	if resent {
		o.resends++
	}
	if idled {
		o.learn(c.kind(), c.taken.Sub(c.since), false)
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
	switch c.state {
	case busy:
		c.broken = true
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
		c.state = closed
		o.probes[c.kind()] = nil
		o.learn(c.kind(), idle, true)
		o.nudge()
	}
}

// place gives c, which idles since then, to who waits for it, else puts it on
// the stack and says so.
func (o *origin) place(c *conn, since, now time.Time) bool {
	c.since = since
	for e := o.waiting.Front(); e != nil; e = e.Next() {
		w := e.Value.(*waiter)
		if c.serial > w.since {
			o.begin(c, now, c.used)
			o.answer(w, grant{c: c})
			return false
		}
	}
	c.state = ready
	o.stack = append(o.stack, c)
	return true
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
	c.state = closed
	o.open--
	o.nudge()
}

// learn takes in that the server closed a connection after it had idled so
// long.
func (o *origin) learn(kind int, idle time.Duration, probed bool) {
	if idle < minLimit {
		return
	}
	l := o.limits[kind]
	switch {
	case probed:
		l = limit{idle, true}
	case l.after == 0 || idle < l.after*9/10:
		l = limit{idle, false}
	case idle < l.after:
		l.after = idle
	}
	if l != o.limits[kind] {
		o.limits[kind] = l
		o.pool.log.Debug("learned how long the server keeps idle connections",
			zap.String("origin", o.name), zap.Bool("used", kind == 1), zap.Duration("limit", l.after), zap.Bool("certain", l.sure))
	}
	o.nudge()
}

// limitAt returns how long the server keeps idle connections of a kind, as far
// as is known; 0 when it is not. A living probe shows that it is its age at
// least.
func (o *origin) limitAt(kind int, now time.Time) time.Duration {
	after := o.limits[kind].after
	if c := o.probes[kind]; c != nil {
		after = max(after, now.Sub(c.since))
	}
	return after
}

// due returns when c, on the stack, is to be replaced.
func (o *origin) due(c *conn, now time.Time) time.Time {
	stay := o.pool.cfg.IdleTimeout
	if l := o.limitAt(c.kind(), now); l > 0 {
		stay = min(stay, l*8/10)
	}
	idle := c.since.Add(shorter(stay, c.stagger))
	age := c.opened.Add(shorter(o.pool.cfg.MaxAge, c.stagger))
	if age.Before(idle) {
		return age
	}
	return idle
}

func shorter(d time.Duration, by float64) time.Duration { return d - time.Duration(float64(d)*by) }

// target is how many connections are to be ready.
func (o *origin) target() int {
	if o.held > 0 && o.pool.cfg.Mode == Pooled {
		return o.pool.cfg.WarmConnections
	}
	return 0
}

// short is how many more connections are wanted than are on their way.
func (o *origin) short() int {
	return o.waiting.Len() + max(0, o.target()-len(o.stack)+o.retiring) - o.dialling
}

// room is how many more may be dialled: up to the maximum, and one more while
// one on the stack waits for its replacement.
func (o *origin) room() int {
	room := o.pool.cfg.MaxConnections - o.open - o.dialling
	if room == 0 && o.retiring > 0 {
		return 1
	}
	return room
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

// keep is the keeper: it tends the origin whenever something changed or is due.
func (o *origin) keep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-o.wake:
		case <-timer.C:
		case <-o.pool.ctx.Done():
			o.close()
			return
		}
		now := time.Now()
		o.mu.Lock()
		closing, next := o.tend(now)
		o.armed = now.Add(next)
		gone := o.gone
		o.mu.Unlock()
		for _, c := range closing {
			c.cc.Close()
		}
		if gone {
			o.pool.forget(o)
			return
		}
		timer.Reset(next)
	}
}

// tend does what is to be done now. It returns the connections to close and how
// long until it has to look again.
func (o *origin) tend(now time.Time) (closing []*conn, next time.Duration) {
	next = keepOrigin
	later := func(at time.Time) { next = min(next, max(0, at.Sub(now))) }

	// Who waited while the last dial failed is told, unless a connection in use
	// may come back to it.
	if o.failures > 0 && o.dialling == 0 {
		o.refuse(o.failedTo, &DialError{Origin: o.name, Err: o.lastErr})
	}

	for kind, c := range o.probes {
		if c == nil {
			continue
		}
		if end := c.since.Add(o.pool.cfg.IdleTimeout); end.After(now) {
			later(end)
		} else {
			// The server keeps them longer than we do.
			o.limits[kind] = limit{0, true}
			closing = append(closing, o.endProbe(kind))
		}
	}

	// From the oldest up: what is due goes, or stays until it is replaced.
	for i := 0; i < len(o.stack); {
		c := o.stack[i]
		due := o.due(c, now)
		switch {
		case due.After(now):
			if c.retiring { // the limit turned out to be longer
				c.retiring = false
				o.retiring--
			}
			later(due)
			i++
		case len(o.stack) <= o.target():
			if !c.retiring {
				c.retiring = true
				o.retiring++
			}
			i++
		case o.wantsProbe(c, now):
			o.unstack(i)
			o.open--
			c.state = probe
			o.probes[c.kind()] = c
			later(c.since.Add(o.pool.cfg.IdleTimeout))
		default:
			closing = append(closing, o.retire(i))
		}
	}
	for o.open > o.pool.cfg.MaxConnections && len(o.stack) > 0 {
		closing = append(closing, o.retire(0))
	}

	if o.early > 0 && len(o.stack) > 0 {
		if at := o.stack[0].since.Add(minLimit); at.After(now) {
			later(at)
		} else {
			o.proven()
		}
	}
	dials := min(o.short(), o.room())
	if o.failures > 0 && dials > 0 {
		pause := o.pause
		if o.waiting.Len() > 0 && o.newest > o.failedTo {
			pause = min(pause, callerPause)
		}
		at := o.failedAt.Add(pause)
		switch {
		case o.dialling > 0:
			dials = 0
		case at.After(now):
			dials = 0
			later(at)
		default:
			dials = 1
		}
	}
	for range dials {
		o.dial()
	}
	for kind, c := range o.probes {
		if c != nil && o.open+o.dialling+o.probing() > o.pool.cfg.MaxConnections {
			o.limits[kind].after = o.limitAt(kind, now)
			closing = append(closing, o.endProbe(kind))
		}
	}

	if o.held == 0 && o.open == 0 && o.dialling == 0 && o.waiting.Len() == 0 && o.probing() == 0 {
		end := o.lastUsed.Add(keepOrigin)
		o.gone = !end.After(now)
		later(end)
	}
	return closing, next
}

// retire takes the i-th off the stack, to be closed.
func (o *origin) retire(i int) *conn {
	c := o.stack[i]
	o.unstack(i)
	o.open--
	c.state = closed
	return c
}

// wantsProbe says whether c, which idled as long as it may, should be kept to
// see how long the server would have kept it. It takes the place that c has, if
// that is within the maximum.
func (o *origin) wantsProbe(c *conn, now time.Time) bool {
	l := o.limits[c.kind()]
	return l.after > 0 && !l.sure && o.probes[c.kind()] == nil &&
		now.Sub(c.since) < o.pool.cfg.IdleTimeout &&
		o.open+o.dialling+o.probing() <= o.pool.cfg.MaxConnections
}

func (o *origin) probing() int {
	n := 0
	for _, c := range o.probes {
		if c != nil {
			n++
		}
	}
	return n
}

func (o *origin) endProbe(kind int) *conn {
	c := o.probes[kind]
	o.probes[kind] = nil
	c.state = closed
	return c
}

// refuse fails those who wait since before seq and whom nothing can serve.
func (o *origin) refuse(seq uint64, err error) {
	inUse := o.open - len(o.stack)
	var next *list.Element
	for e := o.waiting.Front(); e != nil; e = next {
		next = e.Next()
		if w := e.Value.(*waiter); w.seq <= seq && (inUse == 0 || w.since > 0) {
			o.answer(w, grant{err: err})
		}
	}
}

// dial makes one connection in the background.
func (o *origin) dial() {
	o.dialling++
	o.dials++
	o.pool.wg.Go(func() {
		c, err := o.pool.connect(o.pool.ctx, o)
		now := time.Now()
		o.mu.Lock()
		o.dialling--
		if err == nil && c.broken {
			err = errRefuse
		}
		keep := false
		switch {
		case o.pool.ctx.Err() != nil:
		case err != nil:
			o.dialFailures++
			if e, ok := errors.AsType[*DialError](err); ok {
				err = e.Err
			}
			o.fail(err, now, o.failures+1)
		default:
			keep = true
			if o.early == 0 {
				o.proven()
			}
			o.open++
			o.seq++
			c.opened, c.serial = now, o.seq
			o.place(c, now, now)
		}
		o.nudge()
		o.mu.Unlock()
		if c != nil && !keep {
			c.cc.Close()
		}
	})
}

// proven notes that connections can be made, and last.
func (o *origin) proven() {
	if o.failures > 0 {
		o.pool.log.Info("connected again", zap.String("origin", o.name))
	}
	o.failures, o.early = 0, 0
}

// fail notes a failed dial and how long to leave the server alone.
func (o *origin) fail(err error, now time.Time, failures int) {
	o.failures = failures
	o.lastErr, o.failedAt, o.failedTo = err, now, o.seq
	pause := min(maxPause, firstPause<<min(failures-1, 10))
	o.pause = pause/2 + rand.N(pause)
	if failures == 1 {
		o.pool.log.Warn("cannot connect", zap.String("origin", o.name), zap.String("reason", reason(err)))
	}
}

// close is the keeper's last act.
func (o *origin) close() {
	o.mu.Lock()
	o.shut = true
	closing := o.stack
	o.open -= len(o.stack)
	o.stack, o.retiring = nil, 0
	for _, c := range closing {
		c.state = closed
	}
	for kind, c := range o.probes {
		if c != nil {
			closing = append(closing, o.endProbe(kind))
		}
	}
	for o.waiting.Len() > 0 {
		o.answer(o.waiting.Front().Value.(*waiter), grant{err: &CallError{Origin: o.name, Err: ErrClosed}})
	}
	o.mu.Unlock()
	for _, c := range closing {
		c.cc.Close()
	}
}

func (o *origin) stats() OriginStats {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	return OriginStats{
		Origin: o.name,
		Open:   o.open + o.probing(), Ready: len(o.stack), InUse: o.open - len(o.stack),
		Dialling: o.dialling, Waiting: o.waiting.Len(),
		Dials: o.dials, DialFailures: o.dialFailures,
		Handshakes: o.handshakes.Load(), Resumptions: o.resumptions.Load(),
		Resends: o.resends, Waits: o.waits, Cold: o.cold, Cancelled: o.cancelled,
		IdleLimitNew: o.limitAt(0, now), IdleLimitUsed: o.limitAt(1, now),
	}
}
