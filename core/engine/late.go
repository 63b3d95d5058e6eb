package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// Parts are other people's code, and one of them may not return: from a probe
// that ignores its context, from reading a file on a disk that is gone, from an
// endless loop. Nothing that everybody waits for, such as a reload, may wait for
// such a call. So each is bounded from outside, in a goroutine of its own.

// Times that a part is given.
const (
	// patience is how long after its time is over a call may still return.
	patience = 500 * time.Millisecond
	// planTimeout bounds what a reload does before it starts anything: checking,
	// planning, building.
	planTimeout = 10 * time.Second
	// shortly bounds what sets values or looks at files.
	shortly = 2 * time.Second
	// closeTimeout bounds the closing of one generation.
	closeTimeout = 5 * time.Second
	// maxLate bounds how many calls may be late at the same time: each is a
	// goroutine, and what it holds.
	maxLate = 64
)

// A LateError says that a call of a part has not returned though its time was
// over. It goes on by itself, and what it would have given is dropped.
type LateError struct {
	// What names the part and the call: "providers/openai: probing".
	What string
	// Waited is how long it was waited for.
	Waited time.Duration
}

func (e *LateError) Error() string {
	return fmt.Sprintf("%s has not returned after %v, though its time is over; it is left to itself", e.What, e.Waited.Round(time.Millisecond))
}

// lateness keeps the books of the calls that are bounded: which run, and which of
// those are late.
type lateness struct {
	log   *zap.Logger
	ended chan struct{} // of one: told when a call has

	mu    sync.Mutex
	calls []*bounded // that run, the oldest first
	late  int        // of them
}

// A bounded call is one that nobody waits for when its time is over.
type bounded struct {
	what  func() string
	since time.Time
	late  bool // guarded by lateness.mu
}

// full is an error when so much is late that nothing more may become so.
func (l *lateness) full() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.late < maxLate {
		return nil
	}
	return fmt.Errorf("%d calls of parts have not returned though their time is over; restart the gateway", l.late)
}

// now returns what runs, or what of it is late, and for how long.
func (l *lateness) now(late bool) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, c := range l.calls {
		if c.late || !late {
			all = append(all, fmt.Sprintf("%s, for %v", c.what(), time.Since(c.since).Round(time.Millisecond)))
		}
	}
	return all
}

func (l *lateness) begin(what func() string) *bounded {
	c := &bounded{what: what, since: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, c)
	return c
}

// gaveUp notes that nobody waits for c any more.
func (l *lateness) gaveUp(c *bounded) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.late = true
	l.late++
	l.log.Warn("a call has not returned though its time is over; nothing waits for it any more",
		zap.String("call", c.what()), zap.Duration("after", time.Since(c.since)))
}

func (l *lateness) end(c *bounded) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = slices.DeleteFunc(l.calls, func(o *bounded) bool { return o == c })
	select {
	case l.ended <- struct{}{}:
	default:
	}
	if c.late {
		l.late--
		l.log.Info("a call that was late has returned", zap.String("call", c.what()), zap.Duration("after", time.Since(c.since)))
	}
}

// A returned is what a call gave.
type returned[T any] struct {
	value T
	err   error // of a panic
}

// within returns what f returns. When f has not returned patience after ctx has
// ended, it is late: the error is a *LateError, f goes on, and dropped is called
// with what it gives at last. It never is when within returns a value. What names
// the call, and may say where it is. A panic of f is an error.
func within[T any](ctx context.Context, l *lateness, what func() string, f func() T, dropped func(T)) (T, error) {
	var (
		mu   sync.Mutex
		late bool // it is, and f has not returned
		over bool // f has returned, and it is not late
		call = l.begin(what)
		done = make(chan returned[T], 1)
	)
	go func() {
		defer l.end(call)
		var r returned[T]
		r.value, r.err = contained(l.log, what, f)
		mu.Lock()
		over = !late
		mu.Unlock()
		switch {
		case over:
			done <- r
		case r.err == nil:
			dropped(r.value)
		}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-timer.C:
	}
	mu.Lock()
	if over {
		mu.Unlock()
		r := <-done
		return r.value, r.err
	}
	late = true
	l.gaveUp(call)
	mu.Unlock()
	var none T
	return none, &LateError{What: what(), Waited: time.Since(call.since)}
}

// contained calls f and makes an error of its panic.
func contained[T any](log *zap.Logger, what func() string, f func() T) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("a part panicked", zap.String("call", what()), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			err = &core.Error{Kind: core.Internal, Detail: what() + " panicked; the log tells where"}
		}
	}()
	return f(), nil
}

// Late returns what has not returned though its time is over, the oldest first:
// "providers/openai: probing, for 12s".
func (e *Engine) Late() []string { return e.late.now(true) }

// Running is Late with what has time left: every call of a part that is bounded,
// and every generation that is closed though requests are inside.
func (e *Engine) Running() []string { return e.late.now(false) }

// Unfinished is what is Running after Close, once it had a moment to end.
func (e *Engine) Unfinished() []string {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		running := e.Running()
		if running == nil {
			return nil
		}
		select {
		case <-e.late.ended:
		case <-timer.C:
			return running
		}
	}
}

// A progress says at what a longer call is. It is safe for concurrent use.
type progress struct{ at atomic.Pointer[string] }

func (p *progress) note(place, what string) {
	at := place + ": " + what
	p.at.Store(&at)
}

func (p *progress) String() string {
	if at := p.at.Load(); at != nil {
		return *at
	}
	return "beginning"
}

// call makes a call of p, which what names, in the time that ctx says. While one
// is late no other is made: they would only become more.
func (g *Generation) call(ctx context.Context, p *part, what string, f func() error) error {
	e := g.engine
	if err := e.late.full(); err != nil {
		return err
	}
	e.sharing.Lock()
	hung := p.hung
	if hung == nil {
		p.calls++
	}
	e.sharing.Unlock()
	if hung != nil {
		return hung
	}
	over := false // guarded by sharing
	var late *LateError
	err, failed := within(ctx, &e.late, func() string { return p.place() + ": " + what }, func() error {
		defer func() {
			e.sharing.Lock()
			over = true
			p.calls--
			if late != nil && p.hung == late {
				p.hung = nil
			}
			last := p.calls == 0 && p.orphan
			e.sharing.Unlock()
			if last {
				ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
				defer cancel()
				g.closePart(ctx, p)
			}
		}()
		return f()
	}, func(error) {})
	if failed == nil {
		return err
	}
	if is, ok := errors.AsType[*LateError](failed); ok {
		e.sharing.Lock()
		if !over {
			late, p.hung = is, is
		}
		e.sharing.Unlock()
	}
	return failed
}

// outdated says whether p was made from files that are others by now. One that does
// not say so is as good as it was: what is to take its place must not wait for it.
func (g *Generation) outdated(p *part) bool {
	o, ok := p.item.(core.Outdater)
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), shortly)
	defer cancel()
	is := make(chan bool, 1)
	err := g.call(ctx, p, "looking at its files", func() error { is <- o.Outdated(); return nil })
	return err == nil && <-is
}

// leave takes p, which g has, out of g, and closes it when no other generation
// has it and none of its calls is late; else the last of those does.
func (g *Generation) leave(ctx context.Context, p *part) {
	e := g.engine
	e.sharing.Lock()
	p.generations--
	p.orphan = p.generations == 0
	last := p.orphan && p.calls == 0
	e.sharing.Unlock()
	if last {
		g.closePart(ctx, p)
	}
}

func (g *Generation) closePart(ctx context.Context, p *part) {
	c, ok := p.item.(core.Closer)
	if !ok {
		return
	}
	said := func(err error) {
		if err != nil {
			g.log.Warn("closing", zap.String("place", p.place()), zap.Error(err))
		}
	}
	err, failed := within(ctx, &g.engine.late, func() string { return p.place() + ": closing" }, c.Close, said)
	if _, late := errors.AsType[*LateError](failed); !late {
		said(errors.Join(err, failed)) // of a late one the log has told
	}
}
