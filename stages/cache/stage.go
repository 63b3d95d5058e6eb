// Package cache is the stage `cache`: it answers what was answered before, and
// lets requests that want the same answer at the same time share one upstream
// call, a flight.
package cache

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/files"
	"github.com/dragoman-mt/dragoman/core/text/phrases"
)

// A Stage holds the answers and the flights of one cache, for all places and
// generations that it stands in.
type Stage struct {
	name   string
	log    *zap.Logger
	config Config // what it was built with; Plan changes the fields below

	preloaded atomic.Pointer[table]
	memory    memory
	flights   flights
	below     atomic.Pointer[[]string] // how the keys begin in the chain that was linked last
	closing   sync.Once
	common    *common // nil when nothing is shared

	hits, preloadHits, misses, joins, unstored atomic.Int64
}

var (
	_ core.Stage         = (*Stage)(nil)
	_ core.Starter       = (*Stage)(nil)
	_ core.Closer        = (*Stage)(nil)
	_ core.Planner       = (*Stage)(nil)
	_ core.Outdater      = (*Stage)(nil)
	_ core.Holder        = (*Stage)(nil)
	_ core.Fingerprinter = (*Stage)(nil)
	_ core.Measurer      = (*Stage)(nil)
)

// A table holds preloaded answers by key, without a fingerprint, and the files
// that they were read from, as these were then. It is not changed once a Stage
// has it.
type table struct {
	answers map[string]*core.Result
	longest int // of its keys, in bytes
	files   []file
}

// get returns the answer for key, or nil. Preloaded are phrases, and most texts are longer.
func (t *table) get(key []byte) *core.Result {
	if len(key) > t.longest {
		return nil
	}
	return t.answers[string(key)]
}

type file struct {
	name string
	was  os.FileInfo
}

// New makes the stage; it keeps nothing before Start.
func New(env core.Env, c Config) *Stage {
	s := &Stage{name: env.Name, log: env.Log, config: c}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if env.Shared != nil {
		s.common = newCommon(env.Shared, s.log)
	}
	s.memory.ttl.Store(int64(c.TTL))
	s.preloaded.Store(&table{})
	s.flights.joining = map[string]*flight{}
	s.flights.all = map[*flight]struct{}{}
	return s
}

// Start reads the preload files. The error names the file and the line.
func (s *Stage) Start(ctx context.Context) error {
	t, err := load(ctx, s.config.Preload)
	if err != nil {
		return err
	}
	s.preloaded.Store(t)
	if err := s.memory.open(s.config.MaxSize); err != nil {
		return fmt.Errorf("making the cache: %w", err)
	}
	if s.common != nil {
		s.common.start()
	}
	s.log.Debug("cache is ready", zap.Int("preloaded", len(t.answers)))
	return nil
}

func load(ctx context.Context, files []core.Path) (*table, error) {
	t := &table{answers: map[string]*core.Result{}}
	for _, name := range files {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := t.read(string(name)); err != nil {
			return nil, fmt.Errorf("preload: %w", err)
		}
	}
	return t, nil
}

// maxPreload is the longest preload file that is read, in bytes: all of its answers
// stay in memory.
const maxPreload = 256 << 20

func (t *table) read(name string) error {
	opened, err := files.Open(name)
	if err != nil {
		return err // it names the file
	}
	defer opened.Close()
	was, err := opened.Stat() // before it is read: what is written meanwhile counts as a change
	if err != nil {
		return err
	}
	if was.Size() > maxPreload {
		return files.TooLong(name, maxPreload)
	}
	t.files = append(t.files, file{name, was})
	all, err := phrases.Read(io.LimitReader(opened, maxPreload))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, p := range all {
		key := appendKey(nil, &core.Request{Source: p.Source, Target: p.Target, Text: p.Text})
		t.longest = max(t.longest, len(key))
		t.answers[string(key)] = &core.Result{Text: p.Translation, Cached: true}
	}
	return nil
}

// Outdated says whether a preload file is another than the one that was read, by
// its size, its time or which file it is. It asks for nothing but these.
func (s *Stage) Outdated() bool {
	for _, f := range s.preloaded.Load().files {
		is, err := os.Stat(f.name)
		if err != nil || !os.SameFile(is, f.was) || is.Size() != f.was.Size() || !is.ModTime().Equal(f.was.ModTime()) {
			return true
		}
	}
	return false
}

// Holds says how many of the stored answers can be used in the chain that was linked
// last. What another model or provider has answered is there still, for the way back,
// and no request finds it.
func (s *Stage) Holds() string {
	below := s.below.Load()
	if below == nil {
		return ""
	}
	n := int64(0)
	for _, begin := range *below {
		n += s.memory.usable(begin)
	}
	switch n {
	case 0:
		return ""
	case 1:
		return "1 entry"
	default:
		return thousands(n) + " entries"
	}
}

// thousands writes n, which is not negative, as in 48,112.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Plan reads the preload files anew; the error names the file and the line.
// What is stored is kept, but for what a smaller size has no room for. Another
// ttl holds for what is stored already, too, from when it was stored: what a
// shorter one has ended is not used any more, and what a longer one covers is
// used again if it is still there.
func (s *Stage) Plan(config any) (apply func(), err error) {
	c, ok := config.(*Config)
	if !ok {
		return nil, fmt.Errorf("cache: planned with a %T, want a %T", config, c)
	}
	t, err := load(context.Background(), c.Preload)
	if err != nil {
		return nil, err
	}
	return func() {
		s.memory.ttl.Store(int64(c.TTL))
		s.preloaded.Store(t)
		s.memory.resize(c.MaxSize)
	}, nil
}

// Close ends the flights, waits for them, and forgets everything.
func (s *Stage) Close() error {
	s.closing.Do(func() {
		s.flights.mu.Lock()
		s.flights.closed = true
		for f := range s.flights.all {
			for _, b := range f.bids {
				b.end(s.errClosed())
			}
		}
		s.flights.mu.Unlock()
		s.flights.running.Wait()
		if s.common != nil {
			s.common.close()
		}
		s.memory.close()
	})
	return nil
}

// Fingerprint is empty: a cache changes no answer.
func (s *Stage) Fingerprint() string { return "" }

// Wrap returns the cache above next.
func (s *Stage) Wrap(next core.Translator) core.Translator {
	p := &place{stage: s, next: next}
	switch n := next.(type) {
	case core.Router:
		p.router = n
		for _, fingerprint := range n.Routes() {
			p.below = append(p.below, appendPart(nil, fingerprint))
		}
		if len(p.below) == 1 {
			p.router = nil // there is nothing to ask
		}
	case core.Fingerprinter:
		p.below = [][]byte{appendPart(nil, n.Fingerprint())}
	default:
		p.below = [][]byte{binary.AppendUvarint(nil, 0)}
	}
	var begins []string
	for _, below := range p.below {
		if begin := string(below); !slices.Contains(begins, begin) {
			begins = append(begins, begin)
		}
	}
	s.below.Store(&begins)
	return p
}

// A place is the cache in one chain.
type place struct {
	stage  *Stage
	next   core.Translator
	router core.Router // next, when requests go several ways below it
	below  [][]byte    // how its keys begin, for each way: the fingerprint of next
}

// usualKey is as long as the keys of a few sentences are, in bytes: for those a hit
// allocates nothing.
const usualKey = 512

// Translate answers from what is stored, else with a flight.
func (p *place) Translate(ctx context.Context, req *core.Request) (*core.Result, error) {
	s := p.stage
	below := p.below[0]
	if p.router != nil {
		below = p.below[p.router.Route(req)]
	}
	var room [usualKey]byte
	res, key := s.lookup(appendKey(append(room[:0], below...), req), len(below), req)
	if res != nil {
		return res, nil
	}
	return s.travel(ctx, p, req, key)
}

// lookup returns the answer for key, which is that of req, else a key that lasts. What is preloaded is
// looked up first, without the first below bytes.
func (s *Stage) lookup(key []byte, below int, req *core.Request) (*core.Result, string) {
	if !req.NoCache {
		if res := s.preloaded.Load().get(key[below:]); res != nil {
			s.preloadHits.Add(1)
			return res, ""
		}
		if res := s.memory.get(key, req.Trace.Entered()); res != nil {
			s.hits.Add(1)
			return res, ""
		}
	}
	return nil, string(key)
}

// travel answers req with a flight: that of another, or its own.
func (s *Stage) travel(ctx context.Context, p *place, req *core.Request, key string) (*core.Result, error) {
	if ctx.Err() != nil {
		return nil, core.ContextError(ctx, s.name)
	}
	if req.Relieve {
		key += relieved
	}
	r, hit, err := s.board(ctx, p, req, key)
	if err != nil || hit != nil {
		return hit, err
	}
	return s.ride(ctx, r)
}

// Measure reports what the cache did and holds.
func (s *Stage) Measure(emit func(core.Measure)) {
	count := func(name, help string, v *atomic.Int64) {
		emit(core.Measure{Name: name, Help: help, Counter: true, Value: float64(v.Load())})
	}
	gauge := func(name, help string, v int64) {
		emit(core.Measure{Name: name, Help: help, Value: float64(v)})
	}
	count("cache_hits_total", "Requests answered with a stored answer.", &s.hits)
	count("cache_preload_hits_total", "Requests answered from the preloaded tables.", &s.preloadHits)
	count("cache_misses_total", "Times that a request found nothing stored.", &s.misses)
	count("cache_joins_total", "Times that a request joined the flight of another.", &s.joins)
	count("cache_unstored_total", "Good answers that were not stored: a fallback's, flagged or cut ones.", &s.unstored)
	count("cache_evictions_total", "Stored answers that made room for others.", &s.memory.evicted)
	count("cache_rejections_total", "Answers that a full cache let go after a while, since what it holds was asked for more.", &s.memory.rejected)
	if s.common != nil {
		s.common.measure(emit)
	}
	s.flights.mu.Lock()
	flying := len(s.flights.all)
	s.flights.mu.Unlock()
	gauge("cache_flights", "Misses on their way.", int64(flying))
	entries, bytes := s.memory.holds()
	gauge("cache_entries", "Stored answers.", entries)
	gauge("cache_bytes", "Memory that the stored answers take.", bytes)
	gauge("cache_preloaded_entries", "Answers in the preloaded tables.", int64(len(s.preloaded.Load().answers)))
}
