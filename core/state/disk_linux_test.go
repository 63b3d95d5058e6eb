package state

import "syscall"

// mountSmall puts a file system of 64 KiB in the place of dir, until unmount is called.
func mountSmall(dir string) (unmount func(), err error) {
	return func() { syscall.Unmount(dir, syscall.MNT_DETACH) }, syscall.Mount("none", dir, "tmpfs", 0, "size=64k")
}
