package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/config"
)

// A Generation is one configuration with everything that was built from it, or
// was kept from the one before. What no generation has any more is closed.
type Generation struct {
	// Number counts the generations that served, from 1. It is 0 before that.
	Number int64
	// Steps say what it does to the one before, in the order in which it was
	// built.
	Steps []Step

	engine  *Engine
	file    *config.File
	base    *Generation // what served when it was built; nil for the first, and once it serves
	applies []change    // what Serve does to parts that are changed in place
	chain   *chain.Chain
	parts   []*part
	doing   *progress // of Build
	log     *zap.Logger

	unpin   func()       // release, made once since each flight and attempt asks for it
	refs    atomic.Int64 // one for being served, one for each request and flight inside
	drained chan struct{}

	open     context.Context // until Close
	shut     context.CancelFunc
	watching sync.Mutex // held while probes begin, and when they are told to end
	probes   sync.WaitGroup

	mu     sync.Mutex
	asked  map[string]bool  // places that were probed, or could not start
	unwell map[string]error // place -> why it cannot serve now

	closeOnce sync.Once
}

// A change is what a part does in place to take another configuration.
type change struct {
	place string
	apply func()
}

func newGeneration(e *Engine, file *config.File, doing *progress) *Generation {
	g := &Generation{
		engine: e, file: file, log: e.log, doing: doing,
		drained: make(chan struct{}), asked: map[string]bool{}, unwell: map[string]error{},
	}
	g.open, g.shut = context.WithCancel(context.Background())
	g.refs.Store(1)
	g.unpin = g.release
	return g
}

// File is the configuration that g was built from.
func (g *Generation) File() *config.File { return g.file }

// Changes returns what differs from the configuration that served when g was
// built, value by value.
func (g *Generation) Changes() []config.Change {
	if g.base == nil {
		return nil
	}
	return config.Diff(g.base.file, g.file)
}

// Holds returns what was kept from the generation before, such as "cache 48,112
// entries".
func (g *Generation) Holds() []string {
	var all []string
	say := func(name string, item any) {
		if h, ok := item.(core.Holder); ok {
			if held := h.Holds(); held != "" {
				all = append(all, name+" "+held)
			}
		}
	}
	for _, p := range g.parts {
		if !p.fresh {
			say(p.name, p.item)
		}
	}
	for _, s := range g.engine.sections {
		// Of what was changed in place nobody knows how much is from before.
		if slices.Contains(g.Steps, Step{Place: s.name, Fate: Keep}) {
			say(s.name, s.part)
		}
	}
	return all
}

// Start does the I/O that serving needs, for what was built for g, providers
// first. A part that cannot start fails the whole and closes it. So does one
// that is unavailable for now, unless nothing serves yet: then a gateway that is
// not ready is better than none, and the part goes on trying.
func (g *Generation) Start(ctx context.Context) error {
	for _, p := range g.parts {
		s, ok := p.item.(core.Starter)
		if !ok || !p.used || !p.fresh {
			continue
		}
		err := g.call(ctx, p, "starting", func() error { return s.Start(ctx) })
		if err == nil || g.base == nil && core.KindOf(err) == core.Unavailable {
			if err != nil {
				g.note(p, err)
			}
			continue
		}
		g.Close()
		if all := config.AsComplaints(err); all != nil {
			return all // they name their place, and better
		}
		return fmt.Errorf("%s: %w", p.at, err)
	}
	return nil
}

// probeTimeout bounds one probe; probeAgain is how long after a failed one the
// next begins, doubled up to probeSlowest.
const (
	probeTimeout = 5 * time.Second
	probeAgain   = time.Second
	probeSlowest = 30 * time.Second
)

// Probe asks once whether each part in use that was built for g could serve now,
// all at the same time, and returns what they said, joined. Errors of kind
// unauthorized and not_found will not mend by themselves, and a *LateError says
// that one has not even returned.
func (g *Generation) Probe(ctx context.Context) error {
	var (
		asked  sync.WaitGroup
		mu     sync.Mutex
		failed []error
	)
	for _, p := range g.parts {
		if prober, ok := p.item.(core.Prober); ok && p.used && p.fresh {
			asked.Go(func() {
				if err := g.probe(ctx, p, prober); err != nil {
					mu.Lock()
					failed = append(failed, fmt.Errorf("%s: %w", p.at, err))
					mu.Unlock()
				}
			})
		}
	}
	asked.Wait()
	return errors.Join(failed...)
}

var errNotAsked = errors.New("being asked")

// inherit takes over how the parts are that were kept.
func (g *Generation) inherit(base *Generation) {
	base.mu.Lock()
	defer base.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.parts {
		if place := p.place(); !p.fresh && base.asked[place] {
			g.asked[place] = true
			if err := base.unwell[place]; err != nil {
				g.unwell[place] = err
			}
		}
	}
}

func (g *Generation) watch(ctx context.Context, p *part, prober core.Prober, said string) {
	for again := probeAgain; ; again = min(2*again, probeSlowest) {
		err := g.probe(ctx, p, prober)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if said != "" {
				g.log.Info("can serve now", zap.String("place", p.place()))
			}
			return
		case err.Error() != said: // the same reason is said once
			said = err.Error()
			g.log.Warn("cannot serve now; asking again until it can", zap.String("place", p.place()), zap.Error(err))
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (g *Generation) probe(ctx context.Context, p *part, prober core.Prober) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := g.call(ctx, p, "probing", func() error { return prober.Probe(ctx) })
	g.note(p, err)
	return err
}

func (g *Generation) note(p *part, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked[p.place()] = !errors.Is(err, errNotAsked)
	if err == nil {
		delete(g.unwell, p.place())
		return
	}
	g.unwell[p.place()] = err
}

// Ready returns nil when a text could be translated now: no stage in use failed its
// last probe, or knows by itself that it cannot serve now, and one provider at least
// neither. Else it returns what they said, in the order of the file.
func (g *Generation) Ready() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all, needed []error
	served := false // by a provider
	for _, p := range g.parts {
		err := g.unwell[p.place()]
		if prober, ok := p.item.(core.Prober); ok && p.used && err == nil {
			err = prober.Ready()
		}
		if err == nil {
			served = served || p.used && p.label == "provider"
			continue
		}
		err = fmt.Errorf("%s: %w", p.place(), err)
		all = append(all, err)
		if p.label != "provider" {
			needed = append(needed, err)
		}
	}
	if served {
		return errors.Join(needed...) // another provider may answer for those that cannot
	}
	return errors.Join(all...)
}

// Watch probes each part in use that is not known to be well, and again until it
// is, until Close; after Close it does nothing. What was kept from the generation
// before is as well as it was there. A part that was not asked yet counts as not
// ready.
func (g *Generation) Watch() {
	g.watching.Lock()
	defer g.watching.Unlock()
	if g.open.Err() != nil {
		return // it was served too late, while the gateway stopped
	}
	for _, p := range g.parts {
		prober, ok := p.item.(core.Prober)
		if !ok || !p.used {
			continue
		}
		g.mu.Lock()
		asked, unwell := g.asked[p.place()], g.unwell[p.place()]
		g.mu.Unlock()
		said := ""
		switch {
		case asked && unwell == nil:
			continue
		case asked:
			said = unwell.Error() // in the verdict, or by the generation before
		default:
			g.note(p, errNotAsked)
		}
		g.probes.Go(func() { g.watch(g.open, p, prober, said) })
	}
}

// unwatch ends what Watch began, now or later.
func (g *Generation) unwatch() {
	g.watching.Lock()
	g.shut()
	g.watching.Unlock()
	g.probes.Wait() // each ends soon, whatever the part does
}

// Close closes every part that no other generation has, the last built first, and
// waits for that no longer than closeTimeout. A part of which a call is late is
// closed when that has returned. It works after a Start that failed half way, and
// more than once.
func (g *Generation) Close() {
	g.closeOnce.Do(func() {
		g.unwatch()
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		for _, p := range slices.Backward(g.parts) {
			g.leave(ctx, p)
		}
	})
}

// Pin keeps g from being closed until unpin is called. The caller must hold
// another reference.
func (g *Generation) Pin() (unpin func()) {
	g.refs.Add(1)
	return g.unpin
}

// acquire takes a reference unless the last one is gone.
func (g *Generation) acquire() bool {
	for {
		n := g.refs.Load()
		if n == 0 {
			return false
		}
		if g.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (g *Generation) release() {
	if g.refs.Add(-1) == 0 {
		close(g.drained)
	}
}

// Unwell sorts what probes said: what will not mend by itself is an error, and so
// is a probe that does not return; the rest are warnings.
func Unwell(probed error) (warnings []string, err error) {
	joined, ok := probed.(interface{ Unwrap() []error })
	if !ok {
		return nil, probed
	}
	var fatal []error
	for _, err := range joined.Unwrap() {
		_, late := errors.AsType[*LateError](err)
		switch kind := core.KindOf(err); {
		case late, kind == core.Unauthorized, kind == core.NotFound:
			fatal = append(fatal, err)
		default:
			warnings = append(warnings, err.Error())
		}
	}
	return warnings, errors.Join(fatal...)
}
