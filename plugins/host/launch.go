package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dragoman-mt/dragoman/plugins/wire"
)

const (
	startTimeout = 5 * time.Second // from the start of a program to its description
	stopGrace    = 3 * time.Second // from being told to end to being killed
)

// socketFolder is the variable in which go-plugin says where the socket goes.
// What it names is another folder for every process.
const socketFolder = "PLUGIN_UNIX_SOCKET_DIR"

// A running plugin is a connection to a process that serves, or to an address.
type running struct {
	plugin   wire.PluginClient
	provider wire.ProviderClient
	stage    wire.StageClient
	about    *wire.Description
	process  *process // nil when somebody else runs it
	link     *link
	version  version

	calls sync.WaitGroup // in flight; added to under plugin.mu, while it is the current one
	lost  chan error     // what a caller has noticed: the plugin is of no use any more
	stop  func()         // ends it, once
	told  atomic.Bool    // of what it says too much

	called atomic.Bool // at least once
}

// part returns what the plugin says about one of its roles.
func (r *running) part(role wire.Role) *wire.Part {
	for _, p := range r.about.GetParts() {
		if p.GetRole() == role {
			return p
		}
	}
	return nil
}

// pid returns the number of the process, 0 when somebody else runs it.
func (r *running) pid() int {
	if r.process == nil {
		return 0
	}
	return r.process.pid
}

// exited is closed when the process has ended.
func (r *running) exited() <-chan struct{} {
	if r.process == nil {
		return nil
	}
	return r.process.exited
}

// drop notes why the plugin is of no use any more.
func (r *running) drop(why error) {
	select {
	case r.lost <- why:
	default: // one reason is enough
	}
}

// died says whether the process has ended, or the connection is not what it was
// when so many had ended.
func (r *running) died(ended int64) bool {
	select {
	case <-r.exited():
		return true
	default:
		return r.link.broken(ended)
	}
}

// maxHeaders is the most that a plugin may say beside a message, in bytes.
const maxHeaders = 64 << 10

func dialOptions(l *link) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithContextDialer(l.dial), grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxMessage), grpc.MaxCallSendMsgSize(wire.MaxMessage)),
	}
}

func newRunning(conn *grpc.ClientConn, l *link, stop func()) *running {
	return &running{
		plugin: wire.NewPluginClient(conn), provider: wire.NewProviderClient(conn), stage: wire.NewStageClient(conn),
		link: l, lost: make(chan error, 1), stop: sync.OnceFunc(stop),
	}
}

// launch starts program, or connects to its address, and asks what it is.
// Without an environment it gets none, whatever the program says. Known is the
// version that its files had at last, if they had any.
func launch(ctx context.Context, program *Program, folder, sockets string, k *kin, out *output, environment bool, known version) (r *running, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if program.Address != "" {
		if r, err = attach(program); err == nil {
			r.version = known
		}
	} else {
		r, err = run(ctx, program, folder, sockets, k, out, environment, known)
	}
	if err != nil {
		return nil, err
	}
	r.about, err = r.plugin.Describe(ctx, &wire.DescribeRequest{}, grpc.WaitForReady(program.Address != ""))
	switch {
	case err != nil:
		gone := r.process != nil && r.died(0)
		err = fmt.Errorf("it does not say what it is: %w", spoken(err))
		if gone {
			err = death{err}
		}
	case r.about.GetProtocol() != wire.Protocol:
		err = fmt.Errorf("it speaks version %d of the protocol, and this gateway version %d", r.about.GetProtocol(), wire.Protocol)
	default:
		err = wire.Bound(r.about)
	}
	if err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// A death is why a plugin is of no use any more when that is its own doing: its
// process has ended, or its connection.
type death struct{ error }

func (d death) Unwrap() error { return d.error }

func attach(program *Program) (*running, error) {
	network, at, err := endpoint(program.Address)
	if err != nil {
		return nil, err
	}
	l := &link{network: network, address: at}
	conn, err := grpc.NewClient("passthrough:plugin", append(dialOptions(l), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, err
	}
	return newRunning(conn, l, func() { conn.Close() }), nil
}

// run starts a process. Everything that go-plugin wants is made anew for it: a
// configuration or a command serves one launch.
func run(ctx context.Context, program *Program, folder, sockets string, k *kin, out *output, environment bool, known version) (*running, error) {
	files, err := program.open(folder, false)
	if err != nil {
		return nil, err
	}
	defer files.close()
	made, err := program.identify(folder, files, known)
	if err != nil {
		return nil, err
	}
	cmd := program.command(folder, files)
	if !environment {
		cmd.Env = program.origin(files)
	}
	key, err := wire.NewSecret()
	if err != nil {
		return nil, err
	}
	defer key.Close()
	cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", wire.SecretKey, 3+len(cmd.ExtraFiles)))
	cmd.ExtraFiles = append(cmd.ExtraFiles, key.Pipe())
	p := newProcess(cmd, out, k)
	socket := ""
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  goplugin.HandshakeConfig{ProtocolVersion: wire.Protocol, MagicCookieKey: wire.CookieKey, MagicCookieValue: wire.CookieValue},
		Plugins:          goplugin.PluginSet{}, // the clients are made from the connection
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		StartTimeout:     startTimeout,
		SkipHostEnv:      true,
		// A Unix socket in a folder of mode 0700 needs no TLS, which would cost
		// 60 ms a start.
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: sockets},
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, dir string) (runner.Runner, error) {
			socket = dir
			cmd.Env = append(slices.Clone(cmd.Env), spec.Env...)
			p.mark = socketFolder + "=" + dir
			return p, nil
		},
		Logger:          hclog.NewNullLogger(), // what it would say is in its errors
		SyncStdout:      &stream{out: out},
		SyncStderr:      &stream{out: out},
		GRPCDialOptions: append(dialOptions(&p.link), key.Dial()...),
	})
	stop := func() {
		// Shutdown has no deadline of its own; the end of the process ends it.
		late := time.AfterFunc(stopGrace, p.kill)
		defer late.Stop()
		client.Kill()
		p.Kill(ctx)
		os.RemoveAll(socket)
	}
	// The time-out of go-plugin covers the handshake alone.
	defer context.AfterFunc(ctx, p.kill)()
	protocol, err := client.Client()
	if err != nil {
		stop()
		if p.ID() == "" {
			return nil, fmt.Errorf("it cannot be started: %w", wire.Unstarted(err))
		}
		err = fmt.Errorf("it did not begin to serve: %s; %s", clip(err.Error(), lastLine), out.tail())
		if p.died() {
			err = death{err}
		}
		return nil, err
	}
	r := newRunning(protocol.(*goplugin.GRPCClient).Conn, &p.link, stop)
	r.process, r.version = p, made
	out.log.Debug("started", zap.Int("pid", r.pid()), zap.Strings("command", program.Command))
	return r, nil
}
