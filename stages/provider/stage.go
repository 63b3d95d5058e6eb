// Package provider is the stage `provider`, which ends a chain: it calls the
// provider in use, once more when a failure may pass, or when it takes unusually
// long, and the fallbacks when it cannot answer. It is the only owner of retries.
//
// Before every attempt it takes one turn from all gates together; see
// core/line. A retry takes a turn of its own and keeps the seniority of its
// request. A fallback uses the turn that is held, except after a 429: the gates
// hear of that at once, and the fallback waits for the slots alone. Nothing
// sleeps while it holds a turn.
package provider

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/line"
)

// A Stage keeps what is known about the providers that it calls: the state of
// their breakers, the budget of retries, and counters. It is safe for
// concurrent use.
type Stage struct {
	cfg    Config
	log    *zap.Logger
	budget budget
	line   *line.Line // for chains without a gate that owns one

	// delay says after how long a hedge is made; nil when none is.
	delay func(r *record, streamed bool) (after time.Duration, ok bool)

	denied  atomic.Int64   // retries and hedges that the budget did not allow
	running sync.WaitGroup // hedges

	mu      sync.Mutex
	records map[string]*record
}

var (
	_ core.Caller        = (*Stage)(nil)
	_ core.Fingerprinter = (*Stage)(nil)
	_ core.Measurer      = (*Stage)(nil)
	_ core.Closer        = (*Stage)(nil)
)

// waitingWithoutQueue is how many requests may wait when no gate owns the line.
const waitingWithoutQueue = 1000

// New returns a stage that knows nothing about its providers yet.
func New(env core.Env, cfg Config) *Stage {
	if env.Log == nil {
		env.Log = zap.NewNop()
	}
	return &Stage{
		cfg: cfg, log: env.Log,
		budget: newBudget(),
		line:   line.New(waitingWithoutQueue), records: map[string]*record{},
		delay: cfg.Hedge.delay(),
	}
}

// Close waits for hedges that have lost and are about to end. Their generation
// stays open until then, so there are none any more.
func (s *Stage) Close() error {
	s.running.Wait()
	return nil
}

// Fingerprint is empty: which provider answers is what changes an answer, and
// what Call returns names that.
func (s *Stage) Fingerprint() string { return "" }

// record returns what is known about the provider name.
func (s *Stage) record(name string) *record {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[name]
	if !ok {
		r = newRecord(name, newBreaker(s.cfg.Breaker, name, s.log))
		s.records[name] = r
	}
	return r
}

// Call links the providers in use with what stands below.
func (s *Stage) Call(below core.Below) (core.Translator, error) {
	c := &caller{Stage: s, gates: below.Gates, line: s.line}
	owned := false
	for _, g := range below.Gates {
		if o, ok := g.Gate.(line.Owner); ok {
			if !owned {
				c.line, owned = o.Line(), true
			}
			c.slots = append(c.slots, g)
		}
	}
	seen := map[string]bool{}
	link := func(key, name string) (target, error) {
		if seen[name] {
			return target{}, fmt.Errorf("%s: %q is named twice", key, name)
		}
		seen[name] = true
		p, ok := below.Provider(name)
		if !ok {
			return target{}, fmt.Errorf("%s: there is no provider %q", key, name)
		}
		return target{record: s.record(name), translator: below.Around(p)}, nil
	}
	var err error
	if c.preferred, err = link("use", s.cfg.Use); err != nil {
		return nil, err
	}
	for i, name := range s.cfg.Fallback {
		t, err := link(fmt.Sprintf("fallback[%d]", i), name)
		if err != nil {
			return nil, err
		}
		c.fallbacks = append(c.fallbacks, t)
	}
	if f, ok := c.preferred.translator.(core.Fingerprinter); ok {
		c.fingerprint = f.Fingerprint()
	}
	p, _ := below.Provider(s.cfg.Use)
	c.languages, _ = p.Translator.(core.Languager)
	return c, nil
}

// A target is a provider, linked.
type target struct {
	*record
	translator core.Translator
}

// A caller is the end of one linked chain. It holds no state of its own.
type caller struct {
	*Stage
	gates       []core.Guard
	slots       []core.Guard // those of gates that own a line: what a fallback needs as well
	line        *line.Line
	preferred   target
	fallbacks   []target
	fingerprint string
	languages   core.Languager
}

var (
	_ core.Translator    = (*caller)(nil)
	_ core.Fingerprinter = (*caller)(nil)
	_ core.Languager     = (*caller)(nil)
)

// Fingerprint names what the preferred provider would answer. The answers of
// fallbacks are never stored.
func (c *caller) Fingerprint() string { return c.fingerprint }

// Languages returns those of the preferred provider.
func (c *caller) Languages() []core.LanguageInfo {
	if c.languages == nil {
		return nil
	}
	return c.languages.Languages()
}

// Translate makes attempts until one succeeds or none may be made any more.
func (c *caller) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	if req.Trace == nil {
		traced := *req
		traced.Trace = core.NewTrace(nil)
		req = &traced
	}
	r := run{caller: c, ctx: ctx, req: req, since: time.Now()}
	defer r.give()
	defer r.floor.close()
	res, err := r.translate()
	if err != nil {
		return nil, err // a nil *core.Error would not be a nil error
	}
	return res, nil
}
