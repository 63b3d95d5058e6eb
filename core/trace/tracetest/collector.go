// Package tracetest is a collector for tests. It reads with the types that OpenTelemetry
// generates, which no part of the product links.
package tracetest

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A Span is one that was received.
type Span struct {
	Name                   string
	Trace, ID, Parent      string // hexadecimal digits; Parent is empty for the first
	State                  string
	Kind                   string // SPAN_KIND_SERVER, ...
	Start                  time.Time
	Took                   time.Duration
	Attributes             map[string]string
	Links                  []string // ids of spans
	Failed                 bool
	Resource, Instrumented string
}

// A Collector takes OTLP over HTTP.
type Collector struct {
	URL string

	mu     sync.Mutex
	more   chan struct{}
	spans  []Span
	calls  []http.Header
	answer func(http.ResponseWriter, *http.Request) bool // true: it has answered
}

// Collect returns a collector that listens until the test ends. Answer may be nil; what it
// answers itself is not collected.
func Collect(t testing.TB, answer func(http.ResponseWriter, *http.Request) bool) *Collector {
	c := &Collector{more: make(chan struct{}), answer: answer}
	server := httptest.NewServer(c)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	c.URL = server.URL
	return c
}

func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.calls = append(c.calls, r.Header)
	c.mu.Unlock()
	if c.answer != nil && c.answer(w, r) {
		return
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unpacked
	}
	raw, err := io.ReadAll(body)
	var data tracepb.TracesData
	if err == nil {
		err = proto.Unmarshal(raw, &data)
	}
	if err == nil && len(data.ProtoReflect().GetUnknown()) > 0 {
		err = fmt.Errorf("it has unknown fields")
	}
	if err != nil || r.URL.Path != "/v1/traces" || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, fmt.Sprint(r.Method, " ", r.URL, " ", err), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range data.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				c.spans = append(c.spans, read(s, rs.GetResource().GetAttributes(), ss.GetScope().GetName()))
			}
		}
	}
	close(c.more)
	c.more = make(chan struct{})
}

func read(s *tracepb.Span, resource []*commonpb.KeyValue, scope string) Span {
	one := Span{
		Name: s.GetName(), Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
		State: s.GetTraceState(), Kind: s.GetKind().String(), Start: time.Unix(0, int64(s.GetStartTimeUnixNano())),
		Took: time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano()), Attributes: attributes(s.GetAttributes()),
		Failed: s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR, Instrumented: scope,
	}
	all := attributes(resource)
	var names []string
	for name := range all {
		names = append(names, name+"="+all[name])
	}
	slices.Sort(names)
	one.Resource = strings.Join(names, " ")
	for _, l := range s.GetLinks() {
		one.Links = append(one.Links, hex.EncodeToString(l.GetSpanId()))
	}
	return one
}

func attributes(all []*commonpb.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range all {
		m[a.GetKey()] = value(a.GetValue())
	}
	return m
}

func value(v *commonpb.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_ArrayValue:
		var all []string
		for _, one := range v.ArrayValue.GetValues() {
			all = append(all, value(one))
		}
		return strings.Join(all, ",")
	case *commonpb.AnyValue_BoolValue:
		return fmt.Sprint(v.BoolValue)
	case *commonpb.AnyValue_IntValue:
		return fmt.Sprint(v.IntValue)
	case *commonpb.AnyValue_DoubleValue:
		return fmt.Sprint(v.DoubleValue)
	}
	return fmt.Sprintf("%T", v)
}

// Spans are those that were received.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Calls are the headers of all calls.
func (c *Collector) Calls() []http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// Wait returns the spans as soon as there are n, or after a while.
func (c *Collector) Wait(n int) []Span {
	deadline := time.After(30 * time.Second)
	for {
		c.mu.Lock()
		more, spans := c.more, slices.Clone(c.spans)
		c.mu.Unlock()
		if len(spans) >= n {
			return spans
		}
		select {
		case <-more:
		case <-deadline:
			return spans
		}
	}
}
