package provider

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/line"
)

// heir links a stage with cfg that has inherited what b's knows, below the same
// gates. B goes on beside it. Providers that are named are built anew.
func (b *bench) heir(cfg Config, anew ...string) *bench {
	cfg.Use = b.stage.cfg.Use
	cfg.Fallback = b.stage.cfg.Fallback
	h := &bench{fakes: map[string]*fake{}, stage: New(core.Env{Name: "provider"}, cfg)}
	for name, f := range b.fakes {
		h.fakes[name] = f
	}
	for _, name := range anew {
		f := b.fakes[name]
		h.fakes[name] = &fake{name: name, diary: f.diary, answers: f.answers}
	}
	h.stage.Inherit(b.stage)
	linked, err := chain.Link([]chain.Place{
		{Name: "ratelimit", Item: &b.limit}, {Name: "queue", Item: &b.queue}, {Name: "provider", Item: h.stage},
	}, h.provider, &chain.Watch{})
	if err != nil {
		panic(err)
	}
	h.top = linked
	return h
}

// measures returns what the stage reports by name and labels.
func (b *bench) measures() map[string]float64 {
	got := map[string]float64{}
	b.stage.Measure(func(m core.Measure) {
		got[m.Name+"{"+strings.Join(m.Labels, " ")+"}"] = m.Value
	})
	return got
}

const (
	firstOK    = "provider_attempts_total{provider main reason first outcome ok}"
	firstUnwel = "provider_attempts_total{provider main reason first outcome provider_failed}"
	opened     = "provider_breaker_opened_total{provider main}"
	state      = "provider_breaker_state{provider main}"
)

func TestNoCounterFallsOverAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(Config{Retries: 1, Breaker: Breaker{Failures: 2, OpenFor: time.Second}},
			[]answer{fails(core.ProviderFailed), fails(core.ProviderFailed), well}, []answer{well})
		b.ask(t.Context())
		time.Sleep(2 * time.Second)
		var slow sync.WaitGroup
		b.fakes["main"].answers = []answer{func(ctx context.Context, req *core.Request) (*core.Result, error) {
			time.Sleep(10 * time.Second)
			return well(ctx, req)
		}}
		slow.Go(func() { b.ask(t.Context()) }) // ends after the reload
		synctest.Wait()

		was := b.measures()
		h := b.heir(Config{Retries: 3, Breaker: Breaker{Failures: 9, OpenFor: time.Minute}}, "main")
		h.fakes["main"].answers = []answer{well}
		check := func() {
			t.Helper()
			is := h.measures()
			for name, v := range was {
				if strings.Contains(name, "_total") && is[name] < v {
					t.Errorf("%s fell from %v to %v", name, v, is[name])
				}
			}
			was = is
		}
		check()
		h.ask(t.Context())
		check()
		if was[firstOK] != 1 || was[firstUnwel] != 1 || was[opened] != 1 {
			t.Errorf("%v", was)
		}
		slow.Wait()
		check()
		if was[firstOK] != 2 {
			t.Errorf("the call that was in flight over the reload is not counted: %v", was[firstOK])
		}
		b.balanced(t)
	})
}

func TestAReloadKeepsWhatABreakerKnowsOfTheSameProvider(t *testing.T) {
	limits := Breaker{Failures: 2, OpenFor: time.Minute}
	for name, c := range map[string]struct {
		cfg  Config
		anew []string
		open bool
	}{
		"other retries":                  {Config{Retries: 3, Breaker: limits}, nil, true},
		"another breaker":                {Config{Breaker: Breaker{Failures: 3, OpenFor: time.Minute}}, nil, false},
		"the provider was built anew":    {Config{Retries: 3, Breaker: limits}, []string{"main"}, false},
		"a fallback was built anew":      {Config{Retries: 3, Breaker: limits}, []string{"spare1"}, true},
		"breaker off":                    {Config{}, nil, false},
		"the same, with hedges switched": {Config{Breaker: limits, Hedge: Hedge{After: "p95"}}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(Config{Breaker: limits}, []answer{fails(core.ProviderFailed)}, []answer{well})
				for range 2 {
					b.ask(t.Context())
				}
				h := b.heir(c.cfg, c.anew...)
				for who, x := range map[string]*bench{"former": b, "heir": h} {
					x.fakes["main"].answers = []answer{well}
					before := x.fakes["main"].calls
					res, err := x.ask(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					called := x.fakes["main"].calls > before
					if open := !called && res.Provider == "spare1"; open != (c.open || who == "former") {
						t.Errorf("%s: open %v", who, open)
					}
				}
				want := 0.
				if c.open {
					want = 2
				}
				if got := h.measures()[state]; got != want {
					t.Errorf("the state is told as %v, want %v", got, want)
				}
			})
		})
	}
}

func TestAKeptStageKnowsNothingOfAProviderThatWasBuiltAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(Config{Breaker: Breaker{Failures: 1, OpenFor: time.Minute}, Hedge: Hedge{After: "p95"}}, []answer{well})
		for range enough {
			b.ask(t.Context())
		}
		b.fakes["main"].answers = []answer{fails(core.ProviderFailed)}
		b.ask(t.Context())
		before := b.top
		b.fakes["main"] = &fake{name: "main", diary: &b.diary, answers: []answer{well}}
		b.link()
		if got := b.measures()[state]; got != 2 {
			t.Errorf("until a request comes to the new chain the old one's breaker counts; its state is told as %v", got)
		}
		after := b.top
		if _, err := b.ask(t.Context()); err != nil {
			t.Errorf("the new provider is left alone for what the old one did: %v", err)
		}
		b.top = before
		if _, err := b.ask(t.Context()); err == nil || err.Kind != core.Unavailable {
			t.Errorf("the old chain has forgotten its breaker: %v", err)
		}
		b.top = after
		if got := b.measures(); got[state] != 0 || got[firstOK] != enough+1 {
			t.Errorf("state %v, %v answered", got[state], got[firstOK])
		}
		if _, ok := b.stage.serving["main"].whole.p95(); ok {
			t.Error("it knows how long the new provider takes")
		}
	})
}

func TestAReloadThatFailsLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Breaker: Breaker{Failures: 1, OpenFor: time.Minute}}
		b := newBench(cfg, []answer{fails(core.ProviderFailed)})
		b.ask(t.Context())
		for range 3 { // linked, and never served
			h := b.heir(Config{Retries: 2}, "main")
			h.stage.Close()
			if got := b.measures(); got[state] != 2 {
				t.Errorf("state %v", got[state])
			}
		}
		h := b.heir(cfg)
		if _, err := h.ask(t.Context()); err == nil || err.Kind != core.Unavailable {
			t.Errorf("got %v, want unavailable: the provider that failed is the same", err)
		}
		// A request that entered the old chain long ago does not bring it back.
		late := b.heir(cfg, "main")
		next := b.heir(cfg, "main")
		next.fakes["main"].answers = []answer{well}
		next.ask(t.Context())
		late.ask(t.Context())
		if got := b.measures(); got[state] != 0 {
			t.Errorf("state %v, want that of the newest", got[state])
		}
	})
}

func TestAReloadIsNoNewBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(Config{Retries: 5}, []answer{fails(core.ProviderFailed)})
		for range 10 {
			b.ask(t.Context())
		}
		h := b.heir(Config{Retries: 4})
		began, calls := time.Now(), h.fakes["main"].calls
		for range 5 {
			h.ask(t.Context())
		}
		// Half of one is earned by five requests, and some by the time that pauses took.
		if n := h.fakes["main"].calls - calls - 5; n > 1+int(time.Since(began).Seconds()*retriesPerSecond) {
			t.Errorf("%d retries right after the reload", n)
		}
		if h.measures()["provider_retries_denied_total{}"] == 0 {
			t.Error("none was denied")
		}
	})
}

func TestAReloadKeepsHowLongAProviderTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		takes := func(d time.Duration) answer {
			return func(ctx context.Context, req *core.Request) (*core.Result, error) {
				time.Sleep(d)
				return well(ctx, req)
			}
		}
		b := newBench(after("p95"), []answer{takes(100 * time.Millisecond)})
		for range enough {
			b.ask(t.Context())
		}
		cfg := after("p95")
		cfg.Retries = 2
		h := b.heir(cfg)
		h.fakes["main"].calls, h.fakes["main"].answers = 0, []answer{hangs(time.Minute), takes(50 * time.Millisecond)}
		began := time.Now()
		h.ask(t.Context())
		if d := time.Since(began); d != 150*time.Millisecond {
			t.Errorf("answered after %v, want 150ms: a hedge after the former's p95", d)
		}
		if err := h.stage.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Without a queue the line is the stage's own: who waits in it, and who comes
// after the reload, wait in one order.
func TestAReloadKeepsTheLineOfAChainWithoutQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var quiet diary
		limit := &gate{diary: &quiet, slots: 1}
		var mu sync.Mutex
		var order []string
		link := func(s *Stage) core.Translator {
			f := &fake{name: "main", diary: &quiet, answers: []answer{func(ctx context.Context, req *core.Request) (*core.Result, error) {
				mu.Lock()
				order = append(order, req.ID)
				mu.Unlock()
				time.Sleep(time.Second)
				return well(ctx, req)
			}}}
			c, err := chain.Link([]chain.Place{{Name: "ratelimit", Item: limit}, {Name: "provider", Item: s}},
				func(string) (core.Provider, bool) { return core.Provider{Name: "main", Translator: f}, true }, &chain.Watch{})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		former := New(core.Env{}, Config{Use: core.Names{"main"}})
		before := link(former)
		heir := New(core.Env{}, Config{Use: core.Names{"main"}, Retries: 1})
		heir.Inherit(former)
		after := link(heir)
		var all sync.WaitGroup
		for i, c := range []core.Translator{before, before, after, before, after, after} {
			all.Go(func() {
				req := &core.Request{ID: fmt.Sprint(i), Text: "a", Target: "es", Session: "one"}
				if _, err := c.Translate(t.Context(), req); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if got := strings.Join(order, ""); got != "012345" {
			t.Errorf("started in order %s", got)
		}
	})
}

// When a queue is removed or added, the old chain's requests finish in the line
// in which they wait, though a gate is shared with the new chain's line.
func TestNobodyIsForgottenWhenAReloadChangesTheLine(t *testing.T) {
	for _, c := range []struct {
		name       string
		old, young bool // has a queue
	}{{"removed", true, false}, {"added", false, true}, {"another", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var quiet diary
				limit := &gate{diary: &quiet, slots: 2}
				main := &fake{name: "main", diary: &quiet, answers: []answer{func(ctx context.Context, req *core.Request) (*core.Result, error) {
					time.Sleep(300 * time.Millisecond)
					return well(ctx, req)
				}}}
				stage := New(core.Env{}, Config{Use: core.Names{"main"}})
				link := func(queued bool) core.Translator {
					places := []chain.Place{{Name: "ratelimit", Item: limit}}
					if queued {
						places = append(places, chain.Place{Name: "queue", Item: &slots{gate{diary: &quiet, slots: 2}, line.New(1000)}})
					}
					linked, err := chain.Link(append(places, chain.Place{Name: "provider", Item: stage}),
						func(string) (core.Provider, bool) { return core.Provider{Name: "main", Translator: main}, true }, &chain.Watch{})
					if err != nil {
						t.Fatal(err)
					}
					return linked
				}
				before, after := link(c.old), link(c.young)
				var all sync.WaitGroup
				began := time.Now()
				for i, chain := range []core.Translator{before, after} {
					for range 20 {
						all.Go(func() {
							if _, err := chain.Translate(t.Context(), &core.Request{Text: "a", Target: "es", Session: fmt.Sprint(i)}); err != nil {
								t.Error(err)
							}
						})
					}
					synctest.Wait()
				}
				all.Wait()
				if limit.holds() != 0 {
					t.Errorf("%d turns are held", limit.holds())
				}
				// 40 calls of 0.3 s, two at a time, are 6 s; and a line that waits for
				// another's turn asks once a second.
				if d := time.Since(began); d > 10*time.Second {
					t.Errorf("it took %v", d)
				}
			})
		})
	}
}

func TestTheFormerWaitsForItsOwnHedges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(after("100ms"), []answer{
			func(ctx context.Context, req *core.Request) (*core.Result, error) {
				time.Sleep(200 * time.Millisecond)
				return well(ctx, req)
			},
			func(context.Context, *core.Request) (*core.Result, error) { // heeds nobody
				time.Sleep(5 * time.Second)
				return nil, &core.Error{Kind: core.Canceled}
			}, well,
		})
		b.ask(t.Context())
		h := b.heir(Config{})
		closed := make(chan struct{})
		began := time.Now()
		go func() { b.stage.Close(); close(closed) }()
		if err := h.stage.Close(); err != nil || time.Since(began) != 0 {
			t.Errorf("the heir waited %v for a hedge that is not its own", time.Since(began))
		}
		<-closed
		if time.Since(began) < 4*time.Second {
			t.Error("it was closed while its hedge ran")
		}
		if _, err := h.ask(t.Context()); err != nil {
			t.Errorf("the heir cannot work without the former: %v", err)
		}
		b.balanced(t)
	})
}
