package line

import (
	"fmt"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// admit lets w join the line, or says why not.
func (l *Line) admit(w *waiter, now time.Time) *core.Error {
	req := w.req
	if req.Session != "" && req.Segment != "" {
		w.segment = segment{req.Client, req.Session, req.Segment, req.Target}
	}
	stage := nameOf(w.gates, 0)
	t := l.trackOf(req, w.gates)
	if t != nil {
		stage = t.name()
	}
	var older []*waiter
	if rivals := l.segments[w.segment]; rivals != nil {
		for n := rivals.front; n != nil; n = n.next {
			switch {
			case !req.Final && newer(n.of.req, req):
				l.count.superseded++
				return superseded(stage)
			case !n.of.req.Final && newer(req, n.of.req):
				older = append(older, n.of)
			}
		}
	}
	per := l.perStart(w, t, now)
	if !w.excused {
		var err *core.Error
		if w.excused, err = l.tooShort(&w.Turn, stage, w.deadline, now); err != nil {
			return err
		}
	}
	if !w.excused {
		var err *core.Error
		if w.excused, err = l.tooLong(w, stage, l.ahead(w), per, now); err != nil {
			return err
		}
	}
	if l.waiting >= l.most && older == nil && !l.displace(w, per) {
		l.count.refused[full]++
		return overloaded(stage, fmt.Sprintf("%d requests wait already", l.waiting), time.Duration(l.waiting)*per)
	}

	// A revision takes over the place of the one it replaces, and joins before
	// that one leaves, so that their session keeps its own: else a speaker who
	// goes on talking would never get a turn.
	var place *node[*waiter]
	for _, o := range older {
		if o.lane == w.lane && o.queue.key == sessionOf(req) && !o.since.After(w.since) {
			w.since, place = o.since, &o.inQueue
		}
	}
	l.join(w, place, now)
	for _, o := range older {
		l.count.superseded++
		l.settle(o, superseded(stage), now)
	}
	return nil
}

// newer says whether a replaces b, both being of one segment.
func newer(a, b *core.Request) bool {
	return a.Revision > b.Revision || a.Revision == b.Revision && a.Final && !b.Final
}

// ahead estimates how many start before w would, were it to join now: its
// session takes turns with those of its client, its client with those in its
// lane, and its lane gets one of every ten starts at least.
func (l *Line) ahead(w *waiter) int {
	turns := func(own, others int) int { return own + others*(own+1) }
	ln := &l.lanes[w.lane]
	own, clients := 0, ln.ring.n
	if c := l.clients[w.req.Client]; c != nil && c.rows[w.lane].arrivals.n > 0 {
		r, in, sessions := &c.rows[w.lane], 0, c.rows[w.lane].ring.n
		if q := ln.sessions[sessionOf(w.req)]; q != nil {
			in, sessions = q.waiters.n, sessions-1
		}
		own, clients = min(r.arrivals.n, turns(in, sessions)), clients-1
	}
	own = min(ln.waiting, turns(own, clients))
	higher := 0
	for i := range w.lane {
		higher += l.lanes[i].waiting
	}
	return own + min(higher, (share-1)*(own+1))
}

// perStart estimates how long it takes from one start to the next, for w, whose
// track is t if that is known. It is the pace that a gate keeps by time; or, the
// slots being taken, how long the calls take that hold them or those that wait
// before w, whichever is less, over the number of slots. It is 0 when too little
// is known.
func (l *Line) perStart(w *waiter, t *track, now time.Time) time.Duration {
	per := time.Duration(0)
	n, takes := 0, time.Duration(0)
	for i := range w.lane + 1 {
		n += l.lanes[i].waiting
		takes += l.lanes[i].takes
	}
	if n > 0 && l.out > 0 && l.took.fresh(now) {
		per = min(takes/time.Duration(n), l.running/time.Duration(l.out)) / time.Duration(l.out)
	}
	if t != nil && t.timed {
		per = max(per, l.paces.value(t.account, now))
	}
	return per
}

// tooShort returns the error of a request that has clearly less time left than
// such calls of its client take, or that it is excused from this. It notes in t
// how long they take.
func (l *Line) tooShort(t *Turn, stage string, deadline, now time.Time) (excused bool, err *core.Error) {
	nearly, most := l.took.client(t.req, t.lane, now)
	t.takes = most
	left := deadline.Sub(now)
	if deadline.IsZero() || float64(nearly) <= clearly*float64(left) {
		return false, nil
	}
	if l.excuse() {
		return true, nil
	}
	return false, &core.Error{
		Kind: core.DeadlineExceeded, Stage: stage, Own: true,
		Detail: fmt.Sprintf("%s are left, and calls take %s at the moment", round(left), round(nearly)),
	}
}

// tooLong returns the error of a request that clearly cannot make its deadline
// when so many start before it, or that it is excused from this.
func (l *Line) tooLong(w *waiter, stage string, ahead int, per time.Duration, now time.Time) (excused bool, err *core.Error) {
	if w.deadline.IsZero() || ahead == 0 {
		return false, nil
	}
	left := w.deadline.Sub(now)
	wait := time.Duration(ahead+1) * per
	if float64(wait) <= clearly*float64(left) {
		return false, nil
	}
	if l.excuse() {
		return true, nil
	}
	return false, overloaded(stage, fmt.Sprintf("the wait is %s at the moment, and %s are left", round(wait), round(left)), wait)
}

// excuse says whether a request that would be refused for an estimate goes on
// regardless, and counts it otherwise.
func (l *Line) excuse() bool {
	if l.excuses++; l.excuses%excuse == 0 {
		return true
	}
	l.count.refused[hopeless]++
	return false
}

// displace makes room for w in a full line, and says whether it could. The
// client that has most waiting gives a place, the youngest of its lowest lane,
// as long as w's client would still have no more than that one: so no flood of
// one client keeps another from waiting. Within a client what is more urgent
// takes the place of what is less.
func (l *Line) displace(w *waiter, per time.Duration) bool {
	own := 0
	c := l.clients[w.req.Client]
	if c != nil {
		own = c.waiting
	}
	var loser *waiter
	detail := "its place was needed for a client that has less waiting"
	if h := l.weights.heaviest(); h != nil && h.waiting > own {
		if y := h.youngest(); h.waiting > own+1 || y.lane > w.lane {
			loser = y
		}
	}
	if loser == nil && c != nil {
		if y := c.youngest(); y.lane > w.lane {
			loser, detail = y, "its place was needed for a more urgent request"
		}
	}
	if loser == nil {
		return false
	}
	now := w.asked
	l.fail(loser, overloaded(loser.track.name(), detail, time.Duration(l.waiting)*per), displaced, now)
	return true
}

// overloaded is the error of a request that may be asked again after a while.
func overloaded(stage, detail string, after time.Duration) *core.Error {
	if after <= 0 {
		after = time.Second
	}
	return &core.Error{Kind: core.Overloaded, Stage: stage, Detail: detail, Retryable: true, RetryAfter: after, Own: true}
}

func superseded(stage string) *core.Error {
	return &core.Error{Kind: core.Superseded, Stage: stage, Detail: "a newer revision of the segment took its place", Own: true}
}

// shut is the error of a request that cannot wait until t's gate opens. That
// the next start is not due yet is the line's own business, and no limit of an
// account.
func (l *Line) shut(t *track, now time.Time) *core.Error {
	wait := t.until.Sub(now)
	detail := fmt.Sprintf("the next call may start in %s, which is after the deadline", round(wait))
	if t.paces {
		return overloaded(t.name(), detail, wait)
	}
	return &core.Error{Kind: core.RateLimited, Stage: t.name(), Retryable: true, RetryAfter: wait, Detail: detail, Own: true}
}

// round shortens d for a reader.
func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}
