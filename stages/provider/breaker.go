package provider

import (
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"go.uber.org/zap"
)

// A breaker keeps calls from a provider that keeps failing. It is failsafe-go's
// circuit breaker and two things that one lacks: what is recorded counts only
// in the state in which the call began, and a probe that says nothing about the
// provider, because its client left, hands its permit on instead of losing it.
type breaker struct {
	policy  circuitbreaker.CircuitBreaker[any] // nil: never opens
	openFor time.Duration
	changes atomic.Int64 // of state
	spare   atomic.Int64 // permits handed on
	opened  atomic.Int64 // times
	probes  atomic.Int64 // calls while half open
}

// A permit is the right to make one call, and the state that it was given in.
type permit struct{ state int64 }

// A verdict is what a call says about its provider.
type verdict int

const (
	saysNothing verdict = iota
	saysWell
	saysUnwell
)

func newBreaker(cfg Breaker, name string, log *zap.Logger) *breaker {
	b := &breaker{openFor: cfg.OpenFor}
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
				b.opened.Add(1)
				log.Warn("the provider keeps failing, it is left alone for a while", zap.String("provider", name), zap.Duration("for", cfg.OpenFor))
			case circuitbreaker.ClosedState:
				log.Info("the provider is back", zap.String("provider", name))
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
			b.probes.Add(1)
		}
		return permit{b.changes.Load()}, true
	}
	for n := b.spare.Load(); n > 0; n = b.spare.Load() {
		if b.spare.CompareAndSwap(n, n-1) {
			b.probes.Add(1)
			return permit{b.changes.Load()}, true
		}
	}
	return permit{}, false
}

// release ends the call that p was for.
func (b *breaker) release(p permit, v verdict) {
	if b.policy == nil || p.state != b.changes.Load() {
		return
	}
	switch v {
	case saysWell:
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
