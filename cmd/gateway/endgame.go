package gateway

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// An endgame sees to it that the process ends soon after it was told to, whatever
// still runs by then: a part that does not return, a request in an endless loop, a
// disk that is gone. It is safe for concurrent use.
type endgame struct {
	stderr io.Writer
	exit   func(status int)

	mu      sync.Mutex
	drain   func() time.Duration // what calls in flight have
	step    string               // of starting or ending, that runs
	gateway *gateway             // nil until one is built
}

const (
	// overtime is how long after drain_timeout the usual end may take.
	overtime = 700 * time.Millisecond
	// lastLine is how long the log is given then.
	lastLine = 200 * time.Millisecond
)

func newEndgame(stderr io.Writer, drain time.Duration) *endgame {
	return &endgame{
		stderr: stderr, exit: os.Exit,
		drain: func() time.Duration { return drain },
	}
}

// watch ends the process when stop has not been called drain_timeout and overtime
// after ctx ended.
func (e *endgame) watch(ctx context.Context) (stop func()) {
	stopped := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		select {
		case <-ctx.Done():
		case <-stopped:
			return
		}
		e.mu.Lock()
		drain := e.drain
		e.mu.Unlock()
		timer := time.NewTimer(drain() + overtime)
		defer timer.Stop()
		select {
		case <-timer.C:
			e.force()
		case <-stopped:
		}
	})
	return func() { close(stopped); running.Wait() }
}

// at notes what runs now.
func (e *endgame) at(step string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.step = step
}

// set changes what e knows of the gateway.
func (e *endgame) set(change func(*endgame)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(e)
}

// force says what still runs, and ends the process, and those of plugins with it:
// one that is stopped would never hear that it is alone. None of it may hinder that.
func (e *endgame) force() {
	e.mu.Lock()
	g, running := e.gateway, []string{e.step}
	e.mu.Unlock()
	var last sync.WaitGroup
	if g != nil {
		last.Go(g.plugins.Kill)
	}
	last.Go(func() {
		const message = "the time to stop is over and something still runs; the process ends"
		if g == nil {
			fmt.Fprintf(e.stderr, "%s: %s\n", message, running[0])
			return
		}
		g.log.Error(message, zap.Strings("running", slices.Concat(running, g.engine.Running())))
		g.lines.Close()
	})
	done := make(chan struct{})
	go func() { last.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(lastLine):
	}
	e.exit(exitFailed)
}
