// Package line is where requests wait for their turn upstream, and the only
// place where they do.
//
// A turn is taken from all gates of a request together: what was taken is given
// back when a later gate refuses. Gates are asked under the line's lock; nothing
// here does I/O, and nothing but the waiting goroutine itself waits. Gates are
// told apart by ==: they are pointers.
//
// # Who is next
//
// Lanes come first: final before partial before bulk, except that a lane which
// has somebody waiting gets at least one of every ten starts. Within a lane
// clients take turns, and within what a client has waiting there its sessions
// do: with C clients and S sessions of one of them each gets its share of the
// starts, whatever the others send, and however many sessions they open. Within a
// session and lane, who asked first starts first; a retry keeps its seniority.
//
// A gate's refusal holds those whom it is about (core.Scope): everybody, whoever
// goes to the same account, or the client. Nobody of them overtakes the one that
// was refused, so that a long text is not starved by short ones; all others are
// asked as if those did not wait.
//
// A newer revision takes the place of the one of the same segment and target
// that waits (superseded); an older one that comes late is superseded at once. A
// final is newer than a partial of the same revision, and never superseded.
//
// # Who need not wait
//
// The errors are *core.Error and name the gate that refused:
//
//	superseded         a newer revision took its place
//	overloaded         as many wait as may; a client with less waiting, or a
//	                   request of a higher lane of the same client, needed the
//	                   place; or the line is so long, or the next start so far
//	                   off, that the deadline would clearly pass
//	rate_limited       another gate than the line's owner is shut for longer than
//	                   the deadline allows; RetryAfter says how long
//	deadline_exceeded  the deadline passed, or less of it is left than attempts
//	                   clearly take
//	canceled           the client left
//
// "Clearly" is by what was seen in the last seconds of requests that are alike,
// half as much again, and one in ten such requests goes on regardless, so that a
// wrong estimate mends. How long attempts take is told by those of the same
// client and account, lane and class of length; nobody is refused for waiting
// while a turn is free.
package line

import (
	"context"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

const (
	// share is the number of consecutive starts of which every lane with
	// somebody waiting gets at least one.
	share = 10
	// due is how often a lane is passed over before it goes first. All other
	// lanes may be due at the same moment and only one goes at a time.
	due = share - (int(core.Lanes) - 1)
	// pause is the shortest refusal for which everybody is looked at who waits,
	// to fail those that it outlasts. For less than that it is not worth it.
	pause = 100 * time.Millisecond
	// unheard is when a gate is asked again that said "after the next Give"
	// while no turn of this line is out that could be given, or the gate is not
	// its own: after a reload another line may give what this one waits for.
	unheard = time.Second
)

// An Owner is a gate that keeps the line: what waits at several gates waits in
// the line of one. All else that a line asks of a gate is in core, beside Gate.
type Owner interface{ Line() *Line }

// A Line is where requests wait. It is safe for concurrent use, starts no
// goroutine, and remembers nothing of a client that has nothing waiting, except
// how long its last calls took.
type Line struct {
	mu       sync.Mutex
	most     int // may wait
	waiting  int
	out      int           // turns held
	running  time.Duration // how long the calls of these take, as far as that is known
	lanes    [core.Lanes]lane
	clients  map[string]*client
	weights  weights
	segments map[segment]*list[*waiter]
	tracks   []*track
	timer    *time.Timer
	rings    time.Time // when timer does; zero when it is not set

	busy    time.Time // since when the line has been waiting for its next start
	paces   paces
	took    *history
	excuses int
	count   counters
}

type lane struct {
	ring     list[*row] // of clients; the front is next
	sessions map[session]*queue
	waiting  int
	takes    time.Duration // how long their calls take, as far as that is known
	passed   int           // starts of other lanes since this one had its last
}

// A client is one that has something waiting.
type client struct {
	name      string
	waiting   int
	rows      [core.Lanes]row
	inWeights node[*client]
}

// A row is what a client has waiting in one lane.
type row struct {
	of       *client
	ring     list[*queue]  // of sessions; the front is next
	arrivals list[*waiter] // the back is the youngest
	inRing   node[*row]
}

// session is the unit of fairness within what a client has waiting in a lane.
// What waits for one account is not held up by what waits for another.
type session struct{ client, name, account string }

// segment is what revisions replace each other in.
type segment struct {
	client, session, name string
	target                core.Language
}

// A queue is what a session has waiting in one lane: the front is next.
type queue struct {
	key     session
	row     *row
	waiters list[*waiter]
	inRing  node[*queue]
}

type waiter struct {
	Turn
	track    *track
	queue    *queue
	segment  segment
	deadline time.Time     // zero for none
	likely   time.Duration // how long such calls take; 0 when that is not known
	excused  bool

	before      []time.Duration // what track had waited when this one came
	beforePaced time.Duration
	room        [4]time.Duration

	inQueue, inRow, inSegment node[*waiter]

	ready chan struct{} // closed when over is set
	over  bool
	err   *core.Error
}

// New returns a line in which at most maxWaiting requests wait; with 0 nobody
// does.
func New(maxWaiting int) *Line {
	l := &Line{most: maxWaiting, clients: map[string]*client{}, segments: map[segment]*list[*waiter]{}, took: newHistory()}
	for i := range l.lanes {
		l.lanes[i].sessions = map[session]*queue{}
	}
	return l
}

// SetMaxWaiting changes how many may wait. Those that wait already stay.
func (l *Line) SetMaxWaiting(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = n
}

// Waiting returns how many wait.
func (l *Line) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}

// Wake asks the gates again. It is for a gate that opened by itself, such as
// one whose limits were raised.
func (l *Line) Wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open(time.Time{})
	l.dispatch(time.Now())
}

// How says how a turn is asked for.
type How struct {
	// Since is when the request first asked; a retry keeps its seniority by
	// it. Zero is now.
	Since time.Time
	// Now asks for a turn that is free at once, while nobody waits; else the
	// error is overloaded.
	Now bool
}

// Turn waits until every one of gates has taken req, and returns the turn. It
// returns early with an error (see the package's doc) when ctx is done or
// waiting is of no use. The turn belongs to the caller, who gives it back once.
func (l *Line) Turn(ctx context.Context, req *core.Request, gates []core.Guard, how How) (*Turn, error) {
	if ctx.Err() != nil {
		return nil, core.ContextError(ctx, nameOf(gates, 0))
	}
	deadline, _ := ctx.Deadline()
	w, turn, err := l.ask(req, gates, how, deadline)
	if err != nil {
		return nil, err
	}
	if turn != nil {
		return turn, nil
	}
	select {
	case <-w.ready:
	case <-ctx.Done():
		l.leave(ctx, w)
	}
	if w.err != nil {
		return nil, w.err
	}
	return &w.Turn, nil
}

// ask returns a turn that was free, an error, or the waiter that will get one
// of both.
func (l *Line) ask(req *core.Request, gates []core.Guard, how How, deadline time.Time) (*waiter, *Turn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	since := how.Since
	if since.IsZero() {
		since = now
	}

	t := Turn{line: l, req: req, gates: gates, lane: laneOf(req), since: since}
	excused := false
	if l.free(req, gates) {
		var err *core.Error
		if excused, err = l.tooShort(&t, nameOf(gates, 0), deadline, now); err != nil {
			return nil, nil, err
		}
		if by, _ := take(req, gates, now); by < 0 {
			if err := t.board(now); err != nil {
				return nil, nil, err
			}
			turn := t
			l.begin(&turn, now)
			return nil, &turn, nil
		}
	}
	if how.Now {
		l.count.refused[busyNow]++
		return nil, nil, &core.Error{Kind: core.Overloaded, Stage: nameOf(gates, 0), Detail: "no turn is free at this moment", Retryable: true}
	}

	t.asked = now
	w := &waiter{Turn: t, deadline: deadline, excused: excused, ready: make(chan struct{})}
	if err := l.admit(w, now); err != nil {
		return nil, nil, err
	}
	if t := w.track; t.closed {
		if l.next(t) == w {
			t.closed = false // it may need less than the one that was refused
		} else if !t.until.IsZero() && w.tooLateAt(t.until) {
			l.fail(w, l.shut(t, now), paused, now)
		}
	}
	l.dispatch(now)
	return w, nil, nil
}

// free says whether nobody waits whom req could overtake: nobody at all, or only
// such as a gate refused for reasons that do not concern req.
func (l *Line) free(req *core.Request, gates []core.Guard) bool {
	for _, t := range l.tracks {
		if !t.closed || t.holds(gates, req.Account, req.Client) {
			return false
		}
	}
	return true
}

// join lets w wait: before mark in the queue of its session, or by seniority
// when mark is nil.
func (l *Line) join(w *waiter, mark *node[*waiter], now time.Time) {
	if l.waiting == 0 {
		l.busy = now
	}
	l.waiting++

	w.track = l.trackFor(w.req, w.gates, now)
	w.track.tally(now)
	w.track.waiting++
	w.before = append(w.room[:0], w.track.waited...)
	w.beforePaced = w.track.paced

	l.enter(w, mark, now)
	if w.segment.name != "" {
		rivals := l.segments[w.segment]
		if rivals == nil {
			rivals = &list[*waiter]{}
			l.segments[w.segment] = rivals
		}
		w.inSegment.of = w
		rivals.pushBack(&w.inSegment)
	}
}

// enter puts w in its place among those of its lane, client and session.
func (l *Line) enter(w *waiter, mark *node[*waiter], now time.Time) {
	ln := &l.lanes[w.lane]
	ln.waiting++
	w.likely = l.took.everybody(w.req, w.lane, now)
	ln.takes += w.likely

	c := l.clients[w.req.Client]
	if c == nil {
		c = newClient(w.req.Client)
		l.clients[c.name] = c
	}
	l.weights.add(c, 1)

	r := &c.rows[w.lane]
	if r.arrivals.n == 0 {
		ln.ring.pushBack(&r.inRing)
	}
	w.inRow.of = w
	r.arrivals.pushBack(&w.inRow)

	key := sessionOf(w.req)
	q := ln.sessions[key]
	if q == nil {
		q = &queue{key: key, row: r}
		q.inRing.of = q
		ln.sessions[key] = q
		r.ring.pushBack(&q.inRing)
	}
	w.queue, w.inQueue.of = q, w
	if b := q.waiters.back; mark == nil && b != nil && b.of.since.After(w.since) {
		for mark = q.waiters.front; !mark.of.since.After(w.since); {
			mark = mark.next
		}
	}
	q.waiters.insertBefore(mark, &w.inQueue)
}

// exit undoes enter.
func (l *Line) exit(w *waiter) {
	ln, q := &l.lanes[w.lane], w.queue
	ln.takes -= w.likely
	if ln.waiting--; ln.waiting == 0 {
		ln.passed = 0
	}
	r := q.row
	q.waiters.remove(&w.inQueue)
	if q.waiters.n == 0 {
		r.ring.remove(&q.inRing)
		delete(ln.sessions, q.key)
	}
	r.arrivals.remove(&w.inRow)
	if r.arrivals.n == 0 {
		ln.ring.remove(&r.inRing)
	}
	l.weights.add(r.of, -1)
	if r.of.waiting == 0 {
		delete(l.clients, r.of.name)
	}
}

// settle takes w out of the line, with a turn when err is nil, and wakes it.
func (l *Line) settle(w *waiter, err *core.Error, now time.Time) {
	l.waiting--

	t := w.track
	t.tally(now)
	for i, d := range t.waited {
		if d -= w.before[i]; d > 0 {
			w.waits = append(w.waits, core.Span{Name: w.gates[i].Name, Self: d})
		}
	}
	w.paced = t.paced - w.beforePaced
	if t.asked == w {
		t.asked, t.closed = nil, false
	}
	if t.waiting--; t.waiting == 0 {
		l.drop(t)
	}

	l.exit(w)
	if w.segment.name != "" {
		rivals := l.segments[w.segment]
		if rivals.remove(&w.inSegment); rivals.n == 0 {
			delete(l.segments, w.segment)
		}
	}

	l.count.waited += now.Sub(w.asked)
	w.over, w.err = true, err
	close(w.ready)
}

func (l *Line) fail(w *waiter, err *core.Error, why reason, now time.Time) {
	l.count.refused[why]++
	l.settle(w, err, now)
}

// leave is for a waiter whose ctx is done.
func (l *Line) leave(ctx context.Context, w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.over {
		if w.err == nil {
			w.err = core.ContextError(ctx, nameOf(w.gates, 0))
			w.give(core.Outcome{Unused: true})
		}
		return
	}
	now := time.Now()
	err := core.ContextError(ctx, w.track.name())
	why := left
	if err.Kind == core.DeadlineExceeded {
		why = expired
	}
	first := w.track.asked == w
	l.fail(w, err, why, now)
	if first {
		l.dispatch(now)
	}
}

func (w *waiter) tooLateAt(t time.Time) bool { return !w.deadline.IsZero() && w.deadline.Before(t) }

func sessionOf(req *core.Request) session { return session{req.Client, req.Session, req.Account} }

func laneOf(req *core.Request) core.Lane { return min(req.Lane, core.LaneBulk) }

func nameOf(gates []core.Guard, i int) string {
	if i < len(gates) {
		return gates[i].Name
	}
	return "line"
}
