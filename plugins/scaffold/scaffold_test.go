//go:build !race

package scaffold

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func checkout(t *testing.T) string {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := Checkout("", "not/absolute", here)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestEveryPluginIsWholeAndNeedsNothingElse(t *testing.T) {
	for _, role := range Roles() {
		dir := filepath.Join(t.TempDir(), "my-thing")
		files, err := Write(dir, Plugin{Name: "my-thing", Lang: "go", Role: role, Checkout: checkout(t), Replace: checkout(t)})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(files)
		if got := strings.Join(files, " "); got != ".gitignore README.md cmd/my-thing/main.go go.mod go.sum pipeline.yaml plugin.go plugin_test.go" {
			t.Errorf("%s: %s", role, got)
		}
		// koanf reads the gateway's file: a plugin has none.
		if mod, err := os.ReadFile(filepath.Join(dir, "go.mod")); err != nil || strings.Contains(string(mod), "koanf") || !strings.Contains(string(mod), "\tgo.uber.org/zap ") {
			t.Errorf("%s: its go.mod holds what a plugin does not need, or lacks what it does: %v\n%s", role, err, mod)
		}
		for _, args := range [][]string{{"vet", "./..."}, {"test", "-vet=off", "./..."}} {
			cmd := exec.Command("go", args...)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOPROXY=off", "GOFLAGS="+os.Getenv("GOFLAGS")+" -mod=readonly", "GOWORK=off", "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: go %s: %v\n%s", role, args[0], err, out)
			}
		}
		if out, err := exec.Command("gofmt", "-l", dir).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: gofmt: %v %s", role, err, out)
		}
	}
}

func TestEveryPythonPluginPassesItsTest(t *testing.T) {
	const python = "/usr/bin/python3"
	if out, err := exec.Command(python, "-c", "import google.protobuf, grpc").CombinedOutput(); err != nil {
		t.Skipf("not tested: %s has no grpcio: %v %s", python, err, out)
	}
	for _, role := range Roles() {
		dir := filepath.Join(t.TempDir(), "json") // Python has a module of this name
		files, err := Write(dir, Plugin{Name: "json", Lang: "python", Role: role, Checkout: checkout(t)})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(files)
		if got := strings.Join(files, " "); got != ".gitignore README.md dragoman_plugin.binpb dragoman_plugin.py json_plugin.py pipeline.yaml test_json_plugin.py" {
			t.Errorf("%s: %s", role, got)
		}
		cmd := exec.Command(python, "-m", "unittest", "-v")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Ran 1 test") {
			t.Errorf("%s: %v\n%s", role, err, out)
		}
	}
}

func TestEveryNodePluginPassesItsTest(t *testing.T) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("not tested: %v (apt-get install nodejs npm)", err)
		}
	}
	modules, needs := "", "" // what the last one has fetched, and what for
	for _, role := range Roles() {
		dir := filepath.Join(t.TempDir(), "my-thing")
		files, err := Write(dir, Plugin{Name: "my-thing", Lang: "node", Role: role, Checkout: checkout(t)})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(files)
		if got := strings.Join(files, " "); got != ".gitignore README.md dragoman_plugin.js dragoman_plugin.proto my-thing.js my-thing.test.js package.json pipeline.yaml" {
			t.Errorf("%s: %s", role, got)
		}
		manifest, err := os.ReadFile(filepath.Join(dir, "package.json"))
		if err != nil {
			t.Fatal(err)
		}
		need := strings.Replace(string(manifest), "A "+role+" for", "", 1)
		if needs == need {
			if err := os.Rename(modules, filepath.Join(dir, "node_modules")); err != nil {
				t.Fatal(err)
			}
		} else {
			install := exec.Command("npm", "install", "--prefer-offline", "--no-audit", "--no-fund", "--fetch-retries=0")
			install.Dir = dir
			if out, err := install.CombinedOutput(); err != nil {
				t.Skipf("not tested: npm cannot fetch gRPC from here: %v\n%s", err, out)
			}
		}
		modules, needs = filepath.Join(dir, "node_modules"), need
		cmd := exec.Command("npm", "test")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "pass 1") {
			t.Errorf("%s: %v\n%s", role, err, out)
		}
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	if _, err := Write(dir, Plugin{Name: "x", Lang: "go", Role: "stage", Checkout: checkout(t)}); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v was written", left)
	}
}

func TestWhatCannotBeWrittenIsRefusedBeforeAnythingIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	for says, p := range map[string]Plugin{
		"cannot be the name":          {Name: "../x", Lang: "go", Role: "stage", Checkout: checkout(t)},
		"there is no plugin":          {Name: "x", Lang: "cobol", Role: "stage", Checkout: checkout(t)},
		"no such file":                {Name: "x", Lang: "go", Role: "stage", Checkout: t.TempDir()},
		"sdk/python/dragoman_plugin.": {Name: "x", Lang: "python", Role: "stage", Checkout: t.TempDir()},
	} {
		if _, err := Write(dir, p); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want %q", p, err, says)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%+v: a folder was made", p)
		}
	}
	if _, err := Checkout(t.TempDir()); err == nil || !strings.Contains(err.Error(), "--dragoman") {
		t.Errorf("%v", err)
	}
}
