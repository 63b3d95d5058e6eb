package live

import (
	"slices"
	"time"
)

// An Outbox is what a client is still to be sent, and what it was sent and may not have
// received. Tentative text takes one place for each segment and target, and newer text
// takes the place of older; finals and all else wait in order.
//
// A client says what it has by the frame that it received last. Its connections may be
// heard in another order than it made them, so a frame that was sent again on a connection
// that the client has given up is not taken for one that it has: each connection has frames
// of its own, and they count from what the client had when that connection began.
type Outbox struct {
	seq      int64         // sent last
	lost     int64         // the latest that cannot be sent again
	proven   int64         // the latest that the client is known to have
	begun    []int64       // the first frames of the connections since, the present one last
	window   time.Duration // how long what was sent is kept for who may come back
	attached bool

	waiting []parcel // finals, and everything that is said once
	bytes   int      // of waiting
	kept    []parcel // were sent
	held    int      // bytes of kept
	fresh   []*slot  // with something to say, in the order in which they got it

	store ledger
}

// A parcel is a frame, and what of it is worth keeping.
type parcel struct {
	frame Frame
	size  int
	at    time.Time // when it was sent
	seqs  []int64   // as which, once for each connection since proven
	keep  bool      // it is sent again to who has not received it
	slot  *slot     // of a final, or of what was concluded, whose frame is made when it is sent
}

// A slot is what a client sees of one segment in one language.
type slot struct {
	frame     func() *Target // as it would be now, without Concluded
	saw       func(now time.Time, text string)
	concluded string
	had       int    // bytes of concluded that the client had with proven
	sent      []mark // what of concluded was sent when, since
	queued    bool
	over      bool // its final waits, or was sent
	tentative string
	unseen    bool // the client may not have the tentative text
	promised  bool // what was concluded waits, in a parcel
}

// A mark says that the first so many bytes had been sent with that frame.
type mark struct {
	seq  int64
	upto int
}

// upto is how much of concluded was sent to who has the frames from one to another, and
// what was proven before.
func (s *slot) upto(from, to int64) int {
	for i := len(s.sent) - 1; i >= 0 && s.sent[i].seq >= from; i-- {
		if s.sent[i].seq <= to {
			return s.sent[i].upto
		}
	}
	return s.had
}

// prove notes that the client has those frames, and what was sent besides is forgotten.
func (s *slot) prove(from, to int64) {
	s.had, s.sent = s.upto(from, to), nil
}

// say queues a frame that is said once. Acks and notices are not said again.
func (o *Outbox) say(f Frame, keep bool, s *slot, size int) {
	if !o.attached && !keep {
		return
	}
	o.waiting = append(o.waiting, parcel{frame: f, size: size + 200, keep: keep, slot: s})
	o.bytes += size + 200
	if s != nil {
		s.over = true
	}
	if keep {
		o.Change()
	}
}

// show queues what s has to tell.
func (o *Outbox) show(s *slot) {
	if s.queued || s.over {
		return
	}
	s.queued = true
	o.fresh = append(o.fresh, s)
}

// conclude queues what s has concluded. Of that, as of finals, the record says as which frame
// it will be sent, so it waits in order with them.
func (o *Outbox) conclude(s *slot) {
	if !o.store.on {
		return // it goes with what is tentative
	}
	o.Change()
	if s.promised || !o.attached {
		return // who comes is shown it
	}
	if s.queued {
		o.fresh = slices.DeleteFunc(o.fresh, func(f *slot) bool { return f == s })
	}
	s.queued, s.promised = true, true
	o.waiting = append(o.waiting, parcel{size: len(s.concluded) + 200, slot: s})
	o.bytes += len(s.concluded) + 200
}

// Overflows says whether more waits than a client may leave unread.
func (o *Outbox) Overflows() bool { return len(o.waiting) > MaxFinals || o.bytes > MaxBytes }

// Empty says whether nothing waits.
func (o *Outbox) Empty() bool { return len(o.waiting) == 0 && len(o.fresh) == 0 }

// Seq is that of the frame sent last.
func (o *Outbox) Seq() int64 { return o.seq }

// Next returns the next frame to write, nil when there is none. What is said once goes
// before tentative text.
func (o *Outbox) Next(now time.Time) Frame {
	if o.Held() {
		return nil
	}
	for len(o.waiting) > 0 {
		p := o.waiting[0]
		o.waiting[0] = parcel{}
		o.waiting = o.waiting[1:]
		o.bytes -= p.size
		if p.frame == nil {
			p.slot.promised, p.slot.queued = false, false
			if f := o.draft(p.slot, now); f != nil {
				return f
			}
			continue
		}
		o.stamp(p.frame)
		if p.slot != nil {
			if t, ok := p.frame.(*Target); ok {
				// What of the segment the client has is known now at the earliest.
				t.Concluded = p.slot.concluded[p.slot.upto(o.present(), o.seq):]
				p.slot.sent = append(p.slot.sent, mark{o.seq, len(p.slot.concluded)})
			}
		}
		if p.keep {
			p.at, p.seqs = now, append(p.seqs, o.seq)
			o.kept = append(o.kept, p)
			o.held += p.size
			o.trim(now)
		}
		return p.frame
	}
	for len(o.fresh) > 0 {
		s := o.fresh[0]
		o.fresh[0] = nil
		o.fresh = o.fresh[1:]
		s.queued = false
		if f := o.draft(s, now); f != nil {
			return f
		}
	}
	return nil
}

// draft is what s has to tell now, if anything.
func (o *Outbox) draft(s *slot, now time.Time) Frame {
	if s.over {
		return nil
	}
	f := s.frame()
	sent := s.upto(o.present(), o.seq)
	if f == nil || sent == len(s.concluded) && f.Tentative == s.tentative && !s.unseen {
		return nil
	}
	o.stamp(f)
	f.Concluded = s.concluded[sent:]
	if f.Concluded != "" {
		s.sent = append(s.sent, mark{o.seq, len(s.concluded)})
	}
	s.tentative, s.unseen = f.Tentative, false
	s.saw(now, s.concluded+f.Tentative)
	return f
}

func (o *Outbox) stamp(f Frame) {
	if _, ack := f.(*Ack); ack {
		return
	}
	o.seq++
	f.stamp(o.seq)
}

func (o *Outbox) trim(now time.Time) {
	for len(o.kept) > 0 && (len(o.kept) > MaxFinals || o.held > maxKept || now.Sub(o.kept[0].at) > o.window) {
		o.drop()
	}
}

func (o *Outbox) drop() {
	p := o.kept[0]
	o.lost = max(o.lost, seqOf(p.frame))
	o.kept[0] = parcel{}
	o.kept, o.held = o.kept[1:], o.held-p.size
}

// again returns a frame that was sent as one to send anew: the former connection may still
// be writing the one that it has.
func again(f Frame) Frame {
	switch f := f.(type) {
	case *Target:
		n := *f
		return &n
	case *Correction:
		n := *f
		return &n
	case *End:
		n := *f
		return &n
	}
	return f // nothing else is kept
}

func seqOf(f Frame) int64 {
	switch f := f.(type) {
	case *Target:
		return f.Seq
	case *Correction:
		return f.Seq
	case *End:
		return f.Seq
	}
	return 0
}

// present is the first frame of the present connection.
func (o *Outbox) present() int64 {
	if len(o.begun) == 0 {
		return 0
	}
	return o.begun[len(o.begun)-1]
}

// stretch returns the first frame of the connection that sent a frame; false when that is
// not known any more.
func (o *Outbox) stretch(seq int64) (from int64, known bool) {
	for i := len(o.begun) - 1; i >= 0; i-- {
		if from = o.begun[i]; seq >= from {
			return from, seq <= o.seq
		}
	}
	return 0, false
}

// Stale says whether the session was continued by a client that had later frames than
// after: whoever has only that is not its client any more.
func (o *Outbox) Stale(after int64) bool { return after >= 0 && after < o.proven }

// Provable says whether a client that has received everything up to after can be sent all
// that is missing.
func (o *Outbox) Provable(after int64) bool {
	_, known := o.stretch(after)
	return after >= o.lost && (known || after == o.proven)
}

// maxBegun bounds the connections that a client makes and of which it does not hear.
const maxBegun = 16

// Attach makes o that of another connection, whose client has received everything up to
// after: what it may be missing waits again. open are the slots of segments without a
// final. Before, o must be Provable.
func (o *Outbox) Attach(after int64, open []*slot) {
	if after > o.proven {
		from, _ := o.stretch(after)
		o.kept = slices.DeleteFunc(o.kept, func(p parcel) bool { return p.within(from, after) })
		o.waiting = slices.DeleteFunc(o.waiting, func(p parcel) bool { return p.within(from, after) })
		for _, list := range [][]parcel{o.kept, o.waiting} {
			for i := range list {
				list[i].seqs = nil
				if s := list[i].slot; s != nil {
					s.prove(from, after)
				}
			}
		}
		for _, s := range open {
			s.prove(from, after)
		}
		o.proven, o.begun = after, nil
	}
	if len(o.begun) == maxBegun {
		o.begun = slices.Delete(o.begun, 0, 1)
		for _, s := range open {
			s.sent = slices.DeleteFunc(s.sent, func(m mark) bool { return m.seq < o.begun[0] })
		}
	}
	o.begun = append(o.begun, o.seq+1)
	for i := range o.kept {
		p := &o.kept[i]
		p.frame, p.seqs = again(p.frame), p.seqs[max(0, len(p.seqs)-maxBegun):]
	}
	o.waiting = append(o.kept, slices.DeleteFunc(o.waiting, func(p parcel) bool { return !p.keep })...)
	o.kept, o.held, o.bytes = nil, 0, 0
	for _, p := range o.waiting {
		o.bytes += p.size
	}
	o.attached = true
	o.fresh = nil
	for _, s := range open {
		s.queued, s.promised, s.unseen = false, false, s.tentative != ""
		if s.upto(o.present(), o.seq) < len(s.concluded) {
			o.conclude(s)
		}
		o.show(s)
	}
	o.Change()
}

// within says whether the parcel was sent as one of those frames.
func (p parcel) within(from, to int64) bool {
	return slices.ContainsFunc(p.seqs, func(seq int64) bool { return from <= seq && seq <= to })
}

// Detach notes that no connection writes o any more.
func (o *Outbox) Detach() {
	o.attached = false
	o.waiting = slices.DeleteFunc(o.waiting, func(p parcel) bool {
		if !p.keep {
			o.bytes -= p.size
		}
		if p.frame == nil {
			p.slot.promised, p.slot.queued = false, false
		}
		return !p.keep
	})
}
