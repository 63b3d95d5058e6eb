package line

import (
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A reason is why a request got no turn. That it was superseded is counted
// apart: it is no fault.
type reason int

const (
	full reason = iota
	displaced
	hopeless
	paused
	expired
	left
	busyNow
	reasons
)

var reasonNames = [reasons]string{"full", "displaced", "hopeless", "paused", "expired", "left", "no_free_turn"}

type counters struct {
	starts     [core.Lanes]int64
	refused    [reasons]int64
	superseded int64
	waited     time.Duration
}

// Measure reports how many wait, and what became of those that came.
func (l *Line) Measure(emit func(core.Measure)) {
	l.mu.Lock()
	count := l.count
	var waiting [core.Lanes]int
	for i := range l.lanes {
		waiting[i] = l.lanes[i].waiting
	}
	l.mu.Unlock()

	for i := range core.Lanes {
		emit(core.Measure{Name: "line_waiting", Help: "Requests that wait for a turn.", Value: float64(waiting[i]), Labels: []string{"lane", i.String()}})
	}
	for i := range core.Lanes {
		emit(core.Measure{Name: "line_starts_total", Help: "Turns given.", Counter: true, Value: float64(count.starts[i]), Labels: []string{"lane", i.String()}})
	}
	emit(core.Measure{Name: "line_superseded_total", Help: "Requests whose place a newer revision took.", Counter: true, Value: float64(count.superseded)})
	for i, n := range count.refused {
		emit(core.Measure{Name: "line_refused_total", Help: "Requests that got no turn, by reason.", Counter: true, Value: float64(n), Labels: []string{"reason", reasonNames[i]}})
	}
	emit(core.Measure{Name: "line_waited_seconds_total", Help: "Time that requests waited for a turn.", Counter: true, Value: count.waited.Seconds()})
}
