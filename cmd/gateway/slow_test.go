package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// A line of the log in either format, as far as the test below reads it.
type logLine struct {
	level, message string
	fields         map[string]any
}

// logged are the lines of g's standard error that tell of the request id.
func (g *gatewayProcess) logged(json bool, id string) (found []logLine) {
	g.t.Helper()
	for line := range strings.Lines(g.output()) {
		if l, ok := parseLine(json, line); ok && l.fields["request"] == id {
			found = append(found, l)
		}
	}
	return found
}

// parseLine reads one line, unless it is one of standard output or none of the log's.
func parseLine(isJSON bool, line string) (l logLine, ok bool) {
	if isJSON {
		if json.Unmarshal([]byte(line), &l.fields) != nil {
			return l, false
		}
		l.level, l.message = fmt.Sprint(l.fields["level"]), fmt.Sprint(l.fields["msg"])
		return l, true
	}
	// time LEVEL logger message {fields}
	parts := strings.Split(strings.TrimSpace(line), "\t")
	last := len(parts) - 1
	if last < 3 || json.Unmarshal([]byte(parts[last]), &l.fields) != nil {
		return l, false
	}
	l.level, l.message = strings.ToLower(parts[1]), parts[last-1]
	return l, true
}

// At the level info, which is the default, an operator sees which requests were in
// trouble and where their time went, and never what was in them.
func TestASlowAFailedAndAFailedOverRequestLeaveOneLineEachAndAQuickOneNone(t *testing.T) {
	const (
		slow   = 300 * time.Millisecond
		secret = "Canarybird"
	)
	for _, format := range []string{"console", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			main, spare := upstream(t, openaitest.Config{}), upstream(t, openaitest.Config{})
			g := serveYAML(t, strings.NewReplacer("FORMAT", format, "SLOW", slow.String(), "MAIN", main.URL(), "SPARE", spare.URL()).Replace(`version: 1
log: {slow: SLOW, format: FORMAT}
providers:
  main: {type: openai, base_url: "MAIN", api_key: test}
  spare: {type: openai, base_url: "SPARE", api_key: test}
stages:
  - cache
  - ratelimit
  - queue: {min_interval: 0s}
  - provider: {use: main, fallback: [spare], retries: 0, breaker: {failures: 0}}
  - postprocess
`), nil)
			asked := 0
			// ask sends a text of its own and returns its id and how long it took here.
			ask := func(status int) (id string, took time.Duration) {
				t.Helper()
				asked++
				id = fmt.Sprintf("request-%d", asked)
				body := fmt.Sprintf(`{"text":"%s number %d.","source":"en","target":"es","session":"live"}`, secret, asked)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url+"/v1/translate", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-Request-Id", id)
				began := time.Now()
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				answer, err := io.ReadAll(res.Body)
				took = time.Since(began)
				if err != nil || res.StatusCode != status {
					t.Fatalf("%d %s after %v: %v", res.StatusCode, answer, took, err)
				}
				return id, took
			}
			latency := func(d time.Duration) {
				t.Helper()
				if err := main.Configure(func(c *openaitest.Config) { c.Latency = d }); err != nil {
					t.Fatal(err)
				}
			}
			var quick string
			for took := slow; took >= slow; { // a busy machine makes slow what is not
				quick, took = ask(200)
			}
			latency(slow)
			late, _ := ask(200)
			latency(0)
			main.FailNext(1, openaitest.Error500)
			over, _ := ask(200)
			main.FailNext(1, openaitest.Error500)
			spare.FailNext(1, openaitest.Error500)
			failed, _ := ask(502)

			want := map[string]struct {
				level, message, provider string
				attempts                 float64
			}{
				late:   {"info", "request was slow", "main", 1},
				over:   {"info", "a fallback answered", "spare", 2},
				failed: {"warn", "provider failed", "", 2},
			}
			// What is logged last is written last: then all is there that will be.
			until(t, func() bool { return len(g.logged(format == "json", failed)) > 0 })
			g.signal(syscall.SIGTERM)
			g.wait()
			if lines := g.logged(format == "json", quick); len(lines) > 0 {
				t.Errorf("of a quick one: %v", lines)
			}
			for id, w := range want {
				lines := g.logged(format == "json", id)
				if len(lines) != 1 {
					t.Errorf("%s: %d lines, want one: %v", w.message, len(lines), lines)
					continue
				}
				l := lines[0]
				if l.level != w.level || l.message != w.message || l.fields["attempts"] != w.attempts {
					t.Errorf("%+v, want %+v", l, w)
				}
				if l.fields["door"] != "native" || l.fields["session"] != "live" || l.fields["target"] != "es" || l.fields["lane"] != "final" {
					t.Errorf("%s: whose it was is not told: %v", w.message, l.fields)
				}
				if stages, ok := l.fields["stages"].(map[string]any); !ok || stages["cache"] == nil || stages["provider"] == nil {
					t.Errorf("%s: where its time went is not told: %v", w.message, l.fields)
				}
				if w.provider != "" && l.fields["provider"] != w.provider || w.provider == "" && l.fields["kind"] != "provider_failed" {
					t.Errorf("%s: who answered, or how it failed, is not told: %v", w.message, l.fields)
				}
			}
			if out := g.output(); strings.Contains(out, secret) {
				t.Errorf("a text is in the log:\n%s", out)
			}
		})
	}
}

// The threshold is the configuration's of the moment: a reload switches it off.
func TestWhatIsSlowIsSaidByTheFileOfTheMoment(t *testing.T) {
	t.Parallel()
	sim := upstream(t, openaitest.Config{Latency: 20 * time.Millisecond})
	yaml := `version: 1
log: {slow: 1ms}
providers:
  main: {type: openai, base_url: "` + sim.URL() + `", api_key: test}
stages: [{provider: {use: main}}]
`
	g := serveAndEdit(t, yaml)
	said := func() (n int) { return strings.Count(g.output(), "request was slow") }
	g.ask("Good morning.").text(t)
	until(t, func() bool { return said() == 1 })
	g.reload(strings.Replace(yaml, "slow: 1ms", "slow: 0s", 1))
	g.ask("Good evening.").text(t)
	g.reload(strings.Replace(yaml, "slow: 1ms", "slow: 2ms", 1))
	g.ask("Good night.").text(t)
	until(t, func() bool { return said() == 2 })
	g.signal(syscall.SIGTERM)
	g.wait()
	if said() != 2 {
		t.Errorf("%d lines about two that were slow and one that nobody asks about:\n%s", said(), g.output())
	}
}
