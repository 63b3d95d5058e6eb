package core

import (
	"iter"
	"sync"
	"time"
)

// A Trace collects what happened to one request on its way: the time that each
// stage took by itself, how deep the request went, and how many attempts it took. It
// has one owner at a time and no lock: work that may outlive the request, or
// runs beside it (a flight, an attempt), gets a trace of its own by Fork and is
// merged when it has ended. Once Translate has returned, the trace is its caller's
// again, who may use it for another request.
type Trace struct {
	// Attempts is how many calls of providers were made.
	Attempts int
	// Attempt is why the attempt was made that this trace is of: first, retry,
	// hedge or fallback. It is empty in the trace of a request.
	Attempt string
	// Joined says that it joined the flight of another request.
	Joined  bool
	deepest int32
	// Paced is the time spent waiting for the interval between two starts
	// alone, part of what the gates took.
	Paced time.Duration
	// Waited is the time spent waiting for the gates.
	Waited time.Duration

	spans   []Span
	room    [8]Span // spans' first backing, so that a trace is one allocation
	below   time.Duration
	entered time.Duration // when Begin was called last, since epoch
	failed  *Error
	owner   Pinner
	made    *Attempted // the first

	// Of a request in a distributed trace.
	traced, joined *Traced
	steps          []Step
}

// A Span is the time that one stage took by itself.
type Span struct {
	Name string
	Self time.Duration
}

// An Attempted is what became of one attempt. It holds no text.
type Attempted struct {
	// Provider is the place of the provider that was called: the name of its entry, of one with
	// several accounts that of the account.
	Provider string
	// Why is why it was made, as in Trace.Attempt.
	Why   string
	Start time.Time
	Took  time.Duration
	// Spoke is the time from Start to the first piece of an answer that came in pieces; 0
	// when none came.
	Spoke time.Duration
	// Lost says that another attempt was faster: this one was called off.
	Lost bool
	// Shared says that the call was made for another text of the same client, which is told
	// of it too, and carried this one along.
	Shared bool
	Err    *Error // nil after an answer
	Model  string
	Finish Finish
	Usage  Usage

	next *Attempted
}

// A Pinner keeps a generation from being closed until unpin is called.
type Pinner interface{ Pin() (unpin func()) }

// NewTrace returns the trace of a request that is served by owner; owner may be
// nil.
func NewTrace(owner Pinner) *Trace { return &Trace{owner: owner} }

// Traces hands out traces, and takes back what nobody reads any more: making one anew
// is a fifth of what a cache hit costs. The zero value is ready; it is safe for concurrent use.
type Traces struct{ free sync.Pool }

// Take returns an empty trace.
func (t *Traces) Take() *Trace {
	if trace, ok := t.free.Get().(*Trace); ok {
		return trace
	}
	return new(Trace)
}

// Return takes trace back. Its request has been answered, and whatever ran beside it
// had a trace of its own by Fork.
func (t *Traces) Return(trace *Trace) {
	*trace = Trace{}
	t.free.Put(trace)
}

// SetOwner says which generation serves the request.
func (t *Trace) SetOwner(p Pinner) { t.owner = p }

// Fork returns a trace for work that may outlive the request or runs beside it.
// Until done is called its generation stays open; done may be called from any
// goroutine, once.
func (t *Trace) Fork() (fork *Trace, done func()) {
	fork = &Trace{owner: t.owner, deepest: t.deepest, traced: t.traced}
	if t.owner == nil {
		return fork, func() {}
	}
	return fork, t.owner.Pin()
}

// Merge adds what fork saw, once the work on fork has ended. Waited is how long
// the stage that calls Merge waited for it: it counts as time below that stage.
func (t *Trace) Merge(fork *Trace, waited time.Duration) {
	t.Attempts += fork.Attempts
	t.Paced += fork.Paced
	t.Waited += fork.Waited
	for _, s := range fork.spans {
		t.Add(s.Name, s.Self)
	}
	t.below += waited
	t.Made(fork.made)
	t.steps = append(t.steps, fork.steps...)
	t.deepest = max(t.deepest, fork.deepest)
	t.failed = fork.failed
}

// Add notes that name took d by itself, and moves that time out of the stage
// that is running.
func (t *Trace) Add(name string, d time.Duration) {
	for i := range t.spans {
		if t.spans[i].Name == name {
			t.spans[i].Self += d
			return
		}
	}
	if t.spans == nil {
		t.spans = t.room[:0]
	}
	t.spans = append(t.spans, Span{name, d})
}

// Elsewhere notes time that the stage now running spent on behalf of name, such
// as the wait for a gate.
func (t *Trace) Elsewhere(name string, d time.Duration) {
	t.Add(name, d)
	t.below += d
}

// Made notes attempts of this request, all that hang on a.
func (t *Trace) Made(a *Attempted) {
	at := &t.made
	for *at != nil {
		at = &(*at).next
	}
	*at = a
}

// Before puts a before next, and returns it.
func (a *Attempted) Before(next *Attempted) *Attempted {
	a.next = next
	return a
}

// AttemptsMade are the attempts that were made, in the order in which they began. Those
// of another request's call, in whose flight this one sat, are not among them.
func (t *Trace) AttemptsMade() iter.Seq[*Attempted] {
	return func(yield func(*Attempted) bool) {
		for a := t.made; a != nil && yield(a); a = a.next {
		}
	}
}

// Spans returns the time each stage took by itself, in the order in which they
// ended. It is valid until the trace is used again.
func (t *Trace) Spans() []Span { return t.spans }

// A Mark is where a stage began; see Begin.
type Mark struct {
	start time.Duration
	below time.Duration
}

// epoch makes time.Since read the monotonic clock alone, which is half the
// price of time.Now.
var epoch = time.Now()

// Clock is the monotonic clock: the time since this process began to keep it.
func Clock() time.Duration { return time.Since(epoch) }

// Entered is what Clock said when the request entered the stage that it entered last:
// for that stage the time is known without asking again. It asks for a trace that has
// entered none, or is nil.
func (t *Trace) Entered() time.Duration {
	if t == nil || t.deepest == 0 {
		return Clock()
	}
	return t.entered
}

// Begin notes that the request entered the stage at place, counted from 1 at
// the top. It is called by what links a chain, not by stages.
func (t *Trace) Begin(place int) Mark {
	m := Mark{start: time.Since(epoch), below: t.below}
	t.entered = m.start
	t.below = 0
	t.deepest = max(t.deepest, int32(place))
	return m
}

// End notes that the request left the stage that Begin noted, and returns the
// time since then and the part of it that the stage took by itself.
func (t *Trace) End(m Mark, name string) (total, self time.Duration) {
	total = time.Since(epoch) - m.start
	self = max(total-t.below, 0)
	t.below = m.below + total
	t.Add(name, self)
	if t.traced != nil && t.traced.Detail {
		t.steps = append(t.steps, Step{name, epoch.Add(m.start), total, t.traced.Context})
	}
	return total, self
}

// Deepest returns the lowest place that the request reached.
func (t *Trace) Deepest() int { return int(t.deepest) }

// Failed notes err as the failure that is on its way up, and says whether it
// was so before: then the caller only passes it on.
func (t *Trace) Failed(err *Error) (passedOn bool) {
	passedOn = t.failed == err
	t.failed = err
	return passedOn
}
