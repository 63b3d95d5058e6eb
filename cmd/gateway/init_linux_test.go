package gateway

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/coretest/executable"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// A child is what the kernel says of a child process.
type child struct {
	pid         int
	state, name string // state is Z for one that has ended and whose status nobody has taken
}

// childrenOf returns all children of pid, those that have ended too.
func childrenOf(t *testing.T, pid int) (all []child) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		raw, err := os.ReadFile(process + "/stat")
		if err != nil {
			continue // nobody knows it any more
		}
		// PID (NAME) STATE PARENT ...; the name may hold anything.
		number, rest, _ := strings.Cut(string(raw), " (")
		end := strings.LastIndex(rest, ") ")
		c, parent := child{name: rest[:end]}, 0
		c.pid, _ = strconv.Atoi(number)
		if _, err := fmt.Sscan(rest[end+2:], &c.state, &parent); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if parent == pid {
			all = append(all, c)
		}
	}
	return all
}

// A container runs the gateway as its first process: whose parent has ended becomes a
// child of it, and nothing else takes the status of what has ended. Signals reach process 1
// only when it asks for them.
func TestAsTheFirstProcessTheGatewayLeavesNoZombiesAndEndsInTime(t *testing.T) {
	namespace := []string{"-pf", "--mount-proc", "--kill-child"}
	if out, err := exec.Command("unshare", append(namespace, "true")...).CombinedOutput(); err != nil {
		t.Skipf("not tested: no namespace of processes can be made here: %v %s", err, out)
	}
	for name, busy := range map[string]bool{"idle": false, "with a call that is never answered": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := upstream(t, openaitest.Config{})
			dir := t.TempDir()
			// A plugin that leaves much behind: what has ended at once, what ends later,
			// what goes on in sessions of its own, and what dies and leaves another.
			script := filepath.Join(dir, "plugin")
			executable.Write(t, script, `#!/bin/sh
for i in 1 2 3 4 5; do
	setsid --fork true
	setsid --fork sleep 0.2
	setsid --fork sh -c 'sleep 601 & exit'
done
setsid --fork sh -c 'trap "" TERM INT HUP; sleep 602; sleep 602'
exec `+filepath.Join(programs, "openai-direct")+"\n")
			file := filepath.Join(dir, "pipeline.yaml")
			err := os.WriteFile(file, []byte(`version: 1
server: {drain_timeout: 2s, deadline: 60s}
providers:
  direct: {type: plugin, command: [`+script+`], config: {base_url: "`+sim.URL()+`", api_key: test, timeout: 60s}}
stages: [queue, {provider: {use: direct}}]
`), 0o600)
			if err != nil {
				t.Fatal(err)
			}
			args := append(namespace, filepath.Join(programs, "dragoman"), "serve", "--config", file, "--set", "server.listen=127.0.0.1:0")
			outer := start(t, dir, nil, "unshare", args...)
			g := &gatewayProcess{process: outer}
			g.url = g.see(`at (http://127\.0\.0\.1:\d+)`)
			first := childrenOf(t, outer.cmd.Process.Pid)
			if len(first) != 1 {
				t.Fatalf("unshare has the children %v", first)
			}
			pid := first[0].pid
			t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
			if in, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err != nil || !strings.Contains(string(in), "\t1\n") {
				t.Fatalf("it is not process 1: %v\n%s", err, in)
			}

			g.ask("Good morning.").text(t)
			// A plugin that is killed leaves as much again.
			died := int(g.number(`dragoman_plugin_pid{provider="direct"}`))
			for _, p := range childrenOf(t, pid) {
				if p.name == "openai-direct" {
					syscall.Kill(p.pid, syscall.SIGKILL)
				}
			}
			until(t, func() bool {
				now := int(g.number(`dragoman_plugin_pid{provider="direct"}`))
				return now != 0 && now != died
			})
			g.ask("Good evening.").text(t)
			// What goes on is the second plugin's: five that sleep, and one with its child.
			until(t, func() bool {
				left := map[string]int{}
				for _, p := range childrenOf(t, pid) {
					if p.state == "Z" {
						return false
					}
					left[p.name]++
				}
				return left["openai-direct"] == 1 && left["sleep"] == 5 && left["sh"] == 1
			})

			if busy {
				sim.FailNext(1, openaitest.Hang)
				go g.as(t.Context(), "", map[string]any{"text": "This one waits."})
				until(t, func() bool { return sim.Stats().InFlight == 1 })
			}
			began := time.Now()
			syscall.Kill(pid, syscall.SIGTERM)
			status := g.wait()
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it ended %v after SIGTERM, want drain_timeout and a second at most", took)
			}
			if status != 0 || !strings.Contains(g.output(), "stopped") {
				t.Errorf("exit status %d:\n%s", status, g.output())
			}
		})
	}
}
