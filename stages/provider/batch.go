package provider

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Several texts of one call of a client go upstream in one, if the provider that they
// reach is able to. They meet before a turn is asked for: the first one leads. It takes
// the turn, and makes the attempts, as if it were alone. Where its request reaches the
// provider, the others come down through the same stages, without a turn, and one call is
// made for all who have arrived. So a batch is one turn and one call, nobody holds
// a turn while he waits for another, and whoever does not get an answer that way goes
// on by himself.

// assembly is the longest that a leader waits for others of its call, which are
// under way at the same time: each of them arrives, ends, or says that it waits for
// something else, so this is for a machine that is too busy to let them. Those that come
// later go together without it.
const assembly = 250 * time.Millisecond

// errAlone meets a request that is to go on by itself.
var errAlone = errors.New("it goes on by itself")

// crowds are those that wait for each other now.
type crowds struct {
	mu   sync.Mutex
	open []*crowd
}

// A crowd are requests of one call that differ in their texts alone.
type crowd struct {
	of   *crowds
	head *core.Request

	mu      sync.Mutex
	waiting []*companion
	over    bool
	ended   chan struct{} // when the leader has its answer
	res     *core.Result
	failed  *core.Error
}

type crowdKey struct{}

// A companion is one of a crowd that does not lead.
type companion struct {
	*run
	told chan news // one at a time
}

// news is what a companion hears: it is called, or it is of another crowd now, which it
// may lead, or neither, when it goes on by itself.
type news struct {
	call  *joint
	crowd *crowd
	leads bool
}

// gathering makes around one that lets requests of a crowd meet at those providers that
// are able to translate several texts.
func (c *foot) gathering(around func(core.Provider) core.Translator) func(core.Provider) core.Translator {
	return func(p core.Provider) core.Translator {
		able, ok := p.Translator.(core.Batcher)
		if !ok {
			return around(p)
		}
		g := &gatherer{Translator: p.Translator, Batcher: able, name: p.Place()}
		p.Translator = g
		if c.gatherers == nil {
			c.gatherers = map[string]*gatherer{}
		}
		c.gatherers[p.Name] = g
		g.linked = around(p)
		return g.linked
	}
}

// together answers r with others of its call; ok says that it did.
func (r *run) together() (res *core.Result, failed *core.Error, ok bool) {
	if len(r.gatherers) == 0 || r.req.Batch == nil {
		return nil, nil, false
	}
	if r.req.OnDelta != nil || r.req.Chat != nil || !r.gathers() {
		r.req.Batch.Settle()
		return nil, nil, false
	}
	own := &companion{run: r, told: make(chan news, 1)}
	mine, leads := r.crowds.enter(own)
	r.req.Batch.Settle()
	if leads {
		timer := time.NewTimer(assembly)
		defer timer.Stop()
		select {
		case <-r.req.Batch.Settled():
		case <-timer.C:
		case <-r.ctx.Done():
		}
		res, failed = r.lead(mine)
		return res, failed, true
	}
	for again := true; ; {
		var n news
		select {
		case n = <-own.told:
		case <-r.ctx.Done():
			if mine.leave(own) {
				return nil, core.ContextError(r.ctx, ""), true
			}
			n = <-own.told
		}
		switch {
		case n.leads:
			res, failed = r.lead(n.crowd)
			return res, failed, true
		case n.crowd != nil:
			mine = n.crowd
			continue
		case n.call == nil: // the leader has failed
			return nil, mine.failed, mine.failed != nil && meetsAll(mine.failed)
		}
		res, err := r.come(n.call)
		switch {
		case err == nil:
			select {
			case <-mine.ended: // it knows whether a fallback answered
			case <-r.ctx.Done():
				return nil, core.ContextError(r.ctx, ""), true
			}
			if mine.res != nil && slices.Contains(mine.res.Flags, core.FlagFallback) {
				res = res.WithFlag(core.FlagFallback)
				res.NoStore = true
			}
			return res, nil, true
		case errors.Is(err, errAlone), r.ctx.Err() != nil, !again:
			return nil, nil, false
		}
		again = false // once more with the leader, if that tries again
		if !mine.wait(own) {
			return nil, mine.failed, mine.failed != nil && meetsAll(mine.failed)
		}
	}
}

// gathers says whether one of the providers that are asked first translates the request
// with others.
func (r *run) gathers() bool {
	for _, t := range r.way.first.members {
		g := r.gatherers[t.name]
		if g == nil {
			continue
		}
		if chooser, ok := g.Batcher.(core.BatchChooser); !ok || chooser.Batches(r.req) {
			return true
		}
	}
	return false
}

// lead makes the attempts for all of c.
func (r *run) lead(c *crowd) (res *core.Result, failed *core.Error) {
	ctx := r.ctx
	r.ctx = context.WithValue(ctx, crowdKey{}, c)
	defer func() { c.end(res, failed) }() // also when it panics
	res, failed = r.translate()
	return res, failed
}

// enter makes own one of the crowd that it belongs to, or the leader of a new one.
func (all *crowds) enter(own *companion) (c *crowd, leads bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, c := range all.open {
		if belongs(c.head, own.req) && c.wait(own) {
			return c, false
		}
	}
	c = &crowd{of: all, head: own.req, ended: make(chan struct{})}
	all.open = append(all.open, c)
	return c, true
}

// belongs says whether req may go with head: what routes, limits and providers see of
// both is the same but for the text.
func belongs(head, req *core.Request) bool {
	return head.Batch.Together(req.Batch) && head.Source == req.Source && head.Target == req.Target && head.Formality == req.Formality &&
		head.Glossary == req.Glossary && head.GlossaryVersion == req.GlossaryVersion && head.Client == req.Client && head.Lane == req.Lane && head.NoCache == req.NoCache &&
		slices.Equal(head.Instructions, req.Instructions) && slices.Equal(head.Context, req.Context)
}

// wait makes own one of those that wait, unless the leader has ended.
func (c *crowd) wait(own *companion) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.waiting = append(c.waiting, own)
	}
	return !c.over
}

// leave ends that own waits, unless it was told something.
func (c *crowd) leave(own *companion) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := slices.Index(c.waiting, own)
	if at >= 0 {
		c.waiting = slices.Delete(c.waiting, at, at+1)
	}
	return at >= 0
}

// meetsAll says whether what one of a crowd met would meet all of it: it is about neither
// one text nor one request.
func meetsAll(failed *core.Error) bool {
	if failed.Own || failed.Odd {
		return false
	}
	switch failed.Kind {
	case core.RateLimited, core.QuotaExceeded, core.Unavailable, core.Overloaded, core.Unauthorized, core.NotFound:
		return true
	}
	return false
}

// end tells those that still wait how the leader ended. After an answer those that were
// too many for its call go together again.
func (c *crowd) end(res *core.Result, failed *core.Error) {
	c.of.mu.Lock()
	c.of.open = slices.DeleteFunc(c.of.open, func(o *crowd) bool { return o == c })
	c.of.mu.Unlock()
	c.mu.Lock()
	left := c.waiting
	c.waiting, c.over, c.res, c.failed = nil, true, res, failed
	c.mu.Unlock()
	close(c.ended)
	next := &crowd{of: c.of, ended: make(chan struct{})}
	if res != nil && len(left) > 1 {
		next.head, next.waiting = left[0].req, slices.Clone(left[1:])
		for _, m := range left[1:] {
			m.told <- news{crowd: next}
		}
		left[0].told <- news{crowd: next, leads: true}
		return
	}
	for _, m := range left {
		m.told <- news{}
	}
}

// A joint is one call for several requests.
type joint struct {
	gatherer *gatherer
	trace    *core.Trace // of who leads
	mu       sync.Mutex
	coming   int
	shut     bool // nobody arrives any more
	arrived  []*arrival
	all      chan struct{} // everybody has arrived or will not
}

// An arrival is a request that is where the call is made.
type arrival struct {
	req *core.Request
	got chan outcome // one
}

type outcome struct {
	res *core.Result
	err error
}

// come brings r to where the call is made, through the stages round the provider.
func (r *run) come(j *joint) (*core.Result, error) {
	ticket := &ticket{joint: j}
	defer ticket.give()
	if f := r.req.Flight; f != nil {
		f.Waits()
		if f.Starts() != nil {
			return nil, errAlone // it will hear of that where it asks for a turn
		}
	}
	fork, unpin := r.req.Trace.Fork()
	defer unpin()
	fork.Attempts, fork.Attempt = 1, first.String()
	r.req.Trace.Join(j.trace)
	req := *r.req
	req.Trace, req.Attempt, req.Flight, req.Batch = fork, r.req.Attempt+r.attempts, nil, nil
	r.attempts++
	begin := time.Now()
	res, err := j.gatherer.linked.Translate(context.WithValue(r.ctx, ticketKey{}, ticket), &req)
	r.req.Trace.Merge(fork, time.Since(begin))
	if errors.Is(err, errAlone) {
		return nil, err
	}
	told := &ticket.told
	*told = core.Attempted{Provider: j.gatherer.name, Why: first.String(), Start: begin, Took: time.Since(begin), Shared: true}
	if err != nil {
		told.Err = core.AsError(err, told.Provider)
	} else if res != nil {
		told.Model, told.Finish, told.Usage = res.Model, res.Finish, res.Usage
	}
	r.req.Trace.Made(told)
	return res, err
}

// A ticket is for one arrival.
type ticket struct {
	*joint
	used bool
	told core.Attempted
}

type ticketKey struct{}

// give says that who has the ticket does not arrive, if it has not.
func (t *ticket) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.used {
		t.used = true
		t.one()
	}
}

// one notes that one less is coming. The caller holds mu.
func (j *joint) one() {
	if j.coming--; j.coming == 0 {
		close(j.all)
	}
}

// A gatherer is a provider that translates several texts in one call, at its place below
// the stages that stand round it.
type gatherer struct {
	core.Translator
	core.Batcher
	name   string          // its place
	linked core.Translator // with the stages round it
}

func (g *gatherer) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	if t, ok := ctx.Value(ticketKey{}).(*ticket); ok && t.gatherer == g {
		return t.arrive(ctx, req)
	}
	c, ok := ctx.Value(crowdKey{}).(*crowd)
	if !ok {
		return g.Translator.Translate(ctx, req)
	}
	called := c.call(g, req)
	if len(called) == 0 {
		return g.Translator.Translate(ctx, req)
	}
	j := &joint{gatherer: g, trace: req.Trace, coming: len(called), all: make(chan struct{})}
	for _, m := range called {
		m.told <- news{call: j}
	}
	select {
	case <-j.all:
	case <-ctx.Done():
	}
	return j.make(ctx, req)
}

// call takes those out of c that fit into one call of g with req.
func (c *crowd) call(g *gatherer, req *core.Request) (called []*companion) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reqs := []*core.Request{req}
	for _, m := range c.waiting {
		reqs = append(reqs, m.req)
	}
	n := min(max(g.Together(reqs), 1), len(reqs)) - 1
	called = slices.Clone(c.waiting[:n])
	c.waiting = slices.Delete(c.waiting, 0, n)
	return called
}

// arrive waits for the call that is made for req and others.
func (t *ticket) arrive(ctx context.Context, req *core.Request) (*core.Result, error) {
	a := &arrival{req: req, got: make(chan outcome, 1)}
	t.mu.Lock()
	late := t.shut || t.used
	if !late {
		t.used = true
		t.arrived = append(t.arrived, a)
		t.one()
	}
	t.mu.Unlock()
	if late {
		return nil, errAlone
	}
	select {
	case o := <-a.got:
		return o.res, o.err
	case <-ctx.Done():
		return nil, core.ContextError(ctx, "")
	}
}

// make makes the call for req, which leads, and all who have arrived.
func (j *joint) make(ctx context.Context, req *core.Request) (*core.Result, error) {
	j.mu.Lock()
	j.shut = true
	arrived := j.arrived
	j.mu.Unlock()
	reqs := []*core.Request{req}
	for _, a := range arrived {
		reqs = append(reqs, a.req)
	}
	answered := 0
	defer func() { // also when the provider panics
		for _, a := range arrived[answered:] {
			a.got <- outcome{err: errAlone}
		}
	}()
	n := min(max(j.gatherer.Together(reqs), 1), len(reqs)) // stages may have changed the texts
	all, err := j.gatherer.TranslateAll(ctx, reqs[:n])
	if failed, ok := errors.AsType[*core.Error](err); ok && n > 1 && !failed.Retryable && !meetsAll(failed) && ctx.Err() == nil {
		// One of the texts may be at fault: everybody goes on by himself, and who leads
		// does so with the turn that he has.
		return j.gatherer.Translator.Translate(ctx, req)
	}
	if err == nil && len(all) != n {
		err = &core.Error{Kind: core.Internal, Detail: "the provider gave another number of results than it was given texts"}
	}
	for i, a := range arrived[:n-1] {
		o := outcome{err: err}
		if err == nil {
			if o.res = all[i+1]; o.res == nil {
				o.err = errAlone
			}
		}
		a.got <- o
		answered++
	}
	if err != nil {
		return nil, err
	}
	if all[0] == nil {
		return j.gatherer.Translator.Translate(ctx, req) // with the turn that it has
	}
	return all[0], nil
}
