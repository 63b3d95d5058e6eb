package provider

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// An attempt is one call of one provider. What it was is set once it has
// ended, by the goroutine that made the call.
type attempt struct {
	*target
	permit permit
	tries  bool // whether a pause of the account is over
	why    reason
	req    core.Request
	unpin  func()
	cancel context.CancelCauseFunc // of an attempt with a rival

	start  time.Time
	took   time.Duration
	res    *core.Result
	failed *core.Error
	usage  core.Usage
	limits *core.Limits
	silent bool           // it ends when nothing is heard of it for First
	former *attempt       // of the same request
	told   core.Attempted // see note

	// Guarded by floor.mu until the attempt has ended.
	over  bool
	lost  bool          // another was faster
	spoke time.Duration // from start to its first delta; 0 when there was none
}

// A floor is where the attempts of one request meet: the first that says
// anything, be it a delta or the whole answer, is the one that counts. What
// the others say is not heard.
type floor struct {
	mu     sync.Mutex // also held while OnDelta runs
	ahead  *attempt   // that counts
	spoken bool       // a delta has left
	closed bool       // the request has its answer
	first  *attempt   // that a hedge may be made beside
	hedge  *attempt   // that was
	ended  chan struct{}
}

// outdone ends an attempt whose answer is not wanted any more.
func outdone(stage string) *core.Error {
	return &core.Error{Kind: core.Canceled, Stage: stage, Detail: "another attempt was faster"}
}

// say hands on a delta of a.
func (f *floor) say(a *attempt, text string, onDelta func(string) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || a.over || f.ahead != nil && f.ahead != a {
		return outdone(a.name)
	}
	if a.spoke == 0 {
		a.spoke = max(time.Since(a.start), 1)
	}
	f.lead(a)
	f.spoken = true
	return onDelta(text)
}

// lead makes a the one that counts, and ends its rival. The caller holds mu.
func (f *floor) lead(a *attempt) {
	if f.ahead != nil {
		return
	}
	f.ahead = a
	for _, rival := range [...]*attempt{f.first, f.hedge} {
		if rival != nil && rival != a && !rival.over {
			rival.lost = true
			rival.cancel(outdone(rival.name))
		}
	}
}

// end notes that a has ended: nothing is heard of it from now on.
func (f *floor) end(a *attempt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a.over = true
	switch {
	case a.failed == nil && !f.closed:
		f.lead(a)
		a.lost = f.ahead != a
	case a.failed == nil:
		a.lost = true
	}
}

// close ends what goes on beside the answer.
func (f *floor) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if h := f.hedge; h != nil && !h.over {
		h.lost = h.lost || f.ahead != h
		h.cancel(outdone(h.name))
	}
}

// delta says whether a piece of an answer has left.
func (r *run) delta() bool {
	r.floor.mu.Lock()
	defer r.floor.mu.Unlock()
	return r.floor.spoken
}

// prepare returns an attempt that may be made with t.
func (r *run) prepare(t *target, p permit, tries bool, why reason) *attempt {
	fork, unpin := r.req.Trace.ForkAttempt(why.String())
	a := &attempt{target: t, permit: p, tries: tries, why: why, req: *r.req, unpin: unpin, start: time.Now()}
	a.req.Trace, a.req.Attempt, a.req.Flight = fork, r.req.Attempt+r.attempts, nil
	a.req.Account = t.account
	a.req.Backed = why != fallback && r.elsewhere(t)
	a.silent = r.cfg.First > 0 && r.elsewhere(t)
	a.former, r.last = r.last, a
	r.attempts++
	if why == moved {
		r.moves++
	}
	if onDelta := r.req.OnDelta; onDelta != nil {
		a.req.OnDelta = func(text string) error { return r.floor.say(a, text, onDelta) }
	}
	return a
}

// attempt calls t once.
func (r *run) attempt(t *target, p permit, tries bool, why reason) (*core.Result, *core.Error) {
	a := r.prepare(t, p, tries, why)
	defer r.conclude(a) // also when it panics
	r.call(r.ctx, a)
	return a.res, a.failed
}

// conclude notes what came of a, which held the turn of r.
func (r *run) conclude(a *attempt) {
	a.unpin()
	r.req.Trace.Merge(a.req.Trace, a.took)
	r.tell(a)
}

// note tells the trace of the request which attempts were made. One that still runs has
// lost, and is called off by now.
func (r *run) note() {
	r.floor.mu.Lock()
	defer r.floor.mu.Unlock()
	var all *core.Attempted
	for a := r.last; a != nil; a = a.former {
		a.told = core.Attempted{Provider: a.name, Why: a.why.String(), Start: a.start, Spoke: a.spoke, Lost: a.lost}
		switch {
		case !a.over:
			a.told.Took, a.told.Lost, a.told.Err = time.Since(a.start), true, outdone(a.name)
		case a.failed != nil:
			a.told.Took, a.told.Err, a.told.Usage = a.took, a.failed, a.usage
		default:
			a.told.Took, a.told.Usage, a.told.Model, a.told.Finish = a.took, a.usage, a.res.Model, a.res.Finish
		}
		a.req.Trace.Tell(&a.req, &a.told, !a.over)
		all = a.told.Before(all)
	}
	if all != nil {
		r.own.Trace.Made(all)
	}
}

// call makes the call and notes what it says about the provider.
func (r *run) call(ctx context.Context, a *attempt) {
	until, limited := ctx.Deadline() // a flight's may be later at the end
	returned := false
	defer func() {
		a.took = time.Since(a.start)
		if !returned {
			a.failed = &core.Error{Kind: core.Internal, Stage: a.name}
		}
		if a.failed == nil {
			a.usage, a.limits = a.res.Usage, a.res.Limits
		} else {
			a.usage, a.limits = a.failed.Usage, a.failed.Limits
		}
		r.floor.end(a)
		said := r.hint(a)
		a.breaker.release(a.permit, said)
		failed, void := a.failed, said == saysNothing
		if failed != nil && failed.Kind == core.QuotaExceeded && r.alone() {
			failed, void = nil, true // no reason for a pause, nor for the end of one
		}
		a.pause.leave(a.tries, failed, void, time.Now())
		if a.failed == nil && a.req.Chat == nil {
			a.learned(a.took)
		}
		if r.ctx.Err() == nil && !a.lost {
			a.breaker.health.note(a.failed)
		}
		a.count(a)
		if r.delay != nil && a.req.Chat == nil {
			a.learn(a)
		}
	}()
	ctx, over := r.listen(ctx, a)
	res, err := a.translator.Translate(ctx, &a.req)
	err = over(err)
	switch {
	case err != nil:
		a.failed = r.failure(a, core.AsError(err, a.name), limited && !time.Now().Before(until.Add(-soon)))
	case res == nil:
		a.failed = &core.Error{Kind: core.Internal, Stage: a.name, Detail: "the provider gave neither a result nor an error"}
	default:
		a.res = res
	}
	returned = true
}

// soon is how much before its deadline an attempt that had no more time than
// that may end: the other side of a connection has a clock of its own.
const soon = 20 * time.Millisecond

// failure is err as an attempt's. That a provider does not let this gateway in,
// or that what it was configured with is not there, is the provider's failure:
// its operator can mend it, and no client. In time says that the attempt ended
// with the deadline that it began with, which then concerns its request alone.
func (r *run) failure(a *attempt, err *core.Error, inTime bool) *core.Error {
	changed := *err
	switch err.Kind {
	case core.Unauthorized, core.Forbidden:
		changed.Detail = "the provider does not accept this gateway's key"
	case core.NotFound:
		changed.Detail = "the provider does not know the model or the address"
	case core.DeadlineExceeded:
		if err.Own || !inTime {
			return err
		}
		changed.Own = true
		return &changed
	default:
		return err
	}
	changed.Kind, changed.Field, changed.Retryable, changed.Cause = core.ProviderFailed, "", false, err
	if a.complains(a.start) {
		r.log.Warn("a provider does not serve this gateway until somebody mends its configuration",
			zap.String("provider", a.name), zap.String("kind", string(err.Kind)), zap.String("detail", err.Detail))
	}
	return &changed
}

// race makes the first attempt, and beside it a second one of the same provider
// when nothing was heard of the first for as long as wait. The first attempt
// runs on the caller's goroutine, so that a request which needs no hedge costs
// a timer and no goroutine.
func (r *run) race(t *target, p permit, tries bool, wait time.Duration) (*core.Result, *core.Error) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	a, f := r.prepare(t, p, tries, first), &r.floor
	a.cancel, f.first = cancel, a
	timer := time.AfterFunc(wait, r.hedge)
	concluded := false
	defer func() {
		timer.Stop()
		if !concluded {
			r.conclude(a)
		}
	}()
	r.call(ctx, a)

	f.mu.Lock() // a is over: from here on no hedge begins
	h, counts := f.hedge, f.ahead
	f.mu.Unlock()
	if h == nil {
		return a.res, a.failed
	}
	r.req.Trace.Attempts++ // the one that is not merged
	if counts == a || counts == nil && !fallsOver(a.failed.Kind) && !a.failed.Retryable {
		return a.res, a.failed // the hedge would meet the same
	}
	// The answer can only be the hedge's. It has a turn of its own.
	r.tell(a)
	r.give()
	select {
	case <-f.ended:
	case <-r.ctx.Done():
		return nil, core.ContextError(r.ctx, a.name)
	}
	if !a.lost && h.failed != nil && !r.delta() {
		return nil, a.failed // both by themselves
	}
	concluded = true
	a.unpin()
	r.req.Trace.Merge(h.req.Trace, time.Since(a.start))
	return h.res, h.failed
}

// hedge makes a second attempt beside the first, when the first has not been
// heard of, a turn is free at this moment and the budget allows it.
func (r *run) hedge() {
	h, ctx, outcome := r.beside()
	if h == nil {
		return
	}
	defer r.running.Done()
	defer close(r.floor.ended)
	defer h.unpin()
	defer func() { outcome(h) }()
	defer func() {
		if p := recover(); p != nil {
			h.failed = &core.Error{Kind: core.Internal, Stage: h.name, Cause: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	r.call(ctx, h)
}

// beside returns a hedge that may be made, and what gives its turn back; nil
// when none may.
func (r *run) beside() (h *attempt, ctx context.Context, give func(*attempt)) {
	f := &r.floor
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ahead != nil || f.first.over || f.closed || r.ctx.Err() != nil {
		return nil, nil, nil
	}
	t := f.first.target
	req := *r.req // the gates tell turns apart by it
	req.Flight, req.Account = nil, t.account
	turn, ok := r.spare(&req)
	if !ok {
		return nil, nil, nil
	}
	permit, ok := t.breaker.acquire()
	if ok && !r.budget.spend(time.Now(), leftByHedges) {
		t.breaker.release(permit, saysNothing)
		r.denied.Add(1)
		ok = false
	}
	if !ok {
		turn.Give(core.Outcome{Unused: true, At: time.Now()})
		return nil, nil, nil
	}
	h = r.prepare(t, permit, false, hedge)
	ctx, h.cancel = context.WithCancelCause(r.ctx)
	f.hedge, f.ended = h, make(chan struct{})
	r.running.Add(1)
	return h, ctx, func(h *attempt) {
		h.cancel(nil)
		turn.Give(h.outcome())
	}
}
