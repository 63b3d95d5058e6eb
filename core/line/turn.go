package line

import (
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A Turn is the right to make one attempt. Whoever holds it gives it back when
// the attempt has ended, however it ended.
type Turn struct {
	line  *Line
	req   *core.Request
	gates []core.Guard
	lane  core.Lane
	since time.Time // seniority
	asked time.Time // when it joined the line
	began time.Time
	takes time.Duration // how long such calls take; 0 when that is not known
	waits []core.Span
	paced time.Duration
	given bool
}

// Give ends the turn: every gate hears of the outcome, and the next request
// starts. A second call is ignored. A zero o.At is now.
func (t *Turn) Give(o core.Outcome) {
	t.line.mu.Lock()
	defer t.line.mu.Unlock()
	t.give(o)
}

func (t *Turn) give(o core.Outcome) {
	if t.given {
		return
	}
	t.given = true
	l, now := t.line, time.Now()
	if o.At.IsZero() {
		o.At = now
	}
	// How long a call takes is told by those that ran to their end.
	if !o.Unused && (o.Err == nil || o.Err.Kind == core.DeadlineExceeded) {
		l.took.add(t, now.Sub(t.began), now)
	}
	for _, g := range t.gates {
		g.Gate.Give(t.req, o)
	}
	l.out--
	l.running -= t.takes
	if l.waiting > 0 {
		l.open(time.Time{})
		l.dispatch(now)
	}
}

// Since returns when the request first asked; pass it as How.Since for a retry.
func (t *Turn) Since() time.Time { return t.since }

// Waits returns how long the turn was waited for, by the gate that refused
// meanwhile. It is nil when the turn was free.
func (t *Turn) Waits() []core.Span { return t.waits }

// Paced returns the part of Waits that went by while the gate that owns the
// line named a time to ask again: the interval between two starts. That a slot
// was missing, or another gate refused, is no pacing.
func (t *Turn) Paced() time.Duration { return t.paced }
