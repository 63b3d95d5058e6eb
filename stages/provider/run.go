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
	way   *way
	ctx   context.Context
	req   *core.Request // own
	own   core.Request  // a copy, charged to the account that is asked first
	since time.Time     // when it came, which is its seniority

	turn    *line.Turn   // held, or nil
	outcome core.Outcome // what the gates are told of turn

	floor     floor
	last      *attempt // that was made
	attempts  int
	moves     int          // of these, those that went on to another of a list
	notBefore time.Time    // the upstream wants to be left alone until then
	asked     *target      // that the request has chosen
	instead   *core.Result // what the best rejected answer was made into
	spent     []*target    // that need not be asked again
}

// firstBackoff is the longest pause before the first retry; it doubles.
const firstBackoff = 20 * time.Millisecond

func (r *run) translate() (*core.Result, *core.Error) {
	r.budget.earn()
	g := r.way.first
	if len(r.way.then) > 0 && !g.speaks(r.req) {
		return r.fallBack(&core.Error{
			Kind: core.UnsupportedLanguage, Stage: g.members[0].name, Detail: "no provider in use translates this pair of languages",
		}, r.gates)
	}
	if r.req.Relieve {
		return r.fallBack(&core.Error{
			Kind: core.Overloaded, Stage: g.members[0].name, Detail: "calls wait too long for the provider in use, and there is no fallback", Retryable: true,
		}, r.gates)
	}
	several := len(g.members) > 1
	var failed *core.Error // the last attempt
	for reason := first; ; {
		t, trying, why := r.pick(g, several, false)
		switch {
		case t == nil && trying != nil && !r.backed():
			r.give()
			if err := r.await(trying); err != nil {
				return nil, err
			}
			continue
		case t == nil:
			return r.fallBack(orElse(failed, why), r.gatesLeft())
		}
		r.giveWhile()
		if r.attempts == 0 && r.turn == nil {
			r.own.Account = t.account
		}
		if err := r.turnOf(t, several); err == errMoved {
			continue
		} else if err != nil {
			if err.Kind != core.RateLimited || isOneOf(r.slots, err.Stage) {
				return nil, r.noTurn(err, failed)
			}
			if r.spend(t, err.Kind); several && r.open(g) {
				continue
			}
			if len(r.way.then) == 0 {
				return nil, r.noTurn(err, failed)
			}
			gates := r.gates
			if !isOneOf(r.accounts, err.Stage) {
				gates = without(gates, err.Stage)
			}
			return r.fallBack(err, gates)
		}
		permit, ok := t.breaker.acquire()
		if !ok {
			if r.spend(t, core.Unavailable); several && r.open(g) {
				continue
			}
			return r.fallBack(orElse(failed, unavailable(t)), r.gates)
		}
		tries, ok := t.enter(several, r.alone())
		if !ok { // a pause has begun, or another call tries whether one is over
			t.breaker.release(permit, saysNothing)
			continue
		}
		var res *core.Result
		var err *core.Error
		wait, hedged := time.Duration(0), false
		if reason == first && r.delay != nil && r.req.Chat == nil {
			wait, hedged = r.delay(t.record, r.req.OnDelta != nil)
		}
		if hedged {
			res, err = r.race(t, permit, tries, wait)
		} else {
			res, err = r.attempt(t, permit, tries, reason)
		}
		if err == nil {
			return res, nil
		}
		r.mayDo(err.Instead, false)
		failed = err
		if failed.Kind == core.RateLimited {
			r.give() // becomes everybody's pause at once
		}
		if r.spend(t, failed.Kind); several && r.mayMove(failed) && r.open(g) {
			reason = moved
			continue
		}
		pause, ok := r.mayRetry(t, failed)
		if !ok {
			return r.fallBack(failed, r.borrowed)
		}
		r.give()
		if err := r.sleep(pause); err != nil {
			return nil, err
		}
		reason, r.spent = retry, nil
	}
}

// mayDo keeps what a rejected answer was made into, for when none is better: that of the
// preferred provider, of whose attempts the first.
func (r *run) mayDo(res *core.Result, fallback bool) {
	if res == nil || r.instead != nil {
		return
	}
	if fallback {
		res = res.WithFlag(core.FlagFallback)
		res.NoStore = true
	}
	r.instead = res
}

// enter says whether a call of t may begin, and whether it tries if a pause is over. A
// pause after a 429 is heeded by who may ask another member: for all others the gates
// keep it. One for an exhausted quota is heeded by who is not alone.
func (t *target) enter(heed, alone bool) (tries, ok bool) {
	now := time.Now()
	switch kind, _, _ := t.pause.on(now); {
	case kind == core.RateLimited && !heed, kind == core.QuotaExceeded && alone:
		return false, true
	}
	return t.pause.enter(now)
}

// alone says that nobody else can be asked for the request: to leave an account without
// quota alone would then fail texts that it may answer, for somebody may have paid.
func (r *run) alone() bool { return len(r.way.first.members) == 1 && len(r.way.then) == 0 }

// chosen notes that the request has t to do, and no longer whom it had before.
func (r *run) chosen(t *target) {
	if r.asked != nil {
		r.asked.load.Add(-1)
	}
	if r.asked = t; t != nil {
		t.load.Add(1)
	}
}

// spend notes that t need not be asked again. What a model would not answer, it would
// not with another account either.
func (r *run) spend(t *target, kind core.ErrorKind) {
	r.spent = append(r.spent, t)
	switch kind {
	case core.ProviderRefused, core.BadAnswer, core.UnsupportedLanguage:
		for _, g := range append(r.way.then[:len(r.way.then):len(r.way.then)], r.way.first) {
			for _, other := range g.members {
				if other.entry == t.entry && other != t {
					r.spent = append(r.spent, other)
				}
			}
		}
	}
}

// mayMove says whether another of a list is asked after failed, at once.
func (r *run) mayMove(failed *core.Error) bool {
	return (fallsOver(failed.Kind) || failed.Retryable) && !r.delta() && r.ctx.Err() == nil
}

// charged is the request as the gates are told of it for t.
func (r *run) charged(t *target, fallback bool) *core.Request {
	if r.own.Account == t.account && !fallback {
		return r.req
	}
	req := r.own
	req.Account, req.Fallback = t.account, fallback
	return &req
}

// turnOf makes the turn that is held one for t, or takes one from all gates. When
// somebody else may be asked it returns errMoved as soon as the account begins a pause.
func (r *run) turnOf(t *target, several bool) *core.Error {
	req := r.charged(t, false)
	if r.turn != nil {
		outcome := r.outcome
		r.outcome = core.Outcome{Unused: true}
		if r.turn.Pass(req, outcome) {
			return nil
		}
		r.turn = nil
	}
	if !several {
		return r.take(r.ctx, req, r.gates)
	}
	ctx, stop := t.pause.watch(r.ctx)
	defer stop()
	return r.take(ctx, req, r.gates)
}

// giveWhile gives the turn back while somebody is waited for: nothing sleeps with one.
func (r *run) giveWhile() {
	if time.Now().Before(r.notBefore) {
		r.give()
	}
}

// gatesLeft are those that a fallback needs a turn from: after an attempt those alone
// that are everybody's, or count by account.
func (r *run) gatesLeft() []core.Guard {
	if r.attempts > 0 {
		return r.borrowed
	}
	return r.gates
}

// await waits until a call has ended that tries whether an account is back.
func (r *run) await(trying <-chan struct{}) *core.Error {
	select {
	case <-trying:
		return nil
	case <-r.ctx.Done():
		return core.ContextError(r.ctx, "")
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
// account. One that cannot be asked before the deadline is passed over, and one that
// can be asked now goes before those that have to be waited for.
func (r *run) fallBack(failed *core.Error, gates []core.Guard) (*core.Result, *core.Error) {
	speaks := func(g *group) bool { return g.speaks(r.req) }
	if !slices.ContainsFunc(r.way.then, speaks) || r.delta() || !fallsOver(failed.Kind) || r.ctx.Err() != nil {
		return nil, r.over(failed)
	}
	r.notBefore = time.Time{} // that was said by another
	r.log.Debug("an attempt failed, a fallback is asked", zap.String("request", r.req.ID), zap.Int("attempt", r.attempts), zap.Error(failed))
	for {
		f, trying := r.next()
		if f == nil && trying != nil {
			r.give()
			if r.await(trying) != nil {
				break
			}
			continue
		}
		if f == nil {
			break
		}
		r.giveWhile()
		r.spent = append(r.spent, f)
		if err := r.turnFor(f, gates); err != nil {
			if err.Kind == core.RateLimited && isOneOf(r.accounts, err.Stage) {
				continue
			}
			return nil, r.noTurn(err, failed)
		}
		r.notBefore = time.Time{}
		permit, ok := f.breaker.acquire()
		if !ok {
			continue
		}
		tries, ok := f.pause.enter(time.Now())
		if !ok { // a pause began meanwhile: whoever is next is chosen anew, f too if it is in time
			f.breaker.release(permit, saysNothing)
			r.spent = slices.DeleteFunc(r.spent, func(t *target) bool { return t == f })
			continue
		}
		res, err := r.attempt(f, permit, tries, fallback)
		if err == nil {
			res = res.WithFlag(core.FlagFallback) // a copy
			res.NoStore = true
			return res, nil
		}
		r.mayDo(err.Instead, true)
		r.spend(f, err.Kind)
		if err.Kind != core.UnsupportedLanguage { // else it cannot stand in: why it was asked tells more
			failed = err
		}
		if r.delta() || !fallsOver(failed.Kind) || r.ctx.Err() != nil {
			break
		}
	}
	return nil, r.over(failed)
}

// next returns the fallback that is asked next: the first that can be asked now, else
// the first that can be waited for. Trying is what to wait for when a call finds out.
func (r *run) next() (f *target, trying <-chan struct{}) {
	for _, onlyOpen := range []bool{true, false} {
		for _, g := range r.way.then {
			if !g.speaks(r.req) {
				continue
			}
			t, tries, _ := r.pick(g, true, onlyOpen)
			if t != nil {
				return t, nil
			}
			if tries != nil {
				trying = tries
			}
		}
	}
	return nil, trying
}

// turnFor makes the turn that is held one for f, or takes one from gates, and
// from fewer while such as know no accounts are shut for longer than the request
// can wait; but never without a slot.
func (r *run) turnFor(f *target, gates []core.Guard) *core.Error {
	req := r.charged(f, true)
	if r.turn != nil {
		outcome := r.outcome
		r.outcome = core.Outcome{Unused: true}
		if r.turn.Pass(req, outcome) {
			return nil
		}
		r.turn = nil
		gates = r.borrowed
	}
	for {
		err := r.take(r.ctx, req, gates)
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
	return slices.ContainsFunc(r.way.then, func(g *group) bool {
		return slices.ContainsFunc(g.members, func(t *target) bool {
			return t.speaks(r.req) && r.standing(t, false, time.Now()).why == nil
		})
	})
}

// elsewhere says whether anybody but t may be asked yet.
func (r *run) elsewhere(t *target) bool {
	other := func(g *group) bool {
		return slices.ContainsFunc(g.members, func(o *target) bool {
			return o != t && !slices.Contains(r.spent, o) && o.speaks(r.req) && r.standing(o, false, time.Now()).why == nil
		})
	}
	return other(r.way.first) || slices.ContainsFunc(r.way.then, other)
}

// mayRetry says whether those in use are asked again after t failed, and how long to
// pause before that.
func (r *run) mayRetry(t *target, failed *core.Error) (pause time.Duration, ok bool) {
	retries := r.attempts - r.moves - 1
	switch {
	case !failed.Retryable, r.delta(), retries >= r.cfg.Retries, r.ctx.Err() != nil:
		return 0, false
	case (failed.Kind == core.DeadlineExceeded || failed.Kind == core.Unavailable) && r.backed():
		return 0, false // it hangs or is away: what is left of the time goes to another
	}
	after := failed.RetryAfter
	if len(r.way.first.members) > 1 {
		after = 0 // the next may be another, and who wants to be left alone is known
	} else if shut, _ := t.breaker.shut(); shut {
		return 0, false
	}
	now := time.Now()
	pause = rand.N(firstBackoff << retries)
	if !r.inTime(now.Add(max(pause, after))) {
		return 0, false
	}
	if !r.budget.spend(now, 0) {
		r.denied.Add(1)
		return 0, false
	}
	r.log.Debug("an attempt failed, another follows", zap.String("request", r.req.ID), zap.Int("attempt", r.attempts), zap.Error(failed))
	r.notBefore = now.Add(after)
	return pause, true
}

// take takes a turn for req from gates. When no gate has made the upstream's wish to be
// left alone a pause of everybody, this request waits for its end by itself,
// without a turn.
func (r *run) take(ctx context.Context, req *core.Request, gates []core.Guard) *core.Error {
	for {
		if f := r.req.Flight; f != nil {
			f.Waits()
		}
		asked := time.Now()
		turn, err := r.line.Turn(ctx, req, gates, line.How{Since: r.since})
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

// orElse is failed, or why there was no attempt.
func orElse(failed, why *core.Error) *core.Error {
	if failed != nil {
		return failed
	}
	return why
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
