package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

const (
	// leading is how long the others wait for one gateway that calls upstream, unless it
	// says that it still does. It says so first after stillLeading, and then by and by less
	// often, for up to longestLead: a text may wait in the line for long.
	leading, stillLeading, longestLead = time.Second, 600 * time.Millisecond, 5 * time.Second
	// soonest and latest are how long a gateway that waits for another asks again whether
	// it may call itself, should it not hear of the answer.
	soonest, latest = 20 * time.Millisecond, 160 * time.Millisecond
	// longestFollow bounds how long it waits for others altogether.
	longestFollow = 10 * time.Second
	// largestShared is the longest answer, with its key, that is shared, in bytes.
	largestShared = 256 << 10
)

// find returns an answer and for how many ms more it lies there; or else says who calls upstream.
var find = &core.Script{Source: `
local v = redis.call('GET', KEYS[1])
if v then return {'found', v, tostring(redis.call('PTTL', KEYS[1]))} end
local lock = KEYS[1] .. ':lead'
if redis.call('SET', lock, ARGV[2], 'NX', 'PX', ARGV[3]) or redis.call('GET', lock) == ARGV[2] then return {'lead'} end
return {'follow'}`}

// store keeps an answer, and tells those who wait for it.
var store = &core.Script{Source: `
local is = redis.call('TYPE', KEYS[1]).ok
if is ~= 'string' and is ~= 'none' then return {} end
redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5])
local lock = KEYS[1] .. ':lead'
if redis.call('GET', lock) == ARGV[2] then redis.call('DEL', lock) end
redis.call('PUBLISH', ARGV[1], 'answer ' .. ARGV[3])
return {}`}

// yield is for who has called upstream and has nothing for the others.
var yield = &core.Script{Source: `
local lock = KEYS[1] .. ':lead'
if redis.call('GET', lock) == ARGV[2] then
  redis.call('DEL', lock)
  redis.call('PUBLISH', ARGV[1], 'answer ' .. ARGV[3])
end
return {}`}

// still is for who calls upstream for longer than the others would wait.
var still = &core.Script{Source: `
local lock = KEYS[1] .. ':lead'
if redis.call('GET', lock) == ARGV[2] then redis.call('PEXPIRE', lock, ARGV[3]) end
return {}`}

// A common memory is what the gateways of a group remember together, below the memory of each.
type common struct {
	shared core.Shared
	room   core.Room
	log    *zap.Logger
	forget func()

	mu    sync.Mutex
	waits map[string][]chan struct{} // by name: who follows another gateway's call

	hits, misses, follows, unread atomic.Int64
	said                          sync.Once
}

func newCommon(shared core.Shared, log *zap.Logger) *common {
	return &common{shared: shared, room: shared.Answers(), log: log, waits: map[string][]chan struct{}{}}
}

func (c *common) start() { c.forget = c.room.Hear("answer", c.heard) }

func (c *common) close() {
	if c.forget != nil {
		c.forget()
	}
}

// heard wakes those who wait for the answer that is called name.
func (c *common) heard(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, wake := range c.waits[name] {
		close(wake)
	}
	delete(c.waits, name)
}

func (c *common) wait(name string) chan struct{} {
	wake := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits[name] = append(c.waits[name], wake)
	return wake
}

func (c *common) unwait(name string, wake chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.waits[name]
	for i, w := range all {
		if w == wake {
			all[i] = all[len(all)-1]
			c.waits[name] = all[:len(all)-1]
		}
	}
	if len(c.waits[name]) == 0 {
		delete(c.waits, name)
	}
}

// shelf is where the answer for a key lies.
func shelf(name string) string { return "answer:{" + name + "}" }

// A finding is what the group said to a miss.
type finding int

const (
	alone   finding = iota // nothing: the answer is this gateway's, and the group's as well
	leads                  // the others wait for this gateway, for keep or done
	foreign                // there is something that must stay as it is
)

// fetch returns what the group has for key, made at most ttl ago. Without that the caller
// goes upstream. It returns soon after ctx is done.
func (c *common) fetch(ctx context.Context, key string, ttl time.Duration) (*entry, finding) {
	name := c.shared.Name(key)
	until := time.Now().Add(longestFollow)
	if deadline, limited := ctx.Deadline(); limited {
		// Half of what is left is for a call of its own.
		if half := time.Now().Add(time.Until(deadline) / 2); half.Before(until) {
			until = half
		}
	}
	again := soonest
	for followed := false; ; followed = true {
		wake := c.wait(name) // before it is asked, so that no answer comes in between
		list, err := c.room.Ask(ctx, find, shelf(name), c.shared.Self(), strconv.FormatInt(leading.Milliseconds(), 10))
		state := ""
		if err == nil && len(list) > 0 {
			state = list[0]
		}
		if state == "found" && len(list) == 3 {
			c.unwait(name, wake)
			e, err := c.read(name, key, list[1], list[2], ttl)
			if err == nil {
				c.hits.Add(1)
				return e, alone
			}
			c.misses.Add(1)
			if err == errOld {
				return nil, alone
			}
			c.unread.Add(1)
			return nil, foreign
		}
		if state != "follow" || time.Now().After(until) {
			c.unwait(name, wake)
			c.misses.Add(1)
			if state == "lead" {
				return nil, leads
			}
			return nil, alone
		}
		if !followed {
			c.follows.Add(1)
		}
		timer := time.NewTimer(again + rand.N(again/2))
		select {
		case <-wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		c.unwait(name, wake)
		if ctx.Err() != nil {
			return nil, alone
		}
		again = min(2*again, latest)
	}
}

// lead says to the others, as long as the call runs, that it does.
func (c *common) lead(key string) (over func()) {
	name := c.shared.Name(key)
	done := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		next := stillLeading
		timer := time.NewTimer(next)
		defer timer.Stop()
		for {
			select {
			case <-done:
				return
			case <-timer.C:
				next = min(2*next, longestLead/2)
				c.room.Later(still, shelf(name), c.shared.Self(), strconv.FormatInt((2*next).Milliseconds(), 10))
				timer.Reset(next)
			}
		}
	})
	return func() { close(done); telling.Wait() }
}

// keep gives the group an answer, unless it is too long.
func (c *common) keep(key string, res *core.Result, ttl time.Duration) bool {
	name := c.shared.Name(key)
	if len(key)+len(res.Text) > largestShared {
		return false
	}
	value := c.shared.Seal(shelf(name), encode(key, res, ttl))
	c.room.Later(store, shelf(name), c.shared.Self(), name, string(value), strconv.FormatInt(ttl.Milliseconds(), 10))
	return true
}

// done says that there is nothing for the others.
func (c *common) done(key string) {
	name := c.shared.Name(key)
	c.room.Later(yield, shelf(name), c.shared.Self(), name)
}

// valueVersion is what the values that this program writes begin with.
const valueVersion = 1

var (
	errValue = errors.New("another program or a later version wrote it, or it is for another text")
	errOld   = errors.New("it is older than the ttl of this gateway allows")
)

// encode writes an answer: what its key is, how long it was to last when it was made, and it.
func encode(key string, res *core.Result, ttl time.Duration) []byte {
	b := []byte{valueVersion}
	b = binary.AppendUvarint(b, uint64(ttl.Milliseconds()))
	for _, part := range []string{key, string(res.Source), res.Provider, res.Model, string(res.Finish), res.Text} {
		b = appendPart(b, part)
	}
	return b
}

// decode reads what encode wrote, if it is for key.
func decode(b []byte, key string) (res *core.Result, ttl time.Duration, err error) {
	if len(b) == 0 || b[0] != valueVersion {
		return nil, 0, errValue
	}
	ms, n := binary.Uvarint(b[1:])
	if n <= 0 || ms > uint64((1<<62)/int64(time.Millisecond)) {
		return nil, 0, errValue
	}
	b = b[1+n:]
	var parts [6]string
	for i := range parts {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, 0, errValue
		}
		parts[i], b = string(b[n:n+int(size)]), b[n+int(size):]
	}
	if len(b) > 0 || parts[0] != key {
		return nil, 0, errValue
	}
	return &core.Result{Source: core.Language(parts[1]), Provider: parts[2], Model: parts[3], Finish: core.Finish(parts[4]), Text: parts[5]}, time.Duration(ms) * time.Millisecond, nil
}

// read returns the entry that a value is, with the age that it has.
func (c *common) read(name, key, value, left string, ttl time.Duration) (*entry, error) {
	var res *core.Result
	var lasts time.Duration
	opened, err := c.shared.Open(shelf(name), []byte(value))
	if err == nil {
		res, lasts, err = decode(opened, key)
	}
	if err != nil {
		c.said.Do(func() {
			c.log.Warn("an answer in the shared store cannot be read; this gateway calls upstream, and leaves it as it is", zap.String("why", err.Error()))
		})
		return nil, err
	}
	ms, err := strconv.ParseInt(left, 10, 64)
	age := lasts - time.Duration(ms)*time.Millisecond
	if err != nil || ms < 0 || age < 0 {
		return nil, errValue
	}
	if age > ttl {
		return nil, errOld // it lives as long as here is said, from when it was made
	}
	e := newEntry(key, res)
	e.born = -age // until put
	return e, nil
}

func (c *common) measure(emit func(core.Measure)) {
	for _, m := range []struct {
		name, help string
		n          *atomic.Int64
	}{
		{"cache_shared_hits_total", "Flights that another gateway of the group had the answer for.", &c.hits},
		{"cache_shared_misses_total", "Flights that went upstream, since no gateway of the group had the answer.", &c.misses},
		{"cache_shared_follows_total", "Flights that waited for the call of another gateway of the group.", &c.follows},
		{"cache_shared_unread_total", "Answers of the group that could not be used: another key, a later version, encrypted with something else.", &c.unread},
	} {
		emit(core.Measure{Name: m.name, Help: m.help, Counter: true, Value: float64(m.n.Load())})
	}
}
