package host

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// attributes puts a plugin into a process group of its own, so that all that it
// starts can be ended with it, and lets the kernel tell it when the gateway
// dies. The kernel's parent is the thread that started it: Go ends a thread only
// when a goroutine that was locked to it ends, and the SDK looks whether its
// parent is really gone.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// pathOf returns a name for the file that a child inherits as descriptor fd.
func pathOf(fd int) (string, bool) { return fmt.Sprintf("/proc/self/fd/%d", fd), true }

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
