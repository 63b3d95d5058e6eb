package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/engine"
	"github.com/dragoman-mt/dragoman/core/pool"
	"github.com/dragoman-mt/dragoman/plugins/host"
	"github.com/dragoman-mt/dragoman/stages"
	"github.com/dragoman-mt/dragoman/stages/protect"
)

// inProcessRows measure the chain by itself, in this process, without sockets.
func inProcessRows() []row {
	return []row{
		{
			name: "noop", doc: "a stage that does nothing, linked and observed",
			bars: []bar{{what: "each such stage / an indirect call and two clock reads", unit: "x", limit: 1.5}, {what: "allocations", limit: 0}},
			open: openNoop,
		},
		{
			name: "cached", doc: "a cache hit through the whole chain of pipeline.yaml, in process",
			bars: []bar{{what: "hit / Get of ristretto", unit: "x", limit: 6}, {what: "allocations", limit: 2}},
			open: openCached,
		},
		{
			name: "protect", doc: "the stage protect for a text of 100 characters without placeholders",
			bars: []bar{{what: "added by the stage", unit: "ns", limit: 1000}, {what: "allocations", limit: 0}},
			open: openProtect,
		},
		{
			name: "million", doc: "the cache of 32 MiB after 1,000 and after 1,000,000 distinct texts",
			bars: []bar{
				{what: "hit after 1,000,000 / hit after 1,000", unit: "x", limit: 2},
				{what: "live memory that the cache added", unit: "MB", limit: 64},
			},
			open: openMillion,
		},
	}
}

// nothing is a stage that hands everything on.
type nothing struct{}

func (nothing) Wrap(next core.Translator) core.Translator { return passing{next} }

type passing struct{ next core.Translator }

func (p passing) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	return p.next.Translate(ctx, req)
}

// same ends a chain with the same answer to everything.
type same struct{ res *core.Result }

func (s same) Call(core.Below) (core.Translator, error) {
	return core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) { return s.res, nil }), nil
}

func openNoop(context.Context, *lab, *closers) (round, error) {
	// Few enough for the room that a trace has for spans.
	const stages = 5
	link := func(n int) (*chain.Chain, error) {
		var places []chain.Place
		for i := range n {
			places = append(places, chain.Place{Name: "nothing-" + strconv.Itoa(i), Item: nothing{}})
		}
		places = append(places, chain.Place{Name: "end", Item: same{&core.Result{Text: "x"}}})
		return chain.Link(places, func(string) (core.Provider, bool) { return core.Provider{}, false }, &chain.Watch{})
	}
	with, err := link(stages)
	if err != nil {
		return nil, err
	}
	without, err := link(0)
	if err != nil {
		return nil, err
	}
	cost := func(c *chain.Chain) testing.BenchmarkResult {
		return testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			ctx, trace := context.Background(), &core.Trace{}
			req := &core.Request{Text: "x", Trace: trace}
			for b.Loop() {
				*trace = core.Trace{}
				if _, err := c.Translate(ctx, req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	return func(context.Context) ([]float64, string, error) {
		a, z := cost(with), cost(without)
		if a.N == 0 || z.N == 0 {
			return nil, "", fmt.Errorf("the benchmark failed")
		}
		each, least := float64(nanoseconds(a)-nanoseconds(z))/stages, leastObserved()
		remark := fmt.Sprintf("%.0f against %.0f ns", each, least)
		return []float64{each / least, float64(a.AllocsPerOp()-z.AllocsPerOp()) / stages}, remark, nil
	}, nil
}

func openProtect(context.Context, *lab, *closers) (round, error) {
	const text = "The quick brown fox jumps over the lazy dog, and 50 % of all foxes do so every day at noon (or later)."
	built, err := protect.Kind().Build(core.Env{Name: "protect", Log: zap.NewNop()}, &protect.Config{})
	if err != nil {
		return nil, err
	}
	answer := &core.Result{Text: "x"}
	var end core.Translator = core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) { return answer, nil })
	with := built.(core.Stage).Wrap(end)
	cost := func(t core.Translator) testing.BenchmarkResult {
		return testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			ctx, req := context.Background(), &core.Request{Text: text}
			for b.Loop() {
				if _, err := t.Translate(ctx, req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	return func(context.Context) ([]float64, string, error) {
		a, z := cost(with), cost(end)
		if a.N == 0 || z.N == 0 {
			return nil, "", fmt.Errorf("the benchmark failed")
		}
		return []float64{nanoseconds(a) - nanoseconds(z), float64(a.AllocsPerOp())}, "", nil
	}, nil
}

// leastObserved is how long an observed stage takes at least, in nanoseconds: an
// indirect call, and what it takes to see when it began and ended.
func leastObserved() float64 {
	var next core.Translator = core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) { return nil, nil })
	return nanoseconds(testing.Benchmark(func(b *testing.B) {
		ctx, req := context.Background(), &core.Request{}
		var spent time.Duration
		for b.Loop() {
			began := time.Now()
			next.Translate(ctx, req)
			spent += time.Since(began)
		}
		if spent < 0 {
			b.Fatal("time went back")
		}
	}))
}

// bareGet is how long ristretto by itself takes for a text that it holds, in
// nanoseconds: what a hit takes at least.
func bareGet() (float64, error) {
	held, err := ristretto.NewCache(&ristretto.Config[string, *core.Result]{NumCounters: 1000, MaxCost: 1000, BufferItems: 64})
	if err != nil {
		return 0, err
	}
	defer held.Close()
	key := requestFor(1).Text
	held.Set(key, &core.Result{Text: "x"}, 1)
	held.Wait()
	missed := false
	r := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			if _, ok := held.Get(key); !ok {
				missed = true
			}
		}
	})
	if missed {
		return 0, errors.New("ristretto does not hold what was set")
	}
	return nanoseconds(r), nil
}

// roomForGarbage has as much garbage lie about until release is called as in a gateway
// that holds as little as this program. By default four times as much processor time goes
// to the collector.
func roomForGarbage() (release func()) {
	former := debug.SetGCPercent(400)
	return func() { debug.SetGCPercent(former) }
}

func nanoseconds(r testing.BenchmarkResult) float64 { return float64(r.T) / float64(r.N) }

// instant is an upstream that answers at once, in process.
type instant struct{}

func (instant) Warm(string) (func(), error) { return func() {}, nil }

func (instant) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Body.Close()
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader(completion)), ContentLength: int64(len(completion)),
	}, nil
}

// engineOf builds and serves the chain of the pipeline in this process, for an
// upstream that answers at once, with values set over the file.
func engineOf(ctx context.Context, c *closers, file string, set ...string) (*engine.Engine, error) {
	plugins := host.New()
	c.add(func() { plugins.Close() })
	server := config.NewSection("server", "", door.Defaults)
	schema := config.Schema{
		Sections: []config.Section{server.Section, config.NewSection("pool", "", pool.Defaults).Section},
		Kinds:    append(stages.Kinds(), plugins.Kinds()...),
	}
	key := func(name string) (string, bool) {
		if name == "OPENAI_API_KEY" {
			return "bench", true
		}
		return os.LookupEnv(name)
	}
	loaded, err := schema.Load(config.Options{File: file, Set: set, LookupEnv: key})
	if err != nil {
		return nil, err
	}
	e := engine.New(instant{}, zap.NewNop())
	g, err := e.Build(loaded, server.Of(loaded).Deadline)
	if err != nil {
		return nil, err
	}
	if err := g.Start(ctx); err != nil {
		return nil, err
	}
	e.Serve(g, 0)
	c.add(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		e.Close(ctx)
	})
	return e, nil
}

func requestFor(n int64) *core.Request {
	return &core.Request{ID: "bench", Text: string(appendText(nil, n)), Source: "en", Target: "es", Client: "bench", Final: true}
}

func openCached(ctx context.Context, s *lab, c *closers) (round, error) {
	e, err := engineOf(ctx, c, s.pipeline)
	if err != nil {
		return nil, err
	}
	req := requestFor(1)
	if _, err := e.Translate(ctx, req); err != nil {
		return nil, err
	}
	return func(ctx context.Context) ([]float64, string, error) {
		defer roomForGarbage()()
		var failed error
		var traces core.Traces // as a door has them
		r := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req.Trace = traces.Take()
				res, err := e.Translate(ctx, req)
				traces.Return(req.Trace)
				if err == nil && !res.Cached {
					err = fmt.Errorf("an answer did not come from the cache")
				}
				if err != nil {
					failed = err
					b.FailNow()
				}
			}
		})
		if failed != nil {
			return nil, "", failed
		}
		least, err := bareGet()
		if err != nil {
			return nil, "", err
		}
		remark := fmt.Sprintf("%.0f against %.0f ns", nanoseconds(r), least)
		return []float64{nanoseconds(r) / least, float64(r.AllocsPerOp())}, remark, nil
	}, nil
}

// few and many are how many distinct texts have passed when a hit is timed.
const few, many = 1_000, 1_000_000

func openMillion(ctx context.Context, s *lab, c *closers) (round, error) {
	return func(ctx context.Context) ([]float64, string, error) {
		var c closers
		defer c.close()
		before := live()
		e, err := engineOf(ctx, &c, s.pipeline, append([]string{"stages.cache.max_size=32MiB"}, unlimited[:3]...)...)
		if err != nil {
			return nil, "", err
		}
		fill := func(from, to int64) error {
			for n := from; n < to; n++ {
				if _, err := e.Translate(ctx, requestFor(n)); err != nil {
					return err
				}
			}
			return nil
		}
		if err := fill(0, few); err != nil {
			return nil, "", err
		}
		early, _, _, err := hits(ctx, e, few)
		if err != nil {
			return nil, "", err
		}
		if err := fill(few, many); err != nil {
			return nil, "", err
		}
		late, spread, held, err := hits(ctx, e, many)
		if err != nil {
			return nil, "", err
		}
		grew := live() - before
		remark := fmt.Sprintf("a hit takes %.0f ns after 1,000 texts and %.0f ns after 1,000,000, of which %d are held; %.0f ns when all of these are asked for in turn, more than the processor's own cache holds", early, late, held, spread)
		return []float64{late / early, grew}, remark, nil
	}, nil
}

// hits returns how long a hit takes, in nanoseconds: one of a few texts, chosen
// at random among those below n that the cache holds, and one of all that it
// holds, in a random order. The first is the same work whatever is held beside
// them, so that what is compared is the cache; the second includes what the
// processor takes to fetch texts and requests that it has not seen for long.
func hits(ctx context.Context, e *engine.Engine, n int64) (some, all float64, held int, err error) {
	// A hit is given before anybody asks whether the caller has left; a miss is
	// not begun for one who has. So this looks without changing what is held.
	left, leave := context.WithCancel(ctx)
	leave()
	var found []*core.Request
	for i := range n {
		req := requestFor(i)
		if res, err := e.Translate(left, req); err == nil && res.Cached {
			found = append(found, req)
		}
	}
	if len(found) < few/2 {
		return 0, 0, 0, fmt.Errorf("of %d texts %d are held", n, len(found))
	}
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	ask := func(texts []*core.Request) (each float64) {
		const calls = 300_000
		begin := time.Now()
		for i := range calls {
			if res, failed := e.Translate(ctx, texts[i%len(texts)]); failed != nil || !res.Cached {
				err = fmt.Errorf("a text that was held is held no more (%v)", failed)
				return 0
			}
		}
		return float64(time.Since(begin)) / calls
	}
	some = ask(found[:min(few, len(found))])
	all = ask(found)
	return some, all, len(found), err
}

// live returns the memory that is in use after a collection, in MB.
func live() float64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}
