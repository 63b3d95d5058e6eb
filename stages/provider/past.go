package provider

import (
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/line"
)

// A past is what is known about the providers that a stage calls: the state of
// their breakers, how long they took, the budget of retries, and counters. It
// outlives the stage: its heir has the same. It needs no closing, and is safe
// for concurrent use.
type past struct {
	budget *budget
	line   *line.Line   // for chains without a gate that owns one
	limits *limits      // of accounts whose entries carry some
	denied atomic.Int64 // retries and hedges that the budget did not allow
	linked atomic.Int64 // chains so far

	mu      sync.Mutex
	tallies map[string]*tally
	serving map[string]*record       // of the newest chain to which a request has come
	newest  int64                    // which one that is
	pauses  map[string]*pause        // by account
	routed  map[string]*atomic.Int64 // requests, by how their way is called
}

func newPast() *past {
	return &past{
		budget: newBudget(), line: line.New(waitingWithoutQueue), limits: newLimits(),
		tallies: map[string]*tally{}, pauses: map[string]*pause{}, routed: map[string]*atomic.Int64{},
	}
}

// A record is what one chain knows about one provider.
type record struct {
	*tally
	entry   string          // of providers
	of      core.Translator // the provider that it is about
	cfg     Breaker
	breaker *breaker
	account string // that its calls are charged to
	pause   *pause // of that
	*latencyPair
}

// A latencyPair is how long a provider took until the answer, and until its
// first delta; and, roughly, until the answer whether or not anybody hedges.
type latencyPair struct {
	whole, spoke latencies
	rough        atomic.Int64
}

// farMore is how many times what is usual an attempt must have had, before that
// it ran out of a request's time says something about its provider.
const farMore = 4

// usual is how long good answers took lately, roughly; 0 when there were none.
func (l *latencyPair) usual() time.Duration { return time.Duration(l.rough.Load()) }

// learned notes a good answer. Of two at the same moment one may be forgotten.
func (l *latencyPair) learned(d time.Duration) {
	if old := time.Duration(l.rough.Load()); old > 0 {
		d = old + (d-old)/8
	}
	l.rough.Store(int64(max(d, 1)))
}

// record returns what a new chain knows about p. What was learned is that of the
// chain that serves, as far as it is about the same thing: how long the same
// provider took, and the state of a breaker with the same limits. A provider
// that was built anew may be reached in another way, so nothing is known of it.
//
// A chain that never serves, because its reload failed, leaves no trace.
func (p *past) record(of core.Provider, cfg Breaker, log *zap.Logger) *record {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := p.tallies[of.Place()]
	if counts == nil {
		counts = newTally(of.Place())
		p.tallies[of.Place()] = counts
	}
	r := &record{tally: counts, entry: of.Name, of: of.Translator, cfg: cfg}
	if old := p.serving[of.Place()]; old != nil && same(old.of, of.Translator) {
		r.latencyPair = old.latencyPair
		if old.cfg == cfg {
			r.breaker = old.breaker
		}
	}
	if r.latencyPair == nil {
		r.latencyPair = &latencyPair{}
	}
	if r.breaker == nil {
		r.breaker = newBreaker(cfg, counts, log)
	}
	return r
}

// routedTo returns the counter of requests that go a way of that name.
func (p *past) routedTo(label string) *atomic.Int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.routed[label] == nil {
		p.routed[label] = &atomic.Int64{}
	}
	return p.routed[label]
}

// pauseOf returns the pause of an account, whichever chain calls it.
func (p *past) pauseOf(account string) *pause {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := p.pauses[account]
	if found == nil {
		found = &pause{}
		p.pauses[account] = found
	}
	return found
}

// same says whether a and b are one part.
func same(a, b core.Translator) bool {
	return reflect.ValueOf(a).Comparable() && a == b
}

// begin makes c serve if it is the first.
func (c *foot) begin() {
	c.mu.Lock()
	begun := c.newest > 0
	c.mu.Unlock()
	if !begun {
		c.serve()
	}
}

// serve notes that a request has come to c: from now on it is what c knows that
// the next chain begins with. Before the first request there is nothing to know.
func (c *foot) serve() {
	c.serves.Store(true)
	p := c.past
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.number < p.newest {
		return // a late request to a chain that another has followed
	}
	p.newest = c.number
	p.serving = map[string]*record{}
	most := map[string]core.Allowance{}
	kept := map[string]*pause{}
	for _, g := range c.targets {
		for _, t := range g.members {
			p.serving[t.name] = t.record
			kept[t.account] = t.pause
			if t.limits != (core.Allowance{}) {
				most[t.account] = lower(most[t.account], t.limits)
			}
		}
	}
	p.pauses = kept
	p.limits.set(most)
}

// known returns the counters of all providers, and the records of those that
// the chain calls which serves.
func (p *past) known() (tallies []*tally, serving []*record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tallies {
		tallies = append(tallies, t)
	}
	for _, r := range p.serving {
		serving = append(serving, r)
	}
	return tallies, serving
}
