package host

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/status"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// A Phase is what a plugin is doing.
type Phase string

const (
	Starting Phase = "starting" // its process was started and does not serve yet
	Ready    Phase = "ready"
	Degraded Phase = "degraded" // it serves, and did not answer when it was asked how it is
	Backoff  Phase = "backoff"  // it died and is started again soon
	Failed   Phase = "failed"   // it died too often
	Stopped  Phase = "stopped"
)

var phases = []Phase{Starting, Ready, Degraded, Backoff, Failed, Stopped}

const (
	healthEvery   = time.Second
	healthTimeout = 2 * time.Second
	healthMisses  = 3 // in a row, and it is started anew

	configureTimeout = 10 * time.Second
	drainTimeout     = 10 * time.Second // that calls may take to end before it is stopped
	releaseTimeout   = 2 * time.Second

	// A plugin that dies so often within the window is given up. The first
	// restart comes at once; the pause before the next ones doubles. One that has
	// served for long enough begins anew: a text that kills it now and then, or
	// whoever kills it from outside, does not take it away for good.
	proven       = time.Second
	maxDeaths    = 8
	deathWindow  = 2 * time.Minute
	firstBackoff = 200 * time.Millisecond
	mostBackoff  = 10 * time.Second

	// A plugin that goes beyond max_memory so soon after its start needs more
	// than it may have, and starting it anew mends nothing. That counts like a
	// death, and when it has not even been called, like several.
	grown      = 10 * time.Second
	idleWeight = 3
)

// A plugin is one program that is kept running, with its instances.
type plugin struct {
	host    *Host
	id      string // guarded by Host.mu
	program *Program
	folder  string
	log     *zap.Logger
	out     *output

	stop     context.CancelFunc
	done     chan struct{}   // closed when the goroutine that keeps it running has ended
	restarts chan chan error // who wants another process, and hears what came of it
	retiring sync.WaitGroup  // processes that another has replaced

	// configuring is held while instances are configured, and while a process
	// becomes the current one, so that each instance is configured in it.
	configuring sync.Mutex

	mu        sync.Mutex
	state     Phase
	why       error         // of degraded, backoff and failed
	current   *running      // what serves; nil in all states but ready and degraded
	hopeful   bool          // it served, and is to do so again soon: worth a moment of waiting
	until     time.Time     // when it may serve again, as far as one can tell
	took      time.Duration // from a start to serving, the last time
	instances map[string]*instance
	changed   chan struct{} // closed when state or current changes
	version   version       // of current, or of what is to be
	starts    int64         // that have failed or not
	failures  int64         // starts that failed
	failure   error         // of the last of them
	memory    int64
}

// newPlugin returns a plugin that runs what the first of its instances names.
func newPlugin(h *Host, made version, first *instance) *plugin {
	log := first.env.Log
	return &plugin{
		host: h, id: made.identity, version: made, restarts: make(chan chan error), program: first.program, folder: first.folder, log: log, out: &output{log: log},
		done: make(chan struct{}), changed: make(chan struct{}),
		state: Starting, until: time.Now().Add(startTimeout), instances: map[string]*instance{},
	}
}

// start keeps the plugin running until end.
func (p *plugin) start() {
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	go func() {
		defer close(p.done)
		defer p.retiring.Wait()
		p.keep(ctx)
	}()
}

// end stops the plugin and waits for its end.
func (p *plugin) end() {
	p.stop()
	<-p.done
}

func (p *plugin) set(s Phase, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.why = s, why
	p.hopeful = p.hopeful && s != Stopped && s != Failed
	p.tell()
}

// tell wakes who waits for a change. The caller holds mu.
func (p *plugin) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// keep starts the plugin again and again, until ctx is done or it was given up.
func (p *plugin) keep(ctx context.Context) {
	var died, grew deaths
	var asked chan error // by whom a start was asked for; nil for nobody
	for {
		why, served := p.once(ctx, asked)
		asked = nil
		if ctx.Err() != nil {
			p.set(Stopped, nil)
			return
		}
		now := time.Now()
		var pause time.Duration
		again := true
		over, heavy := errors.AsType[overweight](why)
		if heavy {
			again = grew.add(now, over.weight(served), served >= grown)
			if again {
				p.log.Warn("the plugin is started anew", zap.Error(why))
				continue
			}
			why = fmt.Errorf("it needs more memory than it may have: %w; raise max_memory", why)
		} else {
			pause, again = died.another(now, served)
		}
		if !again {
			p.set(Failed, why)
			p.log.Error("the plugin keeps failing and is given up; mend it, then restart it", zap.Duration("within", deathWindow), zap.Error(why))
			select {
			case asked = <-p.restarts:
				died, grew = nil, nil
				continue
			case <-ctx.Done():
			}
			p.set(Stopped, nil)
			return
		}
		p.mu.Lock()
		p.until = now.Add(pause + p.took*3/2)
		p.hopeful = p.hopeful && pause < moment/2
		p.mu.Unlock()
		p.set(Backoff, why)
		p.log.Warn(p.ending(why, served), zap.Duration("in", pause), zap.Error(why))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case asked = <-p.restarts:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// ending says what has happened to a plugin that is of no use any more for some
// reason: only what died is said to have died.
func (p *plugin) ending(why error, served time.Duration) string {
	_, died := errors.AsType[death](why)
	switch {
	case p.program.Address != "":
		return "the connection to the plugin is lost and made again"
	case died:
		return "the plugin died and is started again"
	case served == 0:
		return "the plugin does not start and is tried again"
	}
	return "the plugin is ended and started again"
}

// An overweight is why a process is ended that holds more than max_memory.
type overweight struct {
	held, most core.Size
	called     bool
}

func (o overweight) Error() string {
	when := ""
	if !o.called {
		when = " before its first call"
	}
	return fmt.Sprintf("it holds %s of memory%s, and max_memory is %s", o.held, when, o.most)
}

// weight is how many deaths o counts for.
func (o overweight) weight(served time.Duration) int {
	if !o.called && served < grown {
		return idleWeight
	}
	return 1
}

// roughly returns a number of bytes for people: rounded up to the next MiB, or
// exactly when it is less than that.
func roughly(bytes int64) core.Size {
	const unit = 1 << 20
	if bytes < unit {
		return core.Size(bytes)
	}
	return core.Size((bytes + unit - 1) / unit * unit)
}

// deaths are those within the window, oldest first.
type deaths []time.Time

// add notes n deaths, which are the first when the one before is forgotten, and
// says whether they are still few enough for another start.
func (d *deaths) add(now time.Time, n int, anew bool) (again bool) {
	for len(*d) > 0 && (anew || now.Sub((*d)[0]) > deathWindow) {
		*d = (*d)[1:]
	}
	for range n {
		*d = append(*d, now)
	}
	return len(*d) < maxDeaths
}

// another notes the death of a process that had served for so long, and says how
// long to wait before the next start, if there is to be one: not at all after the
// first, then doubling, with a fifth of jitter.
func (d *deaths) another(now time.Time, served time.Duration) (pause time.Duration, again bool) {
	if !d.add(now, 1, served >= proven) {
		return 0, false
	}
	n := len(*d)
	if n == 1 {
		return 0, true
	}
	pause = min(firstBackoff<<(n-2), mostBackoff)
	return pause - rand.N(pause/5), true
}

// once starts the plugin and stays with it until its end. Served is for how long
// it was of use. Asked hears what came of the start.
func (p *plugin) once(ctx context.Context, asked chan error) (why error, served time.Duration) {
	if ctx.Err() != nil {
		return context.Cause(ctx), 0
	}
	began := time.Now()
	p.mu.Lock()
	p.starts++
	p.until = began.Add(max(p.took*3/2, 50*time.Millisecond))
	p.mu.Unlock()
	p.set(Starting, nil)
	p.out.clear()
	r, err := p.launch(ctx)
	var refused error
	if err == nil {
		if refused, err = p.configure(ctx, r, began, false); err != nil {
			r.stop()
		}
	}
	if asked != nil {
		asked <- errors.Join(err, refused)
	}
	if err != nil {
		p.mu.Lock()
		p.failures++
		p.failure = err
		p.hopeful = false
		p.mu.Unlock()
		return err, 0
	}
	for next := r; next != nil; {
		ready := time.Now()
		if next != r {
			p.retire(r)
			r = next
		}
		p.log.Info("the plugin serves", zap.String("name", r.about.GetName()), zap.String("version", r.about.GetVersion()), zap.Int("pid", r.pid()), zap.Duration("after", time.Since(began)))
		why, next = p.watch(ctx, r)
		served, began = time.Since(ready), time.Now()
	}
	p.dismiss(r) // no call begins from here on
	if _, heavy := errors.AsType[overweight](why); heavy || ctx.Err() != nil {
		drain(r)
	}
	r.stop()
	return why, served
}

// dismiss keeps calls from r.
func (p *plugin) dismiss(r *running) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == r {
		p.current, p.hopeful = nil, true
		p.tell()
	}
}

// retire ends r, which another has replaced, once its calls have ended.
func (p *plugin) retire(r *running) {
	p.retiring.Go(func() {
		drain(r)
		r.stop()
	})
}

// replace starts another process beside r and lets it take over, or says why it
// cannot; then r serves on.
func (p *plugin) replace(ctx context.Context, r *running) (*running, error) {
	// Calls must not wait for the other one when r is gone meanwhile.
	over := make(chan struct{})
	var watching sync.WaitGroup
	defer watching.Wait()
	defer close(over)
	watching.Go(func() {
		select {
		case <-r.exited():
			p.dismiss(r)
		case <-over:
		}
	})
	began := time.Now()
	p.out.clear()
	next, err := p.launch(ctx)
	if err != nil {
		return nil, err
	}
	if refused, err := p.configure(ctx, next, began, true); err != nil || refused != nil {
		next.stop()
		return nil, errors.Join(err, refused)
	}
	p.mu.Lock()
	p.starts++
	p.mu.Unlock()
	return next, nil
}

// restart lets another process take over, which is started first, so that no call
// is lost, and returns when it serves. It revives a plugin that was given up.
func (p *plugin) restart(ctx context.Context) error {
	asked := make(chan error, 1)
	select {
	case p.restarts <- asked:
	case <-p.done:
		return errors.New("it was stopped meanwhile")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-asked:
		return err
	case <-p.done:
		return errors.New("it was stopped meanwhile")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// outdated says whether the files have changed since the process was started.
func (p *plugin) outdated() bool {
	p.mu.Lock()
	was := p.version
	p.mu.Unlock()
	now, other := p.program.since(p.folder, was)
	if !other && now.stamp != was.stamp {
		p.mu.Lock()
		if p.version == was {
			p.version = now // they were only touched: not to be summed again
		}
		p.mu.Unlock()
	}
	return other
}

func (p *plugin) launch(ctx context.Context) (*running, error) {
	sockets := ""
	if p.program.Address == "" {
		var err error
		if sockets, err = p.host.folder(p.log); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	known := p.version
	p.mu.Unlock()
	return launch(ctx, p.program, p.folder, sockets, &p.host.kin, p.out, true, known)
}

// configure configures every instance in r and makes r the current one. Refused
// says which configurations it does not take. When another serves, r does not take
// over with less than that one took.
func (p *plugin) configure(ctx context.Context, r *running, began time.Time, another bool) (refused, err error) {
	p.configuring.Lock()
	defer p.configuring.Unlock()
	p.mu.Lock()
	all := make(map[*instance]*setup, len(p.instances))
	for _, in := range p.instances {
		all[in] = nil
	}
	p.mu.Unlock()
	var said []error
	for in := range all {
		v, err := in.configure(ctx, r)
		if err != nil {
			return nil, err
		}
		all[in] = v
		if was := in.setup.Load(); v.refused != nil && !(another && (was == nil || was.refused != nil)) {
			said = append(said, v.refused)
		}
	}
	refused = errors.Join(said...)
	if another && refused != nil {
		return refused, nil
	}
	for in, v := range all {
		in.setup.Store(v)
	}
	p.mu.Lock()
	p.current, p.took, p.version = r, time.Since(began), r.version
	p.state, p.why = Ready, nil // at once: whoever sees the process sees it ready
	p.tell()
	p.mu.Unlock()
	p.host.rekey(p, r.version.identity)
	return refused, nil
}

// watch returns when r is of no use any more, and why, or when next has taken
// over.
func (p *plugin) watch(ctx context.Context, r *running) (why error, next *running) {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	if why := p.weigh(r); why != nil {
		return why, nil
	}
	unwell := false // it answers, and says so
	for misses := 0; ; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx), nil
		case <-r.exited():
			return death{fmt.Errorf("it ended: %s; %s", r.process.how(), p.out.tail())}, nil
		case why := <-r.lost:
			return why, nil
		case asked := <-p.restarts:
			next, err := p.replace(ctx, r)
			if err != nil {
				err = fmt.Errorf("the former process serves on: %w", err)
			}
			asked <- err
			if next != nil {
				return nil, next
			}
			continue
		case <-tick.C:
		}
		now := time.Now()
		p.out.settle(now)
		p.host.kin.tend(now)
		if why := p.weigh(r); why != nil {
			return why, nil
		}
		answered, err := p.ask(ctx, r)
		if ctx.Err() != nil {
			return context.Cause(ctx), nil // it was not given the time to answer
		}
		switch {
		case answered && err == nil && (misses > 0 || unwell):
			misses, unwell = 0, false
			p.set(Ready, nil)
			p.log.Info("the plugin answers again")
		case answered && err == nil:
		case answered:
			misses = 0
			p.set(Degraded, err)
			if !unwell {
				p.log.Warn("the plugin answers that it is not well", zap.Error(err))
			}
			unwell = true
		case r.process == nil && r.link.broken(r.link.ended()):
			return death{fmt.Errorf("its connection broke: %w", err)}, nil
		case misses+1 == healthMisses:
			return fmt.Errorf("it did not answer %d times in a row how it is: %w", healthMisses, err), nil
		default:
			misses++
			p.set(Degraded, err)
			p.log.Warn("the plugin does not answer how it is", zap.Int("times", misses), zap.Error(err))
		}
	}
}

// weigh notes the memory of r, and says that it is too much.
func (p *plugin) weigh(r *running) error {
	held := memory(r.pid())
	p.mu.Lock()
	p.memory = held
	p.mu.Unlock()
	if most := int64(p.program.MaxMemory); most > 0 && held > most {
		return overweight{roughly(held), p.program.MaxMemory, r.called.Load()}
	}
	return nil
}

// ask asks r how it is. Answered says that it did, though it may have been with a
// failure: then it lives, and to start it anew is not known to help.
func (p *plugin) ask(ctx context.Context, r *running) (answered bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	ended := r.link.ended()
	_, err = r.plugin.Health(ctx, &wire.Instance{})
	return err == nil || ctx.Err() == nil && !r.died(ended), spoken(err)
}

// drain waits for the calls in r, for a while.
func drain(r *running) {
	idle := make(chan struct{})
	go func() { r.calls.Wait(); close(idle) }()
	timer := time.NewTimer(drainTimeout)
	defer timer.Stop()
	select {
	case <-idle:
	case <-r.exited():
	case <-timer.C:
	}
	// Stopping r ends the calls that are left, and with them the goroutine.
}

// add makes in an instance. It is configured with the next start, or by settle.
func (p *plugin) add(in *instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instances[in.id] = in
}

// settle waits until in was configured or refused, or the plugin could not be
// started, and returns why in was refused, or an error of kind unavailable.
func (p *plugin) settle(ctx context.Context, in *instance) error {
	p.configuring.Lock()
	p.mu.Lock()
	r, failures := p.current, p.failures
	p.mu.Unlock()
	if r != nil && in.setup.Load() == nil {
		if v, err := in.configure(ctx, r); err != nil {
			r.drop(err)
		} else {
			in.setup.Store(v)
		}
	}
	p.configuring.Unlock()
	for {
		if setup := in.setup.Load(); setup != nil {
			return setup.refused
		}
		p.mu.Lock()
		failed, why, changed := p.failures > failures || p.state == Failed, p.failure, p.changed
		if p.state == Failed {
			why = p.why
		}
		p.mu.Unlock()
		if failed {
			return &core.Error{Kind: core.Unavailable, Detail: "the plugin does not start", Cause: why}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// remove forgets in, and says whether it was the last.
func (p *plugin) remove(in *instance) (last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.instances, in.id)
	return len(p.instances) == 0
}

// inform configures in anew in the process that serves, where it takes its own place
// without losing a call, until ctx is done. A process that is started later is configured
// so from the first.
func (p *plugin) inform(ctx context.Context, in *instance) {
	p.configuring.Lock()
	defer p.configuring.Unlock()
	p.mu.Lock()
	r := p.current
	p.mu.Unlock()
	was := in.setup.Load()
	if r == nil || was == nil || was.refused != nil {
		return
	}
	v, err := in.configure(ctx, r)
	if err == nil && v.refused == nil {
		in.setup.Store(v)
		return
	}
	if err == nil {
		err = v.refused
	}
	if ctx.Err() == nil {
		in.env.Log.Warn("the plugin does not take the longer deadline: its calls end as before", zap.Error(err))
	}
}

// release tells a plugin that goes on that in is not needed any more.
func (p *plugin) release(in *instance) {
	p.mu.Lock()
	r := p.current
	p.mu.Unlock()
	if r == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	if _, err := r.plugin.Release(ctx, &wire.Instance{Id: in.id}); err != nil {
		p.log.Warn("releasing an instance", zap.Error(spoken(err)))
	}
}

// A patience is how long a call waits for a plugin that is not there.
type patience int

const (
	// none is for who has somebody else to ask.
	none patience = iota
	// short is for who holds a turn: a moment at most, and only for a plugin that
	// has served and is about to again. That is no more than a new connection
	// costs elsewhere.
	short
	// long is for who holds none, and can do nothing without the plugin: as long
	// as it is being started, until it is overdue by a moment, or the deadline
	// comes.
	long
)

const moment = time.Second

// enter returns what serves, which is not stopped before leave is called. It
// waits for that as long as it may, and for another than dead.
func (p *plugin) enter(ctx context.Context, dead *running, most patience) (r *running, leave func(), err *core.Error) {
	var late *time.Timer
	came := time.Now()
	for {
		p.mu.Lock()
		if r := p.current; r != nil && r != dead {
			r.calls.Add(1)
			p.mu.Unlock()
			return r, r.calls.Done, nil
		}
		away, changed := p.away(), p.changed
		end, wait := p.worthwhile(ctx, most, came)
		p.mu.Unlock()
		left := time.Until(end)
		if !wait || left <= 0 {
			return nil, nil, away
		}
		if late == nil {
			late = time.NewTimer(left)
			defer late.Stop()
		} else {
			late.Reset(left)
		}
		select {
		case <-changed:
		case <-late.C:
			return nil, nil, away
		case <-ctx.Done():
			over := core.ContextError(ctx, "")
			if most == long && over.Kind == core.DeadlineExceeded {
				return nil, nil, away
			}
			return nil, nil, over
		}
	}
}

// worthwhile says whether a call that came at some time waits while nothing
// serves, and until when. The caller holds mu.
func (p *plugin) worthwhile(ctx context.Context, most patience, came time.Time) (until time.Time, wait bool) {
	if most != long {
		return came.Add(moment), most == short && (p.hopeful || p.current != nil)
	}
	if p.state == Failed || p.state == Stopped {
		return until, false
	}
	if until = p.until; until.Before(came) {
		until = came
	}
	until = until.Add(moment)
	if deadline, ok := ctx.Deadline(); ok {
		// A little is left, so that the caller hears why.
		last := deadline.Add(-min(deadline.Sub(came)/10, 100*time.Millisecond))
		if p.state == Backoff && p.until.After(last) {
			return until, false
		}
		if last.Before(until) {
			until = last
		}
	}
	return until, true
}

// away is the error of a call while nothing serves. The caller holds mu.
func (p *plugin) away() *core.Error {
	err := &core.Error{Kind: core.Unavailable, Detail: "the plugin is not there at the moment", Cause: p.why}
	switch p.state {
	case Failed:
		err.Detail = "the plugin keeps failing and was given up"
	case Stopped:
	default:
		err.Retryable, err.RetryAfter = true, max(time.Until(p.until), 20*time.Millisecond)
	}
	return err
}

// soon is how long until a plugin that has just died serves again, as far as one
// can tell.
func (p *plugin) soon() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.took*3/2, 20*time.Millisecond)
}

// spoken says a failure of gRPC without its frame.
func spoken(err error) error {
	if s, ok := status.FromError(err); ok && err != nil {
		return errors.New(clip(s.Message(), lastLine))
	}
	return err
}
