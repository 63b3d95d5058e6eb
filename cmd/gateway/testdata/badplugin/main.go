// Command badplugin is a plugin that misbehaves in the one way that its argument
// names. It uses no SDK: nothing of what it does is prevented on its side.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// flood is how much a flood prints on each stream, in bytes: more than the test lets a gateway grow.
const flood = 70 << 20

func main() {
	p := &plugin{does: os.Args[1], stdout: os.Stdout, stderr: os.Stderr}
	switch p.does {
	case "starts-never":
		select {}
	case "noise":
		io.CopyN(os.Stdout, rand.Reader, 1<<20)
		select {}
	case "no-grpc":
		noGRPC()
	case "child":
		select {}
	case "escape":
		escape()
		return
	}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: goplugin.HandshakeConfig{ProtocolVersion: wire.Protocol, MagicCookieKey: wire.CookieKey, MagicCookieValue: wire.CookieValue},
		Plugins:         goplugin.PluginSet{"bad": p},
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(o, grpc.MaxSendMsgSize(64<<20), grpc.MaxRecvMsgSize(64<<20))...)
		},
	})
}

// noGRPC shakes hands as it should and then talks nonsense on the socket.
func noGRPC() {
	path := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	fmt.Printf("1|1|unix|%s|grpc|\n", path)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go io.CopyN(c, rand.Reader, 1<<20)
	}
}

type plugin struct {
	goplugin.NetRPCUnsupportedPlugin
	wire.UnimplementedPluginServer
	wire.UnimplementedProviderServer
	wire.UnimplementedStageServer

	does           string
	stdout, stderr *os.File // before they become streams of go-plugin's

	once sync.Once
	mu   sync.Mutex
	held [][]byte
}

func (p *plugin) GRPCServer(_ *goplugin.GRPCBroker, g *grpc.Server) error {
	wire.RegisterPluginServer(g, p)
	wire.RegisterProviderServer(g, p)
	wire.RegisterStageServer(g, p)
	return nil
}

func (p *plugin) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

func (p *plugin) Describe(context.Context, *wire.DescribeRequest) (*wire.Description, error) {
	d := &wire.Description{Name: "bad", Protocol: wire.Protocol, Parts: []*wire.Part{
		{Role: wire.Role_ROLE_PROVIDER}, {Role: wire.Role_ROLE_STAGE, Before: true, After: true},
	}}
	if p.does == "newer" {
		d.Protocol++
	}
	return d, nil
}

func (p *plugin) Configure(context.Context, *wire.Config) (*wire.ConfigReply, error) {
	reply := &wire.ConfigReply{}
	switch p.does {
	case "refuses":
		reply.Errors = []*wire.ConfigError{{Detail: "the model is not there"}}
	case "knows-everything":
		reply.Languages = make([]*wire.Languages, 1_000_000)
		for i := range reply.Languages {
			reply.Languages[i] = &wire.Languages{}
		}
	}
	return reply, nil
}

func (p *plugin) Health(context.Context, *wire.Instance) (*wire.State, error) {
	if p.does == "unwell" {
		return nil, status.Error(codes.Unavailable, "I am not well")
	}
	return &wire.State{}, nil
}

// escape starts a process that has nothing of the plugin's any more: neither its
// group, its session, its environment nor its parent.
func escape() {
	child := exec.Command(os.Args[0], "child")
	child.Env = []string{}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	child.Start() // and whoever started it ends
}

func (p *plugin) Release(context.Context, *wire.Instance) (*wire.Released, error) {
	return &wire.Released{}, nil
}

// misbehave does what it is here for. What it returns is the text of an answer.
func (p *plugin) misbehave(ctx context.Context, v *wire.Visit) (string, error) {
	switch p.does {
	case "hangs-in-calls":
		<-ctx.Done()
		return "", ctx.Err()
	case "hangs":
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		<-ctx.Done() // another thread may be the one that stops first
	case "prints":
		p.once.Do(func() { pour(p.stdout, p.stderr) })
	case "prints-over-grpc":
		p.once.Do(func() { pour(os.Stdout, os.Stderr) })
	case "forks":
		if err := exec.Command(os.Args[0], "child").Start(); err != nil {
			return "", err
		}
		os.Exit(1)
	case "grows":
		p.mu.Lock()
		p.held = append(p.held, bytes.Repeat([]byte("x"), 16<<20))
		p.mu.Unlock()
	case "escapes":
		p.once.Do(func() { exec.Command(os.Args[0], "escape").Run() })
	case "unavailable":
		return "", status.Error(codes.Unavailable, "my own upstream is down")
	case "cancelled":
		return "", status.Error(codes.Canceled, "I have let go")
	case "shouts":
		return "", status.Error(codes.Internal, strings.Repeat("x", 1<<20))
	case "forgets":
		return "", status.Error(codes.NotFound, "another instance")
	case "blank":
		return " \n", nil
	case "nul":
		return "a\x00b", nil
	case "long":
		return strings.Repeat("x", wire.MaxMessage+1), nil
	}
	return "[es] " + v.GetText().GetText(), nil
}

// pour prints lines on the one, and one line without an end on the other.
func pour(lines, line io.Writer) {
	var both sync.WaitGroup
	for to, piece := range map[io.Writer]string{lines: strings.Repeat("a line that nobody reads\n", 2000), line: strings.Repeat("on and on ", 5000)} {
		both.Go(func() {
			for n := 0; n < flood; n += len(piece) {
				io.WriteString(to, piece)
			}
		})
	}
	both.Wait()
}

func (p *plugin) Answer(ctx context.Context, v *wire.Visit) (*wire.Event, error) {
	text, err := p.misbehave(ctx, v)
	if err != nil {
		return nil, err
	}
	e := &wire.Event{What: &wire.Event_Result{Result: &wire.Result{Text: text}}}
	switch p.does {
	case "decorates":
		r := e.GetResult()
		r.Model = strings.Repeat("m\n", 1<<19)
		r.Usage = &wire.Usage{PromptTokens: 1 << 62, CompletionTokens: -1 << 62, CachedTokens: 1 << 62}
		for i := range 100_000 {
			r.Flags = append(r.Flags, fmt.Sprint("flag ", i), fmt.Sprint("flag-", i))
		}
	case "refused":
		e.What = &wire.Event_Error{Error: &wire.Error{Kind: "unauthorized", Detail: "the account 4711 may not"}}
	case "says-nothing":
		e.What = nil
	case "of-another":
		e.Index = 7
	}
	return e, nil
}

func (p *plugin) Translate(call *wire.Call, out grpc.ServerStreamingServer[wire.Event]) error {
	for piece := map[string]string{"talks": strings.Repeat("x", 1<<10), "mumbles": ""}; p.does == "talks" || p.does == "mumbles"; {
		if err := out.Send(&wire.Event{What: &wire.Event_Delta{Delta: piece[p.does]}}); err != nil {
			return err
		}
	}
	e, err := p.Answer(out.Context(), &wire.Visit{Instance: call.GetInstance(), Text: call.GetTexts()[0]})
	if err != nil {
		return err
	}
	return out.Send(e)
}

func (p *plugin) Before(ctx context.Context, v *wire.Visit) (*wire.Verdict, error) {
	text, err := p.misbehave(ctx, v)
	if err != nil {
		return nil, err
	}
	switch p.does {
	case "refused":
		return &wire.Verdict{What: &wire.Verdict_Error{Error: &wire.Error{Kind: "unauthorized", Detail: "the account 4711 may not"}}}, nil
	case "blank", "long":
		return &wire.Verdict{What: &wire.Verdict_Result{Result: &wire.Result{Text: text}}}, nil
	case "nul":
		changed := v.GetText()
		changed.Text = text
		return &wire.Verdict{What: &wire.Verdict_Request{Request: changed}}, nil
	case "keeps":
		return &wire.Verdict{State: make([]byte, wire.MaxState+1)}, nil
	}
	return &wire.Verdict{}, nil
}

func (p *plugin) After(ctx context.Context, d *wire.Done) (*wire.Reply, error) {
	switch p.does {
	case "blank-after":
		return &wire.Reply{What: &wire.Reply_Result{Result: &wire.Result{Text: " "}}}, nil
	case "nul-after":
		return &wire.Reply{What: &wire.Reply_Result{Result: &wire.Result{Text: "a\x00b"}}}, nil
	case "says-nothing":
		return &wire.Reply{}, nil
	}
	return &wire.Reply{What: &wire.Reply_Result{Result: d.GetResult()}}, nil
}
