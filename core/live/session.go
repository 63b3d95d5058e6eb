package live

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/detect"
)

// Options say what a session is for. They are a client's, and were checked.
type Options struct {
	Source      core.Language // empty when the client did not say
	Targets     []core.Language
	Context     []core.Pair // oldest first
	Corrections bool
	Acks        bool
	Incremental bool // final words come once
	// Deadline is how long a final may take.
	Deadline time.Duration
}

// A Source is one revision of a segment, as a client sent it.
type Source struct {
	Segment     string
	Revision    int64
	HasRevision bool
	Text        string
	// Words are what a recogniser has in place of a text; nil for none.
	Words  []Word
	Final  bool
	Stable int // code points of Text that are stable; -1 when the client did not say
	Labels
}

// A Word is one that a recogniser has heard, with its blanks.
type Word struct {
	Text  string
	Final bool
}

// A Call is a translation that a session asks for.
type Call struct {
	ID       int64
	Segment  string
	Revision int64
	Text     string
	Source   core.Language
	Target   core.Language
	Context  []core.Pair
	// Final says that the text will not change. It is that of a final, or of a sentence
	// that is over.
	Final bool
	Lane  core.Lane
	// Relieve says that only the cache and fallbacks are asked; see core.Request.
	Relieve bool
	// By is until when an answer is of use; zero for a partial.
	By time.Time
}

// An Answer is what became of a call.
type Answer struct {
	Text  string
	Flags []string
	Err   *core.Error
	// Waited is how long it waited for its turn. Attempts is how many upstream calls
	// were made for it alone, and Tokens what they cost.
	Waited   time.Duration
	Attempts int
	Cached   bool
	Usage    core.Usage
}

// A Session is one live speaker, or conversation. It is not safe for concurrent use, and
// each method is told what the time is.
type Session struct {
	config  Config
	options Options
	out     Outbox

	targets  []*target
	segments map[string]*segment // open, and those whose finals are not all out
	order    []*segment          // the same, in the order in which they began
	closed   map[string]closed
	closings []string // keys of closed, oldest first
	speaker  string

	calls   []Call
	cancels []int64
	flights map[int64]*flight
	lastID  int64

	delay    time.Duration // of the queue, smoothed
	delayed  time.Time     // when it was last heard of
	level    int           // of backpressure
	levelled time.Time
	ending   bool
	ended    bool
	stats    Stats
	fillers  map[string]bool
}

// A target is one language that a session is translated into.
type target struct {
	language core.Language
	gone     bool        // it is not wanted any more
	pairs    []core.Pair // concluded last, oldest first
}

// A segment is one utterance.
type segment struct {
	id        string
	revision  int64
	text      string
	before    []string   // revisions before, latest last: one less than must agree
	declared  int        // bytes that the client calls stable; -1 when it does not say
	standings []standing // of its sentences
	heard     string     // of a client that sends words once: those that are final
	labels    Labels
	began     time.Time
	changed   time.Time // when the text last did
	quiet     bool      // all of it was asked for since
	hurried   bool      // another speaker has begun
	final     bool
	finalAt   time.Time
	forced    bool // by finalize
	tracks    []*track
}

// closed is what is remembered of a segment that is over. Of its text a hash: all texts of
// ten minutes would be most of what a session holds.
type closed struct {
	at       time.Time
	revision int64
	text     uint64
}

// New returns a session that begins now.
func New(c Config, o Options, now time.Time) *Session {
	s := &Session{
		config: c, options: o,
		segments: map[string]*segment{}, closed: map[string]closed{}, flights: map[int64]*flight{}, fillers: map[string]bool{},
	}
	s.out.window = c.ResumeWindow + time.Minute
	s.stats.began = now
	for _, f := range c.Fillers {
		s.fillers[folded(f)] = true
	}
	s.Retarget(now, o.Targets)
	return s
}

// Out is what the client is to be sent.
func (s *Session) Out() *Outbox { return &s.out }

// Configure goes on with another configuration.
func (s *Session) Configure(c Config, deadline time.Duration) {
	s.config, s.options.Deadline = c, deadline
	s.out.window = c.ResumeWindow + time.Minute
}

// Work returns the calls to make and those to give up. Each call gets one Answer, also one
// that was given up.
func (s *Session) Work() (calls []Call, cancels []int64) {
	calls, cancels = s.calls, s.cancels
	s.calls, s.cancels = nil, nil
	return calls, cancels
}

// Targets are the languages that are wanted now.
func (s *Session) Targets() (all []core.Language) {
	for _, t := range s.targets {
		if !t.gone {
			all = append(all, t.language)
		}
	}
	return all
}

// Retarget changes the languages that are wanted. Finals whose source has come are still
// given in those that are not.
func (s *Session) Retarget(now time.Time, to []core.Language) {
	for _, t := range s.targets {
		t.gone = !slices.Contains(to, t.language)
	}
	for _, l := range to {
		if !slices.ContainsFunc(s.targets, func(t *target) bool { return t.language == l }) {
			s.targets = append(s.targets, &target{language: l, pairs: boundedPairs(s.config, s.options.Context)})
		}
	}
	for _, g := range s.order {
		if g.final {
			continue
		}
		g.tracks = slices.DeleteFunc(g.tracks, func(t *track) bool {
			if t.target.gone {
				s.giveUp(t)
				t.slot.over = true
			}
			return t.target.gone
		})
		s.track(g)
		s.advance(g, now)
	}
	s.out.Change()
	s.targets = slices.DeleteFunc(s.targets, func(t *target) bool {
		return t.gone && !slices.ContainsFunc(s.order, func(g *segment) bool {
			return slices.ContainsFunc(g.tracks, func(k *track) bool { return k.target == t })
		})
	})
	s.release(now)
}

func (s *Session) track(g *segment) {
	for _, t := range s.targets {
		if !t.gone && !slices.ContainsFunc(g.tracks, func(k *track) bool { return k.target == t }) {
			k := &track{target: t, segment: g}
			k.slot.frame = func() *Target { return s.draft(k) }
			k.slot.saw = func(now time.Time, text string) { k.measure.saw(t.language, now, text, false) }
			g.tracks = append(g.tracks, k)
		}
	}
}

func wrong(field, detail string, args ...any) *core.Error {
	return &core.Error{Kind: core.InvalidRequest, Stage: "live", Field: field, Detail: fmt.Sprintf(detail, args...)}
}

// Take takes one revision. The error is the client's.
func (s *Session) Take(now time.Time, in Source) *core.Error {
	if s.ending {
		return wrong("type", "source comes after end")
	}
	s.forget(now)
	g := s.segments[in.Segment]
	if over, is := s.closed[in.Segment]; is && g == nil {
		return s.again(in, over.revision, over.text == hash(in.Text))
	}
	if g != nil && g.final {
		return s.again(in, g.revision, g.text == in.Text)
	}
	if g == nil {
		if err := s.room(); err != nil {
			return err
		}
	}
	revision := in.Revision
	if g != nil {
		switch {
		case !in.HasRevision:
			revision = max(g.revision, g.revision+1) // there is none behind the greatest
		case revision < g.revision:
			return wrong("revision", "revision goes back from %d to %d", g.revision, revision)
		case revision == g.revision && !in.Final:
			s.acknowledge(in.Segment, revision)
			return nil
		}
	}
	if g == nil {
		g = &segment{id: in.Segment, began: now, changed: now, declared: -1}
		s.segments[in.Segment] = g
		s.order = append(s.order, g)
		s.track(g)
		s.stats.Segments++
	}
	s.revise(g, in, revision, now)
	s.acknowledge(in.Segment, revision)
	s.release(now)
	return nil
}

// room says why there is none for another segment, if so.
func (s *Session) room() *core.Error {
	open := 0
	for _, g := range s.order {
		if !g.final {
			open++
		}
	}
	detail := ""
	switch most := s.config.MaxSegments; {
	case open >= most:
		detail = "%d segments are open; at most %d are taken (live.max_segments): send final or finalize first"
	case len(s.order)-open >= most:
		open, detail = len(s.order)-open, "%d finals are on their way; at most %d are taken (live.max_segments): wait for some"
	default:
		return nil
	}
	return &core.Error{Kind: core.TooLarge, Stage: "live", Field: "segment", Detail: fmt.Sprintf(detail, open, s.config.MaxSegments)}
}

// again answers a revision of a segment that had its final.
func (s *Session) again(in Source, revision int64, same bool) *core.Error {
	if in.Words != nil {
		same = true // what words would have made of it is not known any more
	}
	if !in.Final || !same {
		return wrong("segment", "the segment has had its final; begin another one")
	}
	s.acknowledge(in.Segment, revision)
	return nil
}

func (s *Session) acknowledge(segment string, revision int64) {
	if s.options.Acks {
		s.out.say(&Ack{Head: Head{Type: "ack"}, Segment: segment, Revision: revision}, false, nil, 0)
	}
}

// revise gives g its next revision.
func (s *Session) revise(g *segment, in Source, revision int64, now time.Time) {
	text, declared := in.Text, -1
	if in.Words != nil {
		text, declared = s.spoken(g, in.Words)
	} else if in.Stable >= 0 {
		declared = len(text)
		for i := range text {
			if in.Stable == 0 {
				declared = i
				break
			}
			in.Stable--
		}
	}
	if text != g.text {
		g.changed, g.quiet = now, false
	}
	if need := s.config.Agreement - 1; g.revision != 0 || g.text != "" {
		g.before = append(g.before, g.text)
		g.before = slices.Delete(g.before, 0, max(0, len(g.before)-need))
	}
	g.text, g.revision, g.declared = text, revision, declared
	s.stats.Revisions++
	if in.Speaker != "" {
		g.labels.Speaker = in.Speaker
	}
	if in.StartMS != nil {
		g.labels.StartMS = in.StartMS
	}
	if in.EndMS != nil {
		g.labels.EndMS = in.EndMS
	}
	if in.Language != "" {
		g.labels.Language = in.Language
	}
	for _, k := range g.tracks {
		k.measure.heard(now, text)
	}
	if in.Speaker != "" && in.Speaker != s.speaker {
		s.speaker = in.Speaker
		for _, o := range s.order {
			if o != g && !o.final && o.labels.Speaker != in.Speaker {
				o.hurried = true
				s.advance(o, now)
			}
		}
	}
	if in.Final {
		s.conclude(g, now)
		return
	}
	s.advance(g, now)
}

// spoken puts words together. Marks of a recogniser, such as <end>, are no words.
func (s *Session) spoken(g *segment, list []Word) (text string, stable int) {
	var final, rest strings.Builder
	if s.options.Incremental {
		final.WriteString(g.heard)
	}
	for _, w := range list {
		switch {
		case strings.HasPrefix(w.Text, "<") && strings.HasSuffix(w.Text, ">") && !strings.ContainsRune(w.Text, ' '):
		case w.Final && rest.Len() == 0:
			final.WriteString(w.Text)
		default:
			rest.WriteString(w.Text)
		}
	}
	if s.options.Incremental {
		g.heard = final.String()
	}
	whole := final.String() + rest.String()
	text = strings.TrimLeft(whole, " ")
	return text, max(0, final.Len()-(len(whole)-len(text)))
}

// conclude makes a final of what g holds.
func (s *Session) conclude(g *segment, now time.Time) {
	g.final, g.finalAt = true, now
	s.out.Change() // whoever goes on with the session translates it without being told again
	for _, k := range g.tracks {
		s.finish(k, now)
	}
	if len(g.tracks) == 0 {
		s.close(g, now)
	}
}

// Finalize makes finals of all that is open.
func (s *Session) Finalize(now time.Time) {
	for _, g := range slices.Clone(s.order) {
		if !g.final {
			g.forced = true
			s.conclude(g, now)
		}
	}
	s.release(now)
}

// End finalises what is open, and ends the session once every final is out.
func (s *Session) End(now time.Time) {
	if s.ending {
		return
	}
	s.ending = true
	s.Finalize(now)
	s.release(now)
}

// Ended says whether nothing more will come of s but what Out holds.
func (s *Session) Ended() bool { return s.ended }

// Settled says whether every final whose source has come is out.
func (s *Session) Settled() bool {
	return !slices.ContainsFunc(s.order, func(g *segment) bool { return g.final })
}

// close forgets g, but for its id.
func (s *Session) close(g *segment, now time.Time) {
	delete(s.segments, g.id)
	s.order = slices.DeleteFunc(s.order, func(o *segment) bool { return o == g })
	if _, is := s.closed[g.id]; !is {
		s.closings = append(s.closings, g.id)
	}
	s.closed[g.id] = closed{now, g.revision, hash(g.text)}
}

// hash is the same in every process: another gateway may go on with the session.
func hash(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return h.Sum64()
}

func (s *Session) forget(now time.Time) {
	for len(s.closings) > 0 {
		id := s.closings[0]
		if now.Sub(s.closed[id].at) < forget && len(s.closings) <= maxClosed {
			break
		}
		delete(s.closed, id)
		s.closings = s.closings[1:]
	}
}

// Attach makes a connection the session's, whose client has received everything up to
// after; first, its Ready.
func (s *Session) Attach(after int64, ready *Ready) {
	var open []*slot
	for _, g := range s.order {
		for _, k := range g.tracks {
			if !k.slot.over {
				open = append(open, &k.slot)
			}
		}
	}
	s.out.Attach(after, open)
	s.out.waiting = slices.Insert(s.out.waiting, 0, parcel{frame: ready})
	if s.level > 0 {
		s.notice()
	}
}

// Say queues a frame that concerns this connection alone.
func (s *Session) Say(f Frame) { s.out.say(f, false, nil, 0) }

// Next is when Tick has something to do; zero for never.
func (s *Session) Next() (at time.Time) {
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for _, g := range s.order {
		for _, k := range g.tracks {
			if k.ready != nil && !k.done {
				sooner(k.readyAt.Add(s.config.ReorderWait))
			}
			sooner(k.due)
		}
		if !g.final && !g.quiet && g.text != "" {
			sooner(g.changed.Add(s.config.Silence))
		}
	}
	if s.level > 0 {
		sooner(s.delayed.Add(calm))
	}
	return at
}

// Tick does what is due.
func (s *Session) Tick(now time.Time) {
	if s.level > 0 && now.Sub(s.delayed) >= calm {
		s.delay, s.delayed = 0, now
		s.relevel(now)
	}
	for _, g := range s.order {
		if g.final {
			continue
		}
		due := !g.quiet && now.Sub(g.changed) >= s.config.Silence
		for _, k := range g.tracks {
			if !k.due.IsZero() && !now.Before(k.due) {
				k.due = time.Time{}
				due = true
			}
		}
		if due {
			s.advance(g, now)
		}
	}
	s.release(now)
}

// boundedPairs returns the latest of pairs that c lets go along.
func boundedPairs(c Config, pairs []core.Pair) []core.Pair {
	pairs = pairs[max(0, len(pairs)-c.Context):]
	size := 0
	for i := len(pairs) - 1; i >= 0; i-- {
		if size += utf8.RuneCountInString(pairs[i].Source) + utf8.RuneCountInString(pairs[i].Target); size > c.ContextSize {
			return slices.Clone(pairs[i+1:])
		}
	}
	return slices.Clone(pairs)
}

// free returns what text is without a call, if it needs none.
func (s *Session) free(k *track, text string) (same string, flags []string, ok bool) {
	source := s.language(k.segment)
	switch {
	case strings.TrimSpace(text) == "":
		return "", nil, true
	case source == k.target.language:
		return text, []string{core.FlagSameLanguage}, true
	case wordless(text) || len(s.fillers) > 0 && s.fillers[folded(text)]:
		return text, nil, true
	case source == "":
		if g := detect.Of(text); g.Sure() && core.Language(g.Language.Base()) == k.target.language {
			return text, []string{core.FlagSameLanguage}, true
		}
	}
	return "", nil, false
}

func (s *Session) language(g *segment) core.Language {
	if g.labels.Language != "" {
		return g.labels.Language
	}
	return s.options.Source
}
