package host

import (
	"context"
	"errors"
	"strings"

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
	_ core.Readier    = provider{}
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
	var res *core.Result
	var refused error // of OnDelta
	most := short
	if req.Backed {
		most = none
	}
	err := p.send(ctx, most, func(r *running) (err *core.Error, died bool) {
		res, refused, err, died = p.call(ctx, r, req)
		return err, died
	})
	switch {
	case refused != nil:
		return nil, refused
	case err != nil:
		return nil, err
	}
	return res, nil
}

func (p provider) call(ctx context.Context, r *running, req *core.Request) (res *core.Result, refused error, err *core.Error, died bool) {
	call, cancel := wire.Within(ctx, p.env.Deadline)
	defer cancel()
	if req.OnDelta != nil {
		return p.stream(ctx, call, r, req)
	}
	event, failed := r.provider.Answer(call, &wire.Visit{Instance: p.id, Text: wire.EncodeRequest(req)})
	if failed != nil {
		err, died := p.broken(ctx, call, r, failed)
		return nil, nil, err, died
	}
	res, err = p.ended(ctx, req, event)
	return res, nil, err, false
}

// stream makes a call whose answer may be heard before it is whole.
func (p provider) stream(ctx, call context.Context, r *running, req *core.Request) (res *core.Result, refused error, err *core.Error, died bool) {
	said := 0 // bytes of deltas
	broken := func(failed error) (*core.Result, error, *core.Error, bool) {
		err, died := p.broken(ctx, call, r, failed)
		return nil, nil, err, died && said == 0
	}
	stream, failed := r.provider.Translate(call, &wire.Call{Instance: p.id, Texts: []*wire.Text{wire.EncodeRequest(req)}})
	if failed != nil {
		return broken(failed)
	}
	for {
		event, failed := stream.Recv()
		if failed != nil {
			return broken(failed)
		}
		switch what := event.GetWhat().(type) {
		case *wire.Event_Delta:
			if said += len(what.Delta); said > wire.MaxMessage {
				return nil, nil, &core.Error{Kind: core.ProviderFailed, Stage: p.name, Detail: "the plugin says more than any answer may be long"}, false
			}
			if what.Delta != "" {
				if refused := req.OnDelta(what.Delta); refused != nil {
					return nil, refused, nil, false
				}
			}
		case *wire.Event_Result, *wire.Event_Error:
			res, err = p.ended(ctx, req, event)
			return res, nil, err, false
		}
	}
}

// ended returns what the last event of a text says.
func (p provider) ended(ctx context.Context, req *core.Request, event *wire.Event) (*core.Result, *core.Error) {
	p.trace(req, event)
	switch what := event.GetWhat().(type) {
	case *wire.Event_Result:
		res := wire.DecodeResult(what.Result)
		res.Provider, res.Cached = p.name, false
		if strings.TrimSpace(res.Text) == "" {
			return nil, &core.Error{Kind: core.BadAnswer, Stage: p.name, Detail: "the plugin answered with nothing", Retryable: true}
		}
		return res, nil
	case *wire.Event_Error:
		return nil, p.said(ctx, what.Error)
	}
	return nil, &core.Error{Kind: core.ProviderFailed, Stage: p.name, Detail: "the plugin gave neither a result nor an error", Retryable: true}
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
