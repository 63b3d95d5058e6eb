// Package provider is the stage `provider`, which ends a chain: it calls the
// provider in use, once more when a failure may pass, or when it takes unusually
// long, and the fallbacks when it cannot answer. It is the only owner of retries.
//
// Before every attempt it takes one turn from all gates together, for the account
// of the provider that it is for; see core/line. A retry takes a turn of its own
// and keeps the seniority of its request. A fallback uses the slot that is held
// and is charged to its own account; after a 429 the gates hear of that at once,
// and the fallback takes a turn of its own. Nothing sleeps while it holds a turn.
package provider

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/line"
)

// A Stage calls providers as its configuration says. It is safe for concurrent
// use.
type Stage struct {
	cfg      Config
	log      *zap.Logger
	deadline atomic.Int64 // nanoseconds
	*past

	// delay says after how long a hedge is made; nil when none is.
	delay func(r *record, streamed bool) (after time.Duration, ok bool)

	running sync.WaitGroup // hedges
}

var (
	_ core.Caller        = (*Stage)(nil)
	_ core.Heir          = (*Stage)(nil)
	_ core.Fingerprinter = (*Stage)(nil)
	_ core.Measurer      = (*Stage)(nil)
	_ core.Closer        = (*Stage)(nil)
	_ core.Deadliner     = (*Stage)(nil)
)

// waitingWithoutQueue is how many requests may wait when no gate owns the line.
const waitingWithoutQueue = 1000

// New returns a stage that knows nothing about its providers yet.
func New(env core.Env, cfg Config) *Stage {
	if env.Log == nil {
		env.Log = zap.NewNop()
	}
	s := &Stage{cfg: cfg, log: env.Log, past: newPast(), delay: cfg.Hedge.delay()}
	s.SetDeadline(env.Deadline)
	return s
}

// SetDeadline takes another deadline in place: breakers, latencies and counters
// stay.
func (s *Stage) SetDeadline(longest time.Duration) { s.deadline.Store(int64(longest)) }

// Inherit shares the past of former, which goes on adding to it while it serves.
// It comes before Call.
func (s *Stage) Inherit(former any) {
	if f, ok := former.(*Stage); ok {
		s.past = f.past
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

// Call links the providers in use with what stands below.
func (s *Stage) Call(below core.Below) (core.Translator, error) {
	c := &foot{Stage: s, gates: below.Gates, line: s.line, number: s.linked.Add(1)}
	owned := false
	for _, g := range below.Gates {
		if o, ok := g.Gate.(line.Owner); ok {
			if !owned {
				c.line, owned = o.Line(), true
			}
			c.slots = append(c.slots, g)
			c.borrowed = append(c.borrowed, g)
		} else if s, ok := g.Gate.(core.Scoper); ok && s.Scope() == core.ScopeAccount {
			c.accounts = append(c.accounts, g)
			c.borrowed = append(c.borrowed, g)
		}
	}
	seen := map[string]bool{}
	link := func(key, name string) (target, error) {
		p, ok := below.Provider(name)
		if !ok {
			return target{}, fmt.Errorf("%s: there is no provider %q", key, name)
		}
		languages, _ := p.Translator.(core.Languager)
		account := p.Account
		if account == "" {
			account = p.Name
		}
		t := target{record: s.record(p, s.cfg.Breaker, s.log), translator: below.Around(p), languages: languages, account: account}
		if chatter, ok := p.Translator.(core.Chatter); ok {
			t.chat = &core.ChatModel{Provider: p.Name, Model: chatter.ChatModel(), Fingerprint: p.Fingerprint}
		}
		return t, nil
	}
	var err error
	if c.preferred, err = link("use", s.cfg.Use); err != nil {
		return nil, err
	}
	seen[s.cfg.Use] = true
	for i, name := range s.cfg.Fallback {
		key := fmt.Sprintf("fallback[%d]", i)
		if seen[name] {
			return nil, fmt.Errorf("%s: %q is named twice", key, name)
		}
		seen[name] = true
		t, err := link(key, name)
		if err != nil {
			return nil, err
		}
		c.fallbacks = append(c.fallbacks, t)
	}
	if f, ok := c.preferred.translator.(core.Fingerprinter); ok {
		c.fingerprint = f.Fingerprint()
	}
	if err := c.linkChats(below, link); err != nil {
		return nil, err
	}
	c.begin()
	return c, nil
}

// A target is a provider, linked.
type target struct {
	*record
	translator core.Translator
	languages  core.Languager  // nil: any language to any other
	account    string          // that its calls are charged to
	chat       *core.ChatModel // nil when it takes no chats
}

// knows returns the languages of t; nil means any to any other.
func (t target) knows() []core.LanguageInfo {
	if t.languages == nil {
		return nil
	}
	return t.languages.Languages()
}

// speaks says whether t may know the pair of req. A region or a script does not
// matter, since what a provider makes of these it says itself.
func (t target) speaks(req *core.Request) bool {
	all := t.knows()
	if len(all) == 0 || req.Chat != nil {
		return true
	}
	source, target := req.Source.Base(), req.Target.Base()
	for _, l := range all {
		if source != "" && l.Source.Base() != source {
			continue
		}
		for _, to := range l.Targets {
			if to.Base() == target {
				return true
			}
		}
	}
	return false
}

// A foot is the end of one linked chain. It holds no state of its own.
type foot struct {
	*Stage
	gates       []core.Guard
	slots       []core.Guard // those of gates that own a line: what a fallback needs as well
	accounts    []core.Guard // those that count by account: what a fallback needs for its own
	borrowed    []core.Guard // both
	line        *line.Line
	preferred   target
	fallbacks   []target
	fingerprint string
	chats       []*foot // for chats, by the preferred provider

	number int64       // of the links of its past: a later one is greater
	serves atomic.Bool // a request has come
}

var (
	_ core.Translator    = (*foot)(nil)
	_ core.Fingerprinter = (*foot)(nil)
	_ core.Languager     = (*foot)(nil)
)

// Fingerprint names what the preferred provider would answer. The answers of
// fallbacks are never stored.
func (c *foot) Fingerprint() string { return c.fingerprint }

// Languages returns what any of the providers can translate, in the order of
// the preferred one; nil, which is any language to any other, as soon as one of
// them says so.
func (c *foot) Languages() []core.LanguageInfo {
	all := slices.Clone(c.preferred.knows())
	if len(all) == 0 {
		return nil
	}
	for _, f := range c.fallbacks {
		more := f.knows()
		if len(more) == 0 {
			return nil
		}
		for _, l := range more {
			at := slices.IndexFunc(all, func(o core.LanguageInfo) bool { return o.Source == l.Source })
			if at < 0 {
				all = append(all, l)
				continue
			}
			targets := slices.Clone(all[at].Targets)
			for _, to := range l.Targets {
				if !slices.Contains(targets, to) {
					targets = append(targets, to)
				}
			}
			all[at].Targets = targets
		}
	}
	return all
}

// Translate makes attempts until one succeeds or none may be made any more.
func (c *foot) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	if !c.serves.Load() {
		c.serve()
	}
	if req.Chat != nil {
		if c = c.chat(req.Chat.Provider); c == nil {
			return nil, errNoChat()
		}
	}
	r := run{foot: c, ctx: ctx, own: *req, since: req.Since}
	r.req = &r.own
	r.own.Account, r.own.Fallback = c.preferred.account, false
	if r.own.Trace == nil {
		r.own.Trace = core.NewTrace(nil)
	}
	if r.since.IsZero() {
		r.since = time.Now()
	}
	defer r.give()
	defer r.floor.close()
	res, err := r.translate()
	if err != nil {
		return nil, err // a nil *core.Error would not be a nil error
	}
	return res, nil
}
