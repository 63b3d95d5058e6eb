//go:build unix && !linux

package host

import "syscall"

// attributes puts a plugin into a process group of its own, so that all that it
// starts can be ended with it.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// pathOf returns a name for the file that a child inherits as descriptor fd:
// there is none here, so what is executed is what has the name at that moment.
func pathOf(int) (string, bool) { return "", false }

// memory returns 0: nobody knows here.
func memory(int) int64 { return 0 }
