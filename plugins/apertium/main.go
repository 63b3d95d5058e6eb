// Command apertium is a plugin: a provider that translates with Apertium, the
// rule-based translator that Debian packages, offline and without a key. The
// output is rough. Its README tells how to configure it.
package main

import (
	"context"
	"os"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/apertium/engine"
	"github.com/dragoman-mt/dragoman/plugins/sdk"
)

func main() {
	// A plugin has no environment but the one that the file gives it, and
	// Apertium's commands are found by PATH.
	if os.Getenv("PATH") == "" {
		os.Setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
	}
	sdk.Serve(kind())
}

// Config is the plugin's `config:`.
type Config struct {
	Chains int `json:"chains" jsonschema:"minimum=1,maximum=64" jsonschema_description:"How many texts of one language pair are translated at once, each in a chain of processes of its own, 11 of them for English to Spanish. They are started when they are needed and ended after five minutes without work."`
}

func kind() core.Kind {
	return core.NewKind("apertium", core.RoleProvider, "Translates with Apertium, rule-based and offline.",
		func() Config { return Config{Chains: 2} },
		func(env core.Env, cfg *Config) (any, error) {
			return &provider{env: env, chains: cfg.Chains}, nil
		})
}

// A provider is the engine with what is installed at its start. It is safe for
// concurrent use once it was started.
type provider struct {
	env    core.Env
	chains int
	engine *engine.Engine // nil before Start
}

var (
	_ core.Translator = (*provider)(nil)
	_ core.Starter    = (*provider)(nil)
	_ core.Closer     = (*provider)(nil)
	_ core.Languager  = (*provider)(nil)
)

// Start finds what is installed. It starts no process: the first text of a pair
// does. The error is of kind unavailable when nothing is installed.
func (p *provider) Start(context.Context) (err error) {
	p.engine, err = engine.New(engine.Options{Chains: p.chains})
	if err == nil {
		p.env.Log.Debug("Apertium is installed", zap.Int("pairs", len(p.engine.Pairs())))
	}
	return err
}

// Close ends all chains; a text in flight fails.
func (p *provider) Close() error {
	if p.engine == nil {
		return nil
	}
	return p.engine.Close()
}

// Languages are the pairs that are installed.
func (p *provider) Languages() (all []core.LanguageInfo) {
	if p.engine == nil {
		return nil
	}
	for _, pair := range p.engine.Pairs() {
		if last := len(all) - 1; last < 0 || all[last].Source != pair.Source {
			all = append(all, core.LanguageInfo{Source: pair.Source})
		}
		last := &all[len(all)-1]
		last.Targets = append(last.Targets, pair.Target)
	}
	return all
}

// Translate answers as the engine does. Apertium knows neither glossaries nor
// tones: what a request says beside its text and languages is passed over, as
// it is by any provider that cannot heed it.
func (p *provider) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, core.ContextError(ctx, "")
	}
	if p.engine == nil {
		return nil, &core.Error{Kind: core.Unavailable, Detail: "Apertium was not started"}
	}
	text, err := p.engine.Translate(ctx, req.Text, req.Source, req.Target)
	if err != nil {
		return nil, err
	}
	return &core.Result{Text: text, Model: "apertium", Finish: core.FinishStop}, nil
}
