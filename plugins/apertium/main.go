// Command apertium is a plugin: the provider apertium, which translates on this
// machine with what Debian packages. Its README tells what to expect of it.
package main

import (
	"context"
	"os"
	"sync"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/apertium/engine"
	"github.com/dragoman-mt/dragoman/plugins/sdk"
)

func main() {
	if os.Getenv("PATH") == "" { // as is usual in a plugin; Apertium's commands are looked up in it
		os.Setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
	}
	sdk.Serve(kind())
}

// Config holds the keys of the provider.
type Config struct {
	Chains int `json:"chains" jsonschema:"minimum=1,maximum=64" jsonschema_description:"How many texts of one pair of languages are translated at once. Each has a chain of about ten small processes, started when it is needed."`
}

func kind() core.Kind {
	return core.NewKind("apertium", core.RoleProvider, "Translates on this machine, by rules: fast, free and rough.",
		func() Config { return Config{Chains: 2} },
		func(_ core.Env, cfg *Config) (any, error) { return &provider{cfg: *cfg}, nil })
}

// A provider translates with one engine. That nothing is installed is no reason
// not to start: it is said to whoever asks.
type provider struct {
	cfg Config

	mu     sync.Mutex
	engine *engine.Engine // since Start
	absent error          // why there is none
}

var (
	_ core.Translator = (*provider)(nil)
	_ core.Starter    = (*provider)(nil)
	_ core.Prober     = (*provider)(nil)
	_ core.Closer     = (*provider)(nil)
	_ core.Languager  = (*provider)(nil)
)

// mostWarm is how many pairs are made ready ahead. Each is about ten processes
// with their dictionaries.
const mostWarm = 4

// Start starts the chains of some pairs in the background, since the first text
// of a pair has to wait for its dictionaries.
func (p *provider) Start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine == nil {
		p.engine, p.absent = engine.New(engine.Options{Chains: p.cfg.Chains})
		if p.engine != nil {
			p.engine.Warm(mostWarm)
		}
	}
	return nil
}

// running returns the engine, or why there is none.
func (p *provider) running() (*engine.Engine, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.engine != nil:
		return p.engine, nil
	case p.absent != nil:
		return nil, p.absent
	}
	return nil, &core.Error{Kind: core.Unavailable, Detail: "the engine is not running"}
}

func (p *provider) Probe(context.Context) error { return p.Ready() }

func (p *provider) Ready() error {
	_, err := p.running()
	return err
}

func (p *provider) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	e, err := p.running()
	if err != nil {
		return nil, err
	}
	text, err := e.Stream(ctx, req.Text, req.Source, req.Target, req.OnDelta)
	if err != nil {
		return nil, err
	}
	return &core.Result{Text: text, Model: "apertium", Finish: core.FinishStop}, nil
}

// Languages returns the pairs that are installed.
func (p *provider) Languages() []core.LanguageInfo {
	e, err := p.running()
	if err != nil {
		return nil
	}
	var all []core.LanguageInfo
	for _, pair := range e.Pairs() { // sorted
		if n := len(all); n == 0 || all[n-1].Source != pair.Source {
			all = append(all, core.LanguageInfo{Source: pair.Source})
		}
		last := &all[len(all)-1]
		last.Targets = append(last.Targets, pair.Target)
	}
	return all
}

// Close ends every chain.
func (p *provider) Close() error {
	p.mu.Lock()
	e := p.engine
	p.engine, p.absent = nil, nil
	p.mu.Unlock()
	if e == nil {
		return nil
	}
	return e.Close()
}
