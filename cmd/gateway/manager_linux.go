package gateway

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// monotonic is the time that systemd from version 253 on wants to know of a reload: without it
// one of Type=notify-reload is waited for in vain.
func monotonic() []string {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return nil
	}
	return []string{"MONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10)}
}
