package live

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
)

// A shelf is where the record of one session lies, for all gateways.
type shelf struct {
	t     *rapid.T
	raw   []byte
	reach int64
}

// put stores a record as JSON, as it is stored elsewhere.
func (h *shelf) put(r *Record) {
	raw, err := json.Marshal(r)
	if err != nil {
		h.t.Fatal(err)
	}
	h.raw, h.reach = raw, r.Out.Upto
}

// Whenever a gateway is killed, whatever of its records was lost or came too late, and however
// much its client has received of what was sent: each final comes once, in order, and nothing
// that was concluded is missing or doubled. The client says again what has no final.
func TestNothingIsDroppedInvertedOrDoubledThoughGatewaysAreKilled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := plainConfig()
		c.Settle = time.Duration(rapid.IntRange(0, 500).Draw(t, "settle")) * time.Millisecond
		targets := []core.Language{"es", "ja", "de"}[:rapid.IntRange(1, 3).Draw(t, "targets")]
		b := newBench(t, c, Options{Targets: targets})
		b.read, b.out = false, nil
		store := &shelf{t: t}
		you := &client{t: t, concluded: map[string]string{}, final: map[string]*Target{}, order: map[core.Language][]string{}, seq: 1}
		text, ended, revision := map[string]string{}, map[string]bool{}, map[string]int64{}
		var began []string
		reads := func() {
			for f := b.s.Out().Next(b.now); f != nil; f = b.s.Out().Next(b.now) {
				if seq := seqNumber(f); seq > you.seq {
					you.seq = seq - 1 // numbers are left out when a record was not stored
				}
				you.take(f)
			}
		}
		// save is what the door does with a record, and what becomes of it.
		save := func() {
			if !b.s.Out().Held() && !b.s.Out().Unsaved() {
				return
			}
			r := b.s.Record(b.now, 48<<10)
			switch rapid.IntRange(0, 7).Draw(t, "record") {
			case 0: // lost
				b.s.Out().LetGo()
			case 1: // stored, and the answer is lost
				store.put(r)
				b.s.Out().LetGo()
			case 2: // stored too late
				b.s.Out().LetGo()
				if rapid.Bool().Draw(t, "read before") {
					reads()
				}
				store.put(r)
				b.s.Out().Saved(r)
			default:
				store.put(r)
				b.s.Out().Saved(r)
			}
		}
		again := func() { // the latest of each that has no final
			for _, id := range began {
				if revision[id] > 0 && slices.ContainsFunc(targets, func(l core.Language) bool { return you.final[id+" "+string(l)] == nil }) {
					if err := b.say(id, revision[id], text[id], ended[id]); err != nil {
						t.Fatalf("%s: %v", id, err)
					}
				}
			}
		}
		resumed, anew := 0, 0
		move := func() {
			var r Record
			var s *Session
			if store.raw != nil {
				if err := json.Unmarshal(store.raw, &r); err != nil {
					t.Fatal(err)
				}
				var err error
				if s, err = Restore(c, Options{Source: "en", Deadline: 4500 * time.Millisecond}, &r, b.now); err != nil {
					t.Fatal(err)
				}
			}
			b = &bench{s: s, now: b.now, calls: map[int64]Call{}}
			if s != nil && you.seq <= store.reach && s.Out().Provable(you.seq) {
				resumed++
				s.Out().Keep()
				s.Resume(b.now)
				s.Attach(you.seq, &Ready{Head: Head{Type: "ready"}, Resumed: true})
				b.turn()
				save()
				again()
				return
			}
			// It begins anew: what has a final in some languages is asked for in the others.
			anew++
			b.s = New(c, Options{Source: "en", Targets: targets, Deadline: 4500 * time.Millisecond}, b.now)
			b.s.Out().Keep()
			b.s.Attach(0, &Ready{Head: Head{Type: "ready"}})
			you.seq, store.raw = 0, nil
			for key := range you.concluded {
				if you.final[key] == nil {
					delete(you.concluded, key)
				}
			}
			for _, id := range began { // a client that has a part of it has to know what it has
				for _, l := range targets {
					if revision[id] > 0 && slices.ContainsFunc(targets, func(l core.Language) bool { return you.final[id+" "+string(l)] == nil }) {
						delete(you.final, id+" "+string(l))
						delete(you.concluded, id+" "+string(l))
						you.order[l] = slices.DeleteFunc(you.order[l], func(o string) bool { return o == id })
					}
				}
			}
			b.turn()
			save()
			again()
		}
		b.s.Out().Keep()
		vocabulary := []string{"so", "We", "want.", "to", "do", "it.", "now", "Yes!", "12", "你好。", "Dr."}
		for range rapid.IntRange(5, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1, 2, 3:
				id := fmt.Sprint(rapid.IntRange(0, 6).Draw(t, "segment"))
				if ended[id] {
					continue
				}
				if revision[id] == 0 {
					began = append(began, id)
				}
				words := append(strings.Fields(text[id]), rapid.SliceOfN(rapid.SampledFrom(vocabulary), 0, 6).Draw(t, "words")...)
				revision[id]++
				text[id] = strings.Join(words, " ")
				ended[id] = rapid.IntRange(0, 3).Draw(t, "final") == 0
				if err := b.say(id, revision[id], text[id], ended[id]); err != nil {
					t.Fatal(err)
				}
			case 4, 5:
				b.pass(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
			case 6, 7:
				if len(b.calls) > 0 {
					b.answerAll()
				}
			case 8:
				for range rapid.IntRange(0, 3).Draw(t, "sent, not received") {
					b.s.Out().Next(b.now)
				}
				move()
			case 9: // the connection is lost, and the gateway is not
				b.s.Out().Detach()
				if you.seq <= b.s.Out().Seq() && b.s.Out().Provable(you.seq) {
					b.s.Attach(you.seq, &Ready{Head: Head{Type: "ready"}, Resumed: true})
				}
			}
			save()
			if rapid.Bool().Draw(t, "reads") {
				reads()
			}
		}
		for range 50 {
			b.answerAll()
			b.pass(3 * time.Second)
			if b.s.Out().Held() {
				b.s.Out().LetGo()
			}
			reads()
			for _, id := range began {
				if !ended[id] {
					ended[id] = true
					revision[id]++
					if err := b.say(id, revision[id], text[id], true); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for _, id := range began {
			for _, l := range targets {
				f := you.final[id+" "+string(l)]
				if f == nil {
					t.Fatalf("the final of %s in %s is missing, after %d handovers and %d new sessions", id, l, resumed, anew)
				}
				if want := expected(text[id], l); f.Text != want {
					t.Fatalf("%q in %s is %q, want %q", text[id], l, f.Text, want)
				}
			}
		}
	})
}

// What lies in a store may be anything. A record that can be read makes a session that goes on.
func FuzzRecord(f *testing.F) {
	b := newBench(f, plainConfig(), Options{Targets: []core.Language{"es", "ja"}})
	b.s.Out().Keep()
	b.s.Out().Saved(b.s.Record(b.now, 48<<10))
	b.say("s1", 1, "It is over. And so is this.", true)
	b.say("s2", 1, "It is not", false)
	b.answerAll()
	b.say("s3", 1, "Nor is this.", true)
	raw, err := json.Marshal(b.s.Record(b.now, 48<<10))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"targets":[{"language":"es"}],"segments":[{"id":"a","text":"Yes. No","tracks":[{"target":0,"slot":{"concluded":"SI.","had":3,"sent":[[1,2]]},"frozen":[{"source":"Yes.","target":"SI."}]}]}],"out":{"upto":9,"begun":[1]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r Record
		if json.Unmarshal(raw, &r) != nil {
			return
		}
		s, err := Restore(Defaults(), Options{Deadline: time.Second}, &r, time.Unix(1000, 0))
		if err != nil {
			return
		}
		now := time.Unix(1000, 0)
		s.Out().Keep()
		s.Resume(now)
		if s.Out().Provable(r.Out.Proven) {
			s.Attach(r.Out.Proven, &Ready{Head: Head{Type: "ready"}})
		}
		s.Out().Saved(s.Record(now, 48<<10))
		_ = s.Take(now, Source{Segment: "a", Text: "Yes. No. It is so.", Final: true, Stable: -1})
		for range 20 {
			calls, _ := s.Work()
			for _, c := range calls {
				s.Answer(now, c.ID, Answer{Text: "x"})
			}
			s.Out().LetGo()
			for n := 0; s.Out().Next(now) != nil && n < 1000; n++ {
			}
			now = now.Add(time.Second)
			s.Tick(now)
		}
	})
}
