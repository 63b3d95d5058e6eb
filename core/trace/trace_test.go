package trace_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/trace"
	"github.com/dragoman-mt/dragoman/core/trace/tracetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick is an environment in which spans are sent at once, and what else it says.
func quick(more ...string) func(string) string {
	said := map[string]string{"OTEL_BSP_SCHEDULE_DELAY": "10"}
	for i := 0; i < len(more); i += 2 {
		said[more[i]] = more[i+1]
	}
	return func(name string) string { return said[name] }
}

func start(t testing.TB, c trace.Config, env func(string) string) (*trace.Tracer, *observer.ObservedLogs) {
	t.Helper()
	seen, logs := observer.New(zap.DebugLevel)
	tracer, err := trace.New(c, env, zap.New(seen))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracer.Close)
	return tracer, logs
}

// ask lets a request with one attempt pass.
func ask(tracer *trace.Tracer, parent core.SpanContext, text string, err *core.Error) *core.Traced {
	req := &core.Request{ID: "id", Text: text, Source: "en", Target: "es", Client: "captions", Session: "tour", Trace: core.NewTrace(nil)}
	tracer.Begin(req.Trace, parent)
	began := time.Now()
	fork, done := req.Trace.ForkAttempt("first")
	made := &core.Attempted{Provider: "main", Why: "first", Start: began, Took: time.Millisecond, Err: err}
	res := &core.Result{Text: text, Provider: "main"}
	if err != nil {
		res = nil
	}
	if span := fork.Traced(); span != nil {
		span.System, span.Address, span.Operation, span.Model, span.Status = "openai", "api.example.com:443", "chat", "m", 200
	}
	fork.Tell(req, made, false)
	done()
	req.Trace.Merge(fork, time.Millisecond)
	req.Trace.Made(made)
	tracer.Ended(trace.Request{Door: "native", Request: req, Result: res, Err: err, Failed: err != nil, Begin: began, Took: 2 * time.Millisecond})
	return req.Trace.Traced()
}

func TestARequestAndItsAttemptAreASpanEachAndHoldNoText(t *testing.T) {
	c := tracetest.Collect(t, nil)
	tracer, _ := start(t, trace.Config{Endpoint: c.URL + "/", Headers: map[string]core.Secret{"authorization": "Bearer x"}}, quick("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"))
	root := ask(tracer, core.SpanContext{}, "geheim", nil)
	ask(tracer, core.SpanContext{}, "geheim", &core.Error{Kind: core.ProviderFailed, Stage: "main", Detail: "geheim", Cause: errors.New("geheim")})
	spans := c.Wait(4)
	if len(spans) != 4 {
		t.Fatalf("%d spans", len(spans))
	}
	by := map[string]tracetest.Span{}
	for _, s := range spans {
		by[s.ID] = s
		if strings.Contains(fmt.Sprintf("%+v", s), "geheim") {
			t.Errorf("a span holds a text: %+v", s)
		}
		if s.Failed != (s.Attributes["error.type"] == "provider_failed") {
			t.Errorf("%+v", s)
		}
		if s.Name == "chat m" && (by[s.Parent].Kind != "" && by[s.Parent].Trace != s.Trace || s.Attributes["server.port"] != "443" || s.Attributes["gen_ai.provider.name"] != "openai") {
			t.Errorf("%+v", s)
		}
	}
	own := by[root.Context.SpanID()]
	if own.Name != "native translate" || own.Parent != "" || own.Trace != root.Context.TraceID() || own.Took != 2*time.Millisecond || own.Attributes["dragoman.characters"] != "6" || own.Attributes["dragoman.client"] != "captions" {
		t.Errorf("%+v", own)
	}
	if got := c.Calls()[0].Get("Authorization"); got != "Bearer x" {
		t.Errorf("the collector was told %q", got)
	}
}

func TestACallThatWasRefusedAsAWholeIsOneSpan(t *testing.T) {
	c := tracetest.Collect(t, nil)
	tracer, _ := start(t, trace.Config{Endpoint: c.URL}, quick())
	unwanted, parent := core.SpanContext{}.Child(), core.SpanContext{}.Child()
	parent.Sampled = true
	for _, call := range []trace.Call{
		{ID: "mistaken", Err: &core.Error{Kind: core.InvalidRequest, Detail: "geheim"}},
		{ID: "full", Parent: parent, Client: "captions", Err: &core.Error{Kind: core.Overloaded, Stage: "queue"}, Failed: true},
		{ID: "unwanted", Parent: unwanted, Err: &core.Error{Kind: core.Unauthorized}},
	} {
		call.Door, call.Method, call.Begin, call.Took = "native", "POST", time.Now(), time.Millisecond
		span := tracer.Refused(call)
		if span == nil || span.Context.Sampled == (call.ID == "unwanted") || !call.Parent.IsZero() && span.Context.Trace != call.Parent.Trace {
			t.Errorf("%s: %+v", call.ID, span)
		}
	}
	tracer.Close()
	var got []string
	for _, s := range c.Spans() {
		if s.Kind != "SPAN_KIND_SERVER" || s.Name != "native call" || s.Took != time.Millisecond || s.Attributes["http.request.method"] != "POST" || s.Attributes["dragoman.door"] != "native" {
			t.Errorf("%+v", s)
		}
		got = append(got, fmt.Sprint(s.Attributes["dragoman.request.id"], " ", s.Parent == parent.SpanID(), " ", s.Attributes["error.type"], s.Attributes["dragoman.failed_at"], s.Attributes["dragoman.client"], " ", s.Failed))
	}
	if want := []string{"mistaken false invalid_request false", "full true overloadedqueuecaptions true"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if span := (*trace.Tracer)(nil).Refused(trace.Call{}); span != nil {
		t.Errorf("one that is off makes %+v", span)
	}
}

func TestWhatIsSentToAModelIsNamedAsTheConventionsDo(t *testing.T) {
	c := tracetest.Collect(t, nil)
	tracer, _ := start(t, trace.Config{Endpoint: c.URL}, quick())
	for _, sent := range []struct {
		of   core.Traced
		want map[string]string
	}{
		{core.Traced{}, map[string]string{}},
		{core.Traced{
			Stream: true, AnswerID: "chatcmpl-1", Reasoning: 100,
			Parameters: []core.ChatField{
				{Name: "temperature", Value: []byte("0")}, {Name: "temperature", Value: []byte("1")}, {Name: "top_k", Value: []byte("40")}, {Name: "max_tokens", Value: []byte("64")}, {Name: "max_completion_tokens", Value: []byte("32")},
				{Name: "seed", Value: []byte("1.5")}, {Name: "n", Value: []byte("1")}, {Name: "user", Value: []byte("1")}, {Name: "response_format", Value: []byte("json_object")}, {Name: "top_p", Value: []byte("1e999")},
			},
		}, map[string]string{
			"gen_ai.request.stream": "true", "gen_ai.response.id": "chatcmpl-1", "gen_ai.usage.reasoning.output_tokens": "3", "gen_ai.request.temperature": "0", "gen_ai.request.top_k": "40",
			"gen_ai.request.max_tokens": "64", "gen_ai.output.type": "json",
		}},
	} {
		sent.of.Context = core.SpanContext{}.Child()
		sent.of.Context.Sampled = true
		before := len(c.Spans())
		tracer.Attempted(&sent.of, &core.Request{}, &core.Attempted{Start: time.Now(), Usage: core.Usage{CompletionTokens: 3}})
		spans := c.Wait(before + 1)
		got := spans[len(spans)-1].Attributes
		for name := range got {
			if _, want := sent.want[name]; !want && name != "gen_ai.operation.name" && name != "gen_ai.usage.output_tokens" {
				t.Errorf("%s=%s is not what was sent", name, got[name])
			}
		}
		for name, want := range sent.want {
			if got[name] != want {
				t.Errorf("%s is %q, want %q", name, got[name], want)
			}
		}
	}
}

func TestWhatTheFileLeavesOutTheEnvironmentSays(t *testing.T) {
	for name, c := range map[string]struct {
		config trace.Config
		env    []string // URL stands for the collector
		traced bool
		error  string
	}{
		"nothing":                 {},
		"the file alone":          {config: trace.Config{Endpoint: "URL"}, traced: true},
		"the path too":            {config: trace.Config{Endpoint: "URL/v1/traces"}, traced: true},
		"the environment alone":   {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "URL"}, traced: true},
		"for traces":              {env: []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "URL/v1/traces"}, traced: true},
		"switched off":            {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "URL", "OTEL_SDK_DISABLED", "true"}},
		"another exporter":        {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "URL", "OTEL_TRACES_EXPORTER", "none"}},
		"another protocol":        {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "URL", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}},
		"none sampled":            {config: trace.Config{Endpoint: "URL"}, env: []string{"OTEL_TRACES_SAMPLER", "always_off"}},
		"a share of none":         {config: trace.Config{Endpoint: "URL"}, env: []string{"OTEL_TRACES_SAMPLER", "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG", "0"}},
		"the file goes first":     {config: trace.Config{Endpoint: "URL", Sample: 1}, env: []string{"OTEL_TRACES_SAMPLER", "always_off"}, traced: true},
		"nonsense in it":          {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "::", "OTEL_EXPORTER_OTLP_TIMEOUT", "soon"}},
		"no URL":                  {config: trace.Config{Endpoint: "localhost:4318"}, error: "trace.endpoint: must be the http or https URL of a collector"},
		"no header":               {config: trace.Config{Endpoint: "URL", Headers: map[string]core.Secret{"a b": "c"}}, error: "trace.headers.a b: is no header"},
		"a secret is not told":    {config: trace.Config{Endpoint: "URL", Headers: map[string]core.Secret{"a": "geheim\n"}}, error: "trace.headers.a: is no header"},
		"no file of certificates": {config: trace.Config{Endpoint: "URL"}, env: []string{"OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem"}, error: "OTEL_EXPORTER_OTLP_CERTIFICATE"},
	} {
		t.Run(name, func(t *testing.T) {
			col := tracetest.Collect(t, nil)
			c.config.Endpoint = strings.Replace(c.config.Endpoint, "URL", col.URL, 1)
			for i := range c.env {
				c.env[i] = strings.Replace(c.env[i], "URL", col.URL, 1)
			}
			tracer, err := trace.New(c.config, quick(c.env...), zap.NewNop())
			if c.error != "" || err != nil {
				if c.error == "" || err == nil || !strings.Contains(err.Error(), c.error) || strings.Contains(err.Error(), "geheim") {
					t.Errorf("%v, want %q", err, c.error)
				}
				return
			}
			ask(tracer, core.SpanContext{}, "text", nil)
			tracer.Close()
			if got := len(col.Spans()); got != 2 && c.traced || got != 0 && !c.traced {
				t.Errorf("%d spans", got)
			}
		})
	}
}

func TestWhoIsTracedIsWhatTheCallerSaysElseAShareByTheTrace(t *testing.T) {
	c := tracetest.Collect(t, func(w http.ResponseWriter, _ *http.Request) bool { return true })
	tracer, _ := start(t, trace.Config{Endpoint: c.URL, Sample: 0.25}, quick())
	n := 0
	for range 4000 {
		tr := core.NewTrace(nil)
		if tracer.Begin(tr, core.SpanContext{}); tr.Traced() != nil {
			n++
		}
	}
	if n < 800 || n > 1200 {
		t.Errorf("%d of 4,000 are traced, want a quarter", n)
	}
	rapid.Check(t, func(t *rapid.T) {
		parent := core.SpanContext{}.Child()
		parent.Sampled = rapid.Bool().Draw(t, "sampled")
		tr := core.NewTrace(nil)
		tracer.Begin(tr, parent)
		span := tr.Traced()
		if span == nil || span.Context.Sampled != parent.Sampled || span.Context.Trace != parent.Trace || span.Parent != parent || span.Context.Span == parent.Span {
			t.Fatalf("%+v below %+v", span, parent)
		}
	})
}

func TestEachOfManyBatchesHoldsItsOwnSpans(t *testing.T) {
	const batches, size = 50, 16
	c := tracetest.Collect(t, nil)
	tracer, _ := start(t, trace.Config{Endpoint: c.URL}, quick("OTEL_BSP_SCHEDULE_DELAY", "60000", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", fmt.Sprint(size)))
	made := map[string]bool{}
	for n := range batches {
		for range size / 2 {
			made[ask(tracer, core.SpanContext{}, "text", nil).Context.SpanID()] = true
		}
		c.Wait((n + 1) * size)
	}
	for _, s := range c.Spans() {
		if s.Name == "native translate" && !made[s.ID] || s.Name == "chat m" && s.Took != time.Millisecond {
			t.Errorf("%+v was not made, or twice", s)
		}
		delete(made, s.ID)
	}
	if len(made) > 0 || len(c.Calls()) != batches {
		t.Errorf("%d calls brought all spans but %d", len(c.Calls()), len(made))
	}
}

// A collector that is dead, black-holed, full, or that does not like what it gets costs no
// request anything, and the log one line.
func TestACollectorThatDoesNotCollectCostsOneLine(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"answers 400": func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(400); return true },
		"answers 503": func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true },
		"redirects": func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "http://example.com/", http.StatusTemporaryRedirect)
			return true
		},
		"takes only some": func(w http.ResponseWriter, _ *http.Request) bool {
			w.Write([]byte{0x0a, 0x02, 0x08, 0x05}) // partial_success: rejected_spans: 5
			return true
		},
		"never answers": func(_ http.ResponseWriter, r *http.Request) bool {
			io.Copy(io.Discard, r.Body) // else a server does not notice that its client has left
			<-r.Context().Done()
			return true
		},
		"dead": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := "http://127.0.0.1:1"
			if answer != nil {
				url = tracetest.Collect(t, answer).URL
			}
			seen, logs := observer.New(zap.InfoLevel)
			tracer, err := trace.New(trace.Config{Endpoint: url}, quick("OTEL_EXPORTER_OTLP_TIMEOUT", "100"), zap.New(seen))
			if err != nil {
				t.Fatal(err)
			}
			// Were each to wait for the collector's 100 ms, the test would not come to its end.
			const most = 5000
			for range most {
				ask(tracer, core.SpanContext{}, "text", nil)
			}
			tracer.Close()
			total := map[string]float64{}
			tracer.Measure(func(m core.Measure) { total[m.Labels[1]] = m.Value })
			if total["sent"]+total["dropped"] != 2*most || total["dropped"] == 0 || name != "takes only some" && total["sent"] > 0 {
				t.Errorf("%v", total)
			}
			if logs.FilterMessageSnippet("does not get all spans").Len() != 1 || logs.Len() > 1 {
				t.Errorf("the log says %v", logs.All())
			}
		})
	}
}

func TestTheLogSaysWhenTheCollectorIsBackAndWhatWasLost(t *testing.T) {
	down := make(chan struct{})
	c := tracetest.Collect(t, func(w http.ResponseWriter, _ *http.Request) bool {
		select {
		case <-down:
			return false
		default:
			w.WriteHeader(400)
			return true
		}
	})
	tracer, logs := start(t, trace.Config{Endpoint: c.URL}, quick())
	ask(tracer, core.SpanContext{}, "text", nil)
	for logs.Len() == 0 {
		time.Sleep(time.Millisecond) // the line is written by another goroutine, and nothing tells of it
	}
	close(down)
	ask(tracer, core.SpanContext{}, "text", nil)
	c.Wait(2)
	tracer.Close()
	if said := logs.FilterMessageSnippet("gets spans again").All(); len(said) != 1 || said[0].ContextMap()["lost"] != int64(2) {
		t.Errorf("%v", logs.All())
	}
}

func TestAReloadMovesToAnotherCollectorAndLosesNoSpan(t *testing.T) {
	one, two := tracetest.Collect(t, nil), tracetest.Collect(t, nil)
	tracer, _ := start(t, trace.Config{Endpoint: one.URL}, quick())
	ask(tracer, core.SpanContext{}, "text", nil)
	if _, err := tracer.Plan(&trace.Config{Endpoint: "ftp://x"}); err == nil {
		t.Error("a bad endpoint is planned")
	}
	apply, err := tracer.Plan(&trace.Config{Endpoint: two.URL})
	if err != nil {
		t.Fatal(err)
	}
	apply()
	ask(tracer, core.SpanContext{}, "text", nil)
	apply, err = tracer.Plan(&trace.Config{})
	if err != nil {
		t.Fatal(err)
	}
	apply()
	ask(tracer, core.SpanContext{}, "text", nil)
	tracer.Close()
	if a, b := len(one.Spans()), len(two.Spans()); a != 2 || b != 2 || tracer.On() {
		t.Errorf("%d and %d spans, on is %v", a, b, tracer.On())
	}
}

func TestWithDetailEachStageIsASpanBelowWhatItServed(t *testing.T) {
	c := tracetest.Collect(t, nil)
	tracer, _ := start(t, trace.Config{Endpoint: c.URL, Detail: true}, quick())
	req := &core.Request{ID: "id", Text: "x", Trace: core.NewTrace(nil)}
	tracer.Begin(req.Trace, core.SpanContext{})
	mark := req.Trace.Begin(1)
	fork, done := req.Trace.ForkAttempt("first")
	inner := fork.Begin(2)
	fork.End(inner, "postprocess")
	done()
	req.Trace.Merge(fork, 0)
	req.Trace.End(mark, "cache")
	tracer.Ended(trace.Request{Door: "native", Request: req, Result: &core.Result{}, Begin: time.Now(), Took: time.Millisecond})
	tracer.Close()
	parents := map[string]string{}
	for _, s := range c.Spans() {
		parents[s.Name] = s.Parent
	}
	if len(parents) != 3 || parents["stage cache"] != req.Trace.Traced().Context.SpanID() || parents["stage postprocess"] != fork.Traced().Context.SpanID() {
		t.Errorf("%v", parents)
	}
}

func TestTracingThatIsOffAsksForNoMemory(t *testing.T) {
	off, _ := start(t, trace.Config{}, quick())
	for name, tracer := range map[string]*trace.Tracer{"none": nil, "off": off} {
		tr := core.NewTrace(nil)
		if n := testing.AllocsPerRun(1000, func() {
			if tracer.On() {
				t.Fatal("it is on")
			}
			tracer.Begin(tr, core.SpanContext{})
			if tracer.Refused(trace.Call{Door: "native"}) != nil {
				t.Fatal("a call is traced")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkTracing(b *testing.B) {
	off, _ := start(b, trace.Config{}, quick())
	b.Run("off", func(b *testing.B) {
		b.ReportAllocs()
		tr := core.NewTrace(nil)
		for b.Loop() {
			if off.On() {
				off.Begin(tr, core.SpanContext{})
			}
		}
	})
	for _, share := range []float64{0.01, 1} {
		b.Run(fmt.Sprintf("%v with one attempt", share), func(b *testing.B) {
			c := tracetest.Collect(b, func(http.ResponseWriter, *http.Request) bool { return true })
			tracer, _ := start(b, trace.Config{Endpoint: c.URL, Sample: share}, func(string) string { return "" })
			b.ReportAllocs()
			for b.Loop() {
				ask(tracer, core.SpanContext{}, "The bridge is closed until Monday.", nil)
			}
		})
	}
}
