//go:build unix && !linux

package engine

import "syscall"

// childOf puts a process into group, or into a new one when group is 0.
func childOf(group int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pgid: group}
}
