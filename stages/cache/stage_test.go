package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/coretest"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/text/normal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConforms(t *testing.T) {
	c := small()
	c.Preload = []core.Path{write(t, "a.tsv", "en\tes\tYes\tSí\n")}
	coretest.Stage(t, Kind(), &c)
}

// small is the default in 4 MiB. The race detector looks at each byte of ristretto's
// counters when a cache is closed, and those of a cache of the default size are a megabyte.
func small() Config {
	c := Defaults()
	c.MaxSize = 4 << 20
	return c
}

// start returns a started cache that is closed with the test.
func start(t testing.TB, c Config) *Stage {
	t.Helper()
	s := New(core.Env{Name: "cache", Log: zap.NewNop()}, c)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// below is what stands below the cache: it counts its calls and names itself.
type below struct {
	name   string
	calls  atomic.Int64
	answer func(ctx context.Context, req *core.Request) (*core.Result, error)
}

func (b *below) Fingerprint() string { return b.name }

func (b *below) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	b.calls.Add(1)
	if b.answer == nil {
		return echo(ctx, req)
	}
	return b.answer(ctx, req)
}

func echo(_ context.Context, req *core.Request) (*core.Result, error) {
	return &core.Result{
		Text: "[" + string(req.Target) + "] " + req.Text, Provider: "openai", Model: "m", Finish: core.FinishStop,
		Usage: core.Usage{PromptTokens: 61, CompletionTokens: 5, CachedTokens: 2},
	}, nil
}

func request(text string) *core.Request {
	return &core.Request{Text: text, Source: "en", Target: "es", Trace: core.NewTrace(nil)}
}

func ask(t testing.TB, tr core.Translator, req *core.Request) *core.Result {
	t.Helper()
	res, err := tr.Translate(t.Context(), req)
	if err != nil {
		t.Fatalf("%q: %v", req.Text, err)
	}
	return res
}

// measured returns the value of a measure.
func measured(s *Stage, name string) float64 {
	v := -1.0
	s.Measure(func(m core.Measure) {
		if m.Name == name {
			v = m.Value
		}
	})
	return v
}

func TestHitSkipsEverythingBelow(t *testing.T) {
	b := &below{}
	s := start(t, small())
	c := s.Wrap(b)
	first := ask(t, c, request("Good evening"))
	if first.Cached || first.Usage.PromptTokens != 61 {
		t.Errorf("the first answer is not what came from below: %+v", first)
	}
	want := &core.Result{Text: "[es] Good evening", Provider: "openai", Model: "m", Finish: core.FinishStop, Cached: true}
	for _, text := range []string{"Good evening", " Good \t evening\n"} {
		if diff := cmp.Diff(want, ask(t, c, request(text))); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
	if n := b.calls.Load(); n != 1 {
		t.Errorf("%d calls below", n)
	}
	if h, m := measured(s, "cache_hits_total"), measured(s, "cache_misses_total"); h != 2 || m != 1 {
		t.Errorf("%v hits, %v misses", h, m)
	}
}

func TestAnAnswerIsFoundFromTheMomentItIsGiven(t *testing.T) {
	b := &below{}
	c := start(t, small()).Wrap(b)
	for i := range 5000 {
		text := fmt.Sprint("text ", i)
		ask(t, c, request(text))
		if res := ask(t, c, request(text)); !res.Cached {
			t.Fatalf("%s went upstream twice", text)
		}
	}
	if n := b.calls.Load(); n != 5000 {
		t.Errorf("%d calls for 5000 texts", n)
	}
}

func TestWhatMustNotBeStoredIsNot(t *testing.T) {
	for name, answer := range map[string]func(context.Context, *core.Request) (*core.Result, error){
		"NoStore": func(context.Context, *core.Request) (*core.Result, error) {
			return &core.Result{Text: "x", NoStore: true}, nil
		},
		"flagged": func(context.Context, *core.Request) (*core.Result, error) {
			return (&core.Result{Text: "x"}).WithFlag(core.FlagFallback), nil
		},
		"error": func(context.Context, *core.Request) (*core.Result, error) {
			return nil, &core.Error{Kind: core.ProviderFailed}
		},
		"panic": func(context.Context, *core.Request) (*core.Result, error) {
			panic("at the disco")
		},
		"neither": func(context.Context, *core.Request) (*core.Result, error) {
			return nil, nil
		},
		"Goexit": func(context.Context, *core.Request) (*core.Result, error) {
			runtime.Goexit()
			return nil, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := &below{answer: answer}
			s := start(t, small())
			c := s.Wrap(b)
			for range 3 {
				res, err := c.Translate(t.Context(), request("Good evening"))
				if (res == nil) == (err == nil) {
					t.Fatalf("result %v, error %v", res, err)
				}
				if res != nil && res.Cached {
					t.Fatal("stored")
				}
				switch name {
				case "panic", "neither", "Goexit":
					if core.KindOf(err) != core.Internal || strings.Contains(core.AsError(err, "").Detail, "disco") {
						t.Fatalf("error %v", err)
					}
				}
			}
			if n := b.calls.Load(); n != 3 {
				t.Errorf("%d calls below, want 3", n)
			}
			if n := measured(s, "cache_entries"); n != 0 {
				t.Errorf("%v entries", n)
			}
		})
	}
}

func TestNoCacheAsksAnewAndStores(t *testing.T) {
	b := &below{}
	b.answer = func(ctx context.Context, req *core.Request) (*core.Result, error) {
		return &core.Result{Text: fmt.Sprint("answer ", b.calls.Load())}, nil
	}
	s := start(t, small())
	c := s.Wrap(b)
	ask(t, c, request("x"))
	fresh := request("x")
	fresh.NoCache = true
	if res := ask(t, c, fresh); res.Cached || res.Text != "answer 2" {
		t.Errorf("NoCache was answered %+v", res)
	}
	if res := ask(t, c, request("x")); !res.Cached || res.Text != "answer 2" {
		t.Errorf("then came %+v, want the newer answer from the cache", res)
	}
}

func TestAnswersExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &below{}
		s := New(core.Env{Name: "cache"}, Config{MaxSize: 1 << 20, TTL: time.Hour})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		c := s.Wrap(b)
		ask(t, c, request("x"))
		time.Sleep(time.Hour)
		if !ask(t, c, request("x")).Cached {
			t.Error("gone before its time")
		}
		time.Sleep(time.Millisecond)
		if ask(t, c, request("x")).Cached {
			t.Error("still there after its time")
		}
		if !ask(t, c, request("x")).Cached {
			t.Error("not stored anew")
		}
	})
}

// write writes a preload table and returns its name.
func write(t *testing.T, name, table string) core.Path {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	return core.Path(name)
}

func TestPreloadedTextsNeedNoCall(t *testing.T) {
	b := &below{name: "one engine"}
	c := Defaults()
	c.Preload = []core.Path{
		write(t, "a.tsv", "en\tes\tThank you.\tGracias.\nen\tes\tCafe\u0301\tCafeteri\u0301a\nen\tes\tYes\tNo\n"),
		write(t, "b.tsv", "en\tes\tYes\tSí\n"),
	}
	s := start(t, c)
	for _, next := range []core.Translator{s.Wrap(b), s.Wrap(&below{name: "another engine"})} {
		for text, want := range map[string]string{"Thank you.": "Gracias.", "  Thank  you. ": "Gracias.", "Caf\u00e9": "Cafeteri\u0301a", "Yes": "Sí"} {
			if diff := cmp.Diff(&core.Result{Text: want, Cached: true}, ask(t, next, request(text))); diff != "" {
				t.Errorf("%q: %s", text, diff)
			}
		}
	}
	if n := measured(s, "cache_preload_hits_total"); n != 8 {
		t.Errorf("%v preload hits", n)
	}
	for name, change := range map[string]func(*core.Request){
		"another case":     func(r *core.Request) { r.Text = "thank you." },
		"another target":   func(r *core.Request) { r.Target = "fr" },
		"unknown source":   func(r *core.Request) { r.Source = "" },
		"with a context":   func(r *core.Request) { r.Context = []core.Pair{{Source: "a", Target: "b"}} },
		"with a formality": func(r *core.Request) { r.Formality = core.Formal },
		"with a glossary":  func(r *core.Request) { r.Glossary = "g" },
		"with a wish":      func(r *core.Request) { r.Instructions = []string{"be brief"} },
		"no_cache":         func(r *core.Request) { r.NoCache = true },
	} {
		req := request("Thank you.")
		change(req)
		if res := ask(t, s.Wrap(b), req); res.Cached {
			t.Errorf("%s: answered from the table", name)
		}
	}
}

func TestStartSaysWhichPreloadLineIsWrong(t *testing.T) {
	wrong := write(t, "wrong.tsv", "# ours\nen\tes\tYes\n")
	for name, want := range map[core.Path]string{
		wrong:                         "preload: " + string(wrong) + ": line 2: 3 fields",
		"/nowhere/at/all/phrases.tsv": "preload: open /nowhere/at/all/phrases.tsv: no such file",
	} {
		c := Defaults()
		c.Preload = []core.Path{name}
		s := New(core.Env{Name: "cache"}, c)
		if err := s.Start(t.Context()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s...", err, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPlanChangesThingsInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &below{}
		s := New(core.Env{Name: "cache"}, Config{MaxSize: 4 << 20, TTL: time.Hour})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		c := s.Wrap(b)
		ask(t, c, request("kept"))

		if _, err := s.Plan(&Config{MaxSize: 4 << 20, TTL: time.Hour, Preload: []core.Path{"/nowhere"}}); err == nil {
			t.Error("a missing file was planned")
		}
		table := write(t, "a.tsv", "en\tes\tYes\tSí\n")
		apply, err := s.Plan(&Config{MaxSize: 4 << 20, TTL: time.Minute, Preload: []core.Path{table}})
		if err != nil {
			t.Fatal(err)
		}
		if ask(t, c, request("Yes")).Text == "Sí" {
			t.Error("changed before apply")
		}
		apply()
		if ask(t, c, request("Yes")).Text != "Sí" {
			t.Error("the new table is not in use")
		}
		if !ask(t, c, request("kept")).Cached {
			t.Error("what was stored is gone")
		}
		time.Sleep(time.Minute + 1)
		if ask(t, c, request("kept")).Cached {
			t.Error("the new ttl is not in use")
		}

		for i := range 8000 {
			ask(t, c, request(fmt.Sprint("text ", i)))
		}
		synctest.Wait() // until ristretto has what left recent
		if n := measured(s, "cache_bytes"); n < 2<<20 {
			t.Fatalf("only %v bytes stored", n)
		}
		apply, err = s.Plan(&Config{MaxSize: 1 << 20, TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		apply()
		if n := measured(s, "cache_bytes"); n > 1<<20 || n < 3<<18 {
			t.Errorf("%v bytes after shrinking to 1MiB", n)
		}
	})
}

func TestGenerationsDoNotMix(t *testing.T) {
	old, young := &below{name: "old"}, &below{name: "young"}
	s := start(t, small())
	before, after := s.Wrap(old), s.Wrap(young)
	ask(t, before, request("x"))
	if ask(t, after, request("x")).Cached {
		t.Error("the new generation got the answer of the old one")
	}
	if !ask(t, before, request("x")).Cached || !ask(t, after, request("x")).Cached {
		t.Error("not stored for each")
	}
}

// TestKeysTellApartWhatMatters: two requests have one key exactly when all that
// matters is equal.
func TestKeysTellApartWhatMatters(t *testing.T) {
	// Lengths up to 200 take two bytes; some contents look like lengths.
	part := rapid.OneOf(
		rapid.SampledFrom([]string{"", "a", "b", "ab", "\x01a", "\x00", "a\x00"}),
		rapid.Map(rapid.SampledFrom([]int{127, 128, 200}), func(n int) string { return strings.Repeat("a", n) }),
	)
	text := rapid.StringOf(rapid.SampledFrom([]rune("aAe\u00e9\u0301 \t\u00a0\n\x01")))
	type asked struct {
		below string
		req   core.Request
	}
	requests := rapid.Custom(func(t *rapid.T) asked {
		return asked{part.Draw(t, "below"), core.Request{
			Text:      text.Draw(t, "text"),
			Source:    core.Language(part.Draw(t, "source")),
			Target:    core.Language(part.Draw(t, "target")),
			Formality: core.Formality(part.Draw(t, "formality")),
			Glossary:  part.Draw(t, "glossary"),
			Context: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) core.Pair {
				return core.Pair{Source: part.Draw(t, "said"), Target: part.Draw(t, "answered")}
			}), 0, 2).Draw(t, "context"),
			Instructions: rapid.SliceOfN(part, 0, 2).Draw(t, "instructions"),
			// What follows does not matter.
			ID: text.Draw(t, "id"), Session: text.Draw(t, "session"), Client: text.Draw(t, "client"),
			Final: rapid.Bool().Draw(t, "final"), Lane: core.Lane(rapid.IntRange(0, 2).Draw(t, "lane")),
		}}
	})
	matters := func(a asked) string {
		return fmt.Sprintf("%q %q %q %q %q %q %q %q", a.below, a.req.Source, a.req.Target, a.req.Formality, a.req.Glossary,
			a.req.Context, a.req.Instructions, normal.String(a.req.Text))
	}
	key := func(a asked) string { return string(appendKey(appendPart(nil, a.below), &a.req)) }
	property.Check(t, func(t *rapid.T) {
		a := requests.Draw(t, "a")
		b := requests.Draw(t, "b")
		if rapid.Bool().Draw(t, "near") { // else two requests are hardly ever equal
			near := a
			switch rapid.IntRange(0, 8).Draw(t, "changed") {
			case 0:
				near.below = b.below
			case 1:
				near.req.Text = b.req.Text
			case 2:
				near.req.Source, near.req.Target = b.req.Source, b.req.Target
			case 3:
				near.req.Formality, near.req.Glossary = b.req.Formality, b.req.Glossary
			case 4:
				near.req.Context = b.req.Context
			case 5:
				near.req.Instructions = b.req.Instructions
			case 6:
				near.req.Text = " " + strings.ReplaceAll(near.req.Text, " ", " \u00a0\t") + "\n"
			case 7: // the same parts, moved by one place
				near.req.Source, near.req.Target, near.req.Glossary = a.req.Target, core.Language(a.req.Glossary), string(a.req.Source)
			case 8:
				near.req.ID, near.req.Lane, near.req.Client = b.req.ID, b.req.Lane, b.req.Client
			}
			b = near
		}
		if same := matters(a) == matters(b); (key(a) == key(b)) != same {
			t.Fatalf("same %v, keys %q and %q", same, key(a), key(b))
		}
	})
}

func TestMaxSizeBoundsMemory(t *testing.T) {
	texts, size := property.Rounds(1_000_000, 300_000), core.Size(8<<20)
	if race || testing.Short() {
		texts, size = 20_000, 1<<20
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	b := &below{}
	s := start(t, Config{MaxSize: size, TTL: time.Hour})
	c := s.Wrap(b)
	empty := heap()
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := g; i < texts; i += 8 {
				if _, err := c.Translate(context.Background(), request(fmt.Sprint("This is the long sentence number ", i))); err != nil {
					t.Error(err)
					return
				}
				if i%5000 == 0 && measured(s, "cache_bytes") > float64(size) {
					t.Errorf("%v bytes, at most %v", measured(s, "cache_bytes"), size)
				}
			}
		})
	}
	all.Wait()
	s.flights.running.Wait()
	s.memory.cache.Wait()
	if n := b.calls.Load(); n != int64(texts) {
		t.Errorf("%d calls for %d texts", n, texts)
	}
	entries, bytes := measured(s, "cache_entries"), measured(s, "cache_bytes")
	taken := heap() - empty
	t.Logf("%v entries, %v bytes, heap %d", entries, bytes, taken)
	if bytes > float64(size) || bytes < 0.8*float64(size) {
		t.Errorf("%v bytes of %v are in use", bytes, size)
	}
	if !race && float64(taken) > 1.25*float64(size) {
		t.Errorf("%d bytes of memory for %v", taken, size)
	}
	if n := entries + measured(s, "cache_evictions_total") + measured(s, "cache_rejections_total"); n != float64(texts) {
		t.Errorf("%v of %d texts are stored or had to go", n, texts)
	}
}

func TestAFullCacheStillTakesInWhatIsNew(t *testing.T) {
	property.WithoutRace(t) // it is one goroutine
	s := start(t, Config{MaxSize: 1 << 20, TTL: time.Hour})
	c := s.Wrap(&below{})
	for round := range 4 {
		for i := range 4000 {
			ask(t, c, request(fmt.Sprint("filler ", round, i)))
		}
		for i := range 100 {
			ask(t, c, request(fmt.Sprint("new ", round, i)))
			if !ask(t, c, request(fmt.Sprint("new ", round, i))).Cached {
				t.Fatalf("round %d: text %d went upstream twice", round, i)
			}
		}
	}
}

func TestTextsAskedOftenOutlastThoseAskedOnce(t *testing.T) {
	if race {
		t.Skip("ristretto counts with a sync.Pool, which drops at random under the race detector")
	}
	s := start(t, Config{MaxSize: 1 << 20, TTL: time.Hour})
	c := s.Wrap(&below{})
	often := func() (hits int) {
		for i := range 50 {
			if ask(t, c, request(fmt.Sprint("often ", i))).Cached {
				hits++
			}
		}
		return hits
	}
	for i := range 40_000 {
		ask(t, c, request(fmt.Sprint("once ", i)))
		if i%100 == 0 {
			often()
		}
	}
	if hits := often(); hits < 45 {
		t.Errorf("%d of 50 texts are left", hits)
	}
}

func TestClosedCacheRefuses(t *testing.T) {
	b := &below{}
	s := New(core.Env{Name: "cache"}, small())
	c := s.Wrap(b)
	if res := ask(t, c, request("before start")); res.Cached {
		t.Error("a hit from nowhere")
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask(t, c, request("x"))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Translate(t.Context(), request("x")); core.KindOf(err) != core.Unavailable {
		t.Errorf("error %v", err)
	}
	measured(s, "cache_bytes")
}

func TestCloseMayComeAtAnyTime(t *testing.T) {
	for range 20 {
		s := New(core.Env{Name: "cache"}, Config{MaxSize: 1 << 20, TTL: time.Hour})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := s.Wrap(&below{})
		var all sync.WaitGroup
		for g := range 8 {
			all.Go(func() {
				for i := 0; ; i++ {
					_, err := c.Translate(context.Background(), request(fmt.Sprint(g, i%50)))
					if core.KindOf(err) == core.Unavailable {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		runtime.Gosched()
		s.Close()
		all.Wait()
	}
}

// foot ends a chain with one attempt.
type foot struct{}

func (foot) Call(below core.Below) (core.Translator, error) {
	p, ok := below.Provider("openai")
	if !ok {
		return nil, errors.New("no provider")
	}
	return below.Around(p), nil
}

// linked returns a chain of the cache alone above next.
func linked(t testing.TB, s *Stage, next core.Translator) (*chain.Chain, *chain.Watch) {
	t.Helper()
	watch := &chain.Watch{}
	c, err := chain.Link(
		[]chain.Place{{Name: "cache", Item: s}, {Name: "provider", Item: foot{}}},
		func(string) (core.Provider, bool) {
			return core.Provider{Name: "openai", Translator: next, Fingerprint: "f"}, true
		}, watch)
	if err != nil {
		t.Fatal(err)
	}
	return c, watch
}

const sentence = "Good morning. The new car is very fast, and it was not that dear."

func TestHitCostsNoAllocation(t *testing.T) {
	if race {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	c := Defaults()
	c.Preload = []core.Path{write(t, "a.tsv", "en\tes\tYes\tSí\n")}
	s := start(t, c)
	chain, _ := linked(t, s, &below{})
	ctx := context.Background()
	for _, text := range []string{sentence, "Él tomó el café, ¿verdad?", "Yes"} {
		req := request(text)
		ask(t, chain, req)
		got := testing.AllocsPerRun(1000, func() {
			if res, err := chain.Translate(ctx, req); err != nil || !res.Cached {
				t.Fatalf("%+v %v", res, err)
			}
		})
		if got != 0 {
			t.Errorf("%q: %v allocations", text, got)
		}
	}
}

func BenchmarkHit(b *testing.B) {
	ctx := context.Background()
	for name, text := range map[string]string{"english": sentence, "spanish": "Buenos días. El coche nuevo es muy rápido, y no salió tan caro."} {
		s := start(b, Defaults())
		linked, _ := linked(b, s, &below{})
		for where, c := range map[string]core.Translator{"stage": s.Wrap(&below{}), "chain": linked} {
			b.Run(name+"/"+where, func(b *testing.B) {
				req := request(text)
				ask(b, c, req)
				b.ReportAllocs()
				for b.Loop() {
					if res, err := c.Translate(ctx, req); err != nil || !res.Cached {
						b.Fatal(res, err)
					}
				}
			})
			b.Run(name+"/"+where+"/parallel", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					req := request(text)
					for pb.Next() {
						if res, err := c.Translate(ctx, req); err != nil || !res.Cached {
							b.Error(res, err)
							return
						}
					}
				})
			})
		}
	}
}

func BenchmarkMiss(b *testing.B) {
	s := start(b, Defaults())
	c := s.Wrap(&below{})
	ctx := context.Background()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := c.Translate(ctx, request(fmt.Sprint("text ", i))); err != nil {
			b.Fatal(err)
		}
	}
}
