package gateway

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTheProviderIsRolledBackByHandAndBack edits the file, as an operator does,
// and starts the gateway again.
func TestTheProviderIsRolledBackByHandAndBack(t *testing.T) {
	t.Parallel()
	s := simulate(t, "--tls")
	pooled := direct(s, "{use: openai}")
	file := write(t, pooled)
	serve := func() (texts map[string]string, calls, connections int) {
		t.Helper()
		g := serveFile(t, file, nil)
		calls, connections = s.asked()
		texts = g.texts(40)
		calls2, connections2 := s.asked()
		g.signal(syscall.SIGTERM)
		if g.wait() != 0 {
			t.Error(g.output())
		}
		return texts, calls2 - calls, connections2 - connections - 1 // that of the question itself
	}
	edit := func(yaml string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before, calls, connections := serve()
	if calls != 40 || connections >= calls {
		t.Errorf("pooled: %d connections for %d calls", connections, calls)
	}
	edit(strings.Replace(pooled, "{use: openai}", "{use: direct}", 1))
	during, calls, connections := serve()
	// The question at the start may come just before or after that of the test.
	if calls != 40 || connections < calls || connections > calls+1 {
		t.Errorf("direct: %d connections for %d calls", connections, calls)
	}
	edit(pooled)
	after, calls, connections := serve()
	if calls != 40 || connections >= calls {
		t.Errorf("pooled again: %d connections for %d calls", connections, calls)
	}
	if !reflect.DeepEqual(before, during) || !reflect.DeepEqual(before, after) {
		t.Errorf("other texts:\n%q\n%q\n%q", before, during, after)
	}
}

// configure changes how the simulator behaves.
func (s *simulator) configure(json string) {
	s.t.Helper()
	// On a busy machine a new connection is idle for a moment, and lost when idle ones are.
	client := &http.Client{Transport: s.client().Transport, Timeout: 2 * time.Second}
	var res *http.Response
	var err error
	for range 10 {
		if res, err = client.Post(strings.TrimSuffix(s.base, "/v1")+"/sim/config", "application/json", strings.NewReader(json)); err == nil {
			break
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s", json, res.Status)
	}
}

// TestTheProviderIsRolledBackByItselfAndComesBack lets a firewall forget every
// connection that is kept. The pool cannot mend that: it loses what it sends, and
// learns so too late to send again. A plugin that keeps none is spared.
func TestTheProviderIsRolledBackByItselfAndComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("not tested: it takes a quarter of a minute")
	}
	for name, reset := range map[string]string{"packets vanish": "0s", "connections are reset later": "600ms"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := simulate(t, "--tls")
			g := serveYAML(t, fmt.Sprintf(`version: 1
server: {deadline: 10s}
log: {level: error}
pool: {ca_file: %s, warm_connections: 6, max_connections: 32}
providers:
  openai: {type: openai, base_url: "%s", api_key: test, timeout: 1500ms}
  openai-direct: {type: plugin, command: [%s], config_from: openai}
stages:
  - queue: {min_interval: 0s, max_concurrent: 32}
  - provider: {use: openai, fallback: [openai-direct], breaker: {open_for: 1s}}
`, s.ca, s.base, filepath.Join(programs, "openai-direct")), nil)
			// Four at a time, and a second in which every connection is silent.
			all := []*stream{g.sends(time.Second), g.sends(time.Second), g.sends(time.Second), g.sends(time.Second)}
			tr := all[0]
			tr.answered(t, "openai", 2)
			for _, tr := range all {
				if n := tr.count("openai-direct"); n > 0 {
					t.Errorf("%d answers by the fallback before there is a fault", n)
				}
			}

			s.configure(`{"forget": "400ms", "forget_reset": "` + reset + `"}`)
			g.sees(`dragoman_provider_breaker_state{provider="openai"`, "2")
			tr.answered(t, "openai-direct", 3) // with the breaker open, and with one that tries

			s.configure(`{"forget": "0s"}`)
			g.sees(`dragoman_provider_breaker_state{provider="openai"`, "0")
			rolledBack := tr.count("openai-direct")
			tr.answered(t, "openai", 3)
			if n := tr.count("openai-direct"); n > rolledBack+1 { // it may have been asked before
				t.Errorf("%d answers by the fallback after the end of the fault", n-rolledBack)
			}
			asked := int64(0)
			for _, tr := range all {
				tr.end(t)
				asked += tr.asked.Load()
			}
			t.Logf("%d requests; the breaker opened %s times, %s calls tried whether the provider is back", asked,
				g.metric(`dragoman_provider_breaker_opened_total{provider="openai"`), g.metric(`dragoman_provider_breaker_probes_total{provider="openai"`))
		})
	}
}
