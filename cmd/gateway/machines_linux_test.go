package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// A network is machines of a test's own: network namespaces on one bridge.
type network struct {
	t    *testing.T
	name string // what their names begin with
}

func (n *network) run(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func (n *network) must(args ...string) {
	n.t.Helper()
	if err := n.run(args...); err != nil {
		n.t.Fatal(err)
	}
}

// networked returns one with no machine. The test is left out where none can be made.
func networked(t *testing.T) *network {
	t.Helper()
	property.WithoutRace(t)
	debian(t, "ip", "iproute2")
	n := &network{t, fmt.Sprintf("dgm%d", os.Getpid())}
	if err := n.run("netns", "add", n.name+"-switch"); err != nil {
		t.Skipf("not tested: machines of a test's own need network namespaces, which root may make: %v", err)
	}
	t.Cleanup(func() { n.must("netns", "del", n.name+"-switch") })
	n.must("-n", n.name+"-switch", "link", "add", "bridge", "type", "bridge")
	n.must("-n", n.name+"-switch", "link", "set", "bridge", "up")
	return n
}

// machine adds one with an address.
func (n *network) machine(name, address string) {
	n.t.Helper()
	space, port := n.name+"-"+name, "to"+name
	n.must("netns", "add", space)
	n.t.Cleanup(func() { n.must("netns", "del", space) })
	n.must("-n", n.name+"-switch", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
	n.must("-n", n.name+"-switch", "link", "set", port, "master", "bridge", "up")
	n.must("-n", space, "address", "add", address+"/24", "dev", "eth0")
	n.must("-n", space, "link", "set", "eth0", "up")
	n.must("-n", space, "link", "set", "lo", "up")
}

// plug connects a machine to the others, or pulls its cable.
func (n *network) plug(name, state string) {
	n.t.Helper()
	n.must("-n", n.name+"-switch", "link", "set", "to"+name, state)
}

// on starts a program on a machine.
func (n *network) on(name string, env []string, dir, program string, args ...string) *process {
	n.t.Helper()
	return start(n.t, dir, env, "ip", append([]string{"netns", "exec", n.name + "-" + name, program}, args...)...)
}

// dial connects as that machine does.
func (n *network) dial(name string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // and it ends with the goroutine: it is elsewhere
			space, failed := os.Open("/run/netns/" + n.name + "-" + name)
			if err = failed; err != nil {
				return
			}
			defer space.Close()
			if err = unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err == nil {
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
			}
		}()
		<-done
		return conn, err
	}
}

// TestThreeMachinesBehindABalancer runs what examples/deploy/group tells, each machine in a network
// namespace of its own: three gateways behind HAProxy, and a Redis. A text is upstream once, whichever
// gateway it comes to; and whatever becomes of the store, of the network, or of a machine, what
// the balancer sends on is answered.
func TestThreeMachinesBehindABalancer(t *testing.T) {
	haproxy, redis := debian(t, "haproxy", "haproxy"), debian(t, "redis-server", "redis-server")
	n := networked(t)
	n.machine("store", "10.0.0.5")
	n.machine("balancer", "10.0.0.10")
	n.machine("world", "10.0.0.100")
	n.machine("one", "10.0.0.11")
	n.machine("two", "10.0.0.12")
	n.machine("three", "10.0.0.13")

	dir := t.TempDir()
	file := func(name, text string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	const password = "a-password-of-the-store"
	n.on("store", nil, dir, redis, file("redis.conf", strings.Replace(deployed(t, "group/redis.conf"), "CHANGE-THIS", password, 1)))
	sim := n.on("world", nil, dir, filepath.Join(programs, "openai-sim"), "--listen", "10.0.0.100:9000", "--latency", "200ms")
	sim.see(`(http://10\.0\.0\.100:9000/v1)`)
	gates := map[string]*process{}
	begin := func(name, address string) {
		home := filepath.Join(dir, name)
		if err := os.MkdirAll(home, 0o700); err != nil {
			t.Fatal(err)
		}
		env := []string{"HOST=" + address, "STORE=10.0.0.5", "REDIS_PASSWORD=" + password, "CAPTIONS_KEY=a-key-of-the-captions", "OPERATORS_KEY=a-key-of-the-operators",
			"OPENAI_API_KEY=x", "OPENAI_BASE_URL=http://10.0.0.100:9000/v1", "XDG_STATE_HOME=" + home}
		gates[name] = n.on(name, env, home, filepath.Join(programs, "dragoman"), "serve", "--config", file(name+"/pipeline.yaml", deployed(t, "group/pipeline.yaml")))
	}
	for name, address := range map[string]string{"one": "10.0.0.11", "two": "10.0.0.12", "three": "10.0.0.13"} {
		begin(name, address)
	}
	for _, g := range gates {
		g.see(`at (http://10\.0\.0\.1\d:8080)`)
	}
	balancer := n.on("balancer", nil, dir, haproxy, "-db", "-f", file("haproxy.cfg", deployed(t, "group/haproxy.cfg")))

	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: n.dial("world"), MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	call := func(method, url, key, body string, into any) error {
		req, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", res.Status, raw)
		}
		if err != nil || into == nil {
			return err
		}
		return json.Unmarshal(raw, into)
	}
	ask := func(text string) error {
		body, _ := json.Marshal(map[string]string{"text": text, "source": "en", "target": "es"})
		var a answer
		err := call("POST", "http://10.0.0.10/v1/translate", "a-key-of-the-captions", string(body), &a)
		if err == nil && (len(a.Translations) != 1 || a.Translations[0].Text != "[es] "+text) {
			err = fmt.Errorf("%+v", a)
		}
		return err
	}
	made := func() int {
		var stats struct{ Paths map[string]int }
		if err := call("GET", "http://10.0.0.100:9000/sim/stats", "", "", &stats); err != nil {
			t.Fatal(err)
		}
		return stats.Paths["/v1/chat/completions"]
	}
	// group is how many gateways one of them sees, its own included, and how many of its calls of the store failed.
	group := func(address string) (members int, failed int64) {
		var told struct {
			Members []json.RawMessage
			Stores  []struct{ Failed, Refused int64 }
		}
		if call("GET", "http://"+address+":8080/admin/cluster", "a-key-of-the-operators", "", &told) != nil {
			return 0, 0
		}
		for _, s := range told.Stores {
			failed += s.Failed + s.Refused
		}
		return len(told.Members), failed
	}
	all := []string{"10.0.0.11", "10.0.0.12", "10.0.0.13"}
	for _, address := range all {
		until(t, func() bool { members, _ := group(address); return members == 3 })
	}
	var why error
	for deadline := time.Now().Add(patience / 4); ; time.Sleep(50 * time.Millisecond) {
		if why = ask("Is anybody there?"); why == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody answers behind the balancer: %v\n%s", why, balancer.output())
		}
	}

	if err := call("GET", "http://10.0.0.10/admin/cluster", "a-key-of-the-operators", "", nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("operators' calls from the world: %v", err)
	}
	late := func() (sum int64) { // on a busy machine the store may not answer in 10 ms, and then each calls
		for _, address := range all {
			_, failed := group(address)
			sum += failed
		}
		return sum
	}
	once := false
	for i := 0; i < 20 && !once; i++ {
		before, calls := late(), made()
		var asking sync.WaitGroup
		for range 30 {
			asking.Go(func() {
				if err := ask(fmt.Sprint("The kettle is boiling ", i)); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
		if calls = made() - calls; calls == 1 {
			once = true
		} else if late() == before || calls > 3 {
			t.Fatalf("%d calls for one text", calls)
		}
	}
	if !once {
		t.Error("no text was upstream once")
	}

	// From now on somebody asks for something all the time.
	var asked, failed atomic.Int64
	began := time.Now()
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for c := range 3 {
		asking.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				asked.Add(1)
				if err := ask("Bus number " + strconv.Itoa(i) + " of client " + strconv.Itoa(c)); err != nil {
					failed.Add(1)
					t.Error(err)
				}
			}
		})
	}
	down := func(address string) bool { // its store is
		var told struct{ Stores []struct{ Up bool } }
		return call("GET", "http://"+address+":8080/admin/cluster", "a-key-of-the-operators", "", &told) == nil && len(told.Stores) > 0 && !told.Stores[0].Up
	}
	n.plug("store", "down") // nobody reaches it, and nobody is told so
	for _, address := range all {
		until(t, func() bool { return down(address) })
	}
	n.plug("store", "up")
	for _, address := range all {
		until(t, func() bool { members, _ := group(address); return !down(address) && members == 3 })
	}
	close(stop)
	asking.Wait()
	t.Logf("%d of %d requests failed in %v, in which nobody reached the store and then all did", failed.Load(), asked.Load(), time.Since(began))

	// One machine loses its network, which the balancer finds out, and another its gateway, of
	// which nobody needs to know.
	n.plug("two", "down")
	balancer.see(`calls/two is (DOWN)`)
	gates["three"].signal(syscall.SIGKILL)
	gates["three"].wait()
	for i := range 20 {
		if err := ask(fmt.Sprint("Who is left? ", i)); err != nil {
			t.Error(err)
		}
	}
	n.plug("two", "up")
	begin("three", "10.0.0.13")
	for _, address := range all {
		until(t, func() bool { members, _ := group(address); return members == 3 })
	}
}
