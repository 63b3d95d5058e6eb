package gateway

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// A handing starts gateways as a service manager does, and holds their socket.
type handing struct {
	t      *testing.T
	file   string
	addr   string
	socket *os.File
	env    []string
}

func handOver(t *testing.T, yaml string) *handing {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	t.Cleanup(func() { socket.Close() })
	return &handing{t: t, file: write(t, yaml), addr: l.Addr().String(), socket: socket}
}

// prepare returns a gateway with that environment and the sockets.
func (h *handing) prepare(env []string, sockets ...*os.File) *gatewayProcess {
	h.t.Helper()
	// Only the process itself can know its number, which is said before it is the gateway.
	p := prepare(h.t, filepath.Dir(h.file), slices.Concat(env, h.env), "/bin/sh", "-c", `export LISTEN_PID="${LISTEN_PID-$$}"; exec "$@"`, "sh",
		filepath.Join(programs, "dragoman"), "serve", "--config", h.file)
	p.cmd.ExtraFiles = sockets
	return &gatewayProcess{process: p, url: "http://" + h.addr}
}

func (h *handing) start() *gatewayProcess {
	h.t.Helper()
	g := h.prepare([]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=public"}, h.socket)
	g.begin()
	return g
}

// Clients that keep their connections and clients that do not call at an even pace, none of
// which sends a call again; the gateway is ended and started again all the while.
func TestARestartBehindASocketThatWasHandedOverLosesNoCall(t *testing.T) {
	property.WithoutRace(t)
	sim := simulate(t, "--latency", "20ms", "--rtt", "0s")
	h := handOver(t, strings.Replace(pipeline(sim, "pooled", ""), "  - ratelimit\n", "", 1))
	g := h.start()
	g.see("Dragoman serves .* at http://" + h.addr)
	var (
		mu      sync.Mutex
		failed  []string
		slowest time.Duration
		calls   int
		running sync.WaitGroup
	)
	stop := make(chan struct{})
	const clients = 10 // of which each calls five times a second
	for i := range clients {
		running.Go(func() {
			transport := &http.Transport{DisableKeepAlives: i%2 == 0}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			pace := time.NewTicker(clients * 20 * time.Millisecond)
			defer pace.Stop()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-pace.C:
				}
				text := fmt.Sprintf("Client %d says number %d.", i, n)
				begun := time.Now()
				err := translated(client, g.url, text)
				mu.Lock()
				calls++
				slowest = max(slowest, time.Since(begun))
				if err != nil {
					failed = append(failed, fmt.Sprintf("%s: %v", text, err))
				}
				mu.Unlock()
			}
		})
	}
	restarts := property.Rounds(100, 3)
	for range restarts {
		time.Sleep(300 * time.Millisecond) // of the clients' pace
		g.signal(syscall.SIGTERM)
		if status := g.wait(); status != 0 {
			t.Fatalf("ended with %d:\n%s", status, g.output())
		}
		g = h.start()
		g.see("Dragoman serves .* at http://" + h.addr)
	}
	close(stop)
	running.Wait()
	t.Logf("%d restarts, %d calls, the slowest took %v", restarts, calls, slowest.Round(time.Millisecond))
	if len(failed) > 0 {
		t.Errorf("%d of %d calls failed, such as %s", len(failed), calls, failed[0])
	}
	if most := 400 * time.Millisecond; os.Getenv("DRAGOMAN_SOAK") != "" && slowest > most {
		t.Errorf("the slowest call took %v, want at most %v", slowest, most)
	}
	if calls < restarts*10 {
		t.Errorf("%d calls during %d restarts: nothing was looked at", calls, restarts)
	}
}

// A call that takes long is finished by the process that began it, and does not keep those
// away that come meanwhile.
func TestACallInFlightIsFinishedBeforeTheSocketIsLeftToTheNextProcess(t *testing.T) {
	property.WithoutRace(t)
	sim := simulate(t, "--latency", "1500ms", "--rtt", "0s")
	h := handOver(t, pipeline(sim, "pooled", ""))
	g := h.start()
	g.see("Dragoman serves")
	done := make(chan error, 1)
	go func() { done <- translated(http.DefaultClient, g.url, "The kettle is boiling.") }()
	until(t, func() bool { return g.metric("dragoman_in_flight") != "0" })
	g.signal(syscall.SIGTERM)
	g.see("stopping")
	begun := time.Now()
	if res, err := http.Get(g.url + "/healthz"); err != nil || res.StatusCode != 200 {
		t.Errorf("while it ends: %v %v", res, err)
	}
	if err := receive(t, done); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took < 300*time.Millisecond {
		t.Errorf("the call ended after %v: nothing was looked at", took)
	}
	if status := g.wait(); status != 0 {
		t.Errorf("status %d:\n%s", status, g.output())
	}
}

func TestWhatIsHandedOverWrongIsToldWithWhatToWrite(t *testing.T) {
	property.WithoutRace(t)
	h := handOver(t, "version: 1\nserver: {listen: \"127.0.0.1:0\"}\nproviders: {openai: {type: openai, api_key: x}}\nstages:\n  - provider: {use: openai}\n")
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	datagrams, _ := udp.(*net.UDPConn).File()
	wide, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer wide.Close()
	beyond, _ := wide.(*net.TCPListener).File()
	plain, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env     []string
		sockets []*os.File
		want    string
	}{
		"a name of nothing":     {[]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=web"}, []*os.File{h.socket}, `a socket named "web" was handed over, and the gateway knows public, for server.listen, and admin, for server.admin; write FileDescriptorName=public in the .socket unit`},
		"one name twice":        {[]string{"LISTEN_FDS=2", "LISTEN_FDNAMES=public:public"}, []*os.File{h.socket, h.socket}, "two sockets named public were handed over"},
		"datagrams":             {[]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=admin"}, []*os.File{datagrams}, "what was handed over as admin cannot be listened on: it is no TCP socket"},
		"a file":                {[]string{"LISTEN_FDS=1"}, []*os.File{plain}, "it is no socket"},
		"nothing":               {[]string{"LISTEN_FDS=1"}, nil, "cannot be listened on"},
		"beyond, without a key": {[]string{"LISTEN_FDS=1"}, []*os.File{beyond}, "can be reached from other machines, and without keys everybody there could translate at your cost"},
	} {
		t.Run(name, func(t *testing.T) {
			h := *h
			h.t = t
			p := h.prepare(c.env, c.sockets...)
			if status := p.begin().wait(); status != 1 || !strings.Contains(p.output(), c.want) {
				t.Errorf("%d %s, want %s", status, p.output(), c.want)
			}
		})
	}
	p := h.prepare([]string{"NOTIFY_SOCKET=/nowhere/socket", "LISTEN_FDS=1", "LISTEN_PID=1"}, h.socket)
	p.begin()
	p.see("sockets \\(1\\) were handed to the process 1, and the gateway is")
	p.see("the service manager cannot be told how the gateway is")
	p.see("Dragoman serves") // where the file says
	if strings.Contains(p.output(), h.addr) {
		t.Errorf("it uses what is another's:\n%s", p.output())
	}
}

func TestWhatIsSaidOfSocketsThatCannotBeIsRefusedOrWarnedOf(t *testing.T) {
	for name, c := range map[string]struct {
		env        []string
		want, warn string
	}{
		"no number":            {[]string{"LISTEN_FDS=many"}, `LISTEN_FDS is "many", which is no number of sockets`, ""},
		"less than none":       {[]string{"LISTEN_FDS=-1"}, `LISTEN_FDS is "-1"`, ""},
		"more than have a use": {[]string{"LISTEN_FDS=3", "LISTEN_FDNAMES=public:admin:x"}, "3 sockets were handed over, and the gateway has a use for 2 at most", ""},
		"fewer names":          {[]string{"LISTEN_FDS=2", "LISTEN_FDNAMES=public"}, `LISTEN_FDNAMES names 1 sockets ("public"), and LISTEN_FDS says that 2 were handed over`, ""},
		"no names":             {[]string{"LISTEN_FDS=2"}, "2 sockets were handed over without names", ""},
		"for another process":  {[]string{"LISTEN_FDS=1", "LISTEN_PID=1"}, "", "sockets (1) were handed to the process 1, and the gateway is"},
		"for no process":       {[]string{"LISTEN_FDS=1", "LISTEN_PID="}, "", "LISTEN_PID not to which process: they are not used"},
		"a bad place to tell":  {[]string{"NOTIFY_SOCKET=nowhere"}, "", `NOTIFY_SOCKET is "nowhere", which is neither a path nor an abstract socket`},
		"a bad interval":       {[]string{"NOTIFY_SOCKET=/nowhere/socket", "WATCHDOG_USEC=soon"}, "", `WATCHDOG_USEC is "soon", which is no number of microseconds`},
	} {
		env := []string{fmt.Sprintf("LISTEN_PID=%d", os.Getpid())}
		m, err := managerOf(append(env, c.env...), os.Getpid())
		switch {
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", name, err, c.want)
		case c.warn != "" && (err != nil || len(m.warnings) != 1 || !strings.Contains(m.warnings[0], c.warn) || m.handed["listen"] != nil):
			t.Errorf("%s: %+v %v, want %s", name, m, err, c.warn)
		}
	}
}

// listenAsManager returns a service manager's socket, and where it is.
func listenAsManager(t *testing.T) (at string, hears *net.UnixConn) {
	t.Helper()
	at = filepath.Join(t.TempDir(), "notify")
	hears, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hears.Close() })
	return at, hears
}

// A manager that listens to what it is told.
func TestTheServiceManagerIsToldHowTheGatewayIs(t *testing.T) {
	property.WithoutRace(t)
	sim := simulate(t)
	at, hears := listenAsManager(t)
	said := make(chan string, 1000)
	go func() {
		defer close(said)
		for b := make([]byte, 8192); ; {
			n, err := hears.Read(b)
			if err != nil {
				return
			}
			said <- string(b[:n])
		}
	}()
	hear := func(all ...string) string {
		t.Helper()
		for {
			message := receive(t, said)
			if message == "" {
				t.Fatalf("nothing more is said, want %q", all)
			}
			if !slices.ContainsFunc(all, func(want string) bool { return !strings.Contains("\n"+message+"\n", want) }) {
				return message
			}
		}
	}
	h := handOver(t, pipeline(sim, "pooled", "  direct: {type: plugin, command: ["+filepath.Join(programs, "openai-direct")+"], config_from: openai}\n"))
	content, err := os.ReadFile(h.file)
	if err != nil {
		t.Fatal(err)
	}
	content = []byte(strings.Replace(string(content), "use: openai", "use: direct", 1))
	if err := os.WriteFile(h.file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	h.env = []string{"NOTIFY_SOCKET=" + at, "WATCHDOG_USEC=200000"}
	g := h.start()
	hear("\nREADY=1\n", "\nSTATUS=generation 1, ready\n")
	hear("\nWATCHDOG=1\n")
	h.ownsNothing(g.plugin())

	if err := os.WriteFile(h.file, append(content, "log: {level: debug}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	hear("\nRELOADING=1\n", "\nMONOTONIC_USEC=")
	hear("\nREADY=1\n")
	if err := os.WriteFile(h.file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	hear("\nRELOADING=1\n")
	hear("\nREADY=1\n") // as before
	hear("\nWATCHDOG=1\n")

	g.signal(syscall.SIGTERM)
	hear("\nSTOPPING=1\n", "\nEXTEND_TIMEOUT_USEC=10000000\n") // 8 s of drain_timeout and a moment
	g.wait()
}

// ownsNothing fails when a process has the socket, or is told of the manager.
func (h *handing) ownsNothing(pid int) {
	h.t.Helper()
	proc := fmt.Sprintf("/proc/%d", pid)
	environ, err := os.ReadFile(filepath.Join(proc, "environ"))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, name := range managed {
		if strings.Contains("\x00"+string(environ), "\x00"+name+"=") {
			h.t.Errorf("a plugin is told %s", name)
		}
	}
	ours, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", h.socket.Fd()))
	if err != nil {
		h.t.Fatal(err)
	}
	all, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil || len(all) < 3 {
		h.t.Fatalf("%d descriptors, %v", len(all), err)
	}
	for _, fd := range all {
		if at, _ := os.Readlink(filepath.Join(proc, "fd", fd.Name())); at == ours {
			h.t.Errorf("a plugin has the socket, as %s", fd.Name())
		}
	}
}

// The process may have ended before the manager's teller has looked at why.
func TestTheServiceManagerIsToldOfAStopThatIsOverAtOnce(t *testing.T) {
	at, hears := listenAsManager(t)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	serve := func(l net.Listener) { l.Close() }
	for range 20 { // two things are seen at once, and either may be looked at first
		m := &manager{socket: at}
		m.begin(over, &stuckEngine{}, serve, func() time.Duration { return 0 }, zap.NewNop())()
		for _, want := range []string{"READY=1\n", "STOPPING=1\n"} {
			b := make([]byte, 1024)
			hears.SetReadDeadline(time.Now().Add(patience))
			if n, err := hears.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), want) {
				t.Fatalf("%q %v, want %q", b[:n], err, want)
			}
		}
		m.close()
	}
}

// A gateway whose parts do not tell their counters gives no sign of life.
func TestNoSignOfLifeIsGivenWhenTheLineDoesNotAnswer(t *testing.T) {
	at, hears := listenAsManager(t)
	m := &manager{socket: at, watchdog: 20 * time.Millisecond}
	stuck := &stuckEngine{}
	serve := func(l net.Listener) {
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
		t.Cleanup(func() { l.Close() })
	}
	end := m.begin(t.Context(), stuck, serve, func() time.Duration { return 0 }, zap.NewNop())
	read := func() string {
		b := make([]byte, 1024)
		hears.SetReadDeadline(time.Now().Add(patience))
		n, err := hears.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	if got := read(); !strings.HasPrefix(got, "READY=1\n") {
		t.Error(got)
	}
	if got := read(); got != "WATCHDOG=1" {
		t.Error(got)
	}
	stuck.mu.Lock()
	hears.SetReadDeadline(time.Now().Add(10 * m.watchdog))
	signs := 0
	for b := make([]byte, 1024); ; signs++ {
		if _, err := hears.Read(b); err != nil {
			break
		}
	}
	if signs > 2 { // of what was asked before
		t.Errorf("%d signs of life of an engine that does not answer", signs)
	}
	stuck.mu.Unlock()
	if got := read(); got != "WATCHDOG=1" {
		t.Error(got)
	}
	end()
}

// A stuckEngine answers while nobody holds its lock.
type stuckEngine struct{ mu sync.Mutex }

func (e *stuckEngine) Measure(emit func(core.Measure)) { e.mu.Lock(); e.mu.Unlock() }
func (e *stuckEngine) Number() int64                   { return 1 }
func (e *stuckEngine) Ready() error                    { return nil }
