package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// pathOf returns a name for the file that a child inherits as descriptor fd.
func pathOf(fd int) (string, bool) { return fmt.Sprintf("/proc/self/fd/%d", fd), true }

// sealed returns a copy of from in memory that nobody can change any more, its
// owner and this process included, see memfd_create(2). A program is one that
// is to be executed itself.
func sealed(from *os.File, info fs.FileInfo, program bool, most int64) (*os.File, error) {
	fd, err := memoryFile(filepath.Base(from.Name()), program)
	if err != nil {
		return nil, err
	}
	to := os.NewFile(uintptr(fd), from.Name())
	n, err := io.Copy(to, io.LimitReader(from, most+1))
	if err == nil && n > most {
		err = errors.New("it grows while it is read")
	}
	if err == nil {
		_, err = to.Seek(0, io.SeekStart)
	}
	if err == nil {
		mode := info.Mode().Perm() &^ 0o222
		if !program {
			mode &^= 0o111 // it is only read
		}
		err = to.Chmod(mode)
	}
	if err == nil {
		_, err = unix.FcntlInt(to.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		to.Close()
		return nil, err
	}
	return to, nil
}

// memoryFile makes an empty file that can be sealed.
func memoryFile(name string, program bool) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	wanted := unix.MFD_NOEXEC_SEAL
	if program {
		wanted = unix.MFD_EXEC
	}
	if len(name) > 200 { // 249 is the most
		name = name[:200]
	}
	fd, err := unix.MemfdCreate(name, flags|wanted)
	switch {
	case err == unix.EINVAL: // before Linux 6.3, which knows neither
		return unix.MemfdCreate(name, flags)
	case err == unix.EACCES && program:
		return 0, errors.New("the sysctl vm.memfd_noexec is 2, which forbids to execute what is in memory alone; set it to 1 or 0, or leave sha256 out for the program")
	}
	return fd, err
}
