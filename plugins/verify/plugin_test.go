package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// byHand is the main of a plugin that follows the README of plugins/wire
// without an SDK, but for one thing, which how names.
func byHand(how string) {
	if os.Getenv(wire.CookieKey) != wire.CookieValue {
		switch how {
		case "waits by hand":
			time.Sleep(time.Hour)
		case "silent by hand":
			os.Exit(2)
		}
		fmt.Fprintln(os.Stderr, "this is a plugin")
		os.Exit(2)
	}
	h := &hand{how: how, instances: map[string]wire.Role{}, limit: wire.MaxMessage}
	folder := os.Getenv("PLUGIN_UNIX_SOCKET_DIR")
	switch how {
	case "ends":
		fmt.Fprintln(os.Stderr, "no model here")
		os.Exit(3)
	case "slow":
		time.Sleep(startLimit + 200*time.Millisecond)
	case "long noise":
		fmt.Print(strings.Repeat("1|", 2*maxLine), "\n")
	case "daemon":
		daemon := exec.Command("/bin/sleep", "600")
		daemon.Stdout, daemon.Stderr = os.Stdout, os.Stderr
		daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := daemon.Start(); err != nil {
			os.Exit(1)
		}
		os.WriteFile(filepath.Join(os.Getenv("DRAGOMAN_TEST_FOLDER"), "daemon"), []byte(strconv.Itoa(daemon.Process.Pid)), 0o600)
	case "noise":
		fmt.Println("loading")
	case "socket elsewhere":
		folder = os.Getenv("DRAGOMAN_TEST_FOLDER")
	case "lock file":
		// Left behind by a process that dies in the midst of calls.
		h.lock = filepath.Join(os.Getenv("DRAGOMAN_TEST_FOLDER"), "lock")
		if _, err := os.Stat(h.lock); err == nil {
			fmt.Fprintln(os.Stderr, "another one is running")
			os.Exit(5)
		}
	case "4 MB":
		h.limit = 4 << 20
	case "dies of 16 MiB":
		h.limit = 64 << 20
	}
	if how != "obeys SIGTERM" {
		signal.Ignore(syscall.SIGTERM)
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		switch how {
		case "stays":
			select {}
		case "leaves a child":
			exec.Command("/bin/sleep", "600").Start()
			os.Exit(0)
		}
		syscall.Kill(0, syscall.SIGKILL)
	}()
	network, at := "unix", filepath.Join(folder, "s")
	if how == "on tcp" {
		network, at = "tcp", "127.0.0.1:0"
	}
	l, err := net.Listen(network, at)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(h.limit), grpc.MaxSendMsgSize(wire.MaxMessage))
	wire.RegisterPluginServer(g, h)
	wire.RegisterProviderServer(g, h)
	wire.RegisterStageServer(g, h)
	if how != "no health" {
		s := health.NewServer()
		s.SetServingStatus("plugin", grpc_health_v1.HealthCheckResponse_SERVING)
		grpc_health_v1.RegisterHealthServer(g, s)
	}
	if how != "no shutdown" {
		g.RegisterService(&controller, h)
	}
	version, protocol := "1", "grpc"
	switch how {
	case "another protocol":
		version = "7"
	case "netrpc":
		protocol = "netrpc"
	}
	fmt.Printf("1|%s|%s|%s|%s|\n", version, network, l.Addr(), protocol)
	g.Serve(l)
	os.Exit(0)
}

// controller is the service by which go-plugin ends a plugin.
var controller = grpc.ServiceDesc{
	ServiceName: "plugin.GRPCController", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Shutdown", Handler: func(srv any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		h := srv.(*hand)
		told := h.told.Add(1)
		switch {
		case h.how == "ignores shutdown":
		case h.how == "dies of the second" && told == 2:
			os.Exit(6)
		case h.how == "dies of the second":
			// It ends a little later, and the second call comes before that.
			time.AfterFunc(time.Second, func() { os.Exit(0) })
		default:
			time.AfterFunc(10*time.Millisecond, func() { os.Exit(0) })
		}
		return &emptypb.Empty{}, decode(&emptypb.Empty{})
	}}},
}

type hand struct {
	wire.UnimplementedPluginServer
	wire.UnimplementedProviderServer
	wire.UnimplementedStageServer
	how   string
	limit int
	lock  string

	mu        sync.Mutex
	instances map[string]wire.Role
	memory    string
	inside    sync.WaitGroup
	busy      atomic.Int64
	told      atomic.Int64
	stuck     atomic.Bool
}

func (h *hand) Describe(context.Context, *wire.DescribeRequest) (*wire.Description, error) {
	properties := `{"type": "object", "properties": {"prefix": {"type": "string"}}}`
	d := &wire.Description{Name: "by hand", Version: "1", Protocol: wire.Protocol, Parts: []*wire.Part{
		{Role: wire.Role_ROLE_PROVIDER, Name: "echo", ConfigSchema: []byte(properties)},
		{Role: wire.Role_ROLE_STAGE, Name: "pass", ConfigSchema: []byte(`{"type": "object"}`), Before: true, After: true},
	}}
	switch h.how {
	case "no parts":
		d.Parts = nil
	case "two providers":
		d.Parts[1].Role = wire.Role_ROLE_PROVIDER
	case "protocol 2":
		d.Protocol = 2
	case "no schema":
		d.Parts[0].ConfigSchema = nil
	case "no hooks":
		d.Parts[1].Before, d.Parts[1].After = false, false
	case "long name":
		d.Name = strings.Repeat("x", wire.MaxName+1)
	case "wants environment":
		if os.Getenv("HOME") == "" {
			os.Exit(7)
		}
	}
	return d, nil
}

func (h *hand) Health(ctx context.Context, _ *wire.Instance) (*wire.State, error) {
	if h.how == "answers some strangers" && len(metadata.ValueFromIncomingContext(ctx, wire.SecretHeader)) == 0 {
		return nil, status.Error(codes.Unauthenticated, "who are you")
	}
	if h.how == "hangs on health" {
		<-ctx.Done()
		return nil, ctx.Err() // an answer might still be in time
	}
	return &wire.State{}, nil
}

func (h *hand) Configure(_ context.Context, c *wire.Config) (*wire.ConfigReply, error) {
	var config map[string]any
	wrong := func(field, why string) (*wire.ConfigReply, error) {
		if h.how == "names no key" {
			field = ""
		}
		return &wire.ConfigReply{Errors: []*wire.ConfigError{{Field: field, Detail: why}}}, nil
	}
	err := json.Unmarshal(c.GetConfig(), &config)
	_, text := config["prefix"].(string)
	bad := err == nil && config["prefix"] != nil && !text
	switch {
	case err != nil && h.how == "takes anything":
	case err != nil:
		return wrong("", "no JSON object")
	case bad && h.how == "dies of a mistake":
		os.Exit(4)
	case bad && h.how != "trusts the schema":
		return wrong("prefix", "must be text")
	case h.how == "refuses":
		return wrong("key", "is missing")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.how == "one instance" && c.GetInstance() == "second" {
		return wrong("", "there is one already")
	}
	h.instances[c.GetInstance()] = c.GetRole()
	reply := &wire.ConfigReply{}
	if h.how == "strange languages" && c.GetRole() == wire.Role_ROLE_PROVIDER {
		reply.Languages = []*wire.Languages{{Source: "English", Targets: []string{"Spanish, I think"}}}
	}
	return reply, nil
}

func (h *hand) Release(_ context.Context, i *wire.Instance) (*wire.Released, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.instances[i.GetId()]; ok {
		if h.how == "works on" {
			h.mu.Unlock()
			h.inside.Wait()
			h.mu.Lock()
		}
		delete(h.instances, i.GetId())
		if h.how == "releases all" {
			clear(h.instances)
		}
	}
	return &wire.Released{}, nil
}

func (h *hand) enter(id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.instances[id]; !ok && h.how != "anybody" {
		return status.Error(codes.NotFound, "who is that?")
	}
	return nil
}

func (h *hand) Translate(call *wire.Call, stream grpc.ServerStreamingServer[wire.Event]) error {
	event, err := h.answer(stream.Context(), call.GetInstance(), call.Texts[0])
	if err != nil {
		return err
	}
	switch h.how {
	case "no result":
		return nil
	case "two results":
		stream.Send(event)
	case "blank stream":
		event.GetResult().Text = " "
	}
	return stream.Send(event)
}

func (h *hand) Answer(ctx context.Context, v *wire.Visit) (*wire.Event, error) {
	event, err := h.answer(ctx, v.GetInstance(), v.GetText())
	switch {
	case err != nil:
		return nil, err
	case h.how == "no Answer":
		return h.UnimplementedProviderServer.Answer(ctx, v)
	case h.how == "answers with a delta":
		event.What = &wire.Event_Delta{Delta: "es:"}
	case h.how == "answers with nothing":
		event.What = nil
	}
	return event, nil
}

func (h *hand) answer(ctx context.Context, instance string, text *wire.Text) (*wire.Event, error) {
	if err := h.enter(instance); err != nil {
		return nil, err
	}
	result := &wire.Event{What: &wire.Event_Result{Result: &wire.Result{Text: "es:" + text.GetText()}}}
	refuse := func(kind string) (*wire.Event, error) {
		return &wire.Event{What: &wire.Event_Error{Error: &wire.Error{Kind: kind, Detail: "no"}}}, nil
	}
	if h.lock != "" {
		os.WriteFile(h.lock, nil, 0o600)
	}
	if len(text.GetText()) > 10<<20 {
		os.Exit(8)
	}
	switch h.how {
	case "blank":
		result.GetResult().Text = " "
	case "many flags":
		result.GetResult().Flags = make([]string, wire.MaxFlags+1)
	case "wrong index":
		result.Index = 1
	case "status":
		return nil, status.Error(codes.Internal, "boom")
	case "own kind":
		return refuse("oops")
	case "cannot":
		return refuse("unsupported_language")
	case "one at a time":
		if h.busy.Add(1) > 1 {
			return refuse("internal")
		}
		time.Sleep(20 * time.Millisecond)
		h.busy.Add(-1)
	case "never free", "works on":
		if h.stuck.Load() {
			return refuse("internal")
		}
		work := time.NewTimer(20 * time.Millisecond)
		defer work.Stop()
		select {
		case <-work.C:
		case <-ctx.Done():
			h.inside.Add(1) // and never done
			h.stuck.Store(h.how == "never free")
		}
	}
	return result, nil
}

func (h *hand) Before(_ context.Context, v *wire.Visit) (*wire.Verdict, error) {
	if err := h.enter(v.GetInstance()); err != nil {
		return nil, err
	}
	verdict := &wire.Verdict{State: []byte("state")}
	switch h.how {
	case "much state":
		verdict.State = make([]byte, wire.MaxState+1)
	case "loses the text":
		verdict.What = &wire.Verdict_Request{Request: &wire.Text{Target: "es"}}
	case "remembers":
		h.mu.Lock()
		h.memory = fmt.Sprint(os.Getpid())
		h.mu.Unlock()
	}
	return verdict, nil
}

func (h *hand) After(_ context.Context, d *wire.Done) (*wire.Reply, error) {
	if err := h.enter(d.GetInstance()); err != nil {
		return nil, err
	}
	if h.how == "silent after" {
		return &wire.Reply{}, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	res := d.GetResult()
	res.Text += h.memory
	return &wire.Reply{What: &wire.Reply_Result{Result: res}}, nil
}
