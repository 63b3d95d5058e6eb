package ratelimit

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/ledger"
	"github.com/dragoman-mt/dragoman/core/line"
)

func plan(t *testing.T, s *Stage, c Config) {
	t.Helper()
	apply, err := s.Plan(&c)
	if err != nil {
		t.Fatal(err)
	}
	apply()
}

// Whatever the limits are changed to, and when: among the starts of any 60 s
// there are no more, and they cost no more tokens, than the limit that held at
// the last of them. So in no window is there more than the largest of its limits.
func TestNoChangeOfALimitLetsMoreThroughThanTheLimit(t *testing.T) {
	started := 0
	property.Check(t, func(rt *rapid.T) {
		configs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Config {
			return Config{
				RequestsPerMinute: rapid.IntRange(1, 400).Draw(t, "requests"),
				TokensPerMinute:   rapid.SampledFrom([]int{0, 300, 1000, 5000, 40_000}).Draw(t, "tokens"),
			}
		}), 2, 6).Draw(rt, "limits")
		stays := rapid.SliceOfN(rapid.IntRange(1, 90), len(configs), len(configs)).Draw(rt, "seconds")
		seed := rapid.Uint64().Draw(rt, "seed")
		wrong := ""
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, seed))
			s := New(configs[0])
			type start struct {
				at    time.Time
				cost  int64
				holds Config
			}
			var starts []start
			var calls sync.WaitGroup
			for i, c := range configs {
				if i > 0 {
					plan(t, s, c)
				}
				for until := time.Now().Add(time.Duration(stays[i]) * time.Second); time.Now().Before(until); {
					for range r.IntN(6) {
						if ok, _ := s.Take(short, time.Now()); !ok {
							break
						}
						cost := 1 + r.Int64N(ledger.Estimate(short))
						took := time.Duration(r.IntN(4000)) * time.Millisecond
						starts = append(starts, start{time.Now(), cost, c})
						calls.Go(func() {
							time.Sleep(took)
							s.Give(short, core.Outcome{At: time.Now(), Usage: core.Usage{PromptTokens: int(cost)}})
						})
					}
					time.Sleep(time.Duration(1+r.IntN(400)) * time.Millisecond)
				}
			}
			calls.Wait()
			for j, last := range starts {
				n, tokens := 0, int64(0)
				for k := j; k >= 0 && last.at.Sub(starts[k].at) <= time.Minute; k-- {
					n++
					tokens += starts[k].cost
				}
				if n > last.holds.RequestsPerMinute || last.holds.TokensPerMinute > 0 && tokens > int64(last.holds.TokensPerMinute) {
					wrong = fmt.Sprintf("the 60 s up to start %d, under %+v, saw %d starts and %d tokens", j, last.holds, n, tokens)
				}
			}
			started += len(starts)
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
	if started == 0 {
		t.Error("nothing started")
	}
}

func TestAChangeKeepsWhatWasLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{RequestsPerMinute: 4500})
		s.Take(short, time.Now())
		s.Give(short, rpm(100, 99, time.Second))
		plan(t, s, Config{RequestsPerMinute: 6000})
		if got := s.current.requests.limit; got != 100 {
			t.Errorf("the limit is %v, theirs is 100", got)
		}
		plan(t, s, Config{RequestsPerMinute: 50})
		if got := s.current.requests.limit; got != 50 {
			t.Errorf("the limit is %v, ours is 50", got)
		}
		plan(t, s, Config{RequestsPerMinute: 6000})

		time.Sleep(2 * time.Second)
		s.Take(short, time.Now())
		s.Give(short, refusal(30*time.Second))
		time.Sleep(10 * time.Second)
		plan(t, s, Config{RequestsPerMinute: 9000})
		if ok, wait := s.Take(short, time.Now()); ok || wait != 20*time.Second {
			t.Errorf("%v, %v; want what is left of the pause, 20s", ok, wait)
		}
		if scale := s.current.requests.scale; scale != slowed {
			t.Errorf("the ramp goes on at %v, want %v", scale, slowed)
		}
	})
}

// After a reload that added or removed a queue two lines wait for the gate.
func TestAHigherLimitWakesEveryLineThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{RequestsPerMinute: 1})
		began := time.Now()
		var all sync.WaitGroup
		for range 3 {
			l := line.New(10)
			for range 3 {
				all.Go(func() {
					turn, err := l.Turn(t.Context(), short, guard(s), line.How{})
					if err != nil {
						t.Error(err)
						return
					}
					turn.Give(core.Outcome{})
				})
			}
		}
		synctest.Wait()
		plan(t, s, Config{RequestsPerMinute: 6000})
		all.Wait()
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("the last started after %v", d)
		}
	})
}

func TestTheLinesKeptAreBounded(t *testing.T) {
	s := New(Defaults())
	for range 10 * linesKept {
		if l := line.New(1); !s.Refused(l) || s.Refused(l) {
			t.Fatal("a line is new once")
		}
	}
	if n := len(s.waits); n != linesKept {
		t.Errorf("%d are kept", n)
	}
}
