//go:build !linux

package door

import "net"

// deafen does what it does on Linux alone.
func deafen(*net.TCPListener) {}
