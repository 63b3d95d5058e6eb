// Package sdk turns core.Kinds into a plugin: a program that the gateway starts
// and asks over plugins/wire. The same kinds can be linked into a gateway of
// your own; nothing in them knows where it runs.
//
//	func main() { sdk.Serve(shout.Kind()) }
//
// A kind of role provider builds a core.Translator, one of role stage builds
// core.Hooks, or a core.Beforer when it is OneWay; a program serves at most one of each. The optional abilities of
// core work here too: Starter, Closer, Prober (of which Probe is enough),
// Languager.
//
// # What holds in a plugin
//
// Calls come concurrently, each on a goroutine of its own, for any number of
// instances: what Build returned must be safe for concurrent use, as core says.
// Its context has the deadline of the request and is done when the caller has
// left. A panic is the failure of its call, not of the program.
//
// Env.Upstream is nil: a plugin dials by itself. Env.Log reaches the gateway's
// log under the plugin's name; so does what is printed on standard output or
// error. The working directory is the folder of pipeline.yaml, the environment
// is what `env:` says and nothing else.
//
// Build says what is wrong with a configuration. A *core.Error with a Field
// names the key: the gateway prints it with file, line and column.
//
// The program ends when the gateway says so, and when the gateway is gone: then
// it takes its whole process group with it.
package sdk

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/heap"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// Serve serves kinds until the gateway ends the program. It is the whole main of
// a plugin, and does not return.
//
// A program that somebody starts by hand says what it is; with
// `--listen unix:PATH` or `--listen 127.0.0.1:PORT` it serves there, for a
// gateway with `address:`, a debugger or a container.
func Serve(kinds ...core.Kind) { os.Exit(run(kinds, os.Args)) }

func run(kinds []core.Kind, args []string) (status int) {
	name := filepath.Base(args[0])
	log := newLog(os.Stderr)
	s, err := newServer(name, kinds, log)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 2
	}
	defer s.close()
	defer heap.Keep()()
	switch {
	case os.Getenv(wire.CookieKey) == wire.CookieValue:
		secret, err := takeSecret()
		if err != nil {
			log.Warn("calls of other programs cannot be told from the gateway's", zap.Error(err))
		}
		end := guard(log)
		defer end()
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig: plugin.HandshakeConfig{ProtocolVersion: wire.Protocol, MagicCookieKey: wire.CookieKey, MagicCookieValue: wire.CookieValue},
			Plugins:         plugin.PluginSet{"dragoman": &served{server: s}},
			GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
				return grpcServer(append(options, only(secret)...))
			},
			Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
		})
		return 0
	case len(args) == 3 && args[1] == "--listen":
		if err := listen(s, args[2]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			return 1
		}
		return 0
	}
	fmt.Fprintf(os.Stderr, `%s is a plugin of Dragoman, which starts it: name it in pipeline.yaml, "command: [%s]".
To start it yourself: %[1]s --listen unix:PATH, and "address: unix:PATH" in pipeline.yaml.
`, name, args[0])
	return 2
}

// workers are goroutines that stay, with a stack that is large enough: growing
// one for each call is a tenth of the work of a plugin that answers at once. Calls
// beyond them have a goroutine of their own.
const workers = 64

func grpcServer(options []grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(options, grpc.MaxRecvMsgSize(wire.MaxMessage), grpc.MaxSendMsgSize(wire.MaxMessage), grpc.NumStreamWorkers(workers), grpc.ChainUnaryInterceptor(shutOnce()))...)
}

// shutOnce lets one Shutdown through, and gives its outcome to all others:
// go-plugin's own races with itself when two come at the same time.
func shutOnce() grpc.UnaryServerInterceptor {
	var (
		once  sync.Once
		reply any
		err   error
	)
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		if info.FullMethod != "/plugin.GRPCController/Shutdown" {
			return handle(ctx, req)
		}
		once.Do(func() { reply, err = handle(ctx, req) })
		return reply, err
	}
}

// served is the server as go-plugin wants it.
type served struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

func (p *served) GRPCServer(_ *plugin.GRPCBroker, g *grpc.Server) error {
	p.server.register(g)
	return nil
}

func (p *served) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, fmt.Errorf("this side only serves")
}

// listen serves at address until SIGINT or SIGTERM, and finishes what is in
// flight then.
func listen(s *server, address string) error {
	network := "tcp"
	if path, unix := strings.CutPrefix(address, "unix:"); unix {
		network, address = "unix", path
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	g := grpcServer(nil)
	s.register(g)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, g.GracefulStop)()
	return g.Serve(l)
}

// newLog writes lines that the gateway takes apart: JSON with the keys of hclog.
func newLog(to *os.File) *zap.Logger {
	enc := zap.NewProductionEncoderConfig()
	enc.MessageKey, enc.LevelKey, enc.TimeKey, enc.NameKey = "@message", "@level", "@timestamp", "@module"
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.Lock(to), zapcore.DebugLevel))
}
