package ledger

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever is added and when: what was added in the last Over is counted, nothing is
// counted that is older by more than a cell, and Until says when there is room.
func TestALedgerForgetsNothingTooEarlyAndEverythingInTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		over := rapid.SampledFrom([]time.Duration{0, time.Minute, 24 * time.Hour}).Draw(t, "over")
		l := Ledger{Over: over}
		if over == 0 {
			over = time.Minute
		}
		type entry struct {
			at time.Time
			n  int64
		}
		var all []entry
		now := time.Unix(1_700_000_000, 0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(over)).Draw(t, "pause")) / time.Duration(rapid.SampledFrom([]int{1, 10, 1000}).Draw(t, "part")))
			n := rapid.Int64Range(0, 1000).Draw(t, "n")
			l.Add(n, now)
			all = append(all, entry{now, n})
			recent, atMost := int64(0), int64(0)
			for _, e := range all {
				age := now.Sub(e.at)
				if age < over {
					recent += e.n
				}
				if age <= over+over/cells {
					atMost += e.n
				}
			}
			if got := l.Sum(now); got < recent || got > atMost {
				t.Fatalf("holds %d, want %d to %d", got, recent, atMost)
			}
			room := rapid.Int64Range(0, 2000).Draw(t, "room")
			wait := l.Until(room, now)
			if wait < 0 || wait > over+over/cells {
				t.Fatalf("waits %v", wait)
			}
			later := l
			if got := later.Sum(now.Add(wait)); got > room {
				t.Fatalf("after %v it holds %d, want at most %d", wait, got, room)
			}
			if wait > time.Millisecond {
				sooner := l
				if got := sooner.Sum(now.Add(wait - time.Millisecond)); got <= room {
					t.Fatalf("%v is too long: there was room before", wait)
				}
			}
		}
	})
}

// A ledger that is made anew of what Each says holds no less of the last Over than the one
// before, now and at any time after.
func TestWhatIsToldOfALedgerMakesOneThatForgetsNothingTooEarly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Ledger{Over: 24 * time.Hour}
		now := time.Unix(1_700_000_000, 0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(3*time.Hour)).Draw(t, "pause")))
			l.Add(rapid.Int64Range(0, 1000).Draw(t, "n"), now)
		}
		again := Ledger{Over: 24 * time.Hour}
		l.Each(now, func(n int64, at time.Time) { again.Add(n, at) })
		for range 20 {
			if was, is := l.Sum(now), again.Sum(now); is < was {
				t.Fatalf("holds %d of %d", is, was)
			}
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*time.Hour)).Draw(t, "later")))
		}
		if left := again.Sum(now.Add(25 * time.Hour)); left != 0 {
			t.Fatalf("%d are held for ever", left)
		}
	})
}
