//go:build !race

package postprocess

import (
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// What is measured here is one goroutine's work: the race detector makes it many
// times as much, and finds nothing.

// TestWorkIsLinear counts what is looked at in answers that are made of what is
// looked for: as often as the answer is twice as long, at most twice as much.
// What a step did not count would be found by the time that it takes: 16 times as
// long an answer would take 256 times as long if anything were quadratic.
func TestWorkIsLinear(t *testing.T) {
	s := New("postprocess", Config{Skip: []Step{}})
	lax := New("postprocess", Config{Skip: []Step{Length}}) // so that nothing is refused for that
	for name, shape := range hostile {
		for _, s := range []*Stage{s, lax} {
			work := func(n int) (spent int, took time.Duration) {
				text, answer := shape(n)
				took = time.Hour
				for range 2 {
					q := newQuestion(t.Context(), &core.Request{Text: text, Target: "es"})
					before := processorTime(t)
					s.judged(q, &core.Result{Text: answer}, "")
					took = min(took, processorTime(t)-before)
					spent = q.spent
				}
				if most := maxWork * (len(text) + len(answer)); spent > most {
					t.Errorf("%s: %d bytes looked at for %d and %d", name, spent, len(text), len(answer))
				}
				return spent, took
			}
			_, little := work(4 << 10)
			_, much := work(64 << 10)
			if much > 200*time.Millisecond && much > 80*max(little, 100*time.Microsecond) {
				t.Errorf("%s: %v for 4 KiB, and %v for 64 KiB", name, little, much)
			}
		}
	}
}

// TestAMegabyteIsDoneInNoTime: so much is the most that a provider lets through.
func TestAMegabyteIsDoneInNoTime(t *testing.T) {
	s := New("postprocess", Config{Skip: []Step{Length}})
	for name, shape := range hostile {
		text, answer := shape(1 << 20)
		q := newQuestion(t.Context(), &core.Request{Text: text, Target: "es"})
		before := processorTime(t)
		s.judged(q, &core.Result{Text: answer}, "")
		if took := processorTime(t) - before; took > 3*time.Second { // it takes a twentieth of that
			t.Errorf("%s: it took %v", name, took)
		} else {
			t.Logf("%s: %v, %d bytes for each", name, took, q.spent/(len(text)+len(answer)))
		}
	}
}

// TestDeltasAreLinear streams the same answers in small pieces.
func TestDeltasAreLinear(t *testing.T) {
	s := New("postprocess", Config{Skip: []Step{Length}})
	for name, shape := range hostile {
		for _, start := range []string{"", spanish + " "} {
			text, answer := shape(64 << 10)
			answer = start + answer
			req := &core.Request{Text: text, Target: "es", OnDelta: func(string) error { return nil }}
			p := &preview{stage: s, q: newQuestion(t.Context(), req), again: hold}
			before := processorTime(t)
			for _, piece := range split(answer, []int{3}) {
				if p.hear(piece) != nil {
					break
				}
			}
			took := processorTime(t) - before
			if most := maxDeltaWork * (len(text) + len(answer)); p.q.spent > most {
				t.Errorf("%s: %d bytes looked at for %d and %d", name, p.q.spent, len(text), len(answer))
			}
			if took > 3*time.Second {
				t.Errorf("%s: it took %v", name, took)
			} else {
				t.Logf("%s: %v, %d bytes for each", name, took, p.q.spent/(len(text)+len(answer)))
			}
		}
	}
}

// processorTime is what this process has had of the processors; other processes
// do not count.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
