package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/chain"
	"github.com/dragoman-mt/dragoman/core/config"
)

// A Generation is one configuration with everything that was built from it. It
// owns those parts: what is started is closed, once, by Close.
type Generation struct {
	// Number counts the generations of the process, from 1.
	Number int64

	chain *chain.Chain
	parts []part
	log   *zap.Logger

	refs    atomic.Int64 // one for being served, one for each request and flight inside
	drained chan struct{}

	stop   context.CancelFunc // ends probing
	probes sync.WaitGroup
	mu     sync.Mutex
	unwell map[string]error // place -> why it cannot serve now

	closeOnce sync.Once
}

// A part is something that was built, and what it is called.
type part struct {
	label string // stage or provider
	name  string
	item  any
	used  bool // the chain needs it
}

func (p part) place() string { return p.label + "s/" + p.name }

// Build makes a generation from a checked configuration. It does no I/O: Start
// does that. Providers that the chain does not use are built, so that their
// mistakes are found, but never started.
func (e *Engine) Build(file *config.File, deadline time.Duration) (*Generation, error) {
	g := &Generation{
		Number: e.built.Add(1), log: e.log,
		drained: make(chan struct{}), stop: func() {}, unwell: map[string]error{},
	}
	g.refs.Store(1)

	build := func(label string, item config.Item) (any, error) {
		built, err := item.Kind.Build(core.Env{
			Name: item.Name, Log: e.log.Named(item.Name), Upstream: e.upstream, Deadline: deadline, Origin: item.Origin,
		}, item.Config)
		if err == nil {
			err = fits(item.Kind.Role, built)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d:%d: %s: %w", file.Path, item.Line, item.Column, item.Path, err)
		}
		g.parts = append(g.parts, part{label: label, name: item.Name, item: built})
		return built, nil
	}

	providers := map[string]core.Provider{}
	for _, item := range file.Providers {
		built, err := build("provider", item)
		if err != nil {
			return nil, err
		}
		p := core.Provider{Name: item.Name, Translator: built.(core.Translator), Fingerprint: item.Digest}
		if f, ok := built.(core.Fingerprinter); ok {
			p.Fingerprint = f.Fingerprint()
		}
		providers[item.Name] = p
	}
	var places []chain.Place
	for _, item := range file.Stages {
		if !item.Enabled {
			continue
		}
		built, err := build("stage", item)
		if err != nil {
			return nil, err
		}
		places = append(places, chain.Place{Name: item.Name, Item: built, Digest: item.Digest})
	}

	used := map[string]bool{}
	linked, err := chain.Link(places, func(name string) (core.Provider, bool) {
		p, ok := providers[name]
		used[name] = used[name] || ok
		return p, ok
	}, e.watch)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.Path, err)
	}
	g.chain = linked
	for i, p := range g.parts {
		g.parts[i].used = p.label == "stage" || used[p.name]
	}
	return g, nil
}

// fits says whether what Build returned is what the kind's role promises.
func fits(role core.Role, built any) error {
	var ok bool
	switch role {
	case core.RoleProvider:
		_, ok = built.(core.Translator)
	case core.RoleGate:
		_, ok = built.(core.Gate)
	case core.RoleCaller:
		_, ok = built.(core.Caller)
	default:
		_, ok = built.(core.Stage)
		if !ok {
			_, ok = built.(core.Hooks)
		}
	}
	if !ok {
		return fmt.Errorf("a kind of role %s built a %T", role, built)
	}
	return nil
}

// Start does the I/O that serving needs, providers first. A part that cannot
// start fails the whole and everything is closed.
func (g *Generation) Start(ctx context.Context) error {
	for _, p := range g.parts {
		s, ok := p.item.(core.Starter)
		if !ok || !p.used {
			continue
		}
		if err := s.Start(ctx); err != nil {
			g.Close()
			if all := config.AsComplaints(err); all != nil {
				return all // they name their place, and better
			}
			return fmt.Errorf("%s: %w", p.place(), err)
		}
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

// Probe asks once whether each part in use could serve now, all at the same
// time, and returns what they said, joined. Errors of kind unauthorized and
// not_found will not mend by themselves.
func (g *Generation) Probe(ctx context.Context) error {
	var (
		asked  sync.WaitGroup
		mu     sync.Mutex
		failed []error
	)
	for _, p := range g.parts {
		if prober, ok := p.item.(core.Prober); ok && p.used {
			asked.Go(func() {
				if err := g.probe(ctx, p, prober); err != nil {
					mu.Lock()
					failed = append(failed, err)
					mu.Unlock()
				}
			})
		}
	}
	asked.Wait()
	return errors.Join(failed...)
}

// Watch probes each part in use now, and again until it is well, until Close.
// A part that was not asked yet counts as not ready.
func (g *Generation) Watch() {
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	for _, p := range g.parts {
		prober, ok := p.item.(core.Prober)
		if !ok || !p.used {
			continue
		}
		g.note(p, fmt.Errorf("not asked yet"))
		g.probes.Go(func() { g.watch(ctx, p, prober) })
	}
}

func (g *Generation) watch(ctx context.Context, p part, prober core.Prober) {
	said := ""
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

func (g *Generation) probe(ctx context.Context, p part, prober core.Prober) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := prober.Probe(ctx)
	g.note(p, err)
	return err
}

func (g *Generation) note(p part, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		delete(g.unwell, p.place())
		return
	}
	g.unwell[p.place()] = err
}

// Ready returns nil when no part in use failed its last probe, else what they
// said, in the order of the file.
func (g *Generation) Ready() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var failed []error
	for _, p := range g.parts {
		if err := g.unwell[p.place()]; err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.place(), err))
		}
	}
	return errors.Join(failed...)
}

// Close closes every part, the last built first. It works after a Start that
// failed half way, and more than once.
func (g *Generation) Close() {
	g.closeOnce.Do(func() {
		g.stop()
		g.probes.Wait()
		for i := len(g.parts) - 1; i >= 0; i-- {
			if c, ok := g.parts[i].item.(core.Closer); ok {
				if err := c.Close(); err != nil {
					g.log.Warn("closing", zap.String("place", g.parts[i].place()), zap.Error(err))
				}
			}
		}
	})
}

// Pin keeps g from being closed until unpin is called. The caller must hold
// another reference.
func (g *Generation) Pin() (unpin func()) {
	g.refs.Add(1)
	return g.release
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
