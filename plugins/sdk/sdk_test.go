package sdk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// TestMain is also the main of a plugin: the tests start this program as one.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("DRAGOMAN_TEST_PARENT") != "":
		parent()
	case os.Getenv(wire.CookieKey) != "" || os.Getenv("DRAGOMAN_TEST_PLUGIN") != "":
		Serve(shout(), stamp())
	}
	goleak.VerifyTestMain(m)
}

type shoutConfig struct {
	Suffix string        `json:"suffix" jsonschema:"maxLength=8"`
	Wait   time.Duration `json:"wait"`
	Inner  struct {
		Limit int `json:"limit" jsonschema:"minimum=1"`
	} `json:"inner"`
}

// shouter answers in capitals, and does as some texts say.
type shouter struct {
	cfg     shoutConfig
	started atomic.Bool
	closed  *atomic.Int64 // -1000 for one that was closed under a call
	calls   atomic.Int64
	entered chan struct{} // closed by a call that hangs; nil for no such call
	leave   chan struct{} // closed when that call may end
}

// closings counts the closings of every shouter that one kind has built.
func shoutInto(closed *atomic.Int64, entered, leave chan struct{}) core.Kind {
	return core.NewKind("shout", core.RoleProvider, "Answers in capitals.",
		func() shoutConfig { return shoutConfig{Suffix: "!", Wait: time.Second} },
		func(env core.Env, cfg *shoutConfig) (any, error) {
			if cfg.Suffix == "?" {
				return nil, &core.Error{Kind: core.InvalidRequest, Field: "suffix", Detail: "must not ask"}
			}
			return &shouter{cfg: *cfg, closed: closed, entered: entered, leave: leave}, nil
		})
}

func shout() core.Kind { return shoutInto(new(atomic.Int64), nil, nil) }

func (s *shouter) Start(context.Context) error { s.started.Store(true); return nil }
func (s *shouter) Close() error {
	s.closed.Add(1 - 1000*s.calls.Load())
	return nil
}
func (s *shouter) Probe(context.Context) error {
	return &core.Error{Kind: core.Unauthorized, Detail: "no key"}
}
func (s *shouter) Languages() []core.LanguageInfo {
	return []core.LanguageInfo{{Source: "en", Targets: []core.Language{"es"}}}
}

func (s *shouter) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	s.calls.Add(1)
	defer s.calls.Add(-1)
	limits := &core.Limits{Requests: core.Limit{Known: true, Limit: 60, Remaining: 7}}
	switch {
	case !s.started.Load():
		return nil, errors.New("never started")
	case req.Text == "panic":
		panic("boom")
	case req.Text == "nothing":
		return nil, nil
	case req.Text == "bytes":
		return &core.Result{Text: "\xff"}, nil
	case req.Text == "fail":
		return nil, &core.Error{
			Kind: core.RateLimited, Detail: "slow down", Retryable: true, RetryAfter: time.Second, Usage: core.Usage{PromptTokens: 3}, Limits: limits,
		}
	case req.Text == "hang":
		close(s.entered)
		<-ctx.Done()
		<-s.leave
		return nil, core.ContextError(ctx, "shout")
	}
	if req.OnDelta != nil {
		for _, word := range strings.Fields(req.Text) {
			if err := req.OnDelta(strings.ToUpper(word)); err != nil {
				return nil, err
			}
		}
	}
	return &core.Result{Text: strings.ToUpper(req.Text) + s.cfg.Suffix, Limits: limits}, nil
}

// stamp marks a text on its way down and takes the mark off on the way up.
func stamp() core.Kind {
	return core.NewKind("stamp", core.RoleStage, "Marks.", func() struct{} { return struct{}{} },
		func(core.Env, *struct{}) (any, error) { return stamper{}, nil })
}

type stamper struct{}

func (stamper) Before(_ context.Context, req *core.Request) (core.Verdict, error) {
	switch req.Text {
	case "answer":
		return core.Verdict{Result: &core.Result{Text: "mine"}}, nil
	case "fail":
		return core.Verdict{}, &core.Error{Kind: core.InvalidRequest, Field: "text", Detail: "no"}
	case "panic":
		panic("boom")
	case "plain":
		return core.Verdict{State: []byte("s")}, nil
	}
	r := *req
	r.Text = "<" + req.Text + ">"
	return core.Verdict{Request: &r, State: []byte(req.Text)}, nil
}

func (stamper) After(_ context.Context, req *core.Request, res *core.Result, state []byte) (*core.Result, error) {
	if res.Text == "bad" {
		return nil, &core.Error{Kind: core.BadAnswer, Detail: "bad", Retryable: true}
	}
	return &core.Result{Text: res.Text + " " + string(state) + " " + req.Text}, nil
}

// client talks to a server of kinds in this process.
type client struct {
	wire.PluginClient
	wire.ProviderClient
	wire.StageClient
	conn *grpc.ClientConn
}

func dial(t *testing.T, kinds ...core.Kind) client {
	t.Helper()
	s, err := newServer("test", kinds, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	l := bufconn.Listen(1 << 20)
	g := grpcServer(nil)
	s.register(g)
	served := make(chan struct{})
	go func() { defer close(served); g.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); g.Stop(); s.close(); <-served })
	return client{wire.NewPluginClient(conn), wire.NewProviderClient(conn), wire.NewStageClient(conn), conn}
}

func (c client) configure(t *testing.T, id string, role wire.Role, config string) *wire.ConfigReply {
	t.Helper()
	reply, err := c.Configure(t.Context(), &wire.Config{Instance: id, Role: role, Name: id, Config: []byte(config), Deadline: durationpb.New(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// say translates texts and returns their events by index.
func (c client) say(t *testing.T, texts ...*wire.Text) map[uint32][]*wire.Event {
	t.Helper()
	stream, err := c.ProviderClient.Translate(t.Context(), &wire.Call{Instance: "p", Texts: texts})
	if err != nil {
		t.Fatal(err)
	}
	got := map[uint32][]*wire.Event{}
	for {
		e, err := stream.Recv()
		if err == io.EOF {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got[e.Index] = append(got[e.Index], e)
	}
}

func TestDescribeTellsWhatTheProgramIs(t *testing.T) {
	d, err := dial(t, shout(), stamp()).Describe(t.Context(), &wire.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "test" || d.Version == "" || d.Protocol != wire.Protocol || len(d.Parts) != 2 {
		t.Fatalf("%v", d)
	}
	p, s := d.Parts[0], d.Parts[1]
	if p.Role != wire.Role_ROLE_PROVIDER || p.Name != "shout" || p.Before || !strings.Contains(string(p.ConfigSchema), `"go-duration"`) || !strings.Contains(string(p.ConfigSchema), `"default":"1s"`) {
		t.Errorf("%v", p)
	}
	if s.Role != wire.Role_ROLE_STAGE || !s.Before || !s.After {
		t.Errorf("%v", s)
	}
}

func TestAProgramServesOneKindOfEachRole(t *testing.T) {
	gate := core.NewKind("g", core.RoleGate, "", func() struct{} { return struct{}{} }, func(core.Env, *struct{}) (any, error) { return nil, nil })
	for name, c := range map[string]struct {
		kinds []core.Kind
		want  string
	}{
		"none":      {nil, "no kind"},
		"a gate":    {[]core.Kind{gate}, "has the role gate"},
		"providers": {[]core.Kind{shout(), shout()}, "one kind of each"},
	} {
		if _, err := newServer("test", c.kinds, zap.NewNop()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
}

func TestAConfigurationIsRefusedByItsKeys(t *testing.T) {
	c := dial(t, shout())
	for config, want := range map[string]string{
		`{"suffix": "?"}`:              "suffix: must not ask",
		`{"inner": {"limit": "many"}}`: "inner.limit: ",
		`{"wait": "soon"}`:             "wait: ",
		`{"sufix": "."}`:               ": ",
		`[]`:                           ": the configuration is no JSON object",
	} {
		reply := c.configure(t, "p", wire.Role_ROLE_PROVIDER, config)
		got := ""
		for _, e := range reply.Errors {
			got += e.Field + ": " + e.Detail
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q", config, got, want)
		}
	}
	if reply := c.configure(t, "s", wire.Role_ROLE_STAGE, `{}`); len(reply.Errors) != 1 || !strings.Contains(reply.Errors[0].Detail, "serves no stage") {
		t.Errorf("a role that is not served: %v", reply)
	}
	if reply := c.configure(t, "p", wire.Role_ROLE_PROVIDER, `{"wait": "5s", "inner": {"limit": 3}}`); len(reply.Errors) != 0 || len(reply.Languages) != 1 {
		t.Errorf("a good one: %v", reply)
	}
}

func TestATextIsAnsweredWithDeltasAndAResult(t *testing.T) {
	c := dial(t, shout())
	c.configure(t, "p", wire.Role_ROLE_PROVIDER, `{"suffix": "."}`)
	got := c.say(t, &wire.Text{Text: "good day", Target: "es", Deltas: true}, &wire.Text{Text: "bye", Target: "es"})
	if len(got[0]) != 3 || got[0][0].GetDelta() != "GOOD" || got[0][1].GetDelta() != "DAY" || got[0][2].GetResult().GetText() != "GOOD DAY." {
		t.Errorf("%v", got[0])
	}
	if len(got[1]) != 1 || got[1][0].GetResult().GetText() != "BYE." || got[1][0].GetLimits().GetRequests().GetRemaining() != 7 {
		t.Errorf("%v", got[1])
	}
}

func TestOneTextIsAnsweredWithoutDeltas(t *testing.T) {
	c := dial(t, shout())
	c.configure(t, "p", wire.Role_ROLE_PROVIDER, `{"suffix": "."}`)
	e, err := c.Answer(t.Context(), &wire.Visit{Instance: "p", Text: &wire.Text{Text: "good day", Target: "es", Deltas: true}})
	if err != nil || e.GetResult().GetText() != "GOOD DAY." || e.GetLimits().GetRequests().GetRemaining() != 7 {
		t.Errorf("%v, %v", e, err)
	}
}

func TestWhatGoesWrongIsAnErrorOfItsText(t *testing.T) {
	c := dial(t, shout())
	c.configure(t, "p", wire.Role_ROLE_PROVIDER, `{}`)
	for text, kind := range map[string]core.ErrorKind{"panic": core.Internal, "nothing": core.Internal, "bytes": core.BadAnswer, "fail": core.RateLimited} {
		got := c.say(t, &wire.Text{Text: text, Target: "es"}, &wire.Text{Text: "fine", Target: "es"})
		e := got[0][0].GetError()
		if core.ErrorKind(e.GetKind()) != kind {
			t.Errorf("%s: %v", text, got[0])
		}
		if text == "fail" && (!e.Retryable || e.RetryAfter.AsDuration() != time.Second || got[0][0].GetSpent().GetPromptTokens() != 3) {
			t.Errorf("%s: %v", text, got[0])
		}
		if got[1][0].GetResult().GetText() != "FINE!" {
			t.Errorf("beside %s: %v", text, got[1])
		}
		if alone, err := c.Answer(t.Context(), &wire.Visit{Instance: "p", Text: &wire.Text{Text: text, Target: "es"}}); err != nil || !proto.Equal(alone, got[0][0]) {
			t.Errorf("%s by itself: %v, %v, want %v", text, alone, err, got[0][0])
		}
	}
	if _, err := c.Answer(t.Context(), &wire.Visit{Instance: "unknown", Text: &wire.Text{}}); status.Code(err) != codes.NotFound {
		t.Errorf("one text for an instance that nobody configured: %v", err)
	}
	stream, err := c.ProviderClient.Translate(t.Context(), &wire.Call{Instance: "unknown", Texts: []*wire.Text{{}}})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.NotFound {
		t.Errorf("an instance that nobody configured: %v", err)
	}
}

// grow answers with many times what it was asked for, at every place where that can be said.
type grow struct{ deltas bool }

func (g grow) Translate(_ context.Context, req *core.Request) (*core.Result, error) {
	long := strings.Repeat(req.Text, 3)
	if g.deltas && req.OnDelta != nil {
		if err := req.OnDelta(long); err != nil {
			return nil, err
		}
	}
	return &core.Result{Text: long, Usage: core.Usage{PromptTokens: 7}}, nil
}

func (grow) Before(_ context.Context, req *core.Request) (core.Verdict, error) {
	changed := *req
	changed.Text = strings.Repeat(req.Text, 3)
	switch {
	case req.Target == "fr":
		return core.Verdict{Result: &core.Result{Text: changed.Text}}, nil
	case req.Target == "de":
		return core.Verdict{State: []byte(changed.Text)}, nil
	}
	return core.Verdict{Request: &changed}, nil
}

func (grow) After(_ context.Context, req *core.Request, res *core.Result, _ []byte) (*core.Result, error) {
	return &core.Result{Text: strings.Repeat(res.Text, 3)}, nil
}

func TestAnAnswerThatNoMessageHoldsIsTooLargeAndNoFailureOfTheCall(t *testing.T) {
	for _, deltas := range []bool{false, true} {
		build := func(role core.Role) core.Kind {
			return core.NewKind("grow", role, "Answers at length.", func() struct{} { return struct{}{} }, func(core.Env, *struct{}) (any, error) { return grow{deltas}, nil })
		}
		c := dial(t, build(core.RoleProvider), build(core.RoleStage))
		c.configure(t, "p", wire.Role_ROLE_PROVIDER, "{}")
		c.configure(t, "s", wire.Role_ROLE_STAGE, "{}")
		for _, long := range []bool{true, false} {
			text := &wire.Text{Id: "1", Text: "a", Target: "es", Deltas: true}
			if long {
				text.Text = strings.Repeat("a", 3<<20)
			}
			fits := func(call string, err error, e *wire.Error) {
				t.Helper()
				switch {
				case err != nil:
					t.Errorf("%s, long %v: %v", call, long, err)
				case long && (e.GetKind() != "too_large" || e.GetField() != "text" || !strings.Contains(e.GetDetail(), "a message of the protocol holds")):
					t.Errorf("%s: %v", call, e)
				case !long && e != nil:
					t.Errorf("%s of a short text: %v", call, e)
				}
			}
			e, err := c.ProviderClient.Answer(t.Context(), &wire.Visit{Instance: "p", Text: text})
			fits("Answer", err, e.GetError())
			if long && e.GetSpent().GetPromptTokens() != 7 {
				t.Errorf("it cost %v", e.GetSpent())
			}
			events := c.say(t, &wire.Text{Id: "1", Text: text.Text, Target: "es", Deltas: true})[0]
			fits("Translate", nil, events[len(events)-1].GetError())
			for _, target := range []string{"es", "fr", "de"} {
				text.Target = target
				v, err := c.StageClient.Before(t.Context(), &wire.Visit{Instance: "s", Text: text})
				fits("Before to "+target, err, v.GetError())
			}
			r, err := c.StageClient.After(t.Context(), &wire.Done{Instance: "s", Text: &wire.Text{Id: "1"}, Result: &wire.Result{Text: text.Text}})
			fits("After", err, r.GetError())
		}
	}
}

func TestACallEndsWithItsCaller(t *testing.T) {
	hang := &wire.Text{Text: "hang", Target: "es"}
	for name, call := range map[string]func(context.Context, client) error{
		"Answer": func(ctx context.Context, c client) error {
			_, err := c.Answer(ctx, &wire.Visit{Instance: "p", Text: hang})
			return err
		},
		"Translate": func(ctx context.Context, c client) error {
			stream, err := c.ProviderClient.Translate(ctx, &wire.Call{Instance: "p", Texts: []*wire.Text{hang}})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { endsWithItsCaller(t, call) })
	}
}

func endsWithItsCaller(t *testing.T, call func(context.Context, client) error) {
	entered, leave := make(chan struct{}), make(chan struct{})
	closed := new(atomic.Int64)
	c := dial(t, shoutInto(closed, entered, leave))
	c.configure(t, "p", wire.Role_ROLE_PROVIDER, `{}`)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- call(ctx, c) }()
	<-entered
	cancel()
	if err := <-left; status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	released := make(chan error, 1)
	go func() {
		_, err := c.Release(t.Context(), &wire.Instance{Id: "p"})
		released <- err
	}()
	for { // until the release has begun
		if _, err := c.Health(t.Context(), &wire.Instance{Id: "p"}); status.Code(err) == codes.NotFound {
			break
		}
	}
	close(leave)
	if err := <-released; err != nil || closed.Load() != 1 {
		t.Errorf("%v, closed: %d, want once and under no call", err, closed.Load())
	}
}

func TestInstancesAreReplacedReleasedAndProbed(t *testing.T) {
	closed := new(atomic.Int64)
	c := dial(t, shoutInto(closed, nil, nil))
	if state, err := c.Health(t.Context(), &wire.Instance{}); err != nil || state.Error != nil {
		t.Fatal(state, err)
	}
	c.configure(t, "p", wire.Role_ROLE_PROVIDER, `{"suffix": "1"}`)
	c.configure(t, "q", wire.Role_ROLE_PROVIDER, `{"suffix": "2"}`)
	c.configure(t, "p", wire.Role_ROLE_PROVIDER, `{"suffix": "3"}`)
	if closed.Load() != 1 {
		t.Errorf("the one that was replaced: closed %d times", closed.Load())
	}
	if got := c.say(t, &wire.Text{Text: "a", Target: "es"})[0][0].GetResult().GetText(); got != "A3" {
		t.Errorf("got %q", got)
	}
	if state, err := c.Health(t.Context(), &wire.Instance{Id: "p"}); err != nil || state.Error.GetKind() != "unauthorized" {
		t.Errorf("the probe of the part: %v, %v", state, err)
	}
	for range 2 { // the second is no mistake
		if _, err := c.Release(t.Context(), &wire.Instance{Id: "p"}); err != nil {
			t.Error(err)
		}
	}
	if closed.Load() != 2 {
		t.Errorf("closed %d times", closed.Load())
	}
}

func TestAStageIsCalledOnTheWayDownAndUp(t *testing.T) {
	c := dial(t, stamp())
	c.configure(t, "s", wire.Role_ROLE_STAGE, "")
	before := func(text string) *wire.Verdict {
		t.Helper()
		v, err := c.Before(t.Context(), &wire.Visit{Instance: "s", Text: &wire.Text{Text: text, Target: "es"}})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := before("x"); v.GetRequest().GetText() != "<x>" || string(v.State) != "x" {
		t.Errorf("%v", v)
	}
	if v := before("plain"); v.What != nil || string(v.State) != "s" {
		t.Errorf("%v", v)
	}
	if v := before("answer"); v.GetResult().GetText() != "mine" {
		t.Errorf("%v", v)
	}
	if v := before("fail"); v.GetError().GetField() != "text" {
		t.Errorf("%v", v)
	}
	if v := before("panic"); v.GetError().GetKind() != "internal" {
		t.Errorf("%v", v)
	}
	r, err := c.After(t.Context(), &wire.Done{Instance: "s", Text: &wire.Text{Text: "x", Target: "es"}, Result: &wire.Result{Text: "y"}, State: []byte("z")})
	if err != nil || r.GetResult().GetText() != "y z x" {
		t.Errorf("%v, %v", r, err)
	}
	r, err = c.After(t.Context(), &wire.Done{Instance: "s", Text: &wire.Text{Text: "x", Target: "es"}, Result: &wire.Result{Text: "bad"}})
	if err != nil || r.GetError().GetKind() != "bad_answer" {
		t.Errorf("%v, %v", r, err)
	}
}

// TestAnAuthorDragsInNoneOfTheGateway keeps a plugin small.
func TestAnAuthorDragsInNoneOfTheGateway(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "hashicorp/go-plugin") {
		t.Fatal("the list tells nothing")
	}
	for dep := range strings.Lines(string(out)) {
		for _, heavy := range []string{"koanf", "ristretto", "prometheus", "cobra", "fsnotify", "failsafe", "santhosh-tekuri", "dragoman/core/config", "dragoman/core/engine", "dragoman/stages", "dragoman/plugins/host"} {
			if strings.Contains(dep, heavy) {
				t.Errorf("a plugin links %s", strings.TrimSpace(dep))
			}
		}
	}
}

// self is this program as a plugin.
func self(t *testing.T, env string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	// A program with the race detector in it rests for a second at its end.
	cmd.Env = []string{env, "GORACE=atexit_sleep_ms=0"}
	return cmd
}

func TestStartedByHandItSaysWhatItIs(t *testing.T) {
	cmd := self(t, "DRAGOMAN_TEST_PLUGIN=1")
	out, err := cmd.CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 2 || !strings.Contains(string(out), "is a plugin of Dragoman") {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestItListensWhereItIsToldTo(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	cmd := self(t, "DRAGOMAN_TEST_PLUGIN=1", "--listen", "unix:"+socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if d, err := wire.NewPluginClient(conn).Describe(ctx, &wire.DescribeRequest{}, grpc.WaitForReady(true)); err != nil || len(d.Parts) != 2 {
		t.Errorf("%v, %v", d, err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// handshake starts cmd as the gateway would and returns its standard input, once
// it serves, what it prints after that, and where it listens.
func handshake(t *testing.T, cmd *exec.Cmd) (stdin io.WriteCloser, out *bufio.Reader, socket string) {
	t.Helper()
	cmd.Env = append(cmd.Env, wire.CookieKey+"="+wire.CookieValue, "PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_UNIX_SOCKET_DIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out = bufio.NewReader(stdout)
	line, err := out.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "1|1|unix|") {
		t.Fatalf("%q, %v", line, err)
	}
	return stdin, out, strings.Split(line, "|")[3]
}

// TestTwoThatEndItAtOnceAreOne lets the race detector in the plugin look.
func TestTwoThatEndItAtOnceAreOne(t *testing.T) {
	for range 5 {
		cmd := self(t, "A=B")
		var said strings.Builder
		cmd.Stderr = &said
		stdin, _, socket := handshake(t, cmd)
		var ready, all sync.WaitGroup
		ready.Add(2)
		for range 2 {
			conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			all.Go(func() {
				if _, err := wire.NewPluginClient(conn).Describe(t.Context(), &wire.DescribeRequest{}); err != nil {
					t.Error(err)
				}
				ready.Done()
				ready.Wait()
				// Who is ended may have no time to say so.
				conn.Invoke(t.Context(), "/plugin.GRPCController/Shutdown", &emptypb.Empty{}, &emptypb.Empty{})
			})
		}
		all.Wait()
		if err := cmd.Wait(); err != nil || said.Len() > 0 {
			t.Errorf("%v\n%s", err, said.String())
		}
		stdin.Close()
	}
}

func TestItEndsWhenItsStandardInputEnds(t *testing.T) {
	cmd := self(t, "A=B")
	stdin, _, _ := handshake(t, cmd)
	stdin.Close()
	cmd.Wait()
	if s := cmd.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGKILL {
		t.Errorf("ended as %v, want the SIGKILL to its own group", cmd.ProcessState)
	}
}

func TestASIGTERMDoesNotEndItWhileItsParentLives(t *testing.T) {
	cmd := self(t, "A=B")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, _, _ := handshake(t, cmd)
	cmd.Process.Signal(syscall.SIGTERM)
	if line, err := bufio.NewReader(stderr).ReadString('\n'); err != nil || !strings.Contains(line, "SIGTERM is left to the gateway") {
		t.Errorf("%q, %v", line, err)
	}
	stdin.Close()
	cmd.Wait()
}

// parent starts a plugin whose standard input somebody else holds, so that only
// the parent's death can end it, and is killed then.
func parent() {
	program, _ := os.Executable()
	cmd := exec.Command(program)
	cmd.Env = []string{wire.CookieKey + "=" + wire.CookieValue, "PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_UNIX_SOCKET_DIR=" + os.Getenv("DRAGOMAN_TEST_PARENT")}
	cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
	cmd.SysProcAttr = deadWithParent()
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
	}
	cmd.Wait()
}

// TestTheExampleOfTheReadmeBuilds builds the program that README.md shows, as if
// it stood beside this package.
func TestTheExampleOfTheReadmeBuilds(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, code, found := strings.Cut(string(readme), "```go\n")
	code, _, closed := strings.Cut(code, "```")
	if !found || !closed || !strings.Contains(code, "func main()") {
		t.Fatal("README.md shows no program")
	}
	dir := t.TempDir()
	source, overlay, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "shout")
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{source: code, overlay: fmt.Sprintf(`{"Replace": {%q: %q}}`, filepath.Join(here, "example", "main.go"), source)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-overlay", overlay, "-o", program, "./example")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as all that make builds
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(program).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "shout is a plugin of Dragoman") {
		t.Errorf("%v\n%s", err, out)
	}
}
