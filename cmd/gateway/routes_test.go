package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A tagged upstream answers with its name and a sentence, as many times as it is asked,
// and with a 429 while it is told to.
type tagged struct {
	*httptest.Server
	calls atomic.Int64
	full  atomic.Bool
	after atomic.Int64 // seconds that a 429 says
	mu    sync.Mutex
	keys  map[string]int // calls by key
	limit map[string]bool
}

func tag(t *testing.T, name string) *tagged {
	u := &tagged{keys: map[string]int{}, limit: map[string]bool{}}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		io.Copy(io.Discard, r.Body)
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		u.calls.Add(1)
		u.mu.Lock()
		u.keys[key]++
		refuses := u.limit[key]
		u.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if refuses || u.full.Load() {
			if s := u.after.Load(); s > 0 {
				w.Header().Set("Retry-After", fmt.Sprint(s))
			}
			w.WriteHeader(http.StatusTooManyRequests)
			io.WriteString(w, `{"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}`)
			return
		}
		content, _ := json.Marshal("Traducido por " + name)
		io.WriteString(w, `{"model": "m", "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": `+string(content)+`}}]}`)
	}))
	t.Cleanup(u.Close)
	return u
}

func (u *tagged) of(key string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.keys[key]
}

func (u *tagged) refuse(key string, now bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.limit[key] = now
}

func (g *gatewayProcess) to(text, target string) answer {
	g.t.Helper()
	body, _ := json.Marshal(map[string]string{"text": text, "source": "en", "target": target})
	return g.post(string(body))
}

// A route by target language is put into a running chain, and changed, while requests
// come all the time: none fails, and each answer is of who was to give it. What one
// route has cached is not found on another.
func TestARouteIsChangedInARunningChainAndNoRequestFails(t *testing.T) {
	t.Parallel()
	one, two, three := tag(t, "uno"), tag(t, "dos"), tag(t, "tres")
	yaml := func(routes string) string {
		return strings.NewReplacer("ONE", one.URL, "TWO", two.URL, "THREE", three.URL, "ROUTES", routes).Replace(`version: 1
providers:
  one: {type: openai, base_url: "ONE/v1"}
  two: {type: openai, base_url: "TWO/v1"}
  three: {type: openai, base_url: "THREE/v1"}
stages:
  - cache
  - ratelimit
  - queue: {max_concurrent: 20, min_interval: 0s}
  - provider: {use: one, ROUTES}
`)
	}
	g := serveAndEdit(t, yaml("retries: 1"))
	by := func(target string) string {
		return strings.TrimPrefix(g.to("The doors are open.", target).text(t), "Traducido por ")
	}
	if got := by("es") + " " + by("pt"); got != "uno uno" {
		t.Fatalf("at first: %s", got)
	}
	stop := make(chan struct{})
	var asking sync.WaitGroup
	var asked, failed atomic.Int64
	for i := range 4 {
		asking.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				a := g.to(fmt.Sprintf("Sentence %d of speaker %d.", n, i), "pt")
				asked.Add(1)
				if a.Status != http.StatusOK || a.Translations[0].Error != nil {
					failed.Add(1)
				}
			}
		})
	}
	for _, c := range []struct{ routes, want string }{
		{"routes: [{targets: [pt], use: two}]", "uno dos"},
		{"routes: [{targets: [pt], use: three, private: true}]", "uno tres"},
		{"routes: [{targets: [es], use: [two]}, {targets: [pt], use: [two, three]}]", "dos dos|dos tres"},
		{"routes: [{targets: [es], use: two}]", "dos uno"},
		{"retries: 1", "uno uno"},
	} {
		g.reload(yaml(c.routes))
		if got := by("es") + " " + by("pt"); !strings.Contains("|"+c.want+"|", "|"+got+"|") {
			t.Errorf("%s: answered by %s, want %s", c.routes, got, c.want)
		}
	}
	close(stop)
	asking.Wait()
	if failed.Load() > 0 || asked.Load() == 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
	if n := g.number(`dragoman_provider_routed_total{route="routes[0]",stage="provider"}`); n == 0 {
		t.Error("the metrics tell of no route")
	}
}

func TestExplainAndCheckKnowRoutes(t *testing.T) {
	file := write(t, `version: 1
server: {keys: [{name: captions, key: 0123456789abcdef01234567}, {name: ops, key: 89abcdef0123456701234567, role: operate}]}
providers:
  one: {type: openai, base_url: "http://127.0.0.1:9/v1", api_key: k, limits: {requests_per_minute: 20}, accounts: [{api_key: hunter2}, {weight: 2}]}
  two: {type: openai, base_url: "http://127.0.0.1:9/v1", api_key: k}
stages:
  - provider:
      use: [one, two]
      fallback: [two]
      routes:
        - {sources: [en], targets: [de, fr], use: two, private: true}
        - {lane: bulk, client: captions, use: [two, one]}
`)
	dir := filepath.Dir(file)
	if _, errs, status := commandHere(t, dir, nil, "", "check", "--offline"); status == 0 || !strings.Contains(errs, `"two" is named twice`) {
		t.Errorf("a provider that is in use and a fallback: status %d, %s", status, errs)
	}
	good := strings.Replace(read(t, file), "fallback: [two]", "retries: 1", 1)
	put(t, file, good)
	out, errs, status := commandHere(t, dir, nil, "", "explain")
	for _, want := range []string{
		"routes[0]: from en, to de, fr: calls two (openai), and nobody else", "routes[1]: lane bulk, client captions: calls two (openai) or one (openai)",
		"calls one (openai) or two (openai)", "providers.one.limits.requests_per_minute", "{api_key: [redacted]}, {weight: 2}", "stages.provider.use",
	} {
		if status != 0 || !strings.Contains(out, want) || strings.Contains(out, "hunter2") {
			t.Fatalf("explain: status %d, no %q in\n%s%s", status, want, out, errs)
		}
	}
	for change, want := range map[string]string{
		"": "",
		"- {lane: bulk, client: captions, use: [two, one]}=- {targets: [de-AT], sources: [en-GB], use: one}": "pipeline.yaml:12:11: stages[0].provider.routes[1]: can never match: routes[0] takes all that it would",
		"use: two, private=use: too, private":                                 `pipeline.yaml:11:51: stages[0].provider.routes[0].use: there is no provider "too"; did you mean two?`,
		"use: [two, one]=use: [two, 2]":                                       "pipeline.yaml:12:53: stages[0].provider.routes[1].use[1]: must be text, got 2",
		"targets: [de, fr]=targets: [de, german]":                             `pipeline.yaml:11:41: stages[0].provider.routes[0].targets[1]: "german" is not a language`,
		"client: captions=client: nobody":                                     `routes[1] of the stage provider is for the client "nobody", and none of server.keys has that name`,
		"lane: bulk=lane: slow":                                               "stages[0].provider.routes[1].lane: must be one of final, partial, bulk",
		"accounts: [{api_key: hunter2}, {weight: 2}]=accounts: [{weight: 0}]": "providers.one.accounts: the weights of all accounts are 0",
	} {
		text := good
		if before, after, ok := strings.Cut(change, "="); ok {
			text = strings.Replace(good, before, after, 1)
		}
		put(t, file, text)
		out, errs, status := commandHere(t, dir, nil, "", "check", "--offline")
		if want == "" && status != 0 || !strings.Contains(out+errs, want) || strings.Contains(out+errs, "hunter2") {
			t.Errorf("%s: status %d, want %q\n%s%s", change, status, want, out, errs)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	do(t, err)
	return string(text)
}

// Two accounts of one entry, one of which answers 429 for a while: no request fails,
// nobody calls it meanwhile, both are used again after, and the metrics tell them apart.
func TestTwoAccountsOfWhichOneIsPausedServeOnAndNobodyNotices(t *testing.T) {
	t.Parallel()
	up := tag(t, "una cuenta")
	up.after.Store(3)
	g := serveYAML(t, strings.ReplaceAll(`version: 1
providers:
  up: {type: openai, base_url: "URL/v1", accounts: [{api_key: key-one}, {api_key: key-two}]}
stages:
  - ratelimit: {requests_per_minute: 100000}
  - queue: {max_concurrent: 8, min_interval: 0s}
  - provider: {use: up}
`, "URL", up.URL), nil)
	n := 0
	many := func(how int) {
		t.Helper()
		var all sync.WaitGroup
		for range how {
			n++
			text := fmt.Sprintf("This is the sentence of number %d.", n)
			all.Go(func() {
				if a := g.ask(text); a.Status != http.StatusOK || a.Translations[0].Error != nil {
					t.Errorf("%+v", a)
				}
			})
		}
		all.Wait()
	}
	many(20)
	if a, b := up.of("key-one"), up.of("key-two"); a < 5 || b < 5 {
		t.Errorf("20 calls: %d and %d", a, b)
	}
	up.refuse("key-one", true)
	before, since := up.of("key-one"), time.Now()
	for time.Since(since) < 2*time.Second {
		many(8)
	}
	if told := up.of("key-one") - before; told == 0 || told > 8 {
		t.Errorf("the paused account was called %d times, want those that were under way at once", told)
	}
	up.refuse("key-one", false)
	before = up.of("key-one")
	until(t, func() bool { many(4); return up.of("key-one") >= before+20 })
	if n := g.number(`dragoman_provider_attempts_total{outcome="rate_limited",provider="up/1",reason="first",stage="provider"}`); n == 0 {
		t.Error("the metrics do not tell which account was refused")
	}
}
