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
		w.segment = segment{session{req.Client, req.Session}, req.Segment, req.Target}
	}
	stage := nameOf(w.gates, 0)
	if t := l.trackOf(w.gates); t != nil {
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
	if !w.excused {
		var err *core.Error
		if w.excused, err = l.hopeless(stage, w.deadline, l.ahead(w), now); err != nil {
			return err
		}
	}
	if l.waiting >= l.most && older == nil && !l.displace(w.lane(), now) {
		l.count.refused[full]++
		return l.overloaded(stage, fmt.Sprintf("%d requests wait already", l.waiting), l.waiting, now)
	}

	// A revision takes over the place of the one it replaces, and joins before
	// that one leaves, so that their session keeps its own: else a speaker who
	// goes on talking would never get a turn.
	var place *node[*waiter]
	for _, o := range older {
		if o.lane() == w.lane() && !o.since.After(w.since) {
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

// ahead estimates how many start before w would, were it to join now.
func (l *Line) ahead(w *waiter) int {
	n := 0
	for i := range w.lane() {
		n += l.lanes[i].arrivals.n
	}
	ln := &l.lanes[w.lane()]
	own, others := 0, ln.ring.n
	if q := ln.sessions[sessionOf(w.req)]; q != nil {
		own, others = q.waiters.n, others-1
	}
	return n + min(ln.arrivals.n, own+others*(own+1))
}

// hopeless returns the error of a request that clearly cannot make its
// deadline when so many start before it, or that it is excused from this.
func (l *Line) hopeless(stage string, deadline time.Time, ahead int, now time.Time) (excused bool, err *core.Error) {
	if deadline.IsZero() {
		return false, nil
	}
	left := float64(deadline.Sub(now))
	attempt := l.attempt.value(now)
	var wait time.Duration
	if ahead > 0 {
		wait = time.Duration(ahead+1) * l.gap.value(now)
	}
	if float64(wait+attempt) <= clearly*left {
		return false, nil
	}
	if l.excuses++; l.excuses%excuse == 0 {
		return true, nil
	}
	l.count.refused[hopeless]++
	if float64(attempt) > clearly*left {
		return false, &core.Error{
			Kind: core.DeadlineExceeded, Stage: stage, Own: true,
			Detail: fmt.Sprintf("%s are left, and calls take %s at the moment", round(deadline.Sub(now)), round(attempt)),
		}
	}
	return false, l.overloaded(stage, fmt.Sprintf("the wait is %s at the moment, and %s are left", round(wait), round(deadline.Sub(now))), ahead, now)
}

// displace makes room for a request of the given lane by refusing the youngest
// of the lowest lane below it, and says whether there was one.
func (l *Line) displace(by core.Lane, now time.Time) bool {
	for i := core.Lanes - 1; i > by; i-- {
		if n := l.lanes[i].arrivals.back; n != nil {
			err := l.overloaded(n.of.track.name(), "its place was needed for a more urgent request", l.waiting, now)
			l.fail(n.of, err, displaced, now)
			return true
		}
	}
	return false
}

// overloaded is the error of a request that so many are before.
func (l *Line) overloaded(stage, detail string, ahead int, now time.Time) *core.Error {
	after := time.Duration(ahead) * l.gap.value(now)
	if after <= 0 {
		after = time.Second
	}
	return &core.Error{Kind: core.Overloaded, Stage: stage, Detail: detail, Retryable: true, RetryAfter: after, Own: true}
}

func superseded(stage string) *core.Error {
	return &core.Error{Kind: core.Superseded, Stage: stage, Detail: "a newer revision of the segment took its place", Own: true}
}

// shut is the error of a request that cannot wait until t's gate opens.
func (l *Line) shut(t *track, now time.Time) *core.Error {
	wait := t.until.Sub(now)
	return &core.Error{
		Kind: core.RateLimited, Stage: t.name(), Retryable: true, RetryAfter: wait, Own: true,
		Detail: fmt.Sprintf("the next call may start in %s, which is after the deadline", round(wait)),
	}
}

// round shortens d for a reader.
func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}
