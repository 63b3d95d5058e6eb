package live

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// A track is one segment in one language.
type track struct {
	target  *target
	segment *segment
	slot    slot

	drafts []draft // by sentence: what was answered last
	frozen int     // so many of them are concluded
	flight *flight // of a partial
	asked  time.Time
	due    time.Time // when to look again; zero for when something happens

	last    *last // once the final source has come
	ready   *Target
	readyAt time.Time
	overdue bool // a later one went before it
	done    bool

	measure meter
}

// A draft is the latest translation of one sentence.
type draft struct {
	source string
	target string
	blank  string
	whole  bool // of the whole sentence, which has its full stop
}

// concerns says whether d is of a sentence that text has become: they have a word in the
// same place, or one of them is empty.
func (d draft) concerns(text string) bool {
	same, was, is := alike(d.source, text)
	return same > 0 || was == 0 || is == 0
}

// A flight is a call under way.
type flight struct {
	id       int64
	track    *track // nil once nobody wants its answer
	unit     int
	text     string
	final    bool
	at       time.Time
	chars    int
	relieves bool
	// joined says that a final waits for the same answer.
	joined bool
}

// last is a final on its way.
type last struct {
	units []unit
	out   []string
	left  int
	flags []string
	err   *core.Error
}

// admissible returns how much of g is stable, and how much may be translated, in bytes.
func (s *Session) admissible(g *segment, now time.Time) (stable, end int) {
	switch {
	case g.hurried || now.Sub(g.changed) >= s.config.Silence:
		g.quiet = true
		return len(g.text), len(g.text)
	case g.declared >= 0:
		stable = g.declared
	case len(g.before) >= s.config.Agreement-1:
		stable = len(g.text)
		for _, b := range g.before {
			stable = min(stable, agreed(b, g.text))
		}
	}
	return stable, ahead(g.text, stable, s.config.TailWords)
}

// advance asks for what is worth a call now, and shows what is known.
func (s *Session) advance(g *segment, now time.Time) {
	if g.final || len(g.tracks) == 0 {
		return
	}
	stable, end := s.admissible(g, now)
	units := unitsOf(g.text)
	g.settle(units, now)
	for _, k := range g.tracks {
		s.freeze(k, units, stable, now)
		s.ask(k, units, stable, end, now)
		s.out.show(&k.slot)
	}
}

// freeze concludes the sentences that are over, stable, translated as they stand, and
// far enough behind that a recogniser does not come back to them.
func (s *Session) freeze(k *track, units []unit, stable int, now time.Time) {
	for i := k.frozen; i < len(units) && i < len(k.drafts); i++ {
		u, d := units[i], k.drafts[i]
		if !u.ended || d.source != u.text || u.end > stable || measure(k.segment.text[u.end:stable]) < 4*settled || now.Sub(k.segment.stood(i)) < s.config.Settle {
			return
		}
		k.frozen++
		k.slot.concluded += d.blank + d.target
		s.out.conclude(&k.slot)
	}
}

// A standing is since when a sentence has stood as it is.
type standing struct {
	text  string
	since time.Time
}

// settle notes which sentences have changed.
func (g *segment) settle(units []unit, now time.Time) {
	g.standings = g.standings[:min(len(g.standings), len(units))]
	for i, u := range units {
		switch {
		case i == len(g.standings):
			g.standings = append(g.standings, standing{u.text, now})
		case g.standings[i].text != u.text:
			g.standings[i] = standing{u.text, now}
		}
	}
}

func (g *segment) stood(i int) time.Time { return g.standings[i].since }

// settled is how many stable words stand behind a sentence that is concluded:
// recognisers rewrite the last three.
const settled = 4

// ask makes the next call for k, if one is worth it. There is one at a time; what has
// come meanwhile is looked at when it has been answered.
func (s *Session) ask(k *track, units []unit, stable, end int, now time.Time) {
	g := k.segment
	if f := k.flight; f != nil {
		if f.unit < len(units) && strings.HasPrefix(folded(units[f.unit].text), folded(f.text)) {
			return
		}
		s.giveUp(k) // the source has changed inside the text that is being translated
	}
	k.due = time.Time{}
	if s.level >= 2 && !g.hurried {
		return
	}
	for i := k.frozen; i < len(units) && units[i].begin < end; i++ {
		u := units[i]
		text, whole := u.text, u.ended && u.end <= stable && measure(g.text[u.end:stable]) >= 4*settled
		if u.end > end {
			text = strings.TrimSpace(g.text[u.begin:end])
		}
		had := draft{}
		if i < len(k.drafts) && k.drafts[i].concerns(text) {
			had = k.drafts[i]
		}
		if had.source == text {
			if whole && !had.whole {
				k.drafts[i].whole = true
			}
			continue
		}
		if had.source != "" && folded(had.source) == folded(text) && !whole {
			continue // in case, blanks or punctuation alone: not sent again
		}
		if text == "" {
			continue
		}
		if same, _, free := s.free(k, text); free {
			s.note(k, i, draft{text, same, joint(k.target.language, i, u.blank), whole})
			continue
		}
		if open, at := s.worth(k, had, text, whole, now); !open {
			k.due = at
			return
		}
		k.asked = now
		k.flight = s.call(k, i, text, whole, core.LanePartial, now)
		return
	}
}

// worth says whether text, of a sentence of which had was translated, is worth a call
// now, and else when to look again.
func (s *Session) worth(k *track, had draft, text string, whole bool, now time.Time) (open bool, at time.Time) {
	if whole || k.segment.quiet {
		return true, at
	}
	return s.config.worth(s.level, text, had.source, k.segment.began, k.asked, now)
}

// worth says whether text is worth a call now, when had is what was translated of it, and
// else when to look again. It began at the one time, and was asked for last at the other.
func (c Config) worth(level int, text, had string, began, asked, now time.Time) (open bool, at time.Time) {
	words, before := measure(text), measure(had)
	first, more, growth := 4*c.FirstWords, 4*c.Words, c.Growth
	if level > 0 {
		first, more, growth = 2*first, 2*more, 2*growth
	}
	if before == 0 {
		if asked.After(began) {
			began = asked
		}
		if words >= first {
			return true, at
		}
		if wait := began.Add(c.Interval); now.Before(wait) {
			return false, wait
		}
		return level == 0, at
	}
	need := min(growth*float64(before), float64(stale*more)) // a long sentence is not left alone for long
	return words-before >= more && float64(words-before) >= need, at
}

// stale is how many times words a sentence may grow at most before it is translated again.
const stale = 2

// note keeps the latest translation of a sentence.
func (s *Session) note(k *track, i int, d draft) {
	for len(k.drafts) <= i {
		k.drafts = append(k.drafts, draft{})
	}
	k.drafts[i] = d
}

// call asks for a translation.
func (s *Session) call(k *track, i int, text string, final bool, lane core.Lane, now time.Time) *flight {
	s.lastID++
	f := &flight{id: s.lastID, track: k, unit: i, text: text, final: lane == core.LaneFinal, at: now, chars: utf8.RuneCountInString(text)}
	s.flights[f.id] = f
	c := Call{
		ID: f.id, Segment: k.segment.id, Revision: k.segment.revision, Text: text, Source: s.language(k.segment), Target: k.target.language,
		Context: s.context(k), Final: final, Lane: lane,
	}
	if f.final {
		c.By = k.segment.finalAt.Add(s.options.Deadline)
		if f.relieves = s.level >= 3; f.relieves {
			c.Relieve, c.By = true, earlier(c.By, now.Add(2*s.config.QueueBudget))
		}
	}
	s.calls = append(s.calls, c)
	return f
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// context is what goes along: what was concluded last in that language.
func (s *Session) context(k *track) []core.Pair { return boundedPairs(s.config, k.target.pairs) }

// giveUp ends the partial call of k.
func (s *Session) giveUp(k *track) {
	if k.flight == nil {
		return
	}
	s.cancels = append(s.cancels, k.flight.id)
	k.flight.track = nil
	k.flight = nil
}

// Answer takes what became of a call.
func (s *Session) Answer(now time.Time, id int64, a Answer) {
	f := s.flights[id]
	if f == nil {
		return
	}
	delete(s.flights, id)
	s.stats.answered(f, a)
	if !f.relieves || a.Err == nil { // that there is no fallback says nothing of the queue
		s.hear(now, a)
	}
	k := f.track
	switch {
	case f.joined:
	case k == nil:
		s.stats.Wasted += int64(a.Attempts)
	case f.final:
		s.finalAnswer(k, f, a, now)
	case k.flight == f:
		k.flight = nil
		s.partialAnswer(k, f, a, now)
	}
	s.release(now)
}

func (s *Session) partialAnswer(k *track, f *flight, a Answer, now time.Time) {
	g := k.segment
	if a.Err != nil {
		s.stats.PartialErrors++
		k.due = now.Add(max(s.config.Interval, 500*time.Millisecond))
		s.out.show(&k.slot)
		return
	}
	units := unitsOf(g.text)
	blank, whole := "", false
	if f.unit < len(units) {
		blank = units[f.unit].blank
		whole = units[f.unit].ended && units[f.unit].text == f.text
	}
	k.measure.answered(now, a.Attempts)
	s.note(k, f.unit, draft{f.text, a.Text, joint(k.target.language, f.unit, blank), whole})
	s.advance(g, now)
}

// draft is what k shows now, without what is concluded.
func (s *Session) draft(k *track) *Target {
	g := k.segment
	if g.final {
		return nil
	}
	return &Target{
		Head: Head{Type: "target"}, Target: k.target.language, Segment: g.id, Revision: g.revision,
		Tentative: k.tentative(s.config.Mask), Labels: g.labels,
	}
}

// tentative is the translation of what is not concluded, without its last words.
func (k *track) tentative(mask int) string {
	g := k.segment
	if strings.TrimSpace(g.text) == "" {
		return ""
	}
	var b strings.Builder
	last := min(len(k.drafts), len(g.standings)) - 1 // a sentence that was taken back is not shown
	for i := k.frozen; i <= last; i++ {
		d := k.drafts[i]
		if !d.concerns(g.standings[i].text) {
			break
		}
		text := d.target
		if i == last && !d.whole {
			text = held(k.target.language, text, mask)
		}
		if text != "" {
			b.WriteString(d.blank)
			b.WriteString(text)
		}
	}
	return b.String()
}

// FlagSource is on a final some of which is as it was said, since nothing is translated in
// time.
const FlagSource = "source"

// finish asks for what the final of k still needs.
func (s *Session) finish(k *track, now time.Time) {
	g := k.segment
	k.due = time.Time{}
	l := &last{units: unitsOf(g.text)}
	l.out = make([]string, len(l.units))
	k.last = l
	var missing []int
	for i, u := range l.units {
		if same, flags, free := s.free(k, u.text); free {
			l.out[i] = same
			l.flag(flags)
			continue
		}
		if known, ok := k.known(u.text); ok {
			l.out[i] = known
			continue
		}
		missing = append(missing, i)
	}
	if f := k.flight; f != nil && !containsText(l.units, missing, f.text) {
		s.giveUp(k)
	}
	for _, i := range missing {
		s.call(k, i, l.units[i].text, true, core.LaneFinal, now)
	}
	if f := k.flight; f != nil {
		// The final joins its call, which is let go on.
		f.joined, f.track, k.flight = true, nil, nil
	}
	if l.left = len(missing); l.left == 0 {
		s.assemble(k, now)
	}
}

func containsText(units []unit, missing []int, text string) bool {
	for _, i := range missing {
		if units[i].text == text {
			return true
		}
	}
	return false
}

// known is the translation of a sentence that was translated as it stands.
func (k *track) known(text string) (string, bool) {
	for _, d := range k.drafts {
		if d.source == text {
			return d.target, true
		}
	}
	return "", false
}

func (l *last) flag(flags []string) {
	for _, f := range flags {
		found := false
		for _, have := range l.flags {
			found = found || have == f
		}
		if !found {
			l.flags = append(l.flags, f)
		}
	}
}

func (s *Session) finalAnswer(k *track, f *flight, a Answer, now time.Time) {
	l := k.last
	l.left--
	if a.Err != nil && f.relieves {
		// Asked of the provider in use it would be an error as well, and late.
		l.out[f.unit] = f.text
		l.flag([]string{FlagSource})
	} else if a.Err != nil {
		l.err = a.Err
	} else {
		l.out[f.unit] = a.Text
		l.flag(a.Flags)
	}
	if l.left == 0 {
		s.assemble(k, now)
	}
}

// assemble makes the final frame of k, which waits for its turn.
func (s *Session) assemble(k *track, now time.Time) {
	g, l := k.segment, k.last
	f := &Target{
		Head: Head{Type: "target"}, Target: k.target.language, Segment: g.id, Revision: g.revision, Final: true, Labels: g.labels,
		Last: &Last{Flags: l.flags, FromFinalize: g.forced},
	}
	if f.Flags == nil {
		f.Flags = []string{}
	}
	k.ready, k.readyAt = f, now
	if l.err != nil {
		f.Last.Error = &Problem{l.err.Kind, l.err.Detail}
		f.Corrected = utf8.RuneCountInString(k.slot.concluded)
		return
	}
	var text, tail strings.Builder
	for i, u := range l.units {
		piece := joint(k.target.language, i, u.blank) + l.out[i]
		text.WriteString(piece)
		if i >= k.frozen {
			tail.WriteString(piece)
		}
	}
	f.Text = text.String()
	before := k.slot.concluded
	if strings.HasPrefix(f.Text, before) {
		k.slot.concluded = f.Text
		return
	}
	k.slot.concluded += tail.String()
	same := 0
	for same < len(before) && same < len(f.Text) && before[same] == f.Text[same] {
		same++
	}
	f.Corrected = max(1, utf8.RuneCountInString(before)-utf8.RuneCountInString(before[:same]))
}
