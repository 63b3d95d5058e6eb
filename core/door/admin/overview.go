package admin

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/history"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// A Table is what an operator is shown of one part of a gateway, on a terminal and on the
// page.
type Table struct {
	Head []Column `json:"head"` // the first is the title of the table
	Rows [][]Cell `json:"rows"`
}

// A Column of a table holds numbers, unless it is the first.
type Column struct {
	Title string `json:"title"`
	// Words says that it holds words, and Known that these need no title where there is
	// little room.
	Words bool `json:"words,omitempty"`
	Known bool `json:"-"`
}

// A Cell is one value of a table. One that is bad stands out.
type Cell struct {
	Text string `json:"text"`
	Bad  bool   `json:"bad,omitempty"`
}

func numbers(titles ...string) (all []Column) {
	for _, t := range titles {
		all = append(all, Column{Title: t})
	}
	return all
}

func good(text string) Cell { return Cell{Text: text} }

// A Sample is all metrics of a gateway, by name.
type Sample map[string]*dto.MetricFamily

// sampled is what a gatherer returned.
func sampled(all []*dto.MetricFamily) Sample {
	m := make(Sample, len(all))
	for _, f := range all {
		m[f.GetName()] = f
	}
	return m
}

// Sum adds up the values of a metric whose labels are these, given as names and
// values in turn.
func (m Sample) Sum(name string, labels ...string) float64 {
	total := 0.0
	for _, x := range m["dragoman_"+name].GetMetric() {
		if carries(x, labels) {
			total += x.GetGauge().GetValue() + x.GetCounter().GetValue()
		}
	}
	return total
}

func carries(x *dto.Metric, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		if label(x, labels[i]) != labels[i+1] {
			return false
		}
	}
	return true
}

func label(x *dto.Metric, name string) string {
	for _, l := range x.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// values returns those of one label, in their order.
func (m Sample) values(name, of string) []string {
	var all []string
	for _, x := range m["dragoman_"+name].GetMetric() {
		if v := label(x, of); v != "" && !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return all
}

// Overview is what is shown of a gateway. What is not well now stands out; what was counted
// once does not, for it would forever. Counts are since the start.
func Overview(s Status, m Sample) (all []Table) {
	add := func(head []Column, rows [][]Cell) {
		if len(rows) > 0 {
			all = append(all, Table{head, rows})
		}
	}

	ok, every := m.Sum("requests_total", "kind", "ok"), m.Sum("requests_total")
	hits := m.Sum("cache_hits_total") + m.Sum("cache_joins_total") + m.Sum("cache_preload_hits_total")
	add(numbers("REQUESTS", "in flight", "translated", "failed", "p50", "p99", "from the cache"), [][]Cell{{
		good("since the start"), good(Count(m.Sum("requests_in_flight"))), good(Count(ok)), good(Count(every - ok)),
		good(m.quantile("request_seconds", 0.5, 2)), good(m.quantile("request_seconds", 0.99, 100)), good(Share(hits, hits+m.Sum("cache_misses_total")-m.Sum("cache_joins_total"))),
	}})

	var rows [][]Cell
	known := m.values("stage_calls_total", "stage")
	for _, stage := range s.Stages {
		if !slices.Contains(known, stage) {
			rows = append(rows, []Cell{good(stage), good("-"), good("-"), good("-"), good("-"), m.gate(stage)})
			continue
		}
		calls := m.Sum("stage_calls_total", "stage", stage)
		rows = append(rows, []Cell{
			good(stage), good(Count(calls)), good(Count(m.Sum("stage_answers_total", "stage", stage))),
			good(Count(m.Sum("stage_errors_total", "stage", stage))), good(each(m.Sum("stage_self_seconds_total", "stage", stage), calls)), good(""),
		})
	}
	add(append(numbers("CHAIN", "calls", "answered", "errors", "own, mean"), Column{Title: "limits", Words: true, Known: true}), rows)

	rows = nil
	for _, stage := range m.values("line_waiting", "stage") {
		started := m.Sum("line_starts_total", "stage", stage)
		rows = append(rows, []Cell{
			good(stage), good(Count(m.Sum("line_waiting", "stage", stage))),
			good(Count(started)), good(Count(m.Sum("line_refused_total", "stage", stage))), good(Count(m.Sum("line_superseded_total", "stage", stage))),
			good(each(m.Sum("line_waited_seconds_total", "stage", stage), started)),
		})
	}
	add(numbers("LINE", "waiting", "started", "refused", "replaced", "waited, mean"), rows)

	rows = nil
	for _, o := range m.values("pool_connections", "origin") {
		state := func(name string) string {
			return Count(m.Sum("pool_connections", "origin", o, "state", name))
		}
		waiting := m.Sum("pool_waiting", "origin", o)
		rows = append(rows, []Cell{
			good(o), good(state("ready")), good(state("in_use")), {Count(waiting), waiting > 0}, good(Count(m.Sum("pool_dials_total", "origin", o))),
			good(Count(m.Sum("pool_dial_failures_total", "origin", o))), good(Count(m.Sum("pool_cold_total", "origin", o))), good(Count(m.Sum("pool_resends_total", "origin", o))),
		})
	}
	add(numbers("POOL", "ready", "in use", "waiting", "dialled", "failed", "cold", "sent again"), rows)

	rows = nil
	for _, p := range m.values("provider_attempts_total", "provider") {
		by := func(reason string) Cell {
			return good(Count(m.Sum("provider_attempts_total", "provider", p, "reason", reason)))
		}
		attempts, breaker := m.Sum("provider_attempts_total", "provider", p), int(m.Sum("provider_breaker_state", "provider", p))
		rows = append(rows, []Cell{
			good(p), {[...]string{"closed", "half open", "OPEN"}[min(max(breaker, 0), 2)], breaker != 0}, good(Count(attempts)),
			by("retry"), by("hedge"), by("fallback"), good(Count(attempts - m.Sum("provider_attempts_total", "provider", p, "outcome", "ok"))),
			good(each(m.Sum("provider_attempt_seconds_total", "provider", p), attempts)),
		})
	}
	add(numbers("PROVIDER", "breaker", "attempts", "retries", "hedges", "fallbacks", "failed", "mean"), rows)

	rows = nil
	for _, p := range m.values("provider_paused_seconds", "provider") {
		paused, most := m.Sum("provider_paused_seconds", "provider", p), m.Sum("provider_limit", "provider", p)
		if paused == 0 && most == 0 {
			continue
		}
		var left []string
		for _, unit := range m.values("provider_limit", "unit") {
			if limit := m.Sum("provider_limit", "provider", p, "unit", unit); limit > 0 {
				left = append(left, fmt.Sprintf("%s/%s %s left", Count(m.Sum("provider_left", "provider", p, "unit", unit)), Count(limit), unit))
			}
		}
		rows = append(rows, []Cell{good(p), {fmt.Sprintf("%.0f s", math.Ceil(paused)), paused > 0}, good(strings.Join(left, ", "))})
	}
	add(append(numbers("ACCOUNT", "paused for"), Column{Title: "left", Words: true, Known: true}), rows)

	rows = nil
	if len(s.Routes) > 1 {
		for _, r := range s.Routes {
			rows = append(rows, []Cell{good(r.Name), good(Count(m.Sum("provider_routed_total", "route", r.Name))), good(r.To)})
		}
	}
	add(append(numbers("ROUTE", "requests"), Column{Title: "takes", Words: true, Known: true}), rows)

	rows = nil
	for _, p := range s.Plugins {
		rows = append(rows, []Cell{
			good(p.Program), {p.State, p.State != "ready"}, good(fmt.Sprint(p.PID)), good(fmt.Sprint(p.Restarts)),
			good(core.Size(p.MemoryBytes >> 20 << 20).String()), good(strings.Join(p.Serves, ", ")),
		})
	}
	add(append(numbers("PLUGIN", "state", "process", "restarts", "memory"), Column{Title: "serves", Words: true}), rows)
	return all
}

// gate says how near a gate is to its limits.
func (m Sample) gate(stage string) Cell {
	var said []string
	bad := false
	if most := m.Sum("queue_max_concurrent", "stage", stage); most > 0 {
		said = append(said, fmt.Sprintf("%s of %s running", Count(m.Sum("queue_in_flight", "stage", stage)), Count(most)))
	}
	for _, unit := range m.values("ratelimit_limit", "unit") {
		if limit := m.Sum("ratelimit_limit", "stage", stage, "unit", unit); limit > 0 {
			left := m.Sum("ratelimit_left", "stage", stage, "unit", unit)
			bad = bad || left < 1
			said = append(said, fmt.Sprintf("%s/%s %s left", Count(max(left, 0)), Count(limit), unit))
		}
	}
	if n := m.Sum("ratelimit_refusals_total", "stage", stage); n > 0 {
		said = append(said, fmt.Sprintf("%s 429s, %.1f s paused", Count(n), m.Sum("ratelimit_paused_seconds_total", "stage", stage)))
	}
	return Cell{strings.Join(said, ", "), bad}
}

// quantile is where the share q of a histogram lies, estimated within its bucket;
// nothing below so many observations.
func (m Sample) quantile(name string, q float64, least uint64) string {
	var total uint64
	within := map[float64]uint64{} // by bound
	for _, x := range m["dragoman_"+name].GetMetric() {
		h := x.GetHistogram()
		total += h.GetSampleCount()
		for _, b := range h.GetBucket() {
			within[b.GetUpperBound()] += b.GetCumulativeCount()
		}
	}
	if total < least || total == 0 {
		return "-"
	}
	delete(within, math.Inf(1))
	bounds := slices.Sorted(maps.Keys(within))
	counts := make([]uint64, len(bounds), len(bounds)+1)
	for i, bound := range bounds {
		counts[i] = within[bound]
	}
	at := 1000 * history.Quantile(bounds, append(counts, total), q)
	if n := len(counts); n == 0 || float64(counts[n-1]) < q*float64(total) {
		return fmt.Sprintf("> %.0f ms", at)
	}
	return fmt.Sprintf("%.0f ms", at)
}

// Share writes part of a whole.
func Share(part, whole float64) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100*part/whole)
}

// Clock writes a time of this day without its date.
func Clock(at time.Time) string {
	at = at.Local()
	if time.Since(at) < 20*time.Hour {
		return at.Format("15:04:05")
	}
	return at.Format(time.DateTime)
}

// Count writes a whole number with thousands apart.
func Count(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// each is seconds a piece, in milliseconds.
func each(seconds, pieces float64) string {
	if pieces == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f ms", 1000*seconds/pieces)
}

// SessionsTable shows the live sessions that are open, those with most to do first.
func SessionsTable(sessions []Session) Table {
	all := slices.Clone(sessions)
	slices.SortStableFunc(all, func(a, b Session) int { return int(b.Revisions - a.Revisions) })
	t := Table{Head: numbers("LIVE", "state", "finals", "failed", "calls", "amplif.", "erasure", "draft", "final p50", "p99")}
	priced := slices.ContainsFunc(all, func(s Session) bool { return len(s.Cost) > 0 })
	if priced {
		t.Head = append(t.Head, Column{Title: "cost"})
	}
	for _, s := range all {
		state := Cell{"open", false}
		switch {
		case !s.Connected:
			state = Cell{"left", true}
		case s.Level > 0:
			state = Cell{"degraded", true}
		}
		row := []Cell{
			good(s.Session), state, good(Count(float64(s.Finals))), {Count(float64(s.Failed)), s.Failed > 0}, good(Count(float64(s.Calls))), good(fmt.Sprintf("%.1f", s.Amplification)),
			good(fmt.Sprintf("%.2f", s.Erasure)), good(fmt.Sprintf("%.0f ms", s.DraftP50MS)), good(fmt.Sprintf("%.0f ms", s.FinalP50MS)), good(fmt.Sprintf("%.0f ms", s.FinalP99MS)),
		}
		if priced {
			row = append(row, good(s.Cost.String()))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// UsageTable shows a report, with its total in the last row.
func UsageTable(r usage.Report) Table {
	heads := map[string]string{usage.ByKey: "KEY", usage.ByDay: "DAY", usage.ByDoor: "DOOR", usage.BySession: "SESSION"}
	t := Table{Head: numbers(heads[r.By], "texts", "characters", "cached", "tokens")}
	limited, paid := slices.ContainsFunc(r.Rows, func(row usage.ReportRow) bool { return row.Limit > 0 }), len(r.Total.Cost) > 0
	if limited {
		t.Head = append(t.Head, numbers("limit", "used")...)
	}
	if paid {
		t.Head = append(t.Head, Column{Title: "cost"})
	}
	if r.By == usage.BySession {
		t.Head = append(t.Head, numbers("key", "last")...)
	}
	orNone := func(text string) Cell {
		if text == "" {
			text = "-"
		}
		return good(text)
	}
	add := func(title Cell, row usage.ReportRow) {
		cells := []Cell{
			title, good(Count(float64(row.Texts))), good(Count(float64(row.Characters))),
			good(Share(float64(row.CachedCharacters), float64(row.Characters))), good(Count(float64(row.PromptTokens + row.CompletionTokens))),
		}
		if limited {
			limit, used := good("-"), good("-")
			if row.Limit > 0 {
				limit = good(Count(float64(row.Limit)))
				used = Cell{Share(float64(row.Characters), float64(row.Limit)), row.Characters >= row.Limit}
			}
			cells = append(cells, limit, used)
		}
		if paid {
			cells = append(cells, good(row.Cost.String()))
		}
		if r.By == usage.BySession {
			last := good("")
			if !row.Last.IsZero() {
				last = good(Clock(row.Last))
			}
			cells = append(cells, orNone(row.Key), last)
		}
		t.Rows = append(t.Rows, cells)
	}
	for _, row := range r.Rows {
		add(orNone(row.Name), row)
	}
	if len(r.Rows) != 1 {
		add(good("all"), usage.ReportRow{Use: r.Total})
	}
	return t
}
