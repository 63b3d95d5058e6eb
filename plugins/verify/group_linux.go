package verify

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// group returns a process of the group that still runs; 0 when there is none.
// One that has ended and that nobody has waited for does not run.
func group(id int) int {
	all, err := filepath.Glob("/proc/[0-9]*") // with /stat it would list each of these folders
	if err != nil {
		return 0 // the pattern is a good one
	}
	for _, name := range all {
		raw, err := os.ReadFile(name + "/stat")
		if err != nil {
			continue // it has ended meanwhile
		}
		// PID (NAME) STATE PARENT GROUP ..., see proc_pid_stat(5).
		end := bytes.LastIndexByte(raw, ')')
		fields := strings.Fields(string(raw[end+1:]))
		if len(fields) > 2 && fields[2] == strconv.Itoa(id) && fields[0] != "Z" && fields[0] != "X" {
			pid, _ := strconv.Atoi(filepath.Base(name))
			return pid
		}
	}
	return 0
}
