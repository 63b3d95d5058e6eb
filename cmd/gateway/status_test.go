package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/door/admin"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// recordedStatus is of a gateway under load, whose upstream fails now and then.
func recordedStatus(t *testing.T) (s admin.Status, m admin.Sample) {
	t.Helper()
	raw, err := os.ReadFile("testdata/status/status.json")
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err = os.ReadFile("testdata/status/metrics.txt")
	if err == nil {
		m, err = readSample(&http.Response{Body: io.NopCloser(bytes.NewReader(raw))})
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Config = "/etc/dragoman/pipeline.yaml"
	s.Loaded = time.Date(2026, 11, 22, 3, 0, 0, 0, time.Local) // older than a day: with its date
	return s, m
}

func drawn(columns int, colour bool, s admin.Status, m admin.Sample) string {
	var out bytes.Buffer
	status(&screen{&out, columns, colour}, s, m)
	return out.String()
}

// Where routes or accounts are, the screen shows them: who is asked for what, who is left
// alone, and what is left of limits.
func TestTheStatusShowsRoutesAndAccounts(t *testing.T) {
	s, _ := recordedStatus(t)
	s.Routes = []admin.Route{{Name: "routes[0]", To: "targets de: calls deepl (deepl), and nobody else"}, {Name: "use", To: "any other: calls up (openai)"}}
	m, err := readSample(&http.Response{Body: io.NopCloser(strings.NewReader(`# TYPE dragoman_provider_routed_total counter
dragoman_provider_routed_total{route="routes[0]",stage="provider"} 1234
dragoman_provider_routed_total{route="use",stage="provider"} 7
# TYPE dragoman_provider_paused_seconds gauge
dragoman_provider_paused_seconds{provider="up/1",stage="provider"} 41.5
dragoman_provider_paused_seconds{provider="up/2",stage="provider"} 0
dragoman_provider_paused_seconds{provider="deepl",stage="provider"} 0
# TYPE dragoman_provider_limit gauge
dragoman_provider_limit{provider="up/2",stage="provider",unit="requests a day"} 5000
# TYPE dragoman_provider_left gauge
dragoman_provider_left{provider="up/2",stage="provider",unit="requests a day"} 4321
`))})
	if err != nil {
		t.Fatal(err)
	}
	got := drawn(100, false, s, m)
	for _, line := range []string{
		"ACCOUNT  paused for", "up/1           42 s", "up/2            0 s  4,321/5,000 requests a day left",
		"routes[0]     1,234  targets de: calls deepl (deepl), and nobody else", "use               7  any other: calls up (openai)",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
	if strings.Contains(got, "\ndeepl") {
		t.Errorf("an account of which nothing is to be said is shown:\n%s", got)
	}
}

func TestTheStatusIsOneScreen(t *testing.T) {
	s, m := recordedStatus(t)
	got := drawn(100, false, s, m)
	golden(t, "status/status.txt", got)
	// The worst that there is still fits, and moves no cursor.
	long := strings.Repeat("x", 200)
	s.Ready, s.NotReady, s.FileDiffers = false, long+"\x1b[2J\nmore", true
	s.Config = long
	s.Stages[0] = long
	s.Plugins[0].Program, s.Plugins[0].State, s.Plugins[0].Serves = long+"\r", "backoff", []string{long}
	s.LastReload = &admin.Reload{Outcome: "refused", Trigger: "file", Text: strings.Repeat(long+"\x1b]0;x\a\n", 20)}
	for _, x := range m["dragoman_pool_connections"].GetMetric() {
		for _, l := range x.GetLabel() {
			if l.GetName() == "origin" {
				l.Value = &long
			}
		}
	}
	got = drawn(100, false, s, m)
	for line := range strings.Lines(got) {
		line = strings.TrimSuffix(line, "\n")
		if n := len([]rune(line)); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
		if strings.TrimRight(line, " ") != line || strings.ContainsAny(line, "\x1b\r\a") {
			t.Errorf("%q", line)
		}
	}
	if n := strings.Count(got, "\n"); n > 40 {
		t.Errorf("%d lines:\n%s", n, got)
	}
	// On a terminal with colours, what is not well has them, and nothing else.
	marked := 0
	for line := range strings.Lines(drawn(100, true, s, m)) {
		if strings.Contains(line, "\x1b[1;31m") {
			marked++
		}
	}
	if marked != 4 {
		t.Errorf("%d lines stand out, want not ready, file differs, plugin and reload:\n%s", marked, drawn(100, true, s, m))
	}
}

func TestStatusShowsARunningGateway(t *testing.T) {
	up := upstream(t, openaitest.Config{})
	g := serveYAML(t, `version: 1
providers:
  main: {type: openai, base_url: "`+up.URL()+`", api_key: test}
stages: [cache, {queue: {max_concurrent: 3}}, {provider: {use: main}}]
`, nil)
	g.ask("Good evening.").text(t)
	g.ask("Good evening.").text(t)
	out, errs, code := commandHere(t, t.TempDir(), nil, "", "status", "--url", g.url)
	if code != 0 || errs != "" || !strings.Contains(out, "\nready\n") || !strings.Contains(out, "0 of 3 running") || !strings.Contains(out, "50 %") {
		t.Errorf("%d %s\n%s", code, errs, out)
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("coloured, and not on a terminal: %q", out)
	}
}
