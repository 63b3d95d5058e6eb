package door

import (
	"net"

	"golang.org/x/sys/unix"
)

// deafen makes the kernel set up no connection to l any more: it drops what asks for
// one, as a network may, and the client asks again a second later. So what waits to
// be accepted becomes no more, and closing l resets nothing when none is left. See
// socket(7), SO_ATTACH_FILTER. It does not matter much when it cannot be done: then
// whoever connects in the last moment is reset.
func deafen(l *net.TCPListener) {
	raw, err := l.SyscallConn()
	if err != nil {
		return
	}
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
	})
}
