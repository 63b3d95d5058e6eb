package gateway

import "syscall"

// mountTiny puts a file system of 64 KiB at dir.
func mountTiny(dir string) error { return syscall.Mount("none", dir, "tmpfs", 0, "size=64k") }

func unmount(dir string) { syscall.Unmount(dir, syscall.MNT_DETACH) }
