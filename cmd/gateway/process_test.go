package gateway

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/cmd/internal/binaries"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// Most tests of this package drive the real programs as child processes, the
// gateway and openai-sim as the upstream: without the race detector. What works
// in this process is looked at with it.

// programs is the folder that TestMain built them into.
var programs string

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "sloth" {
		Main(lazyKind())
	}
	dir, err := os.MkdirTemp("", "dragoman-programs-")
	if err == nil {
		programs = dir
		// What gateways keep of their configurations is none of the user's.
		os.Unsetenv("STATE_DIRECTORY")
		os.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
		// What a test has built is built as make builds, or all of it would be compiled and linked anew.
		os.Setenv("CGO_ENABLED", "0")
		if !property.Raced {
			err = binaries.Into(dir, "cmd/dragoman", "cmd/openai-sim", "plugins/openai-direct", "plugins/apertium",
				"examples/mask/mask-plugin", "cmd/gateway/testdata/badplugin")
			var self string
			if err == nil {
				self, err = os.Executable()
			}
			if err == nil {
				err = os.Symlink(self, filepath.Join(dir, "sloth"))
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the programs:", err)
		os.Exit(1)
	}
	// What runs beside other tests here waits for programs most of the time.
	if flag.Parse(); flag.Lookup("test.parallel").Value.String() == flag.Lookup("test.parallel").DefValue {
		flag.Set("test.parallel", "4")
	}
	// What is never answered fails its test, and not, much later, all of them.
	http.DefaultClient.Timeout = patience
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// patience is how long a test waits for what comes at once, or never, on the
// busiest of machines.
const patience = 2 * time.Minute

// receive returns what comes out of a channel, the zero value when it is closed.
func receive[T any](t testing.TB, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatalf("waited for %v", patience)
	}
	return v
}

// patiently is the test's context, for so long.
func patiently(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// until waits for what comes soon, and of which no event tells.
func until(t testing.TB, there func() bool) {
	t.Helper()
	if !comes(there) {
		t.Fatalf("waited for %v", patience)
	}
}

// comes says whether what is waited for has come. What comes late is looked for less often: to
// tell its metrics takes a gateway as long as to translate a dozen texts.
func comes(there func() bool) bool {
	for began := time.Now(); !there(); {
		waited := time.Since(began)
		if waited > patience {
			return false
		}
		time.Sleep(min(max(waited/4, 5*time.Millisecond), 200*time.Millisecond))
	}
	return true
}

// repository is the top of the checkout.
func repository(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A process is a program that a test started. Its output is kept.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu   sync.Mutex
	out  bytes.Buffer // both streams
	more chan struct{}
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.Write(b)
	close(p.more)
	p.more = make(chan struct{})
	return len(b), nil
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// start runs a program until the test ends.
func start(t testing.TB, dir string, env []string, program string, args ...string) *process {
	t.Helper()
	return prepare(t, dir, env, program, args...).begin()
}

// prepare returns a program that does not run yet.
func prepare(t testing.TB, dir string, env []string, program string, args ...string) *process {
	t.Helper()
	property.WithoutRace(t)
	p := &process{t: t, done: make(chan struct{}), more: make(chan struct{})}
	p.cmd = exec.Command(program, args...)
	p.cmd.Dir = dir
	p.cmd.Env = append(clean(os.Environ()), env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return p
}

func (p *process) begin() *process {
	t := p.t
	t.Helper()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	program := filepath.Base(p.cmd.Path)
	go func() { defer close(p.done); p.cmd.Wait() }()
	t.Cleanup(func() {
		p.signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(20 * time.Second):
			syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
			<-p.done
			t.Errorf("%s did not end on SIGTERM:\n%s", program, p.output())
		}
		if strings.Contains(p.output(), "DATA RACE") || strings.Contains(p.output(), "panic:") {
			t.Errorf("%s:\n%s", program, p.output())
		}
	})
	return p
}

// clean drops what would reach a program from whoever runs the tests, and keeps
// what programs leave behind from reaching them.
func clean(env []string) []string {
	kept := slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(kv), "=")
		return name == "STATE_DIRECTORY" || strings.HasPrefix(name, "OPENAI_") || strings.HasPrefix(name, "OTEL_") || strings.HasPrefix(name, "DRAGOMAN_") || strings.HasPrefix(name, "MAKE") ||
			name == "MFLAGS" || name == "HTTP_PROXY" || name == "HTTPS_PROXY" || name == "ALL_PROXY"
	})
	return append(kept, "XDG_STATE_HOME="+filepath.Join(programs, "state"))
}

func (p *process) signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

// wait returns the exit status.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("still running:\n%s", p.output())
	}
	return p.cmd.ProcessState.ExitCode()
}

// see waits until the output matches and returns the first group.
func (p *process) see(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		found, more := re.FindStringSubmatch(p.out.String()), p.more
		p.mu.Unlock()
		if found != nil {
			return found[len(found)-1]
		}
		select {
		case <-more:
		case <-p.done:
			if found := re.FindStringSubmatch(p.output()); found != nil {
				return found[len(found)-1]
			}
			p.t.Fatalf("ended without %q:\n%s", pattern, p.output())
		case <-deadline:
			p.t.Fatalf("no %q in:\n%s", pattern, p.output())
		}
	}
}

// A simulator is a running openai-sim.
type simulator struct {
	*process
	base string // with /v1
	ca   string // file, with --tls
}

func simulate(t testing.TB, args ...string) *simulator {
	t.Helper()
	s := &simulator{}
	for _, a := range args {
		if a == "--tls" {
			s.ca = filepath.Join(t.TempDir(), "ca.pem")
			args = append(args, "--ca-out", s.ca)
		}
	}
	s.process = start(t, repository(t), nil, filepath.Join(programs, "openai-sim"), append([]string{"--listen", "127.0.0.1:0"}, args...)...)
	s.base = s.see(`(https?://127\.0\.0\.1:\d+/v1)`)
	return s
}

// asked is how many completions the simulator was asked for.
func (s *simulator) asked() (completions, connections int) {
	s.t.Helper()
	var stats map[string]any
	get(s.t, s.client(), strings.TrimSuffix(s.base, "/v1")+"/sim/stats", &stats)
	paths, _ := stats["paths"].(map[string]any)
	n, _ := paths["/v1/chat/completions"].(float64)
	c, _ := stats["connections"].(float64)
	return int(n), int(c)
}

// client is one that trusts the simulator and keeps no connection, so that the
// test's own questions can be told from the gateway's.
func (s *simulator) client() *http.Client { return insecure }

func get(t testing.TB, client *http.Client, url string, into any) {
	t.Helper()
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}

// A gatewayProcess is a running `dragoman serve`.
type gatewayProcess struct {
	*process
	url string
}

// serveYAML writes yaml to a folder of its own and serves it on a free port.
func serveYAML(t testing.TB, yaml string, env []string, args ...string) *gatewayProcess {
	t.Helper()
	return serveFile(t, write(t, yaml), env, args...)
}

func serveFile(t testing.TB, file string, env []string, args ...string) *gatewayProcess {
	t.Helper()
	args = append([]string{"serve", "--config", file, "--set", "server.listen=127.0.0.1:0"}, args...)
	g := &gatewayProcess{process: start(t, filepath.Dir(file), env, filepath.Join(programs, "dragoman"), args...)}
	g.url = g.see(`at (http://127\.0\.0\.1:\d+)`)
	return g
}

func write(t testing.TB, yaml string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pipeline.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// command runs dragoman to its end.
func command(t testing.TB, dir string, env []string, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	property.WithoutRace(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "dragoman"), args...)
	cmd.WaitDelay = time.Second // for what it has started and left
	cmd.Dir = dir
	cmd.Env = append(clean(os.Environ()), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited || ctx.Err() != nil {
		t.Fatalf("dragoman %q: %v: %s%s", args, err, out.String(), errs.String())
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// commandHere is command in this process, which takes a tenth of what another one does: for tests of what
// dragoman says, and not of what becomes of its process. The folder and the variables are those of
// this process meanwhile, so the test runs beside no other; and no plugin is started.
func commandHere(t *testing.T, dir string, env []string, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	property.WithoutRace(t)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(cmp.Or(dir, here)) // which a test that runs beside others may not
	defer os.Chdir(here)
	former := os.Environ()
	defer setEnviron(former)
	setEnviron(append(clean(former), env...))
	var out, errs bytes.Buffer
	ended := make(chan int, 1)
	go func() { ended <- program{}.run(args, strings.NewReader(stdin), &out, &errs) }()
	status = receive(t, ended)
	return out.String(), errs.String(), status
}

func setEnviron(env []string) {
	os.Clearenv()
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		os.Setenv(name, value)
	}
}

// An answer is what a test reads of the native door's.
type answer struct {
	Status       int
	Translations []struct {
		Text     string
		Target   string
		Provider string
		Cached   bool
		Flags    []string
		Error    *struct{ Kind, Message string }
	}
	Error *struct {
		Kind, Message, Field string
		RetryAfterMS         int `json:"retry_after_ms"`
	}
}

func (g *gatewayProcess) post(body string) answer {
	g.t.Helper()
	res, err := http.Post(g.url+"/v1/translate", "application/json", strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	a := answer{Status: res.StatusCode}
	if err := json.Unmarshal(raw, &a); err != nil {
		g.t.Fatalf("%s: %v", raw, err)
	}
	return a
}

// ask translates one text from English to Spanish.
func (g *gatewayProcess) ask(text string) answer {
	g.t.Helper()
	body, _ := json.Marshal(map[string]string{"text": text, "source": "en", "target": "es"})
	return g.post(string(body))
}

// text returns the one translation, or fails.
func (a answer) text(t testing.TB) string {
	t.Helper()
	if a.Status != 200 || len(a.Translations) != 1 || a.Translations[0].Error != nil {
		t.Fatalf("no translation: %+v", a)
	}
	return a.Translations[0].Text
}

// metric returns the value of the first line of /metrics that begins with name.
func (g *gatewayProcess) metric(name string) string {
	g.t.Helper()
	res, err := http.Get(g.url + "/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			return rest[strings.LastIndexByte(rest, ' ')+1:]
		}
	}
	return ""
}
