package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/plugins/apertium/engine"
)

// built builds programs of this repository and returns their folder.
func built(t *testing.T, packages ...string) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", append([]string{"build", "-o", dir + "/"}, packages...)...)
	build.Dir = repository(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// TestTheShippedPluginsPassTheKit runs it on every plugin of the repository.
func TestTheShippedPluginsPassTheKit(t *testing.T) {
	s := simulate(t, "--engine", "pseudo")
	dir := built(t, "./plugins/apertium", "./examples/mask/mask-plugin")
	for name, args := range map[string][]string{
		"openai-direct": {"--config", `{"api_key": "x", "base_url": "` + s.base + `"}`, filepath.Join(programs, "openai-direct")},
		"mask":          {filepath.Join(dir, "mask-plugin")},
		"apertium":      {filepath.Join(dir, "apertium")},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := engine.Find(); err != nil && name == "apertium" {
				t.Skip("not tested: ", err)
			}
			out, errs, status := command(t, t.TempDir(), nil, "", append([]string{"plugin", "verify"}, args...)...)
			if status != 0 || errs != "" || !strings.Contains(out, "15 passed, 0 failed") {
				t.Errorf("status %d\n%s%s", status, out, errs)
			}
		})
	}
}

func TestVerifySaysWhatIsWrongAndWhatToDo(t *testing.T) {
	out, errs, status := command(t, t.TempDir(), nil, "", "plugin", "verify", filepath.Join(programs, "openai-direct"))
	if status != 1 || errs != "" || !strings.Contains(out, "FAIL  configure") || !strings.Contains(out, "api_key") || !strings.Contains(out, "give the one that it needs with --config") || !strings.Contains(out, "skip  texts") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	for _, wrong := range [][]string{
		{"plugin", "verify"}, {"plugin", "verify", "--config", "[]", "x"}, {"plugin", "verify", "--env", "DRAGOMAN_NO_SUCH", "x"},
		{"plugin", "verify", "--from", "Klingon!", "x"}, {"plugin", "nothing"},
	} {
		if out, errs, status := command(t, t.TempDir(), nil, "", wrong...); status != 2 || errs == "" {
			t.Errorf("%q: status %d\n%s%s", wrong, status, out, errs)
		}
	}
}
