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
	other *core.Request // that it was passed on to, for the gates that count by account
	told  *core.Outcome // what all other gates will hear, when it was passed on
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
	t.learn(o, now)
	if t.other == nil {
		for _, g := range t.gates {
			g.Gate.Give(t.req, o)
		}
	} else {
		t.giveAccount(t.gates, o)
		t.giveRest(o)
	}
	l.gone(t, now)
}

// learn notes how long a call took; those tell it that ran to their end.
func (t *Turn) learn(o core.Outcome, now time.Time) {
	if !o.Unused && (o.Err == nil || o.Err.Kind == core.DeadlineExceeded) {
		t.line.took.add(t, now.Sub(t.began), now)
	}
}

// Pass goes on with what is held of the turn for a call to another account, that
// of req: a slot is none of an account's. The gates that count by account hear of
// the outcome of the first, which may be that it was not used, and are asked for
// the other. When they do not let it start now, the turn has ended, and ok is
// false. All other gates hear at the end of the first call that was made.
func (t *Turn) Pass(req *core.Request, o core.Outcome) (ok bool) {
	l := t.line
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.given {
		return false
	}
	now := time.Now()
	if o.At.IsZero() {
		o.At = now
	}
	t.learn(o, now)
	if t.told == nil && !o.Unused {
		t.told = &o
	}
	t.giveAccount(t.gates, o)
	t.other, t.began = req, now
	for i, g := range t.gates {
		if scopeOf(g.Gate) != core.ScopeAccount {
			continue
		}
		if ok, _ := g.Gate.Take(req, now); !ok {
			t.giveAccount(t.gates[:i], core.Outcome{Unused: true, At: now})
			t.giveRest(core.Outcome{Unused: true, At: now})
			t.given = true
			l.gone(t, now)
			return false
		}
	}
	l.again(now) // what the first account was given back may let others start
	return true
}

// giveAccount tells those of gates that count by account.
func (t *Turn) giveAccount(gates []core.Guard, o core.Outcome) {
	req := t.req
	if t.other != nil {
		req = t.other
	}
	for _, g := range gates {
		if scopeOf(g.Gate) == core.ScopeAccount {
			g.Gate.Give(req, o)
		}
	}
}

// giveRest tells all others.
func (t *Turn) giveRest(o core.Outcome) {
	if t.told != nil {
		o = *t.told
	}
	for _, g := range t.gates {
		if scopeOf(g.Gate) != core.ScopeAccount {
			g.Gate.Give(t.req, o)
		}
	}
}

// gone notes that t has ended, and starts the next.
func (l *Line) gone(t *Turn, now time.Time) {
	l.out--
	l.running -= t.takes
	l.again(now)
}

// again asks all gates again.
func (l *Line) again(now time.Time) {
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
