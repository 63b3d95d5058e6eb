package ratelimit

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/stages/provider"
	"github.com/dragoman-mt/dragoman/stages/queue"
)

// linked is a chain of this gate, a queue and providers, each with an account of
// its own.
func linked(t *testing.T, s *Stage, q *queue.Stage, config provider.Config, answers map[string]core.TranslatorFunc) core.Translator {
	t.Helper()
	config.Hedge.After = "never"
	p := provider.New(core.Env{Name: "provider"}, config)
	l, err := chain.Link([]chain.Place{{Name: "ratelimit", Item: s}, {Name: "queue", Item: q}, {Name: "provider", Item: p}},
		func(name string) (core.Provider, bool) {
			return core.Provider{Name: name, Translator: answers[name], Fingerprint: name, Account: "account of " + name}, true
		}, &chain.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// asks asks within so much time and returns who answered.
func asks(t *testing.T, l core.Translator, within time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	res, err := l.Translate(ctx, &core.Request{ID: "x", Text: "hello", Target: "es", Session: "s", Trace: core.NewTrace(nil)})
	if err != nil {
		return "", err
	}
	return res.Text, nil
}

func says(name string) core.TranslatorFunc {
	return func(context.Context, *core.Request) (*core.Result, error) { return &core.Result{Text: name}, nil }
}

// limited answers with a 429, and says that next to nothing may be asked for.
func limited(name string, pause time.Duration) core.TranslatorFunc {
	return func(context.Context, *core.Request) (*core.Result, error) {
		return nil, &core.Error{
			Kind: core.RateLimited, Stage: name, RetryAfter: pause, Retryable: true,
			Limits: &core.Limits{Requests: core.Limit{Known: true, Limit: 3, Remaining: 0, Reset: time.Minute}},
		}
	}
}

// Nothing that one provider said holds the next one back: not its pause, not its
// limit, and not those that wait for it still.
func TestWhatOneAccountSaidHoldsNoOtherBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, q := New(Defaults()), queue.New(queue.Defaults())
		var calls atomic.Int64 // at the end of the pause all five call
		refuses := limited("a", time.Minute)
		answers := map[string]core.TranslatorFunc{"b": says("b"), "a": func(ctx context.Context, req *core.Request) (*core.Result, error) {
			calls.Add(1)
			return refuses(ctx, req)
		}}
		before, after := linked(t, s, q, provider.Config{Use: core.Names{"a"}}, answers), linked(t, s, q, provider.Config{Use: core.Names{"b"}}, answers)
		if _, err := asks(t, before, 4500*time.Millisecond); core.KindOf(err) != core.RateLimited {
			t.Fatalf("a: %v", err)
		}
		waits := make(chan error)
		for range 5 {
			go func() { // in a's pause
				_, err := asks(t, before, 90*time.Second)
				waits <- err
			}()
		}
		synctest.Wait()
		began := time.Now()
		for i := range 20 {
			if by, err := asks(t, after, time.Second); by != "b" {
				t.Errorf("text %d: %q, %v", i, by, err)
			}
		}
		if d := time.Since(began); d > time.Second { // as the interval and the limit pace them
			t.Errorf("20 texts of b took %v", d)
		}
		if _, err := asks(t, before, 4500*time.Millisecond); core.KindOf(err) != core.RateLimited {
			t.Errorf("a is not paused any more: %v", err)
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("a was called %d times before its pause was over", n)
		}
		for range 5 {
			if err := <-waits; core.KindOf(err) != core.RateLimited {
				t.Errorf("who waited for a: %v", err)
			}
		}
	})
}

// A fallback's 429 pauses the fallback; the provider in use answers on.
func TestAFallbacksLimitsAreItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, q := New(Config{RequestsPerMinute: 60}), queue.New(queue.Defaults())
		down, third := true, 0
		l := linked(t, s, q, provider.Config{Use: core.Names{"a"}, Fallback: []string{"b", "c"}}, map[string]core.TranslatorFunc{
			"a": func(context.Context, *core.Request) (*core.Result, error) {
				if down {
					return nil, &core.Error{Kind: core.ProviderFailed, Stage: "a"}
				}
				return &core.Result{Text: "a"}, nil
			},
			"b": limited("b", time.Minute),
			"c": func(context.Context, *core.Request) (*core.Result, error) {
				third++
				return &core.Result{Text: "c"}, nil
			},
		})
		for i := range 3 {
			if by, err := asks(t, l, 5*time.Second); by != "c" {
				t.Errorf("text %d: %q, %v; want c's, since b is limited", i, by, err)
			}
		}
		b, c := s.accounts["account of b"], s.accounts["account of c"]
		if !b.until.After(time.Now()) || b.theirs.RequestsPerMinute != 3 {
			t.Errorf("b's pause ends %v, its limit is %d", b.until, b.theirs.RequestsPerMinute)
		}
		if a := s.current; a.until.After(time.Now()) || a.theirs != (Config{}) || a.requests.held != 0 || a.requests.ended.Sum(time.Now()) != 3 {
			t.Errorf("a: paused until %v, limits %+v, %d held, %d ended; want nothing of b's", a.until, a.theirs, a.requests.held, a.requests.ended.Sum(time.Now()))
		}
		if c.requests.limit != 0 || c.requests.ended.Sum(time.Now()) != 3 || c.requests.held != 0 || third != 3 {
			t.Errorf("c: limit %v, %d ended, %d calls; what is configured is not for it", c.requests.limit, c.requests.ended.Sum(time.Now()), third)
		}
		down = false
		if by, err := asks(t, l, 5*time.Second); by != "a" {
			t.Errorf("%q, %v; want a's", by, err)
		}
	})
}

// The turn that was held for an account whose provider is not called is given
// back unused.
func TestAnAccountThatIsNotCalledIsNotCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, q := New(Config{RequestsPerMinute: 600}), queue.New(queue.Config{MaxConcurrent: 2, MaxWaiting: 100})
		l := linked(t, s, q, provider.Config{Use: core.Names{"a"}, Fallback: []string{"b"}, Breaker: provider.Breaker{Failures: 1, OpenFor: time.Hour}},
			map[string]core.TranslatorFunc{
				"a": func(context.Context, *core.Request) (*core.Result, error) {
					return nil, &core.Error{Kind: core.ProviderFailed, Stage: "a"}
				},
				"b": says("b"),
			})
		for range 5 {
			if by, err := asks(t, l, 5*time.Second); by != "b" {
				t.Fatalf("%q, %v", by, err)
			}
		}
		a, b := s.current, s.accounts["account of b"]
		if a.requests.ended.Sum(time.Now()) != 1 || a.requests.held != 0 || b.requests.ended.Sum(time.Now()) != 5 || b.requests.held != 0 {
			t.Errorf("a has %d ended and %d held, b %d and %d; want 1, 0, 5 and 0", a.requests.ended.Sum(time.Now()), a.requests.held, b.requests.ended.Sum(time.Now()), b.requests.held)
		}
		if q.Holds() != "" {
			t.Error(q.Holds())
		}
	})
}

// Another key begins with a fresh ledger, and that of the old one is kept for
// requests that still go there. There are never many.
func TestAccountsAreKeptApartAndForgotten(t *testing.T) {
	s := New(Config{RequestsPerMinute: 1})
	now := time.Now()
	req := func(account string) *core.Request { return &core.Request{Account: account, Text: "x"} }
	old, fresh := req("old key"), req("new key")
	for _, r := range []*core.Request{old, fresh} {
		if ok, _ := s.Take(r, now); !ok {
			t.Errorf("the first call of the %s is not let through", r.Account)
		}
	}
	for _, r := range []*core.Request{old, fresh} {
		if ok, _ := s.Take(r, now); ok {
			t.Errorf("a second call of the %s is let through", r.Account)
		}
	}
	for i := range 200 {
		r := req(fmt.Sprint(i))
		r.Fallback = i%2 == 0
		if ok, _ := s.Take(r, now); ok {
			s.Give(r, core.Outcome{At: now})
		}
	}
	if n := len(s.accounts); n > accountsKept+4 {
		t.Errorf("%d accounts are kept", n)
	}
	s.Give(old, core.Outcome{At: now}) // was kept, for its call ran
	if ok, _ := s.Take(old, now.Add(30*time.Second)); ok {
		t.Error("the old key's ledger was forgotten")
	}
	s.Take(req("last"), now.Add(time.Hour))
	if n := len(s.accounts); n > 4 {
		t.Errorf("%d accounts are kept after an hour", n)
	}
}

// Whatever an upstream says that a call cost, or that its limits are, service is
// back within minutes.
func TestNonsenseOfAnUpstreamDoesNotStopService(t *testing.T) {
	limit := func(n, left int, reset time.Duration) core.Limits {
		l := core.Limit{Known: true, Limit: n, Remaining: left, Reset: reset}
		return core.Limits{Requests: l, Tokens: l}
	}
	for name, o := range map[string]core.Outcome{
		"a trillion tokens":      {Usage: core.Usage{PromptTokens: 1e12, CompletionTokens: 1e12}},
		"as many as can be said": {Usage: core.Usage{PromptTokens: math.MaxInt, CompletionTokens: math.MaxInt}},
		"fewer than none":        {Usage: core.Usage{PromptTokens: math.MinInt, CompletionTokens: -1}},
		"a limit of a trillion":  {Limits: limit(1e12, 1e12, time.Minute)},
		"the largest limit":      {Limits: limit(math.MaxInt, math.MaxInt, math.MaxInt64)},
		"no limit":               {Limits: limit(0, 0, 90*24*time.Hour)},
		"a limit below nothing":  {Limits: limit(-1, -1, -time.Hour)},
		"a reset in months":      {Limits: limit(1000, 0, 90*24*time.Hour)},
		"a pause of a year":      {Err: &core.Error{Kind: core.RateLimited, RetryAfter: 365 * 24 * time.Hour}},
		"a limit and its use":    {Limits: limit(1e12, 5, time.Hour), Usage: core.Usage{PromptTokens: 1e15}},
	} {
		for _, config := range []Config{{RequestsPerMinute: 4500, TokensPerMinute: 10_000_000}, {RequestsPerMinute: 60, TokensPerMinute: 1000}, {RequestsPerMinute: 4500}} {
			t.Run(fmt.Sprint(name, config), func(t *testing.T) {
				s := New(config)
				req := &core.Request{Text: "hello"}
				now := time.Now()
				for range 3 {
					if ok, _ := s.Take(req, now); ok {
						o.At = now
						s.Give(req, o)
					}
				}
				s.Measure(func(m core.Measure) {
					if m.Value < 0 || m.Value > 1e11 {
						t.Errorf("%s %v is %v", m.Name, m.Labels, m.Value)
					}
				})
				for waited := time.Duration(0); ; {
					ok, wait := s.Take(req, now.Add(waited))
					if ok {
						break
					}
					if waited += max(wait, time.Millisecond); waited > longestPause+2*time.Minute {
						t.Fatalf("the next call may start in %v", waited)
					}
				}
			})
		}
	}
}
