package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/engine/enginetest"
)

func fates(g *Generation) string {
	var all []string
	for _, s := range g.Steps {
		if !strings.HasPrefix(s.Place, "stages/provider") && !strings.HasPrefix(s.Place, "providers/") {
			all = append(all, fmt.Sprint(strings.TrimPrefix(s.Place, "stages/"), " ", s.Fate))
		}
	}
	return strings.Join(all, ", ")
}

func TestAReloadTouchesOnlyWhatChanged(t *testing.T) {
	type stage struct{ name, kind, v string }
	for _, c := range []struct {
		name                    string
		before, after           []stage
		off                     string // disabled after
		steps, text, told, gone string
	}{
		{"equal is kept", []stage{{"a", "hard", "1"}}, []stage{{"a", "hard", "1"}}, "", "a kept", "hi 1 1", "", "close 1 1"},
		{"a change rebuilds", []stage{{"a", "hard", "1"}}, []stage{{"a", "hard", "2"}}, "", "a rebuilt", "hi 2 2", "start 2 2, close 1 1", "close 2 2"},
		{"or is made in place", []stage{{"a", "soft", "1"}}, []stage{{"a", "soft", "2"}}, "", "a changed", "hi 1 2", "apply  2", "close 1 2"},
		{"or is inherited", []stage{{"a", "heir", "1"}}, []stage{{"a", "heir", "2"}}, "", "a rebuilt", "hi 1 2", "inherit, start 1 2, close 1 1", "close 1 2"},
		{"another kind is another part", []stage{{"a", "hard", "1"}}, []stage{{"a", "soft", "1"}}, "", "a added", "hi 2 1", "start 2 1, close 1 1", "close 2 1"},
		{"one more", []stage{{"a", "hard", "1"}}, []stage{{"b", "hard", "1"}, {"a", "hard", "1"}}, "", "b added, a kept", "hi 1 1 2 1", "start 2 1", "close 1 1, close 2 1"},
		{"one less", []stage{{"a", "hard", "1"}, {"b", "hard", "1"}}, []stage{{"b", "hard", "1"}}, "", "b kept, a removed", "hi 2 1", "close 1 1", "close 2 1"},
		{"disabled, and its state is kept", []stage{{"a", "soft", "1"}}, []stage{{"a", "soft", "1"}}, "a", "a parked", "hi", "", "close 1 1"},
		{"disabled without a state", []stage{{"a", "hard", "1"}}, []stage{{"a", "hard", "1"}}, "a", "a removed", "hi", "close 1 1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &enginetest.House{}
			make := func(stages []stage, off string) *config.File {
				var all []config.Item
				for _, s := range stages {
					all = append(all, h.Stage(s.name, s.kind, " "+s.v, s.name != off))
				}
				return h.File(all...)
			}
			e := serving(t, make(c.before, ""))
			h.Told()
			g := serve(t, e, make(c.after, c.off))
			e.draining.Wait()
			if got := fates(g); got != c.steps {
				t.Errorf("steps: got %q, want %q", got, c.steps)
			}
			if got := h.Told(); got != c.told {
				t.Errorf("what happened: got %q, want %q", got, c.told)
			}
			if got := h.Says(t, e); got != c.text {
				t.Errorf("text: got %q, want %q", got, c.text)
			}
			e.Close(t.Context())
			if got := h.Told(); !sameWords(got, c.gone) {
				t.Errorf("closed in the end: got %q, want %q", got, c.gone)
			}
		})
	}
}

func sameWords(a, b string) bool {
	count := map[string]int{}
	for _, w := range strings.Split(a, ", ") {
		count[w]++
	}
	for _, w := range strings.Split(b, ", ") {
		count[w]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

func TestAnotherDeadlineIsTakenInPlaceAndOnlyOnceItServes(t *testing.T) {
	h := &enginetest.House{}
	make := func() *config.File {
		return h.File(h.Stage("a", "timed", " 1", true), h.Stage("b", "hard", " 2", true))
	}
	e := serving(t, make())
	h.Told()

	g, err := e.Build(make(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fates(g), "a kept, b rebuilt"; got != want {
		t.Errorf("steps: got %q, want %q", got, want)
	}
	g.Close() // it is not to serve
	if got := h.Told(); got != "close 3 2" {
		t.Errorf("before it serves: %q", got)
	}

	g, err = e.Build(make(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.Serve(g, time.Minute)
	e.draining.Wait()
	if got, want := h.Told(), "start 4 2, deadline 1m0s, close 2 2"; got != want {
		t.Errorf("once it serves: got %q, want %q", got, want)
	}
	again, err := e.Build(make(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fates(again), "a kept, b kept"; got != want {
		t.Errorf("with the same deadline: got %q, want %q", got, want)
	}
	again.Close()
	if got := h.Told(); got != "" {
		t.Errorf("with the same deadline: %q", got)
	}
	e.Close(t.Context())
}

func TestAParkedStageComesBackWithWhatItHeld(t *testing.T) {
	h := &enginetest.House{}
	e := serving(t, h.File(h.Stage("a", "soft", " 1", true)))
	defer e.Close(t.Context())
	serve(t, e, h.File(h.Stage("a", "soft", " 2", false)))
	serve(t, e, h.File(h.Stage("a", "soft", " 2", false)))
	e.draining.Wait()
	if got := h.Says(t, e); got != "hi" {
		t.Errorf("while disabled: %q", got)
	}
	h.Told()
	g := serve(t, e, h.File(h.Stage("a", "soft", " 2", true)))
	if got := h.Says(t, e); got != "hi 1 2" || fates(g) != "a changed" || h.Told() != "apply  2" {
		t.Errorf("enabled again: %q, %s", got, fates(g))
	}
}

func TestAFileThatChangedRebuildsWhatWasMadeFromIt(t *testing.T) {
	h := &enginetest.House{}
	f := h.File(h.Stage("a", "hard", " 1", true), h.Stage("s", "soft", " 1", true))
	e := serving(t, f)
	defer e.Close(t.Context())
	if e.outdated(&progress{}) {
		t.Error("outdated from the start")
	}
	before := e.current.Load().chain.Fingerprint()
	h.FilesSay = "other"
	for _, p := range e.current.Load().parts {
		switch b := p.item.(type) {
		case *enginetest.Brick:
			b.Stale = true
		case enginetest.SoftBrick:
			b.Stale = true
		}
	}
	if !e.outdated(&progress{}) {
		t.Error("nobody noticed")
	}
	g := serve(t, e, f)
	if got := fates(g); got != "a rebuilt, s changed" || !g.Steps[1].Files || !g.Steps[2].Files {
		t.Errorf("got %q, %+v", got, g.Steps)
	}
	after := g.chain.Fingerprint()
	if before == after {
		t.Error("answers of what was made from other files would be taken for its own")
	}
	if g = serve(t, e, f); fates(g) != "a kept, s kept" || g.chain.Fingerprint() != after {
		t.Errorf("a third time: %q", fates(g))
	}
	alone := h.File(h.Stage("a", "hard", " 1", true))
	after = serve(t, e, alone).chain.Fingerprint()
	serve(t, e, h.File())
	if g = serve(t, e, alone); g.chain.Fingerprint() != after {
		t.Error("what was out of use for a while has lost its answers")
	}
	serve(t, e, h.File())
	h.FilesSay = "newest"
	if g = serve(t, e, alone); g.chain.Fingerprint() == after {
		t.Error("files that changed while nobody used them count as the same")
	}
}

func TestAReloadThatFailsLeavesNothingBehind(t *testing.T) {
	for name, c := range map[string]struct {
		stage      func(h *enginetest.House) config.Item
		prepare    func(h *enginetest.House)
		want, told string
	}{
		"cannot be planned": {func(h *enginetest.House) config.Item { return h.Stage("s", "soft", "bad", true) }, nil, "pipeline.yaml:7:3: stages.s: no such stuff", "close 4 2"},
		"cannot be built":   {func(h *enginetest.House) config.Item { return h.Stage("a", "hard", "unbuildable", true) }, nil, "pipeline.yaml:7:3: stages.a: cannot be built", "close 4 2"},
		"cannot be started": {func(h *enginetest.House) config.Item { return h.Stage("a", "hard", " 9", true) }, func(h *enginetest.House) { h.StartErr = map[string]error{" 9": errors.New("will not")} }, "pipeline.yaml:7:3: stages.a: will not", "start 4 2, start 5 9, close 5 9, close 4 2"},
		"is unavailable": {func(h *enginetest.House) config.Item { return h.Stage("a", "hard", " 9", true) }, func(h *enginetest.House) {
			h.StartErr = map[string]error{" 9": &core.Error{Kind: core.Unavailable, Detail: "not up"}}
		}, "pipeline.yaml:7:3: stages.a: unavailable: not up", "start 4 2, start 5 9, close 5 9, close 4 2"},
		"refers to nothing": {func(h *enginetest.House) config.Item {
			return enginetest.Item("again", core.RoleCaller, func() any { return enginetest.Calling{"p"} })
		}, nil, "calls providers already", "close 4 2"},
		"is refused in a part": {func(h *enginetest.House) config.Item { return h.Stage("z", "none", "unbuildable", true) }, nil, "cannot be built", "close 4 2"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &enginetest.House{}
			first := []config.Item{h.Stage("n", "hard", " 1", true), h.Stage("s", "soft", " 1", true), h.Stage("a", "hard", " 1", true)}
			e := serving(t, h.File(first...))
			defer e.Close(t.Context())
			h.Told()
			if c.prepare != nil {
				c.prepare(h)
			}
			g, err := e.Build(h.File(h.Stage("n", "hard", " 2", true), h.Stage("s", "soft", " 1", true), c.stage(h)), time.Second)
			if err == nil {
				err = g.Start(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if got := h.Told(); got != c.told {
				t.Errorf("what happened: got %q, want %q", got, c.told)
			}
			if got := h.Says(t, e); got != "hi 3 1 2 1 1 1" || e.Number() != 1 {
				t.Errorf("what serves says %q", got)
			}
			if g := serve(t, e, h.File(first...)); fates(g) != "n kept, s kept, a kept" {
				t.Errorf("after it: %q", fates(g))
			}
		})
	}
}

func TestTheFirstGenerationServesThoughAPartIsUnavailable(t *testing.T) {
	h := &enginetest.House{StartErr: map[string]error{" 1": &core.Error{Kind: core.Unavailable, Detail: "not up yet"}}}
	e := serving(t, h.File(h.Stage("a", "hard", " 1", true)))
	defer e.Close(t.Context())
	if err := e.Ready(); err == nil || !strings.Contains(err.Error(), "stages/a: ") || !strings.Contains(err.Error(), "not up yet") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyWhatIsNewIsProbedAndTheRestIsAsWellAsItWas(t *testing.T) {
	h := &enginetest.House{ProbeErr: map[string]error{" 3": &core.Error{Kind: core.Unauthorized, Detail: "no such key"}, " 4": &core.Error{Kind: core.Unavailable, Detail: "nobody there"}}}
	e := New(enginetest.Nowhere{}, zap.NewNop())
	defer e.Close(t.Context())
	probed := func(stages ...config.Item) (*Generation, []string, error) {
		g, err := e.Build(h.File(stages...), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		warned, err := Unwell(g.Probe(t.Context()))
		return g, warned, err
	}
	g, _, _ := probed(h.Stage("a", "hard", " 1", true))
	e.Serve(g, time.Minute)
	if got := h.Told(); got != "start 1 1, probe 1 1" {
		t.Errorf("got %q", got)
	}
	g, warned, err := probed(h.Stage("a", "hard", " 1", true), h.Stage("b", "hard", " 4", true))
	if err != nil || len(warned) != 1 || warned[0] != "pipeline.yaml:7:3: stages.b: unavailable: nobody there" && !strings.Contains(warned[0], "stages.b: ") {
		t.Errorf("what cannot be reached is a warning: got %q, %v", warned, err)
	}
	if got := h.Told(); got != "start 2 4, probe 2 4" {
		t.Errorf("got %q", got)
	}
	e.Serve(g, time.Minute)
	g.Watch()
	if err := e.Ready(); err == nil || strings.Contains(err.Error(), "stages/a") || !strings.Contains(err.Error(), "stages/b") {
		t.Errorf("ready: %v", err)
	}
	g, _, err = probed(h.Stage("a", "hard", " 3", true), h.Stage("b", "hard", " 4", true))
	if err == nil || !strings.HasPrefix(err.Error(), "pipeline.yaml:7:3: stages.a: ") {
		t.Errorf("a refused key: got %v", err)
	}
	g.Close()
}

// A shelf is a part of the process that lives outside generations.
type shelf struct{ config string }

func (s *shelf) Plan(config any) (func(), error) {
	c := config.(*enginetest.Setting)
	if c.V == "bad" {
		return nil, errors.New("shelf.v: no such place")
	}
	return func() { s.config = c.V }, nil
}

// line4 is where the section stands.
type line4 struct{ core.Origin }

func (line4) Complain(path, message string) error {
	return config.Complaints{{File: "pipeline.yaml", Line: 4, Column: 6, Path: "shelf." + path, Message: message}}
}

func TestASectionIsChangedInPlaceOrRefusedByName(t *testing.T) {
	h, s := &enginetest.House{}, &shelf{"1"}
	e := New(enginetest.Nowhere{}, zap.NewNop())
	e.Attach("shelf", s)
	with := func(v, other string) *config.File {
		f := h.File()
		f.Sections = map[string]any{"shelf": &enginetest.Setting{V: v}, "wall": &enginetest.Setting{V: other}}
		f.Origins = map[string]core.Origin{"shelf": line4{}}
		return f
	}
	serve(t, e, with("1", "1"))
	defer e.Close(t.Context())
	g, err := e.Build(with("2", "1"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if s.config != "1" || g.Steps[0] != (Step{Place: "shelf", Fate: Change}) {
		t.Errorf("before it serves: %q, %+v", s.config, g.Steps)
	}
	e.Serve(g, time.Minute)
	if s.config != "2" {
		t.Errorf("got %q", s.config)
	}
	for _, c := range []struct{ v, other, want string }{
		{"bad", "1", "pipeline.yaml:4:6: shelf.v: no such place"},
		{"2", "2", "pipeline.yaml: wall: cannot change while the gateway runs; restart it"},
	} {
		if _, err := e.Build(with(c.v, c.other), time.Second); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	if s.config != "2" {
		t.Errorf("after it was refused: %q", s.config)
	}
}

// A provider that the chain does not use any more is closed with the last
// generation that does, and not a reload later.
func TestAProviderThatIsOutOfUseIsNotKept(t *testing.T) {
	var events []string
	a, b := &fake{name: "a", events: &events}, &fake{name: "b", events: &events}
	e := serving(t, file([]string{"a", "b"}, a, b))
	defer e.Close(t.Context())
	g := serve(t, e, file([]string{"a"}, a, b))
	e.draining.Wait()
	if got := fmt.Sprint(g.Steps[:2]); !strings.Contains(got, "providers/a kept") || !strings.Contains(got, "providers/b idle") {
		t.Errorf("%v", got)
	}
	if a.closed.Load() || !b.closed.Load() {
		t.Errorf("a closed: %v, b closed: %v", a.closed.Load(), b.closed.Load())
	}
}

// half can be probed, and says nothing more.
type half struct{ core.Stage }

func (half) Probe(context.Context) error { return nil }

func TestHalfAnAbilityIsSaidAndNotPassedOver(t *testing.T) {
	f := (&enginetest.House{}).File(enginetest.Item("a", core.RoleStage, func() any { return half{} }))
	if _, err := New(enginetest.Nowhere{}, zap.NewNop()).Build(f, time.Second); err == nil || !strings.Contains(err.Error(), "no Ready() error, which core.Prober asks for") {
		t.Error(err)
	}
}
