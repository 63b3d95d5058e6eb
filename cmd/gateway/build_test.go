package gateway

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shout is a module of somebody's own with a stage of one key, in a folder outside
// the repository.
func shout(t *testing.T, name, kinds string) string {
	t.Helper()
	dir := t.TempDir()
	for file, content := range map[string]string{
		"go.mod": "module example.com/shout\n\ngo 1.26.0\n",
		"shout.go": fmt.Sprintf(`// Package shout is a stage that raises its voice.
package shout

import (
	"context"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
)

// %[2]s are what a gateway links.
%[2]s {
	return []core.Kind{core.NewKind(%[1]q, core.RoleStage, "Ends an answer with marks.", func() config { return config{Marks: 1} }, build)}
}

type config struct {
	Marks int `+"`json:\"marks\" jsonschema_description:\"How many exclamation marks an answer ends with.\"`"+`
}

func build(_ core.Env, c *config) (any, error) {
	if c.Marks > 3 {
		return nil, &core.Error{Kind: core.InvalidRequest, Field: "marks", Detail: "must be at most 3, nobody is deaf"}
	}
	return stage{c.Marks}, nil
}

type stage struct{ marks int }

func (s stage) Wrap(next core.Translator) core.Translator {
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		res, err := next.Translate(ctx, req)
		if err != nil {
			return nil, err
		}
		louder := *res
		louder.Text += strings.Repeat("!", s.marks)
		return &louder, nil
	})
}
`, name, kinds),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// undebuggable is the variable with which go links what nobody looks into: that takes a quarter less.
func undebuggable() string { return "GOFLAGS=" + os.Getenv("GOFLAGS") + " -ldflags=-s" }

const wantKinds = "func Kinds() []core.Kind"

func TestAGatewayIsBuiltWithAStageFromOutsideTheRepository(t *testing.T) {
	t.Parallel() // it waits for the compiler
	s := simulate(t, "--engine", "pseudo")
	dir, ours := t.TempDir(), "--with=github.com/dragoman-mt/dragoman="+repository(t)
	if out, errs, status := command(t, dir, []string{undebuggable()}, "", "build", ours, "--with", "github.com/dragoman-mt/dragoman/examples/mask", "--with", "example.com/shout="+shout(t, "shout", wantKinds), "--output", "gateway"); status != 0 {
		t.Fatalf("status %d: %s%s", status, out, errs)
	}
	program := filepath.Join(dir, "gateway")
	run := func(args ...string) string {
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.Env = dir, clean(os.Environ())
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	if err := os.WriteFile(filepath.Join(dir, "pipeline.yaml"), []byte(`version: 1
providers:
  openai: {type: openai, base_url: "`+s.base+`", api_key: x}
stages:
  - mask
  - shout: {marks: 2}
  - provider: {use: openai}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	for said, args := range map[string][]string{
		"linked besides: mask, shout":                    {"version"},
		"stages.shout.marks ":                            {"explain"},
		"pipeline.yaml is fine":                          {"check"},
		"How many exclamation":                           {"schema"},
		"[es] Good morning. The new car is very fast.!!": {"translate", "--to", "es", "text"},
	} {
		if args[0] == "translate" {
			if err := os.WriteFile(filepath.Join(dir, "text"), []byte("Good morning. The new car is very fast.\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out := run(args...); !strings.Contains(out, said) {
			t.Errorf("%v does not say %q:\n%s", args, said, out)
		}
	}
	wrong := filepath.Join(dir, "wrong.yaml")
	raw, err := os.ReadFile(filepath.Join(dir, "pipeline.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(wrong, []byte(strings.Replace(string(raw), "marks: 2", "marks: 4", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, want := run("check", "--config", wrong), "wrong.yaml:6:20: stages[1].shout.marks: must be at most 3, nobody is deaf"; !strings.Contains(out, want) {
		t.Errorf("want %q, got %q", want, out)
	}
	g := &gatewayProcess{process: start(t, dir, nil, program, "serve", "--set", "server.listen=127.0.0.1:0")}
	g.ready()
	if got := g.ask("Mind the gap, ann@example.com").text(t); got != "[es] Mind the gap, ann@example.com!!" {
		t.Errorf("it serves %q", got)
	}
}

func TestWhatCannotBeLinkedIsToldInOneLine(t *testing.T) {
	t.Parallel()
	ours := "--with=github.com/dragoman-mt/dragoman=" + repository(t)
	for name, c := range map[string]struct {
		env  []string
		args []string
		says string
		code int
	}{
		"no go": {[]string{"PATH=/nowhere"}, []string{ours, "--with", "example.com/x"}, "there is no go in PATH", 1},
		"no network": {[]string{"GOPROXY=https://127.0.0.1:9", "GONOSUMDB=*"}, []string{ours, "--with", "example.com/nowhere@v1.0.0"},
			"example.com/nowhere@v1.0.0 cannot be had", 1},
		"no Kinds":     {nil, []string{ours, "--with", "github.com/dragoman-mt/dragoman/core"}, "exports no Kinds", 1},
		"other Kinds":  {nil, []string{ours, "--with", "example.com/shout=" + shout(t, "shout", "func Kinds(int) []core.Kind")}, "its Kinds must be", 1},
		"a taken name": {nil, []string{ours, "--with", "example.com/shout=" + shout(t, "cache", wantKinds)}, `the linked stage "cache" has a name that is taken`, 1},
		"another one":  {nil, []string{ours, "--with", "example.com/other=" + shout(t, "shout", wantKinds)}, "is example.com/shout", 1},
		"no network, and no version": {[]string{"GOPROXY=https://127.0.0.1:9", "GONOSUMDB=*"}, []string{ours, "--with", "example.com/nowhere"},
			"connect to the network, or name a folder with MODULE=FOLDER", 1},
		"no Go file":    {nil, []string{ours, "--with", "example.com/shout/deeper=" + shout(t, "shout", wantKinds)}, "there is no Go file in /", 1},
		"no Go":         {nil, []string{ours, "--with", "example.com/shout=" + shout(t, "shout", "func Kinds() []core.Kind = 5; func other()")}, "/shout.go:", 1},
		"no folder":     {nil, []string{ours, "--with", "example.com/x=/no/such/folder"}, "/no/such/folder", 1},
		"no sources":    {nil, []string{"--with=github.com/dragoman-mt/dragoman=/", "--with", "example.com/x"}, "no sources of Dragoman", 1},
		"nothing":       {nil, nil, "--with", 2},
		"no path":       {nil, []string{"--with", "a b"}, "import path", 2},
		"twice":         {nil, []string{"--with", "example.com/x", "--with", "example.com/x"}, "twice", 2},
		"to a folder":   {nil, []string{ours, "--with", "example.com/x", "--output", t.TempDir()}, "is a folder", 1},
		"which version": {nil, []string{"--with", "example.com/x@"}, "version", 2},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			out, errs, status := command(t, dir, append(c.env, undebuggable()), "", append([]string{"build"}, c.args...)...)
			if status != c.code || !strings.Contains(errs, c.says) || strings.Count(errs, "\n") != 1 || out != "" {
				t.Errorf("status %d, want %d and %q:\n%s%s", status, c.code, c.says, out, errs)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("it leaves %v", left)
			}
		})
	}
}
