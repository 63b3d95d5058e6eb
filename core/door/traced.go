package door

import (
	"context"
	"net/http"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/trace"
)

type parentKey struct{}

// WithParent returns ctx for texts that are asked for as a part of parent, in place of the one
// that their call has named.
func WithParent(ctx context.Context, parent core.SpanContext) context.Context {
	return context.WithValue(ctx, parentKey{}, parent)
}

// parentOf is what the texts of a call are a part of; zero for none.
func parentOf(ctx context.Context) core.SpanContext {
	parent, _ := ctx.Value(parentKey{}).(core.SpanContext)
	return parent
}

// traced returns r with the span that its client names in the headers of W3C Trace Context.
func traced(by *trace.Tracer, r *http.Request) *http.Request {
	if !by.On() {
		return r
	}
	said := r.Header["Traceparent"]
	if len(said) != 1 {
		return r
	}
	parent, ok := core.ParseTraceparent(strings.TrimSpace(said[0]), strings.Join(r.Header["Tracestate"], ","))
	if !ok {
		return r
	}
	return r.WithContext(WithParent(r.Context(), parent))
}
