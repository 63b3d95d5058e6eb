package chain

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A link is one stage as its neighbour above sees it: the stage wrapped round
// what stands below, observed.
type link struct {
	name  string // for errors
	place string // for counters and taps
	span  string // for the trace
	depth int
	inner core.Translator
	past  core.Translator // where chats go that pass the stage by; nil when it takes them
	below ways
	stats *stats
	taps  *atomic.Pointer[[]*Tap] // of the watch
	gates []core.Guard            // of the stage that calls providers
}

var _ core.Router = (*link)(nil)

// Fingerprint names everything from here down that changes an answer.
func (l *link) Fingerprint() string { return l.below.all }

// Routes names it for each way that requests go.
func (l *link) Routes() []string { return l.below.each }

// Route says which of them req goes.
func (l *link) Route(req *core.Request) int {
	if l.below.router == nil {
		return 0
	}
	return l.below.router.Route(req)
}

func (l *link) Translate(ctx context.Context, req *core.Request) (res *core.Result, err error) {
	if req.Chat != nil && l.past != nil {
		return l.past.Translate(ctx, req)
	}
	trace := req.Trace
	if trace == nil {
		traced := *req
		trace = core.NewTrace(nil)
		traced.Trace = trace
		req = &traced
	}
	mark := trace.Begin(l.depth)
	returned := false
	defer func() {
		if !returned {
			// A panic, or runtime.Goexit, which nothing can stop.
			if p := recover(); p != nil {
				res, err = nil, &core.Error{
					Kind: core.Internal, Stage: l.name, Detail: "an internal error; the log tells more under this request's id",
					Cause: fmt.Errorf("panic: %v\n%s", p, debug.Stack()),
				}
			}
		}
		total, self := trace.End(mark, l.span)
		if err != nil {
			err = l.failed(trace, err)
			res = nil
		} else if res == nil {
			err = l.failed(trace, &core.Error{Kind: core.Internal, Stage: l.name, Detail: "the stage gave neither a result nor an error"})
		}
		answered := err == nil && trace.Deepest() == l.depth
		l.stats.count(self, answered)
		if taps := l.taps.Load(); taps != nil {
			l.tell(*taps, req, res, err, answered, total, self)
		}
	}()
	res, err = l.inner.Translate(ctx, req)
	returned = true
	return res, err
}

// tell tells taps that req left. What a gate did is told with it: a gate is
// linked round nothing, and only the trace knows how long a request waited there.
func (l *link) tell(taps []*Tap, req *core.Request, res *core.Result, err error, answered bool, total, self time.Duration) {
	p := Passing{
		At: time.Now(), Request: req.ID, Session: req.Session, Source: req.Source, Target: req.Target, Lane: req.Lane,
		Attempt: req.Trace.Attempt,
	}
	failure, _ := err.(*core.Error) // failed has made it one
	for _, g := range l.gates {
		for _, waited := range req.Trace.Spans() {
			if waited.Name != g.Name {
				continue
			}
			at := p
			at.Stage, at.Ending, at.Total, at.Self = g.Name, WentOn, waited.Self, waited.Self
			if failure != nil && failure.Stage == g.Name {
				at.Ending, at.Kind = Failed, failure.Kind
			}
			tell(taps, at, req, nil)
		}
	}
	p.Stage, p.Ending, p.Total, p.Self = l.place, WentOn, total, self
	switch {
	case failure != nil:
		p.Ending, p.Kind = Failed, failure.Kind
		if failure.Stage != l.name {
			p.From = failure.Stage
		}
	case answered:
		p.Ending = Answered
	}
	tell(taps, p, req, res)
}

// failed counts err once, where it arose, and returns it as an *Error.
func (l *link) failed(trace *core.Trace, err error) error {
	e, ok := err.(*core.Error)
	if !ok {
		e = core.AsError(err, l.name)
	}
	if e.Stage == "" {
		named := *e
		named.Stage = l.name
		e = &named
	}
	l.stats.failed(e.Kind, trace.Failed(e))
	return e
}

// hooked is Hooks as a stage.
type hooked struct {
	name  string
	hooks core.Beforer // or core.Hooks
}

// maxState is the most that a Before may hand to its After, in bytes.
const maxState = 64 << 10

func (h hooked) Wrap(next core.Translator) core.Translator {
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		v, err := h.hooks.Before(ctx, req)
		if err != nil {
			return nil, err
		}
		if v.Result != nil {
			return v.Result, nil
		}
		if len(v.State) > maxState {
			return nil, &core.Error{Kind: core.Internal, Stage: h.name, Detail: fmt.Sprintf("the state between Before and After is %d bytes, at most %d are kept", len(v.State), maxState)}
		}
		down := req
		if v.Request != nil || req.OnDelta != nil {
			changed := *req
			if v.Request != nil {
				changed = *v.Request
			}
			changed.Trace = req.Trace
			changed.OnDelta = h.deltas(req, v.State) // also when Before made a request of its own
			down = &changed
		}
		res, err := next.Translate(ctx, down)
		if err != nil {
			return nil, err
		}
		both, ok := h.hooks.(core.Hooks)
		if !ok {
			return res, nil
		}
		after, err := both.After(ctx, req, res, v.State)
		switch {
		case err != nil: // what is rejected was paid for
			return nil, core.AsError(err, h.name).Charged(res.Usage, res.Limits)
		case after != nil && (after.Usage != res.Usage || after.Limits != res.Limits):
			paid := *after
			paid.Usage, paid.Limits = res.Usage, res.Limits
			after = &paid
		}
		return after, nil
	})
}

// deltas returns what hears the deltas of an answer to req on their way up; nil
// when they would pass by After.
func (h hooked) deltas(req *core.Request, state []byte) func(string) error {
	onDelta := req.OnDelta
	if _, both := h.hooks.(core.Hooks); !both {
		return onDelta // nobody looks at the answer
	}
	s, ok := h.hooks.(core.Streamer)
	if !ok || onDelta == nil {
		return nil
	}
	each, ok := s.Deltas(req, state)
	switch {
	case !ok:
		return nil
	case each == nil:
		return onDelta
	}
	return func(text string) error {
		text, err := each(text)
		if err != nil || text == "" {
			return err
		}
		return onDelta(text)
	}
}
