package provider

import (
	"context"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

const (
	// firstPause is the pause after a 429 that named none, and firstQuota after an
	// exhausted quota; each doubles until a good answer, up to longestGuess and
	// longestQuota: the one since clients wait, the other for somebody may have paid.
	firstPause   = time.Second
	firstQuota   = 10 * time.Second
	longestGuess = 4 * time.Second
	longestQuota = time.Minute
	// longestPause bounds every pause: after it one call asks again.
	longestPause = 5 * time.Minute
)

// A pause is what an account wants: to be left alone, since its quota is gone or it
// answered with a 429. When it is over one call tries, and all others wait for what
// comes of that, or go elsewhere. It is safe for concurrent use.
//
// The gates keep pauses after a 429 as well. This one is for choosing: who can be asked
// somewhere else need not wait.
type pause struct {
	mu      sync.Mutex
	kind    core.ErrorKind // of the failure that it is for; empty when there is none
	until   time.Time
	backoff time.Duration
	trying  chan struct{} // closed when the call that tries has ended; nil when none does
	waiting map[*context.CancelCauseFunc]struct{}
}

// errMoved ends the wait for a turn of an account that has just begun a pause.
var errMoved = &core.Error{Kind: core.RateLimited, Detail: "the account is paused, another is asked"}

// on says whether the account is to be left alone, of which kind of failure, for how
// long, and who tries at this moment: then nobody knows for how long.
func (p *pause) on(now time.Time) (kind core.ErrorKind, left time.Duration, trying <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.kind == "":
		return "", 0, nil
	case now.Before(p.until):
		return p.kind, p.until.Sub(now), nil
	case p.trying != nil:
		return p.kind, 0, p.trying
	}
	return "", 0, nil // the next call tries
}

// enter says whether a call may begin, and whether it is the one that tries.
func (p *pause) enter(now time.Time) (tries, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.kind == "":
		return false, true
	case now.Before(p.until) || p.trying != nil:
		return false, false
	}
	p.trying = make(chan struct{})
	return true, true
}

// leave notes how a call ended that began at start. Of those that were under way when
// a pause began, a good answer proves nothing. Void says that what it ended with says
// nothing of the account.
func (p *pause) leave(tries bool, failed *core.Error, void bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tries {
		close(p.trying)
		p.trying = nil
	}
	switch {
	case failed != nil && (failed.Kind == core.QuotaExceeded || failed.Kind == core.RateLimited):
		p.begin(failed.Kind, failed.RetryAfter, now)
	case void:
	case tries:
		p.kind, p.backoff = "", 0
	}
}

func (p *pause) begin(kind core.ErrorKind, after time.Duration, now time.Time) {
	shortest, longest := firstPause, longestGuess
	if kind == core.QuotaExceeded {
		shortest, longest = firstQuota, longestQuota
	}
	if after <= 0 {
		if p.kind != "" && now.Before(p.until) {
			return // one of those that were under way when the pause began
		}
		p.backoff = min(max(2*p.backoff, shortest), longest)
		after = p.backoff
	}
	if until := now.Add(min(after, longestPause)); p.kind == "" || until.After(p.until) {
		p.until = until
	}
	p.kind = kind
	for cancel := range p.waiting {
		(*cancel)(errMoved)
	}
}

// watch returns a context that ends with errMoved when a pause begins; stop is to be
// called when nobody waits any more.
func (p *pause) watch(ctx context.Context) (watched context.Context, stop func()) {
	watched, cancel := context.WithCancelCause(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = map[*context.CancelCauseFunc]struct{}{}
	}
	p.waiting[&cancel] = struct{}{}
	return watched, func() {
		p.mu.Lock()
		delete(p.waiting, &cancel)
		p.mu.Unlock()
		cancel(nil)
	}
}
