package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/native"
	"github.com/dragoman-mt/dragoman/plugins/host"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// inside is a gateway in this process in front of a simulator over TLS: the
// shipped chain, and everything in it within reach.
type inside struct {
	*gateway
	sim *openaitest.Server
	url string
}

// runs builds and starts in this process what yaml says.
func runs(t *testing.T, yaml string) *gateway {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipeline.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := program{}.load(config.Options{File: path}, host.New())
	if err != nil {
		t.Fatal(err)
	}
	g, err := build(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.close(5 * time.Second) })
	if err := g.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

func newInside(t *testing.T, sim openaitest.Config, yaml string) *inside {
	t.Helper()
	// Whatever the test leaves behind when everything is closed is a leak.
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })

	sim.TLS = true
	s, err := openaitest.Start(sim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, s.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	yaml = strings.NewReplacer("BASE", s.URL(), "CA", ca).Replace(yaml)
	g := runs(t, yaml)
	service := door.New(*g.server, g.engine)
	server := httptest.NewServer(native.New(service, door.NewMetrics(prometheus.NewRegistry()), g.log))
	t.Cleanup(server.Close)
	return &inside{gateway: g, sim: s, url: server.URL}
}

// ask sends one text with a client that keeps no connection.
func (in *inside) ask(ctx context.Context, text string) (answer, http.Header, error) {
	body, _ := json.Marshal(map[string]string{"text": text, "source": "en", "target": "es"})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url+"/v1/translate", strings.NewReader(string(body)))
	if err != nil {
		return answer{}, nil, err
	}
	res, err := insecure.Do(req)
	if err != nil {
		return answer{}, nil, err
	}
	defer res.Body.Close()
	a := answer{Status: res.StatusCode}
	err = json.NewDecoder(res.Body).Decode(&a)
	return a, res.Header, err
}

// measures returns what the engine reports, by name and labels.
func (in *inside) measures() map[string]float64 {
	all := map[string]float64{}
	in.engine.Measure(func(m core.Measure) { all[m.Name] += m.Value })
	return all
}

// small is the shipped chain with times that a test can wait for.
const small = `version: 1
server: {deadline: 2s}
log: {level: error}
pool: {ca_file: CA, warm_connections: 2, max_connections: 4}
providers:
  openai: {type: openai, base_url: "BASE", api_key: sk-test-key, timeout: 400ms}
stages:
  - cache
  - ratelimit
  - queue: {max_concurrent: 2, min_interval: 0s}
  - provider: {use: openai, retries: 1, breaker: {failures: 100}}
  - postprocess
`

// TestEveryUpstreamFaultHasItsKindAndLeavesNothing lets every attempt of a
// request meet each fault, and the one time that the pool sends again a request
// whose connection was closed.
func TestEveryUpstreamFaultHasItsKindAndLeavesNothing(t *testing.T) {
	const text = "The bridge is closed until Monday."
	for fault, want := range map[string]struct {
		status int
		kind   string
	}{
		openaitest.Error401:          {502, "provider_failed"},
		openaitest.Error404:          {502, "provider_failed"},
		openaitest.RateLimit:         {429, "rate_limited"},
		openaitest.RateLimitBare:     {429, "rate_limited"},
		openaitest.InsufficientQuota: {429, "quota_exceeded"},
		openaitest.ContextLength:     {413, "too_large"},
		openaitest.Error500:          {502, "provider_failed"},
		openaitest.Error503:          {502, "provider_failed"},
		openaitest.Truncated:         {502, "provider_failed"},
		openaitest.Garbage:           {502, "provider_failed"},
		openaitest.Empty:             {502, "provider_failed"},
		openaitest.Refusal:           {502, "provider_refused"},
		openaitest.ChatterRefusal:    {502, "provider_refused"},
		openaitest.Length:            {502, "provider_failed"},
		openaitest.ContentFilter:     {502, "provider_refused"},
		openaitest.ResetBefore:       {502, "provider_failed"},
		openaitest.ResetAfter:        {502, "provider_failed"},
		openaitest.Cut:               {502, "provider_failed"},
		openaitest.Hang:              {504, "deadline_exceeded"},
		openaitest.Drip:              {504, "deadline_exceeded"},
		openaitest.Stall:             {504, "deadline_exceeded"},
	} {
		t.Run(fault, func(t *testing.T) {
			in := newInside(t, openaitest.Config{RetryAfter: 10 * time.Millisecond}, small)
			in.sim.FailNext(4, fault)
			a, header, err := in.ask(t.Context(), text)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != want.status || a.Error == nil || a.Error.Kind != want.kind {
				t.Errorf("got %d %+v, want %d %s", a.Status, a.Error, want.status, want.kind)
			}
			if a.Error != nil && (strings.Contains(a.Error.Message, "sk-test") || strings.Contains(a.Error.Message, "bridge")) {
				t.Errorf("the message tells too much: %q", a.Error.Message)
			}
			if (a.Status == 429 || a.Status == 503) && header.Get("Retry-After") == "" {
				t.Errorf("%d without Retry-After", a.Status)
			}
			in.sim.Configure(func(c *openaitest.Config) { c.Schedule = nil })

			// Once any pause that the fault began is over, the same text is asked
			// upstream: the fault was not stored.
			until(t, func() bool {
				if a, _, err = in.ask(t.Context(), "The bridge is open."); err != nil {
					t.Fatal(err)
				}
				return a.Error == nil || a.Error.Kind != "rate_limited" && a.Error.Kind != "deadline_exceeded"
			})
			if a, _, err = in.ask(t.Context(), text); err != nil {
				t.Fatal(err)
			}
			if a.text(t) != "[es] "+text || a.Translations[0].Cached {
				t.Errorf("after the fault: %+v", a)
			}
			m := in.measures()
			if m["queue_in_flight"] != 0 || m["line_waiting"] != 0 || m["cache_flights"] != 0 || m["cache_entries"] != 2 {
				t.Errorf("left behind: in flight %v, waiting %v, flights %v, entries %v", m["queue_in_flight"], m["line_waiting"], m["cache_flights"], m["cache_entries"])
			}
			for _, o := range in.pool.Stats() {
				if o.InUse != 0 || o.Waiting != 0 || o.Open > 4 {
					t.Errorf("the pool: %+v", o)
				}
			}
		})
	}
}

func TestOneFaultIsMendedByARetry(t *testing.T) {
	for _, fault := range []string{
		openaitest.RateLimit, openaitest.Error500, openaitest.Error503, openaitest.Truncated, openaitest.Garbage, openaitest.Empty,
		openaitest.Length, openaitest.ResetBefore, openaitest.ResetAfter, openaitest.Cut, openaitest.Hang, openaitest.Stall,
		openaitest.ChatterRepetition, openaitest.ChatterWrongScript,
	} {
		t.Run(fault, func(t *testing.T) {
			const text = "The bridge is open again, as the town hall said on Monday."
			in := newInside(t, openaitest.Config{RetryAfter: 10 * time.Millisecond}, small)
			in.sim.FailNext(1, fault)
			a, _, err := in.ask(t.Context(), text)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != 200 || a.text(t) != "[es] "+text {
				t.Errorf("%d %+v", a.Status, a.Error)
			}
		})
	}
}

func TestAConnectionThatClosesInTheMomentOfReuseCostsNothing(t *testing.T) {
	in := newInside(t, openaitest.Config{}, patient)
	for i := range 20 {
		in.sim.FailNext(1, openaitest.IdleClose)
		a, _, err := in.ask(t.Context(), fmt.Sprintf("Sentence number %d of this test.", i))
		if err != nil || a.Status != 200 {
			t.Fatalf("%+v %v", a, err)
		}
	}
	resends := int64(0)
	for _, o := range in.pool.Stats() {
		resends += o.Resends
	}
	if resends == 0 {
		t.Error("no connection was closed in the moment of reuse")
	}
	if m := in.measures(); m["provider_attempts_total"] != 20 {
		t.Errorf("%v attempts for 20 texts: the pool, not a retry, sends again", m["provider_attempts_total"])
	}
}

func TestAClientThatLeavesEndsItsCallUnlessAnotherSharesIt(t *testing.T) {
	seen := make(chan struct{}, 8)
	in := newInside(t, openaitest.Config{Latency: 300 * time.Millisecond, Observe: func(*http.Request, []byte) { seen <- struct{}{} }}, patient)

	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() { defer close(gone); in.ask(ctx, "Nobody waits for this.") }()
	receive(t, seen)
	leave()
	receive(t, gone)
	stats, err := in.sim.Settled(patiently(t))
	if err != nil || stats.Aborted != 1 {
		t.Errorf("aborted upstream: %d, %v", stats.Aborted, err)
	}

	ctx, leave = context.WithCancel(t.Context())
	stays := make(chan answer, 1)
	gone = make(chan struct{})
	go func() { defer close(gone); in.ask(ctx, "Somebody waits for this.") }()
	receive(t, seen)
	go func() { a, _, _ := in.ask(t.Context(), "Somebody waits for this."); stays <- a }()
	until(t, func() bool { return in.measures()["cache_joins_total"] != 0 })
	leave()
	receive(t, gone)
	if a := receive(t, stays); a.text(t) != "[es] Somebody waits for this." {
		t.Errorf("%+v", a)
	}
	stats, err = in.sim.Settled(patiently(t))
	if err != nil || stats.Aborted != 1 {
		t.Errorf("aborted upstream: %d, %v", stats.Aborted, err)
	}
}

// TestEveryBadHabitIsRepairedOrRefused asks the simulator's bad models.
func TestEveryBadHabitIsRepairedOrRefused(t *testing.T) {
	const text = "The library opens at nine, and the reading room stays open until eight in the evening."
	for _, habit := range openaitest.ChatterKinds() {
		t.Run(habit, func(t *testing.T) {
			in := newInside(t, openaitest.Config{}, small)
			in.sim.FailNext(2, habit)
			a, _, err := in.ask(t.Context(), text)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case a.Status == 502: // refused
			case a.Status == 200 && a.text(t) == "[es] "+text: // repaired
			case a.Status == 200 && len(a.Translations[0].Flags) > 0: // kept and said so
				t.Logf("flagged %v", a.Translations[0].Flags)
			default:
				t.Errorf("%d %+v", a.Status, a)
			}
		})
	}
}
