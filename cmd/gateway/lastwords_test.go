package gateway

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAGatewayWithAJSONLogSaysNothingElseWhenItCannotServe(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("STATE_DIRECTORY", "")
	for name, c := range map[string]struct {
		file string
		args []string
		json bool
	}{
		"by the file":        {"version: 1\nlog: {format: json}\nstages: [nonsense]\n", nil, true},
		"broken further on":  {"version: 1\nlog: {format: json}\nserver: {listen: 7}\n", nil, true},
		"by --set":           {"version: 1\nstages: [nonsense]\n", []string{"--set", "log.format=json"}, true},
		"--set has it":       {"version: 1\nlog: {format: json}\nstages: [nonsense]\n", []string{"--set", "log.format=console"}, false},
		"not at all":         {"version: 1\nstages: [nonsense]\n", nil, false},
		"with --last-good":   {"version: 1\nlog: {format: json}\nstages: [nonsense]\n", []string{"--last-good"}, true},
		"no YAML whatsoever": {"log: [", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pipeline.yaml")
			if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			root := program{}.root()
			root.SetArgs(append([]string{"serve", "--config", file}, c.args...))
			root.SetErr(&said)
			err := root.ExecuteContext(t.Context())
			if err == nil {
				t.Fatal("it served")
			}
			if (err == errSaid) != c.json {
				t.Fatalf("%v, and on standard error %q", err, said.String())
			}
			if !c.json {
				return
			}
			lines := strings.Split(strings.TrimSpace(said.String()), "\n")
			for _, line := range lines {
				var l struct{ Level, Time, Msg string }
				if err := json.Unmarshal([]byte(line), &l); err != nil || l.Level != "error" || l.Time == "" || !strings.Contains(l.Msg, file) {
					t.Errorf("%v: %q", err, line)
				}
			}
		})
	}
}

func TestATemporaryFolderThatCannotBeWrittenToIsNamed(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	t.Setenv("TMPDIR", gone)
	err := temporary()
	if err == nil || strings.Contains(err.Error(), "\n") {
		t.Fatalf("%v", err)
	}
	want := "the temporary folder " + gone + " cannot be written to: no such file or directory; plugins need it for their sockets, so set TMPDIR to a folder that can"
	if err.Error() != want {
		t.Errorf("%s\nwant %s", err, want)
	}
	t.Setenv("TMPDIR", t.TempDir())
	if err := temporary(); err != nil {
		t.Error(err)
	}
}

// Check and serve alike, and a gateway without plugins serves all the same.
func TestWithoutATemporaryFolderAPluginSaysWhichAndTheRestServes(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	env := []string{"TMPDIR=" + gone}
	plugin := write(t, `version: 1
providers: {direct: {type: plugin, command: [`+filepath.Join(programs, "openai-direct")+`]}}
stages: [{provider: {use: direct}}]
`)
	_, errs, status := command(t, t.TempDir(), env, "", "check", "--config", plugin)
	if status != 1 || !strings.Contains(errs, "providers.direct") || !strings.Contains(errs, gone) || !strings.Contains(errs, "set TMPDIR to a folder that can be written to") {
		t.Errorf("check: status %d, errors:\n%s", status, errs)
	}
	serveFile(t, plugin, env).see("the temporary folder " + gone + " cannot be written to: no such file or directory")
	u := startRaw(t, false)
	serveYAML(t, u.config("", "{use: openai}"), env).ask("Good morning.").text(t)
}
