package state

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const socketSuffix = ".sock"

func isSocket(name string) bool {
	return strings.HasPrefix(name, addressPrefix) && strings.HasSuffix(name, socketSuffix) && filepath.Base(name) == name
}

// Listen opens a Unix socket in the folder, for this user alone, and returns its
// name for an Address. It is removed when the listener is closed; what a process
// that died has left is removed by the next Announce.
func (s Folder) Listen() (ln net.Listener, name string, err error) {
	root, err := s.open(true)
	if err != nil {
		return nil, "", err
	}
	fail := func(err error) (net.Listener, string, error) {
		root.Close()
		return nil, "", fmt.Errorf("opening a socket in %s: %w", s.Path(), err)
	}
	// Nobody finds it under this name, until its mode is what it is to be.
	young := unfinished + rand.Text()[:12]
	path, release, err := s.pathOf(root, young)
	if err != nil {
		return fail(err)
	}
	unix, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		unix.SetUnlinkOnClose(false) // it is going to have another name
		err = os.Chmod(path, 0o600)
	}
	release()
	name = fmt.Sprintf("%s%d-%s%s", addressPrefix, os.Getpid(), rand.Text()[:8], socketSuffix)
	if err == nil {
		err = root.Rename(young, name)
	}
	if err != nil {
		if unix != nil {
			unix.Close()
		}
		root.Remove(young)
		return fail(err)
	}
	return &socket{UnixListener: unix, remove: sync.OnceFunc(func() {
		root.Remove(name)
		root.Close()
	})}, name, nil
}

type socket struct {
	*net.UnixListener
	remove func()
}

func (s *socket) Close() error {
	s.remove()
	return s.UnixListener.Close()
}

// maxSocketPath is how long the path of a socket may be: 108 bytes with a NUL on
// Linux, 104 elsewhere (unix(7)).
const maxSocketPath = 103

// pathOf returns a path for a socket called name in the folder, which is good
// until release. Where the folder's own would be too long, it goes by way of the
// descriptor of the folder.
func (s Folder) pathOf(root *os.Root, name string) (path string, release func(), err error) {
	if path = filepath.Join(s.Path(), name); len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	dir, err := root.Open(".")
	if err != nil {
		return "", nil, err
	}
	path = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		dir.Close()
		return "", nil, fmt.Errorf("its path would be longer than the %d bytes that one may have; set XDG_STATE_HOME to a shorter one", maxSocketPath)
	}
	return path, func() { dir.Close() }, nil
}

// Dial reaches the gateway at a over its socket.
func (s Folder) Dial(ctx context.Context, a Address) (net.Conn, error) {
	root, err := s.open(false)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Lstat(a.Socket)
	if err != nil {
		return nil, err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is no socket", filepath.Join(s.Path(), a.Socket))
	}
	if err := private(info, filepath.Join(s.Path(), a.Socket)); err != nil {
		return nil, err
	}
	path, release, err := s.pathOf(root, a.Socket)
	if err != nil {
		return nil, err
	}
	defer release()
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

// unheard says whether nobody listens at the socket called name.
func (s Folder) unheard(root *os.Root, name string) bool {
	path, release, err := s.pathOf(root, name)
	if err != nil {
		return false
	}
	defer release()
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
