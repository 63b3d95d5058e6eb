package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/coretest/executable"
	"github.com/dragoman-mt/dragoman/plugins/plugintest"
	"github.com/dragoman-mt/dragoman/plugins/sdk"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// TestMain is also the main of a plugin: the tests start this program as one.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("DRAGOMAN_TEST_DIES") != "":
		fmt.Fprintln(os.Stderr, "cannot find my model")
		os.Exit(3)
	case os.Getenv("DRAGOMAN_TEST_MUTE") != "":
		fmt.Println("hello, I am no plugin")
		io.Copy(io.Discard, os.Stdin)
	case os.Getenv("DRAGOMAN_TEST_ONE_WAY") != "":
		sdk.Serve(core.NewKind("watch", core.RoleStage, "", func() struct{} { return struct{}{} },
			func(core.Env, *struct{}) (any, error) { return first{masking{}}, nil }).WithoutAfter())
	case os.Getenv(wire.CookieKey) != "":
		sdk.Serve(odd(), mask())
	}
	if twin = os.Getenv("DRAGOMAN_TEST_TWIN"); twin != "" { // this is the run as process 1
		goleak.VerifyTestMain(m)
	}
	plugintest.Main(m, &twin)
}

// twin is this program without the race detector.
var twin string

type oddConfig struct {
	Prefix string        `json:"prefix" jsonschema:"maxLength=8" jsonschema_description:"Stands before every answer."`
	Wait   time.Duration `json:"wait"`
}

// odd is a provider that does what its texts say.
func odd() core.Kind {
	return core.NewKind("odd", core.RoleProvider, "Does what texts say.", func() oddConfig { return oddConfig{Prefix: "es:"} },
		func(env core.Env, cfg *oddConfig) (any, error) {
			if cfg.Prefix == "no" {
				return nil, &core.Error{Kind: core.InvalidRequest, Field: "prefix", Detail: "must not say no"}
			}
			return &oddProvider{env, *cfg}, nil
		})
}

type oddProvider struct {
	env core.Env
	cfg oddConfig
}

var held [][]byte // what "grow" keeps, in the plugin's process

func (o *oddProvider) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	limits := &core.Limits{Requests: core.Limit{Known: true, Limit: 60, Remaining: 7}}
	word, rest, _ := strings.Cut(req.Text, " ")
	answer := o.cfg.Prefix + req.Text
	switch word {
	case "pid":
		answer = fmt.Sprint(os.Getpid())
	case "environ":
		answer = strings.Join(os.Environ(), "\n")
	case "folder":
		answer, _ = os.Getwd()
	case "left":
		until, _ := ctx.Deadline()
		answer = time.Until(until).Round(10 * time.Second).String()
	case "words":
		for _, w := range strings.Fields(rest) {
			if err := req.OnDelta(w); err != nil {
				return nil, err
			}
		}
	case "die":
		// The first time.
		if f, err := os.OpenFile(rest, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			f.Close()
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			<-ctx.Done()
		}
		answer = "again"
	case "speak":
		if err := req.OnDelta(fmt.Sprint(os.Getpid())); err != nil {
			return nil, err
		}
		<-ctx.Done()
	case "once":
		// Somebody opens the file for writing when it may be answered.
		if err := req.OnDelta("begun"); err != nil {
			return nil, err
		}
		f, err := os.Open(rest)
		if err != nil {
			return nil, err
		}
		f.Close()
		answer = "in time"
	case "hang":
		<-ctx.Done()
		return nil, core.ContextError(ctx, "")
	case "panic":
		panic("boom")
	case "blank":
		answer = "  "
	case "endless":
		for {
			if err := req.OnDelta(strings.Repeat("x", 1<<20)); err != nil {
				return nil, err
			}
		}
	case "long":
		answer = strings.Repeat("x", wire.MaxMessage+1)
	case "limited":
		return nil, &core.Error{
			Kind: core.RateLimited, Detail: "slow down", Retryable: true, RetryAfter: 2 * time.Second, Usage: core.Usage{PromptTokens: 3}, Limits: limits,
		}
	case "say":
		o.env.Log.Warn(rest, zap.Int("n", 7))
		fmt.Println(strings.ToUpper(rest))
		fmt.Fprintln(os.Stderr, strings.Repeat("y", 3*maxLine))
	case "flood":
		for i := range 5 * maxLines {
			o.env.Log.Info(fmt.Sprint("line ", i))
		}
	case "grow":
		b := make([]byte, 64<<20)
		for i := 0; i < len(b); i += os.Getpagesize() {
			b[i] = 1
		}
		held = append(held, b)
	case "run":
		// With a program whose environment has no PATH.
		child := exec.Command("/bin/sh", "-c", "PATH=/usr/sbin:/usr/bin:/sbin:/bin; "+rest)
		if err := child.Start(); err != nil {
			return nil, err
		}
		go child.Wait()
	case "quote":
		return nil, &core.Error{Kind: core.ProviderFailed, Detail: "cannot: " + rest, Field: rest, Cause: errors.New("upstream said: " + rest)}
	case "kind":
		return nil, &core.Error{Kind: core.ErrorKind(rest), Field: "text", Detail: "the account 4711 may not"}
	case "child":
		// It holds the file open until it dies.
		f, err := os.OpenFile(rest, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		child := exec.Command("/bin/sleep", "600")
		child.Stdout = f
		if err := child.Start(); err != nil {
			return nil, err
		}
	}
	return &core.Result{Text: answer, Model: "odd", Cached: true, Usage: core.Usage{PromptTokens: 1}, Limits: limits}, nil
}

// mask is a stage that hides digits, and keeps them in its state.
func mask() core.Kind {
	return core.NewKind("mask", core.RoleStage, "Hides digits.", func() struct{} { return struct{}{} },
		func(core.Env, *struct{}) (any, error) { return masking{}, nil })
}

type masking struct{}

func (masking) Before(ctx context.Context, req *core.Request) (core.Verdict, error) {
	switch req.Text {
	case "hang":
		<-ctx.Done()
		return core.Verdict{}, core.ContextError(ctx, "")
	case "refuse":
		return core.Verdict{}, &core.Error{Kind: core.InvalidRequest, Field: "text", Detail: "no"}
	case "answer":
		return core.Verdict{Result: &core.Result{Text: "mine"}}, nil
	case "much":
		return core.Verdict{State: make([]byte, wire.MaxState+1)}, nil
	}
	r := *req
	r.Text = strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' {
			return '#'
		}
		return c
	}, req.Text)
	return core.Verdict{Request: &r, State: []byte(req.Text)}, nil
}

func (masking) After(_ context.Context, req *core.Request, res *core.Result, state []byte) (*core.Result, error) {
	if res.Text == "spoiled" {
		panic("boom")
	}
	return &core.Result{Text: res.Text + " " + string(state)}, nil
}

// first is a stage that sees no answer.
type first struct{ core.Beforer }

func TestOnlyAPluginThatSeesAnswersEndsStreaming(t *testing.T) {
	b := newBench(t, "stages:\n  - plugin: {command: [SELF], env: {DRAGOMAN_TEST_ONE_WAY: '1'}}\n  - name: both\n    plugin: {command: [SELF]}\n  - provider\n")
	one, both := b.start("plugin").(stage), b.start("both").(stage)
	req, res := &core.Request{Text: "call 555", Target: "es"}, &core.Result{Text: "llama ###"}
	v, err := one.Before(t.Context(), req)
	if err != nil || v.Request.Text != "call ###" {
		t.Fatalf("%+v, %v", v, err)
	}
	if each, ok := one.Deltas(req, v.State); !ok || each != nil {
		t.Error("the pieces of an answer do not pass a stage that has no After")
	}
	if got, err := one.After(t.Context(), req, res, v.State); err != nil || got.Text != res.Text {
		t.Errorf("%+v, %v", got, err)
	}
	if _, ok := both.Deltas(req, nil); ok {
		t.Error("the pieces of an answer pass a stage that has an After")
	}
}

// A bench is a host and the file that its parts are declared in.
type bench struct {
	*testing.T
	host *Host
	logs *observer.ObservedLogs
	log  *zap.Logger
	file *config.File
}

type callerConfig struct {
	Use string `json:"use" ref:"providers"`
}

// declare loads a file; in it, SELF is this program.
func declare(t *testing.T, h *Host, yaml string) (*config.File, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipeline.yaml")
	if err := os.WriteFile(name, []byte(strings.ReplaceAll(yaml, "SELF", twin)), 0o600); err != nil {
		t.Fatal(err)
	}
	caller := core.NewKind("provider", core.RoleCaller, "", func() callerConfig { return callerConfig{} }, func(core.Env, *callerConfig) (any, error) { return nil, nil })
	return config.Schema{Kinds: append(h.Kinds(), caller)}.Load(config.Options{File: name})
}

func newBench(t *testing.T, yaml string) *bench {
	t.Helper()
	b := &bench{T: t, host: New()}
	seen, logs := observer.New(zap.DebugLevel)
	b.log, b.logs = zap.New(seen), logs
	var err error
	if b.file, err = declare(t, b.host, yaml); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.host.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// build builds one item of the file, not started.
func (b *bench) build(name string) any {
	b.Helper()
	for _, item := range append(b.file.Providers, b.file.Stages...) {
		if item.Name != name {
			continue
		}
		built, err := item.Kind.Build(core.Env{Name: name, Log: b.log.Named(name), Deadline: 20 * time.Second, Origin: item.Origin}, item.Config)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { built.(core.Closer).Close() })
		return built
	}
	b.Fatalf("the file has no %s", name)
	return nil
}

// start builds and starts one item of the file.
func (b *bench) start(name string) any {
	b.Helper()
	built := b.build(name)
	if err := built.(core.Starter).Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	return built
}

func (b *bench) provider(name string) provider { b.Helper(); return b.start(name).(provider) }

const one = `
providers:
  odd: {type: plugin, command: [SELF]}
stages:
  - provider: {use: odd}
`

// ask translates text and fails when that fails.
func (p provider) ask(t *testing.T, text string) *core.Result {
	t.Helper()
	res, err := p.Translate(t.Context(), &core.Request{ID: "r", Text: text, Source: "en", Target: "es", Trace: core.NewTrace(nil)})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// receive returns what comes out of a channel, the zero value when it is closed.
func receive[T any](t testing.TB, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(time.Minute):
		t.Fatal("waited for a minute")
	}
	return v
}

// becomes waits for a state.
func (p *plugin) becomes(t *testing.T, want Phase) { t.Helper(); p.becomesOne(t, want) }

func (p *plugin) becomesOne(t *testing.T, want ...Phase) {
	t.Helper()
	late := time.After(60 * time.Second)
	for {
		p.mu.Lock()
		state, changed := p.state, p.changed
		p.mu.Unlock()
		if slices.Contains(want, state) {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("it is %s, and never became %s", state, want)
		}
	}
}

// logged waits for a line that holds part, and returns it.
func (b *bench) logged(part string) observer.LoggedEntry {
	b.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, e := range b.logs.All() {
			if strings.Contains(e.Message, part) {
				return e
			}
		}
	}
	b.Fatalf("nobody logged %q", part)
	return observer.LoggedEntry{}
}

func TestAPluginTranslates(t *testing.T) {
	p := newBench(t, strings.Replace(one, "[SELF]", "[SELF], config: {prefix: '> '}", 1)).provider("odd")
	var said []string
	req := &core.Request{Text: "words one two", Target: "es", Trace: core.NewTrace(nil), OnDelta: func(s string) error { said = append(said, s); return nil }}
	res, err := p.Translate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if res.Text != "> words one two" || res.Provider != "odd" || res.Model != "odd" || res.Cached || strings.Join(said, "|") != "one|two" {
		t.Errorf("%+v, deltas %q", res, said)
	}
	if l := res.Limits; l == nil || l.Requests.Remaining != 7 || res.Usage.PromptTokens != 1 {
		t.Errorf("limits %+v, usage %+v", l, res.Usage)
	}
	alone := &core.Request{Text: "one", Target: "es", Trace: core.NewTrace(nil)}
	if res, err = p.Translate(t.Context(), alone); err != nil || res.Text != "> one" || res.Provider != "odd" || res.Model != "odd" || res.Cached {
		t.Errorf("without deltas: %+v, %v", res, err)
	}
	if l := res.Limits; l == nil || l.Requests.Remaining != 7 || res.Usage.PromptTokens != 1 {
		t.Errorf("without deltas: limits %+v, usage %+v", l, res.Usage)
	}
	if err := p.Probe(t.Context()); err != nil {
		t.Errorf("the probe: %v", err)
	}
}

func TestWhatAPluginAnswersIsAResultOrATypedError(t *testing.T) {
	p := newBench(t, one).provider("odd")
	for text, want := range map[string]core.Error{
		"limited": {Kind: core.RateLimited, Retryable: true, RetryAfter: 2 * time.Second},
		"panic":   {Kind: core.ProviderFailed, Retryable: true},
		"blank":   {Kind: core.BadAnswer, Retryable: true},
		"long":    {Kind: core.TooLarge},
		"endless": {Kind: core.ProviderFailed},
	} {
		for name, onDelta := range map[string]func(string) error{"with deltas": func(string) error { return nil }, "without": nil} {
			if text == "endless" && onDelta == nil {
				continue
			}
			_, err := p.Translate(t.Context(), &core.Request{Text: text, Target: "es", Trace: core.NewTrace(nil), OnDelta: onDelta})
			e, ok := errors.AsType[*core.Error](err)
			if !ok || e.Kind != want.Kind || e.Retryable != want.Retryable || e.RetryAfter != want.RetryAfter || e.Stage != "odd" || e.Detail == "" {
				t.Errorf("%s, %s: got %v (%+v)", text, name, err, e)
			}
			if ok && text == "limited" && (e.Usage.PromptTokens != 3 || e.Limits == nil || e.Limits.Requests.Remaining != 7) {
				t.Errorf("%s: its cost is told as %+v, its limits as %+v", name, e.Usage, e.Limits)
			}
		}
	}
	refused := errors.New("the client is gone")
	if _, err := p.Translate(t.Context(), &core.Request{Text: "words a b", Target: "es", OnDelta: func(string) error { return refused }}); err != refused {
		t.Errorf("an error of OnDelta: got %v", err)
	}
	for name, onDelta := range map[string]func(string) error{"with deltas": func(string) error { return nil }, "without": nil} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := p.Translate(ctx, &core.Request{Text: "hang", Target: "es", OnDelta: onDelta}); core.KindOf(err) != core.DeadlineExceeded {
			t.Errorf("a deadline, %s: got %v", name, err)
		}
		cancel()
	}
}

func TestNothingOfTheGatewaysEnvironmentLeaksIn(t *testing.T) {
	t.Setenv("DRAGOMAN_SECRET", "leaked")
	b := newBench(t, strings.Replace(one, "[SELF]", "[SELF], env: {MINE: yes please}", 1))
	p := b.provider("odd")
	for _, kv := range strings.Split(p.ask(t, "environ").Text, "\n") {
		name, value, _ := strings.Cut(kv, "=")
		switch {
		case name == "MINE" && value == "yes please", name == wire.CookieKey, strings.HasPrefix(name, "PLUGIN_"):
		default:
			t.Errorf("the plugin sees %s", kv)
		}
	}
	if got, want := p.ask(t, "folder").Text, filepath.Dir(b.file.Path); got != want {
		t.Errorf("it runs in %s, want %s", got, want)
	}
}

func TestAGoPluginKnowsHowMuchMemoryItMayHave(t *testing.T) {
	for env, want := range map[string]string{"": "GOMEMLIMIT=786432000", ", env: {GOMEMLIMIT: off}": "GOMEMLIMIT=off"} {
		b := newBench(t, strings.Replace(one, "[SELF]", "[SELF], max_memory: 1000MiB"+env, 1))
		if got := strings.Split(b.provider("odd").ask(t, "environ").Text, "\n"); !slices.Contains(got, want) {
			t.Errorf("%q: %q, want %s", env, got, want)
		}
	}
}

const two = `
providers:
  a: {type: plugin, command: [SELF], config: {prefix: 'a:'}}
  b: {type: plugin, command: [SELF], config: {prefix: 'b:'}}
  c: {type: plugin, command: [SELF], env: {OTHER: 'yes'}}
stages:
  - provider: {use: a}
`

func TestTheSameProgramIsOneProcess(t *testing.T) {
	x := newBench(t, two)
	a, b, c := x.provider("a"), x.provider("b"), x.provider("c")
	if a.ask(t, "x").Text != "a:x" || b.ask(t, "x").Text != "b:x" {
		t.Error("the instances are mixed up")
	}
	if a.ask(t, "pid").Text != b.ask(t, "pid").Text {
		t.Error("the same program runs twice")
	}
	if a.ask(t, "pid").Text == c.ask(t, "pid").Text {
		t.Error("programs with different environments share a process")
	}
	shared := a.process()
	a.Close()
	if b.ask(t, "x").Text != "b:x" {
		t.Error("the end of one instance was that of another")
	}
	if _, err := a.Translate(t.Context(), &core.Request{Text: "x", Target: "es"}); core.KindOf(err) != core.Unavailable {
		t.Errorf("after Close: %v", err)
	}
	b.Close()
	shared.becomes(t, Stopped)
}

func TestAPluginThatWasKilledComesBackConfigured(t *testing.T) {
	b := newBench(t, two)
	one, other := b.provider("a"), b.provider("b")
	for range 3 {
		pid := 0
		fmt.Sscan(one.ask(t, "pid").Text, &pid)
		hung := make(chan error, 1)
		entered := make(chan struct{})
		go func() {
			_, err := one.Translate(t.Context(), &core.Request{Text: "words x", Target: "es", OnDelta: func(string) error {
				close(entered)
				syscall.Kill(pid, syscall.SIGKILL)
				<-one.gone(pid)
				return nil
			}})
			hung <- err
		}()
		receive(t, entered)
		// The call may have been answered before; if not, another attempt is due.
		if err := receive(t, hung); err != nil {
			if e := core.AsError(err, ""); e.Kind != core.Unavailable || !e.Retryable || e.RetryAfter <= 0 {
				t.Errorf("the call that died with the plugin: %v %+v", err, e)
			}
		}
		receive(t, one.back(pid))
		if one.ask(t, "x").Text != "a:x" || other.ask(t, "x").Text != "b:x" {
			t.Error("an instance was not configured again")
		}
		if again := one.ask(t, "pid").Text; again == fmt.Sprint(pid) {
			t.Errorf("it is the same process, %s", again)
		}
	}
}

// gone is closed when the process pid does not serve p any more, back when
// another does.
func (p provider) gone(pid int) <-chan struct{} {
	return p.when(func(r *running) bool { return r == nil || r.pid() != pid })
}

func (p provider) back(pid int) <-chan struct{} {
	return p.when(func(r *running) bool { return r != nil && r.pid() != pid })
}

func (p provider) when(is func(*running) bool) <-chan struct{} {
	done := make(chan struct{})
	plugin := p.process()
	go func() {
		defer close(done)
		for {
			plugin.mu.Lock()
			current, changed := plugin.current, plugin.changed
			plugin.mu.Unlock()
			if is(current) {
				return
			}
			<-changed
		}
	}()
	return done
}

func TestACallWhoseProcessDiesIsMadeAgainUnlessSomethingWasSaid(t *testing.T) {
	p := newBench(t, one).provider("odd")
	if res := p.ask(t, "die "+filepath.Join(t.TempDir(), "died")); res.Text != "again" {
		t.Errorf("%+v", res)
	}
	silent := &core.Request{Text: "die " + filepath.Join(t.TempDir(), "died"), Target: "es", OnDelta: func(string) error { return nil }}
	if res, err := p.Translate(t.Context(), silent); err != nil || res.Text != "again" {
		t.Errorf("before the first delta: %+v, %v", res, err)
	}
	said := 0
	_, err := p.Translate(t.Context(), &core.Request{Text: "speak", Target: "es", OnDelta: func(pid string) error {
		said++
		n, err := strconv.Atoi(pid)
		syscall.Kill(n, syscall.SIGKILL)
		return err
	}})
	if e := core.AsError(err, ""); said != 1 || e == nil || e.Kind != core.Unavailable || !e.Retryable {
		t.Errorf("after a delta: %d deltas, %v", said, err)
	}
	if n := p.again.Load(); n != 2 {
		t.Errorf("%d calls were made again, want 2", n)
	}
	// The next call waits for the next process.
	if res := p.ask(t, "x"); res.Text != "es:x" {
		t.Errorf("%+v", res)
	}
}

func TestACallIsNotMadeAgainWhenAnotherProviderIsThere(t *testing.T) {
	p := newBench(t, one).provider("odd")
	_, err := p.Translate(t.Context(), &core.Request{Text: "die " + filepath.Join(t.TempDir(), "died"), Target: "es", Backed: true})
	if e := core.AsError(err, ""); e == nil || e.Kind != core.Unavailable || p.again.Load() != 0 {
		t.Errorf("it was made %d times again: %v", p.again.Load(), err)
	}
}

// A breaker would else open for everybody because of one client that is in a
// hurry.
func TestThatARequestHadLittleTimeIsNotHeldAgainstAPlugin(t *testing.T) {
	p := newBench(t, one).provider("odd")
	ask := func(limit time.Duration, req core.Request) *core.Error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		req.Text, req.Target, req.Backed = "hang", "es", true
		_, err := p.Translate(ctx, &req)
		return core.AsError(err, "")
	}
	p.SetDeadline(time.Minute)
	for _, onDelta := range []func(string) error{nil, func(string) error { return nil }} {
		if e := ask(400*time.Millisecond, core.Request{OnDelta: onDelta}); e == nil || e.Kind != core.DeadlineExceeded || !e.Own {
			t.Errorf("half of a short time: %v", e)
		}
	}
	p.SetDeadline(400 * time.Millisecond)
	if e := ask(time.Minute, core.Request{}); e == nil || e.Kind != core.DeadlineExceeded || e.Own {
		t.Errorf("half of as long as a request may take: %v", e)
	}
}

// TestAnotherDeadlineIsTakenInPlace: the process, the counters and what is known of the
// plugin stay, and its calls have the time that a request may take now.
func TestAnotherDeadlineIsTakenInPlace(t *testing.T) {
	p := newBench(t, one).provider("odd")
	ask := func(text string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		res, err := p.Translate(ctx, &core.Request{Text: text, Target: "es"})
		if err != nil {
			t.Fatal(err)
		}
		return res.Text
	}
	pid, longest := ask("pid"), 20*time.Second
	for _, longest = range []time.Duration{2 * time.Minute, 40 * time.Second, 5 * time.Minute} {
		p.SetDeadline(longest)
		p.informing.Wait()
		if left := ask("left"); left != longest.String() {
			t.Errorf("a call has %s, want %s", left, longest)
		}
	}
	if now := ask("pid"); now != pid {
		t.Errorf("another process: %s, was %s", now, pid)
	}
	if n := p.calls.Load(); n != 5 {
		t.Errorf("%d calls are counted, want 5", n)
	}
	p.SetDeadline(10 * time.Minute) // and nobody waits for that
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	p.SetDeadline(20 * time.Minute)
}

// A foreigner is a plugin that was written without an SDK, not well.
type foreigner struct {
	wire.UnimplementedPluginServer
	wire.UnimplementedProviderServer
}

func (foreigner) Describe(context.Context, *wire.DescribeRequest) (*wire.Description, error) {
	return &wire.Description{Name: "foreigner", Protocol: wire.Protocol, Parts: []*wire.Part{{Role: wire.Role_ROLE_PROVIDER}}}, nil
}

func (foreigner) Configure(context.Context, *wire.Config) (*wire.ConfigReply, error) {
	return &wire.ConfigReply{}, nil
}

func (foreigner) Health(context.Context, *wire.Instance) (*wire.State, error) {
	return &wire.State{}, nil
}

func (f foreigner) Answer(ctx context.Context, v *wire.Visit) (*wire.Event, error) {
	switch v.GetText().GetText() {
	case "nothing":
		return &wire.Event{}, nil
	case "delta":
		return &wire.Event{What: &wire.Event_Delta{Delta: "es:"}}, nil
	}
	return f.UnimplementedProviderServer.Answer(ctx, v)
}

func TestAnAnswerThatIsNoneIsThePluginsFailure(t *testing.T) {
	dir, err := os.MkdirTemp("", "at")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	wire.RegisterPluginServer(g, foreigner{})
	wire.RegisterProviderServer(g, foreigner{})
	served := make(chan struct{})
	go func() { defer close(served); g.Serve(l) }()
	defer func() { g.Stop(); <-served }()
	p := newBench(t, "providers:\n  odd: {type: plugin, address: 'unix:"+l.Addr().String()+"'}\nstages: [provider: {use: odd}]\n").provider("odd")
	for text, says := range map[string]string{"nothing": "neither a result nor an error", "delta": "neither a result nor an error", "no Answer": "method Answer not implemented"} {
		_, err := p.Translate(t.Context(), &core.Request{Text: text, Target: "es"})
		if e := core.AsError(err, ""); e == nil || e.Kind != core.ProviderFailed || !e.Retryable || e.Stage != "odd" || !strings.Contains(fmt.Sprint(e.Detail, e.Cause), says) {
			t.Errorf("%s: got %v, want %q", text, err, says)
		}
	}
	if n := p.failed.Load(); n != 3 {
		t.Errorf("%d failed calls were counted, want 3", n)
	}
}

func TestNobodySurvivesTheirPlugin(t *testing.T) {
	for name, end := range map[string]func(provider, int){
		"killed":  func(_ provider, pid int) { syscall.Kill(pid, syscall.SIGKILL) },
		"stopped": func(p provider, _ int) { p.Close() },
	} {
		fifo := filepath.Join(t.TempDir(), "fifo")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		// Opened for both, so that opening waits for nobody; this end is closed
		// once the child has its own.
		f, err := os.OpenFile(fifo, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		r, err := os.Open(fifo)
		if err != nil {
			t.Fatal(err)
		}
		p := newBench(t, one).provider("odd")
		pid := 0
		fmt.Sscan(p.ask(t, "pid").Text, &pid)
		p.ask(t, "child "+fifo)
		f.Close()
		end(p, pid)
		r.SetReadDeadline(time.Now().Add(60 * time.Second))
		if _, err := io.ReadAll(r); err != nil {
			t.Errorf("%s: what the plugin had started goes on: %v", name, err)
		}
		r.Close()
	}
}

func TestAPluginThatCannotStartSaysWhyAndIsTriedAgain(t *testing.T) {
	b := newBench(t, strings.Replace(one, "[SELF]", "[SELF], env: {DRAGOMAN_TEST_DIES: yes}", 1))
	p := b.build("odd").(provider)
	err := p.Start(t.Context())
	if core.KindOf(err) != core.Unavailable || !strings.Contains(err.Error(), "cannot find my model") {
		t.Errorf("it does not say why: %v", err)
	}
	b.logged("died and is started again")
	_, err = p.Translate(t.Context(), &core.Request{Text: "x", Target: "es"})
	if a := core.AsError(err, ""); a.Kind != core.Unavailable || !a.Retryable || a.Stage != "odd" {
		t.Errorf("a call meanwhile: %v", err)
	}
	if err := p.Probe(t.Context()); core.KindOf(err) != core.Unavailable {
		t.Errorf("the probe meanwhile: %v", err)
	}
}

func TestAProgramThatIsNoPluginIsNamedByWhatItSaid(t *testing.T) {
	b := newBench(t, strings.Replace(one, "[SELF]", "[SELF], env: {DRAGOMAN_TEST_MUTE: yes}", 1))
	err := b.build("odd").(provider).Start(t.Context())
	if core.KindOf(err) != core.Unavailable || !strings.Contains(err.Error(), "hello, I am no plugin") || !strings.Contains(err.Error(), "did not begin to serve") {
		t.Errorf("got %v", err)
	}
}

func TestDeathsAreFollowedByPausesAndThenByNothing(t *testing.T) {
	var d deaths
	now := time.Now()
	former := time.Duration(-1)
	for n := 1; n < maxDeaths; n++ {
		pause, again := d.another(now, proven-1)
		if !again || pause <= former || n == 1 && pause != 0 {
			t.Errorf("death %d: %v, %v after %v", n, pause, again, former)
		}
		former = pause
	}
	if _, again := d.another(now, 0); again {
		t.Errorf("after %d deaths at once it is started again", maxDeaths)
	}
	d = d[:maxDeaths-1]
	if pause, again := d.another(now.Add(deathWindow+1), 0); !again || pause != 0 {
		t.Errorf("old deaths count: %v, %v", pause, again)
	}
	for range maxDeaths {
		d.another(now, 0)
	}
	if pause, again := d.another(now, proven); !again || pause != 0 {
		t.Errorf("deaths before it had served for long count: %v, %v", pause, again)
	}
}

func TestWhatAPluginPrintsIsLoggedUnderItsName(t *testing.T) {
	b := newBench(t, one)
	b.provider("odd").ask(t, "say how it is")
	e := b.logged("how it is")
	if e.Level != zap.WarnLevel || e.LoggerName != "odd" {
		t.Errorf("%+v", e.Entry)
	}
	if raw, _ := json.Marshal(e.ContextMap()["plugin"]); string(raw) != `{"n":7}` {
		t.Errorf("fields: %s", raw)
	}
	b.logged("HOW IT IS")
	if e := b.logged("yyyy"); len(e.Message) > maxLine+3 {
		t.Errorf("a line of %d bytes", len(e.Message))
	}
}

func TestAFloodOfLinesIsBounded(t *testing.T) {
	seen, logs := observer.New(zap.DebugLevel)
	o := &output{log: zap.New(seen)}
	now := time.Now()
	for i := range 10 * maxLines {
		o.line(fmt.Append(nil, "line ", i), now)
	}
	if n := logs.Len(); n != maxLines {
		t.Errorf("%d lines in one second", n)
	}
	o.line([]byte("later"), now.Add(time.Second))
	if n := logs.FilterMessageSnippet("900 more lines").Len(); n != 1 {
		t.Errorf("what was left out is not said: %v", logs.All()[maxLines:])
	}
	if want := "line 996 | line 997 | line 998 | line 999 | later"; !strings.HasSuffix(o.tail(), want) {
		t.Errorf("the last lines: %s", o.tail())
	}
	for range 3 * maxLines {
		o.line([]byte("and then silence"), now.Add(2*time.Second))
	}
	o.settle(now.Add(2500 * time.Millisecond))
	o.settle(now.Add(3 * time.Second))
	o.settle(now.Add(4 * time.Second))
	if n := logs.FilterMessageSnippet("200 more lines").Len(); n != 1 {
		t.Errorf("a flood that nothing follows is told of %d times", n)
	}
}

func TestLinesAreCutHoweverTheyArrive(t *testing.T) {
	seen, logs := observer.New(zap.DebugLevel)
	s := &stream{out: &output{log: zap.New(seen)}}
	for _, b := range []string{"a", "b\nc\n\n", "", strings.Repeat("z", maxLine), strings.Repeat("z", maxLine), "\nd"} {
		s.Write([]byte(b))
	}
	s.flush()
	var got []string
	for _, e := range logs.All() {
		got = append(got, fmt.Sprint(len(e.Message), e.Message[:1]))
	}
	if want := fmt.Sprintf("2a 1c %dz 1d", maxLine+3); strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if cap(s.buf) > 4*maxLine {
		t.Errorf("it holds %d bytes", cap(s.buf))
	}
}

func TestAMistakeInAPluginsConfigHasItsPlace(t *testing.T) {
	for mode, name := range map[Mode]string{Run: "run", Describe: "described"} {
		b := newBench(t, `
providers:
  odd:
    type: plugin
    command: ["SELF"]
    config:
      prefiks: x
      wait: soon
stages:
  - provider: {use: odd}
`)
		b.host.SetMode(mode)
		err := b.build("odd").(core.Starter).Start(t.Context())
		for _, want := range []string{
			":7:7: providers.odd.config.prefiks: there is no such key here; did you mean prefix?",
			":8:13: providers.odd.config.wait: must be a duration such as 300ms or 24h",
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in:\n%v", name, want, err)
			}
		}
	}
}

func TestAPluginRefusesItsConfigByItsKey(t *testing.T) {
	b := newBench(t, strings.Replace(one, "[SELF]", "[SELF], config: {prefix: 'no'}", 1))
	err := b.build("odd").(core.Starter).Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), ": providers.odd.config.prefix: must not say no") {
		t.Errorf("got %v", err)
	}
}

func TestDescribeStartsNothingThatStays(t *testing.T) {
	// With the environment that the file says, it would die.
	b := newBench(t, strings.Replace(one, "[SELF]", "[SELF], env: {DRAGOMAN_TEST_DIES: yes}", 1))
	b.host.SetMode(Describe)
	p := b.provider("odd")
	if p.process() != nil || p.Probe(t.Context()) != nil {
		t.Error("it was kept")
	}
	left, err := os.ReadDir(b.host.sockets.dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left in the folder of sockets: %v, %v; want the lock alone", left, err)
	}
	b.host.SetMode(Ignore)
	missing := newBench(t, strings.Replace(one, "SELF", "/there/is/no/such", 1))
	missing.host.SetMode(Ignore)
	missing.start("odd")
}

func TestAProgramIsCheckedBeforeItIsRun(t *testing.T) {
	dir := t.TempDir()
	marker := filepath.Join(dir, "ran")
	script := filepath.Join(dir, "script")
	executable.Write(t, script, "#!/bin/sh\ntouch "+marker+"\n")
	start := func(yaml string) error {
		return newBench(t, "providers:\n  odd: {type: plugin, "+yaml+"}\nstages: [provider: {use: odd}]\n").build("odd").(core.Starter).Start(t.Context())
	}
	wrong := strings.Repeat("0", 64)
	for name, c := range map[string]struct{ yaml, want string }{
		"the program":   {"command: [" + script + "], sha256: {" + script + ": '" + wrong + "'}", "is another file than sha256 says"},
		"its argument":  {"command: [/bin/sh, " + script + "], sha256: {" + script + ": '" + wrong + "'}", "is another file than sha256 says"},
		"a file beside": {"command: [/bin/true], sha256: {" + script + ": '" + wrong + "'}", "is another file than sha256 says"},
		"no program":    {"command: [./nothing]", "there is no file"},
		"not in PATH":   {"command: [no-such-program-here]", "in PATH"},
	} {
		err := start(c.yaml)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "pipeline.yaml:") {
			t.Errorf("%s: got %v, want %q and its place", name, err, c.want)
		}
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("the script ran")
	}
}

// TestWhatIsExecutedIsWhatWasChecked changes the files between the two.
func TestWhatIsExecutedIsWhatWasChecked(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		os.Remove(name)
		executable.Write(t, name, text)
		return name
	}
	sum := func(name string) string {
		out, err := exec.Command("sha256sum", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out[:64])
	}
	program, script := write("program", "#!/bin/sh\necho good\n"), write("script", "echo good\n")
	for _, command := range [][]string{{program}, {"/bin/sh", script}, {"/bin/sh", "script"}} {
		write("program", "#!/bin/sh\necho good\n")
		write("script", "echo good\n")
		p := &Program{Command: command, SHA256: map[string]string{program: sum(program), "script": strings.ToUpper(sum(script))}}
		all, err := p.open(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		write("program", "#!/bin/sh\necho evil\n")
		write("script", "echo evil\n")
		out, err := p.command(dir, all).CombinedOutput()
		all.close()
		if err != nil || string(out) != "good\n" {
			t.Errorf("%v: %q, %v", command, out, err)
		}
		if _, err := p.open(dir, false); err == nil {
			t.Errorf("%v: the other file passes", command)
		}
	}
}

func TestARebuiltProgramIsAnother(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "p")
	identity := func(p Program) string {
		t.Helper()
		id, err := p.identity(dir)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	executable.Write(t, file, "1")
	first := identity(Program{Command: []string{"./p"}})
	if identity(Program{Command: []string{"./p"}}) != first {
		t.Error("the same is not the same")
	}
	for name, p := range map[string]Program{
		"argument": {Command: []string{"./p", "x"}}, "variable": {Command: []string{"./p"}, Env: map[string]core.Secret{"A": "b"}},
		"bound": {Command: []string{"./p"}, MaxMemory: 1},
	} {
		if identity(p) == first {
			t.Errorf("another %s is the same program", name)
		}
	}
	executable.Write(t, file, "2")
	if identity(Program{Command: []string{"./p"}}) == first {
		t.Error("a rebuilt program is the same")
	}
}

func TestAConfigurationThatCannotBeMeantIsRefused(t *testing.T) {
	for yaml, want := range map[string]string{
		"{type: plugin}": "needs a command or an address",
		"{type: plugin, command: [x], address: 'unix:/s'}":             "both a command and an address",
		"{type: plugin, address: '10.0.0.1:80'}":                       "must be on this machine",
		"{type: plugin, address: 'unix:here'}":                         "absolute path",
		"{type: plugin, address: 'unix:/s', env: {A: b}}":              "are for a command",
		"{type: plugin, command: [x], sha256: {x: abc}}":               "64 hexadecimal digits",
		"{type: plugin, command: [x], env: {'A=B': c}}":                "not the name of a variable",
		"{type: plugin, command: [x], config: {a: 1}, config_from: y}": "both config and config_from",
	} {
		b := newBench(t, "providers:\n  y: {type: plugin, command: [z]}\n  x: "+yaml+"\nstages: [provider: {use: x}]\n")
		item := b.file.Providers[1]
		if _, err := item.Kind.Build(core.Env{Name: "x", Log: b.log, Origin: item.Origin}, item.Config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", yaml, err, want)
		}
	}
}

func TestAPluginThatHoldsTooMuchIsStartedAnew(t *testing.T) {
	if memory(os.Getpid()) == 0 {
		t.Skip("not tested: nobody knows the memory of a process here")
	}
	b := newBench(t, strings.Replace(one, "[SELF]", "[SELF], max_memory: 160MiB", 1))
	p := b.provider("odd")
	before := p.ask(t, "pid").Text
	for range 3 {
		p.Translate(t.Context(), &core.Request{Text: "grow", Target: "es"}) // it may be started anew meanwhile
	}
	pid := 0
	fmt.Sscan(before, &pid)
	receive(t, p.back(pid))
	b.logged("is started anew")
	if p.ask(t, "pid").Text == before {
		t.Error("it is the same process")
	}
}

func TestAPluginThatHangsIsNotWaitedForAtTheEnd(t *testing.T) {
	b := newBench(t, one)
	p := b.provider("odd")
	pid := 0
	fmt.Sscan(p.ask(t, "pid").Text, &pid)
	syscall.Kill(pid, syscall.SIGSTOP)
	p.Close() // returns, which is the test
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("it is still there: %v", err)
	}
}

// TestAQuestionThatIsCalledOffIsNotHeldAgainstAPlugin ends one while it is asked how it is, as the end of
// every command may.
func TestAQuestionThatIsCalledOffIsNotHeldAgainstAPlugin(t *testing.T) {
	t.Parallel() // it waits
	b := newBench(t, one)
	p := b.provider("odd")
	pid := 0
	fmt.Sscan(p.ask(t, "pid").Text, &pid)
	syscall.Kill(pid, syscall.SIGSTOP)
	p.process().becomes(t, Degraded) // it was asked once, in vain, and is asked again at once
	p.Close()
	if n := b.logs.FilterMessageSnippet("does not answer how it is").Len(); n != 1 {
		t.Errorf("it is said %d times that it does not answer, want 1: %v", n, b.logs.All())
	}
}

func TestAPluginThatHangsIsStartedAnew(t *testing.T) {
	b := newBench(t, one)
	p := b.provider("odd")
	pid := 0
	fmt.Sscan(p.ask(t, "pid").Text, &pid)
	syscall.Kill(pid, syscall.SIGSTOP)
	p.process().becomes(t, Degraded)
	receive(t, p.back(pid))
	p.ask(t, "x")
}

func TestAPluginAtAnAddressIsNotStarted(t *testing.T) {
	dir, err := os.MkdirTemp("", "at")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	serve := func() *exec.Cmd {
		cmd := exec.Command(twin, "--listen", "unix:"+socket)
		cmd.Env = []string{wire.CookieKey + "=by hand"}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	first := serve()
	b := newBench(t, "providers:\n  odd: {type: plugin, address: 'unix:"+socket+"', config: {prefix: '@'}}\nstages: [provider: {use: odd}]\n")
	p := b.provider("odd")
	if got := p.ask(t, "pid").Text; got != fmt.Sprint(first.Process.Pid) {
		t.Errorf("process %s answers, want %d", got, first.Process.Pid)
	}
	// Another comes in its place, which nobody has configured.
	first.Process.Kill()
	first.Wait()
	os.Remove(socket)
	second := serve()
	defer func() { second.Process.Signal(syscall.SIGTERM); second.Wait() }()
	for {
		res, err := p.Translate(t.Context(), &core.Request{Text: "x", Target: "es"})
		if err == nil {
			if res.Text != "@x" {
				t.Errorf("got %q", res.Text)
			}
			break
		}
		if e := core.AsError(err, ""); e.Kind != core.Unavailable || !e.Retryable {
			t.Fatalf("meanwhile: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
	p.Close()
	if err := second.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a plugin that somebody else has started was ended: %v", err)
	}
}

func TestAPluginFinishesItsCallsBeforeItIsStopped(t *testing.T) {
	p := newBench(t, one).provider("odd")
	pid := 0
	fmt.Sscan(p.ask(t, "pid").Text, &pid)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	gone := p.gone(pid)
	r, leave, away := p.enter(t.Context(), nil, short)
	if away != nil {
		t.Fatal(away)
	}
	leave()
	closed := make(chan struct{})
	res, err := p.Translate(t.Context(), &core.Request{Text: "once " + fifo, Target: "es", OnDelta: func(string) error {
		go func() { defer close(closed); p.Close() }()
		receive(t, gone) // no call begins any more
		for range 200 {
			if _, err := r.plugin.Health(t.Context(), &wire.Instance{}); err != nil {
				t.Errorf("it is stopped under a call: %v", err)
				break
			}
		}
		f, err := os.OpenFile(fifo, os.O_RDWR, 0)
		if err == nil {
			t.Cleanup(func() { f.Close() })
		}
		return err
	}})
	if err != nil || res.Text != "in time" {
		t.Errorf("%+v, %v", res, err)
	}
	receive(t, closed)
}

const staged = `
providers:
  odd: {type: plugin, command: [SELF]}
stages:
  - plugin: {name: mask, command: [SELF]}
  - plugin: {name: soft, command: [SELF], on_error: skip}
  - provider: {use: odd}
`

func TestAStageIsAskedOnTheWayDownAndUp(t *testing.T) {
	b := newBench(t, strings.NewReplacer("{name: mask, command: [SELF]}", "{command: [SELF]}\n    name: mask", "{name: soft, command: [SELF], on_error: skip}", "{command: [SELF], on_error: skip}\n    name: soft").Replace(staged))
	hard, soft := b.start("mask").(stage), b.start("soft").(stage)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req := &core.Request{Text: "call 555", Target: "es", Client: "me", Session: "s"}

	v, err := hard.Before(ctx, req)
	if err != nil || v.Request.Text != "call ###" || v.Request.Client != "me" || string(v.State) != "call 555" {
		t.Fatalf("%+v, %v", v, err)
	}
	res := &core.Result{Text: "x", Provider: "p", Usage: core.Usage{PromptTokens: 9}, NoStore: true}
	got, err := hard.After(ctx, req, res, v.State)
	if err != nil || got.Text != "x call 555" || got.Provider != "p" || got.Usage.PromptTokens != 9 || !got.NoStore || res.Text != "x" {
		t.Errorf("%+v, %v", got, err)
	}
	if v, err := hard.Before(ctx, &core.Request{Text: "answer", Target: "es"}); err != nil || v.Result.Text != "mine" {
		t.Errorf("%+v, %v", v, err)
	}
	// What the plugin has to say about a request is no failure of the plugin.
	for _, s := range []stage{hard, soft} {
		if _, err := s.Before(ctx, &core.Request{Text: "refuse", Target: "es"}); core.KindOf(err) != core.InvalidRequest || core.AsError(err, "").Field != "text" {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	if _, err := hard.Before(ctx, &core.Request{Text: "much", Target: "es"}); core.KindOf(err) != core.ProviderFailed {
		t.Errorf("too much state: %v", err)
	}
	if _, err := hard.After(ctx, req, &core.Result{Text: "spoiled"}, v.State); core.KindOf(err) != core.ProviderFailed {
		t.Errorf("a panic: %v", err)
	}
}

func TestAStageThatMayFailIsPassedOver(t *testing.T) {
	b := newBench(t, "providers: {}\nstages:\n  - plugin: {command: [SELF], on_error: skip}\n  - provider\n")
	s := b.start("plugin").(stage)
	// The other half must outlast what a busy machine adds to the plugin's.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	req := &core.Request{Text: "hang", Target: "es"}
	v, err := s.Before(ctx, req)
	if err != nil || v.Request != nil || v.State != nil || ctx.Err() != nil {
		t.Fatalf("%+v, %v, and the time of the request: %v", v, err, ctx.Err())
	}
	skipped := func(res *core.Result, err error) {
		t.Helper()
		if err != nil || res.Text != "spoiled" || !res.NoStore || len(res.Flags) != 1 || res.Flags[0] != flagSkipped {
			t.Errorf("%+v, %v", res, err)
		}
	}
	skipped(s.After(t.Context(), req, &core.Result{Text: "spoiled"}, v.State))
	skipped(s.After(t.Context(), req, &core.Result{Text: "spoiled"}, []byte{}))
	s.Close()
	if v, err := s.Before(t.Context(), req); err != nil || v.State != nil {
		t.Errorf("a plugin that is gone: %+v, %v", v, err)
	}
}

const hidden = `
providers: {}
stages:
  - plugin: {command: [SELF]}
  - provider
`

func TestAStageIsWaitedForWhileItsPluginIsRestarted(t *testing.T) {
	s := newBench(t, hidden).start("plugin").(stage)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	req := &core.Request{Text: "call 555", Target: "es"}
	v, err := s.Before(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	// After so many deaths the next start is not soon any more.
	for range 4 {
		r, leave, away := s.enter(ctx, nil, long)
		if away != nil {
			t.Fatal(away)
		}
		leave()
		syscall.Kill(r.pid(), syscall.SIGKILL)
		receive(t, provider{s.instance}.gone(r.pid()))
	}
	res, err := s.After(ctx, req, &core.Result{Text: "x"}, v.State)
	if err != nil || res.Text != "x call 555" {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestAStageIsWaitedForWhileItsPluginStartsAndNoLonger(t *testing.T) {
	dir := t.TempDir()
	fifo, script := filepath.Join(dir, "fifo"), filepath.Join(dir, "script")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// It fails the first time, and after that starts when somebody writes to the
	// fifo.
	executable.Write(t, script, `#!/bin/sh
if (set -C; : >first) 2>/dev/null; then exit 1; fi
read x <fifo
exec "$1"
`)
	b := newBench(t, strings.Replace(hidden, "[SELF]", "[/bin/sh, "+script+", SELF]", 1))
	folder := filepath.Dir(b.file.Path)
	if err := os.Symlink(fifo, filepath.Join(folder, "fifo")); err != nil {
		t.Fatal(err)
	}
	s := b.build("plugin").(stage)
	s.Start(t.Context())
	b.logged("died and is started again")
	if err := s.Ready(); err == nil {
		t.Error("it is ready, and does not run")
	}
	s.process().becomes(t, Starting)

	req := &core.Request{Text: "call 555", Target: "es"}
	brief, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := s.Before(brief, req)
	if e := core.AsError(err, ""); e == nil || e.Kind != core.Unavailable || !e.Retryable || e.RetryAfter <= 0 || e.Stage != "plugin" {
		t.Errorf("when it does not start in time: %v", err)
	}
	// A deadline may also come as the cause for which a call of many is ended.
	for cause, want := range map[error]core.ErrorKind{context.DeadlineExceeded: core.Unavailable, context.Canceled: core.Canceled} {
		ended, end := context.WithCancelCause(t.Context())
		end(cause)
		if _, err := s.Before(ended, req); core.KindOf(err) != want {
			t.Errorf("ended for %v: %v, want %s", cause, err, want)
		}
	}
	type answer struct {
		core.Verdict
		error
	}
	answered := make(chan answer)
	go func() {
		v, err := s.Before(t.Context(), req)
		answered <- answer{v, err}
	}()
	f, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for the script
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteString("now\n")
	if a := receive(t, answered); a.error != nil || a.Request.Text != "call ###" {
		t.Errorf("%+v", a)
	}
}

func TestARestartFailsNoCall(t *testing.T) {
	b := newBench(t, two)
	one, other := b.provider("a"), b.provider("b")
	pid := 0
	fmt.Sscan(one.ask(t, "pid").Text, &pid)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	var load sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		load.Go(func() {
			for {
				if res, err := one.Translate(t.Context(), &core.Request{Text: "x", Target: "es"}); err != nil || res.Text != "a:x" {
					t.Errorf("%+v, %v", res, err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	// A call that begins in the former process ends there.
	res, err := one.Translate(t.Context(), &core.Request{Text: "once " + fifo, Target: "es", OnDelta: func(string) error {
		if err := b.host.Restart(t.Context(), "b"); err != nil {
			t.Error(err)
		}
		if now := one.ask(t, "pid").Text; now == fmt.Sprint(pid) {
			t.Error("the former process is asked after the restart")
		}
		f, err := os.OpenFile(fifo, os.O_RDWR, 0)
		if err == nil {
			t.Cleanup(func() { f.Close() })
		}
		return err
	}})
	if err != nil || res.Text != "in time" {
		t.Errorf("%+v, %v", res, err)
	}
	close(stop)
	load.Wait()
	if one.ask(t, "x").Text != "a:x" || other.ask(t, "x").Text != "b:x" {
		t.Error("an instance was not configured again")
	}
	if n := one.again.Load() + one.failed.Load(); n != 0 {
		t.Errorf("%d calls failed in a process", n)
	}
	for deadline := time.Now().Add(60 * time.Second); syscall.Kill(pid, 0) != syscall.ESRCH; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the former process goes on")
		}
	}
	if s := b.host.Status(); len(s) != 1 || s[0].Restarts != 1 || s[0].State != Ready {
		t.Errorf("%+v", s)
	}
	err = b.host.Restart(t.Context(), "c")
	if core.KindOf(err) != core.NotFound || !strings.Contains(err.Error(), `no plugin in use is called "c"; there are a, b, `+filepath.Base(twin)) {
		t.Errorf("a name that is none: %v", err)
	}
}

func TestARestartRunsTheFilesAsTheyAreNowOrNothingChanges(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	write := func(text string) {
		t.Helper()
		// Not in place: a shell reads its script bit by bit.
		executable.Write(t, script+"~", "#!/bin/sh\n"+text+"\n")
		if err := os.Rename(script+"~", script); err != nil {
			t.Fatal(err)
		}
	}
	good, better, bad := "exec "+twin, "exec "+twin+" # better", "echo cannot do it; exit 1"
	write(good)
	b := newBench(t, strings.Replace(one, "[SELF]", "["+script+"], config: {prefix: '@'}", 1))
	p := b.build("odd").(provider)
	if p.Outdated() {
		t.Error("it is outdated before it was started")
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	runs := func(outdated bool) (pid string) {
		t.Helper()
		if got := p.Outdated(); got != outdated {
			t.Errorf("outdated: %v", got)
		}
		if p.ask(t, "x").Text != "@x" {
			t.Error("it lost its configuration")
		}
		return p.ask(t, "pid").Text
	}
	first := runs(false)
	write(good)
	if runs(false) != first || p.process().version.stamp == "" {
		t.Error("it was restarted by being looked at")
	}
	write(better)
	if runs(true) != first {
		t.Error("it was restarted by being looked at")
	}
	if err := b.host.Restart(t.Context(), "script"); err != nil {
		t.Error(err)
	}
	second := runs(false)
	if second == first {
		t.Error("it is the same process")
	}
	// Who comes now joins it, since it runs what the files say.
	later := b.provider("odd")
	if later.ask(t, "pid").Text != second {
		t.Error("the same files run twice")
	}
	later.Close()

	write(bad)
	if err := b.host.Restart(t.Context(), "odd"); err == nil || !strings.Contains(err.Error(), "cannot do it") {
		t.Errorf("a program that does not start: %v", err)
	}
	if runs(true) != second {
		t.Error("what served does not serve any more")
	}
	// Killed, it does not come back, until it is given up.
	pid := 0
	fmt.Sscan(second, &pid)
	gone := p.gone(pid)
	syscall.Kill(pid, syscall.SIGKILL)
	receive(t, gone)
	for state := Starting; state != Failed; state = b.host.Status()[0].State {
		if err := b.host.Restart(t.Context(), "odd"); err == nil {
			t.Fatal("it starts, and cannot")
		}
		p.process().becomesOne(t, Backoff, Failed)
	}
	write(good)
	if err := b.host.Restart(t.Context(), "odd"); err != nil {
		t.Errorf("it was given up: %v", err)
	}
	if third := runs(false); third == second {
		t.Error("it is the same process")
	}
}

func TestMeasuresTellHowAPluginIs(t *testing.T) {
	p := newBench(t, one).provider("odd")
	p.ask(t, "x")
	p.Translate(t.Context(), &core.Request{Text: "limited", Target: "es"})
	got := map[string]float64{}
	p.Measure(func(m core.Measure) { got[m.Name+strings.Join(m.Labels, "=")] = m.Value })
	for name, want := range map[string]float64{"plugin_statestate=ready": 1, "plugin_statestate=failed": 0, "plugin_calls_total": 2, "plugin_failed_calls_total": 1, "plugin_restarts_total": 0} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
	if got["plugin_pid"] == 0 || got["plugin_call_seconds_total"] == 0 {
		t.Errorf("%v", got)
	}
}

func TestSocketsThatWereLeftAreSwept(t *testing.T) {
	dir, err := os.MkdirTemp("", "s") // a test's own is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	mine, err := newSockets(dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	left, err := newSockets(dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(left.dir, "socket"), nil, 0o600)
	left.lock.Close() // as its death would
	fresh := filepath.Join(dir, fmt.Sprintf("dragoman-%d-fresh", os.Getuid()))
	os.Mkdir(fresh, 0o700)
	next, err := newSockets(dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{mine.dir: true, left.dir: false, fresh: true, next.dir: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", filepath.Base(path), err == nil, want)
		}
	}
	if info, _ := os.Stat(next.dir); info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", info.Mode())
	}
	mine.close()
	next.close()
	if _, err := os.Stat(mine.dir); err == nil {
		t.Error("it stays")
	}
}

// TestGatewaysThatStartTogetherKeepTheirSockets lets many sweep while others are
// at making their folders.
func TestGatewaysThatStartTogetherKeepTheirSockets(t *testing.T) {
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 50 {
				s, err := newSockets(dir, zap.NewNop())
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(s.dir); err != nil {
					t.Errorf("another has removed it: %v", err)
				}
				s.close()
			}
		})
	}
	all.Wait()
}

// TestCallsAndRestartsRaceForNothing lets the race detector look.
func TestCallsAndRestartsRaceForNothing(t *testing.T) {
	b := newBench(t, two)
	p, other := b.provider("a"), b.build("b").(provider)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if _, err := p.Translate(t.Context(), &core.Request{Text: "x", Target: "es"}); err != nil && core.KindOf(err) != core.Unavailable {
					t.Error(err)
				}
				p.Measure(func(core.Measure) {})
			}
		})
	}
	all.Go(func() {
		pid := 0
		fmt.Sscan(p.ask(t, "pid").Text, &pid)
		syscall.Kill(pid, syscall.SIGKILL)
	})
	all.Go(func() {
		if err := other.Start(t.Context()); err != nil {
			t.Error(err)
		}
		other.Close()
	})
	all.Wait()
}
