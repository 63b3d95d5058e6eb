package provider

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/line"
)

// A run is the work on one request: its attempts, one after the other.
type run struct {
	*foot
	ctx   context.Context
	req   *core.Request // own
	own   core.Request  // a copy, charged to the account of the provider in use
	since time.Time     // when it came, which is its seniority

	turn    *line.Turn   // held, or nil
	outcome core.Outcome // what the gates are told of turn

	floor     floor
	attempts  int
	notBefore time.Time // the upstream wants to be left alone until then
}

// firstBackoff is the longest pause before the first retry; it doubles.
const firstBackoff = 20 * time.Millisecond

func (r *run) translate() (*core.Result, *core.Error) {
	r.budget.earn()
	if len(r.fallbacks) > 0 && !r.preferred.speaks(r.req) {
		return r.fallBack(&core.Error{
			Kind: core.UnsupportedLanguage, Stage: r.preferred.name, Detail: "no provider in use translates this pair of languages",
		}, r.gates)
	}
	var failed *core.Error // the last attempt
	for reason := first; ; reason = retry {
		if shut, _ := r.preferred.breaker.shut(); shut && len(r.fallbacks) == 0 {
			return nil, r.orUnavailable(failed)
		}
		err := r.take(r.req, r.gates)
		if err != nil {
			if err.Kind == core.RateLimited && len(r.fallbacks) > 0 && !isOneOf(r.slots, err.Stage) {
				gates := r.gates
				if !isOneOf(r.accounts, err.Stage) {
					gates = without(gates, err.Stage)
				}
				return r.fallBack(err, gates)
			}
			return nil, r.noTurn(err, failed)
		}
		permit, ok := r.preferred.breaker.acquire()
		if !ok {
			return r.fallBack(r.orUnavailable(failed), r.gates)
		}
		var res *core.Result
		wait, hedged := time.Duration(0), false
		if reason == first && r.delay != nil && r.req.Chat == nil {
			wait, hedged = r.delay(r.preferred.record, r.req.OnDelta != nil)
		}
		if hedged {
			res, err = r.race(permit, wait)
		} else {
			res, err = r.attempt(r.preferred, permit, reason)
		}
		if err == nil {
			return res, nil
		}
		failed = err
		if failed.Kind == core.RateLimited {
			r.give() // becomes everybody's pause at once
		}
		pause, ok := r.mayRetry(failed)
		if !ok {
			return r.fallBack(failed, r.borrowed)
		}
		r.give()
		if err := r.sleep(pause); err != nil {
			return nil, err
		}
	}
}

// fallsOver says whether another provider may do better.
func fallsOver(kind core.ErrorKind) bool {
	switch kind {
	case core.ProviderFailed, core.Unavailable, core.Overloaded, core.QuotaExceeded, core.ProviderRefused, core.BadAnswer, core.RateLimited,
		core.DeadlineExceeded, core.UnsupportedLanguage:
		return true
	}
	return false
}

// fallBack asks the fallbacks, in order, after failed: each with the slot that is
// held, or when there is none with a turn from gates, and charged to its own
// account. One whose account is shut for longer than the request can wait is
// passed over.
func (r *run) fallBack(failed *core.Error, gates []core.Guard) (*core.Result, *core.Error) {
	speaks := func(f target) bool { return f.speaks(r.req) }
	if !slices.ContainsFunc(r.fallbacks, speaks) || r.delta() || !fallsOver(failed.Kind) || r.ctx.Err() != nil {
		return nil, r.over(failed)
	}
	r.notBefore = time.Time{} // that was said by another
	r.log.Debug("an attempt failed, a fallback is asked", zap.String("request", r.req.ID), zap.Int("attempt", r.attempts), zap.Error(failed))
	for _, f := range r.fallbacks {
		if shut, _ := f.breaker.shut(); shut || !speaks(f) {
			continue
		}
		if err := r.turnFor(f, gates); err != nil {
			if err.Kind == core.RateLimited && isOneOf(r.accounts, err.Stage) {
				continue
			}
			return nil, r.noTurn(err, failed)
		}
		permit, ok := f.breaker.acquire()
		if !ok {
			continue
		}
		res, err := r.attempt(f, permit, fallback)
		if err == nil {
			res = res.WithFlag(core.FlagFallback) // a copy
			res.NoStore = true
			return res, nil
		}
		if err.Kind != core.UnsupportedLanguage { // else it cannot stand in: why it was asked tells more
			failed = err
		}
		if r.delta() || !fallsOver(failed.Kind) || r.ctx.Err() != nil {
			break
		}
	}
	return nil, r.over(failed)
}

// turnFor makes the turn that is held one for f, or takes one from gates, and
// from fewer while such as know no accounts are shut for longer than the request
// can wait; but never without a slot.
func (r *run) turnFor(f target, gates []core.Guard) *core.Error {
	req := r.own
	req.Account, req.Fallback = f.account, true
	if r.turn != nil {
		outcome := r.outcome
		r.outcome = core.Outcome{Unused: true}
		if r.turn.Pass(&req, outcome) {
			return nil
		}
		r.turn = nil
		gates = r.borrowed
	}
	for {
		err := r.take(&req, gates)
		if err == nil {
			return nil
		}
		rest := without(gates, err.Stage)
		if err.Kind != core.RateLimited || len(rest) == len(gates) || isOneOf(r.borrowed, err.Stage) {
			return err
		}
		gates = rest
	}
}

// backed says whether a fallback may answer.
func (r *run) backed() bool {
	return slices.ContainsFunc(r.fallbacks, func(f target) bool {
		shut, _ := f.breaker.shut()
		return !shut && f.speaks(r.req)
	})
}

// mayRetry says whether the provider in use is asked again after failed, and
// how long to pause before that.
func (r *run) mayRetry(failed *core.Error) (pause time.Duration, ok bool) {
	retries := r.attempts - 1
	switch {
	case !failed.Retryable, r.delta(), retries >= r.cfg.Retries, r.ctx.Err() != nil:
		return 0, false
	case (failed.Kind == core.DeadlineExceeded || failed.Kind == core.Unavailable) && r.backed():
		return 0, false // it hangs or is away: what is left of the time goes to another
	}
	if shut, _ := r.preferred.breaker.shut(); shut {
		return 0, false
	}
	now := time.Now()
	pause = rand.N(firstBackoff << retries)
	if deadline, has := r.ctx.Deadline(); has && !now.Add(max(pause, failed.RetryAfter)).Before(deadline) {
		return 0, false
	}
	if !r.budget.spend(now, 0) {
		r.denied.Add(1)
		return 0, false
	}
	r.log.Debug("an attempt failed, another follows", zap.String("request", r.req.ID), zap.Int("attempt", r.attempts), zap.Error(failed))
	r.notBefore = now.Add(failed.RetryAfter)
	return pause, true
}

// take takes a turn for req from gates. When no gate has made the upstream's wish to be
// left alone a pause of everybody, this request waits for its end by itself,
// without a turn.
func (r *run) take(req *core.Request, gates []core.Guard) *core.Error {
	for {
		if f := r.req.Flight; f != nil {
			f.Waits()
		}
		asked := time.Now()
		turn, err := r.line.Turn(r.ctx, req, gates, line.How{Since: r.since})
		if err != nil {
			err := core.AsError(err, "")
			if isOneOf(gates, err.Stage) {
				r.req.Trace.Elsewhere(err.Stage, time.Since(asked))
				r.req.Trace.Waited += time.Since(asked)
			}
			return err
		}
		for _, w := range turn.Waits() {
			r.req.Trace.Elsewhere(w.Name, w.Self)
			r.req.Trace.Waited += w.Self
		}
		r.req.Trace.Paced += turn.Paced()
		early := time.Duration(0)
		if !r.notBefore.IsZero() {
			early = time.Until(r.notBefore)
		}
		if early <= 0 {
			r.turn, r.outcome = turn, core.Outcome{Unused: true}
			return nil
		}
		turn.Give(core.Outcome{Unused: true, At: time.Now()})
		if err := r.sleep(early); err != nil {
			return err
		}
	}
}

// spare takes a turn from all gates if one is free at this moment.
func (r *run) spare(req *core.Request) (*line.Turn, bool) {
	turn, err := r.line.Turn(r.ctx, req, r.gates, line.How{Since: r.since, Now: true})
	return turn, err == nil
}

// give gives the turn back, if one is held.
func (r *run) give() {
	if r.turn == nil {
		return
	}
	turn := r.turn
	r.turn = nil
	r.outcome.At = time.Now()
	turn.Give(r.outcome)
}

// tell notes what the gates will hear of the turn that is held.
func (r *run) tell(a *attempt) {
	if r.turn != nil {
		r.outcome = a.outcome()
	}
}

// outcome is what the gates hear of a: it names whose it is.
func (a *attempt) outcome() core.Outcome {
	o := core.Outcome{Provider: a.name, Account: a.account, Err: a.failed, Usage: a.usage}
	if a.limits != nil {
		o.Limits = *a.limits
	}
	return o
}

// hint is what an attempt says about its provider. That the request's own
// time was over says nothing, nor does the part of it that the attempt had:
// clients choose it. Unless that was far more than the provider needs.
func (r *run) hint(a *attempt) hint {
	switch {
	case a.failed == nil:
		return saysWell
	case r.ctx.Err() != nil || a.lost:
		return saysNothing
	case a.failed.Own && a.failed.Kind == core.DeadlineExceeded:
		if usual := a.usual(); usual > 0 && a.req.Chat == nil && a.took > farMore*usual {
			return saysUnwell
		}
		return saysNothing
	case a.failed.Own, a.failed.Odd:
		return saysNothing
	}
	switch a.failed.Kind {
	case core.ProviderFailed, core.Unavailable, core.DeadlineExceeded:
		return saysUnwell
	case core.Canceled, core.Internal:
		return saysNothing
	}
	return saysWell
}

// sleep waits for d, without a turn.
func (r *run) sleep(d time.Duration) *core.Error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.ctx.Done():
		return core.ContextError(r.ctx, "")
	}
}

// over is the answer after failed when nothing more is tried: when the request
// itself has ended meanwhile, that is why.
//
// After a delta has left no further attempt may be made by anybody, so the
// failure is none that another may mend.
func (r *run) over(failed *core.Error) *core.Error {
	if r.ctx.Err() != nil {
		if err := core.ContextError(r.ctx, failed.Stage); err.Kind != failed.Kind {
			return err
		}
	}
	if failed.Retryable && r.delta() {
		final := *failed
		final.Retryable = false
		r.req.Trace.Failed(&final) // it was counted where it arose
		return &final
	}
	return failed
}

// noTurn is the answer to a request that got no turn, after failed if there was
// an attempt before: that tells more than a line that is too long for another.
func (r *run) noTurn(err, failed *core.Error) *core.Error {
	if failed == nil {
		return err
	}
	switch err.Kind {
	case core.Overloaded, core.DeadlineExceeded:
		return r.over(failed)
	}
	return err
}

// orUnavailable is failed, or when there was no attempt the error that the
// breaker of the provider in use is open.
func (r *run) orUnavailable(failed *core.Error) *core.Error {
	if failed != nil {
		return failed
	}
	return &core.Error{
		Kind: core.Unavailable, Stage: r.preferred.name, Detail: "the provider keeps failing and is left alone for a moment",
		Retryable: true, RetryAfter: r.preferred.breaker.retryAfter(),
	}
}

// without returns gates without the one called name.
func without(gates []core.Guard, name string) []core.Guard {
	rest := make([]core.Guard, 0, len(gates))
	for _, g := range gates {
		if g.Name != name {
			rest = append(rest, g)
		}
	}
	return rest
}

func isOneOf(gates []core.Guard, name string) bool {
	for _, g := range gates {
		if g.Name == name {
			return true
		}
	}
	return false
}
