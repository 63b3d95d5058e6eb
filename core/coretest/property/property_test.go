package property

import (
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
