package gateway

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheDrillSendsATextThroughEveryFallback(t *testing.T) {
	s, dead := simulate(t, "--engine", "pseudo"), simulate(t)
	dead.signal(15)
	dead.wait()
	file := write(t, fmt.Sprintf(`version: 1
providers:
  first: {type: openai, base_url: %q, api_key: x}
  second: {type: openai, base_url: %q, api_key: x}
  third: {type: plugin, command: [%q], config_from: first}
  unused: {type: openai, base_url: "http://127.0.0.1:1/v1", api_key: x}
stages:
  - cache
  - provider: {use: first, fallback: [second, third]}
`, s.base, dead.base, filepath.Join(programs, "openai-direct")))
	out, errs, status := command(t, "", nil, "", "check", "--live", "-c", file)
	lines := strings.Split(out, "\n")
	if status != 1 || len(lines) < 5 {
		t.Fatalf("status %d\n%s%s", status, out, errs)
	}
	const said = "en -> es: [es] Good morning. The new car is very fast."
	for i, want := range []string{"first", "second", "third"} {
		line := lines[i+1]
		if f := strings.Fields(line); len(f) < 2 || f[0] != want || (f[1] == "ok") != (want != "second") || strings.Contains(line, said) != (want != "second") {
			t.Errorf("line %d: %q", i+1, line)
		}
	}
	if lines[4] != "providers that do not translate: 1" || strings.Contains(out, "unused") {
		t.Error(out)
	}
	if n, _ := s.asked(); n != 2 {
		t.Errorf("%d texts were sent, want one for each provider that lives", n)
	}
	if _, errs, status := commandHere(t, "", nil, "", "check", "--live", "--offline", "-c", file); status != 2 || !strings.Contains(errs, "--live asks every provider") {
		t.Errorf("status %d: %s", status, errs)
	}
}
