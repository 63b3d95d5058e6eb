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
