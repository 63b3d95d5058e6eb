// Package ratelimit is the gate that keeps upstream calls within the limits of
// the account: requests and tokens a minute, yours or the upstream's, whichever
// is lower. A 429 becomes everybody's pause.
package ratelimit

import (
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/line"
)

const (
	// firstPause is the pause after a 429 that named none; it doubles with each
	// one before the next good answer, up to longestPause.
	firstPause = time.Second
	// longestPause bounds every pause, so that a nonsensical Retry-After cannot
	// shut the gate for good: after it one call asks again.
	longestPause = 5 * time.Minute
	// slowed is what the rate is multiplied with at each 429, slowest the least
	// that this leaves, and regained what each good answer multiplies it with.
	slowed   = 1. / 4
	slowest  = 1. / 64
	regained = 1.1
)

// Kind declares the stage `ratelimit`.
func Kind() core.Kind {
	return core.NewKind("ratelimit", core.RoleGate, "Keeps upstream calls within your account's requests and tokens a minute.", Defaults,
		func(_ core.Env, c *Config) (any, error) { return New(*c), nil })
}

// A Stage is a gate: enough requests, enough tokens, no pause. It is safe for
// concurrent use.
type Stage struct {
	mu               sync.Mutex
	config           Config
	theirs           Config // what the upstream said last; 0 is unknown
	requests, tokens bucket

	until   time.Time     // of the pause
	backoff time.Duration // of the last pause that the upstream did not name

	refusals int64         // 429s
	paused   time.Duration // in all, the rest of the pause that is on included

	waits []*line.Line // that were refused
}

var (
	_ core.Gate          = (*Stage)(nil)
	_ core.Planner       = (*Stage)(nil)
	_ core.Measurer      = (*Stage)(nil)
	_ core.Fingerprinter = (*Stage)(nil)
	_ core.Scoper        = (*Stage)(nil)
	_ line.Opener        = (*Stage)(nil)
)

// New returns the gate that c describes, with nothing spent.
func New(c Config) *Stage {
	s := &Stage{config: c}
	s.requests.scale, s.tokens.scale = 1, 1
	s.limit(time.Now())
	return s
}

// Fingerprint is empty: the stage changes no answer.
func (s *Stage) Fingerprint() string { return "" }

// Scope is the account: a limit is of all that is charged to it.
func (s *Stage) Scope() core.Scope { return core.ScopeAccount }

// Take takes one request and the tokens it may cost.
func (s *Stage) Take(req *core.Request, now time.Time) (ok bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if wait := s.until.Sub(now); wait > 0 {
		return false, wait
	}
	n := estimate(req)
	ok, wait = s.requests.ask(1, now)
	enough, later := s.tokens.ask(n, now)
	if !ok || !enough {
		return false, max(wait, later)
	}
	s.requests.take(1)
	s.tokens.take(n)
	return true, 0
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
	n := estimate(req)
	if o.Unused {
		s.requests.restore(1, now)
		s.tokens.restore(n, now)
		return
	}
	cost := int64(o.Usage.PromptTokens + o.Usage.CompletionTokens)
	if cost == 0 {
		cost = n // the provider did not say
	}
	s.requests.settle(1, 1, now)
	s.tokens.settle(n, cost, now)

	s.learn(o.Limits, now)
	switch {
	case o.Err == nil:
		s.recover(now)
	case o.Err.Kind == core.RateLimited:
		s.pause(o.Err.RetryAfter, now)
	}
}

// learn takes over the limits of an answer. What is negative, and what was left
// out, is unknown.
func (s *Stage) learn(l core.Limits, now time.Time) {
	for _, x := range []struct {
		core.Limit
		theirs *int
		bucket *bucket
	}{
		{l.Requests, &s.theirs.RequestsPerMinute, &s.requests},
		{l.Tokens, &s.theirs.TokensPerMinute, &s.tokens},
	} {
		if !x.Known {
			continue
		}
		if x.Limit.Limit > 0 && x.Limit.Limit != *x.theirs {
			*x.theirs = x.Limit.Limit
			s.limit(now)
		}
		if x.bucket.limit > 0 && (x.Remaining > 0 || x.Remaining == 0 && x.Reset > 0) {
			x.bucket.heed(int64(x.Remaining), x.Reset, now)
		}
	}
}

// limit sets both buckets to the lower of our limit and theirs.
func (s *Stage) limit(now time.Time) {
	lower := func(ours, theirs int) float64 {
		if theirs > 0 && (theirs < ours || ours == 0) {
			return float64(theirs)
		}
		return float64(ours)
	}
	// A second's worth of requests at once; of tokens a few ordinary texts.
	r := lower(s.config.RequestsPerMinute, s.theirs.RequestsPerMinute)
	s.requests.set(r, max(1, r/60), now)
	t := lower(s.config.TokensPerMinute, s.theirs.TokensPerMinute)
	s.tokens.set(t, max(t/10, min(t/4, 500)), now)
}

// pause shuts the gate for after, or for a time of its own when after is 0. It
// opens for a single call, and the rate recovers with good answers.
func (s *Stage) pause(after time.Duration, now time.Time) {
	s.refusals++
	if after <= 0 {
		if now.Before(s.until) {
			return // one of those that were under way when the pause began
		}
		s.backoff = min(max(2*s.backoff, firstPause), longestPause)
		after = s.backoff
	}
	until := now.Add(min(after, longestPause))
	if !until.After(s.until) {
		return
	}
	b := &s.requests
	b.refill(b.burst, now)
	if now.Before(s.until) {
		s.paused += until.Sub(s.until)
	} else {
		s.paused += until.Sub(now)
		b.scale = max(b.scale*slowed, slowest)
	}
	s.until = until
	b.level, b.at = 1, until
}

// recover is for a good answer. One from before the pause proves nothing.
func (s *Stage) recover(now time.Time) {
	if b := &s.requests; !now.Before(s.until) {
		s.backoff = 0
		b.scale = min(b.scale*regained, 1)
	}
}

// estimate returns the tokens that a call may cost: the prompt's own, the
// text's at three code points each, and the cap of the answer.
func estimate(req *core.Request) int64 {
	source := int64(utf8.RuneCountInString(req.Text)) / 3
	n := 120 + source + min(max(3*source+16, 32), 4096)
	for _, p := range req.Context {
		n += int64(utf8.RuneCountInString(p.Source)+utf8.RuneCountInString(p.Target)) / 3
	}
	return n
}

// linesKept is how many lines Plan wakes: that of the newest chain, and those of
// chains before it from which the last requests are leaving.
const linesKept = 8

// Refused notes which line waits, for Plan.
func (s *Stage) Refused(l *line.Line) (again bool) {
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
		s.limit(time.Now())
		waits := slices.Clone(s.waits)
		s.mu.Unlock()
		for _, l := range waits {
			l.Wake()
		}
	}, nil
}

// Measure reports the limits that hold, what is left of them, and the pauses.
func (s *Stage) Measure(emit func(core.Measure)) {
	s.mu.Lock()
	now := time.Now()
	limits := [2]float64{s.requests.limit, s.tokens.limit}
	left := [2]float64{s.requests.left(now), s.tokens.left(now)}
	rest := max(s.until.Sub(now), 0)
	paused, refusals := s.paused-rest, s.refusals
	s.mu.Unlock()

	for i, unit := range []string{"requests", "tokens"} {
		if limits[i] == 0 {
			continue
		}
		labels := []string{"unit", unit}
		emit(core.Measure{Name: "ratelimit_limit", Help: "Units a minute that are allowed: the lower of the configured limit and the upstream's.", Value: limits[i], Labels: labels})
		emit(core.Measure{Name: "ratelimit_left", Help: "Units that are left of the last minute's.", Value: left[i], Labels: labels})
	}
	emit(core.Measure{Name: "ratelimit_paused_seconds_total", Help: "Time during which nothing was started because of a 429.", Counter: true, Value: paused.Seconds()})
	emit(core.Measure{Name: "ratelimit_refusals_total", Help: "Calls that the upstream refused with a 429.", Counter: true, Value: float64(refusals)})
}

func (b *bucket) left(now time.Time) float64 {
	b.ended.move(now)
	return max(b.limit-float64(b.held+b.ended.sum), 0)
}
