package line

import (
	"slices"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A track is one list of gates and what they said last. All who wait have the
// same gates, and there is one track, except after a reload that changed them.
type track struct {
	gates   []core.Guard
	waiting int

	closed bool      // a gate refused, and nothing has changed since
	by     int       // the place of the gate that refused last
	until  time.Time // when to ask it again; zero is after the next Give
	paces  bool      // it refused for the interval between two starts alone
	asked  *waiter   // who was refused; nil when it was one of another track
	swept  time.Time // everybody was failed whose deadline comes before

	// waited is how long each gate has kept this track waiting in all, and
	// paced how much of that was the interval. A waiter notes them when it
	// comes and subtracts when it goes, which costs nothing while it waits.
	waited  []time.Duration
	paced   time.Duration
	tallied time.Time
}

// tally adds the time since the last call to the gate that refused.
func (t *track) tally(now time.Time) {
	if d := now.Sub(t.tallied); len(t.gates) > 0 && d > 0 {
		t.waited[t.by] += d
		if t.paces {
			t.paced += d
		}
	}
	t.tallied = now
}

func (t *track) name() string { return nameOf(t.gates, t.by) }

// place returns where gate stands among t's gates, or -1.
func (t *track) place(gate core.Gate) int {
	for i := range t.gates {
		if t.gates[i].Gate == gate {
			return i
		}
	}
	return -1
}

func (l *Line) trackOf(gates []core.Guard) *track {
	for _, t := range l.tracks {
		if slices.Equal(t.gates, gates) {
			return t
		}
	}
	return nil
}

func (l *Line) trackFor(gates []core.Guard, now time.Time) *track {
	t := l.trackOf(gates)
	if t == nil {
		t = &track{gates: gates, waited: make([]time.Duration, len(gates)), tallied: now}
		l.tracks = append(l.tracks, t)
	}
	return t
}

// drop forgets t, for which nobody waits any more.
func (l *Line) drop(t *track) {
	l.tracks = slices.DeleteFunc(l.tracks, func(o *track) bool { return o == t })
}
