package door

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/trace"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// A Teller asks for texts in the name of one door, and tells the log and the metrics
// what became of them. It is safe for concurrent use.
type Teller struct {
	Door    string
	Service *Service
	Journal *Journal
	Metrics *Metrics
	// Patient says that a text waits for as long as its call may take rather than
	// be refused for what will pass.
	Patient bool
}

// An Item is what became of one text: a result or an error.
type Item struct {
	Result *core.Result
	Err    *core.Error
	Took   time.Duration // since the call arrived
}

// Each asks for all of reqs at the same time, each of which has a trace, and returns
// when every one has an item, in their order. One that fails, or panics, fails
// alone. The line decides which goes first, and the caller bounds how many there
// are.
func (t *Teller) Each(ctx context.Context, tab *Tab, reqs []core.Request) []Item {
	return Items(reqs, func(req *core.Request) Item { return t.One(ctx, tab, req) })
}

// Items does one for each of reqs at the same time, and returns what came of them, in
// their order. One that panics fails alone.
func Items(reqs []core.Request, one func(*core.Request) Item) []Item {
	items := make([]Item, len(reqs))
	if len(reqs) == 1 {
		items[0] = contained(&reqs[0], one)
		return items
	}
	var all sync.WaitGroup
	for i := range items {
		all.Go(func() { items[i] = contained(&reqs[i], one) })
	}
	all.Wait()
	return items
}

// TellFlags writes the flags of all items as a header, for protocols whose answers have no
// place for them.
func TellFlags(h http.Header, items []Item) {
	var flags []string
	for _, it := range items {
		if it.Result == nil {
			continue
		}
		for _, flag := range it.Result.Flags {
			if !slices.Contains(flags, flag) {
				flags = append(flags, flag)
			}
		}
	}
	if len(flags) > 0 {
		h.Set("X-Dragoman-Flags", strings.Join(flags, ","))
	}
}

func contained(req *core.Request, one func(*core.Request) Item) (item Item) {
	defer func() {
		if v := recover(); v != nil {
			item = Item{Err: panicked(v)}
		}
	}()
	return one(req)
}

func panicked(v any) *core.Error {
	return &core.Error{Kind: core.Internal, Stage: "door", Cause: fmt.Errorf("panic: %v\n%s", v, debug.Stack())}
}

// One asks for req, as Each does, and notes in tab what it counts.
func (t *Teller) One(ctx context.Context, tab *Tab, req *core.Request) Item {
	n := int64(req.Characters())
	begun := false
	if req.OnDelta != nil {
		// Who has a piece of an answer may leave with it: the text counts from then on.
		own, sent := *req, req.OnDelta
		own.OnDelta = func(text string) error {
			if !begun {
				begun = true
				tab.Answered(n, false)
				tab.Settle()
			}
			return sent(text)
		}
		req = &own
	}
	item := t.Piece(ctx, tab, req)
	if item.Err == nil && !begun {
		tab.Answered(n, item.Result.Cached)
	}
	return item
}

// Piece asks for req, which is a piece of a text that its caller notes as answered. One
// without a trace borrows one.
func (t *Teller) Piece(ctx context.Context, tab *Tab, req *core.Request) Item {
	if req.Trace != nil {
		return t.piece(ctx, tab, req)
	}
	req.Trace = t.Service.Traces.Take()
	item := t.piece(ctx, tab, req)
	t.Service.Traces.Return(req.Trace)
	req.Trace = nil
	return item
}

func (t *Teller) piece(ctx context.Context, tab *Tab, req *core.Request) (item Item) {
	if seat := req.Batch; seat != nil {
		defer seat.Settle() // nobody waits for it any more
	}
	if t.Service.tracer.On() {
		t.Service.tracer.Begin(req.Trace, parentOf(ctx))
	}
	if tab.key != nil {
		req.Lane = max(req.Lane, tab.key.lane)
	}
	asks := func(req *core.Request) (*core.Result, error) { return ask(ctx, tab.rules, req) }
	if infer := t.Service.infer; infer != nil && req.Session == "" && req.Chat == nil {
		asked, glossary := asks, ""
		if g := tab.rules.glossary; g != nil {
			glossary = g.Name + " " + g.Version
		}
		asks = func(req *core.Request) (*core.Result, error) { return infer(ctx, t.Door, glossary, req, asked) }
	}
	once := func() (*core.Result, error) { return asks(req) }
	var res *core.Result
	var err error
	if t.Patient {
		heard := false
		if onDelta := req.OnDelta; onDelta != nil {
			own := *req
			own.OnDelta = func(text string) error { heard = true; return onDelta(text) }
			once = func() (*core.Result, error) { return asks(&own) }
		}
		res, err = t.patiently(ctx, func(err error) bool { return passes(err) && !heard }, once)
	} else {
		res, err = once()
	}
	item = Item{Result: res, Err: core.AsError(err, "door"), Took: time.Since(tab.begin)}
	t.Metrics.count(t.Door, core.KindOf(err), item.Took, req.Trace.Traced())
	t.tell(&Asked{Door: t.Door, Request: req, Result: res, Err: item.Err, Begin: tab.begin, Took: item.Took}, tab.spent(req, item))
	return item
}

// tell tells everybody who looks what became of a text, and what it cost.
func (t *Teller) tell(a *Asked, use usage.Use) {
	slow := t.Service.Slow()
	t.Journal.Asked(*a, slow)
	t.Service.recent.asked(a, slow)
	if log := t.Service.access(); log != nil {
		a.access(log, use)
	}
	if a.Request.Trace.Traced() != nil {
		t.Service.tracer.Ended(trace.Request{
			Door: a.Door, Request: a.Request, Result: a.Result, Err: a.Err, Failed: a.Err != nil && blames(a.Err) == HasFailed, Begin: a.Begin, Took: a.Took,
		})
	}
}

// ask translates req. A panic fails that text alone: on a goroutine of its own it
// would end the process.
func ask(ctx context.Context, rules *Rules, req *core.Request) (res *core.Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			res, err = nil, panicked(v)
		}
	}()
	return rules.Translate(ctx, req)
}

// Failed tells of a call none of whose texts was asked for. Client is empty while nobody
// knows whose it is.
func (t *Teller) Failed(r *http.Request, id, client string, begin time.Time, err error) {
	e, took := core.AsError(err, "door"), time.Since(begin)
	span := t.Service.tracer.Refused(trace.Call{Door: t.Door, ID: id, Client: client, Method: r.Method, Parent: parentOf(r.Context()), Err: e, Failed: blames(e) == HasFailed, Begin: begin, Took: took})
	t.Metrics.count(t.Door, e.Kind, took, span)
	t.Journal.Failed(id, err, spanFields(span)...)
	t.Service.recent.failed(t.Door, id, client, took, e, span)
	if log := t.Service.access(); log != nil {
		log.Info("call", append([]zap.Field{
			zap.String("door", t.Door), zap.String("request", id), zap.String("client", client), zap.String("kind", string(e.Kind)), zap.String("stage", e.Stage), zap.Duration("took", took),
		}, spanFields(span)...)...)
	}
}
