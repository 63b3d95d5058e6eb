package verify

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/executable"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/plugins/plugintest"
	"github.com/dragoman-mt/dragoman/plugins/sdk"
)

// TestMain is also the main of plugins: one of the SDK, and one by hand, whole
// or broken in one way.
func TestMain(m *testing.M) {
	switch os.Getenv("DRAGOMAN_TEST_PLUGIN") {
	case "":
	case "sdk":
		sdk.Serve(echo(), pass())
	case "demanding":
		sdk.Serve(demanding(), demandingToo())
	default:
		byHand(os.Getenv("DRAGOMAN_TEST_PLUGIN"))
	}
	plugintest.Main(m, &twin)
}

// twin is this program without the race detector.
var twin string

type echoConfig struct {
	Prefix string `json:"prefix" jsonschema:"maxLength=8"`
}

type echoing struct{ prefix string }

func (e echoing) Translate(_ context.Context, req *core.Request) (*core.Result, error) {
	return &core.Result{Text: e.prefix + req.Text}, nil
}

func echo() core.Kind {
	return core.NewKind("echo", core.RoleProvider, "Answers with the text.", func() echoConfig { return echoConfig{Prefix: "es:"} },
		func(_ core.Env, cfg *echoConfig) (any, error) { return echoing{cfg.Prefix}, nil })
}

type passing struct{}

func (passing) Before(context.Context, *core.Request) (core.Verdict, error) {
	return core.Verdict{}, nil
}

func (passing) After(_ context.Context, _ *core.Request, res *core.Result, _ []byte) (*core.Result, error) {
	return res, nil
}

func pass() core.Kind {
	return core.NewKind("pass", core.RoleStage, "Changes nothing.", func() struct{} { return struct{}{} }, func(core.Env, *struct{}) (any, error) { return passing{}, nil })
}

type demandingConfig struct {
	APIKey core.Secret `json:"api_key" jsonschema:"required,maxLength=20"`
	Model  string      `json:"model" jsonschema:"required"`
	Tries  int         `json:"tries" jsonschema:"required"`
}

func demanding() core.Kind {
	return core.NewKind("demanding", core.RoleProvider, "Wants to be told.", func() demandingConfig { return demandingConfig{} },
		func(core.Env, *demandingConfig) (any, error) { return echoing{"es:"}, nil })
}

type demandingStage struct {
	Names []string `json:"names" jsonschema:"required"`
}

func demandingToo() core.Kind {
	return core.NewKind("demanding-too", core.RoleStage, "Wants to be told.", func() demandingStage { return demandingStage{} },
		func(core.Env, *demandingStage) (any, error) { return passing{}, nil })
}

// TestRequiredKeysThatAreMissingAreNamedAndSoIsWhatGivesThem looks at a plugin whose SDK leaves that to the gateway.
func TestRequiredKeysThatAreMissingAreNamedAndSoIsWhatGivesThem(t *testing.T) {
	property.WithoutRace(t)
	for config, want := range map[string]string{
		"": `that api_key and model and tries and names must be there, and the gateway would refuse a file without: give what is missing with --config, such as --config '{"api_key":"...","model":"...","names":[],"tries":1}'`,
		`{"api_key": "hush", "names": ["x"], "tries": 2}`:                                   `that model must be there`,
		`{"api_key": "hush", "names": ["x"], "tries": 2, "model": 7}`:                       "see model, and the schema's type",
		`{"api_key": "hush, this is a long one", "names": ["x"], "tries": 2, "model": "m"}`: "see api_key, and the schema's maxLength",
		`{"api_key": "hush", "names": ["x"], "tries": 2, "model": "m", "modle": "hush"}`:    "see modle, and the schema's list of keys",
		`{"api_key": "hush", "names": ["x"], "tries": 2, "model": "m"}`:                     "",
	} {
		o := self(t, "demanding")
		if config != "" {
			o.Config = []byte(config)
		}
		way := slices.DeleteFunc(checks(), func(c check) bool { return c.gives == nothing && c.name != "configure" && c.name != "texts" })
		all := results(t, o, way)
		r := all["configure"]
		if r.Failed != (want != "") || !strings.Contains(r.Detail, want) || strings.Contains(r.Detail, "hush") {
			t.Errorf("%s: %+v", config, r)
		}
		if r := all["texts"]; r.Skipped != (want != "") || r.Failed {
			t.Errorf("%s: %+v", config, r)
		}
	}
}

// self is this program as a plugin.
func self(t *testing.T, plugin string) Options {
	t.Helper()
	// The environment is empty where a check wants it to be, so the name of the
	// program tells.
	folder := t.TempDir()
	script := filepath.Join(folder, "plugin")
	line := "#!/bin/sh\nDRAGOMAN_TEST_PLUGIN='" + plugin + "' DRAGOMAN_TEST_FOLDER='" + folder + "' exec '" + twin + "'\n"
	executable.Write(t, script, line)
	return Options{Command: []string{script}}
}

func results(t *testing.T, o Options, checks []check) map[string]Result {
	t.Helper()
	all := map[string]Result{}
	failures := 0
	failed, err := run(t.Context(), o, checks, func(r Result) {
		all[r.Name] = r
		if r.Failed {
			failures++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if failed != failures || len(all) != len(checks) {
		t.Errorf("%d failed and %d reports of %d checks, %d of them failures", failed, len(all), len(checks), failures)
	}
	return all
}

func TestAGoodPluginPassesEveryCheck(t *testing.T) {
	for _, name := range []string{"sdk", "whole"} {
		t.Run(name, func(t *testing.T) {
			for _, r := range results(t, self(t, name), checks()) {
				if r.Failed || r.Skipped {
					t.Errorf("%s: %s", r.Name, r.Detail)
				}
			}
		})
	}
}

// TestEachCheckFailsForWhatItIsThere breaks a plugin in one way each time.
func TestEachCheckFailsForWhatItIsThere(t *testing.T) {
	property.WithoutRace(t) // all of the checks run under it above
	broken := []struct{ plugin, check, says string }{
		{"ends", "handshake", "ended without a handshake, exit status 3; its last lines: no model here"},
		{"slow", "handshake", "the gateway waits 5s"},
		{"another protocol", "handshake", `version "7"`},
		{"on tcp", "handshake", "listen on a Unix socket"},
		{"socket elsewhere", "handshake", "PLUGIN_UNIX_SOCKET_DIR"},
		{"netrpc", "handshake", "the protocol is grpc"},
		{"long noise", "stdout", "before the handshake"},
		{"noise", "stdout", `it printed "loading" before the handshake`},
		{"no parts", "describe", "names no part"},
		{"two providers", "describe", "two parts of role provider"},
		{"protocol 2", "describe", "Describe says protocol 2"},
		{"no schema", "describe", "config_schema"},
		{"no hooks", "describe", "neither Before nor After"},
		{"wants environment", "describe", "Describe: the program ended"},
		{"no health", "health", "grpc.health.v1.Health"},
		{"long name", "describe", "more than 100 printable characters"},
		{"answers some strangers", "health", "answers others: refuse all"},
		{"hangs on health", "health", "Health with an empty id failed with DeadlineExceeded"},
		{"waits by hand", "started by hand", "say what the program is, and end"},
		{"silent by hand", "started by hand", "it says nothing"},
		{"refuses", "configure", "refuses its configuration: key: is missing"},
		{"strange languages", "configure", "BCP-47"},
		{"takes anything", "bad configuration", "no JSON"},
		{"trusts the schema", "bad configuration", "which its schema does not allow"},
		{"names no key", "bad configuration", `put "prefix" into the field`},
		{"dies of a mistake", "bad configuration", "the program ended, exit status 4"},
		{"one instance", "instances", "a second instance of the provider"},
		{"anybody", "instances", "NOT_FOUND"},
		{"releases all", "instances", "after another instance was released"},
		{"no Answer", "texts", "Answer failed with Unimplemented: method Answer not implemented: serve it"},
		{"answers with a delta", "texts", "Answer gave a delta"},
		{"answers with nothing", "texts", "neither a delta, a result nor an error"},
		{"many flags", "texts", "more than is taken: the answer has 17 flags"},
		{"blank", "texts", "Answer answered with a blank text"},
		{"blank stream", "texts", "Translate answered with a blank text"},
		{"no result", "texts", "ended without a result"},
		{"two results", "texts", "went on after the result"},
		{"wrong index", "texts", "from 0"},
		{"status", "texts", "Answer failed with Internal: boom"},
		{"own kind", "texts", `kind "oops"`},
		{"cannot", "texts", "--from and --to"},
		{"one at a time", "texts", "of 32 at once not all"},
		{"much state", "texts", "65537 bytes"},
		{"loses the text", "texts", "into one without a text"},
		{"silent after", "texts", "After gave neither"},
		{"4 MB", "long texts", "8 MiB"},
		{"dies of 16 MiB", "long texts", "after a message of 16 MiB"},
		{"never free", "cancel", "after 32 calls that were canceled"},
		{"works on", "cancel", "Release"},
		{"lock file", "crash", "do not rely on what a process before has left"},
		{"remembers", "crash", "belongs into the state"},
		{"obeys SIGTERM", "sigterm", "ignore it while the parent lives"},
		{"no shutdown", "double shutdown", "serve plugin.GRPCController"},
		{"ignores shutdown", "double shutdown", "Shutdown was answered: it goes on"},
		{"dies of the second", "double shutdown", "the second call is no mistake"},
		{"stays", "host death", "it goes on 3s later"},
		{"leaves a child", "host death", "that it started goes on"},
	}
	seen := map[string]bool{}
	for _, b := range broken {
		seen[b.check] = true
	}
	for _, c := range checks() {
		if !seen[c.name] {
			t.Errorf("no plugin fails the check %q", c.name)
		}
	}
	for _, b := range broken {
		t.Run(b.plugin, func(t *testing.T) {
			t.Parallel()
			way := slices.DeleteFunc(checks(), func(c check) bool { return c.gives == nothing && c.name != b.check })
			all := results(t, self(t, b.plugin), way)
			if r := all[b.check]; !r.Failed || !strings.Contains(r.Detail, b.says) {
				t.Errorf("%s: %+v, want a failure that says %q", b.check, r, b.says)
			}
			for _, r := range all {
				if r.Failed && r.Name != b.check {
					t.Errorf("%s: %s", r.Name, r.Detail)
				}
			}
		})
	}
}

func TestWhatCannotBeLookedAtIsSkipped(t *testing.T) {
	all := results(t, self(t, "no parts"), checks())
	if r := all["texts"]; !r.Skipped || !strings.Contains(r.Detail, "since describe failed") {
		t.Errorf("%+v", r)
	}
	if r := results(t, Options{Command: []string{"/there/is/no/such"}}, checks())["handshake"]; !r.Failed || !strings.Contains(r.Detail, "no such file") {
		t.Errorf("%+v", r)
	}
}

// TestWhoHasLeftTheGroupIsNotWaitedFor begins a plugin that starts a process
// which nobody can find, and which holds the plugin's output open.
func TestWhoHasLeftTheGroupIsNotWaitedFor(t *testing.T) {
	o := self(t, "daemon")
	if r := results(t, o, checks()[:1])["handshake"]; r.Failed {
		t.Error(r.Detail)
	}
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(o.Command[0]), "daemon"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("the process was waited for, or never was there: %v", err)
	}
}

func TestItEndsWhenItIsToldTo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Run(ctx, self(t, "sdk"), func(Result) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestThereIsSomethingToLookAt(t *testing.T) {
	if _, err := Run(t.Context(), Options{}, func(Result) {}); err == nil {
		t.Error("no command passes")
	}
}

// TestAProgramThatIsBeingWrittenIsToldToBeMovedIntoPlace holds a program open for
// writing, as a copy over it does.
func TestAProgramThatIsBeingWrittenIsToldToBeMovedIntoPlace(t *testing.T) {
	program := filepath.Join(t.TempDir(), "plugin")
	executable.Write(t, program, "#!/bin/sh\n")
	held, err := os.OpenFile(program, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := exec.Command(program).Run(); !errors.Is(err, syscall.ETXTBSY) {
		t.Skipf("not tested: this system starts a program that is being written: %v", err)
	}
	r := results(t, Options{Command: []string{program}}, checks()[:1])["handshake"]
	if !r.Failed || !strings.Contains(r.Detail, "text file busy") || !strings.Contains(r.Detail, "move it into place (mv), then reload") {
		t.Errorf("%+v", r)
	}
}
