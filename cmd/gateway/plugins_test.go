package gateway

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/plugins/apertium/engine"
)

// direct is a configuration whose provider in use is the plugin openai-direct.
func direct(s *simulator, use string) string {
	return strings.Replace(pipeline(s, "pooled",
		"  direct: {type: plugin, command: ["+filepath.Join(programs, "openai-direct")+"], config_from: openai}"),
		"{use: openai}", use, 1)
}

func TestAPluginServesAProviderOverConnectionsOfItsOwn(t *testing.T) {
	s := simulate(t, "--tls", "--engine", "pseudo")
	g := serveYAML(t, direct(s, "{use: direct}"), nil)
	if a := g.ask("The kettle is boiling."); a.text(t) != "[es] The kettle is boiling." || a.Translations[0].Provider != "direct" {
		t.Errorf("%+v", a)
	}
	if got := g.texts(20); len(got) != 20 {
		t.Errorf("%d answers", len(got))
	}
	calls, connections := s.asked()
	// One for the question about the model, one for each question of the test.
	if calls != 21 || connections < calls+1 {
		t.Errorf("%d connections for %d calls", connections, calls)
	}
	if got := g.metric(`dragoman_plugin_calls_total{provider="direct"}`); got != "21" {
		t.Errorf("calls of the plugin in /metrics: %q", got)
	}
	if got := g.metric(`dragoman_plugin_state{provider="direct",state="ready"}`); got != "1" {
		t.Errorf("state of the plugin in /metrics: %q", got)
	}
	var status struct {
		Plugins []struct {
			Program, State string
			Serves         []string
			PID            int
		}
	}
	get(t, http.DefaultClient, g.url+"/admin/status", &status)
	if len(status.Plugins) != 1 || status.Plugins[0].Program != "openai-direct" || status.Plugins[0].State != "ready" || status.Plugins[0].PID == 0 || fmt.Sprint(status.Plugins[0].Serves) != "[direct]" {
		t.Errorf("/admin/status: %+v", status)
	}
}

// pid waits for a process of the plugin that is not one of former.
func (g *gatewayProcess) plugin(former ...int) int {
	g.t.Helper()
	pid := 0
	if !comes(func() bool {
		pid = int(g.number(`dragoman_plugin_pid{provider="direct"}`))
		return pid != 0 && !slices.Contains(former, pid)
	}) {
		g.t.Fatalf("there is no process of the plugin:\n%s", g.output())
	}
	return pid
}

func TestAPluginThatIsKilledUnderLoadFailsNoRequest(t *testing.T) {
	t.Run("alone", func(t *testing.T) { killedUnderLoad(t, "{use: direct}") })
	t.Run("with a fallback", func(t *testing.T) { killedUnderLoad(t, "{use: direct, fallback: [openai]}") })
}

func killedUnderLoad(t *testing.T, use string) {
	s := simulate(t)
	g := serveYAML(t, direct(s, use), nil)
	var (
		load   sync.WaitGroup
		stop   atomic.Bool
		failed atomic.Int64
		asked  atomic.Int64
	)
	for i := range 6 {
		load.Go(func() {
			for n := 0; !stop.Load(); n++ {
				a := g.ask(fmt.Sprintf("Bus number %d leaves from gate %d.", n, i))
				asked.Add(1)
				if a.Status != 200 || a.Translations[0].Error != nil {
					failed.Add(1)
				}
			}
		})
	}
	var killed []int
	for range 3 {
		pid := g.plugin(killed...)
		before := asked.Load()
		for asked.Load() < before+20 {
			time.Sleep(time.Millisecond)
		}
		syscall.Kill(pid, syscall.SIGKILL)
		killed = append(killed, pid)
	}
	last := g.plugin(killed...)
	stop.Store(true)
	load.Wait()
	if failed.Load() > 0 || asked.Load() < 60 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
	if n, _ := strconv.Atoi(g.metric(`dragoman_plugin_restarts_total{provider="direct"}`)); n < 3 {
		t.Errorf("%d restarts", n)
	}
	g.signal(syscall.SIGTERM)
	if g.wait() != 0 {
		t.Error(g.output())
	}
	if err := syscall.Kill(last, 0); err != syscall.ESRCH {
		t.Errorf("after the gateway's end the plugin is still there: %v", err)
	}
}

func TestNoPluginOutlivesAGatewayThatIsKilled(t *testing.T) {
	s := simulate(t)
	g := serveYAML(t, direct(s, "{use: direct}"), nil)
	pid := g.plugin()
	g.signal(syscall.SIGKILL)
	receive(t, g.done)
	if !comes(func() bool { return ended(pid) }) {
		t.Fatalf("process %d goes on", pid)
	}
}

// ended says whether a process has ended; one that nobody has reaped yet has.
func ended(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return true
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(raw), ") ")
	return err == nil && strings.HasPrefix(rest, "Z")
}

func TestAWrongKeyOfAPluginHasItsPlace(t *testing.T) {
	yaml := `version: 1
providers:
  openai: {type: openai, api_key: x}
  direct:
    type: plugin
    command: [` + filepath.Join(programs, "openai-direct") + `]
    config:
      base_urll: https://example.com/v1
      timeout: 3
      request: {max_output: 1}
  absent: {type: plugin, command: [./absent]}
stages:
  - provider: {use: direct}
`
	file := write(t, yaml)
	for name, args := range map[string][]string{
		"check": {"check", "--offline"}, "serve": {"serve", "--set", "server.listen=127.0.0.1:0"},
	} {
		_, errs, status := command(t, filepath.Dir(file), nil, "", args...)
		if status != 1 {
			t.Errorf("%s: status %d", name, status)
		}
		for _, want := range []string{
			"pipeline.yaml:8:7: providers.direct.config.base_urll: there is no such key here; did you mean base_url?",
			"pipeline.yaml:9:16: providers.direct.config.timeout: must be a duration such as 300ms or 24h, got 3",
			"pipeline.yaml:10:29: providers.direct.config.request.max_output: must be at least 32, got 1",
		} {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: no %q in:\n%s", name, want, errs)
			}
		}
	}
	_, errs, _ := command(t, filepath.Dir(file), nil, "", "check", "--offline")
	if !strings.Contains(errs, "warning: pipeline.yaml:11:35: providers.absent.command: there is no file") {
		t.Errorf("a plugin that is not in use and not there is no warning:\n%s", errs)
	}
	out, errs, status := commandHere(t, filepath.Dir(file), nil, "", "check", "--offline", "--no-plugins")
	if status != 0 || errs != "" || strings.Contains(out, "asked") {
		t.Errorf("--no-plugins: status %d, %s%s", status, out, errs)
	}
}

func TestCheckSaysThatItHasStartedPlugins(t *testing.T) {
	file := write(t, strings.Replace(direct(&simulator{base: "http://127.0.0.1:1/v1"}, "{use: direct}"), "api_key: test", "api_key: sk-secret", 1))
	out, errs, status := command(t, filepath.Dir(file), nil, "", "check", "--offline")
	if status != 0 || !strings.Contains(out, "plugins started and asked: 1") {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
	out, errs, _ = commandHere(t, filepath.Dir(file), nil, "", "explain")
	if strings.Contains(out+errs, "sk-secret") {
		t.Errorf("a key is shown:\n%s", out)
	}
}

func TestAPluginTakesItsKeysFromAProviderAndNotFromAPlugin(t *testing.T) {
	file := write(t, strings.Replace(direct(&simulator{base: "http://127.0.0.1:1/v1"}, "{use: direct}"), "stages:", "  second: {type: plugin, command: [x], config_from: direct}\nstages:", 1))
	_, errs, status := commandHere(t, filepath.Dir(file), nil, "", "check", "--offline")
	if status != 1 || !strings.Contains(errs, "providers.second.config_from: direct is a plugin itself") {
		t.Errorf("status %d, %s", status, errs)
	}
}

func TestWhenNobodyElseAnswersApertiumDoes(t *testing.T) {
	t.Parallel()
	if _, err := engine.Find(); err != nil {
		t.Skip("not tested: ", err)
	}
	g := serveYAML(t, `version: 1
server: {deadline: 60s}
providers:
  openai: {type: openai, base_url: "http://127.0.0.1:9/v1", api_key: x}
  apertium: {type: plugin, command: [`+filepath.Join(programs, "apertium")+`]}
stages:
  - cache
  - provider: {use: openai, fallback: [apertium]}
`, nil)
	a := g.ask("The new car is very fast.")
	if a.text(t) != "El coche nuevo es muy rápido." || a.Translations[0].Provider != "apertium" || a.Translations[0].Cached {
		t.Errorf("%+v", a)
	}
}
