package wire

import (
	"context"

	"google.golang.org/grpc/metadata"

	"github.com/dragoman-mt/dragoman/core"
)

// The metadata of a call by which its place in a distributed trace travels (W3C Trace
// Context).
const (
	TraceparentHeader = "traceparent"
	TracestateHeader  = "tracestate"
)

type traceKey struct{}

// WithTrace returns ctx for calls of a plugin that are made for a request, whose trace is
// trace.
func WithTrace(ctx context.Context, trace *core.Trace) context.Context {
	span := trace.Traced()
	if span == nil {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, span)
}

// traced adds the place in a trace to the metadata of a call.
func traced(ctx context.Context) context.Context {
	span, ok := ctx.Value(traceKey{}).(*core.Traced)
	if !ok {
		return ctx
	}
	if span.Context.State == "" {
		return metadata.AppendToOutgoingContext(ctx, TraceparentHeader, span.Context.Traceparent())
	}
	return metadata.AppendToOutgoingContext(ctx, TraceparentHeader, span.Context.Traceparent(), TracestateHeader, span.Context.State)
}

// TraceOf returns a trace for a request of a call that came with ctx. What is asked for with it
// says where it belongs.
func TraceOf(ctx context.Context) *core.Trace {
	trace := core.NewTrace(nil)
	if parent := metadata.ValueFromIncomingContext(ctx, TraceparentHeader); len(parent) == 1 {
		state := ""
		if said := metadata.ValueFromIncomingContext(ctx, TracestateHeader); len(said) == 1 {
			state = said[0]
		}
		if c, ok := core.ParseTraceparent(parent[0], state); ok {
			trace.Follow(&core.Traced{Context: c}, nil)
		}
	}
	return trace
}
