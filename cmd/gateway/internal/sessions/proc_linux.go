package sessions

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// endWithParent has the kernel end a child when this process dies, however it
// does. A group of its own keeps Ctrl-C from reaching it before it is ended in
// order.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// usage returns the processor time that a process and its descendants have
// used, those that have ended and been waited for included, and the memory that
// is resident now, in bytes.
func usage(pid int) (cpu time.Duration, resident int64, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, 0, err
	}
	// The name in parentheses may hold anything; fields count from behind it.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const utime, cstime = 11, 14 // with stime and cutime between them
	if len(fields) <= cstime {
		return 0, 0, fmt.Errorf("%s/stat has %d fields", dir, len(fields))
	}
	for _, f := range fields[utime : cstime+1] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("%s/stat: %w", dir, err)
		}
		cpu += time.Duration(ticks) * (time.Second / 100) // USER_HZ, the same on every Linux
	}
	statm, err := os.ReadFile(filepath.Join(dir, "statm"))
	if err != nil {
		return 0, 0, err
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(statm), &size, &pages); err != nil {
		return 0, 0, fmt.Errorf("%s/statm: %w", dir, err)
	}
	resident = pages * int64(os.Getpagesize())

	lists, _ := filepath.Glob(filepath.Join(dir, "task", "*", "children"))
	for _, list := range lists {
		children, _ := os.ReadFile(list)
		for _, c := range strings.Fields(string(children)) {
			n, err := strconv.Atoi(c)
			if err != nil {
				continue
			}
			// One that ended meanwhile is its parent's from now on.
			if c, r, err := usage(n); err == nil {
				cpu, resident = cpu+c, resident+r
			}
		}
	}
	return cpu, resident, nil
}

// load is the machine's load average of the last minute.
func load() figure {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return unknown
	}
	var one float64
	if _, err := fmt.Sscan(string(b), &one); err != nil {
		return unknown
	}
	return figure(one)
}
