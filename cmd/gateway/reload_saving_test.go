package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestHoweverTheFileIsSavedTheGatewayFollows saves pipeline.yaml in the ways of
// editors, of scripts, of Kubernetes and of people.
func TestHoweverTheFileIsSavedTheGatewayFollows(t *testing.T) {
	t.Parallel()
	s := simulate(t)
	yaml := func(n int) string {
		return strings.Replace(pipeline(s, "pooled", ""), "min_interval: 0s", fmt.Sprintf("min_interval: 0s, max_concurrent: %d", n), 1)
	}
	for name, c := range map[string]struct {
		prepare func(dir string, first string) // leaves dir/pipeline.yaml
		save    func(file, content string, g *gatewayProcess)
	}{
		"renamed over": {nil, func(file, content string, _ *gatewayProcess) {
			put(t, file+".swp", content)
			do(t, os.Rename(file+".swp", file))
		}},
		"written in place, in two parts": {nil, func(file, content string, _ *gatewayProcess) {
			f, err := os.Create(file)
			do(t, err)
			half := strings.Index(content, "stages:")
			for _, part := range []string{content[:half], content[half:]} {
				_, err := f.WriteString(part)
				do(t, err)
				do(t, f.Sync())
			}
			do(t, f.Close())
		}},
		"deleted, and returned": {nil, func(file, content string, g *gatewayProcess) {
			do(t, os.Remove(file))
			g.see(`the configuration cannot be read, what was loaded goes on`)
			put(t, file, content)
		}},
		"a ConfigMap": {func(dir, first string) {
			do(t, os.Mkdir(filepath.Join(dir, "..1"), 0o755))
			put(t, filepath.Join(dir, "..1", "pipeline.yaml"), first)
			do(t, os.Symlink("..1", filepath.Join(dir, "..data")))
			do(t, os.Symlink(filepath.Join("..data", "pipeline.yaml"), filepath.Join(dir, "pipeline.yaml")))
		}, func(file, content string, _ *gatewayProcess) {
			dir := filepath.Dir(file)
			do(t, os.Mkdir(filepath.Join(dir, "..2"), 0o755))
			put(t, filepath.Join(dir, "..2", "pipeline.yaml"), content)
			do(t, os.Symlink("..2", filepath.Join(dir, "..new")))
			do(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
			do(t, os.RemoveAll(filepath.Join(dir, "..1")))
		}},
		"by SIGHUP at once": {nil, func(file, content string, g *gatewayProcess) {
			put(t, file, content)
			g.signal(syscall.SIGHUP)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "pipeline.yaml")
			if c.prepare == nil {
				put(t, file, yaml(5))
			} else {
				c.prepare(dir, yaml(5))
			}
			g := serveFile(t, file, nil)
			c.save(file, yaml(7), g)
			g.see(`reloaded generation 2 \(was 1\) in \S+: stages\.queue\.max_concurrent 5 -> 7`)
			if got := g.metric(`dragoman_queue_max_concurrent{stage="queue"}`); got != "7" {
				t.Errorf("the queue lets %s through", got)
			}
			if log := g.output(); strings.Contains(log, "refused") {
				t.Errorf("something half written was read:\n%s", log)
			}
		})
	}
}

func put(t *testing.T, file, content string) {
	t.Helper()
	do(t, os.WriteFile(file, []byte(content), 0o600))
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
