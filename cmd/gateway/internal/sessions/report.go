package sessions

import (
	"fmt"
	"time"
)

// A Report is what a run measured. Its JSON holds everything but the samples;
// times are in milliseconds and what is unknown is null.
type Report struct {
	Options    Options       `json:"-"`
	Began      time.Time     `json:"began"`
	Took       time.Duration `json:"-"`
	CPUs       int           `json:"cpus"`
	LoadBefore figure        `json:"load_before"` // of the machine, over a minute
	LoadAfter  figure        `json:"load_after"`
	URL        string        `json:"url,omitempty"`     // of a gateway that was not started here
	Profile    string        `json:"profile,omitempty"` // of the upstream, when it was
	Rate       float64       `json:"rate_per_minute"`
	Seed       uint64        `json:"seed"`
	Met        bool          `json:"met"` // whether every criterion that is asked for is
	Cells      []Measured    `json:"cells"`
	Criteria   []Criterion   `json:"criteria"`
}

// Measured is a cell with its figures.
type Measured struct {
	Cell
	Facts
	Rows  []Row `json:"rows"`  // one a session
	Worst Row   `json:"worst"` // the worst of them, figure by figure
	All   Row   `json:"all"`   // all requests of the cell

	samples []sample
}

// Facts are figures of a whole cell.
type Facts struct {
	CPU         figure         `json:"cpu_percent"`       // of one core, gateway and its children
	MB          figure         `json:"resident_mb"`       // the most that was seen
	Calls       figure         `json:"upstream_calls"`    // those that cost money
	RateLimited figure         `json:"upstream_429s"`     //
	Dialled     figure         `json:"connections"`       // opened to the upstream, the start's included
	Cold        figure         `json:"cold_requests"`     // that found no connection ready
	Late        figure         `json:"generator_late_ms"` // p99 of how late a request was sent
	Failures    map[string]int `json:"failures,omitempty"`
}

// A Row is a distribution of latencies as its caller saw them, in milliseconds.
type Row struct {
	Name   string `json:"session"`
	N      int    `json:"n"` // answered
	Failed int    `json:"failed"`
	Cached int    `json:"cached"`
	P50    figure `json:"p50_ms"`
	P95    figure `json:"p95_ms"`
	P99    figure `json:"p99_ms"`
	Max    figure `json:"max_ms"`
	// Added is what a request took beyond the upstream's own time and Paced,
	// which is the wait for the interval between two starts.
	AddedP50 figure `json:"added_p50_ms"`
	AddedP99 figure `json:"added_p99_ms"`
	PacedP99 figure `json:"paced_p99_ms"`
}

// enough is how many requests a cell needs for a p99 that means something: ten
// of them are above it.
const enough = 1000

// few says that the cell's p99 rests on fewer.
func (m Measured) few() bool { return m.All.N < enough }

// A Criterion is one promise of the plan for one cell.
type Criterion struct {
	Cell
	Name  string `json:"name"`
	Bound figure `json:"bound"`
	Got   figure `json:"got"`
	// Asked says that the plan asks it of this cell. Others show it for
	// comparison.
	Asked bool `json:"asked"`
	Met   bool `json:"met"`
}

// The names of the criteria.
const (
	worstP99  = "worst p99"
	lessCPU   = "CPU"
	lessMB    = "memory"
	noLimits  = "rate-limit errors"
	noFailure = "failed"
	belowP50  = "below direct"
)

// planned are the limits on the p99 of the worst session, in milliseconds, by
// the number of sessions. A number between or beyond has none.
var planned = map[int]figure{2: 500, 3: 600, 4: 700}

// What else the plan asks for.
const (
	mostCPU   figure = 20  // per cent of one core
	mostMB    figure = 100 //
	savedByIt figure = 80  // milliseconds of the p50 that pooling saves: 1.6 round trips
)

// judge holds every cell against the plan. Latencies are promised for the
// steady upstream and for pooled connections; direct is what they are compared
// with. A figure that is not known meets nothing.
func (r *Report) judge() {
	r.URL, r.Rate, r.Seed, r.Met = r.Options.URL, r.Options.Rate, r.Options.Seed, true
	if r.URL == "" {
		r.Profile = r.Options.Profile
	}
	for _, m := range r.Cells {
		asked := m.Mode != Direct
		steady := r.Profile == "steady" || m.Mode == given
		add := func(name string, bound, got figure, asked, met bool) {
			r.Criteria = append(r.Criteria, Criterion{Cell: m.Cell, Name: name, Bound: bound, Got: got, Asked: asked, Met: met})
			r.Met = r.Met && (met || !asked)
		}
		if bound, ok := planned[m.Sessions]; ok {
			add(worstP99, bound, m.Worst.P99, asked && steady, m.Worst.P99 < bound)
		}
		add(lessCPU, mostCPU, m.CPU, asked, m.CPU < mostCPU)
		add(lessMB, mostMB, m.MB, asked, m.MB < mostMB)
		limits := m.RateLimited + figure(m.Failures["rate_limited"])
		add(noLimits, 0, limits, asked, limits == 0)
		// Who fails fast looks fast.
		add(noFailure, 0, figure(m.All.Failed), asked && steady, m.All.Failed == 0)
		if direct := r.find(Cell{Sessions: m.Sessions, Mode: Direct, Preset: m.Preset}); m.Mode == Pooled && direct != nil {
			saved := direct.All.P50 - m.All.P50
			add(belowP50, savedByIt, saved, true, saved >= savedByIt)
		}
	}
}

func (r *Report) find(c Cell) *Measured {
	for i := range r.Cells {
		if r.Cells[i].Cell == c {
			return &r.Cells[i]
		}
	}
	return nil
}

// of returns the criterion of a cell by name, nil when it has none.
func (r *Report) of(c Cell, name string) *Criterion {
	for i := range r.Criteria {
		if k := &r.Criteria[i]; k.Cell == c && k.Name == name {
			return k
		}
	}
	return nil
}

// sign is how a criterion compares.
func (c *Criterion) sign() string {
	switch c.Name {
	case noLimits, noFailure:
		return "="
	case belowP50:
		return "≥"
	}
	return "<"
}

func (c *Criterion) unit() string {
	switch c.Name {
	case worstP99, belowP50:
		return " ms"
	case lessCPU:
		return " %"
	case lessMB:
		return " MB"
	}
	return ""
}

// word is the criterion in one.
func (c *Criterion) word() string {
	switch {
	case !c.Asked:
		return "not asked"
	case !c.Got.known():
		return "not measured"
	case c.Met:
		return "met"
	}
	return "MISSED"
}

// decimals suit the figures of a criterion.
func (c *Criterion) decimals() int {
	if c.Name == lessCPU {
		return 1
	}
	return 0
}

// headline says in a line how the run went.
func (r *Report) headline() string {
	asked, met := 0, 0
	for _, c := range r.Criteria {
		if c.Asked {
			asked++
			if c.Met {
				met++
			}
		}
	}
	if r.Met {
		return fmt.Sprintf("all %d criteria met", asked)
	}
	return fmt.Sprintf("%d of %d criteria met", met, asked)
}

// load says how busy the machine was.
func (r *Report) load() string {
	return fmt.Sprintf("%d cores, load average %s before and %s after", r.CPUs, r.LoadBefore.with(1), r.LoadAfter.with(1))
}

// what says what was driven, and at what.
func (r *Report) what() string {
	up := "simulated upstream " + r.Profile + map[string]string{
		"steady": " (p50 300 ms, p99 400 ms)", "rough": " (p50 300 ms, p99 900 ms)",
	}[r.Profile] + ", 50 ms away"
	if r.Options.URL != "" {
		up = r.Options.URL
	}
	return fmt.Sprintf("%g requests a minute and session, Poisson; %s", r.Rate, up)
}
