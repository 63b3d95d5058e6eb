//go:build unix

package sdk

import (
	"io"
	"os"
	"os/signal"
	"syscall"

	"go.uber.org/zap"
)

// guard ends the program's process group when the gateway is gone: it notices
// the end of standard input, which the gateway holds open, and the signal that
// the kernel sends for a dead parent.
//
// While the gateway lives, its plugins live: a SIGTERM that reaches all
// processes of a service at once would else end a plugin under requests that
// the gateway still finishes.
//
// What it returns ends the watch for the signal.
func guard(log *zap.Logger) (end func()) {
	parent := os.Getppid()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		for range signals {
			if os.Getppid() != parent {
				endGroup()
			}
			log.Info("SIGTERM is left to the gateway, which lives")
		}
	}()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		endGroup()
	}()
	return func() { signal.Stop(signals); close(signals) }
}

// endGroup ends this process, and with it its group when that is its own.
func endGroup() {
	if syscall.Getpgrp() == os.Getpid() {
		syscall.Kill(0, syscall.SIGKILL)
	}
	os.Exit(1)
}
