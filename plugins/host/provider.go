package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// A provider is an entry of `providers:` of type plugin. It is safe for
// concurrent use.
type provider struct{ *instance }

var (
	_ core.Translator    = provider{}
	_ core.Starter       = provider{}
	_ core.Closer        = provider{}
	_ core.Deadliner     = provider{}
	_ core.Prober        = provider{}
	_ core.Outdater      = provider{}
	_ core.Fingerprinter = provider{}
	_ core.Languager     = provider{}
	_ core.Measurer      = provider{}
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
	hurried := p.hurried(ctx)
	ctx = wire.WithTrace(ctx, req.Trace)
	err := p.send(ctx, most, private{req: req}, func(r visit) (err *core.Error, died bool) {
		res, refused, err, died = p.call(ctx, r, req)
		return err, died
	})
	switch {
	case refused != nil:
		return nil, refused
	case err != nil && err.Kind == core.DeadlineExceeded && hurried:
		own := *err
		own.Own = true
		return nil, &own
	case err != nil:
		return nil, err
	}
	return res, nil
}

func (p provider) call(ctx context.Context, r visit, req *core.Request) (res *core.Result, refused error, err *core.Error, died bool) {
	if req.OnDelta != nil {
		return p.stream(ctx, r, req)
	}
	limit := p.deadline()
	if req.Backed {
		limit = p.half(ctx)
	}
	call, cancel := wire.Within(ctx, limit)
	defer cancel()
	event, failed := r.provider.Answer(call, &wire.Visit{Instance: p.id, Text: wire.EncodeRequest(req)})
	if failed != nil {
		err, died := p.broken(ctx, call, r, failed)
		return nil, nil, err, died
	}
	res, err = p.ended(ctx, r, event)
	return res, nil, err, false
}

// half is how long a plugin may keep a request to itself that another provider
// can answer as well: half of the time that is left. One that hangs would else
// take the other's time with it.
func (p provider) half(ctx context.Context) time.Duration {
	limit := p.deadline()
	if deadline, has := ctx.Deadline(); has {
		limit = min(limit, time.Until(deadline))
	}
	return limit / 2
}

// hurried says whether the request has clearly less time than one may have: that
// it ran out then tells of whoever chose the time, and not of the plugin.
func (p provider) hurried(ctx context.Context) bool {
	deadline, has := ctx.Deadline()
	return has && time.Until(deadline) < p.deadline()*9/10
}

// stream makes a call whose answer may be heard before it is whole. What is still
// said when it returns is not waited for.
func (p provider) stream(ctx context.Context, r visit, req *core.Request) (res *core.Result, refused error, err *core.Error, died bool) {
	call, cancel := context.WithTimeout(ctx, p.deadline())
	defer cancel()
	var silent *time.Timer // ends the call unless something is said
	if req.Backed {
		// Once something was said nobody else may answer.
		silent = time.AfterFunc(p.half(ctx), cancel)
		defer silent.Stop()
	}
	said := 0 // bytes of deltas
	broken := func(failed error) (*core.Result, error, *core.Error, bool) {
		err, died := p.broken(ctx, call, r, failed)
		return nil, nil, err, died && said == 0
	}
	stream, failed := r.provider.Translate(call, &wire.Call{Instance: p.id, Texts: []*wire.Text{wire.EncodeRequest(req)}})
	if failed != nil {
		return broken(failed)
	}
	for events := 0; ; events++ {
		event, failed := stream.Recv()
		if failed != nil {
			return broken(failed)
		}
		if events == wire.MaxEvents {
			return nil, nil, &core.Error{Kind: core.ProviderFailed, Stage: p.name, Detail: fmt.Sprintf("the plugin answers in more than %d pieces", wire.MaxEvents)}, false
		}
		if err := p.own(event); err != nil {
			return nil, nil, err, false
		}
		switch what := event.GetWhat().(type) {
		case *wire.Event_Delta:
			if said += len(what.Delta); said > wire.MaxMessage {
				return nil, nil, &core.Error{Kind: core.ProviderFailed, Stage: p.name, Detail: "the plugin says more than any answer may be long"}, false
			}
			if strings.ContainsRune(what.Delta, 0) {
				return nil, nil, p.nul(), false
			}
			if what.Delta != "" {
				if silent != nil {
					silent.Stop()
				}
				if refused := req.OnDelta(what.Delta); refused != nil {
					return nil, refused, nil, false
				}
			}
		case *wire.Event_Result, *wire.Event_Error:
			res, err = p.ended(ctx, r, event)
			return res, nil, err, false
		}
	}
}

// ended returns what the last event of a text says.
func (p provider) ended(ctx context.Context, r visit, event *wire.Event) (*core.Result, *core.Error) {
	limits := wire.DecodeLimits(event.GetLimits())
	res, err := p.end(ctx, r, event)
	if err != nil {
		cost := bounded(wire.DecodeUsage(event.GetSpent()), r.private, "")
		if u := event.GetResult().GetUsage(); u != nil {
			cost = bounded(wire.DecodeUsage(u), r.private, event.GetResult().GetText())
		}
		return nil, err.Charged(cost, limits)
	}
	res.Limits = limits
	return res, nil
}

// end is what an event says that ends a text, without its cost if it has no result.
func (p provider) end(ctx context.Context, r visit, event *wire.Event) (*core.Result, *core.Error) {
	if err := p.own(event); err != nil {
		return nil, err
	}
	switch what := event.GetWhat().(type) {
	case *wire.Event_Result:
		p.excess(r, what.Result)
		res := wire.DecodeResult(what.Result)
		res.Provider, res.Cached, res.Usage = p.name, false, bounded(res.Usage, r.private, res.Text)
		switch {
		case strings.TrimSpace(res.Text) == "":
			return nil, &core.Error{Kind: core.BadAnswer, Stage: p.name, Detail: "the plugin answered with nothing", Retryable: true}
		case strings.ContainsRune(res.Text, 0):
			return nil, p.nul()
		}
		p.well()
		return res, nil
	case *wire.Event_Error:
		return nil, p.said(ctx, what.Error, r.private)
	}
	return nil, &core.Error{Kind: core.ProviderFailed, Stage: p.name, Detail: "the plugin gave neither a result nor an error", Retryable: true}
}

// own says what is wrong with an event that is not about the one text of a call.
func (p provider) own(event *wire.Event) *core.Error {
	if event.GetIndex() == 0 {
		return nil
	}
	return &core.Error{Kind: core.ProviderFailed, Stage: p.name, Detail: "the plugin answered a text that it was not asked for", Retryable: true}
}

func (p provider) nul() *core.Error {
	return &core.Error{Kind: core.BadAnswer, Stage: p.name, Detail: "the plugin's answer holds a NUL", Retryable: true}
}

// ownTokens is how much a plugin may add to a text on its own, such as a prompt
// and what a model thinks, in tokens.
const ownTokens = 128 << 10

// bounded returns usage, but no more than the call can have cost: a token is at
// least a byte, and a plugin may have asked more than once.
func bounded(usage core.Usage, about private, answer string) core.Usage {
	if usage.PromptTokens <= ownTokens && usage.CompletionTokens <= ownTokens && usage.CachedTokens <= usage.PromptTokens {
		return usage
	}
	most := ownTokens + 4*len(answer)
	for _, text := range about.texts() {
		most += 4 * len(text)
	}
	usage.PromptTokens, usage.CompletionTokens = min(usage.PromptTokens, most), min(usage.CompletionTokens, most)
	usage.CachedTokens = min(usage.CachedTokens, usage.PromptTokens)
	return usage
}
