package door

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/executable"
)

// The addresses of the configuration, the keys, and the calls of the table in the
// admin door's README.
var (
	operatorPlaces = map[string]Config{
		"unset, `listen` on loopback":     {Listen: "127.0.0.1:8080"},
		"unset, `listen` beyond loopback": {Listen: "0.0.0.0:8080"},
		"set, on loopback":                {Listen: "0.0.0.0:8080", Admin: "127.0.0.1:9090"},
		"set, beyond loopback":            {Listen: "127.0.0.1:8080", Admin: "0.0.0.0:9090"},
	}
	operatorKeys = map[string][]Key{
		"none":                nil,
		"none with `operate`": {{Key: "translator"}},
		"some with `operate`": {{Key: "translator"}, {Name: "ops", Key: "operator", Role: Operate}},
	}
)

// operatorRows are the rows of that table, with what their calls are answered.
var operatorRows = []struct {
	admin, keys, call string
	may               bool
	kind              core.ErrorKind
	calls             []func(*http.Request)
}{
	{"unset, `listen` on loopback", "none", "made on this machine, under its name", true, "", []func(*http.Request){
		func(r *http.Request) {}, func(r *http.Request) { r.Host = "127.0.0.1:8080" }, func(r *http.Request) { r.Host = "[::1]" },
		func(r *http.Request) { r.Header.Set("Authorization", "Bearer whatever") },
	}},
	{"unset, `listen` on loopback", "none", "passed on, or that looks so", false, core.Forbidden, append([]func(*http.Request){
		func(r *http.Request) { r.Proto, r.ProtoMinor = "HTTP/1.0", 0 },
		func(r *http.Request) { r.Proto, r.ProtoMinor, r.Host = "HTTP/1.0", 0, "" },
	}, proxied...)},
	{"unset, `listen` on loopback", "none with `operate`", "any", false, core.Forbidden, slices.Concat([]func(*http.Request){
		func(r *http.Request) {}, shows("translator"), shows("operator"),
	}, proxied)},
	{"unset, `listen` beyond loopback", "none with `operate`", "any", false, core.Forbidden, slices.Concat([]func(*http.Request){
		func(r *http.Request) {}, shows("translator"), shows("operator"),
	}, proxied)},
	{"set, on loopback", "none", "made on this machine, under its name", true, "", []func(*http.Request){
		func(r *http.Request) {}, func(r *http.Request) { r.Proto, r.ProtoMinor = "HTTP/1.0", 0 },
	}},
	{"set, on loopback", "none with `operate`", "made on this machine, under its name", true, "", []func(*http.Request){
		func(r *http.Request) {}, shows("translator"),
	}},
	{"set, on loopback", "none with `operate`", "passed on, or that looks so", false, core.Forbidden, proxied},
	{"set, beyond loopback", "none with `operate`", "any", false, core.Forbidden, slices.Concat([]func(*http.Request){
		func(r *http.Request) {}, shows("translator"),
	}, proxied)},
	{"anything", "some with `operate`", "with an operator's key", true, "", []func(*http.Request){
		shows("operator"), func(r *http.Request) {
			shows("operator")(r)
			r.RemoteAddr, r.Host = "192.0.2.1:1", "gateway.example.com"
			r.Header.Set("X-Forwarded-For", "1.2.3.4")
		},
	}},
	{"anything", "some with `operate`", "with a key that translates", false, core.Forbidden, []func(*http.Request){shows("translator")}},
	{"anything", "some with `operate`", "without a key, or with a wrong one", false, core.Unauthorized, slices.Concat([]func(*http.Request){
		func(r *http.Request) {}, shows("operato"), shows("operator2"),
		func(r *http.Request) { r.Header.Set("Authorization", "Basic operator") },
	}, proxied)},
}

func shows(key string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+key) }
}

// proxied are calls that somebody passed on.
var proxied = func() (all []func(*http.Request)) {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "x-forwarded-proto", "X-Forwarded-Host", "X-Real-IP", "Via", "X-Client-IP", "CF-Connecting-IP", "X-Forwarded"} {
		all = append(all, func(r *http.Request) { r.Header.Set(name, "192.0.2.1") }, func(r *http.Request) { r.Header.Set(name, "") })
	}
	for _, host := range []string{"gateway.example.com", "gateway.example.com:443", "192.168.0.1:8080", "localhost.example.com"} {
		all = append(all, func(r *http.Request) { r.Host = host })
	}
	all = append(all, func(r *http.Request) { r.Header.Set("Origin", "https://app.example.com") }, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") })
	for _, from := range []string{"192.0.2.1:1", "[2001:db8::1]:1", ""} {
		all = append(all, func(r *http.Request) { r.RemoteAddr = from })
	}
	return all
}()

func TestWhoMayOperateIsWhatTheTableSays(t *testing.T) {
	readme, err := os.ReadFile("admin/README.md")
	if err != nil {
		t.Fatal(err)
	}
	// A connection of this process to itself, as far as the system can tell.
	near, far := loopbackPair(t)
	rows := 0
	for line := range strings.Lines(string(readme)) {
		if strings.HasSuffix(strings.TrimSpace(line), "| yes |") || strings.Contains(line, "| no: ") {
			rows++
		}
	}
	if rows != len(operatorRows) {
		t.Errorf("the README has %d rows, the test %d", rows, len(operatorRows))
	}
	for _, row := range operatorRows {
		answer := "yes"
		if !row.may {
			answer = fmt.Sprintf("no: %d", Answer(row.kind).Status)
		}
		if want := fmt.Sprintf("| %s | %s | %s | %s |", row.admin, row.keys, row.call, answer); !strings.Contains(string(readme), want) {
			t.Errorf("the README lacks the row %s", want)
		}
		for admin, c := range operatorPlaces {
			if row.admin != "anything" && row.admin != admin {
				continue
			}
			c.Keys = operatorKeys[row.keys]
			own := c.Admin != ""
			rules := New(c, nil).Rules()
			for i, change := range row.calls {
				call := (&http.Request{
					Method: "GET", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "localhost:8080", Header: http.Header{}, RemoteAddr: near.LocalAddr().String(),
				}).WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, far.LocalAddr()))
				change(call)
				err := rules.mayOperate(call, own)
				if (err == nil) != row.may || err != nil && core.KindOf(err) != row.kind {
					t.Errorf("%s, %s, %s, call %d: %v", admin, row.keys, row.call, i, err)
				}
			}
		}
	}
}

func TestACallThatCannotBeToldIsNotAnOperators(t *testing.T) {
	rules := New(Config{Listen: "127.0.0.1:1"}, nil).Rules()
	for name, local := range map[string]any{"no address": nil, "another connection": &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}} {
		call := (&http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "localhost", RemoteAddr: "127.0.0.1:1"}).
			WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, local))
		if _, err := os.Stat("/proc/self/net/tcp"); err != nil && local != nil {
			continue // this system does not tell
		}
		if err := rules.mayOperate(call, false); core.KindOf(err) != core.Forbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// loopbackPair returns both ends of a connection.
func loopbackPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

func TestTheSystemSaysWhoseProcessCalls(t *testing.T) {
	if _, err := os.Stat("/proc/self/net/tcp"); err != nil {
		t.Skip("not tested: this system does not say whose a connection is: ", err)
	}
	near, far := loopbackPair(t)
	if uid, err := callerOf(near.LocalAddr().String(), far.LocalAddr().String()); uid != os.Geteuid() || err != nil {
		t.Errorf("its own process: %d %v", uid, err)
	}
	// Once it is closed, the list says that it is root's.
	near.Close()
	if uid, err := callerOf(near.LocalAddr().String(), far.LocalAddr().String()); err == nil {
		t.Errorf("a connection that was closed is said to be of %d", uid)
	}
	if _, err := callerOf("127.0.0.1:1", "127.0.0.1:2"); err == nil {
		t.Error("a connection that is none has an owner")
	}
	for _, network := range []string{"[::1]:0"} {
		ln, err := net.Listen("tcp", network)
		if err != nil {
			t.Log("not tested: ", err)
			continue
		}
		defer ln.Close()
		near, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()
		if uid, err := callerOf(near.LocalAddr().String(), near.RemoteAddr().String()); uid != os.Geteuid() || err != nil {
			t.Errorf("%s: %d %v", network, uid, err)
		}
	}
}

// A proxy that gives nothing away has a user of its own.
func TestAnotherUsersProcessIsNoOperator(t *testing.T) {
	if addr, ok := os.LookupEnv("DRAGOMAN_TEST_CALL"); ok {
		res, err := http.Get("http://" + addr + "/metrics")
		if err != nil {
			fmt.Println(err)
			return
		}
		res.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		fmt.Println("status", res.StatusCode)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("not tested: only root can start a process of another user")
	}
	r := run(t, Defaults(), text("door"))
	for uid, want := range map[uint32]int{0: 200, 65534: 403} {
		exe := readableCopy(t)
		cmd := exec.Command(exe, "-test.run=^TestAnotherUsersProcessIsNoOperator$")
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), "DRAGOMAN_TEST_CALL="+r.Addr())
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), fmt.Sprint("status ", want)) {
			t.Errorf("user %d: want %d, got %s %v", uid, want, out, err)
		}
	}
}

// readableCopy is this test's program where every user may run it.
func readableCopy(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp("/tmp", "dragoman-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(f.Name()) })
	f.Close()
	executable.Write(t, f.Name(), string(program))
	return f.Name()
}

func TestTheUsersOwnSocketNeedsNoKey(t *testing.T) {
	c := Defaults()
	c.Listen, c.Keys = "0.0.0.0:0", []Key{{Key: "translator"}}
	r := run(t, c, text("door"))
	ln, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	r.Local(ln)
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", ln.Addr().String())
	}}}
	for path, want := range map[string]string{"/metrics": "admin /metrics", "/admin/reload": "admin /admin/reload", "/readyz": "admin /readyz"} {
		res, err := client.Post("http://gateway"+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		if res.Body.Close(); res.StatusCode != 200 || string(body) != want {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	r.stop()
	<-r.done
	if conn, err := net.Dial("unix", ln.Addr().String()); err == nil {
		conn.Close()
		t.Error("the socket listens after the server has ended")
	}
	late, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	r.Local(late)
	if _, err := late.Accept(); err == nil {
		t.Error("a socket that came too late is served")
	}
}

func TestOperatorsAreNotClients(t *testing.T) {
	c := Defaults()
	c.Keys = []Key{{Key: "plain"}, {Name: "captions", SHA256: core.Secret(fmt.Sprintf("%X", Key{Key: "hidden"}.sum()))}, {Name: "ops", Key: "operator", Role: Operate}}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	rules := New(c, nil).Rules()
	call := &http.Request{RemoteAddr: "192.0.2.1:1"}
	for key, want := range map[string]string{"plain": "key-" + fmt.Sprintf("%x", Key{Key: "plain"}.sum())[:8], "hidden": "captions"} {
		if got, err := rules.Client(call, key, "native"); got != want || err != nil {
			t.Errorf("%s is %q, %v", key, got, err)
		}
	}
	for key, want := range map[string]core.ErrorKind{"operator": core.Forbidden, "": core.Unauthorized, "wrong": core.Unauthorized} {
		if _, err := rules.Client(call, key, "native"); core.KindOf(err) != want {
			t.Errorf("%q: %v", key, err)
		}
	}
	// With operators' keys alone, who reaches the doors translates, as without
	// any. So it is no way to open them to other machines.
	c.Keys = c.Keys[2:]
	if got, err := New(c, nil).Rules().Client(call, "", "native"); got != "192.0.2.1" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	c.Listen = "0.0.0.0:1"
	if err := c.Check(); err == nil {
		t.Error("a listener beyond loopback whose only key is an operator's is open to everybody")
	}
}

func TestOptionsForTheWholeServerGoesByTheSameNames(t *testing.T) {
	r := run(t, Defaults(), text("door"))
	for host, want := range map[string]string{"localhost": " 200 ", "evil.example": " 403 "} {
		conn, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "OPTIONS * HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
		answer, _ := io.ReadAll(bufio.NewReader(conn))
		if line, _, _ := strings.Cut(string(answer), "\r\n"); !strings.Contains(line, want) || strings.Contains(string(answer), "door") {
			t.Errorf("for %s: %s", host, answer)
		}
	}
}

func TestWrongKeysAreToldOfNowAndThenAndNeverShown(t *testing.T) {
	c := Defaults()
	c.Keys = []Key{{Key: "the-right-key"}}
	r := run(t, c, text("door"))
	rules := r.o.Service.Rules()
	call := &http.Request{RemoteAddr: "192.0.2.7:4711"}
	for i := range 6011 {
		rules.Client(call, fmt.Sprint("the-right-kez", i), "native")
	}
	rules.Client(call, "", "native")
	said := r.log.FilterMessage("a key is refused that is not one of server.keys").All()
	if n := len(said); n < 1 || n > 3 || said[0].Level != zap.WarnLevel || said[0].ContextMap()["last_from"] != "192.0.2.7" {
		t.Errorf("%d lines: %v", n, said)
	}
	for _, line := range r.log.All() {
		if strings.Contains(fmt.Sprint(line), "the-right") {
			t.Errorf("a key is in the log: %v", line)
		}
	}
}
