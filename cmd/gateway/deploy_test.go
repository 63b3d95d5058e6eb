package gateway

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// What examples/deploy holds is for other people's machines: it is held against the gateway,
// and checked by the programs that it is for, where these are installed.

func deployed(t testing.TB, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(repository(t), "examples", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// debian is a program of a Debian package; without it the test is left out.
func debian(t testing.TB, program, where string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if path = filepath.Join("/usr/sbin", program); !exists(path) {
			t.Skipf("not tested: %s is not installed (apt-get install %s; `make test` does it where it may)", program, where)
		}
	}
	return path
}

// An expression of PromQL that stands somewhere.
type expression struct{ place, text string }

// dashboardExpressions are those of the panels, and of what fills the variables.
func dashboardExpressions(t testing.TB) (all []expression) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
		Annotations struct{ List []struct{ Name, Expr string } }
	}
	if err := json.Unmarshal([]byte(deployed(t, "mixin/dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			all = append(all, expression{"panel " + p.Title, target.Expr})
		}
	}
	for _, a := range dashboard.Annotations.List {
		all = append(all, expression{"annotation " + a.Name, a.Expr})
	}
	for _, v := range dashboard.Templating.List {
		if series, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
			all = append(all, expression{"variable " + v.Name, series[:strings.LastIndex(series, ",")]})
		}
	}
	return all
}

// alertExpressions are those of the rules, by their names.
func alertExpressions(t testing.TB) (all []expression) {
	t.Helper()
	rules := deployed(t, "mixin/alerts.yaml")
	for _, m := range regexp.MustCompile(`(?s)- alert: (\w+)\n(?: +#[^\n]*\n)* +expr: (?:\|\n)?(.*?)\n +(?:for|labels):`).FindAllStringSubmatch(rules, -1) {
		all = append(all, expression{"alert " + m[1], m[2]})
	}
	if n := strings.Count(rules, "- alert:"); len(all) != n || n == 0 {
		t.Fatalf("%d expressions of %d alerts were found", len(all), n)
	}
	return all
}

// promQL is what an expression may say beside names of metrics.
var promQL = []string{"sum", "max", "min", "rate", "changes", "histogram_quantile"}

var (
	quoted    = regexp.MustCompile(`"[^"]*"`)
	matchers  = regexp.MustCompile(`\{[^}]*\}`)
	durations = regexp.MustCompile(`\[[^\]]*\]`)
	grouping  = regexp.MustCompile(`\b(by|without|on|ignoring) *\([^)]*\)`)
	words     = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
)

// namesOfMetrics are the names of metrics in an expression.
func namesOfMetrics(text string) (all []string) {
	for _, cut := range []*regexp.Regexp{quoted, matchers, durations, grouping} {
		text = cut.ReplaceAllString(text, "")
	}
	for _, word := range words.FindAllString(text, -1) {
		if !slices.Contains(promQL, word) && !slices.Contains(all, word) {
			all = append(all, word)
		}
	}
	return all
}

// The gateway has a plugin and has taken a call: some metrics are there only then.
func TestEveryMetricOfTheAlertsAndTheDashboardExists(t *testing.T) {
	property.WithoutRace(t)
	sim := simulate(t)
	g := serveYAML(t, strings.Replace(pipeline(sim, "pooled", "  direct: {type: plugin, command: ["+filepath.Join(programs, "openai-direct")+"], config_from: openai}\n"),
		"use: openai", "use: direct, fallback: [openai]", 1), nil)
	g.ask("The kettle is boiling.").text(t)
	res, err := http.Get(g.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	there, err := readSample(res)
	if err != nil {
		t.Fatal(err)
	}
	exists := func(name string) bool {
		for _, suffix := range []string{"", "_bucket", "_count", "_sum"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && there[base] != nil {
				return true
			}
		}
		return name == "up" // Prometheus has it of every target
	}
	if exists("dragoman_nothing") || len(namesOfMetrics(`sum by (a) (rate(x_total{job="y"}[5m])) / z`)) != 2 {
		t.Fatal("the test looks at nothing")
	}
	seen := 0
	for _, e := range slices.Concat(alertExpressions(t), dashboardExpressions(t)) {
		for _, name := range namesOfMetrics(e.text) {
			if seen++; !exists(name) {
				t.Errorf("%s: there is no metric %s in /metrics: %s", e.place, name, e.text)
			}
		}
	}
	if seen < 40 {
		t.Errorf("%d names were looked for: the test looks at nothing", seen)
	}
}

func TestPromtoolChecksTheRulesAndTheDashboardAndTheAlertsSayWhatTheyShould(t *testing.T) {
	t.Parallel()
	promtool := debian(t, "promtool", "prometheus")
	mixin := filepath.Join(repository(t), "examples", "deploy", "mixin")
	// Of Grafana's expressions promtool sees the same, as rules.
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	grafana := strings.NewReplacer("$__rate_interval", "1m", "$job", ".+", "$instance", ".+")
	for i, e := range dashboardExpressions(t) {
		fmt.Fprintf(&rules, "  - {record: %q, expr: %q}\n", fmt.Sprintf("panel:%d", i), grafana.Replace(e.text))
	}
	panels := filepath.Join(t.TempDir(), "panels.yaml")
	if err := os.WriteFile(panels, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yaml", panels}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = mixin
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "SUCCESS") {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
}

// Each alert is tested to speak and to be silent, and sends whoever is woken to a section.
func TestEveryAlertHasARunbookAndTests(t *testing.T) {
	rules, tests, books := deployed(t, "mixin/alerts.yaml"), deployed(t, "mixin/alerts_test.yaml"), deployed(t, "mixin/RUNBOOKS.md")
	named := map[string]bool{}
	for _, e := range alertExpressions(t) {
		name := strings.TrimPrefix(e.place, "alert ")
		named[name] = true
		if !strings.Contains(rules, "runbook_url: https://github.com/dragoman-mt/dragoman/blob/main/examples/deploy/mixin/RUNBOOKS.md#"+strings.ToLower(name)+"\n") {
			t.Errorf("%s names no runbook", name)
		}
		if !strings.Contains(tests, "- name: "+name+"\n") || !strings.Contains(tests, "- name: "+name+" is silent\n") {
			t.Errorf("%s is not tested to speak and to be silent", name)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(books, -1) {
		if !named[m[1]] {
			t.Errorf("the runbook %s is of no alert", m[1])
		}
		delete(named, m[1])
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		t.Errorf("%s has no runbook", name)
	}
}

// What the pages and units of examples/deploy tell people to type exists.
func TestEveryCommandThatTheDeploymentsNameExists(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(filepath.Join(repository(t), "examples", "deploy"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range regexp.MustCompile("(?:`|/usr/bin/|\\$ )dragoman((?: +[a-z][a-z-]*)+)((?: +--?[a-z-]+(?:[= ][^-` \n][^` \n]*)?)*)").FindAllStringSubmatch(string(raw), -1) {
			if strings.HasPrefix(strings.TrimSpace(m[1]), "is ") {
				continue
			}
			root := program{}.root()
			cmd, rest, err := root.Find(strings.Fields(m[1]))
			if err != nil || cmd == root {
				t.Errorf("%s: there is no `dragoman%s`", path, m[1])
				continue
			}
			seen++
			flags := strings.Fields(m[2])
			if err := cmd.ParseFlags(append(rest, flags...)); err != nil {
				t.Errorf("%s: `dragoman%s%s`: %v", path, m[1], m[2], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 5 {
		t.Errorf("%d commands were found: the test looks at nothing", seen)
	}
}

// The units are held against Debian 12's systemd. Verify exits with 0 whatever it says.
func TestTheUnitsAreHardenedAndSystemdHasNothingToSayOfThem(t *testing.T) {
	t.Parallel()
	property.WithoutRace(t)
	analyze := debian(t, "systemd-analyze", "systemd")
	dir := t.TempDir()
	for _, name := range []string{"dragoman.service", "dragoman.socket"} {
		unit := strings.ReplaceAll(deployed(t, "systemd/"+name), "/usr/bin/dragoman", filepath.Join(programs, "dragoman"))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	service, socket := filepath.Join(dir, "dragoman.service"), filepath.Join(dir, "dragoman.socket")
	if out, err := exec.Command(analyze, "verify", "--man=no", service, socket).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// 15 is an exposure of 1.5.
	if out, err := exec.Command(analyze, "security", "--offline=yes", "--threshold=15", service).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	for name, want := range map[string]string{"dragoman.service": "Type=notify\n", "dragoman.socket": "FileDescriptorName=public\n"} {
		if !strings.Contains(deployed(t, "systemd/"+name), want) {
			t.Errorf("%s does not say %s", name, want)
		}
	}
}
