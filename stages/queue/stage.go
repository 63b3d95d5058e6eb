// Package queue is the gate that bounds how many upstream calls run at once and
// how closely they follow each other. It owns the line in which everything
// waits that waits for a turn; see core/line for who comes next.
package queue

import (
	"fmt"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/line"
)

// Kind declares the stage `queue`.
func Kind() core.Kind {
	return core.NewKind("queue", core.RoleGate, "Bounds how many upstream calls run at once, and lets the rest wait in a fair order.", Defaults,
		func(_ core.Env, c *Config) (any, error) { return New(*c), nil })
}

// A Stage is a gate: a free slot, and the interval since the last start. It is
// safe for concurrent use.
type Stage struct {
	line *line.Line

	mu       sync.Mutex
	config   Config
	inFlight int
	// last is the start of the last call; lastReq is whose it was, while that
	// may still turn out unused, and before is what last was until then.
	last, before time.Time
	lastReq      *core.Request
}

var (
	_ core.Gate          = (*Stage)(nil)
	_ core.Planner       = (*Stage)(nil)
	_ core.Measurer      = (*Stage)(nil)
	_ core.Fingerprinter = (*Stage)(nil)
	_ core.Holder        = (*Stage)(nil)
	_ core.Scoper        = (*Stage)(nil)
	_ line.Owner         = (*Stage)(nil)
)

// New returns the gate that c describes, with nothing in flight.
func New(c Config) *Stage {
	return &Stage{line: line.New(c.MaxWaiting), config: c}
}

// Line returns the line that this stage owns.
func (s *Stage) Line() *line.Line { return s.line }

// Fingerprint is empty: the stage changes no answer.
func (s *Stage) Fingerprint() string { return "" }

// Scope is everybody: a slot is one for all.
func (s *Stage) Scope() core.Scope { return core.ScopeAll }

// Take takes a slot. When all are taken it says to ask after the next Give, and
// when the interval is not over, how much of it is left.
func (s *Stage) Take(req *core.Request, now time.Time) (ok bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight >= s.config.MaxConcurrent {
		return false, 0
	}
	if left := s.config.MinInterval - now.Sub(s.last); left > 0 {
		return false, left
	}
	s.inFlight++
	s.before, s.last, s.lastReq = s.last, now, req
	return true, 0
}

// Give frees the slot. When the call was never made, the interval goes on from
// the start before it.
func (s *Stage) Give(req *core.Request, o core.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	if req == s.lastReq {
		if o.Unused {
			s.last = s.before
		}
		s.lastReq = nil
	}
}

// Plan takes another configuration in place: calls in flight and requests that
// wait stay, in their order, and apply starts who can start now. With fewer slots
// than calls in flight nothing starts until enough of them have ended; with less
// room than requests wait nobody is sent away.
func (s *Stage) Plan(config any) (apply func(), err error) {
	c, ok := config.(*Config)
	if !ok {
		return nil, fmt.Errorf("queue: planned with a %T, want a %T", config, c)
	}
	return func() {
		s.mu.Lock()
		s.config = *c
		s.mu.Unlock()
		s.line.SetMaxWaiting(c.MaxWaiting)
		s.line.Wake()
	}, nil
}

// Holds says how many wait.
func (s *Stage) Holds() string {
	if n := s.line.Waiting(); n > 0 {
		return fmt.Sprintf("%d waiting", n)
	}
	return ""
}

// Measure reports the slots, and the line.
func (s *Stage) Measure(emit func(core.Measure)) {
	s.mu.Lock()
	inFlight, most := s.inFlight, s.config.MaxConcurrent
	s.mu.Unlock()
	emit(core.Measure{Name: "queue_in_flight", Help: "Upstream calls that run.", Value: float64(inFlight)})
	emit(core.Measure{Name: "queue_max_concurrent", Help: "Upstream calls that may run at once.", Value: float64(most)})
	s.line.Measure(emit)
}
