package live

import (
	"slices"
	"time"
)

// An Outbox is what a client is still to be sent, and what it was sent and may not have
// received. Tentative text takes one place for each segment and target, and newer text
// takes the place of older; finals and all else wait in order.
type Outbox struct {
	seq      int64         // sent last
	lost     int64         // the latest that cannot be sent again
	window   time.Duration // how long what was sent is kept for who may come back
	attached bool

	waiting []parcel // finals, and everything that is said once
	bytes   int      // of waiting
	kept    []parcel // were sent
	held    int      // bytes of kept
	fresh   []*slot  // with something to say, in the order in which they got it
}

// A parcel is a frame, and what of it is worth keeping.
type parcel struct {
	frame Frame
	size  int
	at    time.Time // when it was sent
	keep  bool      // it is sent again to who has not received it
	slot  *slot     // of a final
}

// A slot is what a client sees of one segment in one language.
type slot struct {
	frame     func() *Target // as it would be now, without Concluded
	saw       func(now time.Time, text string)
	concluded string
	sent      []mark // what of concluded was sent when, rising
	queued    bool
	over      bool // its final waits, or was sent
	tentative string
	unseen    bool // the client may not have the tentative text
}

// A mark says that the first so many bytes had been sent with that frame.
type mark struct {
	seq  int64
	upto int
}

func (s *slot) upto() int {
	if len(s.sent) == 0 {
		return 0
	}
	return s.sent[len(s.sent)-1].upto
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
}

// show queues what s has to tell.
func (o *Outbox) show(s *slot) {
	if s.queued || s.over {
		return
	}
	s.queued = true
	o.fresh = append(o.fresh, s)
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
	if len(o.waiting) > 0 {
		p := o.waiting[0]
		o.waiting[0] = parcel{}
		o.waiting = o.waiting[1:]
		o.bytes -= p.size
		o.stamp(p.frame)
		if p.slot != nil {
			if t, ok := p.frame.(*Target); ok {
				// What of the segment the client has is known now at the earliest.
				t.Concluded = p.slot.concluded[p.slot.upto():]
				p.slot.sent = append(p.slot.sent, mark{o.seq, len(p.slot.concluded)})
			}
		}
		if p.keep {
			p.at = now
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
		if s.over {
			continue
		}
		f := s.frame()
		if f == nil || s.upto() == len(s.concluded) && f.Tentative == s.tentative && !s.unseen {
			continue
		}
		o.stamp(f)
		f.Concluded = s.concluded[s.upto():]
		if f.Concluded != "" {
			s.sent = append(s.sent, mark{o.seq, len(s.concluded)})
		}
		s.tentative, s.unseen = f.Tentative, false
		s.saw(now, s.concluded+f.Tentative)
		return f
	}
	return nil
}

func (o *Outbox) stamp(f Frame) {
	if _, ack := f.(*Ack); ack {
		return
	}
	o.seq++
	f.stamp(o.seq)
}

func (o *Outbox) trim(now time.Time) {
	for len(o.kept) > 0 && (len(o.kept) > MaxFinals || o.held > MaxBytes || now.Sub(o.kept[0].at) > o.window) {
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

// Received notes that the client has everything up to seq: that need not be kept.
func (o *Outbox) Received(seq int64) {
	for len(o.kept) > 0 && seqOf(o.kept[0].frame) <= seq {
		p := o.kept[0]
		o.kept[0] = parcel{}
		o.kept, o.held = o.kept[1:], o.held-p.size
	}
}

// Provable says whether a client that has received everything up to after can be sent all
// that is missing.
func (o *Outbox) Provable(after int64) bool {
	return after >= 0 && after <= o.seq && after >= o.lost
}

// Attach makes o that of another connection, whose client has received everything up to
// after: what it may be missing waits again. open are the slots of segments without a
// final. Before, o must be Provable.
func (o *Outbox) Attach(after int64, open []*slot) {
	var missed []parcel
	for _, p := range o.kept {
		if seqOf(p.frame) > after {
			if p.slot != nil {
				p.slot.rewind(after)
			}
			p.frame = again(p.frame)
			missed = append(missed, p)
		}
	}
	rest := slices.DeleteFunc(o.waiting, func(p parcel) bool { return !p.keep })
	for _, p := range rest {
		if p.slot != nil {
			p.slot.rewind(after)
		}
	}
	o.waiting = append(missed, rest...)
	o.kept, o.held, o.bytes = nil, 0, 0
	for _, p := range o.waiting {
		o.bytes += p.size
	}
	o.attached = true
	o.fresh = nil
	for _, s := range open {
		s.rewind(after)
		s.queued, s.unseen = false, s.tentative != ""
		o.show(s)
	}
}

// rewind forgets what was sent after that frame.
func (s *slot) rewind(after int64) {
	for len(s.sent) > 0 && s.sent[len(s.sent)-1].seq > after {
		s.sent = s.sent[:len(s.sent)-1]
	}
}

// Detach notes that no connection writes o any more.
func (o *Outbox) Detach() {
	o.attached = false
	o.waiting = slices.DeleteFunc(o.waiting, func(p parcel) bool {
		if !p.keep {
			o.bytes -= p.size
		}
		return !p.keep
	})
}
