package gateway

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

func TestAPluginRestartsUnderLoadAndFailsNothing(t *testing.T) {
	up := upstream(t, openaitest.Config{Latency: 40 * time.Millisecond})
	g := serveYAML(t, fmt.Sprintf(`version: 1
providers:
  main: {type: openai, base_url: "%s", api_key: test}
  direct: {type: plugin, command: [%s], config_from: main}
stages:
  - queue: {min_interval: 0s, max_concurrent: 64}
  - provider: {use: direct, retries: 0}
`, up.URL(), filepath.Join(programs, "openai-direct")), nil)
	tr := g.sends(5 * time.Millisecond)
	pid := g.plugin(0)
	for _, name := range []string{"direct", "openai-direct", "direct"} {
		tr.answered(t, "direct", 100)
		out, errs, status := command(t, t.TempDir(), nil, "", "plugin", "restart", name, "--url", g.url)
		now := g.plugin(pid)
		if want := fmt.Sprintf(", process %d -> %d\n", pid, now); status != 0 || errs != "" || !strings.HasPrefix(out, name+" restarted in ") || !strings.HasSuffix(out, want) {
			t.Fatalf("%d %q %q, want %q", status, out, errs, want)
		}
		pid = now
	}
	tr.answered(t, "direct", 100)
	tr.end(t)
	if lost := g.metric(`dragoman_plugin_failed_calls_total{provider="direct"}`); lost != "0" {
		t.Errorf("%s calls were lost with their process", lost)
	}
	if n, _ := strconv.Atoi(g.metric(`dragoman_provider_attempts_total{outcome="ok",provider="direct",reason="first"`)); int64(n) != tr.asked.Load() {
		t.Errorf("%d first attempts for %d requests", n, tr.asked.Load())
	}

	_, errs, status := commandHere(t, t.TempDir(), nil, "", "plugin", "restart", "absent", "--url", g.url)
	if status != 1 || !strings.Contains(errs, `"absent"`) || !strings.Contains(errs, "there are direct, openai-direct") {
		t.Errorf("%d %s", status, errs)
	}
	if _, errs, status := commandHere(t, t.TempDir(), nil, "", "plugin", "restart"); status != 2 {
		t.Errorf("%d %s", status, errs)
	}
}
