package live

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// brief is how long a text must have been on screen for its call not to be wasted.
const brief = 300 * time.Millisecond

// A meter measures what is shown of one segment in one language.
type meter struct {
	began   time.Time
	arrived []time.Time // when the n-th word of the source came
	shown   []view
	pending int // calls whose answer is not on screen yet
	calls   int // that made what is on screen
	wasted  int
	erased  int
}

// A view is what was on screen since at.
type view struct {
	at    time.Time
	words []string
}

// maxViews bounds how many of them a segment keeps.
const maxViews = 256

// heard notes how many words of the source have come.
func (m *meter) heard(now time.Time, text string) {
	if m.began.IsZero() && strings.TrimSpace(text) != "" {
		m.began = now
	}
	for n := (measure(text) + 3) / 4; len(m.arrived) < n; {
		m.arrived = append(m.arrived, now)
	}
}

// answered notes that so many calls made what will be shown next.
func (m *meter) answered(now time.Time, calls int) {
	m.wasted += m.pending // its answer was never shown
	m.pending = calls
}

// saw notes what is on screen from now on.
func (m *meter) saw(l core.Language, now time.Time, text string, final bool) {
	words := tokens(l, text)
	if n := len(m.shown); n > 0 {
		was := m.shown[n-1]
		if slices.Equal(was.words, words) {
			return
		}
		m.erased += len(was.words) - common(was.words, words)
		if now.Sub(was.at) < brief && m.pending+m.calls > 0 && !final {
			m.wasted += m.calls
		}
	} else if len(words) == 0 {
		return
	}
	m.calls, m.pending = m.pending, 0
	if len(m.shown) == maxViews {
		m.shown = slices.Delete(m.shown, 1, 2)
	}
	m.shown = append(m.shown, view{now, words})
}

// Stats are the measures of a session so far. Times are milliseconds; what nothing is
// known of is left out.
type Stats struct {
	Head
	Seconds float64 `json:"seconds"`
	Counters
	// Amplification is how many code points went upstream for each of a final.
	Amplification float64 `json:"amplification"`
	// Erasure is the normalised erasure.
	Erasure   float64 `json:"erasure"`
	OnTime    float64 `json:"on_time"` // share of finals
	FinalLag  Spread  `json:"final_lag_ms"`
	DraftLag  Spread  `json:"first_draft_ms"`
	StableLag Spread  `json:"stable_lag_ms"`
	QueueMS   int64   `json:"queue_ms"`
	Level     int     `json:"level"` // of backpressure: 0 none, 1 fewer partials, 2 finals only, 3 cache and fallbacks only, else the source in place of finals

	// Cost is what whoever makes the calls says that they cost so far.
	Cost any `json:"cost,omitempty"`

	began                 time.Time
	sent, spoken          int64 // code points
	erased, words, onTime int64
	finals, drafts, lags  samples
}

// Counters only rise.
type Counters struct {
	Segments  int64 `json:"segments"`
	Revisions int64 `json:"revisions"`
	Finals    int64 `json:"finals"` // one for each target
	Failed    int64 `json:"failed"` // of those
	Late      int64 `json:"late"`
	Corrected int64 `json:"corrected"`

	// Calls are those upstream; Asked all translations that were asked for, of which
	// the cache, or a call that was under way, answered the rest.
	Calls            int64 `json:"calls"`
	Asked            int64 `json:"asked"`
	Wasted           int64 `json:"wasted"`
	PartialErrors    int64 `json:"partial_errors"`
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
}

// A Spread is how a measure spreads over its latest values.
type Spread struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// samples are the latest values of a measure, in milliseconds.
type samples struct {
	ms   []int32
	next int
}

const maxSamples = 512

func (s *samples) add(d time.Duration) {
	ms := int32(min(d.Milliseconds(), math.MaxInt32))
	if len(s.ms) < maxSamples {
		s.ms = append(s.ms, ms)
		return
	}
	s.ms[s.next] = ms
	s.next = (s.next + 1) % maxSamples
}

func (s *samples) spread() Spread {
	if len(s.ms) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(s.ms))
	at := func(p float64) float64 { return float64(sorted[int(math.Ceil(p*float64(len(sorted))))-1]) }
	return Spread{at(.5), at(.95), at(.99)}
}

func (t *Stats) answered(f *flight, a Answer) {
	t.Asked++
	t.Calls += int64(a.Attempts)
	t.sent += int64(a.Attempts * f.chars)
	t.PromptTokens += int64(a.Usage.PromptTokens)
	t.CompletionTokens += int64(a.Usage.CompletionTokens)
}

// final notes that the final of k is given.
func (t *Stats) final(k *track, now time.Time, deadline time.Duration) {
	g, f, m := k.segment, k.ready, &k.measure
	t.Finals++
	lag := now.Sub(g.finalAt)
	t.finals.add(lag)
	t.spoken += int64(len([]rune(g.text)))
	if f.Late {
		t.Late++
	}
	if f.Corrected > 0 {
		t.Corrected++
	}
	if f.Last.Error != nil {
		t.Failed++
		return
	}
	if deadline <= 0 || lag <= deadline {
		t.onTime++
	}
	m.saw(k.target.language, now, f.Text, true)
	t.Wasted += int64(m.wasted)
	if len(m.shown) == 0 {
		return
	}
	last := m.shown[len(m.shown)-1].words
	t.erased += int64(m.erased)
	t.words += int64(len(last))
	if !m.began.IsZero() {
		t.drafts.add(m.shown[0].at.Sub(m.began))
	}
	if len(m.arrived) == 0 || len(last) == 0 {
		return
	}
	stable := 0
	for _, v := range m.shown {
		for n := common(v.words, last); stable < n; stable++ {
			source := (stable + 1) * len(m.arrived) / len(last)
			t.lags.add(max(0, v.at.Sub(m.arrived[max(0, min(source, len(m.arrived))-1)])))
		}
	}
	k.measure = meter{}
}

// Stats are the measures so far.
func (s *Session) Stats(now time.Time) *Stats {
	t := s.stats
	t.Head = Head{Type: "stats"}
	t.Seconds = now.Sub(t.began).Seconds()
	if t.spoken > 0 {
		t.Amplification = round2(float64(t.sent) / float64(t.spoken))
	}
	if t.words > 0 {
		t.Erasure = round2(float64(t.erased) / float64(t.words))
	}
	if t.Finals > 0 {
		t.OnTime = round2(float64(t.onTime) / float64(t.Finals))
	}
	t.FinalLag, t.DraftLag, t.StableLag = t.finals.spread(), t.drafts.spread(), t.lags.spread()
	t.QueueMS, t.Level = s.delay.Milliseconds(), s.level
	t.finals, t.drafts, t.lags = samples{}, samples{}, samples{}
	return &t
}

func round2(x float64) float64 { return math.Round(x*1000) / 1000 }

// Spent notes what the session has cost so far, which its measures tell as it is.
func (s *Session) Spent(cost any) { s.stats.Cost = cost }

// Counters are those of the measures so far.
func (s *Session) Counters() Counters { return s.stats.Counters }

// Less returns what c counts more than o.
func (c Counters) Less(o Counters) Counters {
	return Counters{
		Segments: c.Segments - o.Segments, Revisions: c.Revisions - o.Revisions, Finals: c.Finals - o.Finals, Failed: c.Failed - o.Failed,
		Late: c.Late - o.Late, Corrected: c.Corrected - o.Corrected, Calls: c.Calls - o.Calls, Asked: c.Asked - o.Asked, Wasted: c.Wasted - o.Wasted,
		PartialErrors: c.PartialErrors - o.PartialErrors, PromptTokens: c.PromptTokens - o.PromptTokens, CompletionTokens: c.CompletionTokens - o.CompletionTokens,
	}
}
