// Command openai-direct is a plugin: the provider openai, in a process of its
// own, with a new connection for each call. It is what to fall back on when the
// gateway's pool is under suspicion. Its README tells how to configure it.
package main

import (
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/pool"
	"github.com/dragoman-mt/dragoman/plugins/sdk"
	"github.com/dragoman-mt/dragoman/stages/openai"
)

func main() { sdk.Serve(kind()) }

// Config is that of the provider openai, and how its calls leave.
type Config struct {
	openai.Config
	CAFile core.Path `json:"ca_file" jsonschema_description:"PEM file of certificate authorities to trust beside the system's; empty for none."`
	Proxy  string    `json:"proxy" jsonschema_description:"http, https or socks5 URL of the proxy; empty takes HTTPS_PROXY, HTTP_PROXY and NO_PROXY from the environment."`
}

func kind() core.Kind {
	inner := openai.Kind()
	return core.NewKind("openai-direct", core.RoleProvider, "Translates with chat completions, over a new connection for each call.",
		func() Config { return Config{Config: *inner.Config().(*openai.Config)} },
		func(env core.Env, cfg *Config) (any, error) {
			connections := pool.Defaults()
			connections.Mode, connections.CAFile, connections.Proxy = pool.Direct, string(cfg.CAFile), cfg.Proxy
			upstream, err := pool.New(connections, env.Log)
			if err != nil {
				return nil, err
			}
			env.Upstream = upstream
			built, err := inner.Build(env, &cfg.Config)
			if err != nil {
				return nil, errors.Join(err, upstream.Close())
			}
			p, ok := built.(*openai.Provider)
			if !ok {
				return nil, fmt.Errorf("the provider openai is a %T", built)
			}
			env.Log.Debug("calls leave over connections of their own", zap.String("base_url", cfg.BaseURL))
			return &provider{p, upstream}, nil
		})
}

// A provider is the one of the gateway, with its own way out.
type provider struct {
	*openai.Provider
	upstream *pool.Pool
}

// Close ends the provider and what its calls left over.
func (p *provider) Close() error { return errors.Join(p.Provider.Close(), p.upstream.Close()) }
