package host

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// A stage is a stage of kind plugin. It is safe for concurrent use.
type stage struct {
	*instance
	skip bool // a failure of the plugin is passed over
}

var (
	_ core.Hooks         = stage{}
	_ core.Streamer      = stage{}
	_ core.Starter       = stage{}
	_ core.Closer        = stage{}
	_ core.Deadliner     = stage{}
	_ core.Prober        = stage{}
	_ core.Outdater      = stage{}
	_ core.Fingerprinter = stage{}
	_ core.Measurer      = stage{}
)

func (h *Host) buildStage(env core.Env, cfg *StageConfig) (any, error) {
	in, err := newInstance(h, env, wire.Role_ROLE_STAGE, &cfg.Program, cfg.Config)
	if err != nil {
		return nil, err
	}
	return stage{in, cfg.OnError == onErrorSkip}, nil
}

// flagSkipped marks an answer that came about without the plugin, which is not
// what the chain promises: it is not kept for others.
const flagSkipped = "plugin_skipped"

// Before asks the plugin on the way down. State is nil only when the plugin was
// passed over: then it is not asked on the way up either.
func (s stage) Before(ctx context.Context, req *core.Request) (core.Verdict, error) {
	verdict := core.Verdict{State: []byte{}}
	if v := s.setup.Load(); v != nil && !v.before {
		return verdict, nil
	}
	ctx = wire.WithTrace(ctx, req.Trace)
	err := s.call(ctx, private{req: req}, func(call context.Context, r visit) (*core.Error, bool) {
		v, err := r.stage.Before(call, &wire.Visit{Instance: s.id, Text: wire.EncodeRequest(req)})
		if err != nil {
			return s.broken(ctx, call, r, err)
		}
		switch what := v.GetWhat().(type) {
		case *wire.Verdict_Error:
			return s.said(ctx, what.Error, r.private), false
		case *wire.Verdict_Result:
			s.excess(r, what.Result)
			verdict.Result = wire.DecodeResult(what.Result)
			verdict.Result.Usage = bounded(verdict.Result.Usage, r.private, verdict.Result.Text)
			if err := s.empty(verdict.Result); err != nil {
				return err, false
			}
		case *wire.Verdict_Request:
			if verdict.Request, err = wire.Change(req, what.Request); err != nil {
				return &core.Error{Kind: core.ProviderFailed, Stage: s.name, Detail: "the plugin changed the request into none", Cause: err}, false
			}
		}
		if len(v.GetState()) > wire.MaxState {
			return &core.Error{Kind: core.ProviderFailed, Stage: s.name, Detail: fmt.Sprintf("the plugin keeps %d bytes between Before and After, and %d are the most", len(v.GetState()), wire.MaxState)}, false
		}
		verdict.State = append(verdict.State, v.GetState()...)
		s.well()
		return nil, false
	})
	switch {
	case err == nil:
		return verdict, nil
	case s.passes(ctx, err):
		return core.Verdict{}, nil
	}
	return core.Verdict{}, err
}

// After asks the plugin on the way up. What the answer cost, where it is from
// and that it must not be kept stays as it is.
func (s stage) After(ctx context.Context, req *core.Request, res *core.Result, state []byte) (*core.Result, error) {
	if state == nil {
		return skipped(res), nil
	}
	if v := s.setup.Load(); v != nil && !v.after {
		return res, nil
	}
	changed := *res
	ctx = wire.WithTrace(ctx, req.Trace)
	err := s.call(ctx, private{req, res.Text}, func(call context.Context, r visit) (*core.Error, bool) {
		reply, err := r.stage.After(call, &wire.Done{Instance: s.id, Text: wire.EncodeRequest(req), Result: wire.EncodeResult(res), State: state})
		if err != nil {
			return s.broken(ctx, call, r, err)
		}
		switch what := reply.GetWhat().(type) {
		case *wire.Reply_Error:
			return s.said(ctx, what.Error, r.private), false
		case *wire.Reply_Result:
			s.excess(r, what.Result)
			got := wire.DecodeResult(what.Result)
			if err := s.empty(got); err != nil {
				return err, false
			}
			changed.Text, changed.Source, changed.Flags, changed.Finish = got.Text, got.Source, got.Flags, got.Finish
			changed.NoStore = res.NoStore || got.NoStore
			s.well()
			return nil, false
		}
		return &core.Error{Kind: core.ProviderFailed, Stage: s.name, Detail: "the plugin gave neither a result nor an error"}, false
	})
	switch {
	case err == nil:
		return &changed, nil
	case s.passes(ctx, err):
		return skipped(res), nil
	}
	return nil, err
}

// Deltas lets the pieces of an answer pass when the plugin says that it has no
// After: nothing of it is to see them.
func (s stage) Deltas(*core.Request, []byte) (each func(string) (string, error), ok bool) {
	v := s.setup.Load()
	return nil, v != nil && !v.after
}

// empty says what is wrong with an answer that is none.
func (s stage) empty(res *core.Result) *core.Error {
	if strings.TrimSpace(res.Text) != "" && !strings.ContainsRune(res.Text, 0) {
		return nil
	}
	return &core.Error{Kind: core.ProviderFailed, Stage: s.name, Detail: "the plugin's answer is blank or holds a NUL"}
}

func skipped(res *core.Result) *core.Result {
	res = res.WithFlag(flagSkipped) // a copy
	res.NoStore = true
	return res
}

// call makes one call. It waits for a plugin that is being started: nobody else
// can do what this one does. A plugin that may be passed over has half of the
// time that is left, so that the rest of the chain has the other half.
func (s stage) call(ctx context.Context, about private, f func(call context.Context, r visit) (*core.Error, bool)) *core.Error {
	limit := s.deadline()
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline))
	}
	if s.skip {
		limit /= 2
	}
	call, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.send(call, long, about, func(r visit) (*core.Error, bool) { return f(call, r) })
}

// passes says whether err is a failure of the plugin that the request survives,
// and logs it then. What the plugin has to say about the request is none.
func (s stage) passes(ctx context.Context, err *core.Error) bool {
	if !s.skip || ctx.Err() != nil {
		return false
	}
	switch err.Kind {
	case core.Unavailable, core.ProviderFailed, core.DeadlineExceeded:
		s.env.Log.Debug("the plugin failed and is passed over", zap.Error(err))
		return true
	}
	return false
}
