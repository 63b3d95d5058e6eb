package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/sdk"
)

// hopRows measure what it costs that a provider is a program of its own.
func hopRows() []row {
	return []row{
		{
			name: "hop", doc: "a call to a provider that is a plugin, through a chain, against a bare echo over go-plugin",
			bars: []bar{
				{what: "one at a time: median time, chain / bare", unit: "x", limit: 1.5},
				{what: "64 in flight: time for all, chain / bare", unit: "x", limit: 1.5},
			},
			open: openHop,
		},
		{
			name: "plugin", doc: "requests a second that a plugin answers, against a provider that is linked and calls an instant upstream",
			open: openPlugin, // without a bar: it is for the reader
		},
	}
}

const (
	inFlight = 64
	swaps    = 9    // turns that the two take in a round, each way
	alone    = 800  // calls in a turn, one at a time
	together = 8000 // calls in a turn, inFlight at a time
)

// echoing is a pipeline.yaml whose provider is the role echo.
const echoing = `version: 1
providers:
  openai: {type: openai, base_url: "${OPENAI_BASE_URL:-http://127.0.0.1:9/v1}", api_key: "${OPENAI_API_KEY:-}"}
  echo: {type: plugin, command: [%q, %q, echo]}
stages:
%s`

// withEcho returns the lab with the pipeline echoing.
func (s *lab) withEcho(name, stages string) (*lab, error) {
	other := *s
	other.pipeline = filepath.Join(s.temp, name)
	return &other, os.WriteFile(other.pipeline, fmt.Appendf(nil, echoing, s.self, roleFlag, stages), 0o600)
}

// openHop compares what a request of the gateway pays with the least that it
// could. Both processes are asked from this one.
func openHop(ctx context.Context, s *lab, c *closers) (round, error) {
	ours, bare, err := s.echoes(ctx, c)
	if err != nil {
		return nil, err
	}
	play := func(ctx context.Context) ([]float64, string, error) {
		defer roomForGarbage()() // for both
		var single, crowd, ourTimes, theirTimes, ourRates, theirRates []float64
		for i := range swaps {
			x, y, err := inTurns(ctx, i, 1, alone, ours, bare)
			if err != nil {
				return nil, "", err
			}
			a, b := median(x.calls), median(y.calls)
			single, ourTimes, theirTimes = append(single, a/b), append(ourTimes, a), append(theirTimes, b)
			if x, y, err = inTurns(ctx, i, inFlight, together, ours, bare); err != nil {
				return nil, "", err
			}
			crowd, ourRates, theirRates = append(crowd, y.rate()/x.rate()), append(ourRates, x.rate()), append(theirRates, y.rate())
		}
		remark := fmt.Sprintf("one at a time p50 %.0f against %.0f us; %d in flight %.0f against %.0f calls/s",
			1000*median(ourTimes), 1000*median(theirTimes), inFlight, median(ourRates), median(theirRates))
		return []float64{median(single), median(crowd)}, remark, nil
	}
	_, _, err = play(ctx) // warms both up
	return play, err
}

// echoes returns a call of each. Ours goes through a chain with its observation,
// the provider stage and the host of plugins; each request has its id, its trace
// and its deadline. The bare call has none of it.
func (s *lab) echoes(ctx context.Context, c *closers) (ours, bare func(context.Context, int64) error, err error) {
	hop, err := s.withEcho("hop.yaml", "  - provider: {use: echo}\n")
	if err != nil {
		return nil, nil, err
	}
	e, err := engineOf(ctx, c, hop.pipeline)
	if err != nil {
		return nil, nil, err
	}
	traces := new(core.Traces) // as a door has them
	ours = func(ctx context.Context, n int64) error {
		req := requestFor(n)
		req.Trace = traces.Take()
		defer traces.Return(req.Trace)
		res, err := e.Translate(ctx, req)
		if err == nil && res.Text != req.Text {
			err = fmt.Errorf("the plugin echoes %q as %q", req.Text, res.Text)
		}
		return err
	}
	conn, err := s.bareEcho(c)
	if err != nil {
		return nil, nil, err
	}
	bare = func(ctx context.Context, n int64) error {
		in, out := wrapperspb.String(requestFor(n).Text), &wrapperspb.StringValue{}
		err := conn.Invoke(ctx, echoMethod, in, out)
		if err == nil && out.Value != in.Value {
			err = fmt.Errorf("the bare plugin echoes %q as %q", in.Value, out.Value)
		}
		return err
	}
	return ours, bare, nil
}

// inTurns makes calls with a and with b, the one first in even turns and the
// other in odd ones.
func inTurns(ctx context.Context, turn, atOnce, calls int, a, b func(context.Context, int64) error) (x, y sample, err error) {
	for k := range 2 {
		if (turn+k)%2 == 0 {
			x, err = repeat(ctx, atOnce, calls, a)
		} else {
			y, err = repeat(ctx, atOnce, calls, b)
		}
		if err != nil {
			return x, y, err
		}
	}
	return x, y, nil
}

// repeat makes calls, atOnce of them in flight, and stops at the first that
// fails.
func repeat(ctx context.Context, atOnce, calls int, call func(context.Context, int64) error) (sample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	took := make([]float64, calls)
	begin := time.Now()
	for range atOnce {
		all.Go(func() {
			for ctx.Err() == nil {
				n := next.Add(1) - 1
				if n >= int64(calls) {
					return
				}
				at := time.Now()
				if err := call(ctx, n); err != nil {
					cancel(err)
				}
				took[n] = float64(time.Since(at)) / float64(time.Millisecond)
			}
		})
	}
	all.Wait()
	return sample{time.Since(begin), took}, context.Cause(ctx)
}

// openPlugin compares two gateways with the same stages, whose providers answer
// at once. The stage postprocess would refuse an echo.
func openPlugin(ctx context.Context, s *lab, c *closers) (round, error) {
	up, err := s.role(ctx, c, "upstream")
	if err != nil {
		return nil, err
	}
	s, err = s.withEcho("plugin.yaml", "  - cache\n  - ratelimit\n  - queue\n  - provider: {use: openai}\n")
	if err != nil {
		return nil, err
	}
	linked, err := s.subject(ctx, c, up.url+"/v1", "", unlimited...)
	if err != nil {
		return nil, err
	}
	plugged, err := s.subject(ctx, c, up.url+"/v1", "", append([]string{"stages.provider.use=echo"}, unlimited...)...)
	if err != nil {
		return nil, err
	}
	// The cache knows none of the texts.
	var asked atomic.Int64
	distinct := func(_ int64, b []byte) []byte { return appendRequest(b, asked.Add(1)) }
	few, err := inTurn(ctx, c, plugged.child, linked.child, atATime, translatePath, distinct)
	if err != nil {
		return nil, err
	}
	many, err := inTurn(ctx, c, plugged.child, linked.child, inFlight, translatePath, distinct)
	if err != nil {
		return nil, err
	}
	c.add(s.record(plugged.child, "plugin"))
	return func(ctx context.Context) ([]float64, string, error) {
		_, said, err := few(ctx)
		if err != nil {
			return nil, "", err
		}
		_, more, err := many(ctx)
		return nil, fmt.Sprintf("%d at a time %s; %d at a time %s", atATime, said, inFlight, more), err
	}, nil
}

// echoKind is a provider that answers with the text.
func echoKind() core.Kind {
	return core.NewKind("echo", core.RoleProvider, "Answers with the text.", func() struct{} { return struct{}{} },
		func(core.Env, *struct{}) (any, error) {
			return core.TranslatorFunc(func(_ context.Context, req *core.Request) (*core.Result, error) {
				return &core.Result{Text: req.Text}, nil
			}), nil
		})
}

// serveEcho is the role echo: what an author writes.
func serveEcho() { sdk.Serve(echoKind()) }

// The bare echo is one unary call over go-plugin, with the message that protobuf
// has for a string.
const (
	echoService = "dragoman.bench.Echo"
	echoMethod  = "/" + echoService + "/Echo"
)

var bareHandshake = goplugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "DRAGOMAN_BENCH_ECHO", MagicCookieValue: "bare"}

// serveBareEcho is the role bare-echo. It ends when the bench does, also when
// that was killed: only then does the pipe end that it has inherited.
func serveBareEcho() {
	go func() {
		io.Copy(io.Discard, os.NewFile(3, "bench"))
		os.Exit(1)
	}()
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: bareHandshake,
		Plugins:         goplugin.PluginSet{"echo": echoPlugin{}},
		GRPCServer:      goplugin.DefaultGRPCServer,
		Logger:          hclog.NewNullLogger(),
	})
}

// echoPlugin is the bare echo as go-plugin wants it.
type echoPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
}

func (echoPlugin) GRPCServer(_ *goplugin.GRPCBroker, g *grpc.Server) error {
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: echoService, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: echo}},
	}, nil)
	return nil
}

// GRPCClient returns the connection itself.
func (echoPlugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

func echo(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	text := &wrapperspb.StringValue{}
	return text, decode(text)
}

// bareEcho starts the bare echo until c is closed. All is as go-plugin has it
// when nothing is said.
func (s *lab) bareEcho(c *closers) (*grpc.ClientConn, error) {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.add(func() { ours.Close() })
	defer theirs.Close()
	cmd := exec.Command(s.self, roleFlag, "bare-echo")
	cmd.ExtraFiles = []*os.File{theirs}
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  bareHandshake,
		Plugins:          goplugin.PluginSet{"echo": echoPlugin{}},
		Cmd:              cmd,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: s.temp},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		Logger:           hclog.NewNullLogger(),
	})
	c.add(client.Kill)
	protocol, err := client.Client()
	if err != nil {
		return nil, fmt.Errorf("starting the bare echo: %w", err)
	}
	got, err := protocol.Dispense("echo")
	if err != nil {
		return nil, err
	}
	return got.(*grpc.ClientConn), nil
}
