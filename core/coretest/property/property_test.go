package property

import (
	"flag"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestAllChecksRunAndTheirTimeIsTheirOwn(t *testing.T) {
	ran := 0
	began := time.Now()
	InBubbles(t, func(t *testing.T, r *rapid.T) {
		time.Sleep(time.Duration(rapid.IntRange(1, 9).Draw(r, "hours")) * time.Hour)
		synctest.Wait()
		ran++
	})
	if want := asked(); ran < want || want == 0 {
		t.Errorf("%d checks ran, %d were asked for", ran, want)
	}
	if time.Since(began) > time.Hour {
		t.Error("the time of the checks has passed outside, too")
	}
}

func TestFewChecksAreEnoughUnlessItIsSaidHowMany(t *testing.T) {
	said := flag.Lookup("rapid.checks").Value
	before := said.String()
	defer said.Set(before)
	for given, want := range map[string]int{flag.Lookup("rapid.checks").DefValue: 7, "11": 11} {
		said.Set(given)
		ran := 0
		t.Run(given, func(t *testing.T) {
			Few(t, 7)
			Check(t, func(*rapid.T) { ran++ })
			if asked() > ran {
				t.Errorf("%d of %d", ran, asked())
			}
		})
		if testing.Short() {
			want /= 5
		}
		if ran != want || said.String() != given {
			t.Errorf("%d checks ran, want %d; afterwards there are to be %s, and were to be %s", ran, want, said, given)
		}
	}
}
