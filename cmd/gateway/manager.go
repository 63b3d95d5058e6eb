package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/dragoman-mt/dragoman/core"
)

// A manager is the service manager that started the process, as systemd does. It may hand
// listening sockets over, which outlive the process, see sd_listen_fds(3); it wants to be told
// how the gateway is, see sd_notify(3), and to hear from it again and again, or else it ends
// it, see sd_watchdog_enabled(3). Where there is none, all of that does nothing.
type manager struct {
	handed    map[string]*os.File // by the key of server that each stands for
	addresses map[string]string   // theirs
	warnings  []string            // of what was handed over and is not used
	socket    string              // that it listens on; empty when it wants to hear nothing
	watchdog  time.Duration       // at the latest so long after one sign of life comes the next; 0 when none needs to

	mu      sync.Mutex
	conn    net.Conn // to socket; nil while it cannot be reached
	failing bool     // the log says so
	log     *zap.Logger
}

// stands says for which key of server a socket of each name stands.
var stands = map[string]string{"public": "listen", "admin": "admin"}

// firstHanded is the descriptor of the first socket that is handed over.
const firstHanded = 3

// managed are the variables by which a manager speaks to one process: they are nothing for
// those that it starts.
var managed = []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}

// managerOf reads what environ says, for the process of that number, and takes it out of the
// process's environment.
func managerOf(environ []string, pid int) (*manager, error) {
	said := map[string]string{}
	for _, kv := range environ {
		if name, value, _ := strings.Cut(kv, "="); slices.Contains(managed, name) {
			said[name] = value
			os.Unsetenv(name)
		}
	}
	m := &manager{handed: map[string]*os.File{}, addresses: map[string]string{}, log: zap.NewNop()}
	names, err := m.names(said, pid)
	if err == nil {
		err = m.take(names)
	}
	if err != nil {
		m.close()
		return nil, err
	}
	switch at := said["NOTIFY_SOCKET"]; {
	case at == "":
	case at[0] == '/' || at[0] == '@' && len(at) > 1:
		m.socket = at
	default:
		m.warn("NOTIFY_SOCKET is %q, which is neither a path nor an abstract socket: the service manager is told nothing", at)
	}
	if every := said["WATCHDOG_USEC"]; every != "" && m.socket != "" && (said["WATCHDOG_PID"] == "" || said["WATCHDOG_PID"] == strconv.Itoa(pid)) {
		if us, err := strconv.ParseInt(every, 10, 64); err != nil || us <= 0 || us > math.MaxInt64/1000 {
			m.warn("WATCHDOG_USEC is %q, which is no number of microseconds: no sign of life is given", every)
		} else {
			m.watchdog = time.Duration(us) * time.Microsecond
		}
	}
	return m, nil
}

func (m *manager) warn(format string, args ...any) {
	m.warnings = append(m.warnings, fmt.Sprintf(format, args...))
}

// names are those of the sockets that were handed to the process of that number.
func (m *manager) names(said map[string]string, pid int) ([]string, error) {
	fds, ok := said["LISTEN_FDS"]
	if !ok || fds == "0" {
		return nil, nil
	}
	n, err := strconv.Atoi(fds)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("LISTEN_FDS is %q, which is no number of sockets; what hands sockets over sets it, as systemd does for a .socket unit, so start the gateway without it elsewhere", fds)
	}
	switch whose := said["LISTEN_PID"]; {
	case whose == "":
		m.warn("LISTEN_FDS says that sockets were handed over (%d), and LISTEN_PID not to which process: they are not used, and the gateway listens where its file says", n)
		return nil, nil
	case whose != strconv.Itoa(pid):
		m.warn("sockets (%d) were handed to the process %s, and the gateway is %d: they are not used, and it listens where its file says; a shell between the two must start it with exec", n, whose, pid)
		return nil, nil
	}
	if most := len(stands); n > most {
		return nil, fmt.Errorf("%d sockets were handed over, and the gateway has a use for %d at most, named public and admin; one for IPv4 and IPv6 together is ListenStream=[::]:PORT with BindIPv6Only=both", n, most)
	}
	list, named := said["LISTEN_FDNAMES"]
	names := strings.Split(list, ":")
	if named && len(names) != n {
		return nil, fmt.Errorf("LISTEN_FDNAMES names %d sockets (%q), and LISTEN_FDS says that %d were handed over", len(names), list, n)
	}
	// Systemd gives one that has no name that of its unit, and sd_listen_fds(3) "unknown".
	if n == 1 && (!named || list == "" || list == "unknown" || strings.HasSuffix(list, ".socket")) {
		return []string{"public"}, nil
	}
	if !named {
		return nil, fmt.Errorf("%d sockets were handed over without names; write FileDescriptorName=public in the .socket unit of the one for server.listen, and FileDescriptorName=admin in that of the one for server.admin", n)
	}
	return names, nil
}

// take takes the sockets of these names.
func (m *manager) take(names []string) error {
	for i, name := range names {
		syscall.CloseOnExec(firstHanded + i) // it is nothing for plugins
		key, known := stands[name]
		switch {
		case !known:
			return fmt.Errorf("a socket named %q was handed over, and the gateway knows public, for server.listen, and admin, for server.admin; write FileDescriptorName=public in the .socket unit", name)
		case m.handed[key] != nil:
			return fmt.Errorf("two sockets named %s were handed over, and the gateway listens on one; one for IPv4 and IPv6 together is ListenStream=[::]:PORT with BindIPv6Only=both", name)
		}
		addr, err := listensAt(firstHanded + i)
		if err != nil {
			return fmt.Errorf("what was handed over as %s cannot be listened on: %w; write ListenStream=ADDRESS:PORT, and no Accept=yes, in the .socket unit", name, err)
		}
		m.handed[key] = os.NewFile(uintptr(firstHanded+i), name)
		m.addresses[key] = addr
	}
	return nil
}

// listensAt is the address of the TCP socket fd, which must listen.
func listensAt(fd int) (string, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return "", fmt.Errorf("it is no socket (%w)", err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return "", err
	}
	var ip net.IP
	var port int
	switch at := at.(type) {
	case *unix.SockaddrInet4:
		ip, port = at.Addr[:], at.Port
	case *unix.SockaddrInet6:
		ip, port = at.Addr[:], at.Port
	}
	if kind != unix.SOCK_STREAM || ip == nil {
		return "", errors.New("it is no TCP socket")
	}
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
		return "", errors.New("it does not listen")
	}
	return net.JoinHostPort(ip.String(), strconv.Itoa(port)), nil
}

// settings are the addresses of what was handed over, as --set writes them: whatever holds
// for an address of the file holds for them, such as that beyond loopback there must be keys.
func (m *manager) settings() (all []string) {
	for _, key := range []string{"listen", "admin"} {
		if at := m.addresses[key]; at != "" {
			all = append(all, "server."+key+"="+strconv.Quote(at)) // an address may begin with a bracket
		}
	}
	return all
}

// close frees what was handed over; the sockets stay open where they come from.
func (m *manager) close() {
	for _, f := range m.handed {
		f.Close()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close()
	}
}

// tell tells the manager the lines, each NAME=VALUE. When it cannot be told, the log says so
// once.
func (m *manager) tell(lines ...string) {
	if m.socket == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.write(strings.Join(lines, "\n"))
	if err != nil && !m.failing {
		m.log.Warn("the service manager cannot be told how the gateway is; it is tried again each time", zap.Error(err))
	}
	m.failing = err != nil
}

// tellTimeout is how long a manager that does not read may hinder.
const tellTimeout = 2 * time.Second

func (m *manager) write(message string) (err error) {
	if m.conn == nil {
		if m.conn, err = net.DialTimeout("unixgram", m.socket, tellTimeout); err != nil {
			m.conn = nil
			return err
		}
	}
	m.conn.SetWriteDeadline(time.Now().Add(tellTimeout))
	if _, err = io.WriteString(m.conn, message); err != nil {
		m.conn.Close()
		m.conn = nil
	}
	return err
}

// loading tells that another configuration is about to be built, and loaded that this is over.
func (m *manager) loading() { m.tell(append(monotonic(), "RELOADING=1")...) }
func (m *manager) loaded()  { m.tell("READY=1") }

// statusEvery is how often the manager is told how the gateway is.
const statusEvery = 5 * time.Second

// begin tells the manager when the gateway serves, and from then on how it is, until ctx ends,
// when it is told that the gateway stops, which takes drain and a moment. End ends it.
// Serve serves the admin door on a listener. Each sign of life means that the engine has just
// told its counters, for which it takes the locks of every part, that of the line among them,
// and that the gateway has answered over a connection.
func (m *manager) begin(ctx context.Context, engine engineAsked, serve func(net.Listener), drain func() time.Duration, log *zap.Logger) (end func()) {
	if m.socket == "" {
		return func() {}
	}
	m.mu.Lock()
	m.log = log.Named("manager")
	m.mu.Unlock()
	within := newPipes()
	serve(within)
	client := &http.Client{Timeout: statusEvery, Transport: &http.Transport{DialContext: within.dial}}
	ended := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		defer client.CloseIdleConnections()
		m.await(ctx, engine)
		last := stateOf(engine)
		m.tell("READY=1", "STATUS="+last)
		every := statusEvery
		if m.watchdog > 0 {
			every = min(every, m.watchdog/2)
		}
		tick := time.NewTicker(every)
		defer tick.Stop()
		stopping := ctx.Done()
		stops := func() {
			stopping = nil
			m.tell("STOPPING=1", "STATUS=finishing what is in flight", "EXTEND_TIMEOUT_USEC="+strconv.FormatInt((drain()+farewell).Microseconds(), 10))
		}
		for {
			select {
			case <-ended:
				if stopping != nil && ctx.Err() != nil { // nothing was in flight
					stops()
				}
				return
			case <-stopping:
				stops()
				continue
			case <-tick.C:
			}
			now := stateOf(engine)
			var lines []string
			if now != last && stopping != nil {
				lines, last = append(lines, "STATUS="+now), now
			}
			if m.watchdog > 0 {
				if err := lives(client); err == nil {
					lines = append(lines, "WATCHDOG=1")
				} else if stopping != nil {
					log.Error("the gateway does not answer itself; the service manager hears no sign of life", zap.Error(err))
				}
			}
			if len(lines) > 0 {
				m.tell(lines...)
			}
		}
	})
	return func() { close(ended); running.Wait() }
}

// await returns when a text could be translated, with connections ready and plugins up. A
// provider that cannot be reached does not keep the gateway from starting: its state says so.
func (m *manager) await(ctx context.Context, engine engineAsked) {
	ctx, cancel := context.WithTimeout(ctx, startsWithin)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for engine.Ready() != nil {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// startsWithin is how long the manager waits for a provider that does not answer.
const startsWithin = 5 * time.Second

// farewell is how long after drain_timeout the process may take to end; see endgame.
const farewell = 2 * time.Second

// engineAsked is what the state of an engine is told from.
type engineAsked interface {
	core.Measurer
	Number() int64
	Ready() error
}

// stateOf is one line on how the gateway is.
func stateOf(e engineAsked) string {
	waiting, paused := 0.0, 0.0
	e.Measure(func(x core.Measure) {
		switch x.Name {
		case "line_waiting":
			waiting += x.Value
		case "provider_paused_seconds":
			if x.Value > 0 {
				paused++
			}
		}
	})
	state := fmt.Sprintf("generation %d, ready", e.Number())
	if err := e.Ready(); err != nil {
		why, _, _ := strings.Cut(err.Error(), "\n")
		state = fmt.Sprintf("generation %d, not ready: %.200s", e.Number(), why)
	}
	if waiting > 0 {
		state += fmt.Sprintf("; %.0f waiting", waiting)
	}
	if paused > 0 {
		state += fmt.Sprintf("; %.0f providers paused", paused)
	}
	return state
}

// lives says whether the gateway lives, by its own word.
func lives(client *http.Client) error {
	res, err := client.Get("http://localhost/healthz")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("/healthz answered %s", res.Status)
	}
	return nil
}

// pipes is a listener inside the process: it needs no descriptor, of which a gateway may have
// none left and live.
type pipes struct {
	ends   chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{ends: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.ends <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.ends:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "inside", Net: "unix"} }
