package heap

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestGarbageIsAllowedByWhatIsHeld(t *testing.T) {
	for _, c := range []struct {
		held uint64
		want int
	}{
		{0, mostPercent},
		{5 << 20, mostPercent},
		{12 << 20, 200},
		{24 << 20, 100},
		{40 << 20, leastPercent},
		{4 << 30, leastPercent},
	} {
		if got := percentFor(c.held); got != c.want {
			t.Errorf("%d MB held: %d %%, want %d", c.held>>20, got, c.want)
		}
	}
}

func TestCollectorFollowsWhatIsHeldUntilReleased(t *testing.T) {
	t.Setenv("GOGC", "")
	former := debug.SetGCPercent(100)
	defer debug.SetGCPercent(former)
	percent := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	release := Keep()
	if p := percent(); p <= leastPercent {
		t.Errorf("%d %% with no more held than the tests before have left", p)
	}
	held := make([]byte, 80<<20)
	for percent() != leastPercent { // the cleanup runs some time after the collection
		runtime.GC()
	}
	runtime.KeepAlive(held)
	held = nil
	for percent() == leastPercent {
		runtime.GC()
	}
	release()
	if p := percent(); p != 100 {
		t.Errorf("%d %% after the release, want what there was", p)
	}
	runtime.GC()
	runtime.GC()
	if p := percent(); p != 100 {
		t.Errorf("%d %% some collections after the release", p)
	}
}

func TestWhoeverSetsTheShareGetsIt(t *testing.T) {
	for _, c := range []struct {
		environment string
		share       int
	}{{"100", 100}, {"150", 150}, {"", 150}, {"off", -1}} {
		t.Run(c.environment, func(t *testing.T) {
			t.Setenv("GOGC", c.environment)
			former := debug.SetGCPercent(c.share)
			defer debug.SetGCPercent(former)
			defer Keep()()
			if p := debug.SetGCPercent(c.share); p != c.share {
				t.Errorf("%d %%, want %d", p, c.share)
			}
		})
	}
}
