// Package engine owns generations. A generation is one loaded configuration
// with everything that was built from it: providers, stages, the linked chain.
// The engine builds, starts and probes one, serves it, and closes it when the
// last request that entered it has left. Doors look the current generation up
// for each call, through Engine, which is itself a translator.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
)

// An Engine serves the current generation. It is safe for concurrent use.
type Engine struct {
	upstream core.Upstream
	shared   core.Shared // nil when nothing is
	watch    *chain.Watch
	log      *zap.Logger

	sections []section

	current atomic.Pointer[Generation]
	closed  atomic.Bool
	served  atomic.Int64 // generations so far

	sharing  sync.Mutex // of parts by generations
	draining sync.WaitGroup
	former   atomic.Int64  // generations that draining waits for
	ending   chan struct{} // closed when nothing is waited for any more
	end      func()        // closes it
	late     lateness
}

// A section is a part of the process that lives outside generations, and takes
// its configuration from the section of that name.
type section struct {
	name string
	part core.Planner
}

var (
	_ core.Translator = (*Engine)(nil)
	_ core.Measurer   = (*Engine)(nil)
)

// New returns an engine that serves nothing yet. Upstream is the process's pool
// of upstream connections; it outlives every generation.
func New(upstream core.Upstream, log *zap.Logger) *Engine {
	ending := make(chan struct{})
	return &Engine{
		upstream: upstream, watch: &chain.Watch{}, log: log,
		ending: ending, end: sync.OnceFunc(func() { close(ending) }), late: lateness{log: log, ended: make(chan struct{}, 1)},
	}
}

// Share hands s to all parts that are built from now on.
func (e *Engine) Share(s core.Shared) { e.shared = s }

// Attach makes part follow the section of that name of the configurations that
// are built from now on. The first is taken to be what part was made with. The
// errors of its Plan, or each that one joins, begin with the key at fault:
// "server.listen: ...".
func (e *Engine) Attach(name string, part core.Planner) {
	e.sections = append(e.sections, section{name, part})
}

// Serve changes in place what g plans to, and makes g the current generation.
// Requests that entered the one before finish there; it is closed when they have
// left, or after drain, whichever comes first. G was built while that one was
// served.
func (e *Engine) Serve(g *Generation, drain time.Duration) {
	if g.base != nil {
		g.inherit(g.base)
	}
	for _, change := range g.applies {
		e.apply(change)
	}
	g.base, g.applies, g.Number = nil, nil, e.served.Add(1)
	if old := e.current.Swap(g); old != nil {
		e.retire(old, drain)
	}
	if e.closed.Load() && e.current.CompareAndSwap(g, nil) {
		// It came too late, from a reload that the end of the gateway did not
		// wait for, and nobody else will close it.
		g.release()
		g.Close()
	}
}

// apply changes one part in place. One that is late with that is not waited for:
// what was changed before it cannot be taken back.
func (e *Engine) apply(c change) {
	ctx, cancel := context.WithTimeout(context.Background(), shortly)
	defer cancel()
	what := func() string { return c.place + ": taking its new configuration" }
	within(ctx, &e.late, what, func() struct{} { c.apply(); return struct{}{} }, func(struct{}) {}) // what went wrong was logged
}

// outdated says whether a part in use, or one outside generations, was made from
// files that are others by now.
func (e *Engine) outdated(doing *progress) bool {
	g := e.acquire()
	if g == nil {
		return false
	}
	defer g.release()
	for _, s := range e.sections {
		doing.note(s.name, "looking at its files")
		if outdated(s.part) {
			return true
		}
	}
	return slices.ContainsFunc(g.parts, func(p *part) bool { return p.used && g.outdated(p) })
}

// Close stops serving, waits until every request has left or ctx is done, and
// closes what is left, also of generations before. Late says what it could not.
func (e *Engine) Close(ctx context.Context) {
	e.closed.Store(true)
	defer context.AfterFunc(ctx, e.end)()
	if g := e.current.Swap(nil); g != nil {
		e.retire(g, forever)
	}
	e.draining.Wait()
}

// forever is as long as Close lets its generation drain, unless its context ends.
const forever = time.Duration(math.MaxInt64)

func (e *Engine) retire(g *Generation, drain time.Duration) {
	g.release()
	begun := time.Now()
	e.former.Add(1)
	e.draining.Go(func() {
		defer e.former.Add(-1)
		left := e.drained(g, drain)
		if !left {
			e.log.Warn("closing a generation before its last request has left",
				zap.Int64("generation", g.Number), zap.Int64("requests", g.refs.Load()), zap.Duration("waited", time.Since(begun).Round(time.Millisecond)))
		}
		g.Close()
		if left {
			return
		}
		// Whoever is still inside has met the end of all parts, and leaves soon,
		// or is in a call that does not return.
		inside := e.late.begin(g.inside)
		go func() {
			defer e.late.end(inside)
			<-g.drained
		}()
	})
}

// drained waits for the last request to leave g, and says whether it has.
func (e *Engine) drained(g *Generation, drain time.Duration) bool {
	select {
	case <-g.drained: // first of all, for a drain of 0
		return true
	default:
	}
	timer := time.NewTimer(drain)
	defer timer.Stop()
	select {
	case <-g.drained:
		return true
	case <-timer.C:
	case <-e.ending:
	}
	return false
}

// inside says how many requests are in g.
func (g *Generation) inside() string {
	return fmt.Sprintf("generation %d: requests inside (%d)", g.Number, g.refs.Load())
}

// Translate sends req through the chain of the current generation, which stays
// open until the request, and every flight it began, has ended.
func (e *Engine) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	g := e.acquire()
	if g == nil {
		return nil, &core.Error{Kind: core.Unavailable, Detail: "the gateway is starting or stopping", Retryable: true, RetryAfter: time.Second}
	}
	defer g.release()
	if req.Trace == nil {
		traced := *req // two small allocations cost less than a large one
		traced.Trace = core.NewTrace(g)
		req = &traced
	} else {
		req.Trace.SetOwner(g)
	}
	return g.chain.Translate(ctx, req)
}

// acquire returns the current generation with one more reference, or nil.
func (e *Engine) acquire() *Generation {
	for {
		g := e.current.Load()
		if g == nil || g.acquire() {
			return g
		}
		// It was retired between the two steps; the next one is there.
	}
}

// Languages returns what the current generation can translate; nil means any
// language to any other.
func (e *Engine) Languages() []core.LanguageInfo {
	if g := e.current.Load(); g != nil {
		return g.chain.Languages()
	}
	return nil
}

// Chats returns the models of the current generation that answer chats, that of the
// preferred provider first.
func (e *Engine) Chats() []core.ChatModel {
	if g := e.current.Load(); g != nil {
		return g.chain.Chats()
	}
	return nil
}

// Ready returns nil when the current generation can serve, else why not.
func (e *Engine) Ready() error {
	g := e.current.Load()
	if g == nil {
		return &core.Error{Kind: core.Unavailable, Detail: "the gateway is starting or stopping"}
	}
	return g.Ready()
}

// Tap shows what passes the stages, from now until it is closed. Reloads do not
// end it. A filter for a stage that the current generation has not is an error.
func (e *Engine) Tap(f chain.Filter) (*chain.Tap, error) {
	if g := e.current.Load(); g != nil && f.Stage != "" && !slices.Contains(g.chain.Places(), f.Stage) {
		return nil, &core.Error{
			Kind: core.NotFound, Stage: "tap", Field: "stage",
			Detail: fmt.Sprintf("there is no stage %.80q; there are %s", f.Stage, strings.Join(g.chain.Places(), ", ")),
		}
	}
	return e.watch.Tap(f)
}

// Number returns the number of the generation that is served, from 1; 0 when
// there is none.
func (e *Engine) Number() int64 {
	if g := e.current.Load(); g != nil {
		return g.Number
	}
	return 0
}

// Fingerprint names everything in the current generation that changes an answer; empty when
// there is none.
func (e *Engine) Fingerprint() string {
	if g := e.current.Load(); g != nil {
		return g.chain.Fingerprint()
	}
	return ""
}

// Measure reports the counters of the chain and of everything in the current
// generation, each with the name of its place.
func (e *Engine) Measure(emit func(core.Measure)) {
	e.watch.Measure(emit)
	emit(core.Measure{Name: "generations_draining", Help: "Former configurations that requests are still in, or whose parts are being closed.", Value: float64(e.former.Load())})
	emit(core.Measure{Name: "late_calls", Help: "Calls of parts that have not returned though their time is over, such as a probe that ignores its deadline.", Value: float64(len(e.Late()))})
	g := e.acquire()
	if g == nil {
		return
	}
	defer g.release()
	emit(core.Measure{Name: "generation", Help: "Number of the configuration that is served.", Value: float64(g.Number)})
	for _, p := range g.parts {
		m, ok := p.item.(core.Measurer)
		if !ok {
			continue
		}
		m.Measure(func(x core.Measure) {
			x.Labels = append([]string{p.label, p.name}, x.Labels...)
			emit(x)
		})
	}
}

// Remember returns what the parts of the current generation know that must outlive the
// process, by their places; nil for nothing.
func (e *Engine) Remember() map[string]json.RawMessage {
	g := e.acquire()
	if g == nil {
		return nil
	}
	defer g.release()
	var all map[string]json.RawMessage
	for _, p := range g.parts {
		if r, ok := p.item.(core.Rememberer); ok {
			if memory := r.Remember(); memory != nil {
				if all == nil {
					all = map[string]json.RawMessage{}
				}
				all[p.label+" "+p.name] = memory
			}
		}
	}
	return all
}

// Recall hands back what a former process remembered. It comes before the first request.
func (e *Engine) Recall(all map[string]json.RawMessage) error {
	g := e.acquire()
	if g == nil {
		return nil
	}
	defer g.release()
	var wrong []error
	for _, p := range g.parts {
		if r, ok := p.item.(core.Rememberer); ok {
			if memory := all[p.label+" "+p.name]; memory != nil {
				wrong = append(wrong, r.Recall(memory))
			}
		}
	}
	return errors.Join(wrong...)
}
