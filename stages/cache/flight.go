package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A flight is one miss on its way. It runs on a goroutine of its own and ends
// with what next answered, with the leader's deadline, or when nobody waits for
// it any more.
type flight struct {
	key   string
	lane  core.Lane
	until time.Time // its deadline; zero for none
	end   context.CancelCauseFunc

	// Guarded by flights.mu.
	callers int
	ended   bool
	limit   *time.Timer // keeps the deadline once the leader has left
	linger  *time.Timer // runs when there are no callers

	// Set before done is closed, not changed after.
	done   chan struct{}
	result *core.Result // the leader's
	shared *core.Result // everybody else's
	err    *core.Error
	trace  *core.Trace

	mu   sync.Mutex
	text []byte        // all deltas so far
	grew chan struct{} // closed by the next delta; nil when nobody waits for it
}

// flights are those on their way. The zero value has none.
type flights struct {
	mu      sync.Mutex
	joining map[string]*flight   // by key: the one that requests join
	all     map[*flight]struct{} // also those that nobody may join
	closed  bool
	running sync.WaitGroup
}

// errClosed ends the flights, and meets the requests, of a stage that is closed.
func (s *Stage) errClosed() error {
	return &core.Error{Kind: core.Unavailable, Stage: s.name, Detail: "the gateway is shutting down", Retryable: true}
}

// board finds the flight that req joins, or starts the one that it leads. When
// the answer has come in meanwhile, that is returned instead.
func (s *Stage) board(ctx context.Context, p *place, req *core.Request, key string) (f *flight, leads bool, hit *core.Result, err error) {
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	if s.flights.closed {
		return nil, false, nil, s.errClosed()
	}
	if !req.NoCache {
		// A flight that is not there any more may have ended since req looked.
		other := s.flights.joining[key]
		if other == nil {
			if hit := s.memory.get([]byte(key)); hit != nil {
				s.hits.Add(1)
				return nil, false, hit, nil
			}
		}
		s.misses.Add(1)
		if other != nil && other.lane <= req.Lane {
			s.joins.Add(1)
			other.callers++
			if other.linger != nil {
				other.linger.Stop()
				other.linger = nil
			}
			return other, false, nil, nil
		}
	}
	return s.launch(ctx, p, req, key), true, nil, nil
}

// launch starts the flight that req leads. The caller holds flights.mu.
func (s *Stage) launch(ctx context.Context, p *place, req *core.Request, key string) *flight {
	// The flight belongs to all who wait for it: it has the leader's values and
	// time, but does not end when the leader leaves.
	deadline, limited := ctx.Deadline()
	ctx, end := context.WithCancelCause(context.WithoutCancel(ctx))

	f := &flight{key: key, lane: req.Lane, end: end, callers: 1, done: make(chan struct{})}
	if limited {
		f.until = deadline.Add(req.Linger)
		ctx = limitedContext{ctx, f.until}
	}
	own, unpin := *req, func() {}
	if req.Trace != nil {
		f.trace, unpin = req.Trace.Fork()
	}
	own.Trace = f.trace
	if req.OnDelta != nil {
		own.OnDelta = f.delta
	}
	if !req.NoCache {
		s.flights.joining[key] = f
	}
	s.flights.all[f] = struct{}{}
	s.flights.running.Go(func() {
		growStack()
		defer unpin()
		defer end(nil)
		s.fly(ctx, p.next, &own, f)
	})
	return f
}

// A limitedContext says when it will end. It needs no timer of its own: until
// the leader leaves it is the leader's context that keeps the time, and then
// flight.limit does.
type limitedContext struct {
	context.Context
	until time.Time
}

func (c limitedContext) Deadline() (time.Time, bool) { return c.until, true }

// growStack makes a new goroutine's stack as large as a call upstream needs.
// While there is nothing on it that costs one allocation; grown by and by, on
// the way down, it was copied three times, a fortieth of the work on a miss.
//
//go:noinline
func growStack() {
	var room [8 << 10]byte
	runtime.KeepAlive(&room)
}

func (s *Stage) fly(ctx context.Context, next core.Translator, req *core.Request, f *flight) {
	var (
		res      *core.Result
		err      error
		returned bool
	)
	defer func() {
		switch {
		case !returned: // a panic or a Goexit: those who wait must hear of it
			err = fmt.Errorf("panic: %v\n%s", recover(), debug.Stack())
		case res == nil && err == nil:
			err = errors.New("neither a result nor an error came from below")
		}
		s.land(f, res, core.AsError(err, s.name))
	}()
	res, err = next.Translate(ctx, req)
	returned = true
}

// land keeps the answer, then forgets the flight: whoever asks meanwhile finds
// one or the other.
func (s *Stage) land(f *flight, res *core.Result, err *core.Error) {
	f.err = err
	if err == nil {
		e := newEntry(f.key, res)
		f.result, f.shared = res, &e.hit
		if res.NoStore || len(res.Flags) > 0 {
			s.unstored.Add(1)
		} else {
			s.memory.put(e)
		}
	}
	s.flights.mu.Lock()
	f.ended = true
	if f.linger != nil {
		f.linger.Stop()
	}
	if f.limit != nil {
		f.limit.Stop()
	}
	s.part(f)
	delete(s.flights.all, f)
	s.flights.mu.Unlock()
	close(f.done)
}

// part lets nobody join f from now on. The caller holds flights.mu.
func (s *Stage) part(f *flight) {
	if s.flights.joining[f.key] == f {
		delete(s.flights.joining, f.key)
	}
}

// leave notes that a caller waits for f no longer, because of why. The last one
// ends it, after linger. Last says that f has ended, or does now.
func (s *Stage) leave(f *flight, leads bool, linger time.Duration, why error) (last bool) {
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	f.callers--
	switch {
	case f.ended:
		return f.callers == 0
	case f.callers == 0 && linger <= 0:
		s.part(f)
		f.end(why)
		return true
	}
	if leads && !f.until.IsZero() {
		f.limit = time.AfterFunc(time.Until(f.until), func() { f.end(context.DeadlineExceeded) })
	}
	if f.callers > 0 {
		return false
	}
	var timer *time.Timer
	timer = time.AfterFunc(linger, func() {
		s.flights.mu.Lock()
		defer s.flights.mu.Unlock()
		if f.linger == timer { // else somebody came
			s.part(f)
			f.end(why)
		}
	})
	f.linger = timer
	return false
}

// delta takes a piece of the answer from below.
func (f *flight) delta(text string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.text = append(f.text, text...)
	if f.grew != nil {
		close(f.grew)
		f.grew = nil
	}
	return nil
}

// since returns the text after the first seen bytes, or what is closed when
// there is more.
func (f *flight) since(seen int) (text string, grew <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if seen < len(f.text) {
		return string(f.text[seen:]), nil
	}
	if f.grew == nil {
		f.grew = make(chan struct{})
	}
	return "", f.grew
}

// spoke says whether there was any text.
func (f *flight) spoke() bool {
	text, _ := f.since(0)
	return text != ""
}

// follow waits for the end of f and hands on its text as it comes, all that has
// come since the last call at once: a slow reader delays only itself. The error
// is the caller's own: ctx is done, or onDelta wants no more.
func (f *flight) follow(ctx context.Context, onDelta func(string) error) error {
	seen := 0
	for {
		var grew <-chan struct{}
		if onDelta != nil {
			var text string
			if text, grew = f.since(seen); text != "" {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := onDelta(text); err != nil {
					return err
				}
				seen += len(text)
				continue
			}
		}
		select {
		case <-grew:
		case <-f.done:
			if onDelta == nil || f.err != nil {
				return nil
			}
			if text, _ := f.since(seen); text == "" {
				return nil
			}
		case <-ctx.Done():
			select {
			case <-f.done:
				return nil
			default:
				return context.Cause(ctx)
			}
		}
	}
}

// wait follows f until it ends or the caller leaves; why is nil in the first
// case. Last is what leave says.
func (s *Stage) wait(ctx context.Context, f *flight, leads bool, linger time.Duration, onDelta func(string) error) (last bool, why error) {
	why = context.Canceled // should onDelta panic
	defer func() { last = s.leave(f, leads, linger, why) }()
	why = f.follow(ctx, onDelta)
	return false, why
}

// parting is how long a leader whose time is over, and with whom the flight
// ends, waits for that end: it tells where the time went.
const parting = 10 * time.Millisecond

// span names the time that joiners, and those who leave, spent in a flight.
const span = "flight"

// ride waits for f on behalf of req. Again says that f ended for a reason that
// concerns its leader alone.
func (s *Stage) ride(ctx context.Context, f *flight, leads bool, req *core.Request, onDelta func(string) error) (res *core.Result, again bool, err error) {
	began := time.Now()
	last, why := s.wait(ctx, f, leads, req.Linger, onDelta)
	landed := why == nil
	if last && leads {
		landed = f.landsWithin(parting)
	}
	waited := time.Since(began)

	if trace := req.Trace; trace != nil {
		if landed && leads {
			trace.Merge(f.trace, waited)
		} else {
			trace.Elsewhere(span, waited)
			if landed && f.err != nil {
				trace.Failed(f.err) // counted where it arose
			}
		}
	}
	switch {
	case why != nil && landed && f.err != nil && f.err.Kind == core.KindOf(why):
		return nil, false, f.err // the same, and it says where
	case why != nil:
		return nil, false, core.AsError(why, s.name)
	case f.err == nil && leads:
		return f.result, false, nil
	case f.err == nil:
		return f.shared, false, nil
	case leads:
		return nil, false, f.err
	}
	switch f.err.Kind {
	case core.Superseded, core.DeadlineExceeded, core.Canceled:
		return nil, true, nil
	}
	return nil, false, f.err
}

func (f *flight) landsWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-f.done:
		return true
	case <-timer.C:
		return false
	}
}
