package host

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// A provider is an entry of `providers:` of type plugin. It is safe for
// concurrent use.
type provider struct{ *instance }

var (
	_ core.Translator = provider{}
	_ core.Starter    = provider{}
	_ core.Closer     = provider{}
	_ core.Prober     = provider{}
	_ core.Languager  = provider{}
	_ core.Measurer   = provider{}
)

func (h *Host) buildProvider(env core.Env, cfg *ProviderConfig) (any, error) {
	config := cfg.Config
	if cfg.ConfigFrom != "" {
		if len(cfg.Config) > 0 {
			return nil, errors.New("has both config and config_from; the one says the plugin's keys, the other where to take them")
		}
		config = cfg.Inherited
	}
	in, err := newInstance(h, env, wire.Role_ROLE_PROVIDER, &cfg.Program, config)
	if err != nil {
		return nil, err
	}
	in.derived = cfg.ConfigFrom != ""
	return provider{in}, nil
}

// Translate makes one call.
func (p provider) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	r, leave, away := p.enter()
	if away != nil {
		return nil, away
	}
	defer leave()
	began := time.Now()
	res, err := p.call(ctx, r, req)
	p.count(began, err != nil)
	return res, err
}

func (p provider) call(ctx context.Context, r *running, req *core.Request) (*core.Result, error) {
	call, cancel := context.WithTimeout(ctx, p.env.Deadline)
	defer cancel()
	stream, err := r.provider.Translate(call, &wire.Call{Instance: p.id, Texts: []*wire.Text{wire.EncodeRequest(req)}})
	if err != nil {
		return nil, p.broken(ctx, call, r, err)
	}
	for said := 0; ; {
		event, err := stream.Recv()
		if err != nil {
			return nil, p.broken(ctx, call, r, err)
		}
		switch what := event.GetWhat().(type) {
		case *wire.Event_Delta:
			if said += len(what.Delta); said > wire.MaxMessage {
				return nil, &core.Error{Kind: core.ProviderFailed, Stage: p.name, Detail: "the plugin says more than any answer may be long"}
			}
			if req.OnDelta != nil && what.Delta != "" {
				if err := req.OnDelta(what.Delta); err != nil {
					return nil, err
				}
			}
		case *wire.Event_Result:
			p.trace(req, event)
			res := wire.DecodeResult(what.Result)
			res.Provider, res.Cached = p.name, false
			if strings.TrimSpace(res.Text) == "" {
				return nil, &core.Error{Kind: core.BadAnswer, Stage: p.name, Detail: "the plugin answered with nothing", Retryable: true}
			}
			return res, nil
		case *wire.Event_Error:
			p.trace(req, event)
			return nil, p.said(ctx, what.Error)
		}
	}
}

// trace notes what came with the last event.
func (p provider) trace(req *core.Request, e *wire.Event) {
	if req.Trace == nil {
		return
	}
	req.Trace.Limits = wire.DecodeLimits(e.GetLimits())
	req.Trace.Usage = wire.DecodeUsage(e.GetSpent())
	if u := e.GetResult().GetUsage(); u != nil {
		req.Trace.Usage = wire.DecodeUsage(u)
	}
}
