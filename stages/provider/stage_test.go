package provider

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/line"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A diary is what happened, in order.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) note(format string, a ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, fmt.Sprintf(format, a...))
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.entries, ", ")
}

// A fake is a provider that does what it is told: answers has one entry for
// each call, the last one holds for the rest.
type fake struct {
	name    string
	diary   *diary
	answers []answer
	mu      sync.Mutex
	calls   int
}

type answer func(ctx context.Context, req *core.Request) (*core.Result, error)

func (f *fake) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	f.mu.Lock()
	f.calls++
	a := f.answers[min(f.calls, len(f.answers))-1]
	f.mu.Unlock()
	f.diary.note("%s#%d", f.name, req.Attempt)
	res, err := a(ctx, req)
	if res != nil {
		res.Provider = f.name
	}
	return res, err
}

func well(context.Context, *core.Request) (*core.Result, error) {
	return &core.Result{Text: "hola", Usage: core.Usage{PromptTokens: 10, CompletionTokens: 2}}, nil
}

// fails returns an error of kind, retryable unless never is said.
func fails(kind core.ErrorKind, more ...any) answer {
	e := core.Error{Kind: kind, Stage: "fake", Retryable: true}
	for _, m := range more {
		switch m := m.(type) {
		case time.Duration:
			e.RetryAfter = m
		default:
			e.Retryable = false
		}
	}
	return func(context.Context, *core.Request) (*core.Result, error) { err := e; return nil, &err }
}

const never = "never"

// hangs answers when its request's time is over, or with an attempt's timeout.
func hangs(timeout time.Duration) answer {
	return func(ctx context.Context, _ *core.Request) (*core.Result, error) {
		select {
		case <-ctx.Done():
			return nil, core.ContextError(ctx, "fake")
		case <-time.After(timeout):
			return nil, &core.Error{Kind: core.DeadlineExceeded, Stage: "fake", Retryable: true}
		}
	}
}

// A gate counts, bounds and, when told so, pauses after a 429.
type gate struct {
	diary  *diary
	pauses bool
	mu     sync.Mutex
	slots  int
	held   int
	until  time.Time
	heard  []core.Outcome
}

func (g *gate) Take(_ *core.Request, now time.Time) (bool, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait := g.until.Sub(now); wait > 0 {
		return false, wait
	}
	if g.held >= g.slots {
		return false, 0
	}
	g.held++
	g.diary.note("take")
	return true, 0
}

func (g *gate) Give(_ *core.Request, o core.Outcome) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held--
	switch {
	case o.Unused:
		g.diary.note("unused")
	case o.Err != nil:
		g.diary.note("give %s", o.Err.Kind)
	default:
		g.diary.note("give ok")
	}
	g.heard = append(g.heard, o)
	if g.pauses && o.Err != nil && o.Err.Kind == core.RateLimited {
		g.until = o.At.Add(max(o.Err.RetryAfter, time.Second))
	}
}

func (g *gate) holds() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}

// A slots gate is a gate that owns the line.
type slots struct {
	gate
	line *line.Line
}

func (s *slots) Line() *line.Line { return s.line }

// A bench is a stage linked with fakes: main and its fallbacks, below a gate
// that may pause and one that owns the line.
type bench struct {
	diary diary
	stage *Stage
	limit gate
	queue slots
	fakes map[string]*fake
	top   core.Translator
}

func newBench(cfg Config, main []answer, fallbacks ...[]answer) *bench {
	b := &bench{fakes: map[string]*fake{}}
	var quiet diary
	b.limit = gate{diary: &quiet, pauses: true, slots: 1000}
	b.queue = slots{gate{diary: &b.diary, slots: 1000}, line.New(1000)}
	cfg.Use = core.Names{"main"}
	b.fakes["main"] = &fake{name: "main", diary: &b.diary, answers: main}
	for i, answers := range fallbacks {
		name := fmt.Sprintf("spare%d", i+1)
		cfg.Fallback = append(cfg.Fallback, name)
		b.fakes[name] = &fake{name: name, diary: &b.diary, answers: answers}
	}
	b.stage = New(core.Env{Name: "provider"}, cfg)
	b.link()
	return b
}

func (b *bench) provider(name string) (core.Provider, bool) {
	f, ok := b.fakes[name]
	return core.Provider{Name: name, Translator: f, Fingerprint: name}, ok
}

func (b *bench) link() {
	linked, err := chain.Link([]chain.Place{
		{Name: "ratelimit", Item: &b.limit}, {Name: "queue", Item: &b.queue}, {Name: "provider", Item: b.stage},
	}, b.provider, &chain.Watch{})
	if err != nil {
		panic(err)
	}
	b.top = linked
}

func (b *bench) ask(ctx context.Context) (*core.Result, *core.Error) {
	res, err := b.top.Translate(ctx, &core.Request{ID: "r", Text: "hello", Target: "es", Trace: core.NewTrace(nil)})
	if (res == nil) == (err == nil) {
		panic("not exactly one of result and error")
	}
	return res, core.AsError(err, "test")
}

// balanced fails when a gate has not got everything back.
func (b *bench) balanced(t interface{ Errorf(string, ...any) }) {
	if n, m := b.limit.holds(), b.queue.holds(); n != 0 || m != 0 {
		t.Errorf("the gates miss %d and %d turns", n, m)
	}
}

// within is a context that ends after d.
func ends(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// What is tried after which failure, and in which order turns are taken and
// given back.
func TestAttempts(t *testing.T) {
	const s = time.Second
	type list = []answer
	for _, c := range []struct {
		name      string
		retries   int
		main      list
		fallbacks []list
		want      string
		kind      core.ErrorKind
	}{
		{"a good answer", 1, list{well}, nil, "take, main#0, give ok", ""},
		{"a retry takes a turn of its own", 1, list{fails(core.ProviderFailed), well}, nil,
			"take, main#0, give provider_failed, take, main#1, give ok", ""},
		{"retries end", 2, list{fails(core.ProviderFailed)}, nil,
			"take, main#0, give provider_failed, take, main#1, give provider_failed, take, main#2, give provider_failed", core.ProviderFailed},
		{"no retries", 0, list{fails(core.ProviderFailed)}, nil, "take, main#0, give provider_failed", core.ProviderFailed},
		{"what no attempt can mend", 5, list{fails(core.ProviderFailed, never)}, nil, "take, main#0, give provider_failed", core.ProviderFailed},
		{"a rejected answer", 1, list{fails(core.BadAnswer), well}, nil, "take, main#0, give bad_answer, take, main#1, give ok", ""},
		{"rejected twice", 1, list{fails(core.BadAnswer)}, nil, "take, main#0, give bad_answer, take, main#1, give bad_answer", core.BadAnswer},
		{"a timeout", 1, list{hangs(s), well}, nil, "take, main#0, give deadline_exceeded, take, main#1, give ok", ""},
		{"a short 429", 1, list{fails(core.RateLimited, 2*s), well}, nil, "take, main#0, give rate_limited, take, main#1, give ok", ""},
		{"a 429 of unknown length", 1, list{fails(core.RateLimited), well}, nil, "take, main#0, give rate_limited, take, main#1, give ok", ""},
		{"a long 429", 1, list{fails(core.RateLimited, 20*s)}, nil, "take, main#0, give rate_limited", core.RateLimited},

		{"a fallback uses the turn that is held", 1, list{fails(core.ProviderFailed)}, []list{{well}},
			"take, main#0, give provider_failed, take, main#1, spare1#2, give provider_failed", ""},
		{"the first fallback that can", 0, list{fails(core.ProviderFailed)}, []list{{fails(core.Unavailable)}, {well}},
			"take, main#0, spare1#1, spare2#2, give provider_failed", ""},
		{"none can", 0, list{fails(core.QuotaExceeded, never)}, []list{{fails(core.Unavailable)}, {fails(core.BadAnswer)}},
			"take, main#0, spare1#1, spare2#2, give quota_exceeded", core.BadAnswer},
		{"no quota", 1, list{fails(core.QuotaExceeded, never)}, []list{{well}}, "take, main#0, spare1#1, give quota_exceeded", ""},
		{"a refusal", 1, list{fails(core.ProviderRefused, never)}, []list{{well}}, "take, main#0, spare1#1, give provider_refused", ""},
		{"a hang leaves its time to another", 1, list{hangs(s)}, []list{{well}}, "take, main#0, spare1#1, give deadline_exceeded", ""},
		{"who is away leaves the time to another", 1, list{fails(core.Unavailable, s)}, []list{{well}}, "take, main#0, spare1#1, give unavailable", ""},
		{"nobody else, so who is away is asked again", 1, list{fails(core.Unavailable, s), well}, nil, "take, main#0, give unavailable, take, unused, take, main#1, give ok", ""},
		{"a 429 that can be waited for", 1, list{fails(core.RateLimited, s), well}, []list{{well}}, "take, main#0, give rate_limited, take, main#1, give ok", ""},
		{"a 429 that cannot", 1, list{fails(core.RateLimited, 20*s)}, []list{{well}}, "take, main#0, give rate_limited, take, spare1#1, give ok", ""},
		{"a 429 and no retry", 0, list{fails(core.RateLimited, s)}, []list{{well}}, "take, main#0, give rate_limited, take, spare1#1, give ok", ""},
		{"a 429 of the fallback is told as the fallback's", 0, list{fails(core.RateLimited, 20*s)}, []list{{fails(core.RateLimited, 9*s)}},
			"take, main#0, give rate_limited, take, spare1#1, give rate_limited", core.RateLimited},
		{"a pair that it does not know", 1, list{fails(core.UnsupportedLanguage, never)}, []list{{well}}, "take, main#0, spare1#1, give unsupported_language", ""},
		{"nobody knows the pair", 1, list{fails(core.UnsupportedLanguage, never)}, []list{{fails(core.UnsupportedLanguage, never)}},
			"take, main#0, spare1#1, give unsupported_language", core.UnsupportedLanguage},
		{"a fallback does not know the pair", 0, list{fails(core.ProviderFailed)}, []list{{fails(core.UnsupportedLanguage, never)}},
			"take, main#0, spare1#1, give provider_failed", core.ProviderFailed},
		{"the gateway's key is refused", 1, list{fails(core.Unauthorized)}, []list{{well}}, "take, main#0, spare1#1, give provider_failed", ""},
		{"the gateway may not", 1, list{fails(core.Forbidden)}, []list{{well}}, "take, main#0, spare1#1, give provider_failed", ""},
		{"the model is not there", 1, list{fails(core.NotFound)}, []list{{well}}, "take, main#0, spare1#1, give provider_failed", ""},
		{"the gateway's key is refused, and nobody else is asked", 1, list{fails(core.Unauthorized)}, nil, "take, main#0, give provider_failed", core.ProviderFailed},
		{"it has too much to do", 0, list{fails(core.Overloaded)}, []list{{well}}, "take, main#0, spare1#1, give overloaded", ""},
		{"the request is at fault", 1, list{fails(core.InvalidRequest, never)}, []list{{well}}, "take, main#0, give invalid_request", core.InvalidRequest},
		{"the text is too long", 1, list{fails(core.TooLarge, never)}, []list{{well}}, "take, main#0, give too_large", core.TooLarge},
		{"a fallback finds the text too long", 0, list{fails(core.ProviderFailed)}, []list{{fails(core.TooLarge, never)}, {well}},
			"take, main#0, spare1#1, give provider_failed", core.TooLarge},
		{"a defect of ours", 1, list{func(context.Context, *core.Request) (*core.Result, error) { panic("oh") }}, []list{{well}},
			"take, main#0, give internal", core.Internal},
		{"neither a result nor an error", 1, list{func(context.Context, *core.Request) (*core.Result, error) { return nil, nil }}, []list{{well}},
			"take, main#0, give internal", core.Internal},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(Config{Retries: c.retries}, c.main, c.fallbacks...)
				res, err := b.ask(ends(t, 5*s))
				if got := b.diary.String(); got != c.want {
					t.Errorf("happened: %s\n    want: %s", got, c.want)
				}
				if kind := core.KindOf(asError(err)); kind != c.kind {
					t.Errorf("got %v, want kind %q", err, c.kind)
				}
				if res != nil {
					spare := res.Provider != "main"
					if res.NoStore != spare || slices.Contains(res.Flags, core.FlagFallback) != spare {
						t.Errorf("%s answered: %+v", res.Provider, res)
					}
				}
				b.balanced(t)
			})
		})
	}
}

// asError keeps a nil *core.Error a nil error.
func asError(e *core.Error) error {
	if e == nil {
		return nil
	}
	return e
}

func TestTheGatesHearWhatTheAttemptCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := core.Limits{Tokens: core.Limit{Known: true, Limit: 100}}
		theirs := core.Limits{Tokens: core.Limit{Known: true, Limit: 7}}
		b := newBench(Config{Retries: 1}, []answer{
			func(context.Context, *core.Request) (*core.Result, error) {
				return nil, &core.Error{Kind: core.BadAnswer, Retryable: true, Usage: core.Usage{PromptTokens: 5}, Limits: &limits}
			},
			func(context.Context, *core.Request) (*core.Result, error) {
				return nil, &core.Error{Kind: core.ProviderRefused, Usage: core.Usage{PromptTokens: 9}, Limits: &limits}
			},
		}, []answer{func(ctx context.Context, req *core.Request) (*core.Result, error) {
			res, err := well(ctx, req)
			res.Limits = &theirs
			return res, err
		}})
		start := time.Now()
		req := &core.Request{Text: "x", Target: "es", Trace: core.NewTrace(nil)}
		if _, err := b.top.Translate(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		for i, want := range []core.Outcome{
			{Err: &core.Error{Kind: core.BadAnswer}, Usage: core.Usage{PromptTokens: 5}, Limits: limits},
			// Of the fallback, which has another account, the gates hear nothing.
			{Err: &core.Error{Kind: core.ProviderRefused}, Usage: core.Usage{PromptTokens: 9}, Limits: limits},
		} {
			got := b.queue.heard[i]
			if got.Err.Kind != want.Err.Kind || got.Usage != want.Usage || got.Limits != want.Limits || got.At.Before(start) {
				t.Errorf("outcome %d: %+v, want %+v", i, got, want)
			}
		}
		if req.Trace.Attempts != 3 {
			t.Errorf("the trace tells of %d attempts", req.Trace.Attempts)
		}
	})
}

func TestNothingSleepsWhileItHoldsATurn(t *testing.T) {
	for name, c := range map[string]struct {
		pauses bool
		first  answer
		least  time.Duration
	}{
		"before a retry":                      {true, fails(core.ProviderFailed), 0},
		"as long as the upstream wishes":      {true, fails(core.ProviderFailed, 800*time.Millisecond), 800 * time.Millisecond},
		"in the gate's pause":                 {true, fails(core.RateLimited, 2*time.Second), 2 * time.Second},
		"after a 429, where no gate pauses":   {false, fails(core.RateLimited, 2*time.Second), 2 * time.Second},
		"after a bare 429, with a gate alone": {true, fails(core.RateLimited), time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(Config{Retries: 1}, []answer{c.first, well})
				b.limit.pauses = c.pauses
				start := time.Now()
				var done sync.WaitGroup
				done.Go(func() {
					if _, err := b.ask(ends(t, 5*time.Second)); err != nil {
						t.Error(err)
					}
				})
				synctest.Wait() // the clock stands: it sleeps, or is through
				b.balanced(t)
				done.Wait()
				if took := time.Since(start); took < c.least || took > c.least+firstBackoff {
					t.Errorf("took %v, want %v and at most %v more", took, c.least, firstBackoff)
				}
				b.balanced(t)
			})
		})
	}
}

// A pause that outlasts the deadline is no reason to wait for its end.
func TestWhoCannotWaitForThePauseGoesToTheFallbackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(Config{}, []answer{fails(core.RateLimited, 3*time.Second), well}, []answer{well})
		if _, err := b.ask(ends(t, 10*time.Second)); err != nil {
			t.Fatal(err)
		}
		var patient sync.WaitGroup
		patient.Go(func() { // waits for the end of the pause, in the same session
			if res, err := b.ask(ends(t, 10*time.Second)); err != nil || res.Provider != "main" {
				t.Errorf("the patient one got %+v, %v", res, err)
			}
		})
		synctest.Wait()
		start := time.Now()
		res, err := b.ask(ends(t, time.Second))
		if err != nil || res.Provider != "spare1" || time.Since(start) != 0 {
			t.Errorf("got %+v, %v after %v, want the fallback's answer at once", res, err, time.Since(start))
		}
		patient.Wait()
		b.balanced(t)
	})
}

// What a fallback may do without is the account of the provider in use. It needs
// a slot as every call does, however little time is left for one.
func TestNoFallbackGoesWithoutASlot(t *testing.T) {
	for before, want := range map[string]core.ErrorKind{"take": core.Overloaded, "call": core.RateLimited} {
		synctest.Test(t, func(t *testing.T) {
			var b *bench
			shut := func() {
				b.queue.mu.Lock()
				b.queue.until = time.Now().Add(time.Second)
				b.queue.mu.Unlock()
			}
			b = newBench(Config{}, []answer{func(ctx context.Context, req *core.Request) (*core.Result, error) {
				shut()
				return fails(core.RateLimited, 3*time.Second)(ctx, req)
			}}, []answer{well})
			if before == "take" {
				shut()
			}
			res, err := b.ask(ends(t, 100*time.Millisecond))
			if err == nil || err.Kind != want || b.fakes["spare1"].calls != 0 {
				t.Errorf("shut before the %s: got %+v, %v after %d calls of the fallback", before, res, err, b.fakes["spare1"].calls)
			}
			b.balanced(t)
		})
	}
}

func TestWhoCannotWaitAndHasNoFallbackIsToldHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(Config{}, []answer{fails(core.RateLimited, 3*time.Second), well})
		for range 2 { // from the attempt, then from the gate
			_, err := b.ask(ends(t, time.Second))
			if err == nil || err.Kind != core.RateLimited || err.RetryAfter != 3*time.Second {
				t.Errorf("got %v, want rate_limited for 3s", err)
			}
		}
		b.balanced(t)
	})
}

func TestWaitsAreTheGatesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(Config{}, []answer{func(ctx context.Context, req *core.Request) (*core.Result, error) {
			time.Sleep(300 * time.Millisecond)
			return well(ctx, req)
		}})
		b.queue.slots = 1
		var both sync.WaitGroup
		defer both.Wait()
		both.Go(func() { b.ask(t.Context()) })
		synctest.Wait()
		trace := core.NewTrace(nil)
		if _, err := b.top.Translate(t.Context(), &core.Request{Text: "x", Target: "es", Trace: trace}); err != nil {
			t.Fatal(err)
		}
		spans := map[string]time.Duration{}
		for _, s := range trace.Spans() {
			spans[s.Name] = s.Self
		}
		if spans["queue"] != 300*time.Millisecond || spans["provider"] != 300*time.Millisecond {
			t.Errorf("got %v, want 300ms of waiting and 300ms of work", spans)
		}
	})
}

// Primary down: the fallback answers, and its answers are not for keeping.
// Primary back: it is asked again.
func TestFallbackWhileThePrimaryIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := defaults()
		down := []answer{}
		for range 100 {
			down = append(down, fails(core.ProviderFailed))
		}
		b := newBench(cfg, down, []answer{well})
		for i := range 20 {
			res, err := b.ask(ends(t, 5*time.Second))
			if err != nil || res.Provider != "spare1" || !res.NoStore {
				t.Fatalf("request %d: %+v, %v", i, res, err)
			}
		}
		if n := b.fakes["main"].calls; n != cfg.Breaker.Failures {
			t.Errorf("the primary was called %d times while it was down, want %d", n, cfg.Breaker.Failures)
		}
		b.fakes["main"].answers = []answer{well}
		time.Sleep(cfg.Breaker.OpenFor)
		res, err := b.ask(t.Context())
		if err != nil || res.Provider != "main" || res.NoStore || len(res.Flags) != 0 {
			t.Errorf("after the primary came back: %+v, %v", res, err)
		}
		b.balanced(t)
	})
}

// Calls wait too long: whoever asks that the primary is left alone gets the fallback's
// answer, or hears at once that there is none, and the primary is never called.
func TestWhoRelievesThePrimaryIsAnsweredByAFallbackOrAtOnce(t *testing.T) {
	for _, c := range []struct {
		name      string
		fallbacks [][]answer
		provider  string
		kind      core.ErrorKind
	}{
		{"a fallback answers", [][]answer{{well}}, "spare1", ""},
		{"the next one, when the first fails", [][]answer{{fails(core.ProviderFailed)}, {well}}, "spare2", ""},
		{"all of them fail", [][]answer{{fails(core.BadAnswer)}}, "", core.BadAnswer},
		{"there is none", nil, "", core.Overloaded},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(defaults(), []answer{well}, c.fallbacks...)
				res, err := b.top.Translate(t.Context(), &core.Request{ID: "r", Text: "hello", Target: "es", Relieve: true, Trace: core.NewTrace(nil)})
				if core.KindOf(err) != c.kind || res != nil && (res.Provider != c.provider || !res.NoStore || !slices.Contains(res.Flags, core.FlagFallback)) {
					t.Errorf("got %+v, %v", res, err)
				}
				if n := b.fakes["main"].calls; n != 0 {
					t.Errorf("the primary was called %d times", n)
				}
				b.balanced(t)
			})
		})
	}
}

// Whoever compares providers asks one of them: neither the routes nor another provider answer
// for it, its answer is kept for nobody, and it has its turn like everybody.
func TestWhoAsksForOneProviderAloneIsAnsweredByItOrNotAtAll(t *testing.T) {
	for _, c := range []struct {
		name, only, provider string
		kind                 core.ErrorKind
	}{
		{"the one in use", "main", "main", ""},
		{"a fallback", "spare1", "spare1", ""},
		{"one that fails", "spare2", "", core.BadAnswer},
		{"one that nobody calls", "other", "", core.InvalidRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(defaults(), []answer{well}, []answer{well}, []answer{fails(core.BadAnswer)})
				res, err := b.top.Translate(t.Context(), &core.Request{ID: "r", Text: "hello", Target: "es", Only: c.only, NoCache: true, Trace: core.NewTrace(nil)})
				if core.KindOf(err) != c.kind || res != nil && (res.Provider != c.provider || !res.NoStore || len(res.Flags) > 0) {
					t.Errorf("got %+v, %v", res, err)
				}
				for name, fake := range b.fakes {
					if fake.calls > 0 && name != c.only {
						t.Errorf("%s was called", name)
					}
				}
				b.balanced(t)
			})
		})
	}
}

func TestBreaker(t *testing.T) {
	cfg := Config{Breaker: Breaker{Failures: 3, OpenFor: 10 * time.Second}}
	open := func(t *testing.T) *bench {
		b := newBench(cfg, []answer{fails(core.ProviderFailed), fails(core.Unavailable), hangs(time.Second), well})
		for range 3 {
			b.ask(t.Context())
		}
		return b
	}
	t.Run("open, it fails at once and says when to come back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := open(t)
			time.Sleep(4 * time.Second)
			_, err := b.ask(t.Context())
			if err == nil || err.Kind != core.Unavailable || err.RetryAfter != 6*time.Second || b.fakes["main"].calls != 3 {
				t.Errorf("got %v after %d calls, want unavailable for 6s and no call", err, b.fakes["main"].calls)
			}
			b.balanced(t)
		})
	})
	t.Run("half open, one call tries at a time, and its success closes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := open(t)
			b.fakes["main"].answers = []answer{func(ctx context.Context, req *core.Request) (*core.Result, error) {
				time.Sleep(time.Second)
				return well(ctx, req)
			}}
			time.Sleep(10 * time.Second)
			var probe sync.WaitGroup
			probe.Go(func() {
				if _, err := b.ask(t.Context()); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			if _, err := b.ask(t.Context()); err == nil || err.Kind != core.Unavailable || err.RetryAfter <= 0 {
				t.Errorf("beside the one that tries: %v, want unavailable", err)
			}
			probe.Wait()
			for range 5 {
				if _, err := b.ask(t.Context()); err != nil {
					t.Errorf("closed again: %v", err)
				}
			}
			b.balanced(t)
		})
	})
	t.Run("half open, a failure opens it again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := open(t)
			b.fakes["main"].answers = []answer{fails(core.ProviderFailed)}
			time.Sleep(10 * time.Second)
			b.ask(t.Context())
			if _, err := b.ask(t.Context()); err == nil || err.Kind != core.Unavailable || b.fakes["main"].calls != 4 {
				t.Errorf("got %v after %d calls, want unavailable after 4", err, b.fakes["main"].calls)
			}
		})
	})
	t.Run("half open, a client that leaves does not take the try with it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := open(t)
			b.fakes["main"].answers = []answer{hangs(time.Hour)}
			time.Sleep(10 * time.Second)
			for range 3 {
				if _, err := b.ask(ends(t, time.Second)); err == nil || err.Kind != core.DeadlineExceeded {
					t.Errorf("got %v, want deadline_exceeded", err)
				}
			}
			b.fakes["main"].answers = []answer{well}
			if _, err := b.ask(t.Context()); err != nil {
				t.Errorf("nobody can try any more: %v", err)
			}
			b.balanced(t)
		})
	})
	t.Run("what says nothing bad about the provider does not open it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, kind := range []core.ErrorKind{core.RateLimited, core.ProviderRefused, core.BadAnswer, core.TooLarge, core.InvalidRequest, core.Canceled} {
				b := newBench(cfg, []answer{fails(kind, never)})
				for range 10 {
					b.limit.until = time.Time{}
					b.ask(t.Context())
				}
				if n := b.fakes["main"].calls; n != 10 {
					t.Errorf("%s: %d of 10 calls were made", kind, n)
				}
			}
			broke := newBench(cfg, []answer{fails(core.QuotaExceeded, never)}) // another thing leaves it alone
			for range 10 {
				broke.ask(t.Context())
				time.Sleep(time.Minute)
			}
			if n := broke.fakes["main"].calls; n != 10 || broke.measures()[state] != 0 {
				t.Errorf("an exhausted quota: %d of 10 calls were made, the breaker is %v", n, broke.measures()[state])
			}
			b := newBench(cfg, []answer{hangs(time.Hour)})
			for range 10 {
				b.ask(ends(t, time.Millisecond))
			}
			if n := b.fakes["main"].calls; n != 10 {
				t.Errorf("deadlines that clients chose: %d of 10 calls were made", n)
			}
		})
	})
	t.Run("it outlives the chain", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := open(t)
			b.link()
			if _, err := b.ask(t.Context()); err == nil || err.Kind != core.Unavailable {
				t.Errorf("got %v, want unavailable", err)
			}
		})
	})
	t.Run("failures: 0 switches it off", func(t *testing.T) {
		b := newBench(Config{}, []answer{fails(core.ProviderFailed)})
		for range 100 {
			b.ask(t.Context())
		}
		if n := b.fakes["main"].calls; n != 100 {
			t.Errorf("%d of 100 calls were made", n)
		}
	})
}

func TestTheBudgetBoundsRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(Config{Retries: 1}, []answer{fails(core.ProviderFailed)})
		extra := func(requests int) int {
			before := b.fakes["main"].calls
			var all sync.WaitGroup
			for range requests {
				all.Go(func() { b.ask(t.Context()) })
			}
			all.Wait()
			return b.fakes["main"].calls - before - requests
		}
		if n := extra(1000); n < 99 || n > 103 {
			t.Errorf("%d retries of 1,000 requests at once, want a tenth and 3", n)
		}
		time.Sleep(time.Second)
		if n := extra(5); n < 3 || n > 4 {
			t.Errorf("%d retries of 5 requests a second later, want 3 or 4", n)
		}
		if b.stage.denied.Load() == 0 {
			t.Error("what was denied is not counted")
		}
		time.Sleep(time.Hour)
		if n := extra(100); n > 14 {
			t.Errorf("%d retries of 100 after a quiet hour, want at most 14", n)
		}
		b.balanced(t)
	})
}

func TestAProviderHearsWhetherAnotherMayAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard []bool
		hears := func(next answer) answer {
			return func(ctx context.Context, req *core.Request) (*core.Result, error) {
				heard = append(heard, req.Backed)
				return next(ctx, req)
			}
		}
		cfg := Config{Breaker: Breaker{Failures: 1, OpenFor: time.Hour}}
		alone := newBench(cfg, []answer{hears(well)})
		alone.ask(t.Context())
		backed := newBench(cfg, []answer{hears(fails(core.BadAnswer))}, []answer{hears(fails(core.ProviderFailed))})
		backed.ask(t.Context()) // opens the breaker of the fallback
		backed.ask(t.Context())
		if want := []bool{false, true, false, false}; !slices.Equal(heard, want) {
			t.Errorf("heard %v, want %v", heard, want)
		}
	})
}

func TestLeavingEndsTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(Config{Retries: 5}, []answer{hangs(time.Hour)}, []answer{well})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		_, err := b.ask(ctx)
		if err == nil || err.Kind != core.Canceled || time.Since(start) != time.Second {
			t.Errorf("got %v after %v, want canceled after 1s", err, time.Since(start))
		}
		if got, want := b.diary.String(), "take, main#0, give canceled"; got != want {
			t.Errorf("happened: %s, want %s", got, want)
		}
		b.balanced(t)
	})
}

func TestAfterTheFirstDeltaThereIsNoOtherAttempt(t *testing.T) {
	b := newBench(Config{Retries: 3}, []answer{func(_ context.Context, req *core.Request) (*core.Result, error) {
		if err := req.OnDelta("ho"); err != nil {
			t.Error(err)
		}
		return nil, &core.Error{Kind: core.ProviderFailed, Retryable: true}
	}}, []answer{well})
	var got string
	_, err := b.top.Translate(t.Context(), &core.Request{Text: "x", Target: "es", OnDelta: func(s string) error { got += s; return nil }})
	if core.KindOf(err) != core.ProviderFailed || got != "ho" || b.fakes["main"].calls+b.fakes["spare1"].calls != 1 {
		t.Errorf("got %q, %v: %s", got, err, &b.diary)
	}
}

// Below the chain's own recovery: whatever happens, the turn goes back.
func TestAPanicGivesTheTurnBack(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("oh") }, "Goexit": runtime.Goexit} {
		b := newBench(Config{}, []answer{well})
		c, err := b.stage.Call(core.Below{
			Gates:    []core.Guard{{Name: "queue", Gate: &b.queue}},
			Provider: b.provider,
			Around: func(core.Provider) core.Translator {
				return core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) { end(); return nil, nil })
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() { recover() }()
			c.Translate(t.Context(), &core.Request{Text: "x", Target: "es"})
		}()
		<-done
		if got := b.diary.String(); got != "take, give internal" {
			t.Errorf("%s: happened: %s", name, got)
		}
	}
}

func TestCallRefusesProvidersThatAreNotThere(t *testing.T) {
	b := newBench(Config{}, []answer{well}, []answer{well})
	for want, cfg := range map[string]Config{
		`use: there is no provider ""`:                 {},
		`use: there is no provider "other"`:            {Use: core.Names{"other"}},
		`fallback[0]: "main" is named twice`:           {Use: core.Names{"main"}, Fallback: []string{"main"}},
		`fallback[1]: "spare1" is named twice`:         {Use: core.Names{"main"}, Fallback: []string{"spare1", "spare1"}},
		`fallback[1]: there is no provider "elsewher"`: {Use: core.Names{"main"}, Fallback: []string{"spare1", "elsewher"}},
	} {
		_, err := New(core.Env{}, cfg).Call(core.Below{Provider: b.provider, Around: func(p core.Provider) core.Translator { return p.Translator }})
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// speaker is a provider that knows its languages.
type speaker struct{ fake }

func (*speaker) Languages() []core.LanguageInfo {
	return []core.LanguageInfo{{Source: "en", Targets: []core.Language{"es"}}}
}

func TestTheChainIsThePreferredProvidersOne(t *testing.T) {
	s := New(core.Env{}, Config{Use: core.Names{"a"}, Fallback: []string{"b"}})
	linked := func(fingerprints map[string]string, watch *chain.Watch) *chain.Chain {
		c, err := chain.Link([]chain.Place{{Name: "provider", Item: s}}, func(name string) (core.Provider, bool) {
			p := core.Provider{Name: name, Translator: &speaker{}, Fingerprint: fingerprints[name]}
			if name == "b" {
				p.Translator = &fake{}
			}
			return p, true
		}, watch)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var watch chain.Watch
	one := linked(map[string]string{"a": "1", "b": "1"}, &watch)
	if l := one.Languages(); l != nil {
		t.Errorf("languages %v, though the fallback translates any pair", l)
	}
	if linked(map[string]string{"a": "1", "b": "2"}, &watch).Fingerprint() != one.Fingerprint() {
		t.Error("a fallback changes the fingerprint, though its answers are never stored")
	}
	if linked(map[string]string{"a": "2", "b": "1"}, &watch).Fingerprint() == one.Fingerprint() {
		t.Error("the provider in use does not change the fingerprint")
	}
}

func TestMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(Config{Retries: 1, Breaker: Breaker{Failures: 2, OpenFor: time.Second}}, []answer{fails(core.ProviderFailed)}, []answer{func(ctx context.Context, req *core.Request) (*core.Result, error) {
			time.Sleep(350 * time.Millisecond)
			return well(ctx, req)
		}})
		b.ask(t.Context())
		got := map[string]float64{}
		b.stage.Measure(func(m core.Measure) {
			got[m.Name+"{"+strings.Join(m.Labels, " ")+"}"] = m.Value
			if m.Help == "" || m.Counter != strings.HasSuffix(m.Name, "_total") {
				t.Errorf("%+v", m)
			}
		})
		for series, want := range map[string]float64{
			"provider_attempts_total{provider main reason first outcome provider_failed}": 1,
			"provider_attempts_total{provider main reason retry outcome provider_failed}": 1,
			"provider_attempts_total{provider spare1 reason fallback outcome ok}":         1,
			"provider_attempt_seconds_total{provider spare1}":                             0.35,
			"provider_attempts_within_total{provider spare1 seconds 0.3}":                 0,
			"provider_attempts_within_total{provider spare1 seconds 0.4}":                 1,
			"provider_attempts_within_total{provider spare1 seconds 5}":                   1,
			"provider_tokens_total{provider spare1 tokens prompt}":                        10,
			"provider_tokens_total{provider main tokens prompt}":                          0,
			"provider_breaker_state{provider main}":                                       2,
			"provider_breaker_opened_total{provider main}":                                1,
			"provider_breaker_state{provider spare1}":                                     0,
		} {
			if v, ok := got[series]; !ok || v != want {
				t.Errorf("%s is %v (there: %v), want %v", series, v, ok, want)
			}
		}
	})
}

// Whatever providers do: every turn is given back, each request gets exactly
// one answer, no more attempts are made than may be, and none after the
// deadline.
func TestAnything(t *testing.T) {
	kinds := []core.ErrorKind{
		core.ProviderFailed, core.Unavailable, core.RateLimited, core.QuotaExceeded, core.BadAnswer, core.ProviderRefused,
		core.TooLarge, core.InvalidRequest, core.Internal, core.DeadlineExceeded,
	}
	property.Check(t, func(rt *rapid.T) {
		oneOf := func(label string) answer {
			took := rapid.SampledFrom([]time.Duration{0, time.Millisecond, 100 * time.Millisecond, time.Second, time.Minute}).Draw(rt, label+" takes")
			err := core.Error{
				Kind: rapid.SampledFrom(kinds).Draw(rt, label), Retryable: rapid.Bool().Draw(rt, label+" may pass"),
				RetryAfter: rapid.SampledFrom([]time.Duration{0, 10 * time.Millisecond, time.Second, time.Hour}).Draw(rt, label+" retry after"),
			}
			good := rapid.IntRange(0, 2).Draw(rt, label+" is good") == 0
			return func(ctx context.Context, req *core.Request) (*core.Result, error) {
				select {
				case <-time.After(took):
				case <-ctx.Done():
					return nil, core.ContextError(ctx, "fake")
				}
				if good {
					return well(ctx, req)
				}
				e := err
				return nil, &e
			}
		}
		answers := func(label string) (list []answer) {
			for range rapid.IntRange(1, 6).Draw(rt, label+" answers") {
				list = append(list, oneOf(label))
			}
			return list
		}
		cfg := Config{
			Retries: rapid.IntRange(0, 5).Draw(rt, "retries"),
			Breaker: Breaker{Failures: rapid.IntRange(0, 3).Draw(rt, "breaker"), OpenFor: time.Second},
		}
		main := answers("main")
		var fallbacks [][]answer
		for i := range rapid.IntRange(0, 2).Draw(rt, "fallbacks") {
			fallbacks = append(fallbacks, answers(fmt.Sprint("spare", i+1)))
		}
		pauses := rapid.Bool().Draw(rt, "a gate pauses")
		most := rapid.IntRange(1, 4).Draw(rt, "slots")
		requests := rapid.IntRange(1, 12).Draw(rt, "requests")

		var wrong diary
		synctest.Test(t, func(t *testing.T) {
			b := newBench(cfg, main, fallbacks...)
			b.limit.pauses, b.queue.slots = pauses, most
			var all sync.WaitGroup
			for range requests {
				all.Go(func() {
					const deadline = 3 * time.Second
					ctx, cancel := context.WithTimeout(context.Background(), deadline)
					defer cancel()
					start, trace := time.Now(), core.NewTrace(nil)
					res, err := b.top.Translate(ctx, &core.Request{Text: "x", Target: "es", Trace: trace})
					if (res == nil) == (err == nil) {
						wrong.note("%+v and %v", res, err)
					}
					if n := 1 + cfg.Retries + len(fallbacks); trace.Attempts > n {
						wrong.note("%d attempts, at most %d may be", trace.Attempts, n)
					}
					if took := time.Since(start); took > deadline {
						wrong.note("took %v", took)
					}
					if res != nil && res.NoStore != (res.Provider != "main") {
						wrong.note("%+v", res)
					}
					if e, ok := errors.AsType[*core.Error](err); err != nil && (!ok || e.Kind == "" || e.Stage == "") {
						wrong.note("an error without a kind or a stage: %v", err)
					}
				})
			}
			all.Wait()
			if n, m := b.limit.holds(), b.queue.holds(); n != 0 || m != 0 {
				wrong.note("the gates miss %d and %d turns", n, m)
			}
		})
		if said := wrong.String(); said != "" {
			rt.Fatal(said)
		}
	})
}

func TestARetryKeepsItsSeniority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(ctx context.Context, req *core.Request) (*core.Result, error) {
			time.Sleep(time.Second)
			return well(ctx, req)
		}
		b := newBench(Config{Retries: 1}, []answer{
			func(context.Context, *core.Request) (*core.Result, error) {
				time.Sleep(time.Second)
				return nil, &core.Error{Kind: core.ProviderFailed, Retryable: true}
			}, slow, slow, slow,
		})
		b.queue.slots = 1
		var all sync.WaitGroup
		defer all.Wait()
		all.Go(func() { b.ask(t.Context()) }) // fails once
		synctest.Wait()
		all.Go(func() { b.ask(t.Context()) }) // waits, and starts when that has failed
		time.Sleep(time.Second)
		synctest.Wait()
		all.Go(func() { b.ask(t.Context()) }) // comes before the retry does
		all.Wait()
		if got, want := strings.Count(b.diary.String(), "main#1, give ok, take, main#0"), 1; got != want {
			t.Errorf("the retry did not go before the one that came later: %s", &b.diary)
		}
	})
}

// What one upstream wished is nothing to another.
func TestAFallbackDoesNotWaitForThePrimarysWish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(Config{Retries: 1}, nil, []answer{well})
		b.fakes["main"].answers = []answer{func(context.Context, *core.Request) (*core.Result, error) {
			b.limit.mu.Lock()
			b.limit.until = time.Now().Add(time.Hour) // somebody else's 429
			b.limit.mu.Unlock()
			return nil, &core.Error{Kind: core.ProviderFailed, Retryable: true, RetryAfter: time.Second}
		}}
		start := time.Now()
		res, err := b.ask(ends(t, 5*time.Second))
		if err != nil || res.Provider != "spare1" || time.Since(start) > firstBackoff {
			t.Errorf("got %+v, %v after %v, want the fallback's answer at once", res, err, time.Since(start))
		}
		b.balanced(t)
	})
}

func TestACallFromBeforeTheBreakerOpenedDoesNotCloseIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(Breaker{Failures: 2, OpenFor: time.Second}, newTally("main"), zap.NewNop())
		late, _ := b.acquire()
		for range 2 {
			p, _ := b.acquire()
			b.release(p, saysUnwell)
		}
		time.Sleep(time.Second)
		probe, ok := b.acquire()
		if !ok {
			t.Fatal("nobody may try")
		}
		b.release(late, saysWell)
		if b.state() != 1 {
			t.Errorf("state %v, want half open until the one that tries is back", b.state())
		}
		b.release(probe, saysWell)
		if b.state() != 0 {
			t.Errorf("state %v, want closed", b.state())
		}
	})
}

func TestCallsThatHangAmongGoodOnesAreNoRowOfFailures(t *testing.T) {
	b := newBreaker(Breaker{Failures: 3, OpenFor: time.Second}, newTally("main"), zap.NewNop())
	var hang []permit
	for range 10 {
		p, _ := b.acquire()
		hang = append(hang, p)
		for range 3 {
			p, _ := b.acquire()
			b.release(p, saysWell)
		}
	}
	for _, p := range hang { // their time is over in everybody's pause
		b.release(p, saysUnwell)
	}
	if b.state() != 0 {
		t.Error("open after calls that hung among good ones")
	}
	for i := range 3 {
		if b.state() != 0 {
			t.Errorf("open after %d of 3 failures", i)
		}
		p, _ := b.acquire()
		b.release(p, saysUnwell)
	}
	if b.state() != 2 {
		t.Error("not open after 3 failures in a row")
	}
}

// However many calls are under way when a provider begins to hang: the first of
// them whose time is over open the breaker.
func TestAnOutageUnderLoadOpensTheBreakerAtTheFirstTimeouts(t *testing.T) {
	for _, atOnce := range []int{5, 6, 16, 64} {
		b := newBreaker(Breaker{Failures: 5, OpenFor: time.Second}, newTally("main"), zap.NewNop())
		var flying []permit // from the oldest on
		for range 1000 {
			if len(flying) == atOnce {
				b.release(flying[0], saysWell)
				flying = flying[1:]
			}
			p, _ := b.acquire()
			flying = append(flying, p)
		}
		for _, p := range flying {
			b.release(p, saysUnwell)
		}
		if b.state() != 2 {
			t.Errorf("%d at once: not open after all of them failed", atOnce)
		}
	}
}

// BenchmarkTranslate is what an attempt costs beside the provider: two gates,
// one turn, one trace.
func BenchmarkTranslate(b *testing.B) {
	s := New(core.Env{}, Config{Use: core.Names{"main"}, Breaker: defaults().Breaker})
	res := &core.Result{Text: "hola"}
	c, err := chain.Link([]chain.Place{{Name: "queue", Item: &slots{gate{diary: new(diary), slots: 100}, line.New(10)}}, {Name: "provider", Item: s}}, func(string) (core.Provider, bool) {
		return core.Provider{Name: "main", Translator: core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) { return res, nil })}, true
	}, &chain.Watch{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Translate(b.Context(), &core.Request{Text: "x", Target: "es", Trace: core.NewTrace(nil)}); err != nil {
			b.Fatal(err)
		}
	}
}
