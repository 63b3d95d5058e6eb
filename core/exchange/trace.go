package exchange

import (
	"net/http"
	"net/url"

	"github.com/dragoman-mt/dragoman/core"
)

// Trace writes into h where a call for req belongs in a distributed trace, if it does, and
// tells the attempt's span whose server is asked. H is the call's own.
func Trace(req *core.Request, h http.Header, system string, to *url.URL) {
	span := req.Trace.Traced()
	if span == nil {
		return
	}
	span.System, span.Address = system, to.Host
	h["Traceparent"] = []string{span.Context.Traceparent()}
	if span.Context.State != "" {
		h["Tracestate"] = []string{span.Context.State}
	}
}

// Traced tells the attempt's span what status an answer to a call for req has.
func Traced(req *core.Request, status int) {
	if span := req.Trace.Traced(); span != nil {
		span.Status = status
	}
}
