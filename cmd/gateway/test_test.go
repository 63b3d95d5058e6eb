package gateway

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// unreachable is an environment in which a provider that is called all the same
// fails, and would be seen to.
var unreachable = []string{"OPENAI_BASE_URL=http://127.0.0.1:1/v1"}

func TestTheShippedTestsPassWithoutKeyPluginOrNetwork(t *testing.T) {
	out, errs, status := commandHere(t, repository(t), unreachable, "", "test")
	if status != 0 || errs != "" || !regexp.MustCompile(`\npipeline_test\.yaml: 1\d passed, 0 failed, 0 skipped\n$`).MatchString(out) {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
}

// A test that passes whatever the chain is proves nothing.
func TestTheShippedTestsNoticeWhatAChangeBreaks(t *testing.T) {
	for set, broken := range map[string]string{
		"stages.postprocess.enabled=false":          "chatter and quotation marks are taken off",
		"stages.postprocess.skip=[think]":           "what a model thinks is not heard, not even in pieces",
		"stages.postprocess.skip=[finish]":          "an answer that was cut is asked for again",
		"stages.postprocess.skip=[script]":          "an answer in the wrong alphabet is no translation",
		"stages.postprocess.skip=[refusal]":         "who declines once is not asked again",
		"stages.protect.enabled=false":              "variables, tags and links go round the engine",
		"stages.cache.enabled=false":                "the same text is answered from memory, white space aside",
		"stages.cache.preload=[]":                   "a phrase of examples/phrases.tsv needs no provider",
		"stages.provider.retries=0":                 "a server error is tried once more, and no more",
		"stages.provider.retries=2":                 "a server error is tried once more, and no more",
		"server.deadline=150ms":                     "a 429 that passes soon is waited for",
		"stages.provider.fallback=[openai-direct]":  "a 429 that outlasts the deadline is said at once, to the next request too",
		"stages.ratelimit.enabled=false":            "a 429 that outlasts the deadline is said at once, to the next request too",
		"stages.provider.breaker={failures: 0}":     "a provider that keeps failing is left alone",
		"stages.provider={use: apertium}":           "a clean answer passes as it is",
		"providers.openai-direct.command=[bin/no]":  "", // no provider is started
		"providers.openai.base_url=http://[::1]:9/": "", // or called
	} {
		t.Run(set, func(t *testing.T) {
			out, errs, status := commandHere(t, repository(t), unreachable, "", "test", "--set", set, "--run", "^"+regexp.QuoteMeta(broken))
			if broken == "" {
				if status != 0 {
					t.Errorf("status %d\n%s%s", status, out, errs)
				}
				return
			}
			if status != 1 || !strings.Contains(out, "FAIL  "+broken+"\n") {
				t.Errorf("status %d, and %q did not fail:\n%s%s", status, broken, out, errs)
			}
		})
	}
}

// tested writes a configuration like the shipped one, with testdata/test/name
// as its tests, and returns its folder.
func tested(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	for from, to := range map[string]string{
		filepath.Join(repository(t), "pipeline.yaml"):        "pipeline.yaml",
		filepath.Join(repository(t), "examples/phrases.tsv"): "examples/phrases.tsv",
		filepath.Join("testdata", "test", name+"_test.yaml"): "pipeline_test.yaml",
		filepath.Join("testdata", "test", "mask_test.yaml"):  "mask_test.yaml",
		filepath.Join("testdata", "test", "mask.yaml"):       "mask.yaml",
	} {
		raw, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to = filepath.Join(dir, to)
		os.MkdirAll(filepath.Dir(to), 0o755)
		if err := os.WriteFile(to, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestATestThatFailsSaysWhatWasExpectedAndWhatCame(t *testing.T) {
	out, errs, status := commandHere(t, tested(t, "failures"), nil, "", "test", "--limit", "3s")
	if status != 1 {
		t.Errorf("status %d", status)
	}
	golden(t, "test/failures.txt", out+errs)
}

func TestVerboseTellsWhatCame(t *testing.T) {
	out, _, status := commandHere(t, tested(t, "failures"), nil, "", "test", "-v", "--run", "wait|overtakes|called|third")
	if status != 1 {
		t.Errorf("status %d", status)
	}
	golden(t, "test/verbose.txt", regexp.MustCompile(`\([0-9.]+m?s\)`).ReplaceAllString(out, "(time)"))
}

func TestEveryMistakeInTestsIsSaidWithItsPlace(t *testing.T) {
	out, errs, status := commandHere(t, tested(t, "mistakes"), nil, "", "test")
	if status != 1 || out != "" {
		t.Errorf("status %d, output %q", status, out)
	}
	golden(t, "test/mistakes.txt", errs)
}

func TestWhatToTestIsSaidOrRefused(t *testing.T) {
	dir := tested(t, "failures")
	os.WriteFile(filepath.Join(dir, "empty_test.yaml"), nil, 0o600)
	os.WriteFile(filepath.Join(dir, "none_test.yaml"), []byte("version: 1\ntests: []\n"), 0o600)
	os.WriteFile(filepath.Join(dir, "good_test.yaml"), []byte("tests: [{name: one, request: {text: Hello, source: en, target: es}, expect: {text: Hola}}]\n"), 0o600)
	os.WriteFile(filepath.Join(dir, "broken.yaml"), []byte("stages: [cache]\n"), 0o600)
	for _, c := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"a file beside no configuration", []string{"good_test.yaml"}, 1, "good.yaml: there is no such file; name a file with --config FILE\n"},
		{"with another's", []string{"-c", "pipeline.yaml", "good_test.yaml"}, 0, "ok    one\ngood_test.yaml: 1 passed, 0 failed, 0 skipped\n"},
		{"several files", []string{"-c", "pipeline.yaml", "good_test.yaml", "empty_test.yaml", "none_test.yaml", "no_test.yaml"}, 1, "ok    one\ngood_test.yaml: 1 passed, 0 failed, 0 skipped\n" +
			"empty_test.yaml:1:1: the file is empty; it needs at least `tests:`\n" +
			"none_test.yaml:2:8: tests: must not be empty\n" +
			"no_test.yaml: there is no such file; write one beside the configuration, or name the tests: dragoman test FILE\n"},
		{"a configuration without tests", []string{"-c", "broken.yaml"}, 1, "broken.yaml:1:1: stages: the chain has no end; add the stage that calls a provider: `- provider: {...}`\n"},
		{"a configuration in the place of tests", []string{"pipeline.yaml"}, 2, "pipeline.yaml is no file of tests, by its name; name one that ends in _test.yaml, or with --config the configuration that it tests\n"},
		{"a pattern that matches none", []string{"--run", "nothing like that"}, 1, "no test has a name that matches \"nothing like that\"; `dragoman test -v` lists all\n"},
		{"a pattern that is none", []string{"--run", "["}, 2, "--run: error parsing regexp: missing closing ]: `[`\n"},
		{"no time", []string{"--limit", "0s"}, 2, "--limit: must be more than 0, got 0s\n"},
		{"one by its name", []string{"--run", "^a hedge"}, 0, "ok    a hedge overtakes\npipeline_test.yaml: 1 passed, 0 failed, 0 skipped\n"},
	} {
		out, errs, status := commandHere(t, dir, nil, "", append([]string{"test"}, c.args...)...)
		if status != c.status || out+errs != c.want {
			t.Errorf("%s: status %d, want %d\n%s%swant\n%s", c.name, status, c.status, out, errs, c.want)
		}
	}
}

// The stage is started for real: what it hides no provider sees.
func TestAStageThatIsAPluginIsTestedToo(t *testing.T) {
	property.WithoutRace(t)
	t.Parallel()
	dir := tested(t, "failures")
	do(t, os.Link(filepath.Join(programs, "mask-plugin"), filepath.Join(dir, "mask-plugin")))
	out, errs, status := command(t, dir, nil, "", "test", "mask_test.yaml")
	if status != 0 || errs != "" {
		t.Errorf("status %d\n%s", status, errs)
	}
	golden(t, "test/mask.txt", out)

	os.Remove(filepath.Join(dir, "mask-plugin"))
	out, errs, status = command(t, dir, nil, "", "test", "--no-plugins", "mask_test.yaml")
	if status != 0 || errs != "" {
		t.Errorf("status %d\n%s", status, errs)
	}
	golden(t, "test/mask_without.txt", out)

	out, _, status = command(t, dir, nil, "", "test", "--run", "hides", "mask_test.yaml")
	if status != 1 || !strings.Contains(out, "want a chain that starts\n        got  mask.yaml:6:36: ") {
		t.Errorf("without its program: status %d\n%s", status, out)
	}
}
