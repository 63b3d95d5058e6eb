//go:build !linux

package sdk

import "syscall"

// deadWithParent is for Linux alone; elsewhere nobody asks for it.
func deadWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
