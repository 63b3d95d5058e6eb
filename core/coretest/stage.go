package coretest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
)

// Stage checks a part that requests pass through: a stage, a lookup or a
// caller. It does what Kind does, and then links the part into a chain, at
// every place where its role lets it stand, over a translator in this process.
//
// There: each request gets exactly one of result and error; requests and
// results are never changed; what an answer cost is told of what becomes of it; 64 callers at once are served; a caller who leaves
// is let go as canceled, and one whose time is over as deadline_exceeded, while
// the work below ends; an error from below keeps its kind; a panic below is an
// internal error. Nothing is left running after Close.
func Stage(t T, kind core.Kind, config any) {
	t.Helper()
	Kind(t, kind, config)
	places := []string{before}
	switch kind.Role {
	case core.RoleStage:
		places = []string{before, after}
	case core.RoleLookup:
	case core.RoleCaller:
		places = []string{itself}
	default:
		t.Fatalf("a part of role %s does not stand in the way of requests", kind.Role)
	}
	for _, place := range places {
		for _, check := range []func(*linked){
			(*linked).answers, (*linked).servesMany, (*linked).letsGo, (*linked).keepsTime, (*linked).passesErrors, (*linked).survivesPanic,
		} {
			p := newPart(t, kind, config)
			left := p.goroutines()
			check(&linked{part: p, place: place})
			left(fmt.Sprintf("%s: after Close", place))
		}
	}
}

// Where the part stands.
const (
	before = "before the provider"
	after  = "after the provider"
	itself = "as the caller"
)

// linked is a part that is put into chains.
type linked struct {
	*part
	place string
}

// in links a new item of the part over below and hands the chain to f.
func (l *linked) in(below core.Translator, f func(c *chain.Chain, item any)) {
	l.Helper()
	item, stop := l.start()
	defer stop()
	own := chain.Place{Name: l.kind.Name, Item: item, Digest: "config"}
	direct := chain.Place{Name: "direct", Item: direct{}}
	places := map[string][]chain.Place{before: {own, direct}, after: {direct, own}, itself: {own}}[l.place]
	provider := func(name string) (core.Provider, bool) {
		return core.Provider{Name: name, Translator: below, Fingerprint: "coretest"}, true
	}
	c, err := chain.Link(places, provider, new(chain.Watch))
	if err != nil {
		l.Fatalf("%s: %v", l.place, err)
	}
	f(c, item)
}

// direct is the least that a caller can be: one attempt with one provider.
type direct struct{}

func (direct) Call(below core.Below) (core.Translator, error) {
	p, ok := below.Provider("coretest")
	if !ok {
		return nil, errors.New("there is no provider")
	}
	return below.Around(p), nil
}

func (l *linked) failf(format string, args ...any) {
	l.Helper()
	l.Errorf("%s: "+format, append([]any{l.place}, args...)...)
}

// cost is what each answer of a pseudo costs.
var cost = core.Usage{PromptTokens: 20, CompletionTokens: 10}

// A pseudo translates in this process, and remembers what it gave away.
type pseudo struct {
	mu   sync.Mutex
	gave []*core.Result
	was  []core.Result
}

func (p *pseudo) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	if ctx.Err() != nil {
		return nil, core.ContextError(ctx, "")
	}
	// It has room behind its flags: who appends to them writes into it.
	flags := append(make([]string, 0, 4), "coretest")
	res := &core.Result{
		Text: "[" + string(req.Target) + "] " + req.Text, Provider: "coretest", Model: "pseudo", Finish: core.FinishStop, Flags: flags,
		Usage: cost,
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gave = append(p.gave, res)
	was := *res
	was.Flags = slices.Clone(flags)
	p.was = append(p.was, was)
	return res, nil
}

// changed says which field of a result that was given away is not what it was.
func (p *pseudo) changed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, res := range p.gave {
		now, was := *res, p.was[i]
		if len(now.Flags) == 1 && slices.ContainsFunc(now.Flags[1:cap(now.Flags)], func(s string) bool { return s != "" }) {
			return "Flags (behind their end)"
		}
		if name := difference(reflect.ValueOf(was), reflect.ValueOf(now)); name != "" {
			return name
		}
	}
	return ""
}

// answered checks one answer to a request that nothing stands against.
func (l *linked) answered(res *core.Result, err error, w watchedRequest) {
	l.Helper()
	switch {
	case err != nil:
		l.failf("a request that nothing stands against failed: %v", err)
	case res == nil || res.Text == "":
		l.failf("an answer is empty: %+v", res)
	case l.place != before && res.Usage != cost:
		l.failf("an answer that cost %+v is told to have cost %+v", cost, res.Usage)
	}
	if name := w.changed(); name != "" {
		l.failf("it changes %s of the request", name)
	}
}

func (l *linked) answers() {
	l.Helper()
	below := &pseudo{}
	l.in(below, func(c *chain.Chain, item any) {
		for n := range 4 {
			for range 2 { // the second may come from a cache
				w := watchRequest(request(n))
				var res *core.Result
				var err error
				l.soon("a request", func() { res, err = c.Translate(l.Context(), w.req) })
				l.answered(res, err, w)
			}
		}
		if name := below.changed(); name != "" {
			l.failf("it changes %s of a result from below", name)
		}
		measured(l.part, item, true)
	})
}

// servesMany sends requests from 64 goroutines, equal and different ones.
func (l *linked) servesMany() {
	l.Helper()
	const callers, each = 64, 8
	below := &pseudo{}
	l.in(below, func(c *chain.Chain, item any) {
		type answer struct {
			res *core.Result
			err error
			w   watchedRequest
		}
		answers := make([]answer, callers*each)
		l.soon("many requests", func() {
			var all sync.WaitGroup
			for g := range callers {
				all.Go(func() {
					for i := range each {
						w := watchRequest(request(g*i%100 + i))
						a := &answers[g*each+i]
						a.w = w
						a.res, a.err = c.Translate(l.Context(), w.req)
						if g%16 == 0 {
							measured(l.part, item, true)
						}
					}
				})
			}
			all.Wait()
		})
		for _, a := range answers {
			l.answered(a.res, a.err, a.w)
		}
		if name := below.changed(); name != "" {
			l.failf("it changes %s of a result from below", name)
		}
	})
}

// A stuck translator answers nobody. entered is closed when a request is in
// it, left when that request is out again.
type stuck struct {
	entered, left chan struct{}
	in, out       sync.Once
}

func newStuck() *stuck { return &stuck{entered: make(chan struct{}), left: make(chan struct{})} }

func (s *stuck) Translate(ctx context.Context, _ *core.Request) (*core.Result, error) {
	s.in.Do(func() { close(s.entered) })
	<-ctx.Done()
	s.out.Do(func() { close(s.left) })
	return nil, core.ContextError(ctx, "coretest")
}

// letsGo cancels a request that hangs below, and one before it starts.
func (l *linked) letsGo() {
	l.Helper()
	below := newStuck()
	l.in(below, func(c *chain.Chain, _ any) {
		ctx, cancel := context.WithCancel(l.Context())
		defer cancel()
		w := watchRequest(request(1))
		ended := make(chan error, 1)
		go func() {
			_, err := c.Translate(ctx, w.req)
			ended <- err
		}()
		select {
		case <-below.entered:
		case err := <-ended:
			l.failf("a request ended before it reached the provider: %v", err)
			return
		case <-time.After(patience):
			l.failf("a request has not reached the provider after %v", patience)
			return
		}
		cancel()
		l.ends(ended, core.Canceled)
		select {
		case <-below.left:
		case <-time.After(patience):
			l.failf("the work below a caller who left goes on after %v", patience)
		}
		if name := w.changed(); name != "" {
			l.failf("it changes %s of a request that was canceled", name)
		}
		go func() {
			_, err := c.Translate(ctx, request(2))
			ended <- err
		}()
		l.ends(ended, core.Canceled)
	})
}

// keepsTime lets the deadline of a request pass that hangs below.
func (l *linked) keepsTime() {
	l.Helper()
	below := newStuck()
	l.in(below, func(c *chain.Chain, _ any) {
		ctx, cancel := context.WithTimeout(l.Context(), 50*time.Millisecond)
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			_, err := c.Translate(ctx, request(1))
			ended <- err
		}()
		l.ends(ended, core.DeadlineExceeded)
	})
}

// ends checks that a request ends, and how.
func (l *linked) ends(ended <-chan error, want core.ErrorKind) {
	l.Helper()
	select {
	case err := <-ended:
		if got := core.KindOf(err); got != want {
			l.failf("a request ended with %q, want %s: %v", got, want, err)
		}
	case <-time.After(patience):
		l.Fatalf("%s: a request that should end with %s has not ended after %v", l.place, want, patience)
	}
}

// passesErrors fails below in every way. A caller may learn from failures, so it
// has a chain of its own for each.
func (l *linked) passesErrors() {
	l.Helper()
	all := []core.ErrorKind{
		core.InvalidRequest, core.UnsupportedLanguage, core.TooLarge, core.Unauthorized, core.NotFound, core.Overloaded, core.Unavailable,
		core.QuotaExceeded, core.ProviderFailed, core.ProviderRefused, core.BadAnswer,
	}
	atOnce := len(all)
	if l.place == itself {
		atOnce = 1
	}
	for kinds := range slices.Chunk(all, atOnce) {
		var kind core.ErrorKind
		below := core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) {
			return nil, &core.Error{Kind: kind, Detail: "as the suite wants it"}
		})
		l.in(below, func(c *chain.Chain, _ any) {
			for n := range kinds {
				kind = kinds[n]
				w := watchRequest(request(n))
				var res *core.Result
				var err error
				l.soon("a request that fails below", func() { res, err = c.Translate(l.Context(), w.req) })
				want := kind
				if l.place == itself && (kind == core.Unauthorized || kind == core.NotFound) {
					want = core.ProviderFailed // no client can mend what a provider is told of the gateway
				}
				if got := core.KindOf(err); got != kind && got != want || res != nil {
					l.failf("%s from below becomes %q: %+v, %v", kind, got, res, err)
				}
				if name := w.changed(); name != "" {
					l.failf("it changes %s of a request that failed", name)
				}
			}
		})
	}
}

func (l *linked) survivesPanic() {
	l.Helper()
	below := core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) { panic("as the suite wants it") })
	l.in(below, func(c *chain.Chain, _ any) {
		var err error
		l.soon("a request that panics below", func() { _, err = c.Translate(l.Context(), request(1)) })
		if got := core.KindOf(err); got != core.Internal {
			l.failf("a panic below becomes %q, want internal: %v", got, err)
		}
	})
}
