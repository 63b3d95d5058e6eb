package gateway

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// insecure asks the simulator about itself.
var insecure = &http.Client{Timeout: patience, Transport: &http.Transport{
	TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
}}

// pipeline is a configuration for tests: the shipped chain with one provider.
func pipeline(s *simulator, pool, extra string) string {
	ca := ""
	if s.ca != "" {
		ca = "\n  ca_file: " + s.ca
	}
	return fmt.Sprintf(`version: 1
pool:
  mode: %s%s
providers:
  openai: {type: openai, base_url: "%s", api_key: test}
%s
stages:
  - cache
  - ratelimit
  - queue: {min_interval: 0s}
  - provider: {use: openai}
  - postprocess
`, pool, ca, s.base, extra)
}

func TestATextIsTranslatedOnceAndCachedAfterwards(t *testing.T) {
	s := simulate(t, "--tls", "--engine", "pseudo")
	g := serveYAML(t, pipeline(s, "pooled", ""), nil)
	first := g.ask("The kettle is boiling.")
	if first.text(t) != "[es] The kettle is boiling." || first.Translations[0].Cached {
		t.Fatalf("%+v", first)
	}
	before, _ := s.asked()
	second := g.ask("The kettle is boiling.")
	after, _ := s.asked()
	if second.text(t) != first.text(t) || !second.Translations[0].Cached || after != before || before != 1 {
		t.Errorf("second answer %+v, upstream calls %d then %d", second, before, after)
	}
	if got := g.metric(`dragoman_stage_calls_total{stage="cache"}`); got != "2" {
		t.Errorf("calls of the cache in /metrics: %q, want 2", got)
	}
	if got := g.metric(`dragoman_cache_hits_total{stage="cache"}`); got != "1" {
		t.Errorf("hits in /metrics: %q, want 1", got)
	}
	if strings.Contains(g.output(), "error gathering metrics") {
		t.Error(g.output())
	}
}

func TestThePreloadedPhrasesNeedNoCall(t *testing.T) {
	s := simulate(t)
	g := serveFile(t, filepath.Join(repository(t), "pipeline.yaml"), []string{"OPENAI_BASE_URL=" + s.base, "OPENAI_API_KEY=x"})
	phrases, err := os.ReadFile(filepath.Join(repository(t), "examples/phrases.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for line := range strings.Lines(string(phrases)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 4 || strings.HasPrefix(line, "#") {
			continue
		}
		asked++
		body, _ := json.Marshal(map[string]string{"text": f[2], "source": f[0], "target": f[1]})
		if a := g.post(string(body)); a.text(t) != f[3] || !a.Translations[0].Cached {
			t.Errorf("%q: %+v, want %q from the cache", f[2], a, f[3])
		}
	}
	if n, _ := s.asked(); n != 0 || asked < 20 {
		t.Errorf("%d phrases, %d upstream calls", asked, n)
	}
}

// texts asks for n different texts, eight at a time, and returns the answers.
func (g *gatewayProcess) texts(n int) map[string]string {
	var (
		mu  sync.Mutex
		got = map[string]string{}
		wg  sync.WaitGroup
	)
	slots := make(chan struct{}, 8)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			text := fmt.Sprintf("Train number %d leaves from platform %d.", i, i%7)
			a := g.ask(text)
			mu.Lock()
			defer mu.Unlock()
			if a.Status == 200 && len(a.Translations) == 1 {
				got[text] = a.Translations[0].Text
			}
		})
	}
	wg.Wait()
	return got
}

func TestDirectIsOneConnectionForEachCallAndPooledAtMostTen(t *testing.T) {
	answers := map[string]map[string]string{}
	for _, mode := range []string{"pooled", "direct"} {
		s := simulate(t, "--tls")
		g := serveYAML(t, pipeline(s, mode, ""), nil)
		g.see("at http")
		answers[mode] = g.texts(100)
		calls, connections := s.asked()
		// The simulator counts the test's own questions too: one connection for
		// this one. The start-up question about the model is an upstream call.
		connections--
		switch {
		case len(answers[mode]) != 100 || calls != 100:
			t.Errorf("%s: %d answers, %d calls", mode, len(answers[mode]), calls)
		case mode == "direct" && connections != calls+1:
			t.Errorf("direct: %d connections for %d calls and one question about the model", connections, calls)
		case mode == "pooled" && connections > 10:
			t.Errorf("pooled: %d connections", connections)
		}
	}
	for text, want := range answers["pooled"] {
		if got := answers["direct"][text]; got != want {
			t.Errorf("%q: direct %q, pooled %q", text, got, want)
		}
	}
}

func TestAFallbacksAnswerIsNotStored(t *testing.T) {
	second := simulate(t)
	primary := simulate(t)
	address := strings.TrimSuffix(strings.TrimPrefix(primary.base, "http://"), "/v1")
	g := serveYAML(t, strings.Replace(pipeline(primary, "pooled",
		`  second: {type: openai, base_url: "`+second.base+`", api_key: test}`),
		"{use: openai}", "{use: openai, fallback: [second], retries: 0, breaker: {failures: 100}}", 1), nil)
	primary.signal(syscall.SIGTERM)
	primary.wait()
	a := g.ask("The lift is out of order.")
	if a.text(t) == "" || a.Translations[0].Provider != "second" || a.Translations[0].Cached {
		t.Fatalf("primary down: %+v", a)
	}
	back := start(t, repository(t), nil, filepath.Join(programs, "openai-sim"), "--listen", address)
	back.see(`(http://127\.0\.0\.1:\d+/v1)`)
	a = g.ask("The lift is out of order.")
	if a.text(t) == "" || a.Translations[0].Provider != "openai" || a.Translations[0].Cached {
		t.Errorf("primary back: %+v", a)
	}
}

func TestSigtermFinishesWhatIsInFlight(t *testing.T) {
	s := simulate(t, "--latency", "1500ms")
	g := serveYAML(t, pipeline(s, "pooled", ""), nil)
	got := make(chan answer, 1)
	go func() { got <- g.ask("Mind the step.") }()
	until(t, func() bool { return g.number("dragoman_requests_in_flight") > 0 })
	g.signal(syscall.SIGTERM)
	if a := receive(t, got); a.text(t) != "[es] Mind the step." {
		t.Errorf("%+v", a)
	}
	if status := g.wait(); status != 0 {
		t.Errorf("exit status %d:\n%s", status, g.output())
	}
}

func TestWhatKeepsTheGatewayFromStartingIsSaidInOneLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := simulate(t)
	good := pipeline(s, "pooled", "")
	for name, c := range map[string]struct {
		yaml string
		args []string
		want []string
	}{
		"taken port":           {good, []string{"--set", "server.listen=" + taken.Addr().String()}, []string{taken.Addr().String(), "in use"}},
		"beyond loopback":      {good, []string{"--set", "server.listen=0.0.0.0:0"}, []string{"server.listen", "server.keys"}},
		"no file":              {"", []string{"--config", "nowhere.yaml"}, []string{"nowhere.yaml"}},
		"missing preload file": {strings.Replace(good, "- cache", "- cache: {preload: [nowhere.tsv]}", 1), nil, []string{"nowhere.tsv"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, c.yaml)
			out, errs, status := commandHere(t, filepath.Dir(file), nil, "", append([]string{"serve"}, c.args...)...)
			if status != 1 || out != "" || strings.Count(strings.TrimSpace(errs), "\n") != 0 {
				t.Errorf("status %d, output %q, errors:\n%s", status, out, errs)
			}
			for _, want := range c.want {
				if !strings.Contains(errs, want) {
					t.Errorf("no %q in %q", want, errs)
				}
			}
		})
	}
}

func TestARefusedKeyServesButIsNotReady(t *testing.T) {
	s := simulate(t, "--key", "the-right-one")
	g := serveYAML(t, pipeline(s, "pooled", ""), nil)
	g.see(`cannot serve now.*(providers/openai)`)
	res, err := http.Get(g.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusServiceUnavailable || strings.Contains(string(body), "openai") {
		t.Errorf("/readyz: %d %s", res.StatusCode, body)
	}
	if a := g.ask("Hello there."); a.Status != 502 || a.Error == nil || a.Error.Kind != "provider_failed" {
		t.Errorf("%+v", a)
	}
	if strings.Contains(g.output(), "api_key: test") {
		t.Error("the key is in the log")
	}
}
