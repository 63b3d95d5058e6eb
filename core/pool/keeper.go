package pool

import (
	"cmp"
	"container/list"
	"errors"
	"math/rand/v2"
	"slices"
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

var errRefuse = errors.New("the server closes new connections at once")

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
	closing, o.closing = o.closing, nil
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
		switch end := c.since.Add(o.terms.cfg.IdleTimeout); {
		case o.limits[kind].after == 0: // there is nothing to find out any more
			closing = append(closing, o.endProbe(kind))
		case end.After(now):
			later(end)
		default:
			// The server keeps them longer than we do.
			o.believe(kind, limit{sure: true})
			closing = append(closing, o.endProbe(kind))
		}
	}

	// What is due goes, or stays until it is replaced; idle ones from the oldest
	// up.
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
		case o.vacant() <= o.target():
			if !c.retiring {
				c.retiring = true
				o.retiring++
			}
			i++
		case o.wantsProbe(c, now):
			o.unstack(i)
			o.open--
			o.retired++
			c.phase = probe
			o.probes[c.kind()] = c
			later(c.since.Add(o.terms.cfg.IdleTimeout))
		default:
			closing = append(closing, o.retire(i))
		}
	}
	for i := 0; i < len(o.shared); {
		c := o.shared[i]
		switch end := o.aged(c); {
		case end.After(now):
			later(end)
			i++
		case c.roomy() && o.vacant() <= o.target():
			if !c.retiring {
				c.retiring = true
				o.retiring++
			}
			i++
		default:
			o.leave(c)
		}
	}
	for o.open > o.terms.cfg.MaxConnections && len(o.stack) > 0 {
		closing = append(closing, o.retire(0))
	}
	if o.terms.cfg.Mode == Pooled {
		for o.open > o.terms.cfg.MaxConnections && len(o.shared) > 0 {
			o.leave(slices.MinFunc(o.shared, func(a, b *conn) int { return cmp.Compare(a.serial, b.serial) }))
		}
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
		if c != nil && o.open+o.dialling+o.probing() > o.terms.cfg.MaxConnections+1 {
			o.limits[kind].after = o.limitAt(kind, now)
			closing = append(closing, o.endProbe(kind))
		}
	}

	if o.held == 0 && o.open == 0 && o.leaving == 0 && o.dialling+o.stale == 0 && o.waiting.Len() == 0 && o.probing() == 0 {
		end := o.lastUsed.Add(keepOrigin)
		o.gone = !end.After(now)
		later(end)
	}
	return closing, next
}

// due returns when c, on the stack, is to be replaced.
func (o *origin) due(c *conn, now time.Time) time.Time {
	stay := o.terms.cfg.IdleTimeout
	if l := o.limitAt(c.kind(), now); l > 0 {
		stay = min(stay, l*8/10)
	}
	idle, aged := c.since.Add(shorter(stay, c.stagger)), o.aged(c)
	if aged.Before(idle) {
		return aged
	}
	return idle
}

// aged returns when c is to be replaced whether it is used or not.
func (o *origin) aged(c *conn) time.Time {
	return c.opened.Add(shorter(o.terms.cfg.MaxAge, c.stagger))
}

func shorter(d time.Duration, by float64) time.Duration { return d - time.Duration(float64(d)*by) }

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

// learn takes in that the server closed a connection after it had idled so
// long. A single close may have any reason. Two that agree are a limit, unless a
// connection that idled as long served in between; a probe needs no second.
func (o *origin) learn(kind int, idle time.Duration, probed bool) {
	if idle < minLimit {
		return
	}
	l := o.limits[kind]
	switch {
	case probed:
		l = limit{after: idle, sure: true}
	case agree(idle, l.after):
		l.after = min(idle, l.after)
	case agree(idle, l.odd):
		l = limit{after: min(idle, l.odd)}
	default:
		l.odd = idle
	}
	o.believe(kind, l)
	o.nudge()
}

// agree says whether two idle times are within a tenth of each other.
func agree(a, b time.Duration) bool { return min(a, b) > max(a, b)*9/10 }

// served takes in that a connection carried a request after it had idled so
// long.
func (o *origin) served(kind int, idle time.Duration) {
	l := o.limits[kind]
	if l.odd > 0 && idle > l.odd*9/10 {
		l.odd = 0
	}
	if l.after > 0 && idle > l.after*11/10 {
		l = limit{}
		o.nudge()
	}
	o.believe(kind, l)
}

func (o *origin) believe(kind int, l limit) {
	was := o.limits[kind]
	o.limits[kind] = l
	if l.after != was.after || l.sure != was.sure {
		o.pool.log.Debug("learned how long the server keeps idle connections",
			zap.String("origin", o.name), zap.Bool("used", kind == 1), zap.Duration("limit", l.after), zap.Bool("certain", l.sure))
	}
}

// target is how many connections are to be ready.
func (o *origin) target() int {
	if o.held > 0 && o.terms.cfg.Mode == Pooled {
		return o.terms.cfg.WarmConnections
	}
	return 0
}

// short is how many more connections are wanted than are on their way. One that
// carries many calls serves all who wait; if it does not, the next look sees to
// it.
func (o *origin) short() int {
	missing := max(0, o.target()-o.vacant()+o.retiring)
	if o.multi {
		return max(missing, min(1, o.waiting.Len())) - o.dialling
	}
	return o.waiting.Len() + missing - o.dialling
}

// surplus reports whether a connection that comes back is one too many although
// somebody waits for it. Without such, the keeper chooses which is to go.
func (o *origin) surplus() bool {
	return o.waiting.Len() > 0 && o.open > o.terms.cfg.MaxConnections
}

// room is how many more may be dialled: up to the maximum, and one more while
// one on the stack waits for its replacement, unless a probe is that one. The
// probe comes first: it may show that nothing on the stack needs replacing.
func (o *origin) room() int {
	room := o.terms.cfg.MaxConnections - o.open - o.dialling
	if room == 0 && o.retiring > 0 && o.probing() == 0 {
		return 1
	}
	return room
}

// retire takes the i-th off the stack, to be closed.
func (o *origin) retire(i int) *conn {
	c := o.stack[i]
	o.unstack(i)
	o.open--
	o.retired++
	c.phase = closed
	return c
}

// wantsProbe says whether c, which idled as long as it may, should be kept to
// see how long the server would have kept it. It takes the place that c has,
// which may be the one beyond the maximum.
func (o *origin) wantsProbe(c *conn, now time.Time) bool {
	l := o.limits[c.kind()]
	return l.after > 0 && !l.sure && o.probes[c.kind()] == nil &&
		now.Sub(c.since) < o.terms.cfg.IdleTimeout &&
		o.open+o.dialling+o.probing() <= o.terms.cfg.MaxConnections+1
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
	c.phase = closed
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
	r := o.route
	o.pool.wg.Go(func() {
		c, err := o.pool.connect(o.pool.ctx, o, r)
		now := time.Now()
		o.mu.Lock()
		stale := o.dialled(r)
		if err == nil && c.broken {
			err = errRefuse
		}
		keep := false
		switch {
		case o.pool.ctx.Err() != nil:
		case stale: // whatever came of it
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
			o.admit(c, now)
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
	closing := append(o.closing, o.stack...)
	o.open -= len(o.stack)
	o.stack, o.retiring = nil, 0
	for _, c := range closing {
		c.phase = closed
	}
	o.closing = nil
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
