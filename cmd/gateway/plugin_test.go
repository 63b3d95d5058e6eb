package gateway

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dragoman-mt/dragoman/cmd/internal/binaries"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/plugins/apertium/engine"
	"github.com/dragoman-mt/dragoman/plugins/scaffold"
)

// needPython skips a test where the Python SDK's needs are not installed.
func needPython(t *testing.T) {
	t.Helper()
	property.WithoutRace(t)
	if out, err := exec.Command("/usr/bin/python3", "-c", "import google.protobuf, grpc").CombinedOutput(); err != nil {
		t.Skipf("not tested: /usr/bin/python3 has no grpcio (apt-get install python3-grpcio python3-protobuf): %v %s", err, out)
	}
}

// modules is what plugins in JavaScript need, fetched for the first that asks.
var modules struct {
	once sync.Once
	dir  string
	err  error
}

// needNode puts what a new plugin in dir needs beside it, and skips the test where that cannot be had.
func needNode(t *testing.T, dir string) {
	t.Helper()
	modules.once.Do(func() {
		modules.dir = filepath.Join(programs, "node")
		if modules.err = os.Mkdir(modules.dir, 0o700); modules.err != nil {
			return
		}
		manifest, err := os.ReadFile(filepath.Join(dir, "package.json"))
		if err == nil {
			err = os.WriteFile(filepath.Join(modules.dir, "package.json"), manifest, 0o600)
		}
		if modules.err = err; err != nil {
			return
		}
		install := exec.Command("npm", "install", "--prefer-offline", "--no-audit", "--no-fund", "--fetch-retries=0")
		install.Dir = modules.dir
		if out, err := install.CombinedOutput(); err != nil {
			modules.err = fmt.Errorf("%w %s", err, out)
		}
	})
	if modules.err != nil {
		t.Skipf("not tested: npm is not there (apt-get install nodejs npm), or cannot fetch gRPC from here: %v", modules.err)
	}
	if err := os.Symlink(filepath.Join(modules.dir, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
}

// TestTheShippedPluginsPassTheKit runs it on every plugin of the repository.
func TestTheShippedPluginsPassTheKit(t *testing.T) {
	t.Parallel()
	s := simulate(t, "--engine", "pseudo")
	for name, args := range map[string][]string{
		"openai-direct": {"--config", `{"api_key": "x", "base_url": "` + s.base + `"}`, filepath.Join(programs, "openai-direct")},
		"mask":          {filepath.Join(programs, "mask-plugin")},
		"apertium":      {filepath.Join(programs, "apertium")},
		"word-by-word":  {"/usr/bin/python3", "word_by_word.py"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			dir := t.TempDir()
			switch name {
			case "apertium":
				if _, err := engine.Find(); err != nil {
					t.Skip("not tested: ", err)
				}
			case "word-by-word":
				needPython(t)
				dir = filepath.Join(repository(t), "examples", name)
			}
			out, errs, status := command(t, dir, nil, "", append([]string{"plugin", "verify"}, args...)...)
			if status != 0 || errs != "" || !strings.Contains(out, "15 passed, 0 failed") {
				t.Errorf("status %d\n%s%s", status, out, errs)
			}
		})
	}
}

func TestVerifySaysWhatIsWrongAndWhatToDo(t *testing.T) {
	t.Parallel()
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

// TestANewPluginVerifiesAndRunsInAChain begins one of every sort, far from the
// checkout.
func TestANewPluginVerifiesAndRunsInAChain(t *testing.T) {
	t.Parallel()
	s := simulate(t, "--engine", "pseudo")
	for _, lang := range scaffold.Languages() {
		for _, role := range scaffold.Roles() {
			t.Run(lang+" "+role, func(t *testing.T) {
				t.Parallel()
				starts := []string{"./new-one"}
				if lang == "python" {
					starts = []string{"/usr/bin/python3", "new_one_plugin.py"}
					needPython(t)
				}
				if lang == "node" {
					starts = []string{"node", "new-one.js"}
				}
				dir := t.TempDir()
				out, errs, status := command(t, dir, nil, "", "plugin", "new", "--lang", lang, "--role", role, "--dragoman", repository(t), "new-one")
				if status != 0 || errs != "" || lang == "go" && !strings.Contains(out, "replace github.com/dragoman-mt/dragoman => ") {
					t.Fatalf("status %d\n%s%s", status, out, errs)
				}
				dir = filepath.Join(dir, "new-one")
				if lang == "go" {
					build := exec.Command("go", "build", "-o", ".", "./cmd/...")
					build.Dir, build.Env = dir, append(os.Environ(), "GOPROXY=off", "GOWORK=off", undebuggable())
					if out, err := build.CombinedOutput(); err != nil {
						t.Fatalf("%v\n%s", err, out)
					}
				}
				if lang == "node" {
					needNode(t, dir)
				}
				if out, errs, status := command(t, dir, nil, "", append([]string{"plugin", "verify"}, starts...)...); status != 0 {
					t.Errorf("status %d\n%s%s", status, out, errs)
				}
				env := []string{"OPENAI_BASE_URL=" + s.base, "OPENAI_API_KEY=x"}
				if out, errs, status := command(t, dir, env, "", "check"); status != 0 || strings.Contains(errs, "warning") {
					t.Errorf("status %d\n%s%s", status, out, errs)
				}
				out, errs, _ = command(t, dir, env, "The tram is late.\n", "translate", "--from", "en", "--to", "es")
				if out != "[es] The tram is late. (new-one)\n" {
					t.Errorf("%q\n%s", out, errs)
				}
			})
		}
	}
}

// TestThePageLeadsToAChainThatCallsANewStage runs the commands of
// plugins/README.md in an empty folder.
func TestThePageLeadsToAChainThatCallsANewStage(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(repository(t), "plugins", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(raw), "```")
	if len(parts) != 3 {
		t.Fatalf("the page has %d blocks, want one", len(parts)/2)
	}
	commands := strings.TrimSpace(parts[1])
	if n, lines := strings.Count(commands, "\n")+1, strings.Count(string(raw), "\n"); n > 6 || lines > 30 {
		t.Errorf("the page has %d commands and %d lines, want at most 6 and 30", n, lines)
	}
	s := simulate(t, "--engine", "pseudo")
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", commands)
	cmd.Dir = t.TempDir()
	// The program that make has built finds the checkout by where it stands, one built for the tests by its sources.
	path := strings.Join([]string{os.Getenv(binaries.Folder), programs, os.Getenv("PATH")}, ":")
	cmd.Env = append(clean(os.Environ()), "PATH="+strings.TrimPrefix(path, ":"), "OPENAI_BASE_URL="+s.base, "OPENAI_API_KEY=x", "GOPROXY=off", "GOWORK=off", undebuggable())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), " 0 failed") || !strings.HasSuffix(string(out), "\n[es] Good morning. (shout)\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestNewRefusesWhatItCannotWrite(t *testing.T) {
	for want, args := range map[string][]string{
		"--lang must be go or python":      {"--lang", "cobol", "--role", "stage", "x"},
		"--role must be provider or stage": {"x"},
		"needs one name":                   {"--role", "stage"},
		"cannot be the name":               {"--role", "stage", "--dragoman", repository(t), "X"},
		"name their folder":                {"--role", "stage", "--dragoman", "/", "x"},
	} {
		out, errs, status := commandHere(t, t.TempDir(), nil, "", append([]string{"plugin", "new"}, args...)...)
		if status == 0 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%q: status %d\n%s%s", args, status, out, errs)
		}
	}
}
