package live

import (
	"context"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/live"
)

// inference is what is known of clients that know nothing of sessions.
type inference struct {
	mu sync.Mutex
	of *live.Inference
}

// do does one thing with what is known. Calls are made outside of it: one that panics holds
// nobody up.
func (in *inference) do(what func(*live.Inference)) {
	in.mu.Lock()
	defer in.mu.Unlock()
	what(in.of)
}

// leeway is how much time a text has at least that is held until it is known whether it
// still grows.
const leeway = 3 * time.Second

// Infer is the door.Inferrer of live.infer: a text that is one of many revisions is held
// for a moment, and answered with what is known when a newer one has come.
func (d *Door) Infer(ctx context.Context, from, glossary string, req *core.Request, ask func(*core.Request) (*core.Result, error)) (*core.Result, error) {
	c := d.config.Load()
	if until, bounded := ctx.Deadline(); !c.Infer || req.Batch != nil || req.Lane == core.LaneBulk || req.NoCache || len(req.Instructions) > 0 || bounded && time.Until(until) < leeway {
		return ask(req)
	}
	var r *live.Revision
	d.plainly.do(func(of *live.Inference) {
		r = of.Take(time.Now(), *c, live.Speaker{Door: from, Client: req.Client, Source: req.Source, Target: req.Target, Formality: req.Formality, Glossary: glossary}, req.Text)
	})
	if r == nil {
		return ask(req)
	}
	defer d.plainly.do(func(*live.Inference) { r.Leave() })
	// Other doors know of no other texts than final ones, whatever their clients mean.
	last := req.Final && from == "native"
	stopping := d.Service.Stopping()
	for {
		var step live.Step
		d.plainly.do(func(*live.Inference) { step = r.Next(time.Now(), last) })
		if step.Give != nil {
			return step.Give, nil
		}
		if step.Ask {
			own := *req
			if step.Partial {
				own.Transient, own.Lane = true, max(own.Lane, core.LanePartial)
			}
			if len(own.Context) == 0 {
				own.Context = step.Context
			}
			res, err := ask(&own)
			d.plainly.do(func(*live.Inference) { r.Answered(res) })
			return res, err
		}
		var due <-chan time.Time
		if !step.Until.IsZero() {
			due = time.After(time.Until(step.Until))
		}
		select {
		case <-step.Changed:
		case <-due:
		case <-stopping:
			stopping, last = nil, true
		case <-ctx.Done():
			return nil, core.ContextError(ctx, name)
		}
	}
}
