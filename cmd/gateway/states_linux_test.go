package gateway

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// save replaces the file of a gateway, whole, as an editor does.
func (g *gatewayProcess) save(yaml string) {
	g.t.Helper()
	file := g.cmd.Args[3]
	err := os.WriteFile(file+".new", []byte(yaml), 0o600)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// within fails the test when f takes longer than most.
func within(t *testing.T, most time.Duration, what string, f func()) {
	t.Helper()
	began := time.Now()
	f()
	took := time.Since(began)
	t.Logf("%s took %v", what, took.Round(time.Millisecond))
	if took > most {
		t.Errorf("%s took %v, want %v at most", what, took, most)
	}
}

// What goes wrong comes together: six answers that are none, a reload whose probe
// is never answered, one that names a pipe, and the way back.
func TestOneTroubleAfterTheOtherHoldsNothingUp(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, secure := range []bool{false, true} {
		for state, last := range map[string]int{"six answers that are none": 1, "a probe that is never answered": 2, "a pipe": 3, "the way back": 4} {
			t.Run(fmt.Sprintf("TLS %v SIGTERM after %s", secure, state), func(t *testing.T) {
				t.Parallel() // it waits most of the time
				u := startRaw(t, secure)
				usual := u.config("", "{use: openai, breaker: {failures: 0}}")
				g := serveYAML(t, usual, nil)
				g.six("101")
				within(t, time.Second, "the text after six 101", func() { g.ask("Good morning.").text(t) })
				if last == 1 {
					g.ends(0, "stopped")
					return
				}
				g.save(strings.Replace(usual, "min_interval: 0s", "min_interval: 1ms", 1))
				g.admin("reload")

				asked := make(chan struct{})
				var once sync.Once
				u.answersProbes(func(net.Conn) bool { once.Do(func() { close(asked) }); return false })
				g.save(strings.Replace(usual, "api_key: test", "api_key: other", 1))
				hung := make(chan string, 1)
				client := http.Client{Timeout: 20 * time.Second}
				go func() {
					res, err := client.Post(g.url+"/admin/reload", "", nil)
					if err == nil {
						res.Body.Close()
					}
					hung <- fmt.Sprint(err)
				}()
				receive(t, asked)
				if last == 2 {
					g.ends(0, "stopped")
					return
				}
				within(t, 8*time.Second, "the reload whose probe hangs", func() { receive(t, hung) })
				within(t, 2*time.Second, "the reload that names a pipe", func() {
					g.save(strings.Replace(usual, "mode: pooled", "mode: pooled, ca_file: "+pipe, 1))
					if u.ca != "" {
						g.save(strings.Replace(usual, "ca_file: "+u.ca, "ca_file: "+pipe, 1))
					}
					if says := g.admin("reload"); !strings.Contains(says, "this is a pipe") {
						t.Errorf("%s", says)
					}
				})
				if last == 3 {
					g.ends(0, "stopped")
					return
				}
				// The first says that the refused file changed nothing, the next steps back.
				within(t, 8*time.Second, "the way back", func() {
					for try := 0; ; try++ {
						says := g.admin("reload?previous=true")
						if strings.Contains(says, `"reloaded"`) {
							break
						}
						if try == 2 {
							t.Fatal(says)
						}
					}
				})
				g.next("Good evening.")
				g.ends(0, "stopped")
			})
		}
	}
}

// An upstream that speaks HTTP/2 and never comes to an end of what it says.
func TestABodyWithoutEndOverHTTP2HoldsNothing(t *testing.T) {
	cert, ca := authority(t)
	var under sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.ProtoMajor != 2 {
			http.Error(w, "HTTP/2 only", http.StatusHTTPVersionNotSupported)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		m := mode.FindSubmatch(body)
		switch {
		case r.Method == http.MethodGet:
			io.WriteString(w, "{}")
		case m == nil:
			io.WriteString(w, usualJSON)
		default:
			under.Add(1)
			defer under.Done()
			piece := []byte(" ")
			if string(m[1]) == "flood" {
				piece = bytes.Repeat(piece, 64<<10)
			}
			for r.Context().Err() == nil {
				if _, err := w.Write(piece); err != nil {
					return
				}
				http.NewResponseController(w).Flush()
				if len(piece) == 1 {
					time.Sleep(20 * time.Millisecond) // it is that slow
				}
			}
		}
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	defer server.Close()
	u := &rawUpstream{base: server.URL + "/v1", ca: ca}
	yaml := strings.Replace(u.config("", "{use: openai, retries: 0, breaker: {failures: 0}}"), "mode: pooled", "mode: pooled, protocol: http2", 1)

	g := serveYAML(t, yaml, nil)
	for _, name := range []string{"drip", "flood"} {
		within(t, 4*time.Second, "six of "+name, func() {
			for _, status := range g.six(name) {
				if status == http.StatusOK {
					t.Errorf("%s: answered", name)
				}
			}
		})
		under.Wait() // the upstream hears that nobody listens any more
		g.next("Good morning after " + name)
	}
	g.ends(0, "stopped")

	g = serveYAML(t, strings.Replace(yaml, "timeout: 1s", "timeout: 60s", 1), nil)
	for i := range 6 {
		go http.Post(g.url+"/v1/translate", "application/json", strings.NewReader(fmt.Sprintf(`{"text":"MODE:drip %d","target":"es","deadline_ms":60000}`, i)))
	}
	g.sees(`dragoman_queue_in_flight`, "6")
	g.ends(0, "stopped")
}

// A resolver that never answers, in a mount namespace of the gateway's own.
func TestANameThatNobodyResolvesHoldsNothing(t *testing.T) {
	property.WithoutRace(t)
	const address = "127.0.0.99"
	silent, err := net.ListenPacket("udp", address+":53")
	if err != nil {
		t.Skip("not tested: only root may be a resolver:", err)
	}
	defer silent.Close()
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+address+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bind := `mount --bind "$0" /etc/resolv.conf && exec "$@"`
	if out, err := exec.Command("unshare", "-m", "sh", "-c", bind, conf, "true").CombinedOutput(); err != nil {
		t.Skipf("not tested: no mount namespace can be had here: %v: %s", err, out)
	}
	u := &rawUpstream{base: "http://nowhere.example/v1"}
	serve := func(timeout string) *gatewayProcess {
		file := write(t, strings.Replace(u.config("", "{use: openai, retries: 0, breaker: {failures: 0}}"), "timeout: 1s", "timeout: "+timeout, 1))
		g := &gatewayProcess{process: start(t, filepath.Dir(file), []string{"GODEBUG=netdns=go"}, "unshare", "-m", "sh", "-c", bind, conf,
			filepath.Join(programs, "dragoman"), "serve", "--config", file, "--set", "server.listen=127.0.0.1:0")}
		return g.ready()
	}
	t.Run("calls", func(t *testing.T) {
		g := serve("1s")
		within(t, 4*time.Second, "six texts", func() {
			for _, status := range g.six("nothing") {
				if status == http.StatusOK {
					t.Error("answered")
				}
			}
		})
		if n := g.metric(`dragoman_queue_in_flight`); n != "0" {
			t.Errorf("in flight: %s", n)
		}
		within(t, 8*time.Second, "a reload", func() { g.admin("reload") })
		g.ends(0, "stopped")
	})
	t.Run("SIGTERM with calls under way", func(t *testing.T) {
		g := serve("60s")
		for i := range 6 {
			go http.Post(g.url+"/v1/translate", "application/json", strings.NewReader(fmt.Sprintf(`{"text":"number %d","target":"es","deadline_ms":60000}`, i)))
		}
		g.sees(`dragoman_queue_in_flight`, "6")
		g.ends(0, "stopped")
	})
}

// below are the processes that have pid above them, whoever stands between.
func below(pid int) (all []int) {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	children := map[int][]int{}
	for _, process := range processes {
		raw, err := os.ReadFile(process + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		child, _ := strconv.Atoi(filepath.Base(process))
		children[parent] = append(children[parent], child)
	}
	for next := children[pid]; len(next) > 0; next = next[1:] {
		all = append(all, next[0])
		next = append(next, children[next[0]]...)
	}
	return all
}

// alive says whether there is such a process, which has not ended.
func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains("ZX", string(bytes.TrimSpace(raw[bytes.LastIndexByte(raw, ')')+1:])[:1]))
}

// moves says whether a thread of a process that was told to stop has not yet done so.
func moves(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/stat", pid))
	return slices.ContainsFunc(threads, func(name string) bool {
		raw, err := os.ReadFile(name)
		return err == nil && bytes.TrimSpace(raw[bytes.LastIndexByte(raw, ')')+1:])[0] != 'T'
	})
}

// A plugin that is stopped, and not ended, and the processes that a plugin has.
func TestAProcessThatStopsIsWaitedForByNobody(t *testing.T) {
	built := badProgram(t)
	for name, c := range map[string]struct {
		command string
		stopped func(g *gatewayProcess) []int
	}{
		"a plugin":               {built + ", usual", func(g *gatewayProcess) []int { return below(g.cmd.Process.Pid)[:1] }},
		"the engine of a plugin": {filepath.Join(programs, "apertium"), func(g *gatewayProcess) []int { return below(g.cmd.Process.Pid)[1:] }},
		"all of them":            {filepath.Join(programs, "apertium"), func(g *gatewayProcess) []int { return below(g.cmd.Process.Pid) }},
	} {
		if _, err := os.Stat("/usr/share/apertium/modes/eng-spa.mode"); err != nil && name != "a plugin" {
			continue
		}
		for _, end := range []string{"at rest", "in calls"} {
			t.Run(name+" "+end, func(t *testing.T) {
				t.Parallel() // it waits most of the time
				yaml := `version: 1
server: {drain_timeout: 2s, deadline: 2s}
providers:
  bad: {type: plugin, command: [` + c.command + `]}
stages:
  - queue: {max_concurrent: 6}
  - provider: {use: bad, breaker: {failures: 0}, retries: 0}
`
				g := serveYAML(t, yaml, nil)
				until(t, func() bool { return g.ask("The house is big.").Status == http.StatusOK })
				pids := c.stopped(g)
				if len(pids) == 0 {
					t.Fatal("nothing to stop")
				}
				all := below(g.cmd.Process.Pid)
				for _, pid := range pids {
					syscall.Kill(pid, syscall.SIGSTOP)
				}
				until(t, func() bool { return !slices.ContainsFunc(pids, moves) })
				if end == "in calls" {
					within(t, 4*time.Second, "six texts", func() {
						for _, status := range g.six("nothing") {
							if status == http.StatusOK {
								t.Error("answered by who is stopped")
							}
						}
					})
					for i := range 6 {
						go http.Post(g.url+"/v1/translate", "application/json", strings.NewReader(fmt.Sprintf(`{"text":"number %d","source":"en","target":"es"}`, i)))
					}
					g.sees(`dragoman_queue_in_flight`, "6")
				}
				// drain_timeout and a second, and what a busy machine needs to end all of them.
				within(t, 5*time.Second, "the end "+end, func() { g.signal(syscall.SIGTERM); g.wait() })
				for until := time.Now().Add(5 * time.Second); ; {
					left := slices.DeleteFunc(slices.Clone(all), func(pid int) bool { return !alive(pid) })
					if len(left) == 0 {
						break
					}
					if time.Now().After(until) {
						t.Fatalf("%s: %v are left of %v:\n%s", end, left, all, g.output())
					}
					time.Sleep(10 * time.Millisecond) // they are nobody's children that could wait for them
				}
			})
		}
	}
}
