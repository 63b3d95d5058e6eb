package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/usage"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// used is what the DeepL door says that a key has used.
func (g *gatewayProcess) used(key string) int64 {
	g.t.Helper()
	req, err := http.NewRequest(http.MethodGet, g.url+"/v2/usage", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "DeepL-Auth-Key "+key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		Used int64 `json:"character_count"`
	}
	raw, err := io.ReadAll(res.Body)
	if err != nil || json.Unmarshal(raw, &answer) != nil || res.StatusCode != 200 {
		g.t.Fatalf("%d %s %v", res.StatusCode, raw, err)
	}
	return answer.Used
}

// A spender asks with one key, a worker for each length, until it is told to end.
type spender struct {
	key      string
	answered int64 // characters
	refused  int
	flying   int64 // lengths of the texts that were never answered, each a bit of its own
}

// spend asks until so many calls have ended, or stop is closed, and returns what came of
// them. The texts of a worker are 16 characters, twice as many of the next, and so on: so
// any sum of texts in flight tells which they were.
func (g *gatewayProcess) spend(t *testing.T, s *spender, workers int, ended func(), stop <-chan struct{}) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for w := range workers {
		length := 16 << w
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				text := fmt.Sprintf("%d %d %d ", w, n, rand.Uint32())
				text = text[:min(len(text), length)] + strings.Repeat("é", max(length-len(text), 0))
				a, _, err := g.as(t.Context(), s.key, map[string]any{"text": text})
				mu.Lock()
				switch {
				case err != nil:
					s.flying |= int64(length)
				case a.Status == http.StatusOK:
					s.answered += int64(length)
				case a.Status == http.StatusTooManyRequests && a.Error.Kind == "quota_exceeded":
					s.refused++
				default:
					t.Errorf("%+v", a)
				}
				mu.Unlock()
				if err != nil {
					return
				}
				ended()
			}
		})
	}
	all.Wait()
}

// TestUsageIsExactOverKills kills the gateway again and again while two keys use it, one
// of which has a limit that it reaches. What it knows after each start is what was
// answered, and a part of the texts that were in flight: no character more or less.
func TestUsageIsExactOverKills(t *testing.T) {
	t.Parallel()
	sim := upstream(t, openaitest.Config{Latency: 2 * time.Millisecond})
	rounds := property.Rounds(50, 3)
	const calls, workers = 60, 6
	most := int64(rounds*calls*(16<<workers)/workers) / 4
	keys := []string{"free-" + good1, "held-" + good2}
	file := write(t, fmt.Sprintf(`version: 1
log: {level: error}
server:
  keys:
    - {name: free, key: %s}
    - {name: held, key: %s, characters_per_month: %d}
providers: {openai: {type: openai, base_url: "%s", api_key: test}}
stages: [cache, provider: {use: openai}]
`, keys[0], keys[1], most, sim.URL()))
	want, refused := [2]int64{}, 0
	for round := range rounds {
		g := serveFile(t, file, nil)
		spenders := [2]spender{{key: keys[0]}, {key: keys[1]}}
		ended, stop := make(chan struct{}, 10_000), make(chan struct{})
		var both sync.WaitGroup
		for i := range spenders {
			both.Go(func() {
				g.spend(t, &spenders[i], workers, func() {
					select {
					case ended <- struct{}{}:
					default:
					}
				}, stop)
			})
		}
		for range 2 * calls {
			receive(t, ended)
		}
		if round%5 == 4 {
			// Some live until the journal is folded, and die while it is, or after.
			time.Sleep(4900*time.Millisecond + time.Duration(rand.IntN(250))*time.Millisecond)
		}
		g.signal(syscall.SIGKILL)
		g.wait()
		close(stop)
		both.Wait()
		g = serveFile(t, file, nil)
		for i, s := range spenders {
			got := g.used(s.key)
			more := got - want[i] - s.answered
			if more&^s.flying != 0 {
				t.Fatalf("round %d: %s has used %d, which is %d beyond what was answered; in flight were %b", round, s.key, got, more, s.flying)
			}
			want[i] = got
			refused += s.refused
		}
		if want[1] > most {
			t.Fatalf("round %d: %d of %d characters", round, want[1], most)
		}
		g.signal(syscall.SIGKILL)
		g.wait()
	}
	if refused == 0 || want[1] <= most-(16<<workers) {
		t.Errorf("the limit was never reached: %d of %d characters", want[1], most)
	}
	t.Logf("%d kills: %d and %d of %d characters, %d calls refused", 2*rounds, want[0], want[1], most, refused)
}

// TestAnExhaustedKeyHoldsNobodyUp: while one key asks in vain as fast as it can, another
// has its answers as soon as without it.
func TestAnExhaustedKeyHoldsNobodyUp(t *testing.T) {
	sim := upstream(t, openaitest.Config{})
	g := serveYAML(t, fmt.Sprintf(`version: 1
log: {level: error}
server:
  keys:
    - {name: poor, key: %s, characters_per_month: 10, requests_per_minute: 1000000}
    - {name: rich, key: %s, characters_per_month: 100000000}
providers: {openai: {type: openai, base_url: "%s", api_key: test}}
stages: [cache, ratelimit, queue, provider: {use: openai}]
`, good1, good2, sim.URL()), nil)
	if a, _, err := g.as(t.Context(), good2, map[string]any{"text": "A text that is cached."}); err != nil || a.Status != 200 {
		t.Fatalf("%+v %v", a, err)
	}
	// The quickest of many, which the machine's own load hardly touches.
	quickest := func() time.Duration {
		best := time.Hour
		for range 200 {
			a, took, err := g.as(t.Context(), good2, map[string]any{"text": "A text that is cached."})
			if err != nil || a.Status != 200 {
				t.Fatalf("%+v %v", a, err)
			}
			best = min(best, took)
		}
		return best
	}
	alone := quickest()
	ctx, stop := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	refused := 0
	flood.Go(func() {
		for ctx.Err() == nil {
			a, _, err := g.as(ctx, good1, map[string]any{"text": "More than ten characters."})
			if err == nil && (a.Status != http.StatusTooManyRequests || a.Error.RetryAfterMS <= 0) {
				t.Errorf("%+v", a)
				return
			}
			refused++
		}
	})
	beside := quickest()
	stop()
	flood.Wait()
	t.Logf("%v alone, %v beside %d refused calls", alone, beside, refused)
	if beside > alone+time.Millisecond {
		t.Errorf("%v alone, %v beside an exhausted key", alone, beside)
	}
	if refused == 0 {
		t.Error("nothing was refused meanwhile")
	}
}

// TestUsageIsShownByTheCommand as the doors counted it.
func TestUsageIsShownByTheCommand(t *testing.T) {
	sim := upstream(t, openaitest.Config{})
	yaml := fmt.Sprintf(`version: 1
server:
  keys:
    - {name: app, key: %s, characters_per_month: 100}
    - {name: site, key: %s}
providers: {openai: {type: openai, base_url: "%s", api_key: test, price: {input: 1, output: 2, currency: EUR}}}
stages: [cache, provider: {use: openai}]
`, good1, good2, sim.URL())
	g := serveAndEdit(t, yaml)
	for _, call := range []struct {
		key  string
		body map[string]any
	}{
		{good1, map[string]any{"text": []string{"één", "twee"}, "session": "call-7"}},
		{good1, map[string]any{"text": "één"}},
		{good2, map[string]any{"text": "drie", "session": "call-7"}},
	} {
		if a, _, err := g.as(t.Context(), call.key, call.body); err != nil || a.Status != 200 {
			t.Fatalf("%+v %v", a, err)
		}
	}
	show := func(args ...string) string {
		out, errs, status := commandHere(t, filepath.Dir(g.file), nil, "", append([]string{"usage"}, args...)...)
		if status != 0 {
			t.Fatalf("status %d: %s%s", status, out, errs)
		}
		return out
	}
	squeezed := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for _, c := range []struct{ by, want string }{
		{"key", "app 3 10"}, {"key", "100 10 %"}, {"key", "site 1 4"}, {"door", "native 4 14"}, {"day", time.Now().UTC().Format(time.DateOnly) + " 4 14"}, {"session", "call-7 2 7"},
	} {
		if out := squeezed(show("--by", c.by)); !strings.Contains(out, c.want) {
			t.Errorf("by %s: %s\nwant %s", c.by, out, c.want)
		}
	}
	var report usage.Report
	if err := json.Unmarshal([]byte(show("--json")), &report); err != nil || report.Total.Characters != 14 || report.Total.CachedCharacters != 3 || report.Total.CachedTexts != 1 || report.Total.PromptTokens == 0 {
		t.Errorf("%+v %v", report, err)
	}
	want := fmt.Sprintf("%.6f EUR", float64(report.Total.PromptTokens+2*report.Total.CompletionTokens)/1e6)
	if got := report.Total.Cost.String(); got != want {
		t.Errorf("it costs %s, want %s", got, want)
	}
	// Another price holds for what is answered from then on, and a session is told its own.
	g.edit(strings.Replace(yaml, "price: {input: 1, output: 2, currency: EUR}", "price: {input: 1000000, per_million: characters}", 1))
	if out, errs, status := commandHere(t, filepath.Dir(g.file), nil, "", "reload"); status != 0 {
		t.Fatalf("status %d: %s%s", status, out, errs)
	}
	req, err := http.NewRequest(http.MethodPost, g.url+"/v1/translate", strings.NewReader(`{"text":"vijf","source":"en","target":"es","session":"call-8","session_usage":true}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+good2)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(raw), `"session_usage":{"texts":1,"characters":4,"cached_texts":0,`) || !strings.Contains(string(raw), `"cost":[{"currency":"USD","amount":"4.000000000"}]`) {
		t.Errorf("%s %v", raw, err)
	}
	if out := show(); !strings.Contains(out, " EUR + 4.000000 USD") {
		t.Errorf("%s", out)
	}
	for _, wrong := range [][]string{{"--by", "moon"}, {"--month", "November"}, {"more"}} {
		if _, errs, status := commandHere(t, filepath.Dir(g.file), nil, "", append([]string{"usage"}, wrong...)...); status == 0 || errs == "" {
			t.Errorf("%q: status %d, %q", wrong, status, errs)
		}
	}
}

// TestUsageOnAFullDiskIsCountedAndWrittenLater, and said while it is so.
func TestUsageOnAFullDiskIsCountedAndWrittenLater(t *testing.T) {
	t.Parallel() // it waits most of the time
	dir := t.TempDir()
	if err := mountTiny(dir); err != nil {
		t.Skip("not tested: only root can mount a file system that is full: ", err)
	}
	t.Cleanup(func() { unmount(dir) })
	filler := filepath.Join(dir, "filler")
	os.WriteFile(filler, make([]byte, 1<<20), 0o600) // fails, and fills the disk
	sim := upstream(t, openaitest.Config{})
	env := []string{"XDG_STATE_HOME=" + filepath.Join(dir, "state")}
	file := write(t, fmt.Sprintf(`version: 1
server:
  keys: [{name: app, key: %s, characters_per_month: 10}, {name: ops, key: %s, role: operate}]
providers: {openai: {type: openai, base_url: "%s", api_key: test}}
stages: [provider: {use: openai}]
`, good1, good2, sim.URL()))
	g := serveFile(t, file, env)
	if a, _, err := g.as(t.Context(), good1, map[string]any{"text": "12345678"}); err != nil || a.Status != 200 {
		t.Fatalf("%+v %v", a, err)
	}
	if a, _, err := g.as(t.Context(), good1, map[string]any{"text": "123"}); err != nil || a.Status != 429 {
		t.Errorf("the limit does not hold: %+v %v", a, err)
	}
	g.see("usage cannot be kept on disk")
	ready := func() string {
		res, err := http.Get(g.url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return fmt.Sprint(res.StatusCode, " ", string(body))
	}
	if got := ready(); !strings.HasPrefix(got, "200") || !strings.Contains(got, "notice") {
		t.Errorf("/readyz: %s", got)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	g.see("usage is kept on disk again")
	if got := ready(); strings.Contains(got, "notice") {
		t.Errorf("/readyz: %s", got)
	}
	if n := strings.Count(g.output(), "usage cannot be kept on disk"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, g.output())
	}
	g.signal(syscall.SIGKILL)
	g.wait()
	if got := serveFile(t, file, env).used(good1); got != 8 {
		t.Errorf("%d characters are known, want 8", got)
	}
}

// TestEveryDoorAnswersAKeyOverItsLimitsInItsOwnWords, and a key that is for other doors.
func TestEveryDoorAnswersAKeyOverItsLimitsInItsOwnWords(t *testing.T) {
	sim := upstream(t, openaitest.Config{})
	g := serveYAML(t, fmt.Sprintf(`version: 1
log: {level: error}
server:
  keys:
    - {name: poor, key: poor-%[1]s, characters_per_month: 5}
    - {name: hasty0, key: hasty0-%[1]s, requests_per_minute: 1}
    - {name: hasty1, key: hasty1-%[1]s, requests_per_minute: 1}
    - {name: hasty2, key: hasty2-%[1]s, requests_per_minute: 1}
    - {name: hasty3, key: hasty3-%[1]s, requests_per_minute: 1}
    - {name: hasty4, key: hasty4-%[1]s, requests_per_minute: 1}
    - {name: live, key: live-%[1]s, doors: [live]}
providers: {openai: {type: openai, base_url: "%[2]s", api_key: test}}
stages: [cache, provider: {use: openai}]
`, good1, sim.URL()), nil)
	ask := func(path, key, body string) (int, http.Header, string) {
		req, err := http.NewRequest(http.MethodPost, g.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key+"-"+good1)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.Header, strings.TrimSpace(string(raw))
	}
	for i, d := range []struct {
		path, body          string
		quotaStatus         int
		quota, minute, door string // what the answers hold
		quotaRetries        bool   // Retry-After, and X-Should-Retry
	}{
		{"/v1/translate", `{"text":"Six or more.","source":"en","target":"es"}`, 429, `"kind":"quota_exceeded"`, `"kind":"rate_limited"`, `"kind":"forbidden"`, true},
		{"/v2/translate", `{"text":["Six or more."],"target_lang":"ES"}`, 456, `{"message":"Quota for this billing period has been exceeded."}`, `{"message":"Too many requests"}`, `"message":`, false},
		{"/translate", `{"q":"Six or more.","source":"en","target":"es"}`, 403, `{"error":"Too many request limits violations`, `{"error":"Slowdown: 1 per 1 minute"}`, `"error":`, false},
		{"/v1/chat/completions", `{"model":"translate/es","messages":[{"role":"user","content":"Six or more."}]}`, 429, `"type":"insufficient_quota","param":null,"code":"insufficient_quota"`, `"code":"rate_limit_exceeded"`, `"type":"invalid_request_error"`, false},
		{"/translate?api-version=3.0&to=es", `[{"Text":"Six or more."}]`, 403, `"code":403001`, `"code":429001`, `"error":`, false},
	} {
		status, header, body := ask(d.path, "poor", d.body)
		if status != d.quotaStatus || !strings.Contains(body, d.quota) || (header.Get("Retry-After") != "") != d.quotaRetries || header.Get("X-Should-Retry") == "true" {
			t.Errorf("%s, characters used up: %d %v %s", d.path, status, header, body)
		}
		hasty := fmt.Sprint("hasty", i)
		if status, _, body := ask(d.path, hasty, d.body); status != 200 {
			t.Errorf("%s, the first call: %d %s", d.path, status, body)
		}
		status, header, body = ask(d.path, hasty, d.body)
		if status != 429 || !strings.Contains(body, d.minute) || header.Get("Retry-After") == "" || header.Get("X-Should-Retry") == "false" {
			t.Errorf("%s, too many calls: %d %v %s", d.path, status, header, body)
		}
		if status, _, body = ask(d.path, "live", d.body); status != 403 || !strings.Contains(body, d.door) {
			t.Errorf("%s, a key for other doors: %d %s", d.path, status, body)
		}
	}
	for path, body := range map[string]string{"/v3/glossaries": `{"name":"x","dictionaries":[{"source_lang":"en","target_lang":"de","entries":"a\tb","entries_format":"tsv"}]}`} {
		if status, _, answer := ask(path, "poor", body); status != 201 {
			t.Errorf("%s, which is no text: %d %s", path, status, answer)
		}
	}
	// Characters of a call are taken as a whole: three and three are more than five.
	if status, _, body := ask("/v1/translate", "poor", `{"text":["one","two"],"source":"en","target":"es"}`); status != 429 {
		t.Errorf("two texts of which one would fit: %d %s", status, body)
	}
	if status, _, body := ask("/v1/translate", "poor", `{"text":"three","source":"en","target":"es"}`); status != 200 {
		t.Errorf("the five that are left: %d %s", status, body)
	}
	if n := sim.Stats().Chats; n != 3 {
		t.Errorf("%d calls upstream, want one for the text with its language, one for it without, and one for three", n)
	}
}
