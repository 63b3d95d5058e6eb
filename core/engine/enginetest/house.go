package enginetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
)

// A Brick is a stage of the tests; what it does to a text is to add its number.
type Brick struct {
	*House
	n     int
	Stale bool   // it says that its files are others by now
	files string // their content

	now    sync.Mutex
	config string // guarded by now
}

func (b *Brick) says() string {
	b.now.Lock()
	defer b.now.Unlock()
	return b.config
}

// A House builds bricks, and notes what becomes of them.
type House struct {
	mu       sync.Mutex
	events   []string
	built    int
	FilesSay string // the content of every brick's files
	// StartErr and ProbeErr are what Start and Probe answer, by configuration.
	StartErr, ProbeErr map[string]error
}

func (h *House) Note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, fmt.Sprintf(format, args...))
}

func (h *House) Told() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	told := strings.Join(h.events, ", ")
	h.events = nil
	return told
}

func (b *Brick) Wrap(next core.Translator) core.Translator {
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		res, err := next.Translate(ctx, req)
		if err != nil {
			return nil, err
		}
		return &core.Result{Text: fmt.Sprintf("%s %d%s", res.Text, b.n, b.says())}, nil
	})
}

func (b *Brick) Start(context.Context) error {
	b.Note("start %d%s", b.n, b.says())
	return b.StartErr[b.says()]
}

func (b *Brick) Close() error {
	b.Note("close %d%s", b.n, b.says())
	return nil
}

func (b *Brick) Probe(context.Context) error {
	b.Note("probe %d%s", b.n, b.says())
	return b.ProbeErr[b.says()]
}

func (b *Brick) Ready() error        { return nil }
func (b *Brick) Outdated() bool      { return b.Stale }
func (b *Brick) Fingerprint() string { return b.says() + " " + b.files }
func (b *Brick) Holds() string       { return fmt.Sprintf("Brick %d", b.n) }

// A soft Brick can be changed in place.
type SoftBrick struct{ *Brick }

func (s SoftBrick) Plan(config any) (func(), error) {
	c := config.(*Setting)
	if c.V == "bad" {
		return nil, errors.New("no such stuff")
	}
	return func() {
		s.Note("apply %s", c.V)
		s.now.Lock()
		defer s.now.Unlock()
		s.Brick.config, s.Stale = c.V, false
	}, nil
}

// An heir Brick takes over the number of its former.
type HeirBrick struct{ *Brick }

func (h HeirBrick) Inherit(former any) {
	h.Note("inherit")
	h.n = former.(HeirBrick).n
}

// A timed Brick takes another deadline in place.
type TimedBrick struct{ *Brick }

func (t TimedBrick) SetDeadline(longest time.Duration) { t.Note("deadline %v", longest) }

type Setting struct{ V string }

// stage is one of a file: a kind, which is what it can do, and a configuration.
func (h *House) Stage(name, kind, v string, enabled bool) config.Item {
	k := core.NewKind(kind, core.RoleStage, "", func() Setting { return Setting{} }, func(_ core.Env, s *Setting) (any, error) {
		if s.V == "unbuildable" {
			return nil, errors.New("cannot be built")
		}
		h.built++
		b := &Brick{House: h, n: h.built, config: s.V, files: h.FilesSay}
		switch kind {
		case "soft":
			return SoftBrick{b}, nil
		case "heir":
			return HeirBrick{b}, nil
		case "timed":
			return TimedBrick{b}, nil
		}
		return b, nil
	})
	return config.Item{Name: name, Kind: k, Config: &Setting{v}, Enabled: enabled, Path: "stages." + name, Line: 7, Column: 3, Digest: kind + v}
}

// plan returns a file with the stages above a provider that says hi.
func (h *House) File(stages ...config.Item) *config.File {
	f := &config.File{Path: "pipeline.yaml", Sections: map[string]any{}}
	p := Item("p", core.RoleProvider, func() any {
		return core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) { return &core.Result{Text: "hi"}, nil })
	})
	f.Providers = []config.Item{p}
	f.Stages = append(stages, Item("provider", core.RoleCaller, func() any { return Calling{"p"} }))
	return f
}

func (h *House) Says(t *testing.T, e core.Translator) string {
	t.Helper()
	res, err := e.Translate(t.Context(), &core.Request{Text: "x"})
	if err != nil {
		t.Fatal(err)
	}
	return res.Text
}
