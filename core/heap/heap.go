// Package heap says when garbage is collected, for the gateway and for plugins of the Go SDK.
package heap

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// headroom is how much garbage may lie about before it is collected, in bytes.
//
// By default that is as much as the program holds: with 5 MB, which is usual, it
// is collected dozens of times a second, and a full cache of 32 MiB is doubled.
// So the share follows what is held, within leastPercent, below which a large
// cache would be gone through too often, and mostPercent.
const (
	headroom                  = 24 << 20
	leastPercent, mostPercent = 65, 400
)

// usual is the share of a program that nobody has told another.
const usual = 100

// Keep adapts the collector after each collection until release is called. Who sets
// GOGC or GOMEMLIMIT, or the share in the program, has decided already, and gets that.
func Keep() (release func()) {
	var mu sync.Mutex // held round each change, so that the last one is release's
	over, percent := false, mostPercent
	former := debug.SetGCPercent(percent)
	if former != usual || os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		debug.SetGCPercent(former)
		return func() {}
	}
	held := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	var follow func(struct{})
	follow = func(struct{}) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		metrics.Read(held)
		if p := percentFor(held[0].Value.Uint64()); p != percent {
			percent = p
			debug.SetGCPercent(percent)
		}
		// Nobody holds the mark: the next collection takes it and calls again.
		runtime.AddCleanup(new([16]byte), follow, struct{}{})
	}
	follow(struct{}{})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		debug.SetGCPercent(former)
	}
}

// percentFor returns the garbage to allow, in per cent of what is held. It goes
// in steps, since each change stops the program for a moment.
func percentFor(held uint64) int {
	const step = 5
	if held == 0 {
		return mostPercent
	}
	p := min(headroom*100/held, mostPercent)
	return max(int(p)/step*step, leastPercent)
}
