package engine

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/engine/enginetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fake struct {
	name   string
	events *[]string
	start  error
	probe  func() error
	ready  func() error
	do     core.TranslatorFunc
	closed atomic.Bool
}

func (f *fake) Note(what string) { *f.events = append(*f.events, f.name+" "+what) }
func (f *fake) Start(context.Context) error {
	f.Note("start")
	return f.start
}
func (f *fake) Close() error {
	f.closed.Store(true)
	f.Note("close")
	return nil
}
func (f *fake) Probe(context.Context) error {
	if f.probe == nil {
		return nil
	}
	return f.probe()
}
func (f *fake) Ready() error {
	if f.ready == nil {
		return nil
	}
	return f.ready()
}
func (f *fake) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	if f.do != nil {
		return f.do(ctx, req)
	}
	return &core.Result{Text: f.name}, nil
}
func (f *fake) Measure(emit func(core.Measure)) {
	emit(core.Measure{Name: "fakes", Value: 1, Labels: []string{"x", "y"}})
}

// file is a configuration with these providers, of which the chain uses uses.
func file(uses []string, providers ...*fake) *config.File {
	f := &config.File{Path: "pipeline.yaml"}
	for _, p := range providers {
		f.Providers = append(f.Providers, enginetest.Item(p.name, core.RoleProvider, func() any { return p }))
	}
	f.Stages = []config.Item{enginetest.Item("provider", core.RoleCaller, func() any { return enginetest.Calling(uses) })}
	f.Stages[0].Digest = strings.Join(uses, " ")
	return f
}

func serving(t *testing.T, f *config.File) *Engine {
	t.Helper()
	e := New(enginetest.Nowhere{}, zap.NewNop())
	serve(t, e, f)
	return e
}

func serve(t *testing.T, e *Engine, f *config.File) *Generation {
	t.Helper()
	g, err := e.Build(f, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.Serve(g, time.Minute)
	return g
}

func TestAProviderThatTheChainDoesNotUseIsNotStarted(t *testing.T) {
	var events []string
	e := serving(t, file([]string{"a"}, &fake{name: "a", events: &events}, &fake{name: "b", events: &events}))
	e.Close(t.Context())
	if got := strings.Join(events, ", "); got != "a start, b close, a close" {
		t.Error(got)
	}
}

func TestAFailedStartClosesEverything(t *testing.T) {
	var events []string
	e := New(enginetest.Nowhere{}, zap.NewNop())
	g, err := e.Build(file([]string{"a", "b"}, &fake{name: "a", events: &events}, &fake{name: "b", events: &events, start: errors.New("no")}), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err == nil || err.Error() != "pipeline.yaml:3:5: x.b: no" {
		t.Errorf("got %v", err)
	}
	if got := strings.Join(events, ", "); got != "a start, b start, b close, a close" {
		t.Error(got)
	}
}

func TestABuildThatFailsNamesThePlace(t *testing.T) {
	f := file([]string{"a"})
	f.Providers = []config.Item{enginetest.Item("a", core.RoleProvider, func() any { return "not a translator" })}
	_, err := New(enginetest.Nowhere{}, zap.NewNop()).Build(f, time.Second)
	if err == nil || err.Error() != "pipeline.yaml:3:5: x.a: a kind of role provider built a string, which is no core.Translator" {
		t.Errorf("got %v", err)
	}
}

func TestARequestFinishesOnTheGenerationItEntered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []string
		release := make(chan struct{})
		old := &fake{name: "old", events: &events}
		old.do = func(ctx context.Context, req *core.Request) (*core.Result, error) {
			// A flight outlives the request that began it.
			_, done := req.Trace.Fork()
			go func() { defer done(); <-release }()
			return &core.Result{Text: "old"}, nil
		}
		e := serving(t, file([]string{"old"}, old))
		if res, err := e.Translate(t.Context(), &core.Request{Text: "x"}); err != nil || res.Text != "old" {
			t.Fatal(res, err)
		}
		serve(t, e, file([]string{"new"}, &fake{name: "new", events: &events}))
		if res, err := e.Translate(t.Context(), &core.Request{Text: "x"}); err != nil || res.Text != "new" || e.Number() != 2 {
			t.Fatal(res, err)
		}
		synctest.Wait()
		if old.closed.Load() {
			t.Error("the old generation was closed under a flight")
		}
		close(release)
		synctest.Wait()
		if !old.closed.Load() {
			t.Error("the old generation was not closed after its last flight")
		}
		e.Close(t.Context())
	})
}

func TestADrainEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []string
		begun := make(chan struct{})
		stuck := &fake{name: "stuck", events: &events}
		stuck.do = func(ctx context.Context, _ *core.Request) (*core.Result, error) {
			close(begun)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		e := serving(t, file([]string{"stuck"}, stuck))
		ctx, leave := context.WithCancel(t.Context())
		go e.Translate(ctx, &core.Request{Text: "x"})
		<-begun
		closing, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		began := time.Now()
		e.Close(closing)
		if took := time.Since(began); took != 3*time.Second || !stuck.closed.Load() {
			t.Errorf("closed %v after %v", stuck.closed.Load(), took)
		}
		leave()
		if _, err := e.Translate(t.Context(), &core.Request{Text: "x"}); core.KindOf(err) != core.Unavailable {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestNotReadyUntilAProbeSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			events []string
			up     atomic.Bool
			asked  atomic.Int64
		)
		p := &fake{name: "p", events: &events, probe: func() error {
			asked.Add(1)
			if up.Load() {
				return nil
			}
			return errors.New("down")
		}}
		e := serving(t, file([]string{"p"}, p))
		g := e.current.Load()
		g.Watch()
		time.Sleep(10 * time.Second)
		if err := e.Ready(); err == nil || err.Error() != "providers/p: down" {
			t.Errorf("got %v", err)
		}
		if n := asked.Load(); n != 4 { // at 0, 1, 3 and 7 s
			t.Errorf("asked %d times in 10 s", n)
		}
		if _, err := e.Translate(t.Context(), &core.Request{Text: "x"}); err != nil {
			t.Errorf("not ready is no reason to refuse: %v", err)
		}
		up.Store(true)
		time.Sleep(10 * time.Second)
		if err := e.Ready(); err != nil {
			t.Errorf("got %v", err)
		}
		// After that it says so by itself.
		p.ready = func() error { return errors.New("died") }
		if err := e.Ready(); err == nil || err.Error() != "providers/p: died" {
			t.Errorf("got %v", err)
		}
		p.ready = nil
		if err := e.Ready(); err != nil {
			t.Errorf("got %v", err)
		}
		e.Close(t.Context())
	})
}

func TestOneProviderThatCanServeIsEnough(t *testing.T) {
	var events []string
	fine := func() error { return nil }
	down := func() error { return errors.New("down") }
	for _, c := range []struct {
		p, q, stage func() error
		want        string
	}{
		{fine, fine, fine, ""},
		{down, fine, fine, ""},
		{fine, down, fine, ""},
		{down, down, fine, "providers/p: down\nproviders/q: down"},
		{down, fine, down, "stages/s: down"},
	} {
		p, q := &fake{name: "p", events: &events, ready: c.p}, &fake{name: "q", events: &events, ready: c.q}
		s := &fake{name: "s", events: &events, ready: c.stage}
		g := &Generation{unwell: map[string]error{}, parts: []*part{
			{label: "provider", name: "p", shared: &shared{item: p}, used: true}, {label: "provider", name: "q", shared: &shared{item: q}, used: true},
			{label: "stage", name: "s", shared: &shared{item: s}, used: true},
		}}
		got := ""
		if err := g.Ready(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestAGenerationThatComesAfterTheEndIsClosed(t *testing.T) {
	var events []string
	e := serving(t, file([]string{"a"}, &fake{name: "a", events: &events}))
	late := &fake{name: "late", events: &events}
	g, err := e.Build(file([]string{"late"}, late), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	e.Close(t.Context())
	e.Serve(g, time.Minute)
	if !late.closed.Load() {
		t.Error("it stays open")
	}
	if _, err := e.Translate(t.Context(), &core.Request{Text: "x"}); core.KindOf(err) != core.Unavailable {
		t.Errorf("after Close: %v", err)
	}
}

func TestMeasuresCarryTheirPlace(t *testing.T) {
	var events []string
	e := serving(t, file([]string{"a"}, &fake{name: "a", events: &events}))
	defer e.Close(t.Context())
	found := false
	e.Measure(func(m core.Measure) {
		if m.Name == "fakes" {
			found = strings.Join(m.Labels, " ") == "provider a x y"
		}
	})
	if !found {
		t.Error("no fakes{provider=a,x=y}")
	}
}

func TestAGenerationThatCameTooLateIsNotWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []string
		probed := 0
		p := &fake{name: "p", events: &events, probe: func() error { probed++; return errors.New("down") }}
		e := New(enginetest.Nowhere{}, zap.NewNop())
		g, err := e.Build(file([]string{"p"}, p), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		e.Close(t.Context()) // while a reload goes on
		e.Serve(g, 0)
		g.Watch()
		time.Sleep(time.Hour)
		if !p.closed.Load() || probed != 0 {
			t.Errorf("closed: %v, and asked %d times how it is", p.closed.Load(), probed)
		}
	})
}
