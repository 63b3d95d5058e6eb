package gateway

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// A mistake is an edit that must not be served.
type mistake struct {
	from, to string
	place    string // pattern of what names it: line, column and path, as far as there are any
	want     string
	starts   bool // a process
}

const sound = `version: 1
log: {level: error}
pool: {max_connections: 16}
providers:
  openai: {type: openai, base_url: "BASE", api_key: good}
  direct:
    type: plugin
    command: [DIRECT]
    config: {base_url: "BASE", api_key: good}
stages:
  - cache
  - queue: {max_concurrent: 6, min_interval: 0s}
  - provider: {use: openai}
  - postprocess
`

func mistakes(dir string) map[string]mistake {
	use := strings.NewReplacer("use: openai", "use: direct")
	with := func(command string) string { return use.Replace(strings.Replace(sound, "[DIRECT]", command, 1)) }
	return map[string]mistake{
		"syntax":             {"- cache", "- cache: {ttl: 1h", `pipeline.yaml:1[12]`, "", false},
		"unknown key":        {"max_concurrent: 6", "max_concurent: 6", `pipeline.yaml:12:13: stages\[1\]\.queue\.max_concurent`, "did you mean max_concurrent?", false},
		"bad bound":          {"max_concurrent: 6", "max_concurrent: 0", `pipeline.yaml:12:29: stages\[1\]\.queue\.max_concurrent`, "must be at least 1, got 0", false},
		"missing variable":   {"api_key: good}\n  direct", "api_key: \"${NOBODY_SETS_THIS}\"}\n  direct", `pipeline.yaml:5:\d+: providers\.openai\.api_key`, "NOBODY_SETS_THIS", false},
		"dangling reference": {"use: openai", "use: opneai", `pipeline.yaml:13:21: stages\[2\]\.provider\.use`, "opneai", false},
		"gate after the provider": {"  - queue: {max_concurrent: 6, min_interval: 0s}\n  - provider: {use: openai}",
			"  - provider: {use: openai}\n  - queue: {max_concurrent: 6, min_interval: 0s}", `pipeline.yaml:13:5: stages\[2\]`, "before", false},
		"a plugin that does not start": {sound, with("[/bin/sh, -c, 'echo where is my model; exit 3']"), `pipeline.yaml:6:3: providers\.direct`, "where is my model", true},
		"a plugin's configuration":     {sound, strings.Replace(with("[DIRECT]"), `config: {base_url: "BASE"`, `config: {base_urll: "BASE"`, 1), `pipeline.yaml:9:14: providers\.direct\.config\.base_urll`, "did you mean base_url?", true},
		"wrong sha256": {sound, with("[DIRECT]\n    sha256: {DIRECT: '" + strings.Repeat("0", 64) + "'}"), `pipeline.yaml:\d+:\d+: providers\.direct`,
			"is another file than sha256 says", false},
		"no such program":         {sound, with("[./nowhere]"), `pipeline.yaml:8:\d+: providers\.direct\.command`, "there is no file", false},
		"unreadable preload file": {"- cache", "- cache: {preload: [" + filepath.Join(dir, "nowhere.tsv") + "]}", `pipeline.yaml:11:5: stages\[0\]`, "nowhere.tsv", false},
		"unreadable ca_file":      {"max_connections: 16", "ca_file: " + filepath.Join(dir, "nowhere.pem"), `pipeline.yaml.*pool`, "nowhere.pem", false},
		"refused key":             {"api_key: good}\n  direct", "api_key: bad}\n  direct", `pipeline.yaml:5:3: providers\.openai`, "unauthorized", false},
		"unknown model":           {"api_key: good}\n  direct", "api_key: good, model: gpt-0}\n  direct", `pipeline.yaml:5:3: providers\.openai`, "gpt-0", false},
		"another address":         {"version: 1", "version: 1\nserver: {admin: '127.0.0.1:1'}", `pipeline.yaml.*server`, "admin", false},
	}
}

// broken returns the sound file and, by what is wrong, others.
func broken(t *testing.T, s *simulator) (good string, bad map[string]string, all map[string]mistake) {
	t.Helper()
	all, bad = mistakes(t.TempDir()), map[string]string{}
	fill := strings.NewReplacer("BASE", s.base, "DIRECT", filepath.Join(programs, "openai-direct"))
	for name, m := range all {
		yaml := strings.Replace(sound, m.from, m.to, 1)
		if yaml == sound {
			t.Fatalf("%s: nothing is edited", name)
		}
		bad[name] = fill.Replace(yaml)
	}
	return fill.Replace(sound), bad, all
}

func TestAMistakeInAReloadIsNamedWithItsPlaceAndChangesNothing(t *testing.T) {
	t.Parallel()
	s := simulate(t, "--key", "good")
	good, bad, all := broken(t, s)
	g := serveAndEdit(t, good)
	g.ask("It is known.").text(t)
	for name, m := range all {
		t.Run(name, func(t *testing.T) {
			was := g.number("dragoman_generation")
			g.edit(bad[name])
			v := g.try("")
			said := strings.Join(v.Errors, "\n")
			if v.Status != http.StatusUnprocessableEntity || v.Outcome != "refused" || float64(v.Generation) != was {
				t.Errorf("%d %s, generation %d: %s", v.Status, v.Outcome, v.Generation, v.Text)
			}
			if !regexp.MustCompile(m.place).MatchString(said) || !strings.Contains(said, m.want) {
				t.Errorf("no place like %q, or no %q in:\n%s", m.place, m.want, said)
			}
			if a := g.ask("It is known."); a.text(t) == "" || !a.Translations[0].Cached {
				t.Errorf("what was known: %+v", a)
			}
			if a := g.ask("It is new, and " + name + "."); a.text(t) == "" || a.Translations[0].Cached {
				t.Errorf("what is new: %+v", a)
			}
			if g.number("dragoman_generation") != was || g.number("dragoman_config_last_reload_success") != 0 {
				t.Errorf("generation %v, was %v; the last reload counts as good", g.number("dragoman_generation"), was)
			}
		})
	}
	g.keeps(0)
	if v := g.reload(good + "# mended\n"); v.Status != http.StatusOK {
		t.Errorf("%s", v.Text)
	}
	g.sinks("dragoman_generations_draining", 0)
}

func TestMistakesLeaveNothingBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("not tested: it takes many seconds")
	}
	t.Parallel()
	s := simulate(t, "--key", "good")
	good, bad, all := broken(t, s)
	g := serveAndEdit(t, good)
	var quick, slow []string
	for name, m := range all {
		if m.starts {
			slow = append(slow, name)
		} else {
			quick = append(quick, name)
		}
	}
	done := 0
	make := func(n int) {
		t.Helper()
		for range n {
			name := quick[done%len(quick)]
			if done%50 == 0 {
				name = slow[done/50%len(slow)]
			}
			done++
			g.edit(bad[name] + fmt.Sprintf("# %d\n", done))
			if v := g.try(""); v.Status != http.StatusUnprocessableEntity {
				t.Fatalf("%s: %s", name, v.Text)
			}
		}
	}
	make(property.Rounds(150, 100))
	g.keeps(0)
	goroutines, descriptors, memory := g.number("go_goroutines"), g.number("process_open_fds"), g.number("process_resident_memory_bytes")
	make(property.Rounds(1000, 100))
	g.keeps(0)
	g.sinks("go_goroutines", goroutines+10)
	g.sinks("process_open_fds", descriptors+10)
	now := g.number("process_resident_memory_bytes")
	t.Logf("goroutines %v -> %v, descriptors %v -> %v, memory %.1f -> %.1f MiB", goroutines, g.number("go_goroutines"),
		descriptors, g.number("process_open_fds"), memory/(1<<20), now/(1<<20))
	if now > memory*1.25+8<<20 {
		t.Errorf("memory has grown from %v to %v", memory, now)
	}
	left, err := os.ReadDir(filepath.Dir(g.file))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the file there is %v, %v", left, err)
	}
	g.ask("It still serves.").text(t)
}
