package host

import (
	"slices"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
)

// A Status is what an operator sees of one plugin. Why it is not ready is in the
// log alone, beside what the plugin printed.
type Status struct {
	Program  string // the name of its program, or its address
	Version  string // as it says; empty while nothing serves
	Serves   []string
	State    Phase
	PID      int // 0 when there is no process of ours
	Restarts int64
	Memory   core.Size // resident
}

// Status returns all plugins that are in use, by program.
func (h *Host) Status() []Status {
	h.mu.Lock()
	all := make([]*plugin, 0, len(h.plugins))
	for _, p := range h.plugins {
		all = append(all, p)
	}
	h.mu.Unlock()
	var out []Status
	for _, p := range all {
		out = append(out, p.status())
	}
	slices.SortFunc(out, func(a, b Status) int {
		return strings.Compare(a.Program+strings.Join(a.Serves, " "), b.Program+strings.Join(b.Serves, " "))
	})
	return out
}

func (p *plugin) status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{Program: p.program.name(), State: p.state, Restarts: max(p.starts-1, 0), Memory: core.Size(p.memory)}
	if p.current != nil {
		s.PID, s.Version = p.current.pid(), p.current.about.GetVersion()
	}
	for _, in := range p.instances {
		s.Serves = append(s.Serves, in.name)
	}
	slices.Sort(s.Serves)
	return s
}
