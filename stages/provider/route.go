package provider

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/dragoman-mt/dragoman/core"
)

// A matcher says which requests a route takes.
type matcher struct {
	sources, targets []core.Language // none: any
	lane             core.Lane
	anyLane          bool
	client           string // empty: any
}

// matcher reads r, whose languages were checked.
func (r *Route) matcher() matcher {
	m := matcher{anyLane: true, client: r.Client}
	for _, tag := range r.Sources {
		if l, err := core.ParseLanguage(tag); err == nil {
			m.sources = append(m.sources, l)
		}
	}
	for _, tag := range r.Targets {
		if l, err := core.ParseLanguage(tag); err == nil {
			m.targets = append(m.targets, l)
		}
	}
	for lane := range core.Lanes {
		if lane.String() == r.Lane {
			m.lane, m.anyLane = lane, false
		}
	}
	return m
}

// takes says whether a request is one of m's.
func (m *matcher) takes(req *core.Request) bool {
	return (m.anyLane || m.lane == req.Lane) && (m.client == "" || m.client == req.Client) &&
		among(m.targets, req.Target) && among(m.sources, req.Source)
}

// among says whether one of list covers l; an empty list covers all.
func among(list []core.Language, l core.Language) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(one core.Language) bool { return one.Covers(l) })
}

// coveredBy returns those of former that take, together, all that m would; nil when
// something is left for m.
func (m *matcher) coveredBy(former []matcher) []int {
	any := []core.Language{""}
	sources, targets := m.sources, m.targets
	if len(sources) == 0 {
		sources = any
	}
	if len(targets) == 0 {
		targets = any
	}
	// covers[i][j] says whether the i-th of former takes the j-th language.
	table := func(languages []core.Language, of func(*matcher) []core.Language) [][]bool {
		all := make([][]bool, len(former))
		for i := range former {
			for _, l := range languages {
				list := of(&former[i])
				all[i] = append(all[i], len(list) == 0 || l != "" && among(list, l))
			}
		}
		return all
	}
	source := table(sources, func(f *matcher) []core.Language { return f.sources })
	target := table(targets, func(f *matcher) []core.Language { return f.targets })
	var by []int
	for lane := range core.Lanes {
		if !m.anyLane && lane != m.lane {
			continue
		}
		for s := range sources {
			for t := range targets {
				i := 0
				for ; i < len(former); i++ {
					f := &former[i]
					if source[i][s] && target[i][t] && (f.anyLane || f.lane == lane) && (f.client == "" || f.client == m.client) {
						break
					}
				}
				if i == len(former) {
					return nil
				}
				if !slices.Contains(by, i) {
					by = append(by, i)
				}
			}
		}
	}
	slices.Sort(by)
	return by
}

func routesNamed(numbers []int) string {
	var names []string
	for _, i := range numbers {
		names = append(names, fmt.Sprintf("routes[%d]", i))
	}
	return strings.Join(names, " and ")
}

// A way is a route, linked; or, as the last of all, what no route takes.
type way struct {
	matcher
	number      int      // of the route; -1 for what none takes
	first       *group   // who translates
	then        []*group // the fallbacks
	fingerprint string
	count       *atomic.Int64 // requests that went it
}

// label names a way in metrics.
func (w *way) label() string {
	if w.number < 0 {
		return "use"
	}
	return fmt.Sprintf("routes[%d]", w.number)
}

// Route says which of the ways req goes.
func (c *foot) Route(req *core.Request) int {
	last := len(c.ways) - 1
	for i := range last {
		if c.ways[i].takes(req) {
			return i
		}
	}
	return last
}

// Routes names, for each way, what would answer there. The answers of fallbacks are
// never stored.
func (c *foot) Routes() []string {
	all := make([]string, len(c.ways))
	for i, w := range c.ways {
		all[i] = w.fingerprint
	}
	return all
}

// Fingerprint names what would answer, whichever way.
func (c *foot) Fingerprint() string {
	if len(c.ways) == 1 {
		return c.ways[0].fingerprint
	}
	return sum(c.Routes()...)
}

// unserved complains about the first pair of languages of a route that nobody translates
// whom it asks, as far as they say what they know.
func (w *way) unserved(r *Route, origin core.Origin) error {
	knows := func(source, to core.Language) bool {
		one := func(t *target) bool { return t.knowsPair(source, to) }
		return slices.ContainsFunc(w.first.members, one) || slices.ContainsFunc(w.then, func(g *group) bool { return slices.ContainsFunc(g.members, one) })
	}
	at := fmt.Sprintf("routes[%d]", w.number)
	sources, targets := w.sources, w.targets
	if len(targets) == 0 {
		targets = []core.Language{""}
	}
	if len(sources) == 0 {
		sources = []core.Language{""}
	}
	for i, to := range targets {
		for j, source := range sources {
			if source == "" && to == "" || knows(source, to) {
				continue
			}
			switch {
			case to == "":
				return complain(origin, fmt.Sprintf("%s.sources[%d]", at, j), fmt.Sprintf("no provider that this route asks translates from %s", source))
			case source == "":
				return complain(origin, fmt.Sprintf("%s.targets[%d]", at, i), fmt.Sprintf("no provider that this route asks translates to %s", to))
			}
			return complain(origin, fmt.Sprintf("%s.targets[%d]", at, i), fmt.Sprintf("no provider that this route asks translates from %s to %s", source, to))
		}
	}
	return nil
}
