// Package property runs tests of properties with rapid, so that one which did
// not look at as many cases as it was asked for fails.
//
// How many these are is rapid's flag: go test -rapid.checks=20000. Rapid ends
// early, and says OK, when the time of the test is over; and inside a synctest
// bubble it measures that time on the bubble's clock, which the test itself
// makes run.
package property

import (
	"flag"
	"os"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Check is rapid.Check, but fails when fewer checks ran than were asked for.
func Check(t *testing.T, prop func(r *rapid.T)) {
	t.Helper()
	ran := 0
	rapid.Check(t, func(r *rapid.T) {
		prop(r)
		ran++ // not when it failed, nor when it made nothing of what was drawn
	})
	if want := asked(); ran < want && !t.Failed() {
		t.Errorf("%d of %d checks ran: give the test more time (-timeout), or ask for fewer (-rapid.checks)", ran, want)
	}
}

// Few has n checks be enough for t, whose checks take long, unless it is said
// how many there shall be (-rapid.checks). T must not run beside others.
func Few(t *testing.T, n int) {
	t.Helper()
	checks := flag.Lookup("rapid.checks")
	if checks.Value.String() != checks.DefValue {
		return
	}
	set := func(to string) {
		if err := checks.Value.Set(to); err != nil {
			t.Fatal(err)
		}
	}
	set(strconv.Itoa(n))
	t.Cleanup(func() { set(checks.DefValue) })
}

func asked() int {
	n, _ := flag.Lookup("rapid.checks").Value.(flag.Getter).Get().(int)
	if testing.Short() {
		n /= 5 // as rapid does
	}
	return n
}

// InBubbles is Check with each check in a synctest bubble of its own. Prop draws,
// and fails, on the goroutine on which it is called.
func InBubbles(t *testing.T, prop func(t *testing.T, r *rapid.T)) {
	t.Helper()
	Check(t, func(r *rapid.T) {
		var failed any
		synctest.Test(t, func(t *testing.T) {
			defer func() { failed = recover() }() // rapid fails a check with a panic, which it has to see
			prop(t, r)
		})
		if failed != nil {
			panic(failed)
		}
	})
}

// WithoutRace skips t under the race detector, which would look at the test
// alone where all the work is that of other programs, and make it dear.
// `make test` runs such tests without the detector: where a test says so itself
// that test, and where it is said for all of a package, in a function that they
// share, the whole package.
func WithoutRace(t testing.TB) {
	t.Helper()
	if Raced {
		t.Skip("what it looks at is in other programs: it runs without the race detector")
	}
}

// Rounds is how often a test that takes long repeats what it does: in full in
// `make soak`, less in `make test`.
func Rounds(full, less int) int {
	if os.Getenv("DRAGOMAN_SOAK") != "" {
		return full
	}
	return less
}

// ProcessorTime is what this process has had of the processors: what the machine does
// beside does not count, so that a test can tell by it whether work is linear.
func ProcessorTime(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
