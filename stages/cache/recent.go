package cache

import "sync"

// recent keeps the newest answers, first in first out. Ristretto makes an entry
// visible some time after it was set, and when it is full it admits only what
// was asked for more often than what it holds, which it learns late: a text that
// had just come up went upstream a dozen times before it was stored (tried), and
// speech repeats itself within minutes. So an answer stands here first, at once
// and in any case, and ristretto is offered what leaves. The zero value has no
// room; it is safe for concurrent use.
type recent struct {
	mu    sync.RWMutex
	room  int64 // in bytes
	bytes int64
	held  map[uint64]*entry // by hash
	queue []*entry          // oldest first; those that held does not have were replaced
}

func (r *recent) get(hash uint64) *entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.held[hash]
}

// add takes e in, in place of one with its hash, and returns what leaves.
func (r *recent) add(e *entry) (left []*entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		r.held = map[uint64]*entry{}
	}
	r.held[e.hash] = e
	r.queue = append(r.queue, e)
	r.bytes += e.cost()
	return r.trim()
}

// resize changes the room, in bytes, and returns what leaves.
func (r *recent) resize(room int64) (left []*entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.room = room
	return r.trim()
}

// trim makes room once there is none, and some more than that: ristretto has a
// goroutine that is woken for what it is offered, now for many entries at once.
func (r *recent) trim() (left []*entry) {
	if r.bytes <= r.room {
		return nil
	}
	for r.bytes > r.room-r.room/128 {
		e := r.queue[0]
		r.queue[0] = nil
		r.queue = r.queue[1:]
		r.bytes -= e.cost()
		if r.held[e.hash] == e {
			delete(r.held, e.hash)
			left = append(left, e)
		}
	}
	return left
}

// holds returns how many entries there are, and how many bytes they take.
func (r *recent) holds() (entries, bytes int64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return int64(len(r.held)), r.bytes
}

// each calls visit with every entry.
func (r *recent) each(visit func(*entry) (stop bool)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, e := range r.held {
		visit(e)
	}
}
