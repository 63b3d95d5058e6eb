package coretest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dragoman-mt/dragoman/core"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A recorder is a T that notes what fails instead of failing.
type recorder struct {
	ctx    context.Context
	mu     sync.Mutex
	failed []string
}

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return r.ctx }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// record returns what check says is wrong.
func record(t *testing.T, check func(T)) []string {
	r := &recorder{ctx: t.Context()}
	done := make(chan struct{})
	go func() { // a goroutine of its own, for Fatalf to end
		defer close(done)
		check(r)
	}()
	<-done
	return r.failed
}

// Good parts, one of each role, which the broken ones below are made of.

type config struct {
	Slots int           `json:"slots" jsonschema:"minimum=1,maximum=100" jsonschema_description:"How many at once."`
	Wait  time.Duration `json:"wait" jsonschema_extras:"minDuration=0s,maxDuration=1m" jsonschema_description:"How long."`
	Skip  []string      `json:"skip" jsonschema_description:"What to leave out."`
	Inner inner         `json:"inner" jsonschema_description:"More of it."`
}

type inner struct {
	Room core.Size `json:"room" jsonschema_extras:"minSize=1KiB,maxSize=1GiB" jsonschema_description:"How much."`
}

func defaults() config { return config{Slots: 3, Wait: time.Second, Skip: []string{"nothing"}} }

// kindOf declares a part that build makes.
func kindOf(role core.Role, build func() any) core.Kind {
	return core.NewKind("sample", role, "stands here to be tested", defaults, func(core.Env, *config) (any, error) { return build(), nil })
}

// A stage is a good stage, in which one thing can be replaced.
type stage struct {
	calls     atomic.Int64
	translate func(ctx context.Context, req *core.Request, next core.Translator) (*core.Result, error)
}

func (s *stage) Wrap(next core.Translator) core.Translator {
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		s.calls.Add(1)
		if s.translate != nil {
			return s.translate(ctx, req, next)
		}
		res, err := next.Translate(ctx, req)
		if err != nil {
			return nil, err
		}
		return res.WithFlag("sampled"), nil
	})
}

func (s *stage) Fingerprint() string { return "sample" }

func (s *stage) Measure(emit func(core.Measure)) {
	emit(core.Measure{Name: "sample_calls_total", Help: "Calls.", Counter: true, Value: float64(s.calls.Load()), Labels: []string{"kind", "all"}})
}

type hooks struct{}

func (hooks) Before(context.Context, *core.Request) (core.Verdict, error) {
	return core.Verdict{State: []byte("state")}, nil
}

func (hooks) After(_ context.Context, _ *core.Request, res *core.Result, _ []byte) (*core.Result, error) {
	return res.WithFlag("hooked"), nil
}

// A gate has slots.
type gate struct {
	free atomic.Int64
	give func(g *gate, o core.Outcome)
	take func(g *gate, req *core.Request) (handled, ok bool, wait time.Duration)
}

func newGate() *gate {
	g := &gate{}
	g.free.Store(3)
	return g
}

func (g *gate) Take(req *core.Request, _ time.Time) (bool, time.Duration) {
	if g.take != nil {
		if handled, ok, wait := g.take(g, req); handled {
			return ok, wait
		}
	}
	if g.free.Load() == 0 {
		return false, 0
	}
	g.free.Add(-1)
	return true, 0
}

func (g *gate) Give(_ *core.Request, o core.Outcome) {
	if g.give != nil {
		g.give(g, o)
		return
	}
	g.free.Add(1)
}

type translator func(ctx context.Context, req *core.Request) (*core.Result, error)

func (f translator) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	return f(ctx, req)
}

func good(ctx context.Context, req *core.Request) (*core.Result, error) {
	if ctx.Err() != nil {
		return nil, core.ContextError(ctx, "sample")
	}
	return &core.Result{Text: "[" + string(req.Target) + "] " + req.Text}, nil
}

func provider(t T, kind core.Kind, config any) { Provider(t, core.Env{Name: "sample"}, kind, config) }

func TestGoodPartsPass(t *testing.T) {
	Stage(t, kindOf(core.RoleStage, func() any { return &stage{} }), nil)
	Stage(t, kindOf(core.RoleStage, func() any { return hooks{} }), &config{Slots: 5})
	Stage(t, kindOf(core.RoleLookup, func() any { return &stage{} }), nil)
	Stage(t, kindOf(core.RoleCaller, func() any { return direct{} }), nil)
	Gate(t, kindOf(core.RoleGate, func() any { return newGate() }), nil)
	provider(t, kindOf(core.RoleProvider, func() any { return translator(good) }), nil)
}

// A closing is a part whose life can be broken.
type closing struct {
	stage
	start, close func() error
}

func (c *closing) Start(context.Context) error {
	if c.start != nil {
		return c.start()
	}
	return nil
}

func (c *closing) Close() error {
	if c.close != nil {
		return c.close()
	}
	return nil
}

// planning refuses, or takes, what it should not.
type planning struct {
	stage
	plan func(any) (func(), error)
	name atomic.Value
}

func (p *planning) Plan(config any) (func(), error) { return p.plan(config) }
func (p *planning) Fingerprint() string             { name, _ := p.name.Load().(string); return name }

type measuring struct {
	stage
	measures []core.Measure
}

func (m *measuring) Measure(emit func(core.Measure)) {
	for _, one := range m.measures {
		emit(one)
	}
}

func one(m core.Measure) func() any {
	return func() any { return &measuring{measures: []core.Measure{m}} }
}

type fingerprinting struct {
	stage
	next *atomic.Int64
	once string
}

func (f *fingerprinting) Fingerprint() string {
	if f.once != "" {
		return f.once
	}
	return fmt.Sprint(f.next.Add(1))
}

// TestEachBreachIsFound breaks one promise at a time, and reads that the suite
// says so.
func TestEachBreachIsFound(t *testing.T) {
	var builds atomic.Int64
	translating := func(f func(ctx context.Context, req *core.Request, next core.Translator) (*core.Result, error)) core.Kind {
		return kindOf(core.RoleStage, func() any { return &stage{translate: f} })
	}
	gating := func(change func(*gate)) core.Kind {
		return kindOf(core.RoleGate, func() any {
			g := newGate()
			change(g)
			return g
		})
	}
	answering := func(f translator) core.Kind { return kindOf(core.RoleProvider, func() any { return f }) }
	with := func(change func(*core.Kind)) core.Kind {
		k := kindOf(core.RoleStage, func() any { return &stage{} })
		change(&k)
		return k
	}
	shared := defaults()
	for name, c := range map[string]struct {
		check func(T, core.Kind, any)
		kind  core.Kind
		says  string
	}{
		// The declaration.
		"a bad name":   {Kind, with(func(k *core.Kind) { k.Name = "My Stage" }), "want a lower-case word"},
		"no doc":       {Kind, with(func(k *core.Kind) { k.Doc = "" }), "want one line"},
		"one config":   {Kind, with(func(k *core.Kind) { k.Config = func() any { return &shared } }), "the same pointer twice"},
		"shared slice": {Kind, with(func(k *core.Kind) { k.Config = func() any { c := shared; return &c } }), "share Skip"},
		"no pointer":   {Kind, with(func(k *core.Kind) { k.Config = func() any { return config{} } }), "want a pointer to a struct"},
		"no key": {Kind, core.NewKind("sample", core.RoleStage, "x", func() struct{ Bare int } { return struct{ Bare int }{} },
			func(core.Env, *struct{ Bare int }) (any, error) { return &stage{}, nil }), "the key of Bare"},
		"no help": {Kind, core.NewKind("sample", core.RoleStage, "x", func() unhelpful { return unhelpful{} },
			func(core.Env, *unhelpful) (any, error) { return &stage{}, nil }), "Inner.Name has no jsonschema_description"},
		"no bounds": {Kind, core.NewKind("sample", core.RoleStage, "x", func() boundless { return boundless{} },
			func(core.Env, *boundless) (any, error) { return &stage{}, nil }), "Count has no maximum"},
		"no bounds of a time": {Kind, core.NewKind("sample", core.RoleStage, "x", func() boundless { return boundless{} },
			func(core.Env, *boundless) (any, error) { return &stage{}, nil }), "Wait has no minDuration"},
		"any config": {Kind, with(func(k *core.Kind) { k.Build = func(core.Env, any) (any, error) { return &stage{}, nil } }), "Build takes a configuration of another type"},

		// The life.
		"build fails":      {Kind, with(func(k *core.Kind) { k.Build = func(core.Env, any) (any, error) { return nil, errors.New("no") } }), "build: no"},
		"nothing is built": {Kind, kindOf(core.RoleStage, func() any { return nil }), "Build returned a <nil>"},
		"wrong role":       {Kind, kindOf(core.RoleGate, func() any { return &stage{} }), "which is no core.Gate"},
		"unknown role":     {Kind, kindOf("guest", func() any { return &stage{} }), "there is no role"},
		"build dials": {Kind, with(func(k *core.Kind) {
			build := k.Build
			k.Build = func(env core.Env, c any) (any, error) { env.Upstream.Warm("https://x"); return build(env, c) }
		}), "Build uses the upstream"},
		"build edits": {Kind, core.NewKind("sample", core.RoleStage, "x", defaults, func(_ core.Env, c *config) (any, error) {
			c.Slots++
			return &stage{}, nil
		}), "Build changes its configuration"},
		"build starts a goroutine": {Kind, kindOf(core.RoleStage, func() any {
			stop := make(chan struct{})
			go func() { <-stop }()
			return &closing{close: sync.OnceValue(func() error { close(stop); return nil })}
		}), "after Build: goroutines are left behind"},
		"close leaves a goroutine": {Kind, kindOf(core.RoleStage, func() any {
			return &closing{start: func() error { go func() { <-t.Context().Done() }(); return nil }}
		}), "after Close: goroutines are left behind"},
		"start fails": {Kind, kindOf(core.RoleStage, func() any { return &closing{start: func() error { return errors.New("no") }} }), "start: no"},
		"close once": {Kind, kindOf(core.RoleStage, func() any {
			closed := false
			return &closing{close: func() error {
				if closed {
					return errors.New("closed already")
				}
				closed = true
				return nil
			}}
		}), "close: closed already"},
		"a random fingerprint": {Kind, kindOf(core.RoleStage, func() any { return &fingerprinting{next: &builds} }), "changes from call to call"},
		"a fingerprint of the item": {Kind, kindOf(core.RoleStage, func() any { return &fingerprinting{once: fmt.Sprint(builds.Add(1))} }),
			"differs for equal configurations"},
		"no plan": {Kind, kindOf(core.RoleStage, func() any {
			return &planning{plan: func(any) (func(), error) { return nil, errors.New("no") }}
		}), "Plan refuses"},
		"a plan for all": {Kind, kindOf(core.RoleStage, func() any {
			return &planning{plan: func(any) (func(), error) { return func() {}, nil }}
		}), "Plan takes a configuration of another type"},
		"a plan changes": {Kind, kindOf(core.RoleStage, func() any {
			p := &planning{}
			p.plan = func(any) (func(), error) { return func() { p.name.Store("new") }, nil }
			return p
		}), "changes the fingerprint"},

		// Measures.
		"camel case":       {Kind, kindOf(core.RoleStage, one(core.Measure{Name: "callsMade", Help: "x"})), "snake case"},
		"no total":         {Kind, kindOf(core.RoleStage, one(core.Measure{Name: "calls", Help: "x", Counter: true})), "ends in _total"},
		"a gauge as total": {Kind, kindOf(core.RoleStage, one(core.Measure{Name: "calls_total", Help: "x"})), "does not end in _total"},
		"milliseconds":     {Kind, kindOf(core.RoleStage, one(core.Measure{Name: "wait_ms", Help: "x"})), "in seconds"},
		"seconds first":    {Kind, kindOf(core.RoleStage, one(core.Measure{Name: "seconds_waited", Help: "x"})), "at the end of the name"},
		"no help of it":    {Kind, kindOf(core.RoleStage, one(core.Measure{Name: "calls"})), "no help"},
		"half a label":     {Kind, kindOf(core.RoleStage, one(core.Measure{Name: "calls", Help: "x", Labels: []string{"kind"}})), "no value"},
		"a prefix":         {Kind, kindOf(core.RoleStage, one(core.Measure{Name: "dragoman_calls", Help: "x"})), "prefix"},
		"twice": {Kind, kindOf(core.RoleStage, func() any {
			return &measuring{measures: []core.Measure{{Name: "calls", Help: "x"}, {Name: "calls", Help: "x"}}}
		}), "reported twice"},
		"two helps": {Kind, kindOf(core.RoleStage, func() any {
			return &measuring{measures: []core.Measure{{Name: "calls", Help: "x", Labels: []string{"a", "1"}}, {Name: "calls", Help: "y", Labels: []string{"a", "2"}}}}
		}), "not always the same"},
		"a session in a label": {Stage, kindOf(core.RoleStage, one(core.Measure{Name: "calls", Help: "x", Labels: []string{"session", mark + "-session-1"}})), "a label holds"},

		// Stages.
		"a gate as a stage": {Stage, kindOf(core.RoleGate, func() any { return newGate() }), "does not stand in the way"},
		"it fails": {Stage, translating(func(context.Context, *core.Request, core.Translator) (*core.Result, error) {
			return nil, errors.New("no")
		}), "a request that nothing stands against failed"},
		"neither": {Stage, translating(func(context.Context, *core.Request, core.Translator) (*core.Result, error) {
			return nil, nil
		}), "neither a result nor an error"},
		"both": {Stage, translating(func(ctx context.Context, req *core.Request, next core.Translator) (*core.Result, error) {
			res, _ := next.Translate(ctx, req)
			return res, errors.New("both")
		}), "a request that nothing stands against failed"},
		"the request is changed": {Stage, translating(func(ctx context.Context, req *core.Request, next core.Translator) (*core.Result, error) {
			req.Instructions[0] = "changed"
			return next.Translate(ctx, req)
		}), "it changes Instructions of the request"},
		"the result is changed": {Stage, translating(func(ctx context.Context, req *core.Request, next core.Translator) (*core.Result, error) {
			res, err := next.Translate(ctx, req)
			if err == nil {
				res.Cached = true
			}
			return res, err
		}), "it changes Cached of a result from below"},
		"a flag is appended": {Stage, translating(func(ctx context.Context, req *core.Request, next core.Translator) (*core.Result, error) {
			res, err := next.Translate(ctx, req)
			if err != nil {
				return nil, err
			}
			c := *res
			c.Flags = append(c.Flags, "mine")
			return &c, nil
		}), "it changes Flags (behind their end) of a result"},
		"an empty answer": {Stage, translating(func(context.Context, *core.Request, core.Translator) (*core.Result, error) {
			return &core.Result{}, nil
		}), "an answer is empty"},
		"a kind is lost": {Stage, translating(func(ctx context.Context, req *core.Request, next core.Translator) (*core.Result, error) {
			res, err := next.Translate(ctx, req)
			if err != nil && core.KindOf(err) != core.Canceled && core.KindOf(err) != core.DeadlineExceeded {
				return nil, &core.Error{Kind: core.ProviderFailed}
			}
			return res, err
		}), `too_large from below becomes "provider_failed"`},
		"cancelling is an error of its own": {Stage, translating(func(ctx context.Context, req *core.Request, next core.Translator) (*core.Result, error) {
			res, err := next.Translate(ctx, req)
			if ctx.Err() != nil {
				return nil, &core.Error{Kind: core.Unavailable}
			}
			return res, err
		}), `a request ended with "unavailable", want canceled`},
		"the deadline is its own": {Stage, translating(func(ctx context.Context, req *core.Request, next core.Translator) (*core.Result, error) {
			res, err := next.Translate(ctx, req)
			if core.KindOf(err) == core.DeadlineExceeded {
				return nil, &core.Error{Kind: core.Overloaded}
			}
			return res, err
		}), `want deadline_exceeded`},
		"an answer to a panic": {Stage, translating(func(ctx context.Context, req *core.Request, next core.Translator) (*core.Result, error) {
			res, err := next.Translate(ctx, req)
			if core.KindOf(err) == core.Internal {
				return nil, &core.Error{Kind: core.Unavailable}
			}
			return res, err
		}), `a panic below becomes "unavailable"`},

		// Gates.
		"a stage as a gate":     {Gate, kindOf(core.RoleStage, func() any { return &stage{} }), "is no gate"},
		"nothing to take":       {Gate, gating(func(g *gate) { g.free.Store(0) }), "an empty gate gives nothing"},
		"nothing is given back": {Gate, gating(func(g *gate) { g.give = func(*gate, core.Outcome) {} }), "after all was given back (used) 0"},
		"a failure keeps its slot": {Gate, gating(func(g *gate) {
			g.give = func(g *gate, o core.Outcome) {
				if o.Err == nil {
					g.free.Add(1)
				}
			}
		}), "after all was given back (provider_failed) 0"},
		"unused keeps its slot": {Gate, gating(func(g *gate) {
			g.give = func(g *gate, o core.Outcome) {
				if !o.Unused {
					g.free.Add(1)
				}
			}
		}), "after all was given back unused"},
		"too much is given back": {Gate, gating(func(g *gate) { g.give = func(g *gate, _ core.Outcome) { g.free.Add(2) } }), "(used) 6"},
		"a no that takes": {Gate, gating(func(g *gate) {
			g.take = func(g *gate, _ *core.Request) (bool, bool, time.Duration) {
				if g.free.Load() > 0 {
					return false, false, 0
				}
				g.free.Add(-1)
				return true, false, 0
			}
		}), "after all was given back (used) 0"},
		"a no that means yes": {Gate, gating(func(g *gate) {
			asked := 0
			g.take = func(*gate, *core.Request) (bool, bool, time.Duration) {
				asked++
				return true, asked%7 != 0, 0
			}
		}), "a full gate gives still"},
		"a wait without end": {Gate, gating(func(g *gate) {
			g.take = func(*gate, *core.Request) (bool, bool, time.Duration) { return true, false, time.Minute }
		}), "says so still after"},
		"a wait in the past": {Gate, gating(func(g *gate) {
			g.take = func(g *gate, _ *core.Request) (bool, bool, time.Duration) {
				return g.free.Load() == 0, false, -time.Second
			}
		}), "ask again 1s ago"},
		"the gate changes the request": {Gate, gating(func(g *gate) {
			g.take = func(_ *gate, req *core.Request) (bool, bool, time.Duration) {
				req.Lane = core.LaneBulk
				return false, false, 0
			}
		}), "the gate changes Lane"},

		// Providers.
		"a stage as a provider": {provider, kindOf(core.RoleStage, func() any { return &stage{} }), "is no provider"},
		"a provider that fails": {provider, answering(func(context.Context, *core.Request) (*core.Result, error) {
			return nil, &core.Error{Kind: core.ProviderFailed}
		}), "though its server works"},
		"an error of no kind": {provider, answering(func(context.Context, *core.Request) (*core.Result, error) { return nil, errors.New("no") }), "want a *core.Error"},
		"a provider without answer": {provider, answering(func(context.Context, *core.Request) (*core.Result, error) { return nil, nil }),
			"want exactly one"},
		"a provider that never looks up": {provider, answering(func(_ context.Context, req *core.Request) (*core.Result, error) {
			return good(context.Background(), req)
		}), "want canceled"},
		"a provider that writes": {provider, answering(func(ctx context.Context, req *core.Request) (*core.Result, error) {
			if req.ID == "coretest-2" { // once, for the race detector to have no say
				req.Text += "!"
			}
			return good(ctx, req)
		}), "the provider changes Text"},
	} {
		failed := record(t, func(r T) { c.check(r, c.kind, nil) })
		if !strings.Contains(strings.Join(failed, "\n"), c.says) {
			t.Errorf("%s: the suite does not say %q but:\n\t%s", name, c.says, strings.Join(failed, "\n\t"))
		}
	}
}

type unhelpful struct {
	Inner struct {
		Name string `json:"name"`
	} `json:"inner" jsonschema_description:"x"`
}

type boundless struct {
	Count int           `json:"count" jsonschema:"minimum=1" jsonschema_description:"x"`
	Wait  time.Duration `json:"wait" jsonschema_description:"x"`
}
