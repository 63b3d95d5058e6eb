package chain

import (
	"fmt"
	"hash/maphash"
	"math"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// Bounds of a tap. Together they say what the most curious operator can cost:
// requests are never held up, and what is not read is dropped.
const (
	// MaxTaps is how many taps there may be at once.
	MaxTaps = 4
	// PerSecond is about how many passings a tap shows; of more, a share of the
	// requests is chosen.
	PerSecond = 200
	// MaxTapped is how much of a text a tap shows, in code points.
	MaxTapped = 1000
	// unread is how many passings wait for a reader.
	unread = 256
)

// A Filter says what a tap shows.
type Filter struct {
	Stage   string // a name of Chain.Places; empty for all
	Session string // empty for all
	Texts   bool   // also the texts themselves
}

// An Ending is how a request left a stage.
type Ending string

const (
	WentOn   Ending = "went_on"  // with an answer from further down
	Answered Ending = "answered" // with an answer of the stage's own
	Failed   Ending = "failed"
)

// A Passing is one request that left one stage.
type Passing struct {
	At      time.Time // when it left
	Request string
	Session string
	// Stage is a name of Chain.Places.
	Stage          string
	Source, Target core.Language
	Lane           core.Lane
	// Attempt is why the attempt was made that this was part of; empty above
	// the stage that makes attempts.
	Attempt string

	Ending Ending
	Kind   core.ErrorKind // of the failure
	From   string         // where the failure arose, when that was further down

	// Total is the time from entering the stage to leaving it, Self the part
	// of it that the stage took by itself.
	Total, Self time.Duration
	// In and Out are the lengths of the text and of its translation, in code
	// points; Out is 0 without a translation.
	In, Out int
	// TextIn and TextOut are their first MaxTapped code points, if the filter
	// asks for texts.
	TextIn, TextOut string
}

// A Tally counts what a tap was offered.
type Tally struct {
	Seen    int64 // passings that the filter lets through
	LeftOut int64 // of these, those of requests that were not chosen
	Dropped int64 // those that came while too many waited to be read
}

// A Tap shows what passes, from when it is opened until it is closed, whatever
// is reloaded meanwhile. It never holds a request up.
type Tap struct {
	watch  *Watch
	filter Filter
	out    chan Passing

	mu     sync.Mutex
	tally  Tally
	sample sampler
}

// Tap opens a tap. The caller closes it. There is an error when MaxTaps are
// open.
func (w *Watch) Tap(f Filter) (*Tap, error) {
	t := &Tap{watch: w, filter: f, out: make(chan Passing, unread), sample: newSampler()}
	w.mu.Lock()
	defer w.mu.Unlock()
	var open []*Tap
	if now := w.taps.Load(); now != nil {
		open = *now
	}
	if len(open) == MaxTaps {
		return nil, &core.Error{
			Kind: core.Overloaded, Stage: "tap", Retryable: true,
			Detail: fmt.Sprintf("%d taps are open, which is the most at once; end one of them first", MaxTaps),
		}
	}
	more := append(append(make([]*Tap, 0, len(open)+1), open...), t)
	w.taps.Store(&more)
	return t, nil
}

// Close ends the tap. What was not read is forgotten.
func (t *Tap) Close() {
	w := t.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.taps.Load()
	if now == nil {
		return
	}
	var rest []*Tap
	for _, other := range *now {
		if other != t {
			rest = append(rest, other)
		}
	}
	if rest == nil {
		w.taps.Store(nil)
		return
	}
	w.taps.Store(&rest)
}

// Passings is where passings are read. It is never closed.
func (t *Tap) Passings() <-chan Passing { return t.out }

// Tally returns the counts so far.
func (t *Tap) Tally() Tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tally
}

// tell shows taps the passing p of req, whose translation is res unless it
// failed. The lengths and the texts of p are not filled in: they cost more than
// the rest, and most passings are not shown when there are many.
func tell(taps []*Tap, p Passing, req *core.Request, res *core.Result) {
	counted := false
	for _, t := range taps {
		if !t.wants(&p) {
			continue
		}
		if !counted {
			counted = true
			p.In = utf8.RuneCountInString(req.Text)
			if res != nil {
				p.Out = utf8.RuneCountInString(res.Text)
			}
		}
		own := p
		if t.filter.Texts {
			own.TextIn = beginning(req.Text)
			if res != nil {
				own.TextOut = beginning(res.Text)
			}
		}
		select {
		case t.out <- own:
		default:
			t.mu.Lock()
			t.tally.Dropped++
			t.mu.Unlock()
		}
	}
}

// wants says whether t shows p, and counts it.
func (t *Tap) wants(p *Passing) bool {
	if (t.filter.Stage != "" && t.filter.Stage != p.Stage) || (t.filter.Session != "" && t.filter.Session != p.Session) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tally.Seen++
	if t.sample.chooses(p.Request, p.At) {
		return true
	}
	t.tally.LeftOut++
	return false
}

// beginning returns the first MaxTapped code points of text in memory of their
// own, so that a passing which waits holds no more than it shows.
func beginning(text string) string {
	n := 0
	for i := range text {
		if n == MaxTapped {
			return strings.Clone(text[:i])
		}
		n++
	}
	return text
}

// A sampler chooses whole requests, by their ids, so that what is chosen is seen
// in every stage that it passes. Each request has the same chance, which follows
// from how many passings came lately.
type sampler struct {
	seed  maphash.Seed
	share float64 // of all requests

	since   time.Time // when this window began
	offered int
	chosen  int
}

// Passings are counted for a second before the share follows, or for a quarter
// of one when there were so many that their count says enough. A request that is
// on its way at that moment may be seen in some of its stages only; hence small
// changes are not followed.
const (
	slowest = time.Second
	fastest = slowest / 4
	enough  = 4 * PerSecond
	lower   = 0.8
	higher  = 1.5
)

func newSampler() sampler { return sampler{seed: maphash.MakeSeed(), share: 1} }

func (s *sampler) chooses(id string, now time.Time) bool {
	if s.since.IsZero() {
		s.since = now
	}
	if d := now.Sub(s.since); d >= slowest || (d >= fastest && s.offered >= enough) {
		if want := PerSecond * d.Seconds() / float64(max(s.offered, 1)); want < s.share*lower || want > s.share*higher {
			s.share = min(1, want)
		}
		s.since, s.offered, s.chosen = now, 0, 0
	}
	s.offered++
	// Nothing keeps a client from giving all its requests the same id.
	if s.chosen == enough {
		return false
	}
	if s.share < 1 && float64(maphash.String(s.seed, id))/math.MaxUint64 >= s.share {
		return false
	}
	s.chosen++
	return true
}
