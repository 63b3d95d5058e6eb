package gateway

import (
	"path/filepath"
	"strings"
	"testing"
)

// unset has a variable wherever one may stand, and no other machine is asked for.
const unset = `version: 1
server: {listen: "LISTEN", keys: ["${DRAGOMAN_KEY}"]}
providers:
  a: {type: openai, api_key: "${A_KEY}", base_url: "${A_BASE}"}
  b: {type: plugin, command: ["${B_PROGRAM}"]}
stages:
  - cache: {preload: [PRELOAD]}
  - plugin: {command: ["${C_PROGRAM}"]}
  - provider: {use: "${USE}", fallback: [b]}
`

func TestCheckOfflinePassesWhatVariablesDecideAndRefusesWhatNoneCouldMend(t *testing.T) {
	for name, c := range map[string]struct{ listen, preload, want string }{
		"variables alone":   {"0.0.0.0:8080", "", ""},
		"every address":     {":8080", "", ""},
		"a port too high":   {"127.0.0.1:80801", "", "pipeline.yaml:2:18: server.listen: \"127.0.0.1:80801\" has no port that there is"},
		"a star":            {"*:8080", "", "pipeline.yaml:2:18: server.listen: \"*:8080\" is not an address; 0.0.0.0:8080 or :8080"},
		"no table":          {"127.0.0.1:0", "/nowhere/at/all.tsv", "pipeline.yaml:7:5: stages[0].cache: preload: open /nowhere/at/all.tsv"},
		"a table of no use": {"127.0.0.1:0", "pipeline.yaml", "stages[0].cache: preload: "},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, strings.NewReplacer("LISTEN", c.listen, "PRELOAD", c.preload).Replace(unset))
			out, errs, status := commandHere(t, filepath.Dir(file), nil, "", "check", "--offline")
			if want := map[bool]int{true: 0, false: 1}[c.want == ""]; status != want || !strings.Contains(errs, c.want) {
				t.Errorf("status %d, want %d and %q; output %q, errors:\n%s", status, want, c.want, out, errs)
			}
		})
	}
}
