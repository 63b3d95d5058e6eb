package provider

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A reason is why an attempt was made.
type reason int

const (
	first reason = iota
	retry
	hedge
	fallback
	moved
	reasons
)

func (r reason) String() string {
	return [...]string{"first", "retry", "hedge", "fallback", "moved"}[r]
}

// within are the upper bounds of the classes in which attempts are counted by
// how long they took, in seconds.
var within = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30}

// mostTokens is more than any call costs: what an upstream says beyond that is
// nonsense, and would make a counter overflow.
const mostTokens = 100_000_000

// A tally counts what was done with one provider, by name. It is never begun
// anew, since counters may not fall.
type tally struct {
	name string

	opened atomic.Int64 // times that a breaker did
	probes atomic.Int64 // calls while one was half open

	answered [reasons]atomic.Int64
	ended    atomic.Int64
	took     atomic.Int64 // nanoseconds
	classes  [len(within)]atomic.Int64
	examples [len(within) + 1]atomic.Pointer[core.Exemplar] // of each class one that is traced
	tokens   [3]atomic.Int64
	letters  atomic.Int64 // characters that were billed

	mu         sync.Mutex
	failed     [reasons]map[core.ErrorKind]int64
	complained time.Time // when somebody was last told that its configuration is wrong
}

func newTally(name string) *tally {
	r := &tally{name: name}
	for i := range r.failed {
		r.failed[i] = map[core.ErrorKind]int64{}
	}
	return r
}

// complains says whether operators are to be told of a configuration that the
// provider does not take: once a minute.
func (r *tally) complains(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.complained.IsZero() && now.Sub(r.complained) < time.Minute {
		return false
	}
	r.complained = now
	return true
}

// count notes an attempt that has ended.
func (r *tally) count(a *attempt) {
	if a.failed == nil {
		r.answered[a.why].Add(1)
	} else {
		r.mu.Lock()
		r.failed[a.why][a.failed.Kind]++
		r.mu.Unlock()
	}
	r.ended.Add(1)
	r.took.Add(int64(a.took))
	class, _ := slices.BinarySearch(within[:], a.took.Seconds())
	if class < len(within) {
		r.classes[class].Add(1)
	}
	if span := a.req.Trace.Traced(); span != nil && span.Context.Sampled {
		// Another takes its place after a second: making one costs as much as a span.
		ended := a.start.Add(a.took)
		if last := r.examples[class].Load(); last == nil || ended.Sub(last.At) >= time.Second {
			r.examples[class].Store(&core.Exemplar{Value: a.took.Seconds(), At: ended, TraceID: span.Context.TraceID()})
		}
	}
	for i, n := range [...]int{a.usage.PromptTokens, a.usage.CompletionTokens, a.usage.CachedTokens} {
		if n > 0 {
			r.tokens[i].Add(int64(min(n, mostTokens)))
		}
	}
	r.letters.Add(int64(min(max(a.usage.Characters, 0), mostTokens)))
}

// Measure reports attempts, how long they took, tokens and breakers, by
// provider.
func (s *Stage) Measure(emit func(core.Measure)) {
	emit(core.Measure{Name: "provider_retries_denied_total", Help: "Retries and hedges that were not made because too many had been.", Counter: true, Value: float64(s.denied.Load())})
	s.mu.Lock()
	for label, n := range s.routed {
		emit(core.Measure{Name: "provider_routed_total", Help: "Requests, by the route that took them: its place in the list, or use.", Counter: true, Value: float64(n.Load()), Labels: []string{"route", label}})
	}
	s.mu.Unlock()
	tallies, serving := s.known()
	for _, t := range tallies {
		t.measure(emit)
	}
	for _, r := range serving {
		emit(core.Measure{Name: "provider_breaker_state", Help: "Whether calls reach the provider: 0 yes, 1 one tries, 2 no.", Value: r.breaker.state(), Labels: []string{"provider", r.name}})
		_, left, _ := r.pause.on(time.Now())
		emit(core.Measure{Name: "provider_paused_seconds", Help: "For how much longer the account of the provider is left alone, since it has no quota or answered with a 429.", Value: left.Seconds(), Labels: []string{"provider", r.name}})
		s.limits.left(r.account, time.Now(), func(unit string, most int, left int64) {
			emit(core.Measure{Name: "provider_limit", Help: "What `limits` of the entry allow the account.", Value: float64(most), Labels: []string{"provider", r.name, "unit", unit}})
			emit(core.Measure{Name: "provider_left", Help: "What is left of that.", Value: float64(left), Labels: []string{"provider", r.name, "unit", unit}})
		})
	}
}

func (r *tally) measure(emit func(core.Measure)) {
	count := func(name, help string, v float64, labels ...string) {
		emit(core.Measure{Name: name, Help: help, Counter: true, Value: v, Labels: append([]string{"provider", r.name}, labels...)})
	}
	for why := range reasons {
		count("provider_attempts_total", "Calls of providers, by why they were made and how they ended.", float64(r.answered[why].Load()), "reason", why.String(), "outcome", "ok")
		r.mu.Lock()
		for kind, n := range r.failed[why] {
			count("provider_attempts_total", "Calls of providers, by why they were made and how they ended.", float64(n), "reason", why.String(), "outcome", string(kind))
		}
		r.mu.Unlock()
	}
	count("provider_attempt_seconds_total", "Time that calls of providers took.", time.Duration(r.took.Load()).Seconds())
	// What is counted meanwhile may be in some of these and not in others: a
	// histogram must not have more in a bucket than in all.
	sum, buckets := int64(0), make(map[float64]uint64, len(within))
	for i, bound := range within {
		sum += r.classes[i].Load()
		buckets[bound] = uint64(sum)
		count("provider_attempts_within_total", "Calls of providers that took at most so many seconds.", float64(sum), "seconds", strconv.FormatFloat(bound, 'g', -1, 64))
	}
	var examples []core.Exemplar
	for i := range r.examples {
		if e := r.examples[i].Load(); e != nil {
			examples = append(examples, *e)
		}
	}
	emit(core.Measure{
		Name: "provider_attempt_seconds", Help: "How long calls of providers took.", Labels: []string{"provider", r.name},
		Histogram: &core.Histogram{Count: max(uint64(r.ended.Load()), uint64(sum)), Sum: time.Duration(r.took.Load()).Seconds(), Buckets: buckets, Exemplars: examples},
	})
	for i, what := range [...]string{"prompt", "completion", "cached"} {
		count("provider_tokens_total", "Tokens that providers billed; cached ones are part of the prompt's.", float64(r.tokens[i].Load()), "tokens", what)
	}
	if n := r.letters.Load(); n > 0 { // of who bills by them
		count("provider_characters_total", "Characters that providers billed.", float64(n))
	}
	count("provider_breaker_opened_total", "Times that the breaker of a provider opened.", float64(r.opened.Load()))
	count("provider_breaker_probes_total", "Calls that tried whether a provider is back.", float64(r.probes.Load()))
}
