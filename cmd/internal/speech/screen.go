// Package speech drives live sessions of a running gateway, beside a client that asks for
// every revision, and measures from outside what both of them see. What is played in
// virtual time is played by openai-sim, since the provider is simulated there.
package speech

import (
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/live/traffic"
)

// A Place is where a translation is shown.
type Place struct {
	Session, Segment string
	Target           core.Language
}

// A Screen is what clients see, with the times since the start.
type Screen struct {
	places map[Place]*shown
	order  map[stream][]Place // finals, as they came
	naive  bool
}

type stream struct {
	session string
	target  core.Language
}

// shown is what was seen in one place.
type shown struct {
	began, ended time.Duration // of the source: its first words and its final
	source       string        // the final one
	arrived      []time.Duration
	views        []View
	concluded    string
	finals       int
	final        string
	finalAt      time.Duration
	failed, late bool
	corrected    bool
}

// A View is what was shown from a time on.
type View struct {
	At   time.Duration `json:"at"`
	Text string        `json:"text"`
}

// NewScreen returns one on which nothing is shown.
func NewScreen() *Screen { return &Screen{places: map[Place]*shown{}, order: map[stream][]Place{}} }

func (s *Screen) at(p Place) *shown {
	if s.places[p] == nil {
		s.places[p] = &shown{began: -1, ended: -1}
	}
	return s.places[p]
}

// Heard notes that a client sent e, translated into target.
func (s *Screen) Heard(e traffic.Event, target core.Language, at time.Duration) {
	p := s.at(Place{e.Session, e.Segment, target})
	if p.began < 0 && e.Text != "" {
		p.began = at
	}
	for n := len(strings.Fields(e.Text)); len(p.arrived) < n; {
		p.arrived = append(p.arrived, at)
	}
	if e.Final && p.ended < 0 {
		p.ended, p.source = at, e.Text
	}
}

// Saw notes what is shown from now on.
func (s *Screen) Saw(where Place, at time.Duration, text string) {
	p := s.at(where)
	if n := len(p.views); text != "" || n > 0 {
		if n == 0 || p.views[n-1].Text != text {
			p.views = append(p.views, View{at, text})
		}
	}
}

// Final notes that a final has come.
func (s *Screen) Final(where Place, at time.Duration, text string, failed, late, corrected bool) {
	p := s.at(where)
	p.finals++
	if p.finals > 1 {
		return
	}
	p.final, p.finalAt, p.failed, p.late, p.corrected = text, at, failed, late, corrected
	if !failed {
		s.Saw(where, at, text)
	}
	k := stream{where.Session, where.Target}
	s.order[k] = append(s.order[k], where)
}

// Measured are the measures of one run.
type Measured struct {
	Name     string  `json:"name"`
	Sessions int     `json:"sessions"`
	Segments int     `json:"segments"`
	Calls    int     `json:"calls"`
	Ampl     float64 `json:"amplification"`
	Erasure  float64 `json:"erasure"`
	Draft    Spread  `json:"first_draft_ms"`
	Final    Spread  `json:"final_lag_ms"`
	Stable   Spread  `json:"stable_lag_ms"`
	OnTime   float64 `json:"on_time"`
	Wasted   float64 `json:"wasted"`

	Corrected int `json:"corrected"`
	Failed    int `json:"failed"`
	Dropped   int `json:"dropped"`
	Inverted  int `json:"inverted"`
	Doubled   int `json:"doubled"`
	Differing int `json:"differing"` // finals that are not the translation of their sentences alone; below 0 where that is not known

	// Of a gateway; below 0 where there is none.
	RateLimited float64 `json:"rate_limited"`
	Cold        float64 `json:"cold"`
	CPU         float64 `json:"cpu_percent"`
	MB          float64 `json:"resident_mb"`

	// Deaf sessions read nothing; Cut of them were closed for it. They are in no other figure
	// but those of the gateway.
	Deaf int `json:"deaf,omitempty"`
	Cut  int `json:"cut,omitempty"`

	Lags  []Point           `json:"-"` // of finals, over time
	Views map[string][]View `json:"-"` // what was on screen of some segments
}

// A Point is the lag of one final.
type Point struct {
	Session string
	At, Lag time.Duration
}

// A Spread is how a measure spreads, in milliseconds.
type Spread struct{ P50, P95, P99 float64 }

func spread(of []time.Duration) Spread {
	if len(of) == 0 {
		return Spread{-1, -1, -1}
	}
	slices.Sort(of)
	at := func(p float64) float64 {
		return float64(of[int(math.Ceil(p*float64(len(of))))-1].Microseconds()) / 1000
	}
	return Spread{at(.5), at(.95), at(.99)}
}

// Measure sums up what was seen. Deadline is what makes a final late; sent are the code
// points that went upstream; alone, where it is known, is the translation of a text alone.
func (s *Screen) Measure(calls, sent, wasted int, deadline time.Duration, alone func(string, core.Language) string) Measured {
	m := Measured{Calls: calls, Differing: -1, RateLimited: -1, Cold: -1, CPU: -1, MB: -1, Views: map[string][]View{}}
	var drafts, finals, stables []time.Duration
	spoken, erased, words, onTime, wanted := 0, 0, 0, 0, 0
	sessions := map[string]bool{}
	if alone != nil {
		m.Differing = 0
	}
	brief, outputs := 0, 0
	for where, p := range s.places {
		if p.ended < 0 {
			continue
		}
		sessions[where.Session] = true
		wanted++
		m.Segments++
		spoken += len([]rune(p.source))
		if p.finals == 0 {
			m.Dropped++
			continue
		}
		if p.finals > 1 {
			m.Doubled++
		}
		if p.corrected {
			m.Corrected++
		}
		lag := p.finalAt - p.ended
		if p.failed {
			m.Failed++
			continue
		}
		if lag <= deadline {
			onTime++
		}
		finals = append(finals, lag)
		m.Lags = append(m.Lags, Point{where.Session, p.ended, lag})
		if alone != nil && p.final != alone(p.source, where.Target) {
			m.Differing++
		}
		last := tokens(where.Target, p.final)
		words += len(last)
		var was []string
		stable := 0
		for i, v := range p.views {
			is := tokens(where.Target, v.Text)
			erased += len(was) - common(was, is)
			was = is
			for n := common(is, last); stable < n; stable++ {
				source := min((stable+1)*len(p.arrived)/len(last), len(p.arrived))
				stables = append(stables, max(0, v.At-p.arrived[max(source, 1)-1]))
			}
			if v.Text != "" {
				outputs++
				if i+1 < len(p.views) && p.views[i+1].At-v.At < 300*time.Millisecond {
					brief++
				}
			}
		}
		if len(p.views) > 0 {
			drafts = append(drafts, p.views[0].At-p.began)
		}
		m.Views[where.Session+" "+where.Segment+" "+string(where.Target)] = p.views
	}
	for _, list := range s.order {
		for i := 1; i < len(list); i++ {
			a, b := s.places[list[i-1]], s.places[list[i]]
			// Who began later, and whose source was over later, came first.
			if a.began > b.began && a.ended > b.ended && !b.late {
				m.Inverted++
			}
		}
	}
	m.Sessions = len(sessions)
	m.Draft, m.Final, m.Stable = spread(drafts), spread(finals), spread(stables)
	m.Ampl, m.Erasure = ratio(sent, spoken), ratio(erased, words)
	m.OnTime, m.Wasted = ratio(onTime, wanted), ratio(wasted+brief, calls)
	slices.SortFunc(m.Lags, func(a, b Point) int { return int(a.At - b.At) })
	return m
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func tokens(l core.Language, text string) []string {
	switch l.Base() {
	case "zh", "ja", "th":
		var all []string
		for _, r := range text {
			if !unicode.IsSpace(r) {
				all = append(all, string(r))
			}
		}
		return all
	}
	return strings.Fields(text)
}

func common(a, b []string) (n int) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
