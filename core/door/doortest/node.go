package doortest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Node runs a script of Node.js that may import packages ("deepl-node@1.27.0"), with
// env beside what it needs, and returns what it prints. The packages are installed once,
// in the user's cache. Without Node.js, npm or a registry the test is skipped.
func Node(t testing.TB, packages []string, script string, env ...string) string {
	t.Helper()
	folder := installed(t, packages)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	file := filepath.Join(folder, "test-"+filepath.Base(t.TempDir())+".mjs")
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file)
	run := exec.CommandContext(ctx, "node", file)
	run.Dir = folder
	run.Env = append(append(os.Environ(), "TMPDIR="+t.TempDir()), env...) // some clients leave files behind
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("the script: %v\n%s", err, out)
	}
	return string(out)
}

// installed returns a folder in which packages of npm are.
func installed(t testing.TB, packages []string) (folder string) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	folder = filepath.Join(cache, "dragoman-tests", strings.NewReplacer("/", "_", "@", "-").Replace(strings.Join(packages, "_")))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if _, err := os.Stat(filepath.Join(folder, "installed")); err != nil {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		install := exec.CommandContext(ctx, "npm", append([]string{"install", "--no-audit", "--no-fund", "--ignore-scripts"}, packages...)...)
		install.Dir = folder
		if out, err := install.CombinedOutput(); err != nil {
			t.Skipf("npm install %s: %v\n%s", strings.Join(packages, " "), err, out)
		}
		if err := os.WriteFile(filepath.Join(folder, "installed"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}
