package host

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/executable"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// pids reads the numbers that a script has written, one a line, once there are
// as many as wanted.
func pids(t *testing.T, file string, want int) (all []int) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		raw, _ := os.ReadFile(file)
		if lines := strings.Fields(string(raw)); len(lines) == want && strings.HasSuffix(string(raw), "\n") {
			for _, line := range lines {
				pid, err := strconv.Atoi(line)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, pid)
			}
			return all
		}
	}
	t.Fatalf("%s never held %d lines", file, want)
	return nil
}

// lives says whether a process runs: one that has ended does not, though nobody
// has taken its status.
func lives(pid int) bool {
	p, ok := look(pid)
	return ok && !p.ended
}

// escapes are ways in which a plugin's children leave it, as scripts that append
// the number of each process that stays to a file.
var escapes = map[string]struct {
	script string
	stay   int
}{
	"a session of its own":               {`setsid sh -c 'echo $$ >>FILE; exec sleep 600' &`, 1},
	"forked twice":                       {`setsid --fork sh -c 'echo $$ >>FILE; exec sleep 600'`, 1},
	"forked twice, and then again":       {`setsid --fork sh -c 'setsid --fork sh -c "echo \$\$ >>FILE; exec sleep 600"'`, 1},
	"without an environment":             {`setsid --fork env -i /bin/sh -c 'echo $$ >>FILE; exec /bin/sleep 600'`, 1},
	"with children":                      {`setsid --fork sh -c 'sleep 600 & echo $! >>FILE; echo $$ >>FILE; wait'`, 2},
	"with children in other sessions":    {`setsid --fork sh -c 'setsid sh -c "echo \$\$ >>FILE; exec sleep 600" & setsid --fork sh -c "echo \$\$ >>FILE; exec sleep 600"; echo $$ >>FILE; wait'`, 3},
	"that die and leave others":          {`setsid --fork sh -c 'setsid --fork sh -c "echo \$\$ >>FILE; exec sleep 600"; exit 0'`, 1},
	"deaf to what can be ignored":        {`setsid --fork sh -c 'trap "" TERM INT HUP; echo $$ >>FILE; sleep 600; sleep 600'`, 1},
	"beside its parent, in its group":    {`sh -c 'echo $$ >>FILE; exec sleep 600' & exit 0`, 1},
	"in a group of its own, parent gone": {`perl -e 'setpgrp(0,0); exec "sh", "-c", "echo \$\$ >>FILE; exec sleep 600"' & exit 0`, 1},
}

func TestWhatAPluginStartsEndsWithItWhereverItHasGone(t *testing.T) {
	for ending, end := range map[string]func(provider, int){
		"killed":  func(_ provider, pid int) { syscall.Kill(pid, syscall.SIGKILL) },
		"stopped": func(p provider, _ int) { p.Close() },
	} {
		p := newBench(t, one).provider("odd")
		pid, _ := strconv.Atoi(p.ask(t, "pid").Text)
		started := map[string][]int{}
		for name, way := range escapes {
			file := filepath.Join(t.TempDir(), "pids")
			p.ask(t, "run "+strings.ReplaceAll(way.script, "FILE", file))
			started[name] = pids(t, file, way.stay)
			for _, child := range started[name] {
				if !lives(child) {
					t.Errorf("%s: it has ended before", name)
				}
			}
		}
		served := p.process()
		served.mu.Lock()
		gone := served.current.process.gone
		served.mu.Unlock()
		end(p, pid)
		receive(t, gone)
		for name, children := range started {
			for _, child := range children {
				if lives(child) {
					t.Errorf("%s, %s: process %d goes on", name, ending, child)
					syscall.Kill(child, syscall.SIGKILL)
				} else if left, there := look(child); there && left.parent == os.Getpid() {
					t.Errorf("%s, %s: nobody took the status of process %d", name, ending, child)
				}
			}
		}
	}
}

// TestAPluginsOrphansAreNoneOfAnothers ends one of two plugins.
func TestAPluginsOrphansAreNoneOfAnothers(t *testing.T) {
	b := newBench(t, two)
	first, second := b.provider("a"), b.provider("c")
	dir := t.TempDir()
	escape := func(p provider, name string) int {
		file := filepath.Join(dir, name)
		p.ask(t, "run setsid --fork sh -c 'echo $$ >>"+file+"; exec sleep 600'")
		return pids(t, file, 1)[0]
	}
	of1, of2 := escape(first, "1"), escape(second, "2")
	gone := first.process().current.process.gone
	first.Close()
	receive(t, gone)
	if lives(of1) || !lives(of2) {
		t.Errorf("of the first lives: %v; of the second: %v", lives(of1), lives(of2))
	}
	if second.ask(t, "x").Text != "es:x" {
		t.Error("the other plugin does not answer")
	}
	gone = second.process().current.process.gone
	second.Close()
	receive(t, gone)
	if lives(of2) {
		t.Error("of the second lives")
	}
}

func TestChildrenThatAreNoPluginsAreLeftAlone(t *testing.T) {
	other := exec.Command("/bin/sleep", "600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	ends := exec.Command("/bin/true")
	if err := ends.Start(); err != nil {
		t.Fatal(err)
	}
	p := newBench(t, one).provider("odd")
	for !func() bool { q, ok := look(ends.Process.Pid); return ok && q.ended }() {
		time.Sleep(time.Millisecond)
	}
	k := &p.host.kin
	for range 3 {
		k.mu.Lock()
		k.look()
		k.mu.Unlock()
	}
	gone := p.process().current.process.gone
	p.Close()
	receive(t, gone)
	if err := ends.Wait(); err != nil {
		t.Errorf("somebody else took the status of a child: %v", err)
	}
	if !lives(other.Process.Pid) {
		t.Error("a child of this process was killed")
	}
	other.Process.Kill()
	other.Wait()
}

// TestOrphansThatHaveEndedAreNotKept looks while their plugin lives.
func TestOrphansThatHaveEndedAreNotKept(t *testing.T) {
	p := newBench(t, one).provider("odd")
	file := filepath.Join(t.TempDir(), "pids")
	const many = 20
	p.ask(t, fmt.Sprintf("run for i in $(seq %d); do setsid --fork sh -c 'echo $$ >>%s'; done", many, file))
	left := pids(t, file, many)
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		zombies := 0
		for _, pid := range left {
			if _, there := look(pid); there {
				zombies++
			}
		}
		if zombies == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d are still there", zombies, many)
		}
	}
}

// TestAsProcess1NothingIsLeftBehind runs the tests above as the first process of
// a namespace, as in a container.
func TestAsProcess1NothingIsLeftBehind(t *testing.T) {
	if os.Getenv("DRAGOMAN_TEST_INIT") != "" {
		t.Skip("it runs in it")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	unshare := []string{"-pf", "--mount-proc", "--kill-child"}
	if os.Getuid() != 0 || exec.Command("unshare", append(unshare, "true")...).Run() != nil {
		t.Skip("not tested: no namespace can be made here")
	}
	cmd := exec.Command("unshare", append(unshare, self, "-test.run=TestOrphansThat|TestWhatAPluginStarts|TestChildrenThat", "-test.v")...)
	cmd.Env = append(os.Environ(), "DRAGOMAN_TEST_INIT=yes", "DRAGOMAN_TEST_TWIN="+twin)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS") != 3 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestWhatAKilledGatewayHasLeftEndsWithTheNext leaves a process as the plugin of
// a gateway that was killed would.
func TestWhatAKilledGatewayHasLeftEndsWithTheNext(t *testing.T) {
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	former, err := newSockets(dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	current, err := newSockets(dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer current.close()
	start := func(s *sockets) *exec.Cmd {
		cmd := exec.Command("/bin/sleep", "600")
		cmd.Env = []string{socketFolder + "=" + s.dir + "/plugin-dir1"}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	left, served := start(former), start(current)
	former.lock.Close() // as its death would
	next, err := newSockets(dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer next.close()
	if err := left.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("what was left ended with %v", err)
	}
	if !lives(served.Process.Pid) {
		t.Error("what another gateway has started was killed")
	}
	served.Process.Kill()
	served.Wait()
}

// TestWhoTakesAPluginsSocketIsNotAsked replaces the socket of a plugin.
func TestWhoTakesAPluginsSocketIsNotAsked(t *testing.T) {
	p := newBench(t, one).provider("odd")
	process := p.process().current.process
	path := process.link.address
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path) // in this process, which is not the plugin
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := process.link.dial(t.Context(), ""); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d listens on its socket, which it has not started", os.Getpid())) {
		t.Errorf("got %v", err)
	}
}

// TestAPluginBehindAWrapperIsAsked has the listener be a child of what was
// started.
func TestAPluginBehindAWrapperIsAsked(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "wrapper")
	for name, text := range map[string]string{"a child": `"$1" & wait`, "in a session of its own": `/usr/bin/setsid "$1" & wait`} {
		executable.Write(t, script, "#!/bin/sh\nexec 4<&0\n"+strings.Replace(text, "&", "<&4 &", 1)+"\n")
		p := newBench(t, strings.Replace(one, "[SELF]", "["+script+", "+twin+"]", 1)).provider("odd")
		if res := p.ask(t, "x"); res.Text != "es:x" {
			t.Errorf("%s: %+v", name, res)
		}
	}
}

func TestNobodyOfItsUserLooksIntoAGatewayWithPlugins(t *testing.T) {
	newBench(t, one).provider("odd")
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		t.Errorf("dumpable: %d, %v", dumpable, err)
	}
}

func TestAFileWithoutAnEndIsRefusedAtOnce(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o700); err != nil {
		t.Fatal(err)
	}
	sum := strings.Repeat("0", 64)
	for keys, want := range map[string]string{
		"command: [" + fifo + "]": "is a pipe",
		"command: [/dev/zero]":    "is a device",
		"command: [" + dir + "]":  "is a folder",
		"command: [/bin/true], sha256: {" + fifo + ": '" + sum + "'}":             "is a pipe",
		"command: [/bin/true], sha256: {/dev/zero: '" + sum + "'}":                "is a device",
		"command: [/bin/sh, " + fifo + "], sha256: {" + fifo + ": '" + sum + "'}": "is a pipe",
	} {
		for _, mode := range []Mode{Run, Describe, Try} {
			b := newBench(t, "providers:\n  odd: {type: plugin, "+keys+"}\nstages: [provider: {use: odd}]\n")
			b.host.SetMode(mode)
			began := time.Now()
			err := b.build("odd").(core.Starter).Start(t.Context())
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "pipeline.yaml:") || time.Since(began) > 2*time.Second {
				t.Errorf("%s: after %v: %v", keys, time.Since(began), err)
			}
		}
	}
}

// TestNothingRunsThatWasNotSummed writes another content into the file and back,
// in place, while it is started again and again.
func TestNothingRunsThatWasNotSummed(t *testing.T) {
	for _, word := range []int{0, 1} {
		dir := t.TempDir()
		script := filepath.Join(dir, "script")
		good, evil := "#!/bin/sh\necho good\n", "#!/bin/sh\necho evil\n"
		executable.Write(t, script, good)
		out, err := exec.Command("sha256sum", script).Output()
		if err != nil {
			t.Fatal(err)
		}
		p := &Program{Command: [][]string{{script}, {"/bin/sh", "script"}}[word], SHA256: map[string]string{"script": string(out[:64])}}
		done, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			f, err := os.OpenFile(script, os.O_RDWR, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
					f.WriteAt([]byte([]string{evil, good}[i%2]), 0)
				}
			}
		}()
		passed, tries := 0, property.Rounds(500, 150)
		for range tries {
			all, err := p.open(dir, false)
			if err != nil {
				if !strings.Contains(err.Error(), "is another file than sha256 says") {
					t.Fatal(err)
				}
				continue
			}
			passed++
			out, err := p.command(dir, all).CombinedOutput()
			all.close()
			if err != nil || string(out) != "good\n" {
				t.Fatalf("word %d ran %q, %v", word, out, err)
			}
		}
		close(done)
		receive(t, stopped)
		t.Logf("word %d: %d of %d passed the checksum", word, passed, tries)
		if passed == 0 {
			t.Errorf("word %d: nothing ran at all", word)
		}
	}
}

func TestASealedCopyCannotBeChanged(t *testing.T) {
	name := filepath.Join(t.TempDir(), "program")
	executable.Write(t, name, "#!/bin/sh\necho good\n")
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := f.Stat()
	for _, program := range []bool{true, false} {
		f.Seek(0, io.SeekStart)
		copied, err := sealed(f, info, program, maxCopied)
		if err != nil {
			t.Fatal(err)
		}
		defer copied.Close()
		if again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", copied.Fd()), os.O_RDWR, 0); err == nil {
			if _, err := again.Write([]byte("x")); err == nil {
				t.Error("it can be written to")
			}
			if err := again.Truncate(0); err == nil {
				t.Error("it can be cut")
			}
			again.Close()
		}
		if got, _ := copied.Stat(); got.Mode().Perm()&0o222 != 0 || (got.Mode().Perm()&0o100 != 0) != program {
			t.Errorf("its mode is %v", got.Mode())
		}
	}
	f.Seek(0, io.SeekStart)
	if _, err := sealed(f, info, true, 3); err == nil || !strings.Contains(err.Error(), "grows") {
		t.Errorf("a file that is longer than it was: %v", err)
	}
}

// TestAProgramWithAChecksumStillFindsItsNeighbours runs what used to work when
// the file itself was executed.
func TestAProgramWithAChecksumStillFindsItsNeighbours(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		executable.Write(t, filepath.Join(dir, name), text)
	}
	write("program", "#!/bin/sh\necho \"$PLUGIN_FILE\"\n")
	write("neighbour.py", "name = 'neighbour'\n")
	write("plugin.py", "#!/usr/bin/python3\nimport neighbour\nprint(neighbour.name)\n")
	commands := map[string][]string{"program": {"./program"}}
	want := map[string]string{"program": filepath.Join(dir, "program") + "\n"}
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		commands["plugin.py by itself"], want["plugin.py by itself"] = []string{"./plugin.py"}, "neighbour\n"
		commands["plugin.py"], want["plugin.py"] = []string{"/usr/bin/python3", "plugin.py"}, "neighbour\n"
	}
	for name, command := range commands {
		file := filepath.Join(dir, filepath.Base(command[len(command)-1]))
		out, err := exec.Command("sha256sum", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		p := &Program{Command: command, SHA256: map[string]string{file: string(out[:64])}}
		all, err := p.open(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.command(dir, all).CombinedOutput()
		all.close()
		if err != nil || string(got) != want[name] {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// Even one that is stopped, and would hear nothing.
func TestKillEndsAllThatPluginsHaveStartedAtOnce(t *testing.T) {
	p := newBench(t, one).provider("odd")
	pid, _ := strconv.Atoi(p.ask(t, "pid").Text)
	file := filepath.Join(t.TempDir(), "pids")
	p.ask(t, "run "+strings.ReplaceAll(`setsid --fork sh -c 'echo $$ >>FILE; exec sleep 600'`, "FILE", file))
	all := append(pids(t, file, 1), pid)
	for _, one := range all {
		syscall.Kill(one, syscall.SIGSTOP)
	}
	p.host.Kill()
	for until := time.Now().Add(10 * time.Second); slices.ContainsFunc(all, lives); {
		if time.Now().After(until) {
			t.Fatalf("of %v some go on", all)
		}
		time.Sleep(time.Millisecond) // not all of them are our children
	}
}
