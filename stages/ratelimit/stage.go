// Package ratelimit is the gate that keeps upstream calls within the limits of
// each account: requests and tokens a minute, yours or the upstream's, whichever
// is lower. A 429 becomes the pause of everybody who goes to that account.
package ratelimit

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/ledger"
)

const (
	// firstPause is the pause after a 429 that named none; it doubles with each
	// one before the next good answer, up to longestGuess. What ends a pause is one
	// call, so a longer guess would spare the upstream little; and one below the
	// shortest patience of clients lets all of their texts be answered that come
	// when the upstream takes calls again.
	firstPause   = time.Second
	longestGuess = 4 * time.Second
	// longestPause bounds every pause, so that a nonsensical Retry-After cannot
	// shut the gate for good: after it one call asks again.
	longestPause = 5 * time.Minute
	// slowed is what the rate is multiplied with at a 429 after a good answer, slowest
	// the least that this leaves, and regained what each good answer multiplies it with.
	slowed   = 1. / 4
	slowest  = 1. / 64
	regained = 1.1
)

// Kind declares the stage `ratelimit`.
func Kind() core.Kind {
	return core.NewKind("ratelimit", core.RoleGate, "Keeps upstream calls within your account's requests and tokens a minute.", Defaults,
		func(env core.Env, c *Config) (any, error) {
			s := New(*c)
			s.shared, s.longest, s.log = env.Shared, env.Deadline, env.Log
			return s, nil
		})
}

// A Stage is a gate: enough requests, enough tokens, no pause, each of the
// account that a call is charged to. It is safe for concurrent use.
type Stage struct {
	mu       sync.Mutex
	config   Config // of the account of the provider in use
	accounts map[string]*account
	current  *account // of the provider in use

	refusals int64         // 429s
	paused   time.Duration // in all, the rest of the pauses that are on included

	waits []core.Line // that were refused

	// With others, and nil without: see renew.go.
	shared  core.Shared
	longest time.Duration // that a call may last
	log     *zap.Logger
	kick    chan struct{} // a renewal may be due
	leaving []*account    // that were forgotten, and of which the group is to hear
	stop    context.CancelFunc
	running sync.WaitGroup
	starved int64 // times that somebody waited for nothing but a lease
	warned  bool  // of a later version
	known   int   // gateways that shared an account when somebody last said
}

var (
	_ core.Gate          = (*Stage)(nil)
	_ core.Planner       = (*Stage)(nil)
	_ core.Measurer      = (*Stage)(nil)
	_ core.Fingerprinter = (*Stage)(nil)
	_ core.Scoper        = (*Stage)(nil)
	_ core.Opener        = (*Stage)(nil)
)

// New returns the gate that c describes, with nothing spent.
func New(c Config) *Stage {
	s := &Stage{config: c, accounts: map[string]*account{}, kick: make(chan struct{}, 1)}
	s.current = newAccount(c, time.Now())
	return s
}

// Fingerprint is empty: the stage changes no answer.
func (s *Stage) Fingerprint() string { return "" }

// Scope is the account: a limit is of all that is charged to it.
func (s *Stage) Scope() core.Scope { return core.ScopeAccount }

// Take takes one request and the tokens it may cost, of the account of req.
func (s *Stage) Take(req *core.Request, now time.Time) (ok bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.account(req, now)
	if wait := a.until.Sub(now); wait > 0 {
		return false, wait
	}
	n := ledger.Estimate(req)
	if a.lease != nil && !a.lease.allows(a, [units]int64{1, n}, req.Lane, now) {
		s.starved++
		s.renewSoon()
		return false, hastily // whatever it is by then: the answer wakes the line sooner
	}
	ok, wait = a.requests.ask(1, now)
	enough, later := a.tokens.ask(n, now)
	if !ok || !enough {
		return false, max(wait, later)
	}
	if l := a.lease; l != nil {
		if l.shares && l.failing && s.config.WhenUnreachable == Stop {
			return false, hastily
		}
		l.take(req, [units]int64{1, n})
		if l.running() {
			s.renewSoon()
		}
	}
	a.requests.take(1)
	a.tokens.take(n)
	return true, 0
}

// account returns that of req. The limits that were configured hold for that of
// the provider in use.
func (s *Stage) account(req *core.Request, now time.Time) *account {
	a := s.accounts[req.Account]
	if a == nil {
		if len(s.accounts) == 0 && !req.Fallback {
			a = s.current // the first
		} else {
			a = newAccount(Config{}, now)
		}
		s.forget(now)
		s.accounts[req.Account] = a
		if s.shared != nil && a.lease == nil {
			a.lease = newLease("lease:{"+s.shared.Name("account "+req.Account)+"}", s.known, now)
			a.limit(a.config, now)
			s.renewSoon()
		}
	}
	a.used = now
	if !req.Fallback && (a != s.current || !a.ours) {
		a.ours, s.current = true, a
		a.limit(s.config, now)
	}
	return a
}

// Give settles what the call really cost, and learns what its answer said about
// limits. What was not used goes back as if it had not been taken.
func (s *Stage) Give(req *core.Request, o core.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := o.At
	if now.IsZero() {
		now = time.Now()
	}
	a := s.accounts[req.Account] // kept while anything of it is out
	if a == nil {
		return
	}
	n := ledger.Estimate(req)
	l := a.lease
	if o.Unused {
		a.requests.restore(1, now)
		a.tokens.restore(n, now)
		if l != nil {
			l.restore(req, [units]int64{1, n})
		}
		return
	}
	cost := ledger.Cost(o.Usage, n)
	a.requests.settle(1, 1, now)
	a.tokens.settle(n, cost, now)
	if l != nil && cost > n {
		l.left[1] -= cost - n
	}

	if o.Account != "" && o.Account != req.Account {
		return // another account's limits
	}
	a.learn(o.Limits, s.config, now)
	switch {
	case o.Err == nil:
		a.recover(now)
	case o.Err.Kind == core.RateLimited:
		s.refusals++
		s.paused += a.pause(o.Err.RetryAfter, now)
		if l != nil {
			l.shut()
			l.probe, l.news = nil, news{shut: a.until}
			s.renewSoon()
		}
	}
	if l != nil && l.probe == req {
		l.probe, l.probing, l.news.open = nil, false, true
		s.renewSoon()
	}
}

// linesKept is how many lines Plan wakes: that of the newest chain, and those of
// chains before it from which the last requests are leaving.
const linesKept = 8

// Refused notes which line waits, for Plan.
func (s *Stage) Refused(l core.Line) (again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.waits, l) {
		return false
	}
	s.waits = append(s.waits, l)
	if len(s.waits) > linesKept {
		s.waits = slices.Delete(s.waits, 0, 1)
	}
	return true
}

// Plan takes other limits in place. Apply starts who can start now. What was
// learned stays: the upstream's own limits, what it said is left, a pause and the
// ramp after it. So does what was spent, which is why no limit is ever exceeded
// by a change: among the starts of any 60 s there are no more than the limit that
// held at the last of them; nor do they cost more tokens than that, unless one
// costs more than its estimate or needs more than the limit by itself. Lowered,
// the limit lets nothing start until the last 60 s fit into it.
func (s *Stage) Plan(config any) (apply func(), err error) {
	c, ok := config.(*Config)
	if !ok {
		return nil, fmt.Errorf("ratelimit: planned with a %T, want a %T", config, c)
	}
	return func() {
		s.mu.Lock()
		s.config = *c
		now := time.Now()
		s.current.limit(s.config, now)
		for _, a := range s.accounts {
			if a.ours {
				a.limit(s.config, now)
			}
		}
		waits := slices.Clone(s.waits)
		s.mu.Unlock()
		for _, l := range waits {
			l.Wake()
		}
	}, nil
}

// Measure reports the limits that hold for the provider in use, what is left of them, and the pauses.
func (s *Stage) Measure(emit func(core.Measure)) {
	s.mu.Lock()
	now := time.Now()
	a := s.current
	limits := [2]float64{a.requests.limit, a.tokens.limit}
	left := [2]float64{a.requests.left(now), a.tokens.left(now)}
	rest := time.Duration(0)
	for _, a := range s.accounts {
		rest += max(a.until.Sub(now), 0)
	}
	paused, refusals := s.paused-rest, s.refusals
	s.mu.Unlock()

	for i, unit := range []string{"requests", "tokens"} {
		if limits[i] == 0 {
			continue
		}
		labels := []string{"unit", unit}
		emit(core.Measure{Name: "ratelimit_limit", Help: "Units a minute that are allowed of the account in use: the lower of the configured limit and the upstream's.", Value: limits[i], Labels: labels})
		emit(core.Measure{Name: "ratelimit_left", Help: "Units that are left of the last minute's.", Value: left[i], Labels: labels})
	}
	emit(core.Measure{Name: "ratelimit_paused_seconds_total", Help: "Time during which nothing was started for an account because of a 429, over all accounts.", Counter: true, Value: paused.Seconds()})
	if s.shared != nil {
		s.measureLease(emit)
	}
	emit(core.Measure{Name: "ratelimit_refusals_total", Help: "Calls that the upstream refused with a 429.", Counter: true, Value: float64(refusals)})
}

func (b *bucket) left(now time.Time) float64 {
	return max(b.limit-float64(b.held+b.ended.Sum(now)), 0)
}
