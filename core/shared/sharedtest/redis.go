// Package sharedtest starts a Redis for tests.
package sharedtest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Redis is a server of a test's own, on a Unix socket.
type Redis struct {
	URL    string
	t      testing.TB
	socket string
	args   []string
	cmd    *exec.Cmd
}

// Start starts one with further args, such as "--maxmemory", "1mb". The test is skipped where
// the program is not installed.
func Start(t testing.TB, args ...string) *Redis {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("not tested: redis-server is not installed (apt-get install redis-server; `make test` does it where it may)")
	}
	// A path of a socket may have 108 bytes, which a folder of a test can exceed.
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &Redis{t: t, socket: filepath.Join(dir, "s")}
	r.URL = "unix://" + r.socket
	r.args = append([]string{program, "--port", "0", "--unixsocket", r.socket, "--save", "", "--appendonly", "no", "--dir", dir, "--logfile", filepath.Join(dir, "log")}, args...)
	t.Cleanup(r.Stop)
	r.Begin()
	return r
}

// Begin starts the program, which holds nothing then.
func (r *Redis) Begin() {
	r.t.Helper()
	r.cmd = exec.Command(r.args[0], r.args[1:]...)
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		conn, err := net.Dial("unix", r.socket)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(filepath.Dir(r.socket), "log"))
			r.t.Fatalf("redis-server did not start: %v\n%s", err, log)
		}
	}
}

// Stop ends the program at once, with all that it held.
func (r *Redis) Stop() {
	if r.cmd == nil {
		return
	}
	r.cmd.Process.Kill()
	r.cmd.Wait()
	r.cmd = nil
	os.Remove(r.socket)
}

// Pause stops it in its tracks; Resume lets it go on.
func (r *Redis) Pause()  { r.signal(syscall.SIGSTOP) }
func (r *Redis) Resume() { r.signal(syscall.SIGCONT) }

func (r *Redis) signal(s os.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// Do runs a command with redis-cli and returns what it prints.
func (r *Redis) Do(args ...string) string {
	r.t.Helper()
	out, err := exec.Command("redis-cli", append([]string{"-s", r.socket}, args...)...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("redis-cli %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}
