package enginetest

import (
	"context"
	"sync"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
)

// A Sloth is a stage that does not return from the call that its configuration
// names, whatever becomes of the context.
type Sloth struct {
	*Den
	v      string
	closed int // guarded by Den.mu
}

// A Den is where sloths live, until free is closed.
type Den struct {
	Free chan struct{}
	mu   sync.Mutex
	all  []*Sloth // guarded by mu
}

func (s *Sloth) at(call string) {
	if s.v == call {
		<-s.Free
	}
}

func (s *Sloth) Wrap(next core.Translator) core.Translator { return next }
func (s *Sloth) Start(context.Context) error               { s.at("start"); return nil }
func (s *Sloth) Ready() error                              { return nil }
func (s *Sloth) Outdated() bool                            { s.at("outdated"); return false }

func (s *Sloth) Probe(context.Context) error {
	s.at("probe")
	if s.v == "refused, and close" {
		return &core.Error{Kind: core.Unauthorized}
	}
	return nil
}

func (s *Sloth) Close() error {
	s.at("close")
	if s.v == "refused, and close" {
		<-s.Free
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

// A SoftSloth takes another configuration in place.
type SoftSloth struct{ *Sloth }

func (s SoftSloth) Plan(c any) (func(), error) {
	v := c.(*Setting).V
	if v == "plan" {
		<-s.Free
	}
	return func() {
		if v == "apply" {
			<-s.Free
		}
	}, nil
}

func (d *Den) Stage(kind, v string) config.Item {
	k := core.NewKind(kind, core.RoleStage, "", func() Setting { return Setting{} }, func(_ core.Env, c *Setting) (any, error) {
		s := &Sloth{Den: d, v: c.V}
		s.at("build")
		if c.V == "panic" {
			panic("no such luck")
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.all = append(d.all, s)
		if kind == "soft" {
			return SoftSloth{s}, nil
		}
		return s, nil
	})
	return config.Item{Name: "a", Kind: k, Config: &Setting{v}, Enabled: true, Path: "stages.a", Line: 7, Column: 3, Digest: kind + v}
}

// Closed returns how often each sloth was closed, in the order in which they were built.
func (d *Den) Closed() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []int
	for _, s := range d.all {
		all = append(all, s.closed)
	}
	return all
}
