package live

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A ledger is what an Outbox knows of the record of its session that lies elsewhere, so
// that another gateway can go on with the session should this one be gone.
//
// Nothing that a client would miss, or have twice, leaves before the record holds it. The
// record says of each such frame as which one it is sent, and up to which number frames may
// be sent without another record: what comes as a later one is not in it. So whoever has the
// record, and hears from the client what it had last, knows whether that is all there is to
// know.
type ledger struct {
	on      bool
	changes int64 // of what a record holds
	asked   int64 // so many of them are in the record that was made last
	stored  int64 // so many lie elsewhere, or are let go without
	upto    int64 // the last frame that may be sent
	given   int64 // the greatest that any record allows
	lapses  int   // how often frames went without a record
}

// unbounded is for frames that go without a record.
const unbounded = math.MaxInt64

const (
	// allowance is how many frames may be sent beyond those that a record knows of, and
	// fewFrames is with how many left another record is wanted.
	allowance, fewFrames = 1000, 200
	// maxSeq is the greatest number of a frame, which clients in JavaScript still count.
	maxSeq = 1 << 53
)

// Keep begins to hold back what is not in a record yet.
func (o *Outbox) Keep() { o.store.on = true; o.Change() }

// Forgo ends that for good.
func (o *Outbox) Forgo() {
	o.LetGo()
	o.store.on = false
}

// Kept says whether records are made of the session.
func (o *Outbox) Kept() bool { return o.store.on }

// Change notes that something has come that has to be in the record before anything leaves.
func (o *Outbox) Change() {
	if o.store.on {
		o.store.changes++
	}
}

// Held says whether frames are held back until a record is stored.
func (o *Outbox) Held() bool {
	return o.store.on && (o.store.changes > o.store.stored || o.seq >= o.store.upto)
}

// Unsaved says whether there is something that the record which was made last does not know.
func (o *Outbox) Unsaved() bool {
	return o.store.on && (o.store.changes > o.store.asked || o.store.upto != unbounded && o.store.upto-o.seq < fewFrames)
}

// Proven says whether all that was sent is in the record.
func (o *Outbox) Proven() bool { return o.store.on && o.store.upto != unbounded }

// Saved notes that the record lies elsewhere.
func (o *Outbox) Saved(r *Record) {
	if o.store.lapses != r.lapses {
		return // it came too late, and what went without it has other numbers
	}
	o.store.stored = max(o.store.stored, r.changes)
	o.store.upto = max(r.Out.Upto, o.seq)
	if o.store.upto == o.seq {
		o.Change()
	}
}

// LetGo lets what is held back go without a record. It gets numbers that no record knows:
// whoever has received it cannot be told that all of it is there.
func (o *Outbox) LetGo() {
	if !o.Held() {
		return
	}
	o.seq = max(o.seq, o.store.given)
	o.store.lapses++
	o.store.changes++ // the next record has it
	o.store.stored, o.store.upto = o.store.changes, unbounded
}

// A Record is all that another gateway needs to go on with a session. It is of outside until
// Restore has looked at it.
type Record struct {
	Targets  []targetRecord  `json:"targets"`
	Segments []segmentRecord `json:"segments,omitempty"`
	Closed   []closedRecord  `json:"closed,omitempty"`
	Speaker  string          `json:"speaker,omitempty"`
	Ending   bool            `json:"ending,omitempty"`
	Ended    bool            `json:"ended,omitempty"`
	Out      outRecord       `json:"out"`

	changes int64
	lapses  int
}

type targetRecord struct {
	Language core.Language `json:"language"`
	Gone     bool          `json:"gone,omitempty"`
	Pairs    []core.Pair   `json:"pairs,omitempty"`
}

type segmentRecord struct {
	ID       string        `json:"id"`
	Revision int64         `json:"revision"`
	Text     string        `json:"text"`
	Labels   Labels        `json:"labels"`
	Final    bool          `json:"final,omitempty"`
	Forced   bool          `json:"forced,omitempty"`
	Tracks   []trackRecord `json:"tracks"`
}

type trackRecord struct {
	Target int           `json:"target"` // of Record.Targets
	Done   bool          `json:"done,omitempty"`
	Slot   slotRecord    `json:"slot"`
	Frozen []draftRecord `json:"frozen,omitempty"`
}

type draftRecord struct {
	Source string `json:"source"`
	Target string `json:"target"`
	Blank  string `json:"blank,omitempty"`
}

type slotRecord struct {
	Concluded string     `json:"concluded,omitempty"`
	Had       int        `json:"had,omitempty"`
	Sent      [][2]int64 `json:"sent,omitempty"` // frame, and bytes
}

type closedRecord struct {
	ID       string `json:"id"`
	AgeMS    int64  `json:"age_ms"`
	Revision int64  `json:"revision"`
	Hash     uint64 `json:"hash"`
}

type outRecord struct {
	Upto   int64          `json:"upto"` // the last frame that may have been sent
	Lost   int64          `json:"lost,omitempty"`
	Proven int64          `json:"proven,omitempty"`
	Begun  []int64        `json:"begun,omitempty"`
	Kept   []parcelRecord `json:"kept,omitempty"`
}

// A parcelRecord is one frame that may have to be sent again.
type parcelRecord struct {
	AgeMS      int64       `json:"age_ms"`
	Seqs       []int64     `json:"seqs,omitempty"`
	Size       int         `json:"size"`
	Target     *Target     `json:"target,omitempty"`
	Slot       *slotRecord `json:"slot,omitempty"` // of Target
	Correction *Correction `json:"correction,omitempty"`
	End        *End        `json:"end,omitempty"`
}

// remembered is how long a record has what was sent, beyond the time for which a client may
// stay away.
const remembered = 30 * time.Second

// Record returns what is to be known of s elsewhere, with texts of about so many bytes at
// most: what is older than that is left out, and who misses it cannot be told that all is there.
func (s *Session) Record(now time.Time, size int) *Record {
	o := &s.out
	r := &Record{Speaker: s.speaker, Ending: s.ending, Ended: s.ended, changes: o.store.changes, lapses: o.store.lapses}
	o.store.asked = o.store.changes
	left := size
	place := map[*target]int{}
	for i, t := range s.targets {
		place[t] = i
		r.Targets = append(r.Targets, targetRecord{t.language, t.gone, slices.Clone(t.pairs)})
		for _, p := range t.pairs {
			left -= len(p.Source) + len(p.Target)
		}
	}

	// As which frame each that waits will be sent.
	seq, coming := o.seq, map[*slot]mark{}
	kept := make([]parcelRecord, 0, len(o.kept)+len(o.waiting))
	for _, p := range o.kept {
		kept = append(kept, p.record(now.Sub(p.at), 0))
	}
	for _, p := range o.waiting {
		if p.frame == nil && (p.slot.over || p.slot.frame() == nil) {
			continue // its final comes instead
		}
		_, ack := p.frame.(*Ack)
		if o.attached && !ack {
			seq++
		}
		switch {
		case p.frame == nil:
			coming[p.slot] = mark{seq, len(p.slot.concluded)}
		case p.keep && o.attached:
			kept = append(kept, p.record(0, seq))
		case p.keep:
			kept = append(kept, p.record(0, 0))
		}
	}
	r.Out = outRecord{Upto: seq + allowance, Lost: o.lost, Proven: o.proven, Begun: slices.Clone(o.begun)}
	o.store.given = max(o.store.given, r.Out.Upto)

	for _, g := range s.order {
		one := segmentRecord{ID: g.id, Revision: g.revision, Text: g.text, Labels: g.labels, Final: g.final, Forced: g.forced}
		left -= len(g.text) + 200
		for _, k := range g.tracks {
			t := trackRecord{Target: place[k.target], Done: k.done}
			if !k.done {
				t.Slot = k.slot.record()
				if m, is := coming[&k.slot]; is {
					t.Slot.Sent = append(t.Slot.Sent, [2]int64{m.seq, int64(m.upto)})
				}
				for _, d := range k.drafts[:k.frozen] {
					t.Frozen = append(t.Frozen, draftRecord{d.source, d.target, d.blank})
					left -= len(d.source) + len(d.target)
				}
				left -= len(t.Slot.Concluded)
			}
			one.Tracks = append(one.Tracks, t)
		}
		r.Segments = append(r.Segments, one)
	}
	first := len(kept)
	for ; first > 0; first-- {
		p := kept[first-1]
		if left -= p.Size; left < 0 || time.Duration(p.AgeMS)*time.Millisecond > o.window-time.Minute+remembered {
			break
		}
	}
	for _, p := range kept[:first] {
		lost := o.seq + 1 // nobody has it
		if n := len(p.Seqs); n > 0 {
			lost = p.Seqs[n-1]
		}
		r.Out.Lost = max(r.Out.Lost, lost)
	}
	r.Out.Kept = kept[first:]
	for i := len(s.closings) - 1; i >= 0; i-- {
		id := s.closings[i]
		c := s.closed[id]
		if left -= len(id) + 60; left < 0 || now.Sub(c.at) > forget {
			break
		}
		r.Closed = append(r.Closed, closedRecord{id, now.Sub(c.at).Milliseconds(), c.revision, c.text})
	}
	slices.Reverse(r.Closed)
	return r
}

func (s *slot) record() slotRecord {
	r := slotRecord{Concluded: s.concluded, Had: s.had}
	for _, m := range s.sent {
		r.Sent = append(r.Sent, [2]int64{m.seq, int64(m.upto)})
	}
	return r
}

// record is what is known of p when it is to be sent as that frame; 0 for not.
func (p parcel) record(age time.Duration, seq int64) parcelRecord {
	r := parcelRecord{AgeMS: max(age, 0).Milliseconds(), Size: p.size, Seqs: slices.Clone(p.seqs)}
	if seq > 0 {
		r.Seqs = append(r.Seqs, seq)
	}
	switch f := again(p.frame).(type) {
	case *Target:
		slot := p.slot.record()
		if seq > 0 {
			slot.Sent = append(slot.Sent, [2]int64{seq, int64(len(p.slot.concluded))})
		}
		r.Target, r.Slot = f, &slot
		f.Concluded = ""
		if slot.Concluded == f.Text {
			slot.Concluded = "" // as it mostly is
		}
	case *Correction:
		r.Correction = f
	case *End:
		r.End = f
	}
	return r
}

// Restore returns the session that r is of, as it was when r was made; Resume lets it go on.
// Who made r is not trusted.
func Restore(c Config, o Options, r *Record, now time.Time) (*Session, error) {
	s := New(c, Options{}, now)
	s.options, s.targets = o, nil
	for _, t := range r.Targets {
		if t.Language == "" || slices.ContainsFunc(s.targets, func(o *target) bool { return o.language == t.Language }) {
			return nil, errors.New("its targets are not different languages")
		}
		s.targets = append(s.targets, &target{language: t.Language, gone: t.Gone, pairs: boundedPairs(c, t.Pairs)})
	}
	s.speaker, s.ending, s.ended = r.Speaker, r.Ending || r.Ended, r.Ended
	if err := s.out.restore(r.Out, now); err != nil {
		return nil, err
	}
	for _, one := range r.Segments {
		g := &segment{id: one.ID, revision: one.Revision, text: one.Text, labels: one.Labels, final: one.Final, forced: one.Forced, declared: -1, began: now, changed: now, finalAt: now}
		if one.ID == "" || s.segments[one.ID] != nil {
			return nil, errors.New("its segments have no names of their own")
		}
		for _, t := range one.Tracks {
			if t.Target < 0 || t.Target >= len(s.targets) || slices.ContainsFunc(g.tracks, func(k *track) bool { return k.target == s.targets[t.Target] }) {
				return nil, fmt.Errorf("segment %d is in no language, or twice in one", len(s.order)+1)
			}
			k := &track{target: s.targets[t.Target], segment: g, done: t.Done}
			k.slot.over = t.Done
			g.tracks = append(g.tracks, k)
			if t.Done {
				if !g.final {
					return nil, errors.New("a segment that is open has had its final")
				}
				k.shed()
				continue
			}
			if err := k.slot.restore(t.Slot, r.Out.Upto); err != nil {
				return nil, err
			}
			k.slot.frame = func() *Target { return s.draft(k) }
			k.slot.saw = func(now time.Time, text string) { k.measure.saw(k.target.language, now, text, false) }
			for _, d := range t.Frozen {
				k.drafts = append(k.drafts, draft{d.Source, d.Target, d.Blank, true})
			}
			k.frozen = len(k.drafts)
			k.measure.heard(now, g.text)
		}
		s.segments[g.id] = g
		s.order = append(s.order, g)
	}
	for _, one := range r.Closed {
		if _, twice := s.closed[one.ID]; twice || one.AgeMS < 0 || one.AgeMS > forget.Milliseconds() {
			return nil, errors.New("a segment was closed twice, or never")
		}
		s.closed[one.ID] = closed{now.Add(-time.Duration(one.AgeMS) * time.Millisecond), one.Revision, one.Hash}
		s.closings = append(s.closings, one.ID)
	}
	return s, nil
}

// Resume goes on where the record was made: what was to become final is translated.
func (s *Session) Resume(now time.Time) {
	for _, g := range slices.Clone(s.order) {
		if !g.final {
			s.advance(g, now)
			continue
		}
		for _, k := range g.tracks {
			if !k.done {
				s.finish(k, now)
			}
		}
		if !slices.ContainsFunc(g.tracks, func(k *track) bool { return !k.done }) {
			s.close(g, now)
		}
	}
	s.release(now)
}

func (o *Outbox) restore(r outRecord, now time.Time) error {
	rising := func(list []int64, most int64) bool {
		for i, n := range list {
			if n < 0 || n > most || i > 0 && n < list[i-1] {
				return false
			}
		}
		return len(list) <= maxBegun+1
	}
	if r.Upto < 0 || r.Upto > maxSeq || r.Lost < 0 || r.Lost > r.Upto || r.Proven < 0 || r.Proven > r.Upto || !rising(r.Begun, r.Upto+1) {
		return errors.New("the numbers of its frames cannot be")
	}
	o.seq, o.lost, o.proven, o.begun = r.Upto, r.Lost, r.Proven, r.Begun
	for _, p := range r.Kept {
		if p.AgeMS < 0 || p.AgeMS > int64(24*time.Hour/time.Millisecond) || p.Size < 0 || p.Size > 2*maxKept || !rising(p.Seqs, r.Upto) {
			return errors.New("a frame that it keeps cannot be")
		}
		one := parcel{size: p.Size, at: now.Add(-time.Duration(p.AgeMS) * time.Millisecond), seqs: p.Seqs, keep: true}
		switch {
		case p.Target != nil && p.Target.Last != nil && p.Slot != nil:
			slot := &slot{over: true}
			if p.Slot.Concluded == "" {
				p.Slot.Concluded = p.Target.Text
			}
			if err := slot.restore(*p.Slot, r.Upto); err != nil {
				return err
			}
			one.frame, one.slot = p.Target, slot
		case p.Correction != nil:
			one.frame = p.Correction
		case p.End != nil:
			one.frame = p.End
		default:
			return errors.New("a frame that it keeps is none")
		}
		if n := len(p.Seqs); n > 0 {
			one.frame.stamp(p.Seqs[n-1])
		}
		o.kept = append(o.kept, one)
		o.held += one.size
	}
	return nil
}

func (s *slot) restore(r slotRecord, upto int64) error {
	*s = slot{over: s.over, concluded: r.Concluded, had: r.Had}
	for i, m := range r.Sent {
		if m[0] < 0 || m[0] > upto || i > 0 && m[0] <= r.Sent[i-1][0] || m[1] < 0 || m[1] > int64(len(r.Concluded)) {
			return errors.New("what it says of concluded text cannot be")
		}
		s.sent = append(s.sent, mark{m[0], int(m[1])})
	}
	if r.Had < 0 || r.Had > len(r.Concluded) {
		return errors.New("what it says of concluded text cannot be")
	}
	return nil
}
