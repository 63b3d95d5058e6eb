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
	d.plainly.mu.Lock()
	r := d.plainly.of.Take(time.Now(), *c, live.Speaker{Door: from, Client: req.Client, Source: req.Source, Target: req.Target, Formality: req.Formality, Glossary: glossary}, req.Text)
	if r == nil {
		d.plainly.mu.Unlock()
		return ask(req)
	}
	defer func() {
		r.Leave()
		d.plainly.mu.Unlock()
	}()
	// Other doors know of no other texts than final ones, whatever their clients mean.
	last := req.Final && from == "native"
	stopping := d.Service.Stopping()
	for {
		step := r.Next(time.Now(), last)
		if step.Give != nil {
			return step.Give, nil
		}
		d.plainly.mu.Unlock()
		if step.Ask {
			own := *req
			if step.Partial {
				own.Transient, own.Lane = true, max(own.Lane, core.LanePartial)
			}
			if len(own.Context) == 0 {
				own.Context = step.Context
			}
			res, err := ask(&own)
			d.plainly.mu.Lock()
			r.Answered(res)
			return res, err
		}
		var due <-chan time.Time
		if !step.Until.IsZero() {
			timer := time.NewTimer(time.Until(step.Until))
			defer timer.Stop()
			due = timer.C
		}
		select {
		case <-step.Changed:
		case <-due:
		case <-stopping:
			stopping, last = nil, true
		case <-ctx.Done():
			d.plainly.mu.Lock()
			return nil, core.ContextError(ctx, name)
		}
		d.plainly.mu.Lock()
	}
}
