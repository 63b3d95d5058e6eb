package provider

import (
	"slices"
	"sync"
	"time"
)

// What Hedge.After may be besides a time.
const (
	hedgeNever = "never"
	hedgeP95   = "p95"
)

// delay returns what says after how long a hedge is made; nil when none is.
func (h Hedge) delay() func(*record, bool) (time.Duration, bool) {
	switch h.After {
	case "", hedgeNever:
		return nil
	case hedgeP95:
		return func(r *record, streamed bool) (time.Duration, bool) {
			if streamed {
				return r.spoke.p95()
			}
			return r.whole.p95()
		}
	}
	after, err := time.ParseDuration(h.After) // its form was checked
	if err != nil {
		return nil
	}
	return func(*record, bool) (time.Duration, bool) { return after, true }
}

const (
	remembered = 256 // the last calls
	enough     = 40  // so many are needed before they say anything
	stale      = 16  // so many more, and the percentile is computed again
)

// latencies are how long the last calls took. The zero value has none; it is
// safe for concurrent use.
type latencies struct {
	mu    sync.Mutex
	last  [remembered]time.Duration
	n     int // ever
	known time.Duration
}

// add notes a call that took d, or that took longer and was given up then.
func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[l.n%remembered] = d
	l.n++
	if l.n < enough || l.n > enough && l.n%stale != 0 {
		return
	}
	sorted := l.last
	kept := sorted[:min(l.n, remembered)]
	slices.Sort(kept)
	l.known = kept[(len(kept)-1)*95/100]
}

// p95 returns how long 95 in 100 of them took at most; ok says that there are
// enough of them to tell.
func (l *latencies) p95() (d time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known, l.known > 0
}

// learn notes how long a took, if that says anything: it answered, or was given
// up for a hedge that was faster, and would have taken longer still.
func (r *record) learn(a *attempt) {
	if a.failed != nil && !(a.lost && a.why == first) {
		return
	}
	l, d := &r.whole, a.took
	if a.req.OnDelta != nil {
		l = &r.spoke
		if a.spoke > 0 {
			d = a.spoke
		}
	}
	l.add(d)
}
