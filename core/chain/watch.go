package chain

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A Watch keeps the counters of every place by name. It lives as long as the
// process, so counters and taps go on when a chain is linked anew. The zero
// value is ready; it is safe for concurrent use.
type Watch struct {
	mu     sync.Mutex
	places map[string]*stats

	taps atomic.Pointer[[]*Tap] // nil when there are none; replaced under mu
}

var _ core.Measurer = (*Watch)(nil)

type stats struct {
	calls    atomic.Int64
	answered atomic.Int64
	passed   atomic.Int64
	self     atomic.Int64 // nanoseconds

	mu     sync.Mutex
	errors map[core.ErrorKind]int64 // own ones
}

func (w *Watch) of(name string) *stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.places[name]
	if !ok {
		if w.places == nil {
			w.places = map[string]*stats{}
		}
		s = &stats{errors: map[core.ErrorKind]int64{}}
		w.places[name] = s
	}
	return s
}

// count notes a call that took self by itself; answered says that it gave an
// answer without going further down.
func (s *stats) count(self time.Duration, answered bool) {
	s.calls.Add(1)
	s.self.Add(int64(self))
	if answered {
		s.answered.Add(1)
	}
}

func (s *stats) failed(kind core.ErrorKind, passedOn bool) {
	if passedOn {
		s.passed.Add(1)
		return
	}
	s.mu.Lock()
	s.errors[kind]++
	s.mu.Unlock()
}

// Measure reports the counters of every place that was ever linked.
func (w *Watch) Measure(emit func(core.Measure)) {
	w.mu.Lock()
	names := make([]string, 0, len(w.places))
	for name := range w.places {
		names = append(names, name)
	}
	w.mu.Unlock()
	sort.Strings(names)
	for _, name := range names {
		s := w.of(name)
		count := func(metric, help string, v float64, labels ...string) {
			emit(core.Measure{Name: metric, Help: help, Counter: true, Value: v, Labels: append([]string{"stage", name}, labels...)})
		}
		count("stage_calls_total", "Requests that entered the stage.", float64(s.calls.Load()))
		count("stage_answers_total", "Requests that the stage answered without going further down.", float64(s.answered.Load()))
		count("stage_self_seconds_total", "Time spent in the stage itself.", time.Duration(s.self.Load()).Seconds())
		count("stage_passed_errors_total", "Errors from below that the stage passed on.", float64(s.passed.Load()))
		s.mu.Lock()
		for kind, n := range s.errors {
			count("stage_errors_total", "Errors that arose in the stage itself, by kind.", float64(n), "kind", string(kind))
		}
		s.mu.Unlock()
	}
}
