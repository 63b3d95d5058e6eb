package provider

import (
	"sync"
	"time"
)

// A budget bounds the retries and hedges of a stage, so that an upstream in
// trouble is not asked twice for everything: a tenth of the requests, and three
// a second besides. Hedges leave some of it: a retry makes up for a failure, a
// hedge for some time. It is safe for concurrent use.
type budget struct {
	mu     sync.Mutex
	earned float64   // by requests
	timed  float64   // by time
	at     time.Time // when timed was right
}

const (
	retriesPerRequest = 0.1
	maxEarned         = 100 // what good times can save up
	retriesPerSecond  = 3
	leftByHedges      = 2
)

func newBudget() *budget { return &budget{timed: retriesPerSecond, at: time.Now()} }

// earn notes a request.
func (b *budget) earn() {
	b.mu.Lock()
	b.earned = min(b.earned+retriesPerRequest, maxEarned)
	b.mu.Unlock()
}

// spend takes one attempt, if there is one and at least keep are left.
func (b *budget) spend(now time.Time, keep float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if since := now.Sub(b.at); since > 0 {
		b.timed = min(b.timed+retriesPerSecond*min(since, time.Second).Seconds(), retriesPerSecond)
		b.at = now
	}
	switch {
	case b.timed+b.earned < 1+keep:
		return false
	case b.timed >= 1:
		b.timed--
	case b.earned >= 1:
		b.earned--
	default:
		return false
	}
	return true
}
