package verify

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// A kit is what is known of one plugin.
type kit struct {
	o      Options
	dir    string // for sockets
	starts int
	lent   map[state]*program

	known knowledge
	stuck string // the check that keeps others from being made

	noise          []string
	about          *wire.Description
	source, target core.Language
}

func newKit(o Options) (*kit, error) {
	if len(o.Command) == 0 {
		return nil, errors.New("there is no command to verify")
	}
	if o.Config == nil {
		o.Config = []byte("{}")
	}
	dir, err := os.MkdirTemp("", "dragoman-verify-") // of mode 0700
	if err != nil {
		return nil, err
	}
	return &kit{o: o, dir: dir, lent: map[state]*program{}, source: o.Source, target: o.Target}, nil
}

func (k *kit) close() {
	k.stopAll()
	os.RemoveAll(k.dir)
}

// A state is what a check wants a program to be in.
type state int

const (
	bare  state = iota // started as `dragoman check` does, with no environment
	fresh              // with its environment, and not configured
	ready              // configured
)

// borrow returns a program that runs in a state: the one that a check before has left in it, for to start
// Python or Node takes half a second of a processor, or a new one. A check that leaves it in another state spends it.
func (k *kit) borrow(ctx context.Context, s state) (*program, error) {
	if p := k.lent[s]; p != nil {
		select {
		case <-p.exited:
			k.spend(p)
		default:
			return p, nil
		}
	}
	env := k.o.Env
	if s == bare {
		env = nil
	}
	p, err := k.start(ctx, env)
	if err != nil {
		return nil, err
	}
	if s == ready {
		if err := k.configureAll(ctx, p); err != nil {
			p.stop()
			return nil, err
		}
	}
	k.lent[s] = p
	return p, nil
}

// spend stops a program, so that no other check gets it.
func (k *kit) spend(p *program) {
	maps.DeleteFunc(k.lent, func(_ state, lent *program) bool { return lent == p })
	p.stop()
}

func (k *kit) stopAll() {
	for _, p := range k.lent {
		k.spend(p)
	}
}

// A program is one run of the plugin. Its group is its own.
type program struct {
	cmd            *exec.Cmd
	stdin          *os.File // our end, held open
	stdout, stderr *os.File // our ends, closed by who reads them

	secret wire.Secret   // that calls carry
	socket string        // where it listens
	noise  []string      // lines before the handshake
	took   time.Duration // until the handshake

	conn     *grpc.ClientConn
	plugin   wire.PluginClient
	provider wire.ProviderClient
	stage    wire.StageClient

	last    *tail // of standard error
	readers sync.WaitGroup
	said    chan struct{} // closed when standard error has ended
	exited  chan struct{} // closed when the program has
}

// command returns what starts the plugin with env, and nothing of ours.
func (k *kit) command(env []string) *exec.Cmd {
	cmd := exec.Command(k.o.Command[0], k.o.Command[1:]...)
	cmd.Dir, cmd.Env = k.o.Dir, append([]string{}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// start starts the plugin and waits for its handshake. Lines that it prints
// before are noted.
func (k *kit) start(ctx context.Context, env []string) (*program, error) {
	k.starts++
	sockets := filepath.Join(k.dir, fmt.Sprint(k.starts))
	if err := os.Mkdir(sockets, 0o700); err != nil {
		return nil, machineError{err}
	}
	secret, err := wire.NewSecret()
	if err != nil {
		return nil, machineError{err}
	}
	defer secret.Close()
	cmd := k.command(append(append([]string{}, env...),
		wire.CookieKey+"="+wire.CookieValue, fmt.Sprintf("PLUGIN_PROTOCOL_VERSIONS=%d", wire.Protocol), "PLUGIN_UNIX_SOCKET_DIR="+sockets,
		wire.SecretKey+"=3"))
	cmd.ExtraFiles = []*os.File{secret.Pipe()}
	p, err := launch(cmd)
	if err != nil {
		return nil, err
	}
	p.secret = secret
	if err := p.connect(ctx, sockets); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// launch starts cmd with pipes on all streams. Who calls it reads stdout.
func launch(cmd *exec.Cmd) (p *program, err error) {
	p = &program{cmd: cmd, last: &tail{}, said: make(chan struct{}), exited: make(chan struct{})}
	var theirs, ours [3]*os.File
	defer func() {
		for i := range theirs {
			theirs[i].Close() // a nil *os.File says no and no more
			if err != nil {
				ours[i].Close()
			}
		}
	}()
	for i := range theirs {
		if theirs[i], ours[i], err = os.Pipe(); err != nil {
			return nil, machineError{err}
		}
		if i > 0 { // what it writes
			theirs[i], ours[i] = ours[i], theirs[i]
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[1], theirs[2]
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.ETXTBSY) {
			return nil, fmt.Errorf("it cannot be started: %w", wire.Unstarted(err))
		}
		return nil, fmt.Errorf("it cannot be started: %w: name the program as a shell would find it", err)
	}
	p.stdin, p.stdout, p.stderr = ours[0], ours[1], ours[2]
	p.readers.Go(func() {
		defer close(p.said)
		defer p.stderr.Close()
		io.Copy(p.last, p.stderr)
	})
	go func() { defer close(p.exited); cmd.Wait() }()
	return p, nil
}

// connect reads stdout up to the handshake and connects to the address in it.
func (p *program) connect(ctx context.Context, sockets string) error {
	began := time.Now()
	lines := make(chan string)
	p.readers.Go(func() {
		defer p.stdout.Close()
		defer close(lines)
		r := bufio.NewReaderSize(p.stdout, maxLine)
		for cut := false; ; {
			part, err := r.ReadSlice('\n')
			if err != nil && err != bufio.ErrBufferFull {
				return
			}
			line := strings.TrimRight(string(part), "\r\n")
			if cut || err != nil {
				line = "..." + line // it is too long to be a handshake
			}
			cut = err != nil
			if lines <- line; strings.HasPrefix(line, "1|") {
				break
			}
		}
		io.Copy(io.Discard, r) // what comes later is the gateway's log
	})
	defer func() { go drain(lines) }()
	late := time.NewTimer(startWait)
	defer late.Stop()
	for {
		select {
		case line, ok := <-lines:
			switch {
			case !ok:
				p.gone()
				return fmt.Errorf("it ended without a handshake, %s: print 1|1|unix|PATH|grpc| as the first line, and flush it", p.how())
			case !strings.HasPrefix(line, "1|"):
				if len(p.noise) < 10 {
					p.noise = append(p.noise, clip(line))
				}
				continue
			}
			p.took = time.Since(began)
			return p.dial(line, sockets)
		case <-late.C:
			return fmt.Errorf("there was no handshake within %v, and the gateway waits %v: print 1|1|unix|PATH|grpc| as soon as you listen, and flush it; %s", startWait, startLimit, p.last)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// maxLine is how much of a line is looked at, in bytes.
const maxLine = 16 << 10

func drain(lines <-chan string) {
	for range lines {
	}
}

func (p *program) dial(handshake, sockets string) error {
	const want = "print 1|1|unix|PATH|grpc|"
	parts := strings.Split(handshake, "|")
	switch {
	case len(parts) < 5 || parts[0] != "1":
		return fmt.Errorf("the handshake is %q: %s", clip(handshake), want)
	case parts[1] != fmt.Sprint(wire.Protocol):
		return fmt.Errorf("the handshake says version %q of the protocol: serve one that PLUGIN_PROTOCOL_VERSIONS names, %d", clip(parts[1]), wire.Protocol)
	case parts[2] != "unix":
		return fmt.Errorf("it listens on %q: listen on a Unix socket, nobody else can reach that; %s", clip(parts[2]+" "+parts[3]), want)
	case filepath.Dir(parts[3]) != sockets:
		return fmt.Errorf("its socket is %q: put it into the folder that PLUGIN_UNIX_SOCKET_DIR names, which only this user may enter and which is swept", clip(parts[3]))
	case parts[4] != "grpc":
		return fmt.Errorf("the handshake says %q: the protocol is grpc; %s", clip(parts[4]), want)
	}
	p.socket = parts[3]
	conn, err := grpc.NewClient("unix:"+p.socket, append(p.secret.Dial(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxMessage)))...)
	if err != nil {
		return machineError{err}
	}
	p.conn = conn
	p.plugin, p.provider, p.stage = wire.NewPluginClient(conn), wire.NewProviderClient(conn), wire.NewStageClient(conn)
	return nil
}

// serving asks for the health of the service, as go-plugin does.
func (p *program) serving(ctx context.Context) error {
	reply, err := grpc_health_v1.NewHealthClient(p.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "plugin"})
	if err != nil {
		return p.fault("grpc.health.v1.Health", err, "serve it, with the service \"plugin\"")
	}
	if reply.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("grpc.health.v1.Health says %v: say SERVING for the service \"plugin\" once the handshake is printed", reply.GetStatus())
	}
	return nil
}

// fault says that a call came to nothing, and whether the program has ended by
// it.
func (p *program) fault(call string, err error, todo string) error {
	message := clip(status.Convert(err).Message())
	if p.gone() {
		return fmt.Errorf("%s: the program ended, %s: %s", call, p.how(), todo)
	}
	return fmt.Errorf("%s failed with %s: %s: %s", call, status.Code(err), message, todo)
}

// gone says whether the program has ended, and gives it a moment to do so and
// its last words one to arrive.
func (p *program) gone() bool {
	moment := time.NewTimer(lastWords)
	defer moment.Stop()
	select {
	case <-p.exited:
	case <-moment.C:
		return false
	}
	select {
	case <-p.said:
	case <-moment.C:
	}
	return true
}

// how says how the program ended, with its last lines.
func (p *program) how() string {
	select {
	case <-p.exited:
		return fmt.Sprintf("%s; %s", p.cmd.ProcessState, p.last)
	default:
		return "it still runs; " + p.last.String()
	}
}

// ends waits for the end of the program and of all that it has started.
func (p *program) ends(ctx context.Context, within time.Duration) error {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-p.exited:
	case <-late.C:
		return fmt.Errorf("it goes on %v later", within)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		left := group(p.cmd.Process.Pid)
		if left == 0 {
			return nil
		}
		again := time.NewTimer(5 * time.Millisecond)
		select {
		case <-again.C:
		case <-late.C:
			again.Stop()
			return fmt.Errorf("it has ended, but process %d that it started goes on", left)
		}
	}
}

// kill ends the program alone.
func (p *program) kill() {
	p.cmd.Process.Kill()
	<-p.exited
}

// stop ends the program and its group, and waits; more than once is as good.
// Who has left the group and holds the output open is not waited for.
func (p *program) stop() {
	if p.conn != nil {
		p.conn.Close()
	}
	if group(p.cmd.Process.Pid) != 0 { // else its number may be another's by now
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	<-p.exited
	p.stdin.Close()
	soon := time.Now().Add(lastWords)
	p.stdout.SetReadDeadline(soon)
	p.stderr.SetReadDeadline(soon)
	p.readers.Wait()
}

// lastWords is how long the output of a program is read after its end.
const lastWords = 200 * time.Millisecond

// byHand starts the program as somebody would who does not know what it is.
func (k *kit) byHand(ctx context.Context) (string, error) {
	p, err := launch(k.command(k.o.Env))
	if err != nil {
		return "", err
	}
	defer p.stop()
	p.readers.Go(func() { defer p.stdout.Close(); io.Copy(p.last, p.stdout) })
	if err := p.ends(ctx, startLimit); err != nil {
		return "", fmt.Errorf("%w: without %s in its environment nobody is there to talk to: say what the program is, and end", err, wire.CookieKey)
	}
	p.stop() // and all that it has said is there
	switch {
	case p.cmd.ProcessState.Success():
		return "", errors.New("it ends with status 0, as if it had done something: say that it is a plugin, and end with another")
	case p.last.empty():
		return "", errors.New("it says nothing: say that it is a plugin, and how it is named in pipeline.yaml")
	}
	return "", nil
}

// sigterm sends the signal that all processes of a service get at once, while
// the gateway still has requests to finish.
func (k *kit) sigterm(ctx context.Context) (string, error) {
	p, err := k.borrow(ctx, ready)
	if err != nil {
		return "", err
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.cmd.Process.Signal(syscall.SIGTERM)
	for _, part := range k.about.GetParts() {
		if _, err := k.ask(ctx, p, part, "after SIGTERM", sentence); err != nil {
			return "", fmt.Errorf("after SIGTERM: %w: ignore it while the parent lives; the gateway still has requests to finish", err)
		}
	}
	if p.gone() {
		return "", fmt.Errorf("SIGTERM ended it, %s: ignore it while the parent lives; the gateway still has requests to finish", p.how())
	}
	return "", nil
}

// shutdown tells the program to end, and then once more, as happens when a
// reload and the end of the gateway meet.
func (k *kit) shutdown(ctx context.Context) (string, error) {
	p, err := k.borrow(ctx, ready)
	if err != nil {
		return "", err
	}
	defer k.spend(p)
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	began := time.Now()
	tell := func() error {
		return p.conn.Invoke(ctx, "/plugin.GRPCController/Shutdown", &emptypb.Empty{}, &emptypb.Empty{})
	}
	said := make(chan error, 1)
	go func() {
		err := tell() // comes to nothing when it ends at once
		tell()
		said <- err
	}()
	goesOn := p.ends(ctx, endLimit)
	p.conn.Close()
	err = <-said
	switch {
	case goesOn != nil && err != nil:
		return "", fmt.Errorf("Shutdown failed with %s: %w: serve plugin.GRPCController, and end when it is called", status.Code(err), goesOn)
	case goesOn != nil:
		return "", fmt.Errorf("Shutdown was answered: %w: end when it is called, with all that you have started", goesOn)
	case !p.cmd.ProcessState.Success():
		return "", fmt.Errorf("it was told to end, twice, and did not do so well, %s: the second call is no mistake; end with status 0", p.how())
	}
	return fmt.Sprintf("after %v", time.Since(began).Round(time.Millisecond)), nil
}

// hostDeath ends standard input, which the gateway holds open as long as it
// lives.
func (k *kit) hostDeath(ctx context.Context) (string, error) {
	p, err := k.borrow(ctx, ready)
	if err != nil {
		return "", err
	}
	defer k.spend(p)
	p.stdin.Close()
	if err := p.ends(ctx, endLimit); err != nil {
		return "", fmt.Errorf("its standard input ended, as it does when the gateway dies, and %w: read it, and at its end kill your process group", err)
	}
	return "", nil
}

// A tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	end []byte
}

const maxTail = 2 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	if over := len(t.end) - maxTail; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	return len(b), nil
}

func (t *tail) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(bytes.TrimSpace(t.end)) == 0
}

// String returns the last lines, as the end of a message.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.end)), "\n")
	if lines[0] == "" {
		return "it printed nothing on standard error"
	}
	lines = lines[max(0, len(lines)-3):]
	for i := range lines {
		lines[i] = clip(lines[i])
	}
	return "its last lines: " + strings.Join(lines, " | ")
}

// clip returns s on one line, and not too much of it.
func clip(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), 200)], "")
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
}
