package shared

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

const (
	// shortly is how long a request waits for the store at the most.
	shortly = 10 * time.Millisecond
	// patience bounds everything that no request waits for.
	patience = 250 * time.Millisecond
	// tolerated is how many calls in a row may fail before the store counts as away.
	tolerated = 3
	// again is how often a store that is away is asked whether it is back.
	again = time.Second
	// atOnce is how many calls may be under way. A store that answers within a millisecond
	// needs a few.
	atOnce = 128
	// mostWaiting and mostBytes bound what waits to be written.
	mostWaiting = 512
	mostBytes   = 2 << 20
)

// Why a call of the store has no answer.
var (
	errAway   = errors.New("the shared store is away")
	errBusy   = errors.New("the shared store is too slow: too many calls of it are under way")
	errLate   = errors.New("the shared store did not answer in time")
	errNoTime = errors.New("there is no time to ask the shared store")
)

// A part is what a room is used for, which counts for itself what it costs: state, or answers.
type part struct {
	*room
	of string

	answered, failed, refused, dropped atomic.Int64
	spent                              atomic.Int64 // nanoseconds of all calls
}

// A room is one connection to a store, with its breaker.
type room struct {
	name, prefix string
	option       rueidis.ClientOption
	log          *zap.Logger

	client  atomic.Pointer[rueidis.Client]
	up      atomic.Bool   // the breaker is closed
	misses  atomic.Int32  // calls in a row that failed
	tripped chan struct{} // has an element when the breaker opened
	slots   chan struct{}
	scripts sync.Map // *core.Script -> *rueidis.Lua

	queue  chan write
	queued atomic.Int64 // bytes
	probes *part        // what counts the probes

	mu      sync.Mutex
	hears   map[*ear]struct{}
	said    string          // why it is away, as it was logged last
	odd     map[string]bool // errors about single keys that were logged
	closed  context.Context
	close   context.CancelFunc
	running sync.WaitGroup
	calling sync.WaitGroup // calls that may outlast their time
}

// serves returns the part of r that is called of.
func (r *room) serves(of string) *part {
	p := &part{room: r, of: of}
	if r.probes == nil {
		r.probes = p
	}
	return p
}

type write struct {
	part   *part
	script *core.Script
	key    string
	args   []string
	size   int64
}

type ear struct {
	topic string
	each  func(string)
}

func newRoom(name, prefix string, o rueidis.ClientOption, log *zap.Logger) *room {
	r := &room{
		name: name, prefix: prefix, option: o, log: log,
		tripped: make(chan struct{}, 1), slots: make(chan struct{}, atOnce), queue: make(chan write, mostWaiting),
		hears: map[*ear]struct{}{}, odd: map[string]bool{},
	}
	r.closed, r.close = context.WithCancel(context.Background())
	return r
}

// start connects, and goes on trying. It waits a moment for the first connection, so
// that a gateway that begins to serve knows the others.
func (r *room) start() {
	first := make(chan struct{})
	r.running.Go(func() { r.keep(first) })
	r.running.Go(r.write)
	r.running.Go(r.listen)
	select {
	case <-first:
	case <-time.After(2 * patience):
	}
}

// end closes the connection, after what waits to be written.
func (r *room) end() {
	deadline := time.Now().Add(patience)
	for r.up.Load() && len(r.queue) > 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	r.close()
	if c := r.client.Load(); c != nil {
		(*c).Close()
	}
	r.running.Wait()
	if c := r.client.Swap(nil); c != nil {
		(*c).Close() // one that was made meanwhile
	}
	r.calling.Wait()
}

// keep makes the connection, and asks a store that is away whether it is back.
func (r *room) keep(first chan struct{}) {
	for r.closed.Err() == nil {
		if !r.up.Load() {
			if err := r.revive(); err != nil {
				r.away(err)
			} else {
				r.back()
			}
			if first != nil {
				close(first)
				first = nil
			}
		}
		wait := again + rand.N(again/5)
		if r.up.Load() {
			wait = time.Hour
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.tripped:
			// Not at once: what answers one call of four is no use.
			pause := time.NewTimer(again + rand.N(again/5))
			select {
			case <-pause.C:
			case <-r.closed.Done():
			}
			pause.Stop()
		case <-r.closed.Done():
		}
		timer.Stop()
	}
}

// revive says whether the store answers as fast as requests need it, and takes writes.
func (r *room) revive() error {
	if r.client.Load() == nil {
		c, err := rueidis.NewClient(r.option)
		if c == nil || err != nil {
			if c != nil {
				c.Close()
			}
			return err
		}
		r.client.Store(&c)
		if r.closed.Err() != nil {
			return errAway
		}
	}
	bound := shortly
	if _, err := r.probes.call(context.Background(), patience, probe, "alive", "1"); err != nil {
		return err // the first one loads the script, or makes a new connection
	}
	_, err := r.probes.call(context.Background(), bound, probe, "alive", "1")
	return err
}

// probe writes, since a replica or a full store can be read.
var probe = &core.Script{Source: `redis.call('SET', KEYS[1], ARGV[2], 'PX', 60000) return {'ok'}`}

func (r *room) back() {
	r.misses.Store(0)
	r.up.Store(true)
	r.mu.Lock()
	said := r.said
	r.said = ""
	r.mu.Unlock()
	if said != "" {
		r.log.Info("the shared store is back", zap.String("for", r.name))
	}
}

// away opens the breaker. The same reason is said once.
func (r *room) away(err error) {
	r.up.Store(false)
	if r.closed.Err() != nil {
		return
	}
	why := explain(err)
	r.mu.Lock()
	said := r.said
	r.said = why
	r.mu.Unlock()
	if said == "" {
		r.log.Warn("the shared store is away; this gateway goes on by itself until it is back", zap.String("for", r.name), zap.String("why", why))
	} else if said != why {
		r.log.Warn("the shared store is still away", zap.String("for", r.name), zap.String("why", why))
	}
}

// explain says what err means for an operator, with what there is to do about it.
func explain(err error) string {
	if e, ok := rueidis.IsRedisErr(err); ok {
		message := e.Error()
		code, _, _ := strings.Cut(message, " ")
		if strings.Contains(message, "can't run this command") { // so Redis 7 says it of a script
			code = "NOPERM"
		}
		switch code {
		case "WRONGPASS", "NOAUTH":
			return "it refuses the user or the password of shared.url (" + code + ")"
		case "NOPERM":
			return "the user of shared.url may not do what is needed: give it +@read +@write +@scripting +@pubsub +@connection for the keys and channels that begin with shared.prefix (NOPERM)"
		case "READONLY":
			return "it is a replica, which takes no writes; name the primary in shared.url, or Sentinels (READONLY)"
		case "OOM":
			return "its memory is full and it may evict nothing; give it more, or the eviction policy volatile-lru (OOM)"
		case "MISCONF":
			return "it cannot save its data to disk and takes no writes; its own log says why (MISCONF)"
		case "LOADING":
			return "it is reading its data from disk (LOADING)"
		case "WRONGTYPE":
			return "another program keeps something else under our name; choose another shared.prefix (WRONGTYPE)"
		default:
			return fmt.Sprintf("it answers with an error: %.200s", message)
		}
	}
	switch {
	case errors.Is(err, rueidis.ErrClosing):
		return "it cannot be reached"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errLate):
		return "it does not answer in time"
	}
	return fmt.Sprintf("%.300s", err.Error())
}

func (r *room) Up() bool { return r.up.Load() }

func (p *part) Ask(ctx context.Context, script *core.Script, key string, args ...string) ([]string, error) {
	if !p.up.Load() {
		p.refused.Add(1)
		return nil, errAway
	}
	bound := shortly
	if deadline, limited := ctx.Deadline(); limited {
		bound = min(bound, time.Until(deadline)/10)
	}
	if bound < time.Millisecond {
		return nil, errNoTime
	}
	list, err := p.call(ctx, bound, script, key, args...)
	switch {
	case err == nil:
		p.misses.Store(0)
	case ctx.Err() != nil, bound < shortly && errors.Is(err, errLate): // that says nothing of the store
	default:
		p.fail(err, key)
	}
	return list, err
}

func (p *part) Run(ctx context.Context, script *core.Script, key string, args ...string) ([]string, error) {
	list, err := p.call(ctx, patience, script, key, args...)
	if err != nil && ctx.Err() == nil {
		p.fail(err, key)
	}
	return list, err
}

// fail counts a call that failed. One key that is not as it should be says nothing of the
// store.
func (r *room) fail(err error, key string) {
	if e, ok := rueidis.IsRedisErr(err); ok && (strings.HasPrefix(e.Error(), "WRONGTYPE") || strings.HasPrefix(e.Error(), "ERR") || strings.HasPrefix(e.Error(), "user_script")) {
		why := explain(err)
		r.mu.Lock()
		new := !r.odd[why] && len(r.odd) < 16
		if new {
			r.odd[why] = true
		}
		r.mu.Unlock()
		if new {
			r.log.Warn("a key of the shared store cannot be used; this gateway goes on without it", zap.String("key", r.prefix+":"+key), zap.String("why", why))
		}
		return
	}
	if r.misses.Add(1) >= tolerated && r.up.Load() {
		r.away(err)
		select {
		case r.tripped <- struct{}{}:
		default:
		}
	}
}

// call runs script, and returns within bound whatever the client does.
func (p *part) call(ctx context.Context, bound time.Duration, script *core.Script, key string, args ...string) ([]string, error) {
	client := p.client.Load()
	if client == nil {
		return nil, errAway
	}
	select {
	case p.slots <- struct{}{}:
	default:
		p.failed.Add(1)
		return nil, errBusy
	}
	type answer struct {
		list []string
		err  error
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, bound)
	answers := make(chan answer, 1)
	p.calling.Go(func() {
		defer cancel()
		defer func() { <-p.slots }()
		list, err := p.lua(script).Exec(ctx, *client, []string{p.prefix + ":" + key}, append([]string{p.channel()}, args...)).AsStrSlice()
		answers <- answer{list, err}
	})
	var a answer
	select {
	case a = <-answers:
	case <-ctx.Done():
		select {
		case a = <-answers:
		default:
			a.err = errLate
		}
	}
	p.spent.Add(int64(time.Since(began)))
	if a.err != nil {
		p.failed.Add(1)
		if errors.Is(a.err, context.DeadlineExceeded) {
			a.err = errLate
		}
		return nil, a.err
	}
	p.answered.Add(1)
	return a.list, nil
}

func (r *room) lua(script *core.Script) *rueidis.Lua {
	if known, ok := r.scripts.Load(script); ok {
		return known.(*rueidis.Lua)
	}
	made, _ := r.scripts.LoadOrStore(script, rueidis.NewLuaScript(script.Source))
	return made.(*rueidis.Lua)
}

func (r *room) channel() string { return r.prefix + ":news" }

func (p *part) Later(script *core.Script, key string, args ...string) {
	w := write{part: p, script: script, key: key, args: args}
	for _, a := range args {
		w.size += int64(len(a))
	}
	if !p.up.Load() {
		p.dropped.Add(1)
		return
	}
	if p.queued.Add(w.size) <= mostBytes {
		select {
		case p.queue <- w:
			return
		default:
		}
	}
	p.queued.Add(-w.size)
	p.dropped.Add(1)
}

// write does what Later was told, one after the other.
func (r *room) write() {
	for {
		select {
		case <-r.closed.Done():
			return
		case w := <-r.queue:
			if !r.up.Load() {
				w.part.dropped.Add(1)
			} else if _, err := w.part.Run(r.closed, w.script, w.key, w.args...); err != nil {
				w.part.dropped.Add(1)
			}
			r.queued.Add(-w.size)
		}
	}
}

func (r *room) Hear(topic string, each func(string)) (forget func()) {
	e := &ear{topic, each}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hears[e] = struct{}{}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.hears, e)
	}
}

// listen hears what the group publishes, for as long as there is a connection.
func (r *room) listen() {
	for r.closed.Err() == nil {
		if client := r.client.Load(); client != nil && r.up.Load() {
			c := *client
			// It ends with the connection; when it did, some was missed.
			_ = c.Receive(r.closed, c.B().Subscribe().Channel(r.channel()).Build(), r.heard)
		}
		timer := time.NewTimer(50*time.Millisecond + rand.N(100*time.Millisecond))
		select {
		case <-timer.C:
		case <-r.closed.Done():
		}
		timer.Stop()
	}
}

func (r *room) heard(m rueidis.PubSubMessage) {
	topic, message, ok := strings.Cut(m.Message, " ")
	if !ok {
		return
	}
	r.mu.Lock()
	var all []*ear
	for e := range r.hears {
		if e.topic == topic {
			all = append(all, e)
		}
	}
	r.mu.Unlock()
	for _, e := range all {
		e.each(message)
	}
}
