package provider

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

func until(at time.Time, before, then answer) answer {
	return func(ctx context.Context, req *core.Request) (*core.Result, error) {
		if time.Now().Before(at) {
			return before(ctx, req)
		}
		return then(ctx, req)
	}
}

func TestOfAListWhoHasTheLeastToDoIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInn(t, 100, Config{Use: core.Names{"a", "b", "c"}}, map[string][]answer{
			"a": {lasts(time.Second, well)}, "b": {lasts(time.Second, well)}, "c": {lasts(3*time.Second, well)},
		})
		for i := range 3 {
			if ended := b.crowd(t, 9, 10*time.Second); ended[""] != 9 {
				t.Errorf("round %d: %v", i, ended)
			}
		}
		if a, bb, c := b.calls("a"), b.calls("b"), b.calls("c"); a != 9 || bb != 9 || c != 9 {
			t.Errorf("9 at once, three times: %d, %d and %d calls", a, bb, c)
		}
		// One after the other they take turns as well.
		for range 6 {
			b.ask(t.Context(), core.Request{})
		}
		if a, bb, c := b.calls("a"), b.calls("b"), b.calls("c"); min(a, bb, c) < 10 || max(a, bb, c) > 12 {
			t.Errorf("and six more: %d, %d and %d calls", a, bb, c)
		}
	})
}

func TestAnswersOfAListAreStoredAndNotFlaggedWhoeverGaveThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInn(t, 100, Config{Use: core.Names{"a", "b"}, Retries: 0}, map[string][]answer{"a": {fails(core.Unavailable)}, "b": {well}})
		for range 4 {
			res, err := b.ask(t.Context(), core.Request{})
			if err != nil || res.NoStore || len(res.Flags) > 0 || res.Provider != "b" {
				t.Fatalf("%+v %v", res, err)
			}
		}
	})
}

func TestAnOpenBreakerTakesOneOutOfAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInn(t, 100, Config{Use: core.Names{"a", "b"}, Breaker: Breaker{Failures: 2, OpenFor: time.Minute}},
			map[string][]answer{"a": {fails(core.ProviderFailed), fails(core.ProviderFailed), well}, "b": {well}})
		for range 20 {
			if _, err := b.ask(t.Context(), core.Request{}); err != nil {
				t.Fatal(err)
			}
		}
		if n := b.calls("a"); n != 2 {
			t.Errorf("the one that failed twice was called %d times", n)
		}
		time.Sleep(time.Minute)
		for range 20 {
			b.ask(t.Context(), core.Request{})
		}
		if n := b.calls("a"); n != 12 {
			t.Errorf("after its pause it was called %d times, want 2 and half of 20", n)
		}
	})
}

// Two accounts of one entry, one of which answers 429 for a minute: nobody notices, it
// is left alone but for one call at a time that tries, and both are used again after.
func TestAnAccountThatIsPausedIsCalledByNobodyButWhoTries(t *testing.T) {
	for name, c := range map[string]struct {
		retryAfter time.Duration
		most       int // calls of the paused one in that minute
	}{
		"that says for how long": {time.Minute, 6}, // that were under way at once
		"that does not":          {0, 6 + 16},      // and after 1 and 3 s, and then every 4 s
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end := time.Now().Add(time.Minute)
				refuses := fails(core.RateLimited)
				if c.retryAfter > 0 {
					refuses = fails(core.RateLimited, c.retryAfter)
				}
				b := newInn(t, 12, Config{Use: core.Names{"up"}, Retries: 1, Breaker: defaults().Breaker}, map[string][]answer{
					"up/1": {until(end, lasts(50*time.Millisecond, refuses), lasts(100*time.Millisecond, well))},
					"up/2": {lasts(100*time.Millisecond, well)},
				}, func(b *inn) { b.shares["up"] = 2 })
				for time.Now().Before(end) {
					if ended := b.crowd(t, 10, 5*time.Second); ended[""] != 10 {
						t.Fatalf("while it is paused: %v", ended)
					}
					time.Sleep(900 * time.Millisecond)
				}
				if n := b.calls("up/1"); n == 0 || n > c.most {
					t.Errorf("the paused account was called %d times, want 1 to %d", n, c.most)
				}
				time.Sleep(5 * time.Second)
				before := b.calls("up/1")
				for range 10 {
					if ended := b.crowd(t, 10, 5*time.Second); ended[""] != 10 {
						t.Fatalf("after its pause: %v", ended)
					}
				}
				if n := b.calls("up/1") - before; n < 40 || n > 60 {
					t.Errorf("of 100 requests after its pause it got %d", n)
				}
				if a, bb := b.stage.pauseOf("up/1"), b.stage.pauseOf("up/2"); a == bb {
					t.Error("two accounts have one pause")
				}
			})
		})
	}
}

func TestADeadRegionMovesItsTrafficWithinTheDeadlineOfEachCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, dies := range []answer{fails(core.Unavailable), hangs(time.Second), fails(core.Unauthorized, never), fails(core.QuotaExceeded, never)} {
			b := newInn(t, 20, Config{Use: core.Names{"up"}, Breaker: defaults().Breaker}, map[string][]answer{"up/1": {dies}, "up/2": {lasts(100*time.Millisecond, well)}},
				func(b *inn) { b.shares["up"] = 2 })
			for range 10 {
				if ended := b.crowd(t, 10, 4*time.Second); ended[""] != 10 {
					t.Errorf("%v", ended)
				}
			}
			if n := b.calls("up/1"); n > 15 {
				t.Errorf("the dead one was called %d times of 100", n)
			}
		}
	})
}

func TestAccountsShareTheCallsByTheirWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInn(t, 100, Config{Use: core.Names{"up"}}, map[string][]answer{
			"up/1": {lasts(time.Second, well)}, "up/2": {lasts(time.Second, well)}, "up/3": {lasts(time.Second, well)},
		}, func(b *inn) { b.shares["up"], b.weight = 3, []int{3, 1, 0} })
		b.crowd(t, 40, 10*time.Second)
		for range 40 {
			b.ask(t.Context(), core.Request{})
		}
		if one, two, three := b.calls("up/1"), b.calls("up/2"), b.calls("up/3"); one != 60 || two != 20 || three != 0 {
			t.Errorf("of 80: %d, %d and %d", one, two, three)
		}
		b.fakes["up/1"].answers, b.fakes["up/2"].answers = []answer{fails(core.Unavailable)}, []answer{fails(core.Unavailable)}
		if res, err := b.ask(t.Context(), core.Request{}); err != nil || b.calls("up/3") != 1 {
			t.Errorf("the others are gone: %+v %v", res, err)
		}
	})
}

// A model that refuses a text is not asked for it with each account.
func TestARefusalOfTheModelIsNotPaidForWithEveryAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuses := []answer{fails(core.ProviderRefused, never)}
		b := newInn(t, 9, Config{Use: core.Names{"up", "other"}, Retries: 1}, map[string][]answer{"up/1": refuses, "up/2": refuses, "other": {well}},
			func(b *inn) { b.shares["up"] = 2 })
		for range 6 {
			if _, err := b.ask(t.Context(), core.Request{}); err != nil {
				t.Fatal(err)
			}
		}
		if n := b.calls("up/1") + b.calls("up/2"); n > 6 {
			t.Errorf("%d calls of the model for 6 texts", n)
		}
	})
}

// 60 texts at once, 20 s for each: the provider in use has no quota, the fallback's
// entry allows 20 a minute. So many are answered, the rest is told at once, and the
// exhausted account is asked by those that were under way alone.
func TestAFallbackServesWhatItsLimitsAllowAndAnExhaustedAccountIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInn(t, 6, Config{Use: core.Names{"broke"}, Fallback: []string{"small"}, Retries: 1, Breaker: defaults().Breaker}, map[string][]answer{
			"broke": {lasts(200*time.Millisecond, fails(core.QuotaExceeded, never))}, "small": {lasts(300*time.Millisecond, well)},
		}, func(b *inn) { b.limits["small"] = core.Allowance{RequestsPerMinute: 20} })
		began := time.Now()
		ended := b.crowd(t, 60, 20*time.Second)
		if ended[""] != 20 || ended[core.QuotaExceeded] != 40 {
			t.Errorf("60 ended as %v, want 20 answered and 40 quota_exceeded", ended)
		}
		if n := b.calls("broke"); n > 6 {
			t.Errorf("the exhausted account was called %d times", n)
		}
		if n := b.calls("small"); n != 20 {
			t.Errorf("the fallback was called %d times", n)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v to tell those that cannot fit", took)
		}
		// Those that can fit wait: a minute after the first there is room again.
		if ended := b.crowd(t, 10, 70*time.Second); ended[""] != 10 {
			t.Errorf("10 with more time ended as %v", ended)
		}
		if n := b.calls("broke"); n > 6+4 {
			t.Errorf("in a minute more the exhausted account was called %d times", n)
		}
	})
}

func TestAFallbackThatIsFullIsPassedOverForOneThatIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInn(t, 100, Config{Use: core.Names{"gone"}, Fallback: []string{"small", "large"}, Breaker: defaults().Breaker},
			map[string][]answer{"gone": {fails(core.Unavailable)}, "small": {well}, "large": {well}},
			func(b *inn) { b.limits["small"] = core.Allowance{RequestsPerMinute: 3} })
		if ended := b.crowd(t, 10, time.Second); ended[""] != 10 || b.calls("small") != 3 || b.calls("large") != 7 {
			t.Errorf("%v, %d and %d calls", ended, b.calls("small"), b.calls("large"))
		}
	})
}

func TestEachLimitOfAnEntryHolds(t *testing.T) {
	for name, c := range map[string]struct {
		limits core.Allowance
		within time.Duration
		want   int // calls in that time
	}{
		"requests a minute": {core.Allowance{RequestsPerMinute: 7}, 59 * time.Second, 7},
		"requests a day":    {core.Allowance{RequestsPerDay: 9}, 23 * time.Hour, 9},
		"a day over":        {core.Allowance{RequestsPerDay: 9}, 26 * time.Hour, 11},
		"tokens a minute":   {core.Allowance{TokensPerMinute: 300}, 59 * time.Second, 13}, // 12 each, and 153 while a call runs
		"calls at once":     {core.Allowance{MaxConcurrent: 3}, 10 * time.Second, 3},      // that run
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				running, most := 0, 0
				counted := func(ctx context.Context, req *core.Request) (*core.Result, error) {
					mu.Lock()
					running++
					most = max(most, running)
					mu.Unlock()
					defer func() { mu.Lock(); running--; mu.Unlock() }()
					return lasts(time.Second-time.Millisecond, well)(ctx, req)
				}
				b := newInn(t, 100, Config{Use: core.Names{"main"}}, map[string][]answer{"main": {counted}}, func(b *inn) { b.limits["main"] = c.limits })
				end := time.Now().Add(c.within)
				step := c.within / 40
				if c.limits.MaxConcurrent > 0 {
					b.crowd(t, 100, c.within)
				} else {
					for time.Now().Before(end) {
						b.ask(ends(t, time.Second), core.Request{})
						time.Sleep(step)
					}
				}
				n := b.calls("main")
				if c.limits.MaxConcurrent > 0 {
					n = most
				}
				if n != c.want && name != "tokens a minute" || n > c.want || n == 0 {
					t.Errorf("%d calls, want %d", n, c.want)
				}
			})
		})
	}
}

// A reload changes limits in place: what was spent stays spent, and who waits starts
// when there is room by the new ones.
func TestLimitsChangeInARunningChainAndWhatWasSpentStaysSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInn(t, 100, Config{Use: core.Names{"main"}}, map[string][]answer{"main": {well}}, func(b *inn) { b.limits["main"] = core.Allowance{RequestsPerMinute: 3} })
		b.crowd(t, 10, time.Second)
		if n := b.calls("main"); n != 3 {
			t.Fatalf("%d calls", n)
		}
		heir := New(core.Env{Name: "provider"}, b.stage.cfg)
		heir.Inherit(b.stage)
		b.stage, b.limits["main"] = heir, core.Allowance{RequestsPerMinute: 5}
		if err := b.link(); err != nil {
			t.Fatal(err)
		}
		b.crowd(t, 10, time.Second)
		if n := b.calls("main"); n != 5 {
			t.Errorf("%d calls after the limit rose by two", n)
		}
	})
}

func TestOneCallTriesWhetherAnExhaustedAccountIsBackAndTheOthersWaitForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		paid := time.Now().Add(15 * time.Second)
		b := newInn(t, 100, Config{Use: core.Names{"main"}, Fallback: core.Names{"other"}}, map[string][]answer{
			"main":  {lasts(100*time.Millisecond, until(paid, fails(core.QuotaExceeded, never), well))},
			"other": {fails(core.QuotaExceeded, never, time.Hour)}, // which asks to be left alone for longer
		})
		if ended := b.crowd(t, 1, time.Second); ended[core.QuotaExceeded] != 1 {
			t.Fatalf("%v", ended)
		}
		for range 5 {
			if ended := b.crowd(t, 10, time.Second); ended[core.QuotaExceeded] != 10 {
				t.Errorf("while it is left alone: %v", ended)
			}
		}
		if n := b.calls("main"); n != 1 {
			t.Errorf("%d calls while it is left alone", n)
		}
		time.Sleep(10 * time.Second) // one tries too early
		if ended := b.crowd(t, 10, time.Second); ended[core.QuotaExceeded] != 10 || b.calls("main") != 2 {
			t.Errorf("at the first try: %v, %d calls", ended, b.calls("main"))
		}
		time.Sleep(20 * time.Second)
		if ended := b.crowd(t, 10, time.Second); ended[""] != 10 {
			t.Errorf("once it is paid: %v", ended)
		}
	})
}

func TestAnAccountThatIsTheOnlyOneIsAskedForEveryText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInn(t, 100, Config{Use: core.Names{"main"}}, map[string][]answer{"main": {fails(core.QuotaExceeded, never), well}})
		if ended := b.crowd(t, 1, time.Second); ended[core.QuotaExceeded] != 1 {
			t.Fatalf("%v", ended)
		}
		if ended := b.crowd(t, 10, time.Second); ended[""] != 10 {
			t.Errorf("after one without quota: %v", ended)
		}
	})
}

// 5 in 100 texts are refused by moderation, and there is nobody else: those fail, no
// other does, and nobody concludes that the provider is broken.
func TestModeratedTextsFailAloneAndLeaveTheBreakerClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInn(t, 6, Config{Use: core.Names{"main"}, Retries: 1, Breaker: defaults().Breaker}, map[string][]answer{"main": {
			lasts(10*time.Millisecond, func(ctx context.Context, req *core.Request) (*core.Result, error) {
				var n int
				fmt.Sscanf(req.Text, "text %d", &n)
				if n%20 == 0 || n > 990 { // one in twenty, and a row at the end
					return fails(core.ProviderRefused, never)(ctx, req)
				}
				return well(ctx, req)
			}),
		}})
		ended := b.crowd(t, 1000, time.Minute)
		if ended[""] != 941 || ended[core.ProviderRefused] != 59 || len(ended) != 2 {
			t.Errorf("ended as %v", ended)
		}
		if n := b.calls("main"); n != 1000 {
			t.Errorf("%d calls", n)
		}
		opened := 0.0
		b.stage.Measure(func(m core.Measure) {
			if m.Name == "provider_breaker_opened_total" {
				opened += m.Value
			}
		})
		if opened != 0 {
			t.Error("the breaker opened")
		}
	})
}

func TestWhoIsSilentForTooLongLeavesTheCallToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const s = time.Second
		speaks := func(silent, whole time.Duration) answer {
			return func(ctx context.Context, req *core.Request) (*core.Result, error) {
				time.Sleep(silent)
				if req.OnDelta != nil {
					if err := req.OnDelta("ho"); err != nil {
						return nil, err
					}
				}
				return lasts(whole-silent, well)(ctx, req)
			}
		}
		for name, c := range map[string]struct {
			cfg    Config
			main   answer
			stream bool
			want   string
			took   time.Duration
		}{
			"a fallback":                   {Config{Use: core.Names{"main"}, Fallback: []string{"spare"}}, hangs(time.Hour), false, "spare", 7 * s},
			"another of the list":          {Config{Use: core.Names{"main", "spare"}}, hangs(time.Hour), false, "spare", 7 * s},
			"nobody, so it is waited for":  {Config{Use: core.Names{"main"}}, lasts(12*s, well), false, "main", 12 * s},
			"who has begun to speak stays": {Config{Use: core.Names{"main"}, Fallback: []string{"spare"}}, speaks(6*s, 15*s), true, "main", 15 * s},
			"who streams and is silent":    {Config{Use: core.Names{"main"}, Fallback: []string{"spare"}}, lasts(9*s, well), true, "spare", 7 * s},
		} {
			c.cfg.First = 7 * s
			b := newInn(t, 9, c.cfg, map[string][]answer{"main": {c.main}, "spare": {well}})
			req := core.Request{}
			if c.stream {
				req.OnDelta = func(string) error { return nil }
			}
			began := time.Now()
			res, err := b.ask(ends(t, 20*s), req)
			if err != nil || res.Provider != c.want || time.Since(began) != c.took {
				t.Errorf("%s: %+v %v after %v, want %s after %v", name, res, err, time.Since(began), c.want, c.took)
			}
		}
	})
}
