//go:build !race

// Package python tests dragoman_plugin.py from outside: each test starts a
// program that uses it, as the gateway would.
package python

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// TestMain is also the main of a gateway that dies: see parent.
func TestMain(m *testing.M) {
	if dir := os.Getenv("DRAGOMAN_TEST_PARENT"); dir != "" {
		parent(dir)
	}
	goleak.VerifyTestMain(m)
}

const interpreter = "/usr/bin/python3"

// needPython skips a test where the SDK's needs are not installed.
func needPython(t *testing.T) {
	t.Helper()
	if why := missing(); why != "" {
		t.Skipf("not tested: %s has no grpcio (apt-get install python3-grpcio python3-protobuf): %s", interpreter, why)
	}
}

// missing says what is not there. To ask starts an interpreter.
var missing = sync.OnceValue(func() string {
	if out, err := exec.Command(interpreter, "-c", "import google.protobuf, grpc").CombinedOutput(); err != nil {
		return fmt.Sprintf("%v %s", err, out)
	}
	return ""
})

// A plugin is a running testdata/odd.py, and a connection to it.
type plugin struct {
	t      *testing.T
	cmd    *exec.Cmd
	socket string
	conn   *grpc.ClientConn
	stdin  io.Closer

	mu   sync.Mutex
	said bytes.Buffer // on standard error
	more chan struct{}

	rest  chan string   // what standard output says after the handshake
	ended chan struct{} // closed when the process has ended and its output was read
}

func (p *plugin) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said.Write(b)
	close(p.more)
	p.more = make(chan struct{})
	return len(b), nil
}

func (p *plugin) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// command is odd.py as a gateway starts it.
func command(folder string, env ...string) *exec.Cmd {
	cmd := exec.Command(interpreter, "testdata/odd.py")
	cmd.Env = append([]string{wire.CookieKey + "=" + wire.CookieValue, "PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_UNIX_SOCKET_DIR=" + folder}, env...)
	return cmd
}

// sockets makes a folder for a socket; a test's own has too long a name.
func sockets(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// start starts odd.py and connects to it. Env is its environment, beside what
// the gateway says.
func start(t *testing.T, env ...string) *plugin {
	t.Helper()
	needPython(t)
	p := &plugin{t: t, cmd: command(sockets(t), env...), more: make(chan struct{}), rest: make(chan string, 1), ended: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stderr = p
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(stdout)
	line, err := out.ReadString('\n')
	go func() {
		defer close(p.ended)
		rest, _ := io.ReadAll(out)
		p.rest <- string(rest)
		p.cmd.Wait()
	}()
	t.Cleanup(func() {
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.ended
	})
	fields := strings.Split(strings.TrimSpace(line), "|")
	if err != nil || len(fields) != 6 || strings.Join(fields[:3], "|") != "1|1|unix" || fields[4] != "grpc" {
		t.Fatalf("the handshake is %q, %v:\n%s", line, err, p.output())
	}
	p.socket = fields[3]
	p.dial("unix:" + p.socket)
	return p
}

func (p *plugin) dial(target string) {
	p.t.Helper()
	var err error
	if p.conn, err = grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20))); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { p.conn.Close() })
}

func (p *plugin) plugin() wire.PluginClient     { return wire.NewPluginClient(p.conn) }
func (p *plugin) provider() wire.ProviderClient { return wire.NewProviderClient(p.conn) }
func (p *plugin) stage() wire.StageClient       { return wire.NewStageClient(p.conn) }

// shutdown asks it to end, as go-plugin does.
func (p *plugin) shutdown() error {
	return p.conn.Invoke(p.t.Context(), "/plugin.GRPCController/Shutdown", &emptypb.Empty{}, &emptypb.Empty{})
}

// configure makes the instance id, and fails when that is refused.
func (p *plugin) configure(id string, role wire.Role, config string) {
	p.t.Helper()
	if errs := p.refusal(id, role, config); errs != "" {
		p.t.Fatalf("refused: %s", errs)
	}
}

// refusal returns what is wrong with config.
func (p *plugin) refusal(id string, role wire.Role, config string) string {
	p.t.Helper()
	reply, err := p.plugin().Configure(p.t.Context(), &wire.Config{Instance: id, Role: role, Name: "name-" + id, Config: []byte(config), Deadline: durationpb.New(time.Minute)})
	if err != nil {
		p.t.Fatal(err)
	}
	var all []string
	for _, e := range reply.GetErrors() {
		all = append(all, e.GetField()+": "+e.GetDetail())
	}
	return strings.Join(all, "; ")
}

// odd starts odd.py with the instance p of its provider.
func odd(t *testing.T, env ...string) *plugin {
	t.Helper()
	p := start(t, env...)
	p.configure("p", wire.Role_ROLE_PROVIDER, `{}`)
	return p
}

// send begins a call for texts.
func (p *plugin) send(ctx context.Context, texts ...*wire.Text) grpc.ServerStreamingClient[wire.Event] {
	p.t.Helper()
	stream, err := p.provider().Translate(ctx, &wire.Call{Instance: "p", Texts: texts})
	if err != nil {
		p.t.Error(err)
	}
	return stream
}

// say translates texts and returns their events.
func (p *plugin) say(texts ...*wire.Text) (events []*wire.Event, err error) {
	p.t.Helper()
	stream := p.send(p.t.Context(), texts...)
	for {
		e, err := stream.Recv()
		if err == io.EOF {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
}

// last translates one text and returns its last event.
func (p *plugin) last(text string) *wire.Event {
	p.t.Helper()
	events, err := p.say(&wire.Text{Id: "r-1", Text: text, Target: "es"})
	if err != nil || len(events) == 0 {
		p.t.Errorf("%.40s: %d events, %v\n%s", text, len(events), err, p.output())
		return &wire.Event{}
	}
	return events[len(events)-1]
}

// see waits until it has printed part.
func (p *plugin) see(part string) {
	p.t.Helper()
	late := time.After(60 * time.Second)
	for {
		p.mu.Lock()
		found, more := strings.Contains(p.said.String(), part), p.more
		p.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-late:
			p.t.Fatalf("it never said %q:\n%s", part, p.output())
		}
	}
}

// end waits for its end and returns how it ended.
func (p *plugin) end() syscall.WaitStatus {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(60 * time.Second):
		p.t.Fatalf("it goes on:\n%s", p.output())
	}
	return p.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

func TestItsMessagesAreThoseOfTheProtocol(t *testing.T) {
	raw, err := os.ReadFile("dragoman_plugin.binpb")
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil {
		t.Fatal(err)
	}
	want := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(durationpb.File_google_protobuf_duration_proto),
		protodesc.ToFileDescriptorProto(wire.File_plugin_proto),
		protodesc.ToFileDescriptorProto(grpc_health_v1.File_grpc_health_v1_health_proto),
	}}
	if !proto.Equal(&set, want) {
		t.Error("dragoman_plugin.binpb is not what the code says: run make generate")
	}
}

func TestTheKindsOfErrorsAreThoseOfTheGateway(t *testing.T) {
	needPython(t)
	out, err := exec.Command(interpreter, "-c", "import dragoman_plugin; print(*dragoman_plugin.KINDS)").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, kind := range strings.Fields(string(out)) {
		if got := wire.DecodeError(&wire.Error{Kind: kind}, ""); string(got.Kind) != kind {
			t.Errorf("%s counts as %s", kind, got.Kind)
		}
	}
	if n := len(strings.Fields(string(out))); n != 16 {
		t.Errorf("%d kinds", n)
	}
}

func TestDescribeTellsWhatTheProgramIs(t *testing.T) {
	p := start(t)
	d, err := p.plugin().Describe(t.Context(), &wire.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "odd" || d.Version != "1.2" || d.Protocol != wire.Protocol || len(d.Parts) != 2 {
		t.Fatalf("%v", d)
	}
	one, two := d.Parts[0], d.Parts[1]
	if one.Role != wire.Role_ROLE_PROVIDER || one.Name != "Odd" || one.Doc != "Does what texts say." || one.Before || one.After {
		t.Errorf("%v", one)
	}
	if two.Role != wire.Role_ROLE_STAGE || !two.Before || !two.After {
		t.Errorf("%v", two)
	}
	var schema struct {
		Properties           map[string]struct{ Type any }
		AdditionalProperties any
	}
	if err := json.Unmarshal(one.ConfigSchema, &schema); err != nil || len(schema.Properties) != 3 || schema.AdditionalProperties != false {
		t.Errorf("%s: %v", one.ConfigSchema, err)
	}
	health := grpc_health_v1.NewHealthClient(p.conn)
	if r, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "plugin"}); err != nil || r.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "other"}); status.Code(err) != codes.NotFound {
		t.Errorf("a service that is not here: %v", err)
	}
}

func TestAConfigurationIsRefusedByItsKeys(t *testing.T) {
	p := start(t)
	for config, want := range map[string]string{
		`{"suffix": "?"}`:      "suffix: must not ask; places[1]: is too far",
		`{"suffix": "broken"}`: ": KeyError: 'broken'",
		`{"sufix": "."}`:       "sufix: there is no such key",
		`{"suffix": 7}`:        "suffix: must be of type string",
		`{"limit": true}`:      "limit: must be of type ['integer', 'null']",
		`{"limit": null}`:      "",
		`[]`:                   ": the configuration is no JSON object",
		`{`:                    ": the configuration is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
	} {
		if got := p.refusal("p", wire.Role_ROLE_PROVIDER, config); got != want {
			t.Errorf("%s: got %q, want %q", config, got, want)
		}
	}
	if got := p.refusal("p", wire.Role_ROLE_UNSPECIFIED, `{}`); !strings.Contains(got, "odd serves no such role") {
		t.Errorf("a role that is none: %q", got)
	}
	reply, err := p.plugin().Configure(t.Context(), &wire.Config{Instance: "p", Role: wire.Role_ROLE_PROVIDER})
	if err != nil || len(reply.Errors) != 0 || len(reply.Languages) != 1 || reply.Languages[0].Source != "en" || len(reply.Languages[0].Targets) != 2 {
		t.Errorf("no configuration: %v, %v", reply, err)
	}
}

// TestDurationsAndSizesArriveAsNumbers builds classes without a gateway: what it is told of their keys, and what they get.
func TestDurationsAndSizesArriveAsNumbers(t *testing.T) {
	needPython(t)
	const program = `
import json, sys
import dragoman_plugin as sdk

class Part:
    keys = {
        "wait": {"format": "duration", "default": "250ms", "minDuration": "1ms", "description": "How long."},
        "never": {"type": ["string", "null"], "format": "duration", "default": None},
        "room": {"format": "bytes", "default": "64MiB"},
        "waits": {"type": "array", "items": {"format": "duration"}, "default": ["1s"]},
        "each": {"type": "object", "properties": {"format": {"format": "bytes"}}, "additionalProperties": {"format": "duration"}, "default": {}},
        "former": {"type": "string", "format": "go-duration", "default": "2s"},
        "formers": {"format": "size", "default": "1KiB"},
    }
    def __init__(self, config):
        self.config = config
    def translate(self, request):
        return request.text

part = sdk._Part(Part)
try:
    print(json.dumps(json.loads(part.schema)["properties"] if sys.argv[1] == "schema" else part.build(sys.argv[1].encode()).config, sort_keys=True))
except sdk.ConfigError as error:
    print(json.dumps(error.mistakes, sort_keys=True))
`
	for given, want := range map[string]string{
		"schema": `{"each": {"additionalProperties": {"format": "go-duration", "type": ["string"]}, "default": {}, "properties": {"format": {"format": "size", "type": ["string", "integer"]}}, "type": "object"}, ` +
			`"former": {"default": "2s", "format": "go-duration", "type": "string"}, "formers": {"default": "1KiB", "format": "size"}, ` +
			`"never": {"default": null, "format": "go-duration", "type": ["string", "null"]}, "room": {"default": "64MiB", "format": "size", "type": ["string", "integer"]}, ` +
			`"wait": {"default": "250ms", "description": "How long.", "format": "go-duration", "minDuration": "1ms", "type": ["string"]}, ` +
			`"waits": {"default": ["1s"], "items": {"format": "go-duration", "type": ["string"]}, "type": "array"}}`,
		`{}`: `{"each": {}, "former": "2s", "formers": "1KiB", "never": null, "room": 67108864, "wait": 0.25, "waits": [1.0]}`,
		`{"wait": "1h2m3.5s", "never": "0", "room": 12, "waits": [], "each": {"format": "2 KB", "b": "3us"}, "former": "1m"}`: `{"each": {"b": 3e-06, "format": 2000}, "former": "1m", "formers": "1KiB", "never": 0.0, "room": 12, "wait": 3723.5, "waits": []}`,
		`{"wait": "soon", "room": "much", "waits": ["1s", 2], "each": {"a": ""}}`: `{"each.a": "must be a duration, such as 250ms, 1.5s or 1h30m", "room": "must be a size, such as 64MiB or 4096", ` +
			`"wait": "must be a duration, such as 250ms, 1.5s or 1h30m", "waits[1]": "must be a duration, such as 250ms, 1.5s or 1h30m"}`,
		`{"wait": true, "room": true}`: `{"room": "must be a size, such as 64MiB or 4096", "wait": "must be a duration, such as 250ms, 1.5s or 1h30m"}`,
	} {
		cmd := exec.Command(interpreter, "-c", program, given)
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%s: %v\ngot  %s\nwant %s", given, err, out, want)
		}
	}
	wrong := strings.Replace(program, `"64MiB"`, `"64 things"`, 1)
	if out, err := exec.Command(interpreter, "-c", wrong, "{}").CombinedOutput(); err == nil || !strings.Contains(string(out), "the default of Part.keys['room'] must be a size") {
		t.Errorf("a default that is none: %v\n%s", err, out)
	}
}

// TestADurationMeansWhatTheGatewayTakesItFor compares the parsers of both.
func TestADurationMeansWhatTheGatewayTakesItFor(t *testing.T) {
	needPython(t)
	durations := []string{"0", "1ns", "2us", "3µs", "4μs", "5ms", "1.5s", ".5s", "2.m", "1h", "1h2m3s", "100h", "", "1", "s", "1d", "-1s", "1s ", "1 s", "1s2", "１s", "1h\n", "00s"}
	sizes := []string{"0", "12", "1B", "1KB", "2 MB", "3  GB", "1KiB", "64MiB", "2GiB", "", "x", "1.5MiB", "-1", "1kb", "1TB", "１"}
	out, err := exec.Command(interpreter, append([]string{"-c", `
import sys
import dragoman_plugin as sdk
for parse, text in [(sdk.parse_duration if i[0] == "d" else sdk.parse_size, i[1:]) for i in sys.argv[1:]]:
    try:
        print(round(parse(text) * (1e9 if parse is sdk.parse_duration else 1)))
    except ValueError:
        print("none")
`}, func() (all []string) {
		for _, d := range durations {
			all = append(all, "d"+d)
		}
		for _, s := range sizes {
			all = append(all, "s"+s)
		}
		return all
	}()...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(durations)+len(sizes) {
		t.Fatalf("%d answers: %s", len(lines), out)
	}
	for i, text := range durations {
		want := "none"
		if d, err := time.ParseDuration(text); err == nil && d >= 0 {
			want = fmt.Sprint(d.Nanoseconds())
		}
		if lines[i] != want {
			t.Errorf("the duration %q is %s, want %s", text, lines[i], want)
		}
	}
	for i, text := range sizes {
		want := "none"
		if s, err := core.ParseSize(text); err == nil {
			want = fmt.Sprint(int64(s))
		}
		if got := lines[len(durations)+i]; got != want {
			t.Errorf("the size %q is %s, want %s", text, got, want)
		}
	}
}

func TestATextIsAnsweredWithDeltasAndAResult(t *testing.T) {
	p := odd(t)
	if got := p.last("hello").GetResult().GetText(); got != "HELLO!" {
		t.Errorf("got %q", got)
	}
	for text, want := range map[string]string{"words one two": "one|two|=onetwo", "words one two.": "one|two.|=all one two."} {
		for _, deltas := range []bool{true, false} {
			events, err := p.say(&wire.Text{Text: text, Target: "es", Deltas: deltas})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, e := range events {
				if d := e.GetDelta(); d != "" {
					got += d + "|"
				}
			}
			got += "=" + events[len(events)-1].GetResult().GetText()
			if want := want[strings.Index(want, "=")*b2i(!deltas):]; got != want {
				t.Errorf("%s, deltas %v: got %s, want %s", text, deltas, got, want)
			}
		}
	}
	e := p.last("result")
	want := &wire.Event{
		What: &wire.Event_Result{Result: &wire.Result{
			Text: "text", Source: "en", Model: "m", Finish: "length", Flags: []string{"rough"}, NoStore: true,
			Usage: &wire.Usage{PromptTokens: 1, CompletionTokens: 2, CachedTokens: 3},
		}},
		Limits: &wire.Limits{Requests: &wire.Limit{Limit: 60, Remaining: 7, Reset_: durationpb.New(1500 * time.Millisecond)}},
	}
	if !proto.Equal(e, want) {
		t.Errorf("got %v\nwant %v", e, want)
	}
	events, err := p.say(&wire.Text{Text: "a"}, &wire.Text{Text: "raise"}, &wire.Text{Text: "b"})
	if err != nil || len(events) != 3 || events[0].GetResult().GetText() != "A!" || events[1].GetError() == nil || events[2].GetResult().GetText() != "B!" || events[2].GetIndex() != 2 {
		t.Errorf("several texts: %v, %v", events, err)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestOneTextIsAnsweredAsItIsInAStream(t *testing.T) {
	p := odd(t)
	answer := func(instance, text string) (*wire.Event, error) {
		return p.provider().Answer(t.Context(), &wire.Visit{Instance: instance, Text: &wire.Text{Id: "r-1", Text: text, Target: "es"}})
	}
	for _, text := range []string{"fine", "result", "words a b", "words a b.", "fail", "raise", "late", "number", "numbers", "bytes", "flags", "endless"} {
		if e, err := answer("p", text); err != nil || !proto.Equal(e, p.last(text)) {
			t.Errorf("%s: %.300v, %v", text, e, err)
		}
	}
	if _, err := answer("unknown", "x"); status.Code(err) != codes.NotFound {
		t.Errorf("an instance that nobody configured: %v", err)
	}
}

func TestARequestArrivesWhole(t *testing.T) {
	p := odd(t)
	events, err := p.say(&wire.Text{
		Id: "i", Text: "request", Source: "en", Target: "pt-BR", Context: []*wire.Pair{{Source: "a", Target: "b"}}, Formality: "formal", Glossary: "g",
		Instructions: []string{"x", "y"}, Client: "c", Session: "s", Segment: "t", Revision: 3, Final: true, Lane: wire.Lane_LANE_BULK,
		NoCache: true, Attempt: 2, Deltas: true, GlossaryVersion: "v", Terms: []*wire.Pair{{Source: "c", Target: "d"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `id='i'
text='request'
source='en'
target='pt-BR'
context=(Pair(source='a', target='b'),)
formality='formal'
glossary='g'
instructions=('x', 'y')
client='c'
session='s'
segment='t'
revision=3
final=True
lane='bulk'
no_cache=True
attempt=2
deltas=True
glossary_version='v'
terms=(Pair(source='c', target='d'),)`
	if got := events[0].GetResult().GetText(); got != want {
		t.Errorf("got %s", got)
	}
}

func TestWhatGoesWrongIsATypedErrorOfItsText(t *testing.T) {
	p := odd(t)
	for text, want := range map[string]*wire.Error{
		"fail":    {Kind: "rate_limited", Field: "text", Detail: "slow down?", Retryable: true, RetryAfter: durationpb.New(1250 * time.Millisecond), Cause: strings.Repeat("c", 200)},
		"raise":   {Kind: "internal", Detail: "the plugin raised an exception; its log tells more", Cause: "RuntimeError: boom"},
		"late":    {Kind: "internal", Detail: "the plugin raised an exception; its log tells more", Cause: "RuntimeError: boom"},
		"number":  {Kind: "internal", Detail: "translate returned a int; want a str or a Result"},
		"numbers": {Kind: "internal", Detail: "translate yielded a int; a piece of the answer is a str"},
		"bytes":   {Kind: "bad_answer", Detail: "the answer is not valid UTF-8", Retryable: true},
	} {
		e := p.last(text)
		if !proto.Equal(e.GetError(), want) {
			t.Errorf("%s: got %v\nwant %v", text, e.GetError(), want)
		}
		if text == "fail" && e.GetSpent().GetPromptTokens() != 3 {
			t.Errorf("spent: %v", e)
		}
	}
	if e := p.last("flags").GetError(); e.GetKind() != "internal" || !strings.Contains(e.GetDetail(), "cannot be sent") {
		t.Errorf("a flag that is no text: %v", e)
	}
	events, err := p.say(&wire.Text{Text: "pieces", Deltas: true})
	if err != nil || len(events) != 1 || events[0].GetError().GetKind() != "bad_answer" {
		t.Errorf("a delta that is no text: %v, %v", events, err)
	}
	if _, err := p.provider().Translate(t.Context(), &wire.Call{}); err != nil {
		t.Error(err)
	}
	stream, err := p.provider().Translate(t.Context(), &wire.Call{Instance: "unknown", Texts: []*wire.Text{{}}})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.NotFound {
		t.Errorf("an instance that nobody configured: %v", err)
	}
	if _, err := p.stage().Before(t.Context(), &wire.Visit{Instance: "p"}); status.Code(err) != codes.NotFound {
		t.Errorf("an instance of another role: %v", err)
	}
}

func TestItsLogCarriesTheRequestAndTheReason(t *testing.T) {
	p := odd(t)
	p.last("print it")
	p.last("raise")
	p.see("RuntimeError: boom")
	for _, want := range []string{"a banner\n", "from below\n", "from a child\n", "printed it\n", "written\n", "echoed\n"} {
		if !strings.Contains(p.output(), want) {
			t.Errorf("no %q in its log", want)
		}
	}
	var lines []map[string]string
	for line := range strings.Lines(p.output()) {
		var parsed map[string]string
		if line[0] == '{' && json.Unmarshal([]byte(line), &parsed) == nil {
			lines = append(lines, parsed)
		}
	}
	if len(lines) != 2 {
		t.Fatalf("%d lines of JSON:\n%s", len(lines), p.output())
	}
	if l := lines[0]; l["@level"] != "warn" || l["@message"] != "said it" || l["@module"] != "mine" || l["request"] != "r-1" {
		t.Errorf("%v", l)
	}
	if l := lines[1]; l["@level"] != "error" || l["@module"] != "name-p" || !strings.Contains(l["stack"], "do_raise") {
		t.Errorf("%v", l)
	}
	if err := p.shutdown(); err != nil {
		t.Error(err)
	}
	if rest := <-p.rest; rest != "" {
		t.Errorf("after the handshake standard output says %.200q", rest)
	}
}

func TestALongTextIsRefusedAndItServesOn(t *testing.T) {
	p := odd(t)
	long := func(n int) *wire.Text { return &wire.Text{Text: strings.Repeat("x", n), Target: "es"} }
	// Its answer would be short.
	if _, err := p.say(&wire.Text{Text: "places " + strings.Repeat("x", 16<<20)}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a text of 16 MiB: %v", err)
	}
	events, err := p.say(long(wire.MaxMessage - 1024))
	if err != nil || len(events) != 1 || len(events[0].GetResult().GetText()) != wire.MaxMessage-1024+1 {
		t.Errorf("a text of nearly 8 MiB: %d events, %v", len(events), err)
	}
	for _, size := range []string{"16777216", fmt.Sprint(wire.MaxMessage)} {
		if e := p.last("long " + size).GetError(); e.GetKind() != "too_large" || e.GetField() != "text" || !strings.Contains(e.GetDetail(), "a message of the protocol holds") {
			t.Errorf("an answer of %s bytes: %v", size, e)
		}
	}
	if e := p.last("endless").GetError(); e.GetKind() != "provider_failed" || !strings.Contains(e.GetDetail(), "says more") {
		t.Errorf("an answer without an end: %v", e)
	}
	if got := p.last("fine").GetResult().GetText(); got != "FINE!" {
		t.Errorf("afterwards: %q", got)
	}
}

func TestACallEndsWithItsCaller(t *testing.T) {
	p := odd(t)
	ctx, cancel := context.WithCancel(t.Context())
	stream := p.send(ctx, &wire.Text{Text: "hang cancelled", Target: "es", Deltas: true})
	if e, err := stream.Recv(); err != nil || e.GetDelta() != "hanging" {
		t.Fatal(e, err)
	}
	p.see("waiting cancelled")
	cancel()
	p.see("over cancelled")
	p.see("closed cancelled")

	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	stream = p.send(ctx, &wire.Text{Text: "hang late", Target: "es", Deltas: true})
	for {
		if _, err := stream.Recv(); err != nil {
			if status.Code(err) != codes.DeadlineExceeded {
				t.Error(err)
			}
			break
		}
	}
	p.see("closed late")

	ctx, cancel = context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := p.provider().Answer(ctx, &wire.Visit{Instance: "p", Text: &wire.Text{Text: "hang alone", Target: "es"}})
		left <- err
	}()
	p.see("waiting alone")
	cancel()
	if err := <-left; status.Code(err) != codes.Canceled {
		t.Error(err)
	}
	p.see("over alone")
	p.see("closed alone")
	// Release waits for the calls, so it returns only when they have ended.
	if _, err := p.plugin().Release(t.Context(), &wire.Instance{Id: "p"}); err != nil {
		t.Error(err)
	}
	p.see("closed !")
}

func TestAnInstanceIsClosedAfterItsLastCall(t *testing.T) {
	p := odd(t)
	if _, err := p.send(t.Context(), &wire.Text{Text: "hold", Deltas: true}).Recv(); err != nil {
		t.Fatal(err)
	}
	released := make(chan error, 1)
	go func() {
		_, err := p.plugin().Release(t.Context(), &wire.Instance{Id: "p"})
		released <- err
	}()
	for { // until it takes no call any more
		if _, err := p.say(&wire.Text{Text: "x"}); status.Code(err) == codes.NotFound {
			break
		}
	}
	syscall.Kill(p.cmd.Process.Pid, syscall.SIGUSR1)
	if err := <-released; err != nil {
		t.Error(err)
	}
	p.see("closed !")
	if !strings.Contains(p.output(), "letting go\nclosed !") {
		t.Errorf("it was closed under a call:\n%s", p.output())
	}
}

func TestACallKnowsItsDeadline(t *testing.T) {
	p := odd(t)
	remaining := func(ctx context.Context) (s float64) {
		t.Helper()
		e, err := p.send(ctx, &wire.Text{Text: "remaining"}).Recv()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Sscan(e.GetResult().GetText(), &s)
		return s
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if s := remaining(ctx); s <= 0 || s > 20.1 {
		t.Errorf("%v s of 20 are left", s)
	}
	if s := remaining(context.WithoutCancel(t.Context())); s <= 20.1 || s > 60 {
		t.Errorf("%v s of the instance's 60 are left", s)
	}
}

func TestSoManyCallsRunAtOnceAndTheOthersWait(t *testing.T) {
	p := odd(t) // with 4 threads
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			if got := p.last("meet").GetResult().GetText(); got != "4" {
				t.Errorf("%q calls were there at once", got)
			}
		})
	}
	all.Wait()

	held := make([]grpc.ServerStreamingClient[wire.Event], 4)
	for i := range held {
		held[i] = p.send(t.Context(), &wire.Text{Text: "hold", Deltas: true})
		if _, err := held[i].Recv(); err != nil {
			t.Fatal(err)
		}
	}
	// They have every thread there is. Who has no time to wait any more is told so.
	if _, err := p.plugin().Configure(t.Context(), &wire.Config{Instance: "q", Role: wire.Role_ROLE_PROVIDER, Deadline: durationpb.New(50 * time.Millisecond)}); err != nil {
		t.Fatal(err)
	}
	short := func() string {
		stream, err := p.provider().Translate(t.Context(), &wire.Call{Instance: "q", Texts: []*wire.Text{{Text: "x"}}})
		if err != nil {
			return err.Error()
		}
		e, _ := stream.Recv()
		return e.GetError().GetKind()
	}
	if got := short(); got != "deadline_exceeded" {
		t.Errorf("one that waits too long: %q", got)
	}
	// 256 may wait; one more is told so, and how the program is, is always said.
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	leaver := p.send(ctx, &wire.Text{Text: "x"})
	waiting := make(chan *wire.Event, 300)
	for range cap(waiting) {
		all.Go(func() { waiting <- p.last("x") })
	}
	for range cap(waiting) - 255 {
		if e := (<-waiting).GetError(); e.GetKind() != "overloaded" || !e.GetRetryable() {
			t.Errorf("one too many: %v", e)
		}
	}
	if state, err := p.plugin().Health(t.Context(), &wire.Instance{}); err != nil || state.Error != nil {
		t.Errorf("%v, %v", state, err)
	}
	// Who leaves, leaves at once: another takes that place.
	leave()
	if _, err := leaver.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("one that leaves: %v", err)
	}
	for late := time.Now().Add(30 * time.Second); ; {
		got := short()
		if got == "deadline_exceeded" {
			break
		}
		if got != "overloaded" || time.Now().After(late) {
			t.Errorf("where one has left: %q", got)
			break
		}
	}
	// A signal lets them go.
	syscall.Kill(p.cmd.Process.Pid, syscall.SIGUSR1)
	for _, stream := range held {
		if e, err := stream.Recv(); err != nil || e.GetResult().GetText() != "let go" {
			t.Errorf("one that ran: %v, %v", e, err)
		}
	}
	for range 255 {
		if e := <-waiting; e.GetResult().GetText() != "X!" {
			t.Errorf("one that waited: %v", e)
		}
	}
	all.Wait()
}

func TestInstancesAreReplacedReleasedAndProbed(t *testing.T) {
	p := start(t)
	p.configure("p", wire.Role_ROLE_PROVIDER, `{"suffix": "1"}`)
	p.configure("q", wire.Role_ROLE_PROVIDER, `{"suffix": "2"}`)
	p.configure("p", wire.Role_ROLE_PROVIDER, `{"suffix": "3"}`)
	p.see("closed 1\n")
	if got := p.last("a").GetResult().GetText(); got != "A3" {
		t.Errorf("got %q", got)
	}
	if got := p.last("places").GetResult().GetText(); got != "here" {
		t.Errorf("the instances share a default: %q", got)
	}
	if state, err := p.plugin().Health(t.Context(), &wire.Instance{Id: "p"}); err != nil || state.GetError().GetKind() != "unauthorized" {
		t.Errorf("%v, %v", state, err)
	}
	for range 2 { // the second is no mistake
		if _, err := p.plugin().Release(t.Context(), &wire.Instance{Id: "q"}); err != nil {
			t.Error(err)
		}
	}
	p.see("closed 2\n")
}

func TestAStageIsCalledOnTheWayDownAndUp(t *testing.T) {
	p := start(t)
	p.configure("s", wire.Role_ROLE_STAGE, `{}`)
	for text, want := range map[string]*wire.Verdict{
		"x":      {What: &wire.Verdict_Request{Request: &wire.Text{Text: "<x>", Source: "en", Target: "es", Formality: "formal", Instructions: []string{"i"}, Context: []*wire.Pair{{Source: "a", Target: "b"}}, NoCache: true}}, State: []byte("x")},
		"plain":  {},
		"state":  {State: []byte("s")},
		"answer": {What: &wire.Verdict_Result{Result: &wire.Result{Text: "mine"}}},
		"fail":   {What: &wire.Verdict_Error{Error: &wire.Error{Kind: "invalid_request", Field: "text", Detail: "no"}}},
		"raise":  {What: &wire.Verdict_Error{Error: &wire.Error{Kind: "internal", Detail: "the plugin raised an exception; its log tells more", Cause: "RuntimeError: boom"}}},
		"number": {What: &wire.Verdict_Error{Error: &wire.Error{Kind: "internal", Detail: "before returned a int; want None, a Request or a Result, alone or with the state in a tuple"}}},
		"bytes":  {What: &wire.Verdict_Error{Error: &wire.Error{Kind: "bad_answer", Detail: "the answer is not valid UTF-8", Retryable: true}}},
	} {
		got, err := p.stage().Before(t.Context(), &wire.Visit{Instance: "s", Text: &wire.Text{Id: "r", Text: text, Source: "en", Target: "es", Formality: "formal", Instructions: []string{"i"}, Context: []*wire.Pair{{Source: "a", Target: "b"}}}})
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: got %v, %v\nwant %v", text, got, err, want)
		}
	}
	for text, want := range map[string]*wire.Reply{
		"y":    {What: &wire.Reply_Result{Result: &wire.Result{Text: "y z x", Flags: []string{"f"}, Provider: "o", Cached: true}}},
		"keep": {What: &wire.Reply_Result{Result: &wire.Result{Text: "keep", Flags: []string{"f"}, Provider: "o", Cached: true}}},
		"flag": {What: &wire.Reply_Result{Result: &wire.Result{Text: "flag", Flags: []string{"f", "seen"}, Provider: "o", Cached: true}}},
		"bad":  {What: &wire.Reply_Error{Error: &wire.Error{Kind: "bad_answer", Detail: "bad", Retryable: true}}},
	} {
		got, err := p.stage().After(t.Context(), &wire.Done{Instance: "s", Text: &wire.Text{Text: "x", Target: "es"}, Result: &wire.Result{Text: text, Flags: []string{"f"}, Provider: "o", Cached: true}, State: []byte("z")})
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: got %v, %v\nwant %v", text, got, err, want)
		}
	}
}

func TestShutdownEndsItOnceAndInOrder(t *testing.T) {
	p := odd(t)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			// The second may come too late to be answered.
			if err := p.shutdown(); err != nil && status.Code(err) != codes.Unavailable {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if s := p.end(); !s.Exited() || s.ExitStatus() != 0 || !strings.Contains(p.output(), "closed !") {
		t.Errorf("ended with %v:\n%s", p.cmd.ProcessState, p.output())
	}
	if err := p.shutdown(); status.Code(err) != codes.Unavailable {
		t.Errorf("afterwards: %v", err)
	}
}

func TestShutdownWaitsForNobodyForEver(t *testing.T) {
	p := odd(t)
	stream := p.send(t.Context(), &wire.Text{Text: "stuck", Deltas: true})
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := p.shutdown(); err != nil {
		t.Error(err)
	}
	if s := p.end(); !s.Exited() || s.ExitStatus() != 0 {
		t.Errorf("ended with %v", p.cmd.ProcessState)
	}
}

func TestItEndsWithItsGroupWhenItsStandardInputEnds(t *testing.T) {
	p := odd(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// Opened for both, so that opening waits for nobody; this end is closed once
	// the child has its own.
	both, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	child, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	if got := p.last("child " + fifo).GetResult().GetText(); got != "started" {
		t.Fatal(got)
	}
	both.Close()
	if got := p.last("stdin").GetResult().GetText(); got != "''" {
		t.Errorf("the author reads %s from the gateway's standard input", got)
	}
	p.stdin.Close()
	if s := p.end(); !s.Signaled() || s.Signal() != syscall.SIGKILL {
		t.Errorf("ended as %v, want the SIGKILL to its own group", p.cmd.ProcessState)
	}
	child.SetReadDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.ReadAll(child); err != nil {
		t.Errorf("what it had started goes on: %v", err)
	}
}

func TestASIGTERMDoesNotEndItWhileItsParentLives(t *testing.T) {
	p := odd(t)
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.cmd.Process.Signal(syscall.SIGTERM)
	if got := p.last("a").GetResult().GetText(); got != "A!" {
		t.Errorf("got %q", got)
	}
	p.stdin.Close()
	if s := p.end(); s.Signal() != syscall.SIGKILL {
		t.Errorf("ended as %v, want by the end of its standard input", p.cmd.ProcessState)
	}
}

func TestItEndsWithItsParent(t *testing.T) {
	needPython(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{"DRAGOMAN_TEST_PARENT=" + sockets(t)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := cmd.StdinPipe(); err != nil { // held open until the end
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || !strings.HasPrefix(line, "1|1|unix|") {
		t.Fatalf("%q, %v", line, err)
	}
	cmd.Process.Kill()
	// Standard error is shared with the plugin: it ends when that has ended too.
	stderr.(*os.File).SetReadDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.ReadAll(stderr); err != nil {
		t.Errorf("it goes on without its parent: %v", err)
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	cmd.Wait()
}

// parent starts a plugin whose standard input somebody else holds, and who is
// not told by the kernel of its parent's death unless it asks; it waits to be
// killed.
func parent(folder string) {
	cmd := command(folder)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
	}
	os.Exit(1)
}

func TestStartedByHandItSaysWhatItIs(t *testing.T) {
	needPython(t)
	for name, c := range map[string]struct {
		env, args []string
		want      string
	}{
		"by hand":               {nil, nil, "odd is a plugin of Dragoman, which starts it"},
		"another protocol":      {[]string{wire.CookieKey + "=" + wire.CookieValue, "PLUGIN_PROTOCOL_VERSIONS=2,11", "PLUGIN_UNIX_SOCKET_DIR=/tmp"}, nil, "speaks version 1 of the protocol"},
		"no folder":             {[]string{wire.CookieKey + "=" + wire.CookieValue, "PLUGIN_PROTOCOL_VERSIONS=1"}, nil, "PLUGIN_UNIX_SOCKET_DIR names no folder"},
		"nowhere to listen":     {nil, []string{"--listen", "unix:/there/is/no/such/folder"}, "cannot listen on unix:/there"},
		"both roles in one":     {[]string{"DRAGOMAN_TEST_SERVE=both"}, nil, "Both must have either translate, to be a provider, or before or after, to be a stage"},
		"one role twice":        {[]string{"DRAGOMAN_TEST_SERVE=twice"}, nil, "Odd and Other are both a provider"},
		"no role":               {[]string{"DRAGOMAN_TEST_SERVE=neither"}, nil, "Neither must have either"},
		"no class at all":       {[]string{"DRAGOMAN_TEST_SERVE=nothing"}, nil, "the program serves no class"},
		"a thing":               {[]string{"DRAGOMAN_TEST_SERVE=instance"}, nil, "serve takes classes, got 7"},
		"keys that are no JSON": {[]string{"DRAGOMAN_TEST_SERVE=keys"}, nil, "Keys.keys must be a dictionary"},
		"no threads":            {[]string{"DRAGOMAN_TEST_THREADS=0"}, nil, "threads must be at least 1, got 0"},
	} {
		cmd := exec.Command(interpreter, append([]string{"testdata/odd.py"}, c.args...)...)
		cmd.Env = c.env
		out, err := cmd.CombinedOutput()
		if _, exited := err.(*exec.ExitError); !exited || cmd.ProcessState.ExitCode() < 1 || !strings.Contains(string(out), c.want) || strings.Contains(string(out), "Traceback") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	out, err := exec.Command(interpreter, "-I", "-S", "dragoman_plugin.py").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "apt-get install python3-grpcio python3-protobuf") || strings.Contains(string(out), "Traceback") {
		t.Errorf("without grpcio: %v\n%s", err, out)
	}
}

func TestItListensWhereItIsToldTo(t *testing.T) {
	needPython(t)
	socket := filepath.Join(sockets(t), "s")
	cmd := exec.Command(interpreter, "testdata/odd.py", "--listen", "unix:"+socket)
	cmd.Env = []string{}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &plugin{t: t}
	p.dial("unix:" + socket)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if d, err := p.plugin().Describe(ctx, &wire.DescribeRequest{}, grpc.WaitForReady(true)); err != nil || len(d.Parts) != 2 {
		t.Errorf("%v, %v", d, err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(60*time.Second, func() { cmd.Process.Kill() })
	defer late.Stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}
