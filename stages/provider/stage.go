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
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
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
	origin   core.Origin
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
	_ core.Rememberer    = (*Stage)(nil)
)

// waitingWithoutQueue is how many requests may wait when no gate owns the line.
const waitingWithoutQueue = 1000

// New returns a stage that knows nothing about its providers yet.
func New(env core.Env, cfg Config) *Stage {
	if env.Log == nil {
		env.Log = zap.NewNop()
	}
	s := &Stage{cfg: cfg, log: env.Log, origin: env.Origin, past: newPast(), delay: cfg.Hedge.delay()}
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

// Remember returns what was spent of calls a day.
func (s *Stage) Remember() []byte { return s.limits.remember() }

// Recall counts what a former process has spent of them.
func (s *Stage) Recall(memory []byte) error { return s.limits.recall(memory) }

// Fingerprint is empty: which provider answers is what changes an answer, and
// what Call returns names that.
func (s *Stage) Fingerprint() string { return "" }

// Call links the providers in use with what stands below.
func (s *Stage) Call(below core.Below) (core.Translator, error) {
	c := &foot{Stage: s, gates: below.Gates, line: s.line, number: s.linked.Add(1), targets: map[string]*group{}}
	below.Around = c.gathering(below.Around)
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
	fallbacks, err := c.link(below, "fallback", s.cfg.Fallback)
	if err != nil {
		return nil, err
	}
	for i := range s.cfg.Routes {
		r := &s.cfg.Routes[i]
		w := &way{number: i, matcher: r.matcher()}
		w.count = s.routedTo(w.label())
		if err := c.fill(w, below, fmt.Sprintf("routes[%d].use", i), r.Use, fallbacks, r.Private); err != nil {
			return nil, err
		}
		if err := w.unserved(r, s.origin); err != nil {
			return nil, err
		}
		c.ways = append(c.ways, w)
	}
	last := &way{number: -1}
	last.count = s.routedTo(last.label())
	for i, name := range s.cfg.Fallback {
		if slices.Contains(s.cfg.Use, name) {
			return nil, fmt.Errorf("fallback[%d]: %q is named twice", i, name)
		}
	}
	if err := c.fill(last, below, "use", s.cfg.Use, fallbacks, false); err != nil {
		return nil, err
	}
	c.ways = append(c.ways, last)
	if err := c.linkChats(below, fallbacks); err != nil {
		return nil, err
	}
	for _, g := range c.targets {
		if g.members[0].limits != (core.Allowance{}) {
			guard := core.Guard{Name: guardName, Gate: s.limits}
			c.gates = append(slices.Clone(c.gates), guard)
			c.accounts, c.borrowed = append(c.accounts, guard), append(c.borrowed, guard)
			break
		}
	}
	c.begin()
	return c, nil
}

// fill links the providers of one way: those that are asked first, and the fallbacks
// that are none of these.
func (c *foot) fill(w *way, below core.Below, key string, use []string, fallbacks []*group, private bool) error {
	if len(use) == 0 {
		use = []string{""}
	}
	first, err := c.link(below, key, use)
	if err != nil {
		return err
	}
	w.first = &group{}
	var answers []string
	for _, g := range first {
		w.first.members = append(w.first.members, g.members...)
		if f, ok := g.members[0].translator.(core.Fingerprinter); ok && !slices.Contains(answers, f.Fingerprint()) {
			answers = append(answers, f.Fingerprint())
		}
	}
	w.first.dues = make([]float64, len(w.first.members))
	if len(answers) == 1 {
		w.fingerprint = answers[0]
	} else {
		slices.Sort(answers)
		w.fingerprint = sum(answers...)
	}
	if private { // neither a call nor its answer is shared with who may be answered by a fallback
		w.fingerprint = sum("private", w.fingerprint)
		return nil
	}
	for _, g := range fallbacks {
		if !slices.Contains(first, g) {
			w.then = append(w.then, g)
		}
	}
	return nil
}

// sum is a fingerprint of several.
func sum(parts ...string) string {
	all := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(all[:12])
}

// link returns a group for each entry of names: its accounts, or itself. An entry is
// linked once.
func (c *foot) link(below core.Below, key string, names []string) (groups []*group, err error) {
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", key, i)
		if len(names) == 1 && key != "fallback" {
			at = key
		}
		g := c.targets[name]
		if g != nil && slices.Contains(groups, g) {
			return nil, fmt.Errorf("%s: %q is named twice", at, name)
		}
		if g == nil {
			p, ok := below.Provider(name)
			if !ok {
				return nil, fmt.Errorf("%s: there is no provider %q", at, name)
			}
			g = &group{}
			for _, share := range append(slices.Clip(p.Shares), p) {
				if share.Share == 0 && len(p.Shares) > 0 {
					continue // the entry as a whole
				}
				languages, _ := share.Translator.(core.Languager)
				account := share.Account
				if account == "" {
					account = share.Place()
				}
				t := &target{translator: below.Around(share), languages: languages, limits: p.Limits, weight: share.Weight}
				if share.Share == 0 {
					t.weight = 1
				}
				t.record = c.record(share, c.cfg.Breaker, c.log)
				t.pause, t.record.account = c.pauseOf(account), account
				g.members = append(g.members, t)
			}
			g.dues = make([]float64, len(g.members))
			if chatter, ok := p.Translator.(core.Chatter); ok {
				g.chat = &core.ChatModel{Provider: p.Name, Model: chatter.ChatModel(), Fingerprint: p.Fingerprint}
			}
			c.targets[name] = g
		}
		groups = append(groups, g)
	}
	return groups, nil
}

// A foot is the end of one linked chain. It holds no state of its own.
type foot struct {
	*Stage
	gates    []core.Guard
	slots    []core.Guard // those of gates that own a line: what a fallback needs as well
	accounts []core.Guard // those that count by account: what a fallback needs for its own
	borrowed []core.Guard // both
	line     *line.Line
	ways     []*way            // the last one takes what no other does
	chats    []*way            // for chats, by who is asked first
	targets  map[string]*group // by entry

	gatherers map[string]*gatherer // the providers that translate several texts in one call, by name
	crowds    crowds

	number int64       // of the links of its past: a later one is greater
	serves atomic.Bool // a request has come
}

var (
	_ core.Translator = (*foot)(nil)
	_ core.Router     = (*foot)(nil)
	_ core.Languager  = (*foot)(nil)
)

// Languages returns what any of the providers can translate, in the order of the
// providers in use; nil, which is any language to any other, as soon as one of them
// says so.
func (c *foot) Languages() []core.LanguageInfo {
	var all []core.LanguageInfo
	add := func(g *group, w *way) (any bool) {
		for _, t := range g.members {
			more := t.knows()
			if len(more) == 0 {
				return true
			}
			for _, l := range more {
				if !among(w.sources, l.Source) {
					continue
				}
				at := slices.IndexFunc(all, func(o core.LanguageInfo) bool { return o.Source == l.Source })
				if at < 0 {
					all = append(all, core.LanguageInfo{Source: l.Source})
					at = len(all) - 1
				}
				targets := slices.Clone(all[at].Targets)
				for _, to := range l.Targets {
					if among(w.targets, to) && !slices.Contains(targets, to) {
						targets = append(targets, to)
					}
				}
				all[at].Targets = targets
			}
		}
		return false
	}
	for i := len(c.ways) - 1; i >= 0; i-- { // what no route takes comes first
		w := c.ways[i]
		if add(w.first, w) || slices.ContainsFunc(w.then, func(g *group) bool { return add(g, w) }) {
			return nil
		}
	}
	return slices.DeleteFunc(all, func(l core.LanguageInfo) bool { return len(l.Targets) == 0 })
}

// Translate makes attempts until one succeeds or none may be made any more.
func (c *foot) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	if !c.serves.Load() {
		c.serve()
	}
	var w *way
	switch {
	case req.Chat != nil:
		if w = c.chat(req.Chat.Provider); w == nil {
			return nil, errNoChat()
		}
	case req.Only != "":
		g := c.targets[req.Only]
		if g == nil {
			return nil, &core.Error{Kind: core.InvalidRequest, Stage: "provider", Detail: fmt.Sprintf("no provider %.60q is called here", req.Only)}
		}
		w = &way{number: -1, first: g}
	default:
		w = c.ways[c.Route(req)]
		w.count.Add(1)
	}
	r := run{foot: c, way: w, ctx: ctx, own: *req, since: req.Since}
	r.req = &r.own
	r.own.Account, r.own.Fallback = r.way.first.members[0].account, false
	if r.own.Trace == nil {
		r.own.Trace = core.NewTrace(nil)
	}
	if r.since.IsZero() {
		r.since = time.Now()
	}
	defer r.chosen(nil)
	defer r.give()
	defer r.note()
	defer r.floor.close()
	if req.Only != "" {
		res, err := r.translate()
		if err != nil {
			return nil, err
		}
		own := *res
		own.NoStore = true // others are answered by whom the routes say
		return &own, nil
	}
	res, err, ok := r.together()
	if !ok {
		res, err = r.translate()
	}
	if err != nil && r.instead != nil && err.Kind != core.Canceled {
		return r.instead, nil
	}
	if err != nil {
		return nil, err // a nil *core.Error would not be a nil error
	}
	return res, nil
}
