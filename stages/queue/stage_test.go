package queue

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/line"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func guard(s *Stage) []core.Guard { return []core.Guard{{Name: "queue", Gate: s}} }

func TestBurstStartsAsSlotsAndIntervalAllow(t *testing.T) {
	cases := []struct {
		config Config
		last   time.Duration
	}{
		{Config{MaxConcurrent: 6, MinInterval: 25 * time.Millisecond, MaxWaiting: 100}, 425 * time.Millisecond},
		{Config{MaxConcurrent: 4, MinInterval: 50 * time.Millisecond, MaxWaiting: 100}, 750 * time.Millisecond},
	}
	for _, tc := range cases {
		t.Run(fmt.Sprint(tc.config.MaxConcurrent, " slots ", tc.config.MinInterval), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(tc.config)
				began := time.Now()
				var mu sync.Mutex
				var last, paced time.Duration
				var wg sync.WaitGroup
				for range 12 {
					wg.Go(func() {
						turn, err := s.Line().Turn(t.Context(), &core.Request{}, guard(s), line.How{})
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						last, paced = max(last, time.Since(began)), max(paced, turn.Paced())
						mu.Unlock()
						time.Sleep(300 * time.Millisecond) // the upstream
						turn.Give(core.Outcome{})
					})
				}
				wg.Wait()
				if last != tc.last {
					t.Errorf("the last of 12 starts after %v, want %v", last, tc.last)
				}
				if paced == 0 || paced >= last {
					t.Errorf("%v of it was pacing; want the intervals, and not the wait for a slot", paced)
				}
			})
		})
	}
}

func TestNeverMoreAtOnceNorCloserThanConfigured(t *testing.T) {
	type call struct {
		at, hold  time.Duration
		gone      bool // leaves with its turn unused
		unheeding bool // leaves while it waits
	}
	calls := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) call {
		return call{
			at:   time.Duration(rapid.IntRange(0, 1000).Draw(t, "at")) * time.Millisecond,
			hold: time.Duration(rapid.IntRange(0, 300).Draw(t, "hold")) * time.Millisecond,
			gone: rapid.IntRange(0, 5).Draw(t, "gone") == 0, unheeding: rapid.IntRange(0, 5).Draw(t, "leaves") == 0,
		}
	}), 1, 60)
	property.Check(t, func(rt *rapid.T) {
		config := Config{
			MaxConcurrent: rapid.IntRange(1, 8).Draw(rt, "slots"),
			MinInterval:   time.Duration(rapid.IntRange(0, 60).Draw(rt, "interval")) * time.Millisecond,
			MaxWaiting:    1000,
		}
		visits := calls.Draw(rt, "calls")
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			s := New(config)
			var mu sync.Mutex
			var last time.Time
			running := 0
			var wg sync.WaitGroup
			for _, v := range visits {
				wg.Go(func() {
					time.Sleep(v.at)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if v.unheeding {
						defer time.AfterFunc(v.hold, cancel).Stop()
					}
					turn, err := s.Line().Turn(ctx, &core.Request{}, guard(s), line.How{})
					if err != nil {
						return
					}
					if v.gone {
						turn.Give(core.Outcome{Unused: true})
						return
					}
					mu.Lock()
					if running++; running > config.MaxConcurrent {
						wrong = append(wrong, fmt.Sprintf("%d run at once", running))
					}
					if d := time.Since(last); d < config.MinInterval {
						wrong = append(wrong, fmt.Sprintf("two starts are %v apart", d))
					}
					last = time.Now()
					mu.Unlock()
					time.Sleep(v.hold)
					mu.Lock()
					running--
					mu.Unlock()
					turn.Give(core.Outcome{})
				})
			}
			wg.Wait()
			if s.inFlight != 0 {
				wrong = append(wrong, fmt.Sprintf("%d slots are held at the end", s.inFlight))
			}
		})
		if len(wrong) > 0 {
			rt.Fatal(wrong)
		}
	})
}

func TestUnusedGivesTheIntervalBack(t *testing.T) {
	s := New(Config{MaxConcurrent: 2, MinInterval: time.Second})
	now := time.Now()
	req := &core.Request{}
	take := func(after, want time.Duration) {
		t.Helper()
		if ok, wait := s.Take(req, now.Add(after)); ok != (want == 0) || wait != want {
			t.Fatalf("after %v: %v, %v; want to wait %v", after, ok, wait, want)
		}
	}
	take(0, 0)
	take(300*time.Millisecond, 700*time.Millisecond)
	take(time.Second, 0)
	s.Give(req, core.Outcome{Unused: true})
	take(1100*time.Millisecond, 0)
	s.Give(req, core.Outcome{})
	take(1200*time.Millisecond, 900*time.Millisecond)
}

func TestAllSlotsTakenIsToWaitForAGive(t *testing.T) {
	s := New(Config{MaxConcurrent: 1, MinInterval: time.Second})
	now := time.Now()
	s.Take(&core.Request{}, now)
	if ok, wait := s.Take(&core.Request{}, now); ok || wait != 0 {
		t.Errorf("%v, %v; want to be asked after the next Give", ok, wait)
	}
}

func TestPlanChangesInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{MaxConcurrent: 1, MaxWaiting: 10})
		var wg sync.WaitGroup
		got := make(chan *line.Turn, 3)
		for range 3 {
			wg.Go(func() {
				turn, err := s.Line().Turn(t.Context(), &core.Request{}, guard(s), line.How{})
				if err != nil {
					t.Error(err)
				}
				got <- turn
			})
		}
		synctest.Wait()
		if len(got) != 1 {
			t.Fatalf("%d started with one slot", len(got))
		}
		apply, err := s.Plan(&Config{MaxConcurrent: 3, MaxWaiting: 0})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 {
			t.Error("planning alone changed something")
		}
		apply()
		wg.Wait() // who waited starts at once
		if _, err := s.Line().Turn(t.Context(), &core.Request{}, guard(s), line.How{}); core.KindOf(err) != core.Overloaded {
			t.Errorf("error %v, want overloaded: nobody may wait now", err)
		}
		for range 3 {
			(<-got).Give(core.Outcome{})
		}
		if _, err := s.Plan(Config{}); err == nil {
			t.Error("a configuration of another type was taken")
		}
	})
}

func TestKindBuildsAGateThatOwnsALine(t *testing.T) {
	k := Kind()
	built, err := k.Build(core.Env{Name: "queue"}, k.Config())
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := built.(line.Owner); !ok || o.Line() == nil {
		t.Errorf("%T owns no line", built)
	}
	if f := built.(core.Fingerprinter).Fingerprint(); f != "" {
		t.Errorf("fingerprint %q: a queue changes no answer", f)
	}
	if _, err := k.Build(core.Env{}, 1); err == nil {
		t.Error("it was built from a number")
	}
}

func TestMeasures(t *testing.T) {
	s := New(Defaults())
	turn, err := s.Line().Turn(t.Context(), &core.Request{}, guard(s), line.How{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	s.Measure(func(m core.Measure) { got[fmt.Sprint(m.Name, m.Labels)] = m.Value })
	for name, want := range map[string]float64{
		"queue_in_flight[]": 1, "queue_max_concurrent[]": 6, "line_starts_total[lane final]": 1, "line_waiting[lane bulk]": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %v, %v; want %v", name, v, ok, want)
		}
	}
	turn.Give(core.Outcome{})
}
