package line

import (
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// dispatch starts whoever can start.
func (l *Line) dispatch(now time.Time) {
	for w := l.next(nil); w != nil; w = l.next(nil) {
		if !w.excused {
			var err *core.Error
			if w.excused, err = l.tooShort(&w.Turn, w.track.name(), w.deadline, now); err != nil {
				l.settle(w, err, now)
				continue
			}
		}
		if by, wait := take(w.req, w.gates, now); by >= 0 {
			l.refused(w, by, wait, now)
		} else if err := w.board(now); err != nil {
			l.settle(w, core.AsError(err, w.track.name()), now)
		} else {
			l.start(w, now)
		}
	}
	l.arm(now)
}

// next returns who is next of those whose gates have not refused, or whom the
// same refusal holds as rival, unless that is nil.
func (l *Line) next(rival *track) *waiter {
	open := rival != nil
	for _, t := range l.tracks {
		open = open || !t.closed
	}
	if !open {
		return nil
	}
	for i := range l.lanes {
		if ln := &l.lanes[i]; ln.passed >= due {
			if w := ln.first(rival); w != nil {
				return w
			}
		}
	}
	for i := range l.lanes {
		if w := l.lanes[i].first(rival); w != nil {
			return w
		}
	}
	return nil
}

// first looks past clients and sessions only while those that wait are in
// several tracks.
func (ln *lane) first(rival *track) *waiter {
	for r := ln.ring.front; r != nil; r = r.next {
		for q := r.of.ring.front; q != nil; q = q.next {
			if w := q.of.waiters.front.of; w.track.runs(rival) {
				return w
			}
		}
	}
	return nil
}

// start hands w the turn that was taken for it.
func (l *Line) start(w *waiter, now time.Time) {
	if w.track.timed {
		l.paces.add(w.req.Account, now.Sub(l.busy), now)
	}
	l.busy = now
	for i := range l.lanes {
		if ln := &l.lanes[i]; ln.waiting > 0 {
			ln.passed++
		}
	}
	ln, q := &l.lanes[w.lane], w.queue
	ln.passed = 0
	ln.ring.remove(&q.row.inRing)
	ln.ring.pushBack(&q.row.inRing)
	q.row.ring.remove(&q.inRing)
	q.row.ring.pushBack(&q.inRing)
	l.begin(&w.Turn, now)
	l.settle(w, nil, now) // from here on the turn is its holder's
}

func (l *Line) begin(t *Turn, now time.Time) {
	t.began = now
	l.out++
	l.running += t.takes
	l.count.starts[t.lane]++
}

// refused notes that the gate at place by refused w, and with it everybody whom
// that refusal is about.
func (l *Line) refused(w *waiter, by int, wait time.Duration, now time.Time) {
	gate, scope := w.gates[by].Gate, w.track.scopes[by]
	if o, ok := gate.(core.Opener); ok && o.Refused(l) {
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
		if t.closed || !w.track.concerns(gate, scope, t.gates, t.account, t.client) {
			continue
		}
		t.tally(now)
		t.closed, t.by, t.until, t.timed, t.paces, t.asked = true, t.place(gate), until, wait > 0, paces, nil
	}
	w.track.asked = w
	if wait <= 0 {
		return
	}
	if wait >= pause {
		l.sweep(w.track, gate, scope, until, now)
	}
	if !w.over && w.tooLateAt(until) {
		l.fail(w, l.shut(w.track, now), paused, now)
	}
}

// sweep fails everybody whose deadline comes before gate opens and whom what it
// said to one of from is about.
func (l *Line) sweep(from *track, gate core.Gate, scope core.Scope, until, now time.Time) {
	swept := true
	for _, t := range l.tracks {
		if from.concerns(gate, scope, t.gates, t.account, t.client) && until.After(t.swept) {
			t.swept, swept = until, false
		}
	}
	if swept {
		return
	}
	for i := range l.lanes {
		for r := l.lanes[i].ring.front; r != nil; {
			n := r.of.arrivals.front
			for r = r.next; n != nil; {
				w := n.of
				n = n.next
				if w.tooLateAt(until) && from.concerns(gate, scope, w.gates, w.track.account, w.track.client) {
					l.fail(w, l.shut(w.track, now), paused, now)
				}
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
