package openai

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "sk-test-0123456789/abcdef"

// upstream is the standard library's transport, with a count of who wants
// connections kept warm.
type upstream struct {
	http.Transport
	mu   sync.Mutex
	warm map[string]int
}

func (u *upstream) Warm(origin string) (func(), error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.warm == nil {
		u.warm = map[string]int{}
	}
	u.warm[origin]++
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.warm[origin]--
	}, nil
}

func newUpstream(t testing.TB, ca []byte) *upstream {
	u := &upstream{}
	u.MaxIdleConnsPerHost = 64
	if ca != nil {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		u.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	t.Cleanup(u.CloseIdleConnections)
	return u
}

func simulate(t testing.TB, cfg openaitest.Config) *openaitest.Server {
	sim, err := openaitest.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Close() })
	return sim
}

// provide builds the provider `main` for the server at url.
func provide(t testing.TB, url string, ca []byte, change func(*Config)) *Provider {
	cfg := defaults()
	cfg.BaseURL, cfg.APIKey = url, key
	if change != nil {
		change(&cfg)
	}
	built, err := Kind().Build(core.Env{Name: "main", Log: zap.NewNop(), Upstream: newUpstream(t, ca)}, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	return built.(*Provider)
}

func ask(text string) *core.Request {
	return &core.Request{ID: "r1", Text: text, Source: "en", Target: "es", Trace: core.NewTrace(nil)}
}

func TestTranslatesOverTLS(t *testing.T) {
	sim := simulate(t, openaitest.Config{TLS: true, Keys: []string{key}, RPM: 500, TPM: 100_000})
	p := provide(t, sim.URL(), sim.CA(), nil)
	req := ask("Good morning \"there\"\n\t\u2028<b>&\\ 😀")
	res, err := p.Translate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if want := "[es] " + req.Text; res.Text != want || res.Finish != core.FinishStop || res.Provider != "main" || res.Model != "gpt-5.4-nano" || res.Source != "" || res.NoStore {
		t.Errorf("got %+v, want the text %q", res, want)
	}
	if res.Usage.PromptTokens == 0 || res.Usage.CompletionTokens == 0 {
		t.Errorf("no usage: %+v", res.Usage)
	}
	if l := res.Limits; l == nil || !l.Requests.Known || l.Requests.Limit != 500 || !l.Tokens.Known || l.Tokens.Limit != 100_000 {
		t.Errorf("limits of the answer are lost: %+v", l)
	}
}

// Everything bad that an upstream can send, and what becomes of it.
func TestBadUpstream(t *testing.T) {
	for _, c := range []struct {
		fault string
		kind  core.ErrorKind
		again bool
	}{
		{openaitest.Error500, core.ProviderFailed, true},
		{openaitest.Error502, core.ProviderFailed, true},
		{openaitest.Error503, core.ProviderFailed, true},
		{openaitest.Error504, core.ProviderFailed, true},
		{openaitest.RateLimit, core.RateLimited, true},
		{openaitest.RateLimitBare, core.RateLimited, true},
		{openaitest.InsufficientQuota, core.QuotaExceeded, false},
		{openaitest.Error401, core.ProviderFailed, false},
		{openaitest.Error404, core.ProviderFailed, false},
		{openaitest.ContextLength, core.TooLarge, false},
		{openaitest.Empty, core.ProviderFailed, true},
		{openaitest.Refusal, core.ProviderRefused, false},
		{openaitest.Truncated, core.ProviderFailed, true},
		{openaitest.Garbage, core.ProviderFailed, true},
		{openaitest.StreamError, core.ProviderFailed, true},
		{openaitest.ResetBefore, core.ProviderFailed, true},
		{openaitest.ResetAfter, core.ProviderFailed, true},
		{openaitest.Cut, core.ProviderFailed, true},
		{openaitest.Hang, core.DeadlineExceeded, true},
		{openaitest.Stall, core.DeadlineExceeded, true},
		{openaitest.Drip, core.DeadlineExceeded, true},
	} {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			sim := simulate(t, openaitest.Config{RetryAfter: 1500 * time.Millisecond})
			sim.FailNext(1, c.fault)
			p := provide(t, sim.URL(), nil, func(cfg *Config) {
				if c.kind == core.DeadlineExceeded {
					cfg.Timeout = 50 * time.Millisecond
				}
			})
			req := ask("The secret plan")
			res, err := p.Translate(t.Context(), req)
			e, ok := errors.AsType[*core.Error](err)
			if res != nil || !ok {
				t.Fatalf("got %+v, %v", res, err)
			}
			if e.Kind != c.kind || e.Retryable != c.again || e.Stage != "main" {
				t.Errorf("got kind %s, retryable %v, stage %q, want %s, %v", e.Kind, e.Retryable, e.Stage, c.kind, c.again)
			}
			if e.Detail == "" || strings.Contains(e.Detail, "secret") || strings.Contains(e.Error(), key) || strings.Contains(e.Error(), "secret") {
				t.Errorf("tells too much or too little: %v", e)
			}
			if c.fault == openaitest.RateLimit && e.RetryAfter != 1500*time.Millisecond {
				t.Errorf("RetryAfter %v, want 1.5s", e.RetryAfter)
			}
			if c.fault == openaitest.RateLimitBare && e.RetryAfter != 0 {
				t.Errorf("RetryAfter %v was never said", e.RetryAfter)
			}
			// The next call is well. On a busy machine the fault may be left, since
			// the first ran out of time before it was read.
			sim.Configure(func(c *openaitest.Config) { c.Schedule = nil })
			p.cfg.Timeout = time.Minute
			if _, err := p.Translate(t.Context(), ask("again")); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

func TestCutAndFilteredAnswersAreMarked(t *testing.T) {
	sim := simulate(t, openaitest.Config{})
	p := provide(t, sim.URL(), nil, nil)
	for fault, want := range map[string]core.Finish{openaitest.Length: core.FinishLength, openaitest.ContentFilter: core.FinishFiltered} {
		sim.FailNext(1, fault)
		res, err := p.Translate(t.Context(), ask("A sentence that is long enough to be cut somewhere"))
		if err != nil {
			t.Fatal(err)
		}
		if res.Finish != want || !res.NoStore || slices.Contains(res.Flags, core.FlagCut) != (want == core.FinishLength) {
			t.Errorf("%s: got %+v", fault, res)
		}
	}
}

// An answer with any status is read to its end, so its connection serves again.
func TestEveryAnswerLeavesItsConnectionUsable(t *testing.T) {
	sim := simulate(t, openaitest.Config{})
	p := provide(t, sim.URL(), nil, nil)
	for _, fault := range []string{"", openaitest.Error500, openaitest.Error503, openaitest.RateLimit, openaitest.Error401, openaitest.Refusal, openaitest.Garbage, openaitest.Empty, ""} {
		sim.FailNext(1, fault)
		p.Translate(t.Context(), ask("x"))
	}
	if n := sim.Stats().Connections; n != 1 {
		t.Errorf("%d connections for answers that came one after the other, want 1", n)
	}
}

func TestTheRequestsOwnDeadlineIsNotTheAttempts(t *testing.T) {
	sim := simulate(t, openaitest.Config{})
	sim.FailNext(1, openaitest.Hang)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := provide(t, sim.URL(), nil, nil).Translate(ctx, ask("x"))
	e, _ := errors.AsType[*core.Error](err)
	if e == nil || e.Kind != core.DeadlineExceeded || e.Retryable {
		t.Errorf("got %v, want a deadline_exceeded that no attempt can mend", err)
	}
}

func TestLeavingEndsTheUpstreamCall(t *testing.T) {
	sent := make(chan struct{})
	sim := simulate(t, openaitest.Config{Observe: func(*http.Request, []byte) { close(sent) }})
	sim.FailNext(1, openaitest.Hang)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-sent; cancel() }()
	_, err := provide(t, sim.URL(), nil, nil).Translate(ctx, ask("x"))
	if core.KindOf(err) != core.Canceled {
		t.Errorf("got %v, want canceled", err)
	}
	stats, err := sim.Settled(t.Context()) // returns only when the server saw it
	if err != nil || stats.Aborted != 1 {
		t.Errorf("the upstream call goes on: %+v, %v", stats, err)
	}
}

func TestRefusedParametersAreLeftOutFromThenOn(t *testing.T) {
	var mu sync.Mutex
	var bodies []map[string]any
	core_, logs := observer.New(zap.InfoLevel)
	sim := simulate(t, openaitest.Config{
		Models: []openaitest.Model{{ID: "old", Refuses: []string{"temperature", "reasoning_effort=none", "max_completion_tokens"}}},
		Observe: func(_ *http.Request, body []byte) {
			var b map[string]any
			json.Unmarshal(body, &b)
			mu.Lock()
			bodies = append(bodies, b)
			mu.Unlock()
		},
	})
	p := provide(t, sim.URL(), nil, func(c *Config) { c.Model = "old" })
	p.env.Log = zap.New(core_)
	for range 2 {
		if _, err := p.Translate(t.Context(), ask("x")); err != nil {
			t.Fatal(err)
		}
	}
	if len(bodies) != 3+1+1 {
		t.Fatalf("%d calls, want one for each parameter refused, one that answers, and one that knows", len(bodies))
	}
	for _, b := range bodies[3:] {
		for _, name := range []string{"temperature", "reasoning_effort", "max_completion_tokens", "store"} {
			if _, sent := b[name]; sent {
				t.Errorf("%s is sent although the model refused it", name)
			}
		}
		if _, sent := b["max_tokens"]; !sent {
			t.Error("no output cap is left")
		}
	}
	if n := logs.Len(); n != 3 {
		t.Errorf("%d log lines, want 3", n)
	}
}

func TestAProviderBuiltAnewKnowsWhatTheModelRefuses(t *testing.T) {
	calls := 0
	sim := simulate(t, openaitest.Config{
		Models:  []openaitest.Model{{ID: "old", Refuses: []string{"temperature", "max_completion_tokens"}}, {ID: "new"}},
		Observe: func(*http.Request, []byte) { calls++ },
	})
	old := func(c *Config) { c.Model = "old" }
	former := provide(t, sim.URL(), nil, old)
	if _, err := former.Translate(t.Context(), ask("x")); err != nil {
		t.Fatal(err)
	}
	former.learn(former.params.Load(), "stream", false) // as an account's model may
	for name, c := range map[string]struct {
		change func(*Config)
		calls  int
	}{
		"another timeout":     {func(c *Config) { old(c); c.Timeout = time.Minute }, 1},
		"another key":         {func(c *Config) { old(c); c.Organization = "other" }, 1},
		"another model":       {func(c *Config) { c.Model = "new" }, 1},
		"another temperature": {func(c *Config) { old(c); c.Request.Temperature = 1 }, 3}, // it is worth asking again
	} {
		p := provide(t, sim.URL(), nil, c.change)
		p.Inherit(former)
		calls = 0
		if _, err := p.Translate(t.Context(), ask("x")); err != nil {
			t.Fatal(name, err)
		}
		if calls != c.calls {
			t.Errorf("%s: %d calls, want %d", name, calls, c.calls)
		}
		refused := p.params.Load().refused
		if knows := refused.temperature && refused.completionTokens; knows != (name != "another model") {
			t.Errorf("%s: left out is %+v", name, refused)
		}
		if refused.stream {
			t.Errorf("%s: it does not stream, whatever the account", name)
		}
	}
	if !former.params.Load().refused.stream {
		t.Error("the former has forgotten something")
	}
	provide(t, sim.URL(), nil, nil).Inherit("something else")
}

// A server that refuses what was not sent must not be asked for ever.
func TestRefusingWhatWasNotSentEnds(t *testing.T) {
	calls := 0
	p, _ := canned(t, func(w http.ResponseWriter, r *http.Request) {
		calls++
		w.WriteHeader(400)
		io.WriteString(w, `{"error":{"param":"temperature","code":"unsupported_parameter"}}`)
	})
	_, err := p.Translate(t.Context(), ask("x"))
	if core.KindOf(err) != core.ProviderFailed || calls != 2 {
		t.Errorf("got %v after %d calls, want provider_failed after 2", err, calls)
	}
}

// canned is a provider in front of a server that does what answer does.
func canned(t testing.TB, answer http.HandlerFunc) (*Provider, *httptest.Server) {
	srv := httptest.NewServer(answer)
	t.Cleanup(srv.Close)
	return provide(t, srv.URL+"/v1", nil, nil), srv
}

func TestOddAnswers(t *testing.T) {
	for _, c := range []struct {
		name, body string
		status     int
		kind       core.ErrorKind // empty: it is an answer
		again      bool
	}{
		{"no choices", `{"choices":[]}`, 200, core.ProviderFailed, true},
		{"an error with status 200", `{"error":{"message":"x"}}`, 200, core.ProviderFailed, true},
		{"HTML with status 200", `<html><body>Welcome</body></html>`, 200, core.ProviderFailed, true},
		{"nothing", ``, 200, core.ProviderFailed, true},
		{"two values", `{"choices":[{"message":{"content":"a"}}]} {}`, 200, core.ProviderFailed, true},
		{"content of another type", `{"choices":[{"message":{"content":[1]}}]}`, 200, core.ProviderFailed, true},
		{"blank content", `{"choices":[{"message":{"content":" \n"},"finish_reason":"stop"}]}`, 200, core.ProviderFailed, true},
		{"filtered before a word was said", `{"choices":[{"message":{"content":null},"finish_reason":"content_filter"}]}`, 200, core.ProviderRefused, false},
		{"bare minimum", `{"choices":[{"message":{"content":"hola"}}]}`, 200, "", false},
		{"nulls", `{"model":null,"usage":null,"choices":[{"finish_reason":null,"message":{"content":"hola","refusal":null}}]}`, 200, "", false},
		{"more than is read", `{"choices":[{"message":{"content":"` + strings.Repeat("x", exchange.MaxAnswer) + `"}}]}`, 200, core.ProviderFailed, true},
		{"another 400", `{"error":{"code":"invalid_value","param":"messages"}}`, 400, core.ProviderFailed, false},
		{"400 with a number as code", `{"error":{"code":400,"param":7,"type":null}}`, 400, core.ProviderFailed, false},
		{"400 with an error that is text", `{"error":"no"}`, 400, core.ProviderFailed, false},
		{"400 from a content filter", `{"error":{"code":"content_filter"}}`, 400, core.ProviderRefused, false},
		{"402", ``, 402, core.QuotaExceeded, false},
		{"403", ``, 403, core.ProviderFailed, false},
		{"408", ``, 408, core.ProviderFailed, true},
		{"413", ``, 413, core.TooLarge, false},
		{"520 of the edge", `<html>`, 520, core.ProviderFailed, true},
		{"redirect", ``, 307, core.ProviderFailed, false},
		{"204", ``, 204, core.ProviderFailed, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := 0
			p, _ := canned(t, func(w http.ResponseWriter, r *http.Request) {
				calls++
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			})
			res, err := p.Translate(t.Context(), ask("x"))
			if core.KindOf(err) != c.kind || (err == nil) != (res != nil) || calls != 1 {
				t.Fatalf("got %+v, %v after %d calls; want kind %q after 1", res, err, calls, c.kind)
			}
			if e, ok := errors.AsType[*core.Error](err); ok && e.Retryable != c.again {
				t.Errorf("retryable %v, want %v", e.Retryable, c.again)
			}
			if err == nil && (res.Text != "hola" || res.Model != "gpt-5.4-nano") {
				t.Errorf("got %+v", res)
			}
		})
	}
}

// What was paid for is known even when the answer cannot be used.
func TestUsageOfAnUnusableAnswerIsKept(t *testing.T) {
	p, _ := canned(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"usage":{"prompt_tokens":60,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":7}},"choices":[{"message":{"content":null,"refusal":"no"}}]}`)
	})
	_, err := p.Translate(t.Context(), ask("x"))
	e, ok := errors.AsType[*core.Error](err)
	if want := (core.Usage{PromptTokens: 60, CompletionTokens: 4, CachedTokens: 7}); !ok || e.Usage != want {
		t.Errorf("got %+v, want %+v", err, want)
	}
}

func TestTheLogGetsTypeCodeAndPlaceAndNoKey(t *testing.T) {
	p, _ := canned(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "req_1")
		w.WriteHeader(400)
		fmt.Fprintf(w, `{"error":{"message":"Incorrect key %s","type":"invalid_request_error","code":"too_odd","param":"messages[1].content","key":"%s"}}`, key, key)
	})
	_, err := p.Translate(t.Context(), ask("x"))
	e, _ := errors.AsType[*core.Error](err)
	if e == nil {
		t.Fatal(err)
	}
	if got, want := e.Cause.Error(), "status 400, upstream request req_1, type invalid_request_error, code too_odd, param messages[1].content, message Incorrect key [redacted]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWithoutAKeyNothingIsSent(t *testing.T) {
	sim := simulate(t, openaitest.Config{})
	p := provide(t, sim.URL(), nil, func(c *Config) { c.BaseURL, c.APIKey = defaults().BaseURL, " " })
	_, err := p.Translate(t.Context(), ask("x"))
	if core.KindOf(err) != core.ProviderFailed {
		t.Errorf("Translate: %v; the client's own key is not at fault", err)
	}
	for what, err := range map[string]error{"Start": p.Start(t.Context()), "Probe": p.Probe(t.Context()), "Translate": err} {
		if what != "Translate" && core.KindOf(err) != core.Unauthorized || !strings.Contains(err.Error(), "providers.main.api_key is empty; set OPENAI_API_KEY") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s := sim.Stats(); s.Requests != 0 || s.Connections != 0 {
		t.Errorf("%d requests over %d connections", s.Requests, s.Connections)
	}
}

func TestProbe(t *testing.T) {
	now := time.Now()
	day := func(d int) string { return now.AddDate(0, 0, d).Format(time.DateOnly) }
	for _, c := range []struct {
		name   string
		sim    openaitest.Config
		kind   core.ErrorKind
		notice string
	}{
		{name: "all is well"},
		{name: "wrong key", sim: openaitest.Config{Keys: []string{"other"}}, kind: core.Unauthorized},
		{name: "unknown model", sim: openaitest.Config{Models: []openaitest.Model{{ID: "other"}}}, kind: core.NotFound},
		{name: "no /models", sim: openaitest.Config{NoModels: true}, notice: "does not tell"},
		{name: "at its limit", sim: openaitest.Config{ModelsFault: openaitest.RateLimit}},
		{name: "no quota", sim: openaitest.Config{ModelsFault: openaitest.InsufficientQuota}, kind: core.QuotaExceeded},
		{name: "unwell", sim: openaitest.Config{ModelsFault: openaitest.Error503}, kind: core.ProviderFailed},
		{name: "reset", sim: openaitest.Config{ModelsFault: openaitest.ResetAfter}, kind: core.Unavailable},
		{name: "ends soon", sim: openaitest.Config{Models: []openaitest.Model{{ID: "gpt-5.4-nano", ShutdownDate: day(30)}}}, notice: "will be shut down on " + day(30)},
		{name: "ends later", sim: openaitest.Config{Models: []openaitest.Model{{ID: "gpt-5.4-nano", ShutdownDate: day(90)}}}},
		{name: "has ended", sim: openaitest.Config{Models: []openaitest.Model{{ID: "gpt-5.4-nano", ShutdownDate: day(-2)}}}, notice: "was to be shut down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			logged, logs := observer.New(zap.WarnLevel)
			sim := simulate(t, c.sim)
			p := provide(t, sim.URL(), nil, nil)
			p.env.Log = zap.New(logged)
			err := p.Probe(t.Context())
			p.Probe(t.Context()) // says nothing new
			if core.KindOf(err) != c.kind {
				t.Errorf("got %v, want kind %q", err, c.kind)
			}
			if !strings.Contains(p.Notice(), c.notice) || (c.notice == "") != (p.Notice() == "") {
				t.Errorf("notice %q, want %q", p.Notice(), c.notice)
			}
			want := 0
			if c.notice != "" {
				want = 1
			}
			if logs.Len() != want {
				t.Errorf("%d warnings, want %d", logs.Len(), want)
			}
			// Where there is no /models, a call is made that is refused and costs nothing.
			stats := sim.Stats()
			if stats.Chats != int64(stats.Statuses[http.StatusBadRequest]) || stats.Chats > 0 && !c.sim.NoModels {
				t.Errorf("a probe cost a translation: %d, answered with %v", stats.Chats, stats.Statuses)
			}
		})
	}
}

func TestProbeOfNobody(t *testing.T) {
	p, srv := canned(t, nil)
	srv.Close()
	if err := p.Probe(t.Context()); core.KindOf(err) != core.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
}

func TestStartWarmsUntilClose(t *testing.T) {
	p := provide(t, "https://api.example.com:8443/v1/", nil, nil)
	warm := func() int { return p.env.Upstream.(*upstream).warm["https://api.example.com:8443"] }
	if err := p.Close(); err != nil {
		t.Errorf("Close before Start: %v", err)
	}
	for range 2 {
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if warm() != 1 {
			t.Errorf("warmed %d times, want once", warm())
		}
	}
	for range 2 {
		if err := p.Close(); err != nil || warm() != 0 {
			t.Errorf("after Close: warmed %d times, %v", warm(), err)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"a path alone":          func(c *Config) { c.BaseURL = "/v1" },
		"another scheme":        func(c *Config) { c.BaseURL = "ftp://example.com/v1" },
		"a user in the address": func(c *Config) { c.BaseURL = "https://me:pw@example.com/v1" },
		"a fragment":            func(c *Config) { c.BaseURL = "https://example.com/v1#x" },
		"no URL":                func(c *Config) { c.BaseURL = "https://exa mple.com" },
		"a key of two lines":    func(c *Config) { c.APIKey = "sk-\nX-Evil: 1" },
		"a header of two lines": func(c *Config) { c.Headers = map[string]core.Secret{"X-A": "1\r\nX-B: 2"} },
		"a header name":         func(c *Config) { c.Headers = map[string]core.Secret{"X A": "1"} },
		"the key twice":         func(c *Config) { c.APIKey, c.Headers = key, map[string]core.Secret{"authorization": "Bearer x"} },
		"its own header":        func(c *Config) { c.Headers = map[string]core.Secret{"content-type": "text/plain"} },
		"other messages":        func(c *Config) { c.Request.Extra = map[string]any{"messages": []any{}} },
		"another model":         func(c *Config) { c.Request.Extra = map[string]any{"model": "m"} },
		"streams for all":       func(c *Config) { c.Request.Extra = map[string]any{"stream": true} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := defaults()
			change(&cfg)
			_, err := Kind().Build(core.Env{Name: "main"}, &cfg)
			if err == nil {
				t.Fatal("built")
			}
			if strings.Contains(err.Error(), "pw") || strings.Contains(err.Error(), "sk-") {
				t.Errorf("a secret shows: %v", err)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	var got []http.Header
	_, srv := canned(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Clone())
		if r.URL.Path != "/v1/chat/completions" || r.ContentLength <= 0 || len(r.TransferEncoding) > 0 {
			t.Errorf("%s with length %d, %v", r.URL, r.ContentLength, r.TransferEncoding)
		}
		io.WriteString(w, `{"choices":[{"message":{"content":"hola"}}]}`)
	})
	p := provide(t, srv.URL+"/v1/", nil, func(c *Config) {
		c.APIKey, c.Organization, c.Project, c.Headers = key+"\n", "org-1", "proj-1", map[string]core.Secret{"x-team": "captions"}
	})
	again := ask("x")
	again.Attempt = 2
	odd := ask("x")
	odd.ID = "ü\n"
	for _, req := range []*core.Request{ask("x"), again, odd} {
		if _, err := p.Translate(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	for i, id := range []string{"r1", "r1-2", ""} {
		for name, want := range map[string]string{
			"Authorization": "Bearer " + key, "OpenAI-Organization": "org-1", "OpenAI-Project": "proj-1", "X-Team": "captions",
			"Content-Type": "application/json", "X-Client-Request-Id": id,
		} {
			if v := got[i].Get(name); v != want {
				t.Errorf("call %d: %s: %q, want %q", i, name, v, want)
			}
		}
	}
}

// The pool may have to send a call again on another connection.
func TestABodyCanBeSentAgain(t *testing.T) {
	p := provide(t, "http://127.0.0.1:1/v1", nil, nil)
	r := p.request(t.Context(), ask("hello"), p.params.Load())
	first, _ := io.ReadAll(r.Body)
	b, err := r.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	second, _ := io.ReadAll(b)
	if !bytes.Equal(first, second) || int64(len(first)) != r.ContentLength {
		t.Errorf("%d bytes, then %d, announced %d", len(first), len(second), r.ContentLength)
	}
}

func TestFingerprintNamesWhatChangesAnswers(t *testing.T) {
	of := func(change func(*Config)) string {
		return provide(t, "https://api.example.com/v1", nil, change).Fingerprint()
	}
	plain := of(nil)
	for name, change := range map[string]func(*Config){
		"base_url":         func(c *Config) { c.BaseURL += "x" },
		"model":            func(c *Config) { c.Model = "other" },
		"instructions":     func(c *Config) { c.Instructions = "Be brief." },
		"temperature":      func(c *Config) { c.Request.Temperature = 1 },
		"reasoning_effort": func(c *Config) { c.Request.ReasoningEffort = "low" },
		"max_output":       func(c *Config) { c.Request.MaxOutput = 64 },
	} {
		if of(change) == plain {
			t.Errorf("%s changes nothing", name)
		}
	}
	for name, change := range map[string]func(*Config){
		"api_key":        func(c *Config) { c.APIKey = "other" },
		"timeout":        func(c *Config) { c.Timeout = time.Minute },
		"trailing slash": func(c *Config) { c.BaseURL += "/" },
	} {
		if of(change) != plain {
			t.Errorf("%s changes the fingerprint", name)
		}
	}
}

func TestPrompt(t *testing.T) {
	var out bytes.Buffer
	for _, c := range []struct {
		name string
		cfg  func(*Config)
		req  core.Request
	}{
		{name: "plain", req: core.Request{Text: "Good morning", Source: "en", Target: "es"}},
		{name: "source unknown", req: core.Request{Text: "Good morning", Target: "pt-BR"}},
		{name: "everything", cfg: func(c *Config) { c.Instructions = "Captions of a medical course." }, req: core.Request{
			Text: "Is it \"on\"?\n", Source: "zh-Hant", Target: "de", Formality: core.Formal,
			Instructions: []string{"Short sentences.", "No slang."},
			Context:      []core.Pair{{Source: "一", Target: "Eins"}, {Source: "二", Target: "Zwei"}},
		}},
		{name: "terms of a glossary, and what is around", req: core.Request{
			Text: "The car", Source: "en", Target: "de", Terms: []core.Pair{{Source: "car", Target: "Wagen\nObey"}},
			Context: []core.Pair{{Source: "About\ncars."}, {Source: "One.", Target: "Eins."}},
		}},
		{name: "with marks in place of placeholders", req: core.Request{Text: "<x1/> files in <x2/>", Source: "en", Target: "es"}},
		{name: "informal, second attempt", req: core.Request{Text: strings.Repeat("long ", 30), Source: "en", Target: "fr", Formality: core.Informal, Attempt: 1}},
		{name: "reasoning", cfg: func(c *Config) { c.Request = Request{Temperature: 0.5, ReasoningEffort: "low", MaxOutput: 4096} }, req: core.Request{Text: "x", Source: "sr-Latn", Target: "yue"}},
	} {
		p := provide(t, "https://api.openai.com/v1", nil, c.cfg)
		for range 2 { // made, then remembered
			body := p.encode(&c.req, p.params.Load(), false)
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, body, "", "  "); err != nil {
				t.Fatalf("%s: %v in %s", c.name, err, body)
			}
			if entry := fmt.Sprintf("# %s\n%s\n", c.name, pretty.Bytes()); !strings.HasSuffix(out.String(), entry) {
				out.WriteString(entry)
			}
		}
	}
	const golden = "testdata/prompt.golden"
	if *update {
		os.WriteFile(golden, out.Bytes(), 0o644)
	}
	want, _ := os.ReadFile(golden)
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("the prompt changed: raise promptVersion, then run with -update\n%s", diff)
	}
}

func TestThePromptsKeptAreBounded(t *testing.T) {
	p := provide(t, "http://127.0.0.1:1/v1", nil, nil)
	for i := range 3 * maxPrompts {
		req := ask("x")
		req.Instructions = []string{fmt.Sprint("wish ", i)}
		p.encode(req, p.params.Load(), false)
	}
	req := ask("x")
	req.Instructions = []string{strings.Repeat("w", maxWishes)}
	p.encode(req, p.params.Load(), false)
	kept := 0
	for _, prefix := range p.prompts.made {
		kept += len(prefix)
	}
	if n := len(p.prompts.made); n > maxPrompts || kept > maxPrompts*2000 {
		t.Errorf("%d prompts of %d bytes are kept", n, kept)
	}
}

func TestOutputCap(t *testing.T) {
	p := provide(t, "http://127.0.0.1:1/v1", nil, nil)
	for _, c := range []struct {
		text          string
		attempt, want int
	}{
		{"Hi", 0, 32},
		{"Hi", 1, 64},
		{strings.Repeat("abc", 100), 0, 316},
		{strings.Repeat("abc", 100), 2, 1264},
		{strings.Repeat("日", 100), 0, 316},
		{strings.Repeat("abc", 100_000), 0, 4096},
		{strings.Repeat("abc", 1000), 60, 4096},
	} {
		req := ask(c.text)
		req.Attempt = c.attempt
		if got := p.cap(req, p.params.Load()); got != c.want {
			t.Errorf("%d bytes, attempt %d: cap %d, want %d", len(c.text), c.attempt, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		req := ask(rapid.String().Draw(t, "text"))
		req.Attempt = rapid.IntRange(0, 10).Draw(t, "attempt")
		n := p.cap(req, p.params.Load())
		req.Attempt++
		if more := p.cap(req, p.params.Load()); n < 32 || n > 4096 || more < n {
			t.Fatalf("cap %d, then %d", n, more)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"model":"m","choices":[{"message":{"content":"hola"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}`))
	f.Add([]byte(`{"choices":[{"message":{"content":null,"refusal":"no"}}]}`))
	f.Add([]byte(`<html>`))
	p := provide(f, "http://127.0.0.1:1/v1", nil, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		res, usage, err := p.read(ask("x"), http.Header{}, body)
		if (res == nil) == (err == nil) {
			t.Fatalf("%v and %v", res, err)
		}
		if res != nil && (strings.TrimSpace(res.Text) == "" || res.Model == "" || res.Provider != "main") {
			t.Fatalf("%+v", res)
		}
		if usage.PromptTokens < 0 || usage.CompletionTokens < 0 || usage.CachedTokens < 0 {
			t.Fatalf("%+v", usage)
		}
		if e := p.failed(ask("x"), 500, http.Header{}, body); e.Kind == "" || len([]rune(e.Cause.Error())) > 5*64+200+80 {
			t.Fatalf("%v", e)
		}
	})
}
