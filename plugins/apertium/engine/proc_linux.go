package engine

import "syscall"

// childOf puts a process into group, or into a new one when group is 0, and
// lets it die with this process. The kernel's parent is the thread that started
// it: Go ends a thread only when a goroutine that was locked to it ends, so the
// worst case is a chain that dies early and is replaced.
func childOf(group int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pgid: group, Pdeathsig: syscall.SIGKILL}
}
