package line

import (
	"math"
	"time"
)

const (
	// memory is how fast the past fades: what was seen memory ago weighs 1/e.
	memory = 10 * time.Second
	// evidence is the weight of what was seen that an estimate needs. Below it
	// nothing is known, so after a quiet time nobody is refused.
	evidence = 8
	// clearly is how many times the time left an estimate must be before a
	// request is refused for it.
	clearly = 1.5
	// excuse lets one in so many of the requests that would be refused for an
	// estimate through, so that the estimate can be proven wrong.
	excuse = 10
)

// A mean is an average whose past fades.
type mean struct {
	sum, weight float64 // nanoseconds, and how many they are of
	at          time.Time
}

func (m *mean) add(d time.Duration, now time.Time) {
	fade := math.Exp(-float64(now.Sub(m.at)) / float64(memory))
	m.sum = m.sum*fade + float64(d)
	m.weight = m.weight*fade + 1
	m.at = now
}

// value returns the average, or 0 when too little is known.
func (m *mean) value(now time.Time) time.Duration {
	if m.weight < evidence || m.weight*math.Exp(-float64(now.Sub(m.at))/float64(memory)) < evidence {
		return 0
	}
	return time.Duration(m.sum / m.weight)
}
