package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/coretest/executable"
)

// plugged is a chain whose provider is the plugin ./direct beside the file.
func plugged(s *simulator) string {
	yaml := strings.Replace(pipeline(s, "pooled", `  direct: {type: plugin, command: [./direct], config_from: openai}`), "{use: openai}", "{use: direct, retries: 0}", 1)
	return strings.Replace(yaml, "min_interval: 0s", "min_interval: 0s, max_concurrent: 50", 1)
}

func TestAPluginThatWasBuiltAnewAnswersAfterAReload(t *testing.T) {
	s := simulate(t, "--engine", "pseudo")
	file := write(t, plugged(s))
	program := filepath.Join(filepath.Dir(file), "direct")
	raw, err := os.ReadFile(filepath.Join(programs, "openai-direct"))
	if err != nil {
		t.Fatal(err)
	}
	// What stands behind an ELF file's end does not matter to it.
	build := func(version string) {
		executable.Write(t, program+".new", string(raw)+version)
		do(t, os.Rename(program+".new", program))
	}
	build("one")
	g := serveFile(t, file, nil)
	load := newMix(g)
	load.begin(5*time.Millisecond, "under way")
	load.phase(t, "rebuilt", 100)

	g.ask("The kettle is boiling.")
	first := g.pids()
	if v, err := askReload(g.url, ""); err != nil || v.Outcome != "unchanged" {
		t.Errorf("nothing was built: %+v, %v", v, err)
	}
	build("two")
	v, err := askReload(g.url, "")
	if err != nil || v.Outcome != "reloaded" || !strings.Contains(v.Text, "files of providers/direct changed") {
		t.Fatalf("%+v, %v", v, err)
	}
	second := g.pids()
	if len(first) != 1 || len(second) != 1 || first[0] == second[0] {
		t.Errorf("processes %v, then %v", first, second)
	}
	before, _ := s.asked()
	if a := g.ask("The kettle is boiling."); a.Translations[0].Cached {
		t.Error("an answer of the former program is taken for one of the new")
	}
	if after, _ := s.asked(); after <= before {
		t.Error("nobody was asked")
	}
	out, errs, status := command(t, filepath.Dir(file), nil, "", "plugin", "restart", "--config", file, "direct")
	if status != 0 || !strings.HasPrefix(out, "direct restarted in ") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	if third := g.pids(); len(third) != 1 || third[0] == second[0] {
		t.Errorf("processes %v, then %v", second, third)
	}
	if a := g.ask("The kettle is boiling."); !a.Translations[0].Cached {
		t.Error("a restart of the same program has lost what is cached")
	}
	if _, errs, status := command(t, "", nil, "", "plugin", "restart", "--config", file, "nosuch"); status != 1 || !strings.Contains(errs, `no plugin in use is called "nosuch"; there are direct`) {
		t.Errorf("status %d\n%s", status, errs)
	}
	load.phase(t, "after", 100)
	load.end(t)
}

// pids are the processes of the plugins, as the gateway tells.
func (g *gatewayProcess) pids() (all []int) {
	g.t.Helper()
	var s struct{ Plugins []struct{ PID int } }
	get(g.t, insecure, g.url+"/admin/status", &s)
	for _, p := range s.Plugins {
		all = append(all, p.PID)
	}
	return all
}

// The provider that is out of order is a plugin, since a plugin is told the deadline by
// which its calls are bounded.
func TestAnotherDeadlineKeepsWhatIsKnownOfAPlugin(t *testing.T) {
	t.Parallel()
	s := simulate(t, "--engine", "pseudo")
	yaml := func(deadline, breaker string) string {
		return fmt.Sprintf(`version: 1
server: {deadline: %s}
providers:
  gone: {type: openai, base_url: "http://127.0.0.1:9/v1", api_key: test}
  main: {type: plugin, command: [%q], config_from: gone}
  spare: {type: openai, base_url: %q, api_key: test}
stages:
  - provider: {use: main, fallback: [spare], retries: 0, breaker: {failures: %s, open_for: 10m}}
`, deadline, filepath.Join(programs, "openai-direct"), s.base, breaker)
	}
	g := serveAndEdit(t, yaml("30s", "3"))
	is := func(state, opened float64) {
		t.Helper()
		if is, times := g.number(`dragoman_provider_breaker_state{provider="main"`), g.number(`dragoman_provider_breaker_opened_total{provider="main"`); is != state || times != opened {
			t.Errorf("the breaker is in state %v and has opened %v times, want %v and %v", is, times, state, opened)
		}
	}
	for i := range 3 {
		if a := g.ask(fmt.Sprintf("Text %d.", i)); a.text(t) == "" || a.Translations[0].Provider != "spare" {
			t.Fatalf("%+v", a)
		}
	}
	is(2, 1)
	pids, tried := g.pids(), g.number(`dragoman_plugin_calls_total{provider="main"`)

	for _, deadline := range []string{"20s", "4500ms", "30s"} {
		if v := g.reload(yaml(deadline, "3")); !strings.Contains(v.Text, "deadline") {
			t.Errorf("the verdict does not name what changed: %s", v.Text)
		}
		is(2, 1)
		if a := g.ask("After " + deadline + "."); a.text(t) == "" || a.Translations[0].Provider != "spare" {
			t.Errorf("%+v", a)
		}
	}
	if now, n := g.pids(), g.number(`dragoman_plugin_calls_total{provider="main"`); !slices.Equal(now, pids) || n != tried {
		t.Errorf("processes %v and %v calls, before that %v and %v", now, n, pids, tried)
	}

	// Another breaker begins closed, with the first request that comes to it.
	g.reload(yaml("30s", "4"))
	g.ask("With another breaker.").text(t)
	is(0, 1)
	if n := g.number(`dragoman_plugin_calls_total{provider="main"`); n <= tried {
		t.Error("with another breaker the plugin is not asked again")
	}
}
