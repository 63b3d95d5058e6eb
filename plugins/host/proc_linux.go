package host

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes puts a plugin into a process group of its own, so that all that it
// starts can be ended with it, and lets the kernel tell it when the gateway
// dies. The kernel's parent is the thread that started it: Go ends a thread only
// when a goroutine that was locked to it ends, and the SDK looks whether its
// parent is really gone.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// adopt makes this process the parent of orphans below it, see prctl(2), and
// keeps others of its user from looking into it: /proc/PID/environ, where keys
// may stand, its memory and its files. The price is that it leaves no core dump
// and that only root can attach a debugger. Neither can fail in a way that
// matters: a kernel that knows them not is as before.
func adopt() {
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

func self() int { return os.Getpid() }

func sessionOf(pid int) int {
	id, _ := unix.Getsid(pid)
	return id
}

// look returns what the kernel says of a process, see proc_pid_stat(5).
func look(pid int) (p proc, ok bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, false
	}
	// PID (NAME) STATE PARENT GROUP SESSION ...; the name may hold anything.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 20 {
		return p, false
	}
	number := func(i int) int { n, _ := strconv.Atoi(fields[i]); return n }
	start, _ := strconv.ParseUint(fields[19], 10, 64)
	return proc{pid: pid, parent: number(1), group: number(2), session: number(3), start: start, ended: fields[0] == "Z" || fields[0] == "X"}, true
}

// below returns the processes below this one, parents before their children.
func below() (all []proc) {
	mine := self()
	if _, direct := children(mine); !direct {
		return belowIn(everything(), mine)
	}
	// Whose parent ends meanwhile becomes a child of this one: it may have been
	// in neither list.
	known := map[int]bool{}
	for more := true; more && len(all) < maxProcesses; {
		more = false
		next, _ := children(mine)
		for len(next) > 0 && len(all) < maxProcesses {
			var then []int
			for _, child := range next {
				if known[child] {
					continue
				}
				if p, ok := look(child); ok {
					known[child], more = true, true
					all = append(all, p)
					below, _ := children(child)
					then = append(then, below...)
				}
			}
			next = then
		}
	}
	return all
}

// maxProcesses is how many processes are looked at, at most.
const maxProcesses = 1 << 16

// children returns those of pid, unless the kernel was built without that.
func children(pid int) (all []int, ok bool) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is a good one
	for _, name := range lists {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(raw)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(all, child)
			}
		}
	}
	return all, len(lists) > 0
}

func everything() (all []proc) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		if p, ok := look(pid); ok {
			all = append(all, p)
		}
	}
	return all
}

// belowIn picks from all what is below pid.
func belowIn(all []proc, pid int) (found []proc) {
	of := map[int][]proc{}
	for _, p := range all {
		of[p.parent] = append(of[p.parent], p)
	}
	for next := of[pid]; len(next) > 0; {
		found = append(found, next...)
		var then []proc
		for _, p := range next {
			then = append(then, of[p.pid]...)
		}
		next = then
	}
	return found
}

// environment returns that which a process was started with; nil when it cannot
// be read.
func environment(pid int) []string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)) // the kernel bounds it
	if err != nil {
		return nil
	}
	return strings.Split(string(raw), "\x00")
}

// kill ends p, and no other process that has its number by now.
func kill(p proc) {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		if errors.Is(err, unix.ENOSYS) {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
		return
	}
	defer unix.Close(fd)
	if now, ok := look(p.pid); ok && now.start == p.start {
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

// reap takes the status of a child that has ended.
func reap(pid int) { unix.Wait4(pid, nil, unix.WNOHANG, nil) }

// orphans kills what the plugins of a gateway that is gone have left: processes
// of this user in whose environment a folder for sockets below dir stands.
func orphans(dir string) (killed int) {
	for _, p := range everything() {
		if p.pid == self() || p.ended {
			continue
		}
		if slices.ContainsFunc(environment(p.pid), func(kv string) bool { return strings.HasPrefix(kv, socketFolder+"="+dir+"/") }) {
			kill(p)
			killed++
		}
	}
	return killed
}

// peer returns the process at the other end of a Unix socket: the one that
// listens there, or had when it began to.
func peer(conn net.Conn) (pid int, known bool, err error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, false, nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, failed); err != nil {
		return 0, false, err
	}
	return int(cred.Pid), true, nil
}

// memory returns the resident memory of a process, in bytes; 0 when nobody
// knows.
func memory(pid int) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(raw)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}
