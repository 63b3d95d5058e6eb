// Package history keeps what a gateway has counted in the last hour: a point every few
// seconds, in memory that never grows. It reads counters that are kept anyway, so that a
// request costs nothing more.
package history

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// Every is the time between two points.
	Every = 5 * time.Second
	// Long is how far back they go.
	Long = time.Hour

	most = int(Long / Every)
)

// A Reading is what the counters and gauges are at a moment. Counters count from the start of
// the process.
type Reading struct {
	// Translated, Failed and Refused are texts: answered, failed for no fault of their client,
	// and turned down for what their client did. Stored are those of Translated for which no
	// call was made.
	Translated, Failed, Refused, Stored float64
	// Within counts for each of the bounds how many texts took as long at most, and in its
	// last place, which is one more, all of them.
	Within []uint64
	// InFlight are calls that are being served, Waiting requests that wait for their turn.
	InFlight, Waiting float64
}

// A Point is what was counted in some seconds.
type Point struct {
	// Until is when they ended, and Seconds how many they were.
	Until   time.Time
	Seconds float64
	// Translated and the rest are how many in these seconds.
	Translated, Failed, Refused, Stored float64
	// P50 and P99 are within which half, and 99 of 100, of the texts were answered, in
	// seconds, estimated within a class of the histogram. They are NaN when there was none.
	P50, P99 float64
	// InFlight and Waiting are the most that were seen.
	InFlight, Waiting float64
}

// A History keeps points. It is safe for concurrent use.
type History struct {
	read   func() Reading
	bounds []float64

	mu    sync.Mutex
	last  Reading
	at    time.Time
	kept  [most]kept
	next  int // where the next one goes
	count int
}

// kept is one point as it is kept: 200 bytes with 22 bounds.
type kept struct {
	until                               int64 // Unix milliseconds
	seconds                             float32
	translated, failed, refused, stored uint32
	inFlight, waiting                   uint32
	within                              []uint32 // like Reading.Within
}

// New returns a history of what read returns, with bounds, in seconds, rising. It is empty
// until Run has run for some seconds.
func New(bounds []float64, read func() Reading) *History {
	return &History{read: read, bounds: slices.Clone(bounds)}
}

// Run reads until ctx ends.
func (h *History) Run(ctx context.Context) {
	h.Note(time.Now())
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.Note(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// Note adds what was counted since it was called before. Run calls it.
func (h *History) Note(now time.Time) {
	r := h.read()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at.IsZero() {
		h.last, h.at = r, now
		return
	}
	k := &h.kept[h.next]
	if k.within == nil {
		k.within = make([]uint32, len(h.bounds)+1)
	}
	k.until, k.seconds = now.UnixMilli(), float32(now.Sub(h.at).Seconds())
	k.translated, k.failed = more(r.Translated, h.last.Translated), more(r.Failed, h.last.Failed)
	k.refused, k.stored = more(r.Refused, h.last.Refused), more(r.Stored, h.last.Stored)
	k.inFlight, k.waiting = more(r.InFlight, 0), more(r.Waiting, 0)
	for i := range k.within {
		k.within[i] = 0
		if i < len(r.Within) {
			was := 0.0
			if i < len(h.last.Within) {
				was = float64(h.last.Within[i])
			}
			k.within[i] = more(float64(r.Within[i]), was)
		}
	}
	h.last, h.at = r, now
	h.next = (h.next + 1) % most
	h.count = min(h.count+1, most)
}

// more is what a counter has gained. What is counted with a part of the gateway may go with
// it, and begin anew.
func more(now, was float64) uint32 {
	if now < was {
		was = 0
	}
	return uint32(min(math.Round(now-was), math.MaxUint32))
}

// Points returns what ended after a time, oldest first, each together of n readings, of which
// the last may have fewer. They begin where a multiple of n readings has passed on the clock, so that what
// was told once stays so.
func (h *History) Points(after time.Time, n int) []Point {
	h.mu.Lock()
	defer h.mu.Unlock()
	span := int64(n) * Every.Milliseconds()
	var all []Point
	var sum []uint32
	part := int64(-1)
	end := func() {
		if sum != nil {
			p := &all[len(all)-1]
			p.P50, p.P99 = Quantile(h.bounds, sum, 0.5), Quantile(h.bounds, sum, 0.99)
		}
	}
	for i := range h.count {
		k := &h.kept[(h.next-h.count+i+most)%most]
		if k.until <= after.UnixMilli() {
			continue
		}
		if in := (k.until - 1) / span; n == 1 || in != part {
			end()
			part, sum = in, make([]uint32, len(h.bounds)+1)
			all = append(all, Point{})
		}
		p := &all[len(all)-1]
		p.Until = time.UnixMilli(k.until)
		p.Seconds += float64(k.seconds)
		p.Translated += float64(k.translated)
		p.Failed += float64(k.failed)
		p.Refused += float64(k.refused)
		p.Stored += float64(k.stored)
		p.InFlight, p.Waiting = max(p.InFlight, float64(k.inFlight)), max(p.Waiting, float64(k.waiting))
		for j, v := range k.within {
			sum[j] += v
		}
	}
	end()
	return all
}

// Quantile is where the share q of a histogram lies, estimated within its class: within
// counts for each of the bounds, which rise, how many lie at it or below, and in a last place all. It
// is NaN for none, and at most the last bound.
func Quantile[N uint32 | uint64](bounds []float64, within []N, q float64) float64 {
	if len(within) != len(bounds)+1 || within[len(bounds)] == 0 {
		return math.NaN()
	}
	want := q * float64(within[len(bounds)])
	below, so := 0.0, 0.0
	for i, bound := range bounds {
		n := float64(within[i])
		if n >= want {
			if n > so {
				return below + (bound-below)*(want-so)/(n-so)
			}
			return bound
		}
		below, so = bound, n
	}
	return below
}
