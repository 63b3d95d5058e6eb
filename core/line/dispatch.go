package line

import (
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// dispatch starts whoever can start.
func (l *Line) dispatch(now time.Time) {
	for w := l.next(false); w != nil; w = l.next(false) {
		if !w.excused {
			var err *core.Error
			if w.excused, err = l.hopeless(w.track.name(), w.deadline, 0, now); err != nil {
				l.settle(w, err, now)
				continue
			}
		}
		if by, wait := take(w.req, w.gates, now); by >= 0 {
			l.refused(w, by, wait, now)
		} else {
			l.start(w, now)
		}
	}
	l.arm(now)
}

// next returns who is next: of all, or of those whose gates have not refused.
func (l *Line) next(all bool) *waiter {
	open := all
	for _, t := range l.tracks {
		open = open || !t.closed
	}
	if !open {
		return nil
	}
	for i := range l.lanes {
		if ln := &l.lanes[i]; ln.passed >= due {
			if w := ln.first(all); w != nil {
				return w
			}
		}
	}
	for i := range l.lanes {
		if w := l.lanes[i].first(all); w != nil {
			return w
		}
	}
	return nil
}

// first looks past sessions only while waiters with different gates share the
// line, which is after a reload.
func (ln *lane) first(all bool) *waiter {
	for q := ln.ring.front; q != nil; q = q.next {
		if w := q.of.waiters.front.of; all || !w.track.closed {
			return w
		}
	}
	return nil
}

// start hands w the turn that was taken for it.
func (l *Line) start(w *waiter, now time.Time) {
	l.gap.add(now.Sub(l.busy), now)
	l.busy = now
	for i := range l.lanes {
		if ln := &l.lanes[i]; ln.arrivals.n > 0 {
			ln.passed++
		}
	}
	ln := &l.lanes[w.lane()]
	ln.passed = 0
	ln.ring.remove(&w.queue.inRing)
	ln.ring.pushBack(&w.queue.inRing)
	l.begin(&w.Turn, now)
	l.settle(w, nil, now) // from here on the turn is its holder's
}

func (l *Line) begin(t *Turn, now time.Time) {
	t.began = now
	l.out++
	l.count.starts[t.lane()]++
}

// refused notes that the gate at place by refused w, and with it everybody who
// needs that gate.
func (l *Line) refused(w *waiter, by int, wait time.Duration, now time.Time) {
	gate := w.gates[by].Gate
	if o, ok := gate.(Opener); ok && o.Refused(l) {
		return // its track stays open
	}
	var until time.Time
	owner, _ := gate.(Owner)
	own := owner != nil && owner.Line() == l
	paces := false
	switch {
	case wait > 0:
		until = now.Add(wait)
		paces = owner != nil
	case l.out == 0 || !own:
		until = now.Add(unheard)
	}
	for _, t := range l.tracks {
		if at := t.place(gate); at >= 0 {
			t.tally(now)
			t.closed, t.by, t.until, t.paces, t.asked = true, at, until, paces, nil
		}
	}
	w.track.asked = w
	if wait <= 0 {
		return
	}
	if wait >= pause {
		l.sweep(gate, until, now)
	}
	if !w.over && w.tooLateAt(until) {
		l.fail(w, l.shut(w.track, now), paused, now)
	}
}

// sweep fails everybody whose deadline comes before gate opens.
func (l *Line) sweep(gate core.Gate, until, now time.Time) {
	for _, t := range l.tracks {
		if t.place(gate) >= 0 {
			swept := t.swept
			if t.swept = until; !until.After(swept) {
				return
			}
		}
	}
	for i := range l.lanes {
		for n := l.lanes[i].arrivals.front; n != nil; {
			w := n.of
			n = n.next
			if w.tooLateAt(until) && w.track.place(gate) >= 0 {
				l.fail(w, l.shut(w.track, now), paused, now)
			}
		}
	}
}

// take takes from all gates or from none. It returns the place of the gate that
// refused and when to ask it again, or -1.
func take(req *core.Request, gates []core.Guard, now time.Time) (by int, wait time.Duration) {
	for i := range gates {
		ok, wait := gates[i].Gate.Take(req, now)
		if !ok {
			for _, g := range gates[:i] {
				g.Gate.Give(req, core.Outcome{Unused: true, At: now})
			}
			return i, max(wait, 0)
		}
	}
	return -1, 0
}

// open makes the gates be asked again that said to be so by now; all when now
// is zero.
func (l *Line) open(now time.Time) {
	for _, t := range l.tracks {
		if now.IsZero() || !t.until.IsZero() && !t.until.After(now) {
			t.closed = false
		}
	}
}

// arm sets the timer to when the first gate is to be asked again.
func (l *Line) arm(now time.Time) {
	var at time.Time
	for _, t := range l.tracks {
		if t.closed && !t.until.IsZero() && (at.IsZero() || t.until.Before(at)) {
			at = t.until
		}
	}
	if at.IsZero() || !l.rings.IsZero() && !l.rings.After(at) {
		return // a timer that rings too early sets itself again
	}
	l.rings = at
	if l.timer == nil {
		l.timer = time.AfterFunc(at.Sub(now), l.ring)
	} else {
		l.timer.Reset(at.Sub(now))
	}
}

func (l *Line) ring() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.rings = time.Time{}
	l.open(now)
	l.dispatch(now)
}
