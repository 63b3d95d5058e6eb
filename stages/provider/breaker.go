package provider

import (
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"go.uber.org/zap"
)

// A breaker keeps calls from a provider that keeps failing. It is failsafe-go's
// circuit breaker and three things that one lacks: what is recorded counts only
// in the state in which the call began; a probe that says nothing about the
// provider, because its client left, hands its permit on instead of losing it;
// and a call that failed while as many others went well as it takes failures to
// open is not one of a row. Else a few that hang, each begun among thousands that
// went well, would open it when they end while nothing else does, as in
// everybody's pause after a 429. When a provider begins to fail, the calls that
// began last have not seen so many go well: they are as many as it takes.
type breaker struct {
	policy  circuitbreaker.CircuitBreaker[any] // nil: never opens
	row     int64                              // failures that open it
	openFor time.Duration
	tally   *tally
	changes atomic.Int64 // of state
	well    atomic.Int64 // calls that went well
	spare   atomic.Int64 // permits handed on
	health  health       // for Ready alone
}

// A permit is the right to make one call: the state that it was given in, and
// how many calls had gone well by then.
type permit struct{ state, well int64 }

// A hint is what a call says about its provider.
type hint int

const (
	saysNothing hint = iota
	saysWell
	saysUnwell
)

func newBreaker(cfg Breaker, counts *tally, log *zap.Logger) *breaker {
	b := &breaker{row: int64(cfg.Failures), openFor: cfg.OpenFor, tally: counts}
	if cfg.Failures == 0 {
		return b
	}
	b.policy = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(uint(cfg.Failures)).
		WithSuccessThreshold(1).
		WithDelay(cfg.OpenFor).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			b.changes.Add(1)
			switch e.NewState {
			case circuitbreaker.OpenState:
				b.tally.opened.Add(1)
				log.Warn("the provider keeps failing, it is left alone for a while", zap.String("provider", counts.name), zap.Duration("for", cfg.OpenFor))
			case circuitbreaker.ClosedState:
				log.Info("the provider is back", zap.String("provider", counts.name))
			}
		}).
		Build()
	return b
}

// acquire returns a permit unless the breaker is open, or half open with
// another call that tries.
func (b *breaker) acquire() (permit, bool) {
	if b.policy == nil {
		return permit{}, true
	}
	if b.policy.TryAcquirePermit() {
		if b.policy.IsHalfOpen() {
			b.tally.probes.Add(1)
		}
		return b.permit(), true
	}
	for n := b.spare.Load(); n > 0; n = b.spare.Load() {
		if b.spare.CompareAndSwap(n, n-1) {
			b.tally.probes.Add(1)
			return b.permit(), true
		}
	}
	return permit{}, false
}

func (b *breaker) permit() permit { return permit{b.changes.Load(), b.well.Load()} }

// release ends the call that p was for.
func (b *breaker) release(p permit, v hint) {
	if b.policy == nil || p.state != b.changes.Load() {
		return
	}
	if v == saysUnwell && b.well.Load()-p.well >= b.row {
		v = saysNothing
	}
	switch v {
	case saysWell:
		b.well.Add(1)
		b.policy.RecordSuccess()
	case saysUnwell:
		b.policy.RecordFailure()
	default:
		if b.policy.IsHalfOpen() {
			b.spare.Add(1)
		}
	}
}

// shut says whether a call would be turned away for sure, and for how long.
func (b *breaker) shut() (bool, time.Duration) {
	if b.policy == nil || !b.policy.IsOpen() {
		return false, 0
	}
	left := b.policy.RemainingDelay()
	return left > 0, left
}

// retryAfter is when a call that was turned away may be let through.
func (b *breaker) retryAfter() time.Duration {
	if shut, left := b.shut(); shut {
		return left
	}
	return min(b.openFor, time.Second) // another call tries at this moment
}

// state is 0 for closed, 1 for half open, 2 for open.
func (b *breaker) state() float64 {
	switch {
	case b.policy == nil || b.policy.IsClosed():
		return 0
	case b.policy.IsHalfOpen():
		return 1
	}
	return 2
}
