package gateway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExplainDiffIsThePlanOfAReload(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(repository(t), "pipeline.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(repository(t), "examples"), filepath.Join(dir, "examples")); err != nil {
		t.Fatal(err)
	}
	diff := func(edits ...string) (out, errs string, status int) {
		for name, content := range map[string]string{"old.yaml": string(raw), "new.yaml": strings.NewReplacer(edits...).Replace(string(raw))} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return commandHere(t, dir, nil, "", "explain", "--diff", "old.yaml", "new.yaml")
	}
	out, errs, status := diff("ttl: 24h", "ttl: 1h", "max_concurrent: 6", "max_concurrent: 4", "mode: pooled", "mode: direct",
		"PROVIDER:-openai}", "PROVIDER:-openai-direct}", "  - postprocess\n", "", "deadline: 4500ms", "deadline: 3s")
	if status != 0 || errs != "" {
		t.Errorf("status %d\n%s", status, errs)
	}
	golden(t, "diff.txt", out)

	if out, _, status := diff("# Save, and", "# Do save, and"); status != 0 || out != "old.yaml and new.yaml say the same: a reload would carry everything over\n" {
		t.Errorf("a comment: status %d, %s", status, out)
	}
	out, errs, status = diff("listen: ${HOST:-127.0.0.1}:${PORT:-8080}", "listen: 127.0.0.1:9999")
	if status != 1 || !strings.Contains(out, "would refuse this") || errs != `new.yaml:9:11: server.listen: cannot change from "127.0.0.1:8080" to "127.0.0.1:9999" while the gateway runs; restart the gateway, or set it back`+"\n" {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	if _, errs, status := diff("max_concurrent: 6", "max_concurrent: 0"); status != 1 || !strings.HasPrefix(errs, "new.yaml:") {
		t.Errorf("a broken file: status %d\n%s", status, errs)
	}
	for _, args := range [][]string{{"explain", "--diff"}, {"explain", "--diff", "old.yaml"}, {"explain", "old.yaml"}} {
		if _, errs, status := commandHere(t, dir, nil, "", args...); status != 2 {
			t.Errorf("%q: status %d\n%s", args, status, errs)
		}
	}
}
