package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door/admin"
)

func (p program) statusCommand() *cobra.Command {
	r := remote{program: p}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show on one screen what a running gateway does",
		Long: `Show on one screen what a running gateway does: its chain, connections, waiting
requests, breakers and plugins, and what came of the last reload. Counts are since
it was started.

Exit status: 0 when it is ready, 1 when it is not, or there is none.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := r.client()
			if err != nil {
				return err
			}
			var s admin.Status
			if err := client.getJSON(cmd.Context(), "/admin/status", nil, &s); err != nil {
				return err
			}
			res, err := client.get(cmd.Context(), "/metrics", nil)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			counted, err := readSample(res)
			if err != nil {
				return fmt.Errorf("the metrics of the gateway cannot be understood: %s", printable(err.Error()))
			}
			sc := newScreen(cmd.OutOrStdout(), statusColumns)
			status(sc, s, counted)
			if counted.sum("live_sessions") > 0 {
				var open struct{ Sessions []admin.Session }
				if err := client.getJSON(cmd.Context(), "/admin/sessions", nil, &open); err != nil {
					return err
				}
				liveSessions(sc, open.Sessions)
			}
			if !s.Ready {
				return errSaid
			}
			return nil
		},
	}
	r.add(cmd)
	return cmd
}

// statusColumns is how wide status is where there is no terminal.
const statusColumns = 100

// A sample is all metrics of a gateway, by name.
type sample map[string]*dto.MetricFamily

func readSample(res *http.Response) (sample, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(io.LimitReader(res.Body, maxAnswer))
}

// sum adds up the values of a metric whose labels are these, given as names and
// values in turn.
func (m sample) sum(name string, labels ...string) float64 {
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
func (m sample) values(name, of string) []string {
	var all []string
	for _, x := range m["dragoman_"+name].GetMetric() {
		if v := label(x, of); v != "" && !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return all
}

// A screen is what status prints on, line by line, no line longer than columns.
type screen struct {
	w       io.Writer
	columns int
	colour  bool
}

// newScreen returns the terminal behind out; a screen of usual columns where there is none.
func newScreen(out io.Writer, usual int) *screen {
	columns, colour := terminal(out)
	if columns == 0 {
		columns = usual
	}
	return &screen{out, columns, colour}
}

// printJSON prints v for machines and people.
func printJSON(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// A cell is one value of a table. One that is bad stands out.
type cell struct {
	text string
	bad  bool
}

func good(text string) cell { return cell{text: text} }

// mostName is the width of a name, such as that of a stage or an origin.
const mostName = 30

func name(s string) cell { return good(beginning(oneLine(s), mostName)) }

func oneLine(s string) string { return strings.ReplaceAll(printable(s), "\n", " ") }

// line prints one line; one that is bad stands out.
func (s *screen) line(bad bool, text string) {
	text = strings.TrimRight(beginning(oneLine(text), s.columns), " ")
	fmt.Fprintln(s.w, s.mark(text, bad))
}

func (s *screen) mark(text string, bad bool) string {
	if bad && s.colour {
		return "\x1b[1;31m" + text + "\x1b[0m"
	}
	return text
}

// toTheLeft is the head of a last column of words.
const toTheLeft = ""

// table prints rows below head, numbers to the right under theirs.
func (s *screen) table(head []string, rows [][]cell) {
	if len(rows) == 0 {
		return
	}
	widths := make([]int, len(head))
	for i, h := range head {
		widths[i] = utf8.RuneCountInString(h)
		for _, r := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(r[i].text))
		}
	}
	fmt.Fprintln(s.w)
	write := func(row []cell) {
		var b strings.Builder
		at := 0
		for i, c := range row {
			text := pad(c.text, widths[i])
			if i == len(row)-1 {
				text = c.text
			}
			if i > 0 && head[i] != toTheLeft && head[i] != "serves" {
				text = strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)) + c.text
			}
			if i > 0 {
				text = "  " + text
			}
			if at+utf8.RuneCountInString(text) > s.columns {
				text = beginning(text, max(s.columns-at, 1))
			}
			at += utf8.RuneCountInString(text)
			b.WriteString(s.mark(text, c.bad))
			if at >= s.columns {
				break
			}
		}
		fmt.Fprintln(s.w, strings.TrimRight(b.String(), " "))
	}
	titles := make([]cell, len(head))
	for i, h := range head {
		titles[i] = good(h)
	}
	write(titles)
	for _, r := range rows {
		write(r)
	}
}

// maxReload is how many lines of the last reload are shown.
const maxReload = 5

// status prints s and what was counted. What is not well now stands out; what
// was counted once does not, for it would forever.
func status(sc *screen, s admin.Status, m sample) {
	sc.line(false, fmt.Sprintf("Dragoman %s serves %s, generation %d, loaded %s, up %v", s.Version, s.Config, s.Generation, clock(s.Loaded), time.Duration(s.UptimeSeconds)*time.Second))
	if s.Ready {
		sc.line(false, "ready")
	} else {
		sc.line(true, "NOT READY: "+s.NotReady)
	}
	if s.Notice != "" {
		sc.line(true, "NOTICE: "+s.Notice)
	}
	if s.FileDiffers {
		sc.line(true, "FILE DIFFERS from what serves: `dragoman reload` takes it over, `explain --diff` compares")
	}

	ok, all := m.sum("requests_total", "kind", "ok"), m.sum("requests_total")
	hits := m.sum("cache_hits_total") + m.sum("cache_joins_total") + m.sum("cache_preload_hits_total")
	sc.table([]string{"REQUESTS", "in flight", "translated", "failed", "p50", "p99", "from the cache"}, [][]cell{{
		good("since the start"), good(count(m.sum("requests_in_flight"))), good(count(ok)), good(count(all - ok)),
		good(m.quantile("request_seconds", 0.5, 2)), good(m.quantile("request_seconds", 0.99, 100)), good(share(hits, hits+m.sum("cache_misses_total")-m.sum("cache_joins_total"))),
	}})

	var rows [][]cell
	known := m.values("stage_calls_total", "stage")
	for _, stage := range s.Stages {
		if !slices.Contains(known, stage) {
			rows = append(rows, []cell{name(stage), good("-"), good("-"), good("-"), good("-"), m.gate(stage)})
			continue
		}
		calls := m.sum("stage_calls_total", "stage", stage)
		rows = append(rows, []cell{
			name(stage), good(count(calls)), good(count(m.sum("stage_answers_total", "stage", stage))),
			good(count(m.sum("stage_errors_total", "stage", stage))), good(each(m.sum("stage_self_seconds_total", "stage", stage), calls)), good(""),
		})
	}
	sc.table([]string{"CHAIN", "calls", "answered", "errors", "own, mean", toTheLeft}, rows)

	rows = nil
	for _, stage := range m.values("line_waiting", "stage") {
		started := m.sum("line_starts_total", "stage", stage)
		rows = append(rows, []cell{
			name(stage), good(count(m.sum("line_waiting", "stage", stage))),
			good(count(started)), good(count(m.sum("line_refused_total", "stage", stage))), good(count(m.sum("line_superseded_total", "stage", stage))),
			good(each(m.sum("line_waited_seconds_total", "stage", stage), started)),
		})
	}
	sc.table([]string{"LINE", "waiting", "started", "refused", "replaced", "waited, mean"}, rows)

	rows = nil
	for _, o := range m.values("pool_connections", "origin") {
		state := func(name string) string {
			return count(m.sum("pool_connections", "origin", o, "state", name))
		}
		waiting := m.sum("pool_waiting", "origin", o)
		rows = append(rows, []cell{
			name(o), good(state("ready")), good(state("in_use")), {count(waiting), waiting > 0}, good(count(m.sum("pool_dials_total", "origin", o))),
			good(count(m.sum("pool_dial_failures_total", "origin", o))), good(count(m.sum("pool_cold_total", "origin", o))), good(count(m.sum("pool_resends_total", "origin", o))),
		})
	}
	sc.table([]string{"POOL", "ready", "in use", "waiting", "dialled", "failed", "cold", "sent again"}, rows)

	rows = nil
	for _, p := range m.values("provider_attempts_total", "provider") {
		by := func(reason string) cell {
			return good(count(m.sum("provider_attempts_total", "provider", p, "reason", reason)))
		}
		attempts, breaker := m.sum("provider_attempts_total", "provider", p), int(m.sum("provider_breaker_state", "provider", p))
		rows = append(rows, []cell{
			name(p), {[...]string{"closed", "half open", "OPEN"}[min(max(breaker, 0), 2)], breaker != 0}, good(count(attempts)),
			by("retry"), by("hedge"), by("fallback"), good(count(attempts - m.sum("provider_attempts_total", "provider", p, "outcome", "ok"))),
			good(each(m.sum("provider_attempt_seconds_total", "provider", p), attempts)),
		})
	}
	sc.table([]string{"PROVIDER", "breaker", "attempts", "retries", "hedges", "fallbacks", "failed", "mean"}, rows)

	rows = nil
	for _, p := range m.values("provider_paused_seconds", "provider") {
		paused, most := m.sum("provider_paused_seconds", "provider", p), m.sum("provider_limit", "provider", p)
		if paused == 0 && most == 0 {
			continue
		}
		var left []string
		for _, unit := range m.values("provider_limit", "unit") {
			if limit := m.sum("provider_limit", "provider", p, "unit", unit); limit > 0 {
				left = append(left, fmt.Sprintf("%s/%s %s left", count(m.sum("provider_left", "provider", p, "unit", unit)), count(limit), oneLine(unit)))
			}
		}
		rows = append(rows, []cell{name(p), {fmt.Sprintf("%.0f s", math.Ceil(paused)), paused > 0}, good(strings.Join(left, ", "))})
	}
	sc.table([]string{"ACCOUNT", "paused for", toTheLeft}, rows)

	rows = nil
	if len(s.Routes) > 1 {
		for _, r := range s.Routes {
			rows = append(rows, []cell{name(r.Name), good(count(m.sum("provider_routed_total", "route", r.Name))), good(oneLine(r.To))})
		}
	}
	sc.table([]string{"ROUTE", "requests", toTheLeft}, rows)

	rows = nil
	for _, p := range s.Plugins {
		rows = append(rows, []cell{
			name(p.Program), {oneLine(p.State), p.State != "ready"}, good(fmt.Sprint(p.PID)), good(fmt.Sprint(p.Restarts)),
			good(core.Size(p.MemoryBytes >> 20 << 20).String()), good(oneLine(strings.Join(p.Serves, ", "))),
		})
	}
	sc.table([]string{"PLUGIN", "state", "process", "restarts", "memory", "serves"}, rows)

	if r := s.LastReload; r != nil {
		fmt.Fprintln(sc.w)
		sc.line(r.Outcome == "refused", fmt.Sprintf("LAST RELOAD  %s at %s, by %s", r.Outcome, clock(r.At), r.Trigger))
		lines := strings.Split(strings.TrimRight(r.Text, "\n"), "\n")
		for i, l := range lines {
			if i == maxReload-1 && len(lines) > maxReload {
				sc.line(false, fmt.Sprintf("  and %d lines more, in the log", len(lines)-i))
				break
			}
			sc.line(false, "  "+l)
		}
	}
}

// gate says how near a gate is to its limits.
func (m sample) gate(stage string) cell {
	var said []string
	bad := false
	if most := m.sum("queue_max_concurrent", "stage", stage); most > 0 {
		said = append(said, fmt.Sprintf("%s of %s running", count(m.sum("queue_in_flight", "stage", stage)), count(most)))
	}
	for _, unit := range m.values("ratelimit_limit", "unit") {
		if limit := m.sum("ratelimit_limit", "stage", stage, "unit", unit); limit > 0 {
			left := m.sum("ratelimit_left", "stage", stage, "unit", unit)
			bad = bad || left < 1
			said = append(said, fmt.Sprintf("%s/%s %s left", count(max(left, 0)), count(limit), oneLine(unit)))
		}
	}
	if n := m.sum("ratelimit_refusals_total", "stage", stage); n > 0 {
		said = append(said, fmt.Sprintf("%s 429s, %.1f s paused", count(n), m.sum("ratelimit_paused_seconds_total", "stage", stage)))
	}
	return cell{strings.Join(said, ", "), bad}
}

// quantile is where the share q of a histogram lies, estimated within its bucket;
// nothing below so many observations.
func (m sample) quantile(name string, q, least float64) string {
	total := 0.0
	within := map[float64]float64{}
	for _, x := range m["dragoman_"+name].GetMetric() {
		h := x.GetHistogram()
		total += float64(h.GetSampleCount())
		for _, b := range h.GetBucket() {
			within[b.GetUpperBound()] += float64(b.GetCumulativeCount())
		}
	}
	if total < least || total == 0 {
		return "-"
	}
	below, so := 0.0, 0.0
	for _, bound := range slices.Sorted(maps.Keys(within)) {
		n := within[bound]
		if n >= q*total {
			if math.IsInf(bound, 1) {
				break
			}
			at := bound
			if n > so {
				at = below + (bound-below)*(q*total-so)/(n-so)
			}
			return fmt.Sprintf("%.0f ms", 1000*at)
		}
		if !math.IsInf(bound, 1) {
			below, so = bound, n
		}
	}
	return fmt.Sprintf("> %.0f ms", 1000*below)
}

// share writes part of a whole.
func share(part, whole float64) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100*part/whole)
}

// clock writes a time of this day without its date.
func clock(at time.Time) string {
	at = at.Local()
	if time.Since(at) < 20*time.Hour {
		return at.Format("15:04:05")
	}
	return at.Format(time.DateTime)
}

// count writes a whole number with thousands apart.
func count(v float64) string {
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

// mostSessions is how many live sessions status shows.
const mostSessions = 10

// liveSessions prints the live sessions that are open, those with most to do first.
func liveSessions(sc *screen, all []admin.Session) {
	slices.SortStableFunc(all, func(a, b admin.Session) int { return int(b.Revisions - a.Revisions) })
	var rows [][]cell
	head := []string{"LIVE", "state", "finals", "failed", "calls", "amplif.", "erasure", "draft", "final p50", "p99"}
	priced := slices.ContainsFunc(all, func(s admin.Session) bool { return len(s.Cost) > 0 })
	if priced {
		head = append(head, "cost")
	}
	for _, s := range all[:min(len(all), mostSessions)] {
		state := cell{"open", false}
		switch {
		case !s.Connected:
			state = cell{"left", true}
		case s.Level > 0:
			state = cell{"degraded", true}
		}
		rows = append(rows, []cell{
			name(s.Session), state, good(count(float64(s.Finals))), {count(float64(s.Failed)), s.Failed > 0}, good(count(float64(s.Calls))), good(fmt.Sprintf("%.1f", s.Amplification)),
			good(fmt.Sprintf("%.2f", s.Erasure)), good(fmt.Sprintf("%.0f ms", s.DraftP50MS)), good(fmt.Sprintf("%.0f ms", s.FinalP50MS)), good(fmt.Sprintf("%.0f ms", s.FinalP99MS)),
		})
		if priced {
			rows[len(rows)-1] = append(rows[len(rows)-1], good(s.Cost.String()))
		}
	}
	sc.table(head, rows)
	if n := len(all) - mostSessions; n > 0 {
		sc.line(false, fmt.Sprintf("  and %d sessions more, at /admin/sessions", n))
	}
}
