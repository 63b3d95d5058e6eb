package ratelimit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/ledger"
	"github.com/dragoman-mt/dragoman/core/line"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func guard(s *Stage) []core.Guard { return []core.Guard{{Name: "ratelimit", Gate: s}} }

var short = &core.Request{Text: "Good morning."} // 120 + 4 + 32 = 156 tokens

func rpm(limit, remaining int, reset time.Duration) core.Outcome {
	return core.Outcome{Limits: core.Limits{Requests: core.Limit{Known: true, Limit: limit, Remaining: remaining, Reset: reset}}}
}

func refusal(after time.Duration) core.Outcome {
	return core.Outcome{Err: &core.Error{Kind: core.RateLimited, RetryAfter: after}}
}

// starts makes as many calls as the gate allows for d, each of the given length
// and end, and returns when they started.
func starts(s *Stage, d, call time.Duration, end func() core.Outcome) (at []time.Duration) {
	began := time.Now()
	var wg sync.WaitGroup
	for now := began; now.Sub(began) < d; now = time.Now() {
		ok, wait := s.Take(short, now)
		if !ok {
			if wait == 0 {
				wait = time.Millisecond // until the next Give
			}
			time.Sleep(wait)
			continue
		}
		at = append(at, now.Sub(began))
		wg.Go(func() {
			time.Sleep(call)
			o := end()
			o.At = time.Now()
			s.Give(short, o)
		})
	}
	wg.Wait()
	return at
}

func good() core.Outcome { return core.Outcome{} }

// most returns the most starts in any closed window of 60 s.
func most(at []time.Duration) (n int) {
	from := 0
	for i := range at {
		for at[i]-at[from] > time.Minute {
			from++
		}
		n = max(n, i-from+1)
	}
	return n
}

func TestNoMinuteSeesMoreThanTheLimit(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 60, 100, 4500} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := starts(New(Config{RequestsPerMinute: limit}), 5*time.Minute, 300*time.Millisecond, good)
				if n := most(at); n > limit {
					t.Errorf("%d starts in 60 s, the limit is %d", n, limit)
				}
				// And nearly all of it can be used.
				if want := limit * 5 * 95 / 100; len(at) < want {
					t.Errorf("%d starts in 5 minutes, want at least %d", len(at), want)
				}
			})
		})
	}
}

// The window holds for random traffic, while the limit changes either way and
// calls are left unused.
func TestNoMinuteSeesMoreThanTheLimitWhateverHappens(t *testing.T) {
	property.Check(t, func(rt *rapid.T) {
		limits := rapid.SliceOfN(rapid.IntRange(1, 300), 1, 4).Draw(rt, "limits")
		seed := rapid.Uint64().Draw(rt, "seed")
		r := rand.New(rand.NewPCG(seed, seed))
		top := 0
		for _, l := range limits {
			top = max(top, l)
		}
		now := time.Now()
		s := New(Config{RequestsPerMinute: limits[0]})
		type end struct {
			at     time.Time
			unused bool
		}
		var running []end
		var at []time.Duration // all starts since the limit was set last
		began := now
		change := func(limit int) {
			s.mu.Lock()
			s.config.RequestsPerMinute = limit
			s.current.limit(s.config, now)
			s.mu.Unlock()
		}
		for i, limit := range limits {
			change(limit)
			before := len(at)
			for until := now.Add(3 * time.Minute); now.Before(until); {
				now = now.Add(time.Duration(r.IntN(400)) * time.Millisecond)
				for j := 0; j < len(running); j++ {
					if e := running[j]; !e.at.After(now) {
						s.Give(short, core.Outcome{Unused: e.unused, At: e.at})
						running = append(running[:j], running[j+1:]...)
						j--
					}
				}
				for range r.IntN(8) {
					if ok, _ := s.Take(short, now); !ok {
						break
					}
					if r.IntN(10) == 0 {
						running = append(running, end{now.Add(time.Duration(r.IntN(3000)) * time.Millisecond), true})
						continue
					}
					at = append(at, now.Sub(began))
					running = append(running, end{now.Add(time.Duration(r.IntN(3000)) * time.Millisecond), false})
				}
			}
			// Windows that end under this limit and began under it, or that
			// began under another but saw a start under this one.
			for j := before; j < len(at); j++ {
				n := 0
				for k := j; k >= 0 && at[j]-at[k] <= time.Minute; k-- {
					n++
				}
				if n > limit {
					rt.Fatalf("start %d, under limit %d (of %v, at %d): %d in 60 s", j, limit, limits, i, n)
				}
			}
		}
		if len(at) == 0 {
			rt.Fatal("nothing ever started")
		}
	})
}

func TestUnusedGoesBackAsIfItHadNotBeenTaken(t *testing.T) {
	now := time.Now()
	s := New(Config{RequestsPerMinute: 60, TokensPerMinute: 10000})
	before := [2]bucket{s.current.requests, s.current.tokens}
	before[0].refill(before[0].burst, now)
	before[1].refill(before[1].burst, now)
	for range 100 {
		if ok, wait := s.Take(short, now); !ok {
			t.Fatalf("to wait %v after it all went back", wait)
		}
		s.Give(short, core.Outcome{Unused: true, At: now})
	}
	s.current.requests.ended, s.current.tokens.ended = ledger.Ledger{}, ledger.Ledger{}
	if s.current.requests != before[0] || s.current.tokens != before[1] {
		t.Errorf("requests %+v and tokens %+v are left, want %+v", s.current.requests, s.current.tokens, before)
	}
}

// A server is an upstream that limits requests a minute in one of three ways.
type server struct {
	limit  int
	policy string
	at     []time.Time
	level  float64
	last   time.Time
}

func (s *server) call(now time.Time) core.Outcome {
	var left int
	var reset, retry time.Duration
	switch s.policy {
	case "bucket":
		if s.last.IsZero() {
			s.level = float64(s.limit)
		} else {
			s.level = min(float64(s.limit), s.level+now.Sub(s.last).Seconds()*float64(s.limit)/60)
		}
		s.last = now
		if s.level < 1 {
			left, retry = -1, time.Duration((1-s.level)*60/float64(s.limit)*1e9)
		} else {
			s.level--
			left = int(s.level)
		}
		reset = time.Duration((float64(s.limit) - s.level) * 60 / float64(s.limit) * 1e9)
	case "fixed window":
		if now.Sub(s.last) >= time.Minute {
			s.last, s.level = now, 0
		}
		s.level++
		left, reset = s.limit-int(s.level), s.last.Add(time.Minute).Sub(now)
		retry = reset
	case "sliding window":
		for len(s.at) > 0 && now.Sub(s.at[0]) > time.Minute {
			s.at = s.at[1:]
		}
		if left = s.limit - len(s.at) - 1; left >= 0 {
			s.at = append(s.at, now)
		}
		reset = s.at[len(s.at)-1].Add(time.Minute).Sub(now)
		retry = s.at[0].Add(time.Minute).Sub(now)
	}
	o := rpm(s.limit, max(left, 0), reset)
	if left < 0 {
		o.Err = &core.Error{Kind: core.RateLimited, RetryAfter: retry}
	}
	return o
}

// 4,500 are configured, the server allows 100: after its first answer it never
// has to say 429.
func TestLearnedLimitAvoidsEvery429(t *testing.T) {
	for _, policy := range []string{"bucket", "fixed window", "sliding window"} {
		for _, foreign := range []int{0, 30} {
			t.Run(fmt.Sprint(policy, " with ", foreign, " foreign calls a minute"), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := rand.New(rand.NewPCG(1, 2))
					var mu sync.Mutex
					up := &server{limit: 100, policy: policy}
					s := New(Defaults())
					l := line.New(100)
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
					defer cancel()
					refused, calls := 0, 0
					var wg sync.WaitGroup
					for range 6 {
						wg.Go(func() {
							for {
								turn, err := l.Turn(ctx, short, guard(s), line.How{})
								if err != nil {
									return
								}
								mu.Lock()
								there, back := time.Duration(r.IntN(50))*time.Millisecond, time.Duration(r.IntN(300))*time.Millisecond
								mu.Unlock()
								time.Sleep(there)
								mu.Lock()
								o := up.call(time.Now())
								calls++
								if o.Err != nil {
									refused++
								}
								mu.Unlock()
								time.Sleep(back)
								turn.Give(o)
							}
						})
					}
					if foreign > 0 {
						wg.Go(func() {
							for ctx.Err() == nil {
								time.Sleep(time.Minute / time.Duration(foreign))
								mu.Lock()
								up.call(time.Now())
								mu.Unlock()
							}
						})
					}
					wg.Wait()
					// What others take cannot be foreseen, only noticed.
					if foreign == 0 && refused > 0 || refused > calls/30 {
						t.Errorf("%d of %d calls were refused", refused, calls)
					}
					if want := (100 - foreign) * 10 * 85 / 100; calls < want {
						t.Errorf("%d calls in 10 minutes, want at least %d", calls, want)
					}
				})
			})
		}
	}
}

// No token limit is configured, the server allows 20,000 a minute and charges
// what a call might cost, whatever it did cost: it never has to say 429.
func TestLearnedTokensAvoidEvery429(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		const limit = 20000
		level, last := float64(limit), time.Now()
		s, l := New(Defaults()), line.New(100)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		refused, charged, longs := 0, 0, 0
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				for {
					mu.Lock()
					req := &core.Request{Text: strings.Repeat("x", 20+r.IntN(300)), Client: fmt.Sprint(r.IntN(3))}
					long := r.IntN(20) == 0
					if long {
						req.Text = strings.Repeat("x", 6000)
					}
					mu.Unlock()
					turn, err := l.Turn(ctx, req, guard(s), line.How{})
					if err != nil {
						return
					}
					mu.Lock()
					level = min(limit, level+time.Since(last).Seconds()*limit/60)
					last = time.Now()
					var o core.Outcome
					if n := int(ledger.Estimate(req)); float64(n) > level {
						refused++
						o.Err = &core.Error{Kind: core.RateLimited, RetryAfter: time.Duration((float64(n) - level) * 60 / limit * 1e9)}
					} else {
						level -= float64(n)
						charged += n
						o.Usage = core.Usage{PromptTokens: 60 + len(req.Text)/4, CompletionTokens: len(req.Text) / 4}
						if long {
							longs++
						}
					}
					o.Limits.Tokens = core.Limit{
						Known: true, Limit: limit, Remaining: int(level), Reset: time.Duration((limit - level) * 60 / limit * 1e9),
					}
					mu.Unlock()
					time.Sleep(300 * time.Millisecond)
					turn.Give(o)
				}
			})
		}
		wg.Wait()
		if refused > 0 {
			t.Errorf("%d calls were refused", refused)
		}
		if charged < 10*limit*70/100 || longs < 5 {
			t.Errorf("%d tokens in 10 minutes and %d long texts, want most of %d and several", charged, longs, 10*limit)
		}
	})
}

func TestTheirLowerLimitIsForgottenWhenTheySayMore(t *testing.T) {
	limit := func(s *Stage) float64 { return s.current.requests.limit }
	s := New(Config{RequestsPerMinute: 1000})
	for _, step := range []struct {
		theirs core.Limit
		want   float64
	}{
		{core.Limit{Known: true, Limit: 100, Remaining: 99, Reset: time.Second}, 100},
		{core.Limit{}, 100}, // said nothing
		{core.Limit{Known: true, Limit: -1, Remaining: -1}, 100},   // unknown
		{core.Limit{Known: true, Limit: 500, Remaining: 400}, 500}, // raised
		{core.Limit{Known: true, Limit: 5000, Remaining: 4999}, 1000},
	} {
		s.Take(short, time.Now())
		s.Give(short, core.Outcome{Limits: core.Limits{Requests: step.theirs}})
		if got := limit(s); got != step.want {
			t.Errorf("after %+v the limit is %v, want %v", step.theirs, got, step.want)
		}
	}
}

func TestUnknownRemainderIsNotNone(t *testing.T) {
	for _, l := range []core.Limit{
		{Known: true, Limit: 1000},
		{Known: true, Limit: 1000, Remaining: -1, Reset: -1},
		{Known: true, Limit: -1, Remaining: -1, Reset: time.Minute},
		{Known: true},
	} {
		s, now := New(Config{RequestsPerMinute: 1000}), time.Now()
		s.Take(short, now)
		s.Give(short, core.Outcome{At: now, Limits: core.Limits{Requests: l, Tokens: l}})
		if ok, wait := s.Take(short, now); !ok {
			t.Errorf("%+v: to wait %v", l, wait)
		}
	}
}

func TestOne429PausesAllThenComesAGentleRamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{RequestsPerMinute: 4500})
		for range 6 {
			s.Take(short, time.Now())
		}
		s.Give(short, refusal(2*time.Second))
		for range 4 { // the others that were under way
			s.Give(short, refusal(1900*time.Millisecond))
		}
		s.Give(short, good())
		for _, after := range []time.Duration{0, time.Second, 1999 * time.Millisecond} {
			if ok, wait := s.Take(short, time.Now().Add(after)); ok || wait != 2*time.Second-after {
				t.Errorf("after %v: %v, %v; want to wait for the rest of 2s", after, ok, wait)
			}
		}
		at := starts(s, 12*time.Second, 300*time.Millisecond, good)
		in := func(from, to time.Duration) (n int) {
			for _, d := range at {
				if d >= from && d < to {
					n++
				}
			}
			return n
		}
		if at[0] != 2*time.Second {
			t.Errorf("the first start is at %v, want 2s", at[0])
		}
		first, second, tenth := in(2*time.Second, 2100*time.Millisecond), in(2*time.Second, 3*time.Second), in(11*time.Second, 12*time.Second)
		if first > 2 || second > 45 || tenth < 70 {
			t.Errorf("%d starts in the first 100 ms, %d in the first second, %d in the tenth", first, second, tenth)
		}
	})
}

func TestPauseGrowsWhenTheUpstreamNamesNone(t *testing.T) {
	s, now := New(Defaults()), time.Now()
	for i, want := range []time.Duration{1, 2, 4, 4, 4} {
		if ok, wait := s.Take(short, now); !ok {
			t.Fatalf("429 no. %d: to wait %v before it", i, wait)
		}
		o := refusal(0)
		o.At = now
		s.Give(short, o)
		if _, wait := s.Take(short, now); wait != want*time.Second {
			t.Errorf("429 no. %d: to wait %v, want %v", i, wait, want*time.Second)
		}
		now = now.Add(want * time.Second)
	}
	s.Take(short, now)
	s.Give(short, core.Outcome{At: now}) // a good answer
	now = now.Add(time.Minute)
	s.Take(short, now)
	o := refusal(0)
	o.At = now
	s.Give(short, o)
	if _, wait := s.Take(short, now); wait != time.Second {
		t.Errorf("after a good answer: to wait %v, want 1s", wait)
	}
}

// TestARefusedTrialDoesNotLowerTheRateAgain: an upstream that takes nothing for a while has
// one call after each pause, which says nothing of how many it would take.
func TestARefusedTrialDoesNotLowerTheRateAgain(t *testing.T) {
	s, now := New(Config{RequestsPerMinute: 6000}), time.Now()
	call := func(o core.Outcome) {
		t.Helper()
		ok, wait := s.Take(short, now)
		if now = now.Add(wait); !ok {
			ok, _ = s.Take(short, now)
		}
		if !ok {
			t.Fatal("no call may start after its pause")
		}
		o.At = now
		s.Give(short, o)
	}
	for range 6 {
		call(refusal(0))
	}
	if got := s.current.requests.scale; got != slowed {
		t.Errorf("after one pause after the other the rate is %v of what it was, want %v", got, slowed)
	}
	call(good())
	call(refusal(0))
	if got := s.current.requests.scale; got > slowed*slowed*regained {
		t.Errorf("after a good answer and another 429 it is %v", got)
	}
}

func TestA429FromBeforeThePauseDoesNotLengthenIt(t *testing.T) {
	s, now := New(Defaults()), time.Now()
	for range 3 {
		s.Take(short, now)
	}
	for after := range 3 {
		o := refusal(0)
		o.At = now.Add(time.Duration(after) * 100 * time.Millisecond)
		s.Give(short, o)
	}
	if _, wait := s.Take(short, now); wait != firstPause {
		t.Errorf("to wait %v, want %v", wait, firstPause)
	}
}

// Nothing is left. A server that fills evenly has one more soon; one that
// counts in windows has none before its reset.
func TestNothingLeftWaitsForWhatTheServerMeansByReset(t *testing.T) {
	for _, tc := range []struct {
		reset, least, most time.Duration
	}{
		{time.Minute, 500 * time.Millisecond, 2 * time.Second},
		{20 * time.Second, 20 * time.Second, 20 * time.Second},
		{time.Hour, time.Minute, time.Minute},
	} {
		s, now := New(Defaults()), time.Now()
		s.Take(short, now)
		o := rpm(100, 0, tc.reset)
		o.At = now
		s.Give(short, o)
		if ok, wait := s.Take(short, now); ok || wait < tc.least || wait > tc.most {
			t.Errorf("reset in %v: %v, %v; want to wait %v to %v", tc.reset, ok, wait, tc.least, tc.most)
		}
	}
}

func TestNonsensicalRetryAfterDoesNotShutTheGateForGood(t *testing.T) {
	s, now := New(Defaults()), time.Now()
	s.Take(short, now)
	o := refusal(1e6 * time.Hour)
	o.At = now
	s.Give(short, o)
	if _, wait := s.Take(short, now); wait != longestPause {
		t.Errorf("to wait %v, want %v", wait, longestPause)
	}
}

func TestQuotaExceededIsNoPause(t *testing.T) {
	s, now := New(Defaults()), time.Now()
	s.Take(short, now)
	s.Give(short, core.Outcome{At: now, Err: &core.Error{Kind: core.QuotaExceeded, RetryAfter: time.Hour}})
	if ok, wait := s.Take(short, now); !ok {
		t.Errorf("to wait %v", wait)
	}
}

func TestTokensAreEstimatedAndSettled(t *testing.T) {
	for _, tc := range []struct {
		req  core.Request
		want int64
	}{
		{core.Request{Text: "Hi"}, 120 + 0 + 32},
		{core.Request{Text: strings.Repeat("ä", 300)}, 120 + 100 + 316},
		{core.Request{Text: strings.Repeat("x", 9000)}, 120 + 3000 + 4096},
		{core.Request{Text: "Hi", Context: []core.Pair{{Source: "abcdef", Target: "ghi"}}}, 120 + 0 + 32 + 3},
	} {
		if got := ledger.Estimate(&tc.req); got != tc.want {
			t.Errorf("%d code points: %d tokens, want %d", len([]rune(tc.req.Text)), got, tc.want)
		}
	}

	left := func(s *Stage, now time.Time) int { return int(s.current.tokens.left(now)) }
	s, now := New(Config{RequestsPerMinute: 6000, TokensPerMinute: 10000}), time.Now()
	s.Take(short, now)
	if got := left(s, now); got != 10000-156 {
		t.Errorf("%d tokens left while it runs, want %d", got, 10000-156)
	}
	s.Give(short, core.Outcome{At: now, Usage: core.Usage{PromptTokens: 60, CompletionTokens: 5}})
	if got := left(s, now); got != 10000-65 {
		t.Errorf("%d tokens left, want %d", got, 10000-65)
	}
	s.Take(short, now)
	s.Give(short, core.Outcome{At: now}) // the upstream did not say
	if got := left(s, now); got != 10000-65-156 {
		t.Errorf("%d tokens left, want %d", got, 10000-65-156)
	}
	// One that cost far more than thought leaves a debt.
	s.Take(short, now)
	s.Give(short, core.Outcome{At: now, Usage: core.Usage{PromptTokens: 2000}})
	if ok, wait := s.Take(short, now); ok || wait < 5*time.Second || wait > 20*time.Second {
		t.Errorf("%v, %v; want to wait until about 1,500 tokens are back", ok, wait)
	}
}

func TestNoMinuteUsesMoreTokensThanTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{RequestsPerMinute: 6000, TokensPerMinute: 5000})
		at := starts(s, 5*time.Minute, 300*time.Millisecond, good)
		if n := most(at) * 156; n > 5000 {
			t.Errorf("%d tokens in 60 s, the limit is 5000", n)
		}
		if n := len(at) * 156; n < 5*5000*85/100 {
			t.Errorf("%d tokens in 5 minutes, want most of %d", n, 5*5000)
		}
	})
}

// A text that costs more than a burst, even more than a minute's tokens, is not
// shut out.
func TestLongTextGetsThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{RequestsPerMinute: 6000, TokensPerMinute: 2000})
		long := &core.Request{Text: strings.Repeat("x", 9000)}
		for range 2 {
			began := time.Now()
			for {
				ok, wait := s.Take(long, time.Now())
				if ok {
					break
				}
				if time.Since(began) > 10*time.Minute {
					t.Fatal("it waits for more than ten minutes")
				}
				time.Sleep(wait)
			}
			s.Give(long, good())
		}
	})
}

func TestFinalIsNextToStartOverWaitingBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := New(Config{RequestsPerMinute: 60}), line.New(1000)
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var order []string
		var wg sync.WaitGroup
		ask := func(id string, lane core.Lane) {
			wg.Go(func() {
				turn, err := l.Turn(ctx, &core.Request{Text: id, Lane: lane}, guard(s), line.How{})
				if err != nil {
					return
				}
				mu.Lock()
				order = append(order, id)
				mu.Unlock()
				time.Sleep(300 * time.Millisecond)
				turn.Give(core.Outcome{})
			})
		}
		for range 101 {
			ask("bulk", core.LaneBulk)
		}
		time.Sleep(10*time.Second + 500*time.Millisecond)
		mu.Lock()
		before := len(order)
		mu.Unlock()
		ask("final", core.LaneFinal)
		time.Sleep(1100 * time.Millisecond) // one start's worth
		mu.Lock()
		if len(order) <= before || order[before] != "final" {
			t.Errorf("after the final came, %v started", order[before:])
		}
		mu.Unlock()
		cancel()
		wg.Wait()
	})
}

func TestPlanRaisesTheLimitOfThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := New(Config{RequestsPerMinute: 1}), line.New(10)
		began := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				turn, err := l.Turn(t.Context(), short, guard(s), line.How{})
				if err != nil {
					t.Error(err)
					return
				}
				turn.Give(core.Outcome{})
			})
		}
		time.Sleep(time.Second)
		apply, err := s.Plan(&Config{RequestsPerMinute: 6000})
		if err != nil {
			t.Fatal(err)
		}
		apply()
		wg.Wait()
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("they started after %v", d)
		}
		if _, err := s.Plan("fast"); err == nil {
			t.Error("a configuration of another type was taken")
		}
	})
}

func TestKindBuildsAGate(t *testing.T) {
	k := Kind()
	built, err := k.Build(core.Env{Name: "ratelimit"}, k.Config())
	if err != nil {
		t.Fatal(err)
	}
	if s := built.(*Stage); s.current.requests.limit != 4500 || s.current.tokens.limit != 0 {
		t.Errorf("limits %v and %v, want 4500 and none", s.current.requests.limit, s.current.tokens.limit)
	}
	if f := built.(core.Fingerprinter).Fingerprint(); f != "" {
		t.Errorf("fingerprint %q: a limit changes no answer", f)
	}
}

func TestMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{RequestsPerMinute: 100})
		s.Take(short, time.Now())
		s.Give(short, refusal(10*time.Second))
		time.Sleep(4 * time.Second)
		got := map[string]float64{}
		s.Measure(func(m core.Measure) { got[fmt.Sprint(m.Name, m.Labels)] = m.Value })
		want := map[string]float64{
			"ratelimit_limit[unit requests]": 100, "ratelimit_left[unit requests]": 99,
			"ratelimit_paused_seconds_total[]": 4, "ratelimit_refusals_total[]": 1,
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("measures %v, want %v", got, want)
		}
	})
}

func BenchmarkTakeAndGive(b *testing.B) {
	s := New(Config{RequestsPerMinute: 1e7, TokensPerMinute: 1e10})
	req := &core.Request{Text: "So what we want to do today is simple, and it is quick to say."}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Millisecond)
		if ok, _ := s.Take(req, now); !ok {
			b.Fatal("refused")
		}
		s.Give(req, core.Outcome{At: now, Usage: core.Usage{PromptTokens: 60, CompletionTokens: 20}})
	}
}
