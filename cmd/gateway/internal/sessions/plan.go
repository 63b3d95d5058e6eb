package sessions

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Options say what is run. Start from Defaults.
type Options struct {
	Sessions []int    // how many live sessions, a cell for each
	Modes    []string // pooled, direct
	Presets  []string // after, before
	Profile  string   // of the simulated upstream: steady or rough

	Rate     float64       // requests a minute of each session
	Duration time.Duration // in which requests begin
	Requests int           // of a cell, in place of Duration when not 0
	Repeats  float64       // share of requests that repeat an earlier text of their cell
	Seed     uint64
	AtOnce   int // cells that run at the same time; 0 is all

	// URL is a running gateway to drive in place of one started here; Admin is
	// where its metrics are, URL when empty; Key is an API key for it.
	URL, Admin, Key string
	// Engine is what the simulated upstream translates with; empty for its own.
	Engine string
	// Programs is the folder of dragoman and openai-sim.
	Programs string
}

// Defaults is the load test as it was planned.
func Defaults() Options {
	return Options{
		Sessions: []int{2, 3, 4}, Modes: []string{Pooled, Direct}, Presets: []string{After, Before}, Profile: "steady",
		Rate: 44, Duration: time.Minute, Seed: 1,
	}
}

// The values of Options.Modes and Options.Presets.
const (
	Pooled = "pooled" // the gateway keeps connections ready
	Direct = "direct" // it opens one for each call

	After  = "after"  // 6 calls at once, 25 ms between their starts: what is shipped
	Before = "before" // 4 and 50 ms: what had been safe without a pool
)

// maxRequests bounds a cell: the simulator keeps 16,384 requests in its book,
// and a retry is one more.
const maxRequests = 15_000

// Check returns what is wrong with o, by flag.
func (o Options) Check() error {
	var wrong []error
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	oneOf := func(flag string, values []string, known ...string) {
		if len(values) == 0 {
			complain("--%s: none is given", flag)
		}
		for i, v := range values {
			if !slices.Contains(known, v) {
				complain("--%s: there are %s, got %q", flag, strings.Join(known, " and "), v)
			} else if slices.Contains(values[:i], v) {
				complain("--%s: %s is given twice", flag, v)
			}
		}
	}
	if len(o.Sessions) == 0 {
		complain("--sessions: none is given")
	}
	for i, n := range o.Sessions {
		if n < 1 || n > 1000 {
			complain("--sessions: must be between 1 and 1000, got %d", n)
		} else if slices.Contains(o.Sessions[:i], n) {
			complain("--sessions: %d is given twice", n)
		}
	}
	oneOf("mode", o.Modes, Pooled, Direct)
	oneOf("preset", o.Presets, After, Before)
	oneOf("profile", []string{o.Profile}, "steady", "rough")
	if !(o.Rate > 0 && o.Rate <= 60_000) {
		complain("--rate: must be more than 0 and at most 60000 requests a minute, got %g", o.Rate)
	}
	if o.Duration <= 0 || o.Duration > 24*time.Hour {
		complain("--duration: must be more than 0s and at most 24h, got %s", o.Duration)
	}
	if o.Requests < 0 || o.Requests > maxRequests {
		complain("--requests: must be between 0 and %d, got %d", maxRequests, o.Requests)
	}
	if !(o.Repeats >= 0 && o.Repeats <= 1) {
		complain("--repeats: must be between 0 and 1, got %g", o.Repeats)
	}
	if o.AtOnce < 0 {
		complain("--at-once: must not be negative, got %d", o.AtOnce)
	}
	if len(wrong) == 0 && o.Requests == 0 {
		most := float64(slices.Max(o.Sessions)) * o.Rate * o.Duration.Minutes()
		if most > maxRequests {
			complain("--duration: %.0f requests would fall into the largest cell and at most %d can be kept: make it shorter, or --rate lower", most, maxRequests)
		}
	}
	for _, u := range []struct{ flag, value string }{{"url", o.URL}, {"admin", o.Admin}} {
		if u.value == "" {
			continue
		}
		if p, err := url.Parse(u.value); err != nil || p.Host == "" || p.Scheme != "http" && p.Scheme != "https" {
			complain("--%s: must be an http or https URL, such as http://127.0.0.1:8080", u.flag)
		}
	}
	if o.Admin != "" && o.URL == "" {
		complain("--admin: is for a gateway given by --url")
	}
	return errors.Join(wrong...)
}

// A Cell is one way to run the gateway under one load.
type Cell struct {
	Sessions int    `json:"sessions"`
	Mode     string `json:"mode"`
	Preset   string `json:"preset"`
	// Slots, unless 0, is how many calls the gateway may make at once, with limits that do
	// not bind.
	Slots int `json:"slots,omitempty"`
}

// given stands for the mode and the preset of a gateway that runs already.
const given = "as given"

// String names the cell.
func (c Cell) String() string {
	if c.Mode == given {
		return fmt.Sprintf("%d sessions", c.Sessions)
	}
	return fmt.Sprintf("%d sessions, %s, %s", c.Sessions, c.Mode, c.Preset)
}

// cells returns those of o: by number of sessions, so that what is compared
// runs in the same minutes.
func (o Options) cells() []Cell {
	var out []Cell
	for _, n := range o.Sessions {
		if o.URL != "" {
			out = append(out, Cell{Sessions: n, Mode: given, Preset: given})
			continue
		}
		for _, preset := range o.Presets {
			for _, mode := range o.Modes {
				out = append(out, Cell{Sessions: n, Mode: mode, Preset: preset})
			}
		}
	}
	return out
}

// An arrival is one request to come.
type arrival struct {
	session int
	at      time.Duration // after the start
	text    string
}

// settling is how long nobody speaks after a start: connections are dialled
// meanwhile, as they are when a gateway is started before the talk.
const settling = time.Second

// schedule returns the arrivals of a cell in the order in which they come. The
// arrivals of a session are a Poisson process. Each session draws from a stream
// of its own, so cells with as many sessions have the same arrivals, and what
// the first sessions do does not depend on how many follow.
func (o Options) schedule(sessions int) []arrival {
	var all []arrival
	for s := range sessions {
		rng := rand.New(rand.NewPCG(o.Seed, uint64(s)))
		mean := float64(time.Minute) / o.Rate
		at := float64(settling)
		for n := 0; ; n++ {
			at += rng.ExpFloat64() * mean
			if o.Requests > 0 && n == share(o.Requests, sessions, s) || o.Requests == 0 && time.Duration(at) >= settling+o.Duration {
				break
			}
			all = append(all, arrival{session: s, at: time.Duration(at)})
		}
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return int(a.at - b.at) })
	o.write(all)
	return all
}

// share is how many of n fall to the i-th of so many.
func share(n, many, i int) int {
	if i < n%many {
		return n/many + 1
	}
	return n / many
}

// write gives each arrival its text: one that the cell has not had yet or, at
// the rate of repeats, one that it has had.
func (o Options) write(all []arrival) {
	rng := rand.New(rand.NewPCG(o.Seed, 1<<63))
	had := make(map[string]bool, len(all))
	var texts []string
	for i := range all {
		if len(texts) > 0 && rng.Float64() < o.Repeats {
			all[i].text = texts[rng.IntN(len(texts))]
			continue
		}
		text := sentence(rng)
		for had[text] { // of two words there are only so many
			text = sentence(rng)
		}
		had[text] = true
		texts = append(texts, text)
		all[i].text = text
	}
}
