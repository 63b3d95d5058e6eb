package ratelimit

import (
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

const (
	// unused is how long an account is kept that nothing is charged to: longer
	// than any pause, and than the minute that a ledger covers.
	unused = 2 * longestPause
	// accountsKept is how many are, besides those of which something is out.
	accountsKept = 16
	// highest is the highest limit that is believed, and more than can be used.
	highest = 10_000_000_000
)

// An account is what an upstream said about one, and what was spent of it. What
// another said does not matter to it.
type account struct {
	ours             bool         // the configured limits are its: it is or was that of the provider in use
	config           Config       // the one that was given last
	lease            *lease       // nil when nothing is shared
	agreed           [units]int64 // the limits that the group keeps to; 0 for none
	theirs           Config       // what the upstream said last; 0 is unknown
	requests, tokens bucket

	until   time.Time     // of the pause
	backoff time.Duration // of the last pause that the upstream did not name
	slowed  bool          // there was no good answer since the rate was lowered

	used time.Time // last
}

// newAccount returns one of which nothing is spent. It is that of the provider in
// use when config says limits.
func newAccount(config Config, now time.Time) *account {
	a := &account{ours: config != Config{}, used: now}
	a.requests.scale, a.tokens.scale = 1, 1
	a.limit(config, now)
	return a
}

// buckets are those of a, in the order of units.
func (a *account) buckets() [units]*bucket { return [units]*bucket{&a.requests, &a.tokens} }

// configured are the limits that the file says of a.
func (a *account) configured() [units]int {
	if !a.ours {
		return [units]int{}
	}
	return [units]int{a.config.RequestsPerMinute, a.config.TokensPerMinute}
}

// forget makes room for one more account: those go that nothing was charged to
// for long, and the one that was used longest ago when there are too many. What
// has calls that run stays, and so does the account of the provider in use.
func (s *Stage) forget(now time.Time) {
	var oldest *account
	var name string
	kept := 0
	for n, a := range s.accounts {
		if a == s.current || a.requests.held > 0 {
			continue
		}
		if now.Sub(a.used) > unused {
			s.leave(n, a)
			continue
		}
		if kept++; oldest == nil || a.used.Before(oldest.used) {
			oldest, name = a, n
		}
	}
	if kept >= accountsKept {
		s.paused -= max(oldest.until.Sub(now), 0) // it is not told of any more
		s.leave(name, oldest)
	}
}

// learn takes over the limits of an answer. What is negative, and what was left
// out, is unknown; no limit is above the highest that can be configured.
func (a *account) learn(l core.Limits, config Config, now time.Time) {
	for u, x := range []struct {
		core.Limit
		theirs *int
		bucket *bucket
	}{
		{l.Requests, &a.theirs.RequestsPerMinute, &a.requests},
		{l.Tokens, &a.theirs.TokensPerMinute, &a.tokens},
	} {
		if !x.Known {
			continue
		}
		if a.lease != nil {
			a.lease.learned[u] = now
		}
		if limit := min(x.Limit.Limit, highest); limit > 0 && limit != *x.theirs {
			*x.theirs = limit
			a.limit(config, now)
		}
		if x.bucket.limit > 0 && (x.Remaining > 0 || x.Remaining == 0 && x.Reset > 0) {
			x.bucket.heed(int64(min(x.Remaining, highest)), x.Reset, now)
		}
	}
}

// limit sets both buckets to the lower of the configured limit and theirs; none
// is configured for an account that was only a fallback's.
func (a *account) limit(config Config, now time.Time) {
	a.config = config
	ours := a.configured()
	lowest := func(limits ...int64) (least float64) {
		for _, l := range limits {
			if l > 0 && (least == 0 || float64(l) < least) {
				least = float64(l)
			}
		}
		return least
	}
	r := lowest(int64(ours[0]), int64(a.theirs.RequestsPerMinute), a.agreed[0])
	t := lowest(int64(ours[1]), int64(a.theirs.TokensPerMinute), a.agreed[1])
	// A second's worth of requests at once; of tokens a few ordinary texts.
	burst := max(1, r/60)
	if l := a.lease; l != nil && l.shares {
		r, t, burst = l.share(r), l.share(t), 1
	}
	a.requests.set(r, burst, now)
	a.tokens.set(t, max(t/10, min(t/4, 500)), now)
}

// pause shuts the account for after, or for a time of its own when after is 0,
// and returns for how much longer that is than it was. It opens for a single
// call, and the rate recovers with good answers.
func (a *account) pause(after time.Duration, now time.Time) (longer time.Duration) {
	if after <= 0 {
		if now.Before(a.until) {
			return 0 // one of those that were under way when the pause began
		}
		a.backoff = min(max(2*a.backoff, firstPause), longestGuess)
		after = a.backoff
	}
	until := now.Add(min(after, longestPause))
	if !until.After(a.until) {
		return 0
	}
	b := &a.requests
	b.refill(b.burst, now)
	if now.Before(a.until) {
		longer = until.Sub(a.until)
	} else {
		longer = until.Sub(now)
		// That the one call is refused which ends a pause says nothing of the rate.
		if !a.slowed {
			b.scale, a.slowed = max(b.scale*slowed, slowest), true
		}
	}
	a.until = until
	b.level, b.at = 1, until
	return longer
}

// recover is for a good answer. One from before the pause proves nothing.
func (a *account) recover(now time.Time) {
	if b := &a.requests; !now.Before(a.until) {
		a.backoff, a.slowed = 0, false
		b.scale = min(b.scale*regained, 1)
	}
}
