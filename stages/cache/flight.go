package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// A flight is one miss on its way, and all who wait for it. It makes one call
// upstream, whoever waits.
//
// Before that call has its turn, each request has the place in the line that it
// would have alone: its lane, its client and session, its deadline. So several
// bids may be under way, one for each place that differs; the first that gets a
// turn makes the call, and the others are withdrawn. What befalls a bid before
// (superseded, no time for a pause, too long a line) concerns the request that
// it is for. Once a bid has its turn anybody may join, whatever its lane, and
// the call has the time of whoever can wait longest.
//
// A flight ends with the answer, with a failure that is everybody's, or when
// nobody waits for it any more.
type flight struct {
	stage *Stage
	key   string

	// Guarded by flights.mu.
	riders []*rider
	bids   []*bid // that may still answer
	holder *bid   // of bids: has a turn, or has said something
	flying int    // bids that have not returned, also withdrawn ones
	over   bool
	keep   bool // somebody wants the answer kept
	// Other gateways wait for so many of its bids; one has given them the answer.
	leading int
	given   bool
	linger  *time.Timer // runs when there are no riders

	mu      sync.Mutex
	speaker *bid          // whose text it is
	text    []byte        // all deltas so far
	grew    chan struct{} // closed by the next delta; nil when nobody waits for it

	// Of the first request: most flights have no other.
	firstBid    bid
	firstRider  rider
	firstRiders [1]*rider
	firstBids   [1]*bid
}

// A rider is a request that waits for a flight.
type rider struct {
	flight *flight
	place  *place
	ctx    context.Context
	req    *core.Request
	since  time.Time
	until  time.Time // its deadline and linger; zero for none

	// Guarded by flights.mu.
	at      int         // in flight.riders; -1 when it is not aboard any more
	bid     *bid        // that it relies on
	refused *core.Error // why it has no bid of its own while others have

	// Set before done is closed, not changed after.
	done chan struct{}
	res  *core.Result
	pays *bid // whose call is counted as its own, since the rider of that has left
	err  *core.Error
	said []byte // what was said before err
}

// A bid is one way down the chain, for a rider, to an answer for all.
type bid struct {
	flight *flight
	rider  *rider // may have left
	end    context.CancelCauseFunc
	trace  *core.Trace
	until  atomic.Pointer[time.Time] // what it says its deadline is; nil for none
	found  bool                      // its answer is another gateway's; set before it lands

	// Guarded by flights.mu.
	relied int // riders that do
	waits  bool
	over   bool        // withdrawn, or returned
	limit  *time.Timer // keeps the deadline once its rider has left
}

var _ core.Flight = (*bid)(nil)

// flights are those on their way.
type flights struct {
	mu      sync.Mutex
	joining map[string]*flight   // by key: the one that requests join
	all     map[*flight]struct{} // also those that nobody may join
	closed  bool
	running sync.WaitGroup
}

// errClosed ends the flights, and meets the requests, of a stage that is closed.
func (s *Stage) errClosed() *core.Error {
	return &core.Error{Kind: core.Unavailable, Stage: s.name, Detail: "the gateway is shutting down", Retryable: true}
}

// errElsewhere ends a bid that another was faster than.
func (s *Stage) errElsewhere() *core.Error {
	return &core.Error{Kind: core.Canceled, Stage: s.name, Detail: "another request for the same text has the turn", Own: true}
}

// board lets req join the flight that is on its way, or begins one. When the
// answer has come in meanwhile, that is returned instead.
func (s *Stage) board(ctx context.Context, p *place, req *core.Request, key string) (r *rider, hit *core.Result, err error) {
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	if s.flights.closed {
		return nil, nil, s.errClosed()
	}
	var f *flight
	if !req.NoCache {
		// A flight that is not there any more may have ended since req looked.
		if f = s.flights.joining[key]; f == nil {
			if hit := s.memory.get([]byte(key), core.Clock()); hit != nil {
				s.hits.Add(1)
				return nil, hit, nil
			}
		}
		s.misses.Add(1)
	}
	if f == nil {
		f = &flight{stage: s, key: key}
		f.riders, f.bids = f.firstRiders[:0], f.firstBids[:0]
		if !req.NoCache {
			s.flights.joining[key] = f
		}
		s.flights.all[f] = struct{}{}
		r = &f.firstRider
	} else {
		s.joins.Add(1)
		if req.Trace != nil {
			req.Trace.Joined = true
		}
		if f.linger != nil {
			f.linger.Stop()
			f.linger = nil
		}
		r = new(rider)
	}
	*r = rider{flight: f, place: p, ctx: ctx, req: req, since: req.Since, at: len(f.riders), done: make(chan struct{})}
	if r.since.IsZero() {
		r.since = time.Now()
	}
	if deadline, limited := ctx.Deadline(); limited {
		r.until = deadline.Add(req.Linger)
	}
	f.riders = append(f.riders, r)
	f.keep = f.keep || !req.Transient && !req.Relieve
	f.seat(r)
	return r, nil, nil
}

// near is how much longer than the request of a bid another may have time and
// still rely on it before the turn. Were it nothing, every request that comes
// while a text waits would stand in the line by itself.
const near = 100 * time.Millisecond

// covers says whether r has no better place, and not much more time, than b.
func (b *bid) covers(r *rider) bool {
	if b.rider == r {
		return true
	}
	own, req := b.rider.req, r.req
	if own.Client != req.Client || own.Session != req.Session || own.Lane > req.Lane {
		return false
	}
	return b.rider.until.IsZero() || !r.until.IsZero() && r.until.Sub(b.rider.until) <= near
}

// seat finds the bid that r relies on, or makes one for it. The caller holds
// flights.mu, as do those of all methods down to finish.
func (f *flight) seat(r *rider) {
	b := f.holder
	waits := false
	for _, o := range f.bids {
		waits = waits || o.waits
		if b == nil && o.covers(r) {
			b = o
		}
	}
	if b == nil && (!waits || r.refused != nil) {
		// As long as nothing is known of a call below, it serves whoever is not
		// more urgent; and who may not wait in the line waits for those who do.
		for _, o := range f.bids {
			if o.rider.req.Lane <= r.req.Lane || r.refused != nil {
				b = o
				break
			}
		}
	}
	if b == nil {
		b = f.launch(r)
	} else if r.req.Batch != nil {
		r.req.Batch.Settle() // it waits for another's call
	}
	if b != nil {
		f.rely(r, b)
	}
}

// rely makes r rely on b, with all the time that r has once b has its turn.
func (f *flight) rely(r *rider, b *bid) {
	if r.bid != nil {
		r.bid.relied--
	}
	r.bid = b
	b.relied++
	if f.holder == b {
		b.extend(r)
	}
}

// extend makes b last as long as r can wait.
func (b *bid) extend(r *rider) {
	switch until := b.until.Load(); {
	case until == nil:
	case r.until.IsZero():
		b.until.Store(nil)
	case r.until.After(*until):
		b.until.Store(&r.until)
	}
}

// launch sends a bid for r down the chain; nil when the stage is closed, which r
// then hears.
func (f *flight) launch(r *rider) *bid {
	s := f.stage
	if s.flights.closed {
		f.settle(r, nil, s.errClosed())
		return nil
	}
	// The bid belongs to all who rely on it: it has the values and the time of r,
	// but does not end when r leaves.
	ctx, end := context.WithCancelCause(context.WithoutCancel(r.ctx))
	b := &f.firstBid
	if b.flight != nil {
		b = new(bid)
	}
	b.flight, b.rider, b.end = f, r, end
	r.refused = nil
	if !r.until.IsZero() {
		b.until.Store(&r.until)
	}
	own, unpin := *r.req, func() {}
	if own.Trace != nil {
		// It is not in use: r waits, and takes flights.mu before it goes on.
		b.trace, unpin = own.Trace.Fork()
	}
	own.Trace, own.Since = b.trace, r.since
	if own.OnDelta != nil {
		own.OnDelta = b.delta
	}
	if !own.NoCache {
		own.Flight = b
	}
	f.bids = append(f.bids, b)
	f.flying++
	next := r.place.next
	s.flights.running.Go(func() {
		growStack()
		defer unpin()
		defer end(nil)
		b.fly(bidContext{ctx, b}, next, &own)
	})
	return b
}

// withdraw ends b, on which nobody relies any more.
func (f *flight) withdraw(b *bid, why error) {
	f.drop(b)
	b.end(why)
}

// drop takes b out of those that may still answer.
func (f *flight) drop(b *bid) {
	b.over = true
	if b.limit != nil {
		b.limit.Stop()
		b.limit = nil
	}
	f.bids = slices.DeleteFunc(f.bids, func(o *bid) bool { return o == b })
	if f.holder == b {
		f.holder = nil
	}
}

// settle gives r its answer.
func (f *flight) settle(r *rider, res *core.Result, err *core.Error) {
	if r.at < 0 {
		return
	}
	f.remove(r)
	r.res, r.err = res, err
	close(r.done)
}

func (f *flight) remove(r *rider) {
	last := len(f.riders) - 1
	f.riders[r.at] = f.riders[last]
	f.riders[r.at].at = r.at
	f.riders[last] = nil
	f.riders = f.riders[:last]
	r.at = -1
	if r.bid != nil {
		r.bid.relied--
	}
}

// finish lets nobody join f from now on, and ends what is left of it.
func (f *flight) finish(why error) {
	f.over = true
	if f.linger != nil {
		f.linger.Stop()
		f.linger = nil
	}
	if f.stage.flights.joining[f.key] == f {
		delete(f.stage.flights.joining, f.key)
	}
	for len(f.bids) > 0 {
		f.withdraw(f.bids[0], why)
	}
}

// Waits notes that b is about to stand in the line. From now on all others with
// a better place, or with more time, stand there as well.
func (b *bid) Waits() {
	f := b.flight
	f.stage.flights.mu.Lock()
	defer f.stage.flights.mu.Unlock()
	if b.over {
		return // it will hear of that where it waits
	}
	b.waits = true
	if f.holder == b {
		f.holder = nil // its attempt has failed, and another one follows
	}
	if f.holder != nil {
		return
	}
	if len(f.riders) > 1 || b.relied == 0 {
		for _, r := range slices.Clone(f.riders) { // one that cannot be seated leaves
			if r.refused == nil && !r.bid.covers(r) {
				f.seat(r)
			}
		}
		if b.relied == 0 && len(f.riders) > 0 {
			f.withdraw(b, f.stage.errElsewhere()) // whom it was for has left
		}
	}
}

// Starts notes that b has its turn: it makes the call, for everybody. The error
// says that another one does.
func (b *bid) Starts() error {
	f := b.flight
	f.stage.flights.mu.Lock()
	defer f.stage.flights.mu.Unlock()
	if !f.take(b) {
		return f.stage.errElsewhere()
	}
	return nil
}

// take makes b the one that calls, unless it is over.
func (f *flight) take(b *bid) bool {
	if b.over || f.holder != nil && f.holder != b {
		return false
	}
	f.holder, b.waits = b, false
	if b.limit != nil {
		b.limit.Stop()
		b.limit = nil
	}
	for _, r := range f.riders {
		f.rely(r, b)
	}
	for i := len(f.bids) - 1; i >= 0; i-- {
		if o := f.bids[i]; o != b {
			f.withdraw(o, f.stage.errElsewhere())
		}
	}
	return true
}

// A bidContext says when its bid will end. It needs no timer: whoever waits
// keeps its own time, and the last one to leave ends the bid. That time grows
// while others join a call that has its turn.
type bidContext struct {
	context.Context
	bid *bid
}

func (c bidContext) Deadline() (time.Time, bool) {
	if until := c.bid.until.Load(); until != nil {
		return *until, true
	}
	return time.Time{}, false
}

// growStack makes a new goroutine's stack as large as a call upstream needs.
// While there is nothing on it that costs one allocation; grown by and by, on
// the way down, it was copied three times, a fortieth of the work on a miss.
//
//go:noinline
func growStack() {
	var room [8 << 10]byte
	runtime.KeepAlive(&room)
}

func (b *bid) fly(ctx context.Context, next core.Translator, req *core.Request) {
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
		b.land(res, core.AsError(err, b.flight.stage.name))
	}()
	if s := b.flight.stage; s.common != nil && req.Chat == nil {
		res, err = b.share(ctx, s.common, next, req)
	} else {
		res, err = next.Translate(ctx, req)
	}
	returned = true
}

// share asks the group before it goes on, and gives it the answer.
func (b *bid) share(ctx context.Context, c *common, next core.Translator, req *core.Request) (*core.Result, error) {
	f, mu := b.flight, &b.flight.stage.flights.mu
	mu.Lock()
	keep := f.keep
	mu.Unlock()
	if !keep {
		return next.Translate(ctx, req)
	}
	ttl := time.Duration(f.stage.memory.ttl.Load())
	found := alone
	if !req.NoCache {
		var e *entry
		if e, found = c.fetch(ctx, f.key, ttl); e != nil {
			f.stage.memory.put(e)
			b.found = true
			return &e.hit, nil
		}
	}
	if found == leads {
		mu.Lock()
		f.leading++
		mu.Unlock()
		over := c.lead(f.key)
		defer func() {
			over()
			mu.Lock()
			f.leading--
			last := f.leading == 0 && !f.given
			mu.Unlock()
			if last { // no other bid of this flight goes on, and none has an answer
				c.done(f.key)
			}
		}()
	}
	res, err := next.Translate(ctx, req)
	if err == nil && res != nil && !res.NoStore && len(res.Flags) == 0 && found != foreign && c.keep(f.key, res, ttl) {
		mu.Lock()
		f.given = true
		mu.Unlock()
	}
	return res, err
}

// land keeps the answer of b, then forgets the flight: whoever asks meanwhile
// finds one or the other.
func (b *bid) land(res *core.Result, err *core.Error) {
	f, s := b.flight, b.flight.stage
	var shared *core.Result
	var e *entry
	stored := true
	s.flights.mu.Lock()
	keep := f.keep
	s.flights.mu.Unlock()
	if err == nil {
		e = newEntry(f.key, res)
		shared = &e.hit
		switch {
		case b.found: // it is kept already, with its age
		case res.NoStore || len(res.Flags) > 0:
			s.unstored.Add(1)
		case keep:
			s.memory.put(e)
		default:
			stored = false
		}
	}
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	if !stored && f.keep { // since somebody joined in this moment
		s.memory.put(e)
	}
	if f.flying--; f.flying == 0 {
		// One that is launched below puts it back.
		defer func() {
			if f.flying == 0 {
				f.finish(nil)
				delete(s.flights.all, f)
			}
		}()
	}
	withdrawn := b.over
	if !withdrawn {
		f.drop(b)
	}
	switch {
	case withdrawn:
	case err == nil:
		payer := f.payer(b)
		for len(f.riders) > 0 {
			r := f.riders[len(f.riders)-1]
			if r == payer {
				f.settle(r, res, nil)
			} else {
				f.settle(r, shared, nil)
			}
		}
		f.finish(s.errElsewhere())
	default:
		f.fail(b, err, f.hush(b))
	}
	select {
	case <-b.rider.done:
	default:
		if b.rider.at < 0 && b.rider.bid == b { // it has left, and may want to know where its time went
			b.rider.err = err
			close(b.rider.done)
		}
	}
}

// payer returns the rider as whose own the call of b counts: the one that made it, or of
// those who wait the one that came first.
func (f *flight) payer(b *bid) *rider {
	if b.rider.at >= 0 || len(f.riders) == 0 {
		return b.rider
	}
	first := slices.MinFunc(f.riders, func(a, b *rider) int { return a.since.Compare(b.since) })
	first.pays = b
	return first
}

// concerns says whether err is the trouble of one request alone.
func concerns(err *core.Error) bool {
	switch err.Kind {
	case core.Superseded, core.DeadlineExceeded, core.Canceled:
		return true
	}
	return err.Own
}

// fail tells those who rely on b of err, after what b said. What concerns the
// request of b alone the others do not hear: they go on with another bid, or make
// one.
func (f *flight) fail(b *bid, err *core.Error, said []byte) {
	if !concerns(err) {
		f.payer(b)
	}
	var stay []*rider
	for i := len(f.riders) - 1; i >= 0; i-- {
		switch r := f.riders[i]; {
		case r.bid != b:
		case !concerns(err):
			r.said = said
			f.settle(r, nil, err)
		case r == b.rider && err.Kind == core.Overloaded && len(f.bids) > 0:
			r.refused = err // it may not wait in the line; others do
			stay = append(stay, r)
		case r == b.rider:
			r.said = said
			f.settle(r, nil, err)
		default:
			stay = append(stay, r)
		}
	}
	slices.SortFunc(stay, func(a, b *rider) int {
		return cmp.Or(cmp.Compare(a.req.Lane, b.req.Lane), a.since.Compare(b.since))
	})
	for _, r := range stay {
		f.seat(r)
	}
}

// leave notes that r waits no longer, because of why. The last one ends the
// flight, after its linger. Ends says that its own bid has ended, or does now.
func (s *Stage) leave(r *rider, why error) (ends bool) {
	f := r.flight
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	b := r.bid
	own := b != nil && b.rider == r
	if r.at < 0 {
		return own // it has been answered
	}
	f.remove(r)
	linger := r.req.Linger
	switch {
	case len(f.riders) == 0 && linger <= 0:
		f.finish(why)
		return own
	case len(f.riders) == 0:
		var timer *time.Timer
		timer = time.AfterFunc(linger, func() {
			s.flights.mu.Lock()
			defer s.flights.mu.Unlock()
			if f.linger == timer { // else somebody came
				f.finish(why)
			}
		})
		f.linger = timer
	case b.relied == 0 && f.holder != b:
		f.withdraw(b, why)
		return own
	}
	if own && f.holder != b && !b.over && !r.until.IsZero() {
		b.limit = time.AfterFunc(time.Until(r.until), func() { b.end(context.DeadlineExceeded) })
	}
	return false
}

// delta takes a piece of the answer from below. Who speaks makes the call.
func (b *bid) delta(text string) error {
	f := b.flight
	f.mu.Lock()
	speaks := f.speaker == b
	f.mu.Unlock()
	if !speaks {
		if err := b.Starts(); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.speaker != b {
		f.speaker, f.text = b, nil
	}
	f.text = append(f.text, text...)
	if f.grew != nil {
		close(f.grew)
		f.grew = nil
	}
	return nil
}

// hush forgets what b said, for it has no answer, and returns it.
func (f *flight) hush(b *bid) (said []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.speaker == b {
		said = f.text
		f.speaker, f.text = nil, nil
	}
	return said
}

// since returns the text after the first seen bytes, and who says it; or what is
// closed when there is more.
func (f *flight) since(seen int) (text string, speaker *bid, grew <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if seen < len(f.text) {
		return string(f.text[seen:]), f.speaker, nil
	}
	if f.grew == nil {
		f.grew = make(chan struct{})
	}
	return "", f.speaker, f.grew
}

// follow waits for the answer of r and hands on the text as it comes, all that
// has come since the last call at once: a slow reader delays only itself. What
// was shown cannot be taken back: when another call answers in the end, nothing
// more is shown. The error is the caller's own: ctx is done, or OnDelta wants no
// more.
func (r *rider) follow(ctx context.Context) error {
	onDelta, f := r.req.OnDelta, r.flight
	var from *bid
	seen := 0
	for {
		select {
		case <-r.done:
			if r.err != nil {
				// What was said before it failed was said, however late it is heard.
				if onDelta != nil && seen < len(r.said) && (seen == 0 || from == r.bid) {
					return onDelta(string(r.said[seen:]))
				}
				return nil
			}
		default:
		}
		var grew <-chan struct{}
		if onDelta != nil {
			text, speaker, more := f.since(seen)
			if seen > 0 && speaker != from {
				onDelta = nil
				continue
			}
			if grew = more; text != "" {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := onDelta(text); err != nil {
					return err
				}
				seen, from = seen+len(text), speaker
				continue
			}
		}
		select {
		case <-grew:
		case <-r.done:
			if r.err != nil {
				continue
			}
			if onDelta == nil {
				return nil
			}
			if text, speaker, _ := f.since(seen); text == "" || seen > 0 && speaker != from {
				return nil
			}
		case <-ctx.Done():
			select {
			case <-r.done:
				return nil
			default:
				return context.Cause(ctx)
			}
		}
	}
}

// wait follows r's flight until r has its answer or leaves; why is nil in the
// first case. Ends is what leave says.
func (s *Stage) wait(ctx context.Context, r *rider) (ends bool, why error) {
	why = context.Canceled // should OnDelta panic
	defer func() { ends = s.leave(r, why) }()
	why = r.follow(ctx)
	return false, why
}

// parting is how long a request whose time is over, and with which its bid ends,
// waits for that end: it tells where the time went.
const parting = 10 * time.Millisecond

// span names the time that joiners, and those who leave, spent in a flight.
const span = "flight"

// ride waits for the answer of r.
func (s *Stage) ride(ctx context.Context, r *rider) (*core.Result, error) {
	began := time.Now()
	own, why := s.wait(ctx, r)
	landed := why == nil
	if own && !landed {
		landed = r.landsWithin(parting)
	}
	waited := time.Since(began)

	if trace := r.req.Trace; trace != nil {
		if landed && own {
			trace.Merge(r.bid.trace, waited)
		} else if landed && r.pays != nil {
			trace.Merge(r.pays.trace, waited)
			trace.Join(r.pays.trace)
		} else {
			trace.Elsewhere(span, waited)
			if r.bid != nil {
				trace.Join(r.bid.trace)
			}
			if landed && r.err != nil {
				trace.Failed(r.err) // counted where it arose
			}
		}
	}
	switch {
	case why != nil && landed && r.err != nil && r.err.Kind == core.KindOf(why):
		return nil, r.err // the same, and it says where
	case why != nil:
		return nil, core.AsError(why, s.name)
	case r.err != nil:
		return nil, r.err
	}
	return r.res, nil
}

func (r *rider) landsWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-r.done:
		return true
	case <-timer.C:
		return false
	}
}
