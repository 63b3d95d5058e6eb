package provider

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A target is a provider, or one account of one, linked.
type target struct {
	*record
	translator core.Translator
	languages  core.Languager // nil: any language to any other
	limits     core.Allowance
	weight     int
	load       atomic.Int64 // requests that have chosen it and have not ended
}

// knows returns the languages of t; nil means any to any other.
func (t *target) knows() []core.LanguageInfo {
	if t.languages == nil {
		return nil
	}
	return t.languages.Languages()
}

// speaks says whether t may know the pair of req. A region or a script does not
// matter, since what a provider makes of these it says itself.
func (t *target) speaks(req *core.Request) bool {
	return req.Chat != nil || t.knowsPair(req.Source, req.Target)
}

// knowsPair is speaks; an empty language stands for any.
func (t *target) knowsPair(source, target core.Language) bool {
	all := t.knows()
	if len(all) == 0 {
		return true
	}
	for _, l := range all {
		if source != "" && l.Source.Base() != source.Base() {
			continue
		}
		if target == "" || slices.ContainsFunc(l.Targets, func(to core.Language) bool { return to.Base() == target.Base() }) {
			return true
		}
	}
	return false
}

// A group is targets that stand for each other: the entries of a list, and the accounts
// of an entry.
type group struct {
	members []*target
	chat    *core.ChatModel // of an entry that takes chats; else nil

	mu   sync.Mutex
	dues []float64 // how much each member is due, when several have as little to do
}

func (g *group) speaks(req *core.Request) bool {
	return req.Chat != nil || slices.ContainsFunc(g.members, func(t *target) bool { return t.speaks(req) })
}

// least returns the one of open that has the least to do for its weight. Of several
// they take turns, as often as their weights say (nginx does so as well). Those
// without a weight are for when there is nobody else. Take is told of it before anybody
// else looks who that is.
func (g *group) least(open []*target, take func(*target)) *target {
	if len(open) < 2 {
		take(open[0])
		return open[0]
	}
	if slices.ContainsFunc(open, func(t *target) bool { return t.weight > 0 }) {
		open = slices.DeleteFunc(open, func(t *target) bool { return t.weight == 0 })
	}
	load := func(t *target) float64 { return float64(t.load.Load()) / float64(max(t.weight, 1)) }
	g.mu.Lock()
	defer g.mu.Unlock()
	smallest := load(open[0])
	for _, t := range open[1:] {
		smallest = min(smallest, load(t))
	}
	best, total := -1, 0.0
	for i, t := range g.members {
		if !slices.Contains(open, t) || load(t) > smallest {
			continue
		}
		w := float64(max(t.weight, 1))
		g.dues[i] += w
		total += w
		if best < 0 || g.dues[i] > g.dues[best] {
			best = i
		}
	}
	t := open[0] // when another group, in which they are as well, has chosen meanwhile
	if best >= 0 {
		g.dues[best] -= total
		t = g.members[best]
	}
	take(t)
	return t
}

// A standing is whether a target can be asked.
type standing struct {
	open   bool
	until  time.Time       // when it will be, of one that can be waited for
	trying <-chan struct{} // or closed when that is known
	why    *core.Error     // else
}

// standing says how t stands with the request. Heed says that somebody else may be
// asked, so that a 429 or a limit that is reached is no matter of waiting.
func (r *run) standing(t *target, heed bool, now time.Time) standing {
	if shut, _ := t.breaker.shut(); shut {
		return standing{why: unavailable(t)}
	}
	if kind, left, trying := t.pause.on(now); kind == core.QuotaExceeded && !r.alone() || kind != "" && heed {
		switch {
		case trying != nil:
			return standing{trying: trying, why: leftAlone(t, kind, 0)}
		case kind == core.RateLimited && r.inTime(now.Add(left)):
			return standing{until: now.Add(left)}
		}
		return standing{why: leftAlone(t, kind, left)}
	}
	if heed {
		if ok, wait := r.limits.free(t.account, r.req, now); !ok {
			if r.inTime(now.Add(wait)) {
				return standing{until: now.Add(wait)}
			}
			return standing{why: leftAlone(t, core.RateLimited, wait)}
		}
	}
	return standing{open: true}
}

// inTime says whether at is before the deadline.
func (r *run) inTime(at time.Time) bool {
	deadline, has := r.ctx.Deadline()
	return !has || at.Before(deadline)
}

// leftAlone is the error of a request that would go to an account which is left alone.
func leftAlone(t *target, kind core.ErrorKind, left time.Duration) *core.Error {
	e := &core.Error{Kind: kind, Stage: t.name, RetryAfter: left, Retryable: true, Detail: "the account of the provider has reached its limit"}
	if kind == core.QuotaExceeded {
		e.Detail, e.Retryable = "the account of the provider has no quota left; it is asked again from time to time", false
	}
	return e
}

func unavailable(t *target) *core.Error {
	return &core.Error{
		Kind: core.Unavailable, Stage: t.name, Detail: "the provider keeps failing and is left alone for a moment",
		Retryable: true, RetryAfter: t.breaker.retryAfter(),
	}
}

// pick chooses who of g is asked next: the open one with the least to do; else, unless
// only an open one is wanted, the one that can be asked first. Trying is what to wait
// for when a call finds out at this moment; else why says why there is nobody.
func (r *run) pick(g *group, heed, onlyOpen bool) (t *target, trying <-chan struct{}, why *core.Error) {
	now := time.Now()
	var room [8]*target
	open := room[:0]
	var later *target
	var until time.Time
	anyPair := !g.speaks(r.req)
	for _, t := range g.members {
		if !r.may(t, anyPair) {
			continue
		}
		switch s := r.standing(t, heed, now); {
		case s.open:
			open = append(open, t)
		case s.trying != nil:
			trying = s.trying
			if why == nil {
				why = s.why
			}
		case s.why != nil:
			if why == nil || s.why.Kind != core.Unavailable {
				why = s.why
			}
		case later == nil || s.until.Before(until):
			later, until = t, s.until
		}
	}
	switch {
	case len(open) > 0:
		return g.least(open, r.chosen), nil, nil
	case onlyOpen || trying != nil && later == nil:
		return nil, trying, why
	case later != nil:
		if kind, _, _ := later.pause.on(now); kind != "" {
			r.notBefore = until
		}
		r.chosen(later)
		return later, nil, nil
	}
	return nil, nil, why
}

// may says whether t can be asked at all: not again when that is known to be of no use,
// and for its own pairs of languages, unless nobody knows the one that is wanted.
func (r *run) may(t *target, anyPair bool) bool {
	return !slices.Contains(r.spent, t) && (anyPair || t.speaks(r.req))
}

// open says whether one of g can be asked now that was not yet.
func (r *run) open(g *group) bool {
	now, anyPair := time.Now(), !g.speaks(r.req)
	return slices.ContainsFunc(g.members, func(t *target) bool { return r.may(t, anyPair) && r.standing(t, true, now).open })
}
