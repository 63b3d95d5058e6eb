package live

import (
	"slices"
	"strings"
	"time"

	"github.com/clipperhouse/uax29/v2/words"

	"github.com/dragoman-mt/dragoman/core"
)

// Bounds of what is taken for speech. They are on the careful side: who is not recognised
// is served as ever.
const (
	// pace is how far apart two revisions of one segment are at least. What comes closer
	// together is a page or a list.
	pace = 80 * time.Millisecond
	// A text that may still grow waits for the next revision of it: a little longer than its
	// speaker took lately, and so long at least and at most.
	minPause, maxPause = 300 * time.Millisecond, time.Second
	// maxAlone is how long a text that has grown waits for the translation of a newer one.
	maxAlone = 2 * time.Second
	// lull is how long a segment that does not change is still open.
	lull = 5 * time.Second
	// lapse is how long a speaker who says nothing stays recognised.
	lapse = 30 * time.Second
	// grown is how often in a row a text must have grown for its client to be a speaker.
	grown = 2
	// burst is how many texts that continue nothing, within a second, are no speech.
	burst = 4
	// maxCaption is the longest text that is looked at, in bytes.
	maxCaption = 4096
	maxGuesses = 1024
	maxGuessed = 8 // segments of one speaker that are remembered
	maxKnown   = 8 // texts of one segment whose translation is
)

// A Speaker is whose texts may be the revisions of one segment.
type Speaker struct {
	Door, Client   string
	Source, Target core.Language
	Formality      core.Formality
	Glossary       string
}

// An Inference finds the sessions of clients that know nothing of sessions and ask for a
// growing text again and again. It says which of their texts are worth a call; the others
// are answered with the latest translation of the same segment, but never the last text
// of a segment, which gets its own. It is not safe for concurrent use, and each method is
// told what the time is.
type Inference struct {
	config   Config
	sessions map[Speaker]*inferred
	counts   Inferred
}

// Inferred are the totals of an Inference.
type Inferred struct {
	// Sessions are those that go on now.
	Sessions int64
	// Revisions are texts that were taken for one of a segment. Calls were asked for them,
	// and Spared is how many were answered without.
	Revisions, Calls, Spared int64
}

// inferred is a speaker's session.
type inferred struct {
	segments []*guessed // by when they changed last
	heard    time.Time
	grew     int
	sure     bool
	steps    []time.Duration // between its latest revisions
	stops    int             // how far a full stop is to be believed: below 0 not at all
	begun    []time.Time     // of the latest segments
}

// guessed is one segment of an inferred session.
type guessed struct {
	session  *inferred
	text     string
	began    time.Time
	at       time.Time // of the latest revision
	number   int64     // of that
	asked    string    // the latest text that a call was asked for
	askedAt  time.Time
	flying   int
	waiting  []*Revision
	answered int64 // the latest revision that has its translation
	known    []known
	changed  chan struct{}
}

type known struct {
	text   string
	number int64
	result *core.Result
}

// A Revision is one text of a client that waits for its answer.
type Revision struct {
	inference *Inference
	segment   *guessed
	number    int64
	text      string
	at        time.Time
	asking    bool
}

// A Step is what is to be done about a revision now.
type Step struct {
	// Give is the answer, when there is one.
	Give *core.Result
	// Ask says that a call is to be made. Partial says that the text may still change.
	Ask, Partial bool
	// Context goes along, when the client gave none.
	Context []core.Pair
	// Until is when to look again, if nothing has changed before.
	Until   time.Time
	Changed <-chan struct{}
}

// FlagDraft is on an answer to a text that has grown meanwhile: it is the translation of
// another revision of it.
const FlagDraft = "draft"

// NewInference returns one that has heard nobody.
func NewInference() *Inference { return &Inference{sessions: map[Speaker]*inferred{}} }

// Counts are the totals so far.
func (i *Inference) Counts(now time.Time) Inferred {
	all := i.counts
	for _, s := range i.sessions {
		if s.sure && now.Sub(s.heard) < lapse {
			all.Sessions++
		}
	}
	return all
}

// Take takes a text. It returns nil for one that is no speech, whatever else was said.
// Every revision is to be left.
func (i *Inference) Take(now time.Time, c Config, who Speaker, text string) *Revision {
	i.config = c
	if len(text) > maxCaption || wordless(text) {
		return nil
	}
	s := i.sessions[who]
	if s != nil && now.Sub(s.heard) > lapse && !s.waits() {
		s = nil
	}
	if s == nil {
		i.room(now)
		s = &inferred{}
		i.sessions[who] = s
	}
	s.heard = now
	g := s.continued(now, text)
	if g == nil {
		g = s.begin(now)
	}
	if text != g.text {
		g.number++
		g.text, g.at = text, now
		g.tell()
	}
	s.segments = append(slices.DeleteFunc(s.segments, func(o *guessed) bool { return o == g }), g)
	r := &Revision{inference: i, segment: g, number: g.number, text: text, at: now}
	g.waiting = append(g.waiting, r)
	if s.sure {
		i.counts.Revisions++
	}
	return r
}

// room forgets a speaker when there are too many.
func (i *Inference) room(now time.Time) {
	if len(i.sessions) < maxGuesses {
		return
	}
	var oldest Speaker
	var since time.Time
	for who, s := range i.sessions {
		if !s.waits() && now.Sub(s.heard) > lapse {
			delete(i.sessions, who)
		} else if since.IsZero() || s.heard.Before(since) {
			oldest, since = who, s.heard
		}
	}
	if len(i.sessions) >= maxGuesses {
		delete(i.sessions, oldest) // those of its revisions that wait go on by themselves
	}
}

func (s *inferred) waits() bool {
	return slices.ContainsFunc(s.segments, func(g *guessed) bool { return len(g.waiting) > 0 })
}

// continued returns the segment of which text is another revision; nil for none.
func (s *inferred) continued(now time.Time, text string) (best *guessed) {
	most := 0
	for _, g := range s.segments {
		since := now.Sub(g.at)
		if text == g.text && since <= lull {
			return g
		}
		if since < pace || since > lull {
			continue
		}
		if same, of, _ := alike(g.text, text); same > 0 && same >= most && 2*same >= of {
			best, most = g, same
		}
	}
	if best == nil {
		return nil
	}
	s.steps = append(s.steps[max(0, len(s.steps)-7):], now.Sub(best.at))
	same, was, is := alike(best.text, text)
	if same >= was-rewritten && is > was {
		if s.grew++; s.grew >= grown {
			s.sure = true
		}
		if ended(best.text) {
			s.stops = max(s.stops-1, -2)
		}
	}
	return best
}

// pause is how long a text of s waits for the next revision.
func (s *inferred) pause() time.Duration {
	if len(s.steps) < 4 {
		return maxPause
	}
	return min(max(slices.Max(s.steps)*4/3, minPause), maxPause)
}

// rewritten is how many words at the end of a text a recogniser takes back at a time.
const rewritten = 3

// begin begins another segment.
func (s *inferred) begin(now time.Time) *guessed {
	if n := len(s.segments); n > 0 && ended(s.segments[n-1].text) {
		s.stops = min(s.stops+1, 2)
	}
	s.begun = append(slices.DeleteFunc(s.begun, func(at time.Time) bool { return now.Sub(at) > time.Second }), now)
	if len(s.begun) > burst {
		s.sure, s.grew = false, 0
	}
	if len(s.segments) == maxGuessed {
		s.segments = slices.Delete(s.segments, 0, 1)
	}
	return &guessed{session: s, began: now, changed: make(chan struct{})}
}

// alike returns how many words two texts have in the same place, case and punctuation
// aside, and how many each has.
func alike(a, b string) (same, inA, inB int) {
	x, y := spokenWords(a), spokenWords(b)
	for i := range min(len(x), len(y)) {
		if x[i] == y[i] {
			same++
		}
	}
	return same, len(x), len(y)
}

func spokenWords(text string) (all []string) {
	for it := words.FromString(text); it.Next(); {
		if weight(it.Value()) > 0 {
			all = append(all, strings.ToLower(it.Value()))
		}
	}
	return all
}

// tell wakes whoever waits for g.
func (g *guessed) tell() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// newest is the latest revision that waits or has its translation.
func (g *guessed) newest() int64 {
	n := g.answered
	for _, r := range g.waiting {
		n = max(n, r.number)
	}
	return n
}

// Next says what to do about r. Final says that its client says it is.
func (r *Revision) Next(now time.Time, final bool) Step {
	g, c := r.segment, r.inference.config
	s := g.session
	if !s.sure {
		return r.ask(now, false)
	}
	for _, k := range g.known {
		if k.text == r.text && !k.result.NoStore {
			return r.give(k.result)
		}
	}
	if r.number < g.newest() && !final {
		if n := len(g.known); n > 0 {
			return r.give(g.known[n-1].result.WithFlag(FlagDraft))
		}
		// Where calls for what is newer fail, one after another, it asks for itself while it has
		// the time.
		step := Step{Changed: g.changed}
		if alone := r.at.Add(maxAlone); g.flying == 0 {
			if !now.Before(alone) {
				return r.ask(now, true)
			}
			step.Until = alone
		}
		return step
	}
	until := r.at.Add(s.pause())
	if final || ended(r.text) && s.stops >= 0 || !now.Before(until) {
		return r.ask(now, false)
	}
	if g.flying == 0 {
		open, at := c.worth(0, r.text, g.asked, g.began, g.askedAt, now)
		if open {
			return r.ask(now, true)
		}
		if !at.IsZero() && at.Before(until) {
			until = at
		}
	}
	return Step{Until: until, Changed: g.changed}
}

func (r *Revision) give(res *core.Result) Step {
	r.inference.counts.Spared++
	own := *res
	own.Cached, own.Usage, own.Limits = true, core.Usage{}, nil
	return Step{Give: &own}
}

func (r *Revision) ask(now time.Time, partial bool) Step {
	g := r.segment
	r.asking = true
	g.flying++
	g.asked, g.askedAt = r.text, now
	if g.session.sure {
		r.inference.counts.Calls++
	}
	return Step{Ask: true, Partial: partial, Context: r.context(now)}
}

// context is what was said last in the same session.
func (r *Revision) context(now time.Time) (pairs []core.Pair) {
	if !r.segment.session.sure {
		return nil
	}
	for _, g := range r.segment.session.segments {
		if g == r.segment || now.Sub(g.at) < maxPause || !g.began.Before(r.segment.began) {
			continue
		}
		for _, k := range g.known {
			if k.text == g.text {
				pairs = append(pairs, core.Pair{Source: k.text, Target: k.result.Text})
			}
		}
	}
	return boundedPairs(r.inference.config, pairs)
}

// Answered takes what came of the call for r; nil when it failed.
func (r *Revision) Answered(res *core.Result) {
	g := r.segment
	if res == nil {
		return
	}
	g.answered = max(g.answered, r.number)
	g.known = append(g.known, known{r.text, r.number, res})
	slices.SortStableFunc(g.known, func(a, b known) int { return int(a.number - b.number) })
	g.known = g.known[max(0, len(g.known)-maxKnown):]
}

// Leave ends r, whatever came of it.
func (r *Revision) Leave() {
	g := r.segment
	g.waiting = slices.DeleteFunc(g.waiting, func(o *Revision) bool { return o == r })
	if r.asking {
		g.flying--
	}
	g.tell()
}
