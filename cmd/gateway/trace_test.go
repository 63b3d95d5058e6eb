package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/coder/websocket"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
	livedoor "github.com/dragoman-mt/dragoman/core/door/live"
	"github.com/dragoman-mt/dragoman/core/trace/tracetest"
)

// A lines is an upstream that does what the text of a call says, and keeps under which
// span it was called.
type lines struct {
	mu    sync.Mutex
	calls map[string][]string // traceparents, by text
	held  chan struct{}       // closed to let go what is held
	holds chan string         // told of what is held
}

func (u *lines) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	what := ""
	for _, word := range []string{"plain", "retried", "hedged", "fallen", "joined", "behind", "plugged", "spoken"} {
		if strings.Contains(string(raw), word) {
			what = word
		}
	}
	u.mu.Lock()
	n := len(u.calls[what])
	u.calls[what] = append(u.calls[what], r.Header.Get("Traceparent"))
	u.mu.Unlock()
	switch {
	case what == "retried" && n == 0, what == "fallen" && strings.HasPrefix(r.URL.Path, "/main/"):
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case what == "hedged" && n == 0:
		<-r.Context().Done() // until it is called off
		return
	case what == "joined":
		u.holds <- what
		<-u.held
	}
	json.NewEncoder(w).Encode(map[string]any{
		"id": "chatcmpl-7", "object": "chat.completion", "model": "m-2026",
		"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": "La " + what + "."}}},
		"usage":   map[string]any{"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
	})
}

const traced = `version: 1
server: {deadline: 20s}
log: {format: json, access: true}
trace: {endpoint: "COLLECTOR"}
pool: {warm_connections: 0}
providers:
  main: {type: openai, base_url: "UPSTREAM/main/v1", api_key: x, model: m}
  spare: {type: openai, base_url: "UPSTREAM/spare/v1", api_key: x, model: m}
  plugged: {type: plugin, command: [DIRECT], config: {base_url: "UPSTREAM/main/v1", api_key: x, model: m}}
stages:
  - cache
  - queue: {min_interval: 0s}
  - provider: {use: main, fallback: [spare], routes: [{targets: [fr], use: plugged}], retries: 1, hedge: {after: 1s}}
`

// TestACollectorSeesTheSpansThatThereShouldBe is about one running gateway, and what a
// collector hears of each kind of request.
func TestACollectorSeesTheSpansThatThereShouldBe(t *testing.T) {
	property.WithoutRace(t)
	u := &lines{calls: map[string][]string{}, held: make(chan struct{}), holds: make(chan string, 10)}
	upstream := httptest.NewServer(u)
	t.Cleanup(func() { upstream.CloseClientConnections(); upstream.Close() })
	c := tracetest.Collect(t, nil)
	g := serveYAML(t, strings.NewReplacer("COLLECTOR", c.URL, "UPSTREAM", upstream.URL, "DIRECT", filepath.Join(programs, "openai-direct")).Replace(traced),
		[]string{"OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_SERVICE_NAME=captions", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment=test"})

	ask := func(url, id, text, target, parent string) {
		t.Helper()
		req, _ := http.NewRequestWithContext(patiently(t), http.MethodPost, url+"/v1/translate", strings.NewReader(fmt.Sprintf(`{"text":%q,"source":"en","target":%q,"session":"tour"}`, text, target)))
		req.Header.Set("X-Request-Id", id)
		if parent != "" {
			req.Header.Set("Traceparent", parent)
			req.Header.Set("Tracestate", "vendor=1")
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		if body, _ := io.ReadAll(res.Body); res.StatusCode != 200 {
			t.Errorf("%s: %d %s", id, res.StatusCode, body)
		}
	}
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ask(g.url, "plain", "The plain one.", "es", parent)
	ask(g.url, "cached", "The plain one.", "es", "")
	ask(g.url, "unwanted", "The unwanted one.", "es", strings.TrimSuffix(parent, "1")+"0")
	ask(g.url, "retried", "The retried one.", "es", "")
	ask(g.url, "hedged", "The hedged one.", "es", "")
	ask(g.url, "fallen", "The fallen one.", "es", "")
	ask(g.url, "plugged", "The plugged one.", "fr", "")
	var both sync.WaitGroup
	both.Go(func() { ask(g.url, "joined-1", "The joined one.", "es", "") })
	receive(t, u.holds)
	both.Go(func() { ask(g.url, "joined-2", "The joined one.", "es", "") })
	until(t, func() bool {
		return strings.Contains(metricsOf(t, g.url, ""), "dragoman_cache_joins_total{stage=\"cache\"} 1")
	})
	close(u.held)
	both.Wait()
	spoken(t, g.url, parent)
	want := 9 + 11 // roots and attempts, as below
	proxied := false
	for _, addr := range onlyOne(behindNginxIfThere(t, g.url)) {
		ask("http://"+addr, "behind", "The one behind.", "es", parent)
		proxied = true
		want += 2
	}

	spans := c.Wait(want)
	recent, errs, status := command(t, filepath.Dir(g.cmd.Args[3]), nil, "", "recent", "--config", g.cmd.Args[3], "--request", "fallen")
	for _, body := range []string{`{"text":`, `{"text":"a","target":"es"}`} {
		req, _ := http.NewRequestWithContext(patiently(t), http.MethodPost, g.url+"/v1/translate", strings.NewReader(body))
		req.Header.Set("X-Request-Id", "refused")
		req.Header.Set("Traceparent", parent)
		if body[len(body)-1] == '}' {
			req.Header.Set("Origin", "http://elsewhere.example")
		}
		if res, err := http.DefaultClient.Do(req); err != nil {
			t.Error(err)
		} else {
			res.Body.Close()
		}
	}
	spans = c.Wait(want + 2)
	refused := map[string]string{}
	spans = slices.DeleteFunc(spans, func(s tracetest.Span) bool {
		if s.Attributes["dragoman.request.id"] != "refused" {
			return false
		}
		refused[s.Name] = s.Attributes["error.type"] + " below " + s.Parent
		return true
	})
	if len(refused) != 2 || refused["native call"] != "invalid_request below b7ad6b7169203331" || refused["guard call"] != "forbidden below b7ad6b7169203331" {
		t.Errorf("calls that were refused are %v", refused)
	}
	want += len(refused)
	exemplars := metricsOf(t, g.url, "application/openmetrics-text")
	g.signal(syscall.SIGTERM)
	g.wait() // what comes late would come now
	if spans = c.Spans(); len(spans) != want {
		t.Errorf("%d spans, want %d", len(spans), want)
	}
	roots, attempts := map[string]tracetest.Span{}, map[string][]tracetest.Span{}
	for _, s := range spans {
		if strings.HasSuffix(s.Name, " call") {
			continue
		}
		if s.Kind == "SPAN_KIND_SERVER" {
			id := s.Attributes["dragoman.request.id"]
			if s.Attributes["dragoman.door"] == "live" {
				id = "spoken"
			}
			if _, twice := roots[id]; twice {
				t.Errorf("two roots of %s", id)
			}
			roots[id] = s
			if s.Resource == "" || !strings.Contains(s.Resource, "service.name=captions") || !strings.Contains(s.Resource, "deployment.environment=test") {
				t.Errorf("the resource is %s", s.Resource)
			}
			continue
		}
		attempts[s.Parent] = append(attempts[s.Parent], s)
		for name, value := range s.Attributes {
			if strings.Contains(value, "The ") || strings.Contains(value, "La ") {
				t.Errorf("%s holds a text: %q", name, value)
			}
		}
	}
	for id, want := range map[string]struct {
		cache    string
		parent   string // of the root
		attempts string
	}{
		"plain":    {"miss", "b7ad6b7169203331", "chat m first main"},
		"cached":   {"hit", "", ""},
		"retried":  {"miss", "", "chat m first main provider_failed, chat m retry main"},
		"hedged":   {"miss", "", "chat m first main lost, chat m hedge main"},
		"fallen":   {"miss", "", "chat m first main provider_failed, chat m retry main provider_failed, chat m fallback spare"},
		"plugged":  {"miss", "", "translate plugged first plugged"},
		"joined-1": {"miss", "", "chat m first main"},
		"joined-2": {"joined", "", ""},
		"spoken":   {"miss", "b7ad6b7169203331", "chat m first main"},
		"behind":   {"miss", "b7ad6b7169203331", "chat m first main"},
	} {
		if id == "behind" && !proxied {
			continue
		}
		root, ok := roots[id]
		if !ok {
			t.Errorf("no root of %s", id)
			continue
		}
		if root.Attributes["dragoman.cache"] != want.cache || root.Parent != want.parent || root.Attributes["dragoman.session"] != "tour" {
			t.Errorf("%s: %+v", id, root)
		}
		if want.parent != "" && root.Trace != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("%s: the trace is %s", id, root.Trace)
		}
		made := attempts[root.ID]
		slices.SortFunc(made, func(a, b tracetest.Span) int { return a.Start.Compare(b.Start) })
		var said, ids []string
		for _, a := range made {
			one := a.Name + " " + a.Attributes["dragoman.attempt"] + " " + a.Attributes["dragoman.provider"]
			if a.Attributes["dragoman.lost"] == "true" {
				one += " lost"
			} else if a.Attributes["error.type"] != "" {
				one += " " + a.Attributes["error.type"]
			}
			said, ids = append(said, one), append(ids, "00-"+a.Trace+"-"+a.ID+"-01")
			if a.Trace != root.Trace || a.Kind != "SPAN_KIND_CLIENT" || a.Failed != (a.Attributes["error.type"] != "") || a.Start.Before(root.Start) || a.Start.Add(a.Took).After(root.Start.Add(root.Took)) {
				t.Errorf("%s: %+v below %+v", id, a, root)
			}
			if operation, _, _ := strings.Cut(a.Name, " "); !a.Failed && operation == "chat" && (a.Attributes["gen_ai.request.max_tokens"] == "" || a.Attributes["gen_ai.request.temperature"] != "0" || a.Attributes["gen_ai.response.id"] != "chatcmpl-7") {
				t.Errorf("%s: %v", id, a.Attributes)
			}
			if !a.Failed && (a.Attributes["gen_ai.usage.input_tokens"] != "7" || a.Attributes["gen_ai.response.model"] != "m-2026") {
				t.Errorf("%s: %v", id, a.Attributes)
			}
		}
		if got := strings.Join(said, ", "); got != want.attempts {
			t.Errorf("%s: attempts are %s, want %s", id, got, want.attempts)
		}
		// What the upstream was told are the spans of the attempts, through a plugin too.
		word, _, _ := strings.Cut(id, "-")
		u.mu.Lock()
		told := slices.Clone(u.calls[word])
		u.mu.Unlock()
		slices.Sort(told)
		slices.Sort(ids)
		if want.cache == "miss" && !slices.Equal(told, ids) {
			t.Errorf("%s: the upstream was told %v, want %v", id, told, ids)
		}
	}
	if l := roots["joined-2"].Links; len(l) != 1 || l[0] != roots["joined-1"].ID {
		t.Errorf("the joiner links to %v, want %s", l, roots["joined-1"].ID)
	}
	if _, there := roots["unwanted"]; there {
		t.Error("a request is traced whose caller does not want it to be")
	}
	if a := attempts[roots["plain"].ID]; len(a) == 1 && (a[0].State != "vendor=1" || a[0].Attributes["server.address"] != "127.0.0.1" || a[0].Attributes["gen_ai.provider.name"] != "openai" || a[0].Attributes["http.response.status_code"] != "200") {
		t.Errorf("%+v", a[0])
	}
	if log := g.output(); !strings.Contains(log, roots["retried"].Trace) || !strings.Contains(log, roots["retried"].ID) {
		t.Error("the trace is not in the log")
	}
	if !strings.Contains(exemplars, `dragoman_request_seconds_bucket{door="native",le="`) || !strings.Contains(exemplars, ` # {trace_id="`+roots["hedged"].Trace+`"}`) {
		t.Errorf("no trace is an exemplar: %s", exemplars)
	}
	if of := regexp.MustCompile(`(?m)^dragoman_provider_attempt_seconds_bucket\{provider="spare",stage="provider",le=".*"\} 1 # \{trace_id="(.*)"\}`).FindStringSubmatch(exemplars); len(of) != 2 || of[1] != roots["fallen"].Trace {
		t.Errorf("the exemplar of attempts is %q, want %s", of, roots["fallen"].Trace)
	}
	if status != 0 || !strings.Contains(recent, roots["fallen"].Trace) || strings.Count(recent, "retry") != 1 {
		t.Errorf("%d %s%s", status, recent, errs)
	}
}

// spoken says one sentence in a live session, and waits for its translation.
func spoken(t *testing.T, url, parent string) {
	t.Helper()
	ctx, cancel := context.WithCancel(patiently(t))
	defer cancel()
	conn, _, err := websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1)+"/v1/live", &websocket.DialOptions{Subprotocols: []string{livedoor.Protocol}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	for _, frame := range []string{
		fmt.Sprintf(`{"type":"start","session":"tour","source":"en","targets":["es"],"traceparent":%q}`, parent),
		`{"type":"source","segment":"1","revision":1,"text":"The spoken one.","final":true}`,
	} {
		if err := conn.Write(ctx, websocket.MessageText, []byte(frame)); err != nil {
			t.Fatal(err)
		}
	}
	for {
		_, raw, err := conn.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "La spoken.") {
			return
		}
	}
}

func behindNginxIfThere(t *testing.T, url string) map[string]string {
	if !exists("/usr/sbin/nginx") {
		return nil
	}
	return behindNginx(t, url)
}

func onlyOne(all map[string]string) map[string]string {
	for name, addr := range all {
		return map[string]string{name: addr}
	}
	return nil
}

func metricsOf(t *testing.T, url, accept string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return cmp.Or(string(raw), fmt.Sprint(err))
}
