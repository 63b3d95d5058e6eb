package cache

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unique"
	"unsafe"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/dragoman-mt/dragoman/core"
)

// A memory keeps answers, bounded in bytes: the newest in recent, and what was
// asked for most in ristretto. The zero value keeps nothing until open; it is
// safe for concurrent use.
type memory struct {
	// using is held to read round each use of cache, and to write to take it
	// away: ristretto does not bear a Get or a Set during its Close.
	using  sync.RWMutex
	cache  *ristretto.Cache[uint64, *entry] // by hash; nil keeps nothing
	recent recent
	seed   maphash.Seed

	// ttl is checked here, not by ristretto: that keeps a map for each five
	// seconds in which entries were stored, at the size that it once had, until
	// the last of them would have expired. In a day of distinct texts these
	// take more memory than the answers.
	ttl atomic.Int64 // a time.Duration

	stored            atomic.Int64 // entries in ristretto, or on their way
	evicted, rejected atomic.Int64
}

// An entry is one answer as a hit gets it. It is found by the hash of its key, which
// another key may share, so the whole key stands here, to be compared.
type entry struct {
	key  string
	hash uint64
	hit  core.Result
	born time.Duration // by core.Clock
}

// newEntry returns what is kept of res.
func newEntry(key string, res *core.Result) *entry {
	e := &entry{hit: *res}
	e.hit.Cached = true
	e.hit.Usage, e.hit.Limits = core.Usage{}, nil
	// Only what is counted is kept, no larger string that these are part of;
	// and in one piece, of which the garbage collector has less to do.
	both := key + res.Text
	e.key, e.hit.Text = both[:len(key)], both[len(key):]
	e.hit.Provider = unique.Make(res.Provider).Value()
	e.hit.Model = unique.Make(res.Model).Value()
	return e
}

// bookkeeping is what one entry takes in memory beside its key and its text:
// the entry, and its places in maps. Measured; see TestMaxSizeBoundsMemory.
const bookkeeping = int64(unsafe.Sizeof(entry{})) + 210

func (e *entry) cost() int64 {
	return int64(len(e.key)) + int64(len(e.hit.Text)) + bookkeeping
}

// split divides maxSize between ristretto and recent.
func split(maxSize core.Size) (lasting, recent int64) {
	recent = int64(maxSize) / 8
	return int64(maxSize) - recent, recent
}

// open begins to keep answers.
func (m *memory) open(maxSize core.Size) error {
	lasting, recent := split(maxSize)
	cache, err := ristretto.NewCache(&ristretto.Config[uint64, *entry]{
		MaxCost: lasting,
		// About eight for each entry of a usual size, at 3 bytes each. They
		// only help to choose what to evict, so there is a limit.
		NumCounters:        min(max(int64(maxSize)/64, 1<<14), 1<<26),
		BufferItems:        64,
		IgnoreInternalCost: true, // it is part of bookkeeping
		KeyToHash:          func(hash uint64) (uint64, uint64) { return hash, 0 },
		OnEvict:            func(*ristretto.Item[*entry]) { m.evicted.Add(1) },
		OnReject:           func(*ristretto.Item[*entry]) { m.rejected.Add(1) },
		OnExit: func(e *entry) {
			if e != nil {
				m.stored.Add(-1)
			}
		},
	})
	if err != nil {
		return err
	}
	m.using.Lock()
	defer m.using.Unlock()
	m.cache, m.seed = cache, maphash.MakeSeed()
	m.recent.resize(recent)
	return nil
}

// get returns the answer for key at a time by core.Clock, or nil.
func (m *memory) get(key []byte, now time.Duration) *core.Result {
	m.using.RLock()
	defer m.using.RUnlock()
	if m.cache == nil {
		return nil
	}
	hash := maphash.Bytes(m.seed, key)
	e, ok := m.cache.Get(hash) // always asked: it counts what is asked for
	if !ok {
		e = m.recent.get(hash)
	}
	if e == nil || e.key != string(key) || now-e.born > time.Duration(m.ttl.Load()) {
		return nil
	}
	return &e.hit
}

// put keeps e: get finds it from now on.
func (m *memory) put(e *entry) {
	m.using.RLock()
	defer m.using.RUnlock()
	if m.cache == nil {
		return
	}
	// What came from another gateway is as old as it says.
	e.born, e.hash = core.Clock()+e.born, maphash.String(m.seed, e.key)
	if _, ok := m.cache.Get(e.hash); ok {
		// An older answer is replaced where it stands, which ristretto does at
		// once, unless it is evicting it.
		m.offer(e)
		if held, _ := m.cache.Get(e.hash); held == e {
			return
		}
	}
	for _, old := range m.recent.add(e) {
		m.offer(old)
	}
}

// offer gives e to ristretto, which will take it in if it is worth it.
func (m *memory) offer(e *entry) {
	m.stored.Add(1)
	if !m.cache.Set(e.hash, e, e.cost()) {
		m.stored.Add(-1) // too many at the same time
		m.rejected.Add(1)
	}
}

// resize changes the bound. What has no room any more goes at once.
func (m *memory) resize(maxSize core.Size) {
	m.using.RLock()
	defer m.using.RUnlock()
	if m.cache == nil {
		return
	}
	lasting, recent := split(maxSize)
	m.cache.UpdateMaxCost(lasting)
	for _, e := range m.recent.resize(recent) {
		m.offer(e)
	}
	m.cache.Wait()
	excess := -m.cache.RemainingCost()
	if excess <= 0 {
		return
	}
	// Left to itself ristretto would shrink by and by, with each new entry.
	var victims []*entry
	m.cache.IterValues(func(e *entry) (stop bool) {
		victims = append(victims, e)
		excess -= e.cost()
		return excess <= 0
	})
	for _, e := range victims {
		m.cache.Del(e.hash)
		m.evicted.Add(1)
	}
	m.cache.Wait()
}

// holds returns how many answers there are, and how much of the bound they
// take.
func (m *memory) holds() (entries, bytes int64) {
	m.using.RLock()
	defer m.using.RUnlock()
	entries, bytes = m.recent.holds()
	return entries + m.stored.Load(), bytes + m.cache.MaxCost() - m.cache.RemainingCost()
}

// usable returns how many answers a key that begins with prefix can still find.
func (m *memory) usable(prefix string) (entries int64) {
	m.using.RLock()
	defer m.using.RUnlock()
	if m.cache == nil {
		return 0
	}
	now, ttl := core.Clock(), time.Duration(m.ttl.Load())
	count := func(e *entry) (stop bool) {
		if strings.HasPrefix(e.key, prefix) && now-e.born <= ttl {
			entries++
		}
		return false
	}
	m.recent.each(count)
	m.cache.Wait() // for what is on its way in
	m.cache.IterValues(count)
	return entries
}

// close forgets everything; nothing is kept from now on.
func (m *memory) close() {
	m.using.Lock()
	defer m.using.Unlock()
	m.cache.Close()
	m.cache = nil
	m.recent.resize(0)
}
