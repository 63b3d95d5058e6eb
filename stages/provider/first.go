package provider

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// listen returns the context of a, which ends when nothing is heard of a for First, if
// that bounds it; over ends the listening, and gives what a ended with.
//
// Of a streamed answer a delta is heard, of any other its first byte, and of one that
// does not come by HTTP the whole.
func (r *run) listen(ctx context.Context, a *attempt) (bounded context.Context, over func(error) error) {
	if !a.silent {
		return ctx, func(err error) error { return err }
	}
	silence := &core.Error{
		Kind: core.DeadlineExceeded, Stage: a.name, Retryable: true, Detail: "nothing was heard of the provider in time, another is asked",
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var heard atomic.Bool
	timer := time.AfterFunc(r.cfg.First, func() {
		if heard.CompareAndSwap(false, true) {
			cancel(silence)
		}
	})
	if onDelta := a.req.OnDelta; onDelta != nil {
		a.req.OnDelta = func(text string) error {
			heard.Store(true)
			return onDelta(text)
		}
	} else {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: func() { heard.Store(true) }})
	}
	return ctx, func(err error) error {
		timer.Stop()
		cut := context.Cause(ctx) == error(silence)
		cancel(nil)
		if cut && err != nil {
			return silence
		}
		return err
	}
}
