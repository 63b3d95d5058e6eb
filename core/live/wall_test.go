package live

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// set returns t as it would be had somebody set the clock on the wall by d before it was
// read. What the monotonic clock said stays: t has that, so the seconds of the wall are in
// bits 30 to 62 of its first word.
func set(t time.Time, d time.Duration) time.Time {
	*(*uint64)(unsafe.Pointer(&t)) += uint64(int64(d/time.Second)) << 30
	return t
}

// A step is something that happens to a session.
type step struct {
	kind    int
	segment int
	words   int
	final   bool
	wait    time.Duration
	set     time.Duration // the clock on the wall, before it
}

// play says what becomes of a session to which all of that happens: what its client is
// sent, and what is asked for until when. The clock is set on the way when moved.
func play(steps []step, began time.Time, moved bool) string {
	b := newBenchAt(began, plainConfig(), Options{Targets: []core.Language{"es", "ja"}})
	var said strings.Builder
	words := strings.Fields("so what We want to do. And it is now Yes! 12 你好。 then we will see. it goes on and on until it is over.")
	revision := map[int]int64{}
	tell := func() {
		for _, f := range b.out {
			raw, _ := json.Marshal(f)
			fmt.Fprintf(&said, "%s\n", raw)
		}
		for _, c := range b.asked {
			fmt.Fprintf(&said, "%s %s into %s, final %v", c.Lane, c.Text, c.Target, c.Final)
			if !c.By.IsZero() {
				fmt.Fprint(&said, ", within ", c.By.Sub(b.now))
			}
			said.WriteByte('\n')
		}
		b.out, b.asked = nil, nil
	}
	for _, is := range steps {
		if moved {
			b.now = set(b.now, is.set)
		}
		switch is.kind {
		case 0:
			revision[is.segment]++
			err := b.say(fmt.Sprint(is.segment), revision[is.segment], strings.Join(words[:is.words], " "), is.final)
			fmt.Fprintln(&said, err)
		case 1:
			b.pass(is.wait)
		case 2:
			for _, id := range slices.Sorted(maps.Keys(b.calls))[:min(1, len(b.calls))] {
				c := b.calls[id]
				delete(b.calls, id)
				a := Answer{Text: shout(c.Text, c.Target), Attempts: 1, Waited: is.wait}
				if is.final && is.words%4 == 0 {
					a = Answer{Err: &core.Error{Kind: core.DeadlineExceeded}, Waited: is.wait}
				}
				b.s.Answer(b.now, id, a)
				b.turn()
			}
		case 3:
			b.s.Out().Detach()
			b.pass(is.wait)
			b.s.Attach(max(0, b.s.Out().Seq()-int64(is.words)), &Ready{Head: Head{Type: "ready"}, Resumed: true})
			b.turn()
		case 4:
			b.s.Finalize(b.now)
			b.turn()
		}
		tell()
	}
	b.s.End(b.now)
	b.turn()
	b.pass(10 * time.Second)
	b.answerAll()
	tell()
	raw, _ := json.Marshal(b.s.Stats(b.now))
	fmt.Fprintf(&said, "%s\n", raw)
	return said.String()
}

func TestAClockThatIsSetDuringASessionChangesNothing(t *testing.T) {
	began := time.Now()
	if moved := set(began, -time.Hour); !moved.Equal(began) || moved.Unix() != began.Unix()-3600 {
		t.Fatal("a time.Time is made in another way than this test believes")
	}
	property.Check(t, func(r *rapid.T) {
		ms := func(from, to int) *rapid.Generator[time.Duration] {
			return rapid.Map(rapid.IntRange(from, to), func(n int) time.Duration { return time.Duration(n) * time.Millisecond })
		}
		steps := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) step {
			return step{
				kind: rapid.SampledFrom([]int{0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4}).Draw(r, "kind"), segment: rapid.IntRange(0, 5).Draw(r, "segment"),
				words: rapid.IntRange(0, 20).Draw(r, "words"), final: rapid.IntRange(0, 3).Draw(r, "final") == 0, wait: ms(0, 4000).Draw(r, "wait"),
				set: time.Duration(rapid.IntRange(-200_000, 200_000).Draw(r, "set")) * time.Second,
			}
		}), 5, 60).Draw(r, "steps")
		if want, got := play(steps, began, false), play(steps, began, true); want != got {
			r.Fatalf("with a clock that is set:\n%s\nwith another:\n%s", got, want)
		}
	})
}
