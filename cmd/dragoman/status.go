package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door/admin"
)

func statusCommand() *cobra.Command {
	var r remote
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
				return fmt.Errorf("the metrics of the gateway cannot be understood: %w", err)
			}
			status(cmd.OutOrStdout(), s, counted)
			if !s.Ready {
				return errSaid
			}
			return nil
		},
	}
	r.add(cmd)
	return cmd
}

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

// status prints s and what was counted.
func status(w io.Writer, s admin.Status, m sample) {
	fmt.Fprintf(w, "Dragoman %s serves %s, generation %d, loaded %s, up %v\n", s.Version, s.Config, s.Generation, clock(s.Loaded), time.Duration(s.UptimeSeconds)*time.Second)
	if s.Ready {
		fmt.Fprintln(w, "ready")
	} else {
		fmt.Fprintf(w, "NOT READY   %s\n", s.NotReady)
	}
	if s.FileDiffers {
		fmt.Fprintf(w, "the file on disk differs from what serves: `dragoman reload` takes it over, `dragoman explain --diff` compares\n")
	}

	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(columns ...any) { fmt.Fprintf(t, "  "+strings.Repeat("%v\t", len(columns))+"\n", columns...) }
	table := func(head string, columns ...string) {
		t.Flush()
		fmt.Fprintln(w)
		fmt.Fprintf(t, "%s\t%s\t\n", head, strings.Join(columns, "\t"))
	}

	table("CHAIN", "calls", "answered", "errors", "of its own, mean")
	for _, name := range append(slices.Clone(s.Stages), prefixed("providers/", m.values("provider_attempts_total", "provider"))...) {
		if !slices.Contains(m.values("stage_calls_total", "stage"), name) {
			row(name, "guards", "", "", "")
			continue
		}
		calls := m.sum("stage_calls_total", "stage", name)
		row(name, count(calls), count(m.sum("stage_answers_total", "stage", name)), count(m.sum("stage_errors_total", "stage", name)), each(m.sum("stage_self_seconds_total", "stage", name), calls))
	}

	for _, stage := range m.values("line_waiting", "stage") {
		table("LINE", "waiting", "running", "started", "refused", "replaced", "waited, mean")
		started := m.sum("line_starts_total", "stage", stage)
		row(stage, count(m.sum("line_waiting", "stage", stage)),
			fmt.Sprintf("%s of %s", count(m.sum("queue_in_flight", "stage", stage)), count(m.sum("queue_max_concurrent", "stage", stage))),
			count(started), count(m.sum("line_refused_total", "stage", stage)), count(m.sum("line_superseded_total", "stage", stage)),
			each(m.sum("line_waited_seconds_total", "stage", stage), started))
	}

	if origins := m.values("pool_connections", "origin"); len(origins) > 0 {
		table("POOL", "ready", "in use", "waiting", "dialled", "failed", "cold", "sent again")
		for _, o := range origins {
			row(o, count(m.sum("pool_connections", "origin", o, "state", "ready")), count(m.sum("pool_connections", "origin", o, "state", "in_use")),
				count(m.sum("pool_waiting", "origin", o)), count(m.sum("pool_dials_total", "origin", o)), count(m.sum("pool_dial_failures_total", "origin", o)),
				count(m.sum("pool_cold_total", "origin", o)), count(m.sum("pool_resends_total", "origin", o)))
		}
	}

	table("PROVIDER", "breaker", "attempts", "retries", "hedges", "fallbacks", "failed", "mean")
	for _, p := range m.values("provider_attempts_total", "provider") {
		by := func(reason string) float64 {
			return m.sum("provider_attempts_total", "provider", p, "reason", reason)
		}
		all := m.sum("provider_attempts_total", "provider", p)
		row(p, [...]string{"closed", "half open", "OPEN"}[int(m.sum("provider_breaker_state", "provider", p))%3], count(all),
			count(by("retry")), count(by("hedge")), count(by("fallback")), count(all-m.sum("provider_attempts_total", "provider", p, "outcome", "ok")),
			each(m.sum("provider_attempt_seconds_total", "provider", p), all))
	}

	if len(s.Plugins) > 0 {
		table("PLUGIN", "state", "pid", "restarts", "memory", "serves")
		for _, p := range s.Plugins {
			row(p.Program, p.State, p.PID, p.Restarts, core.Size(p.MemoryBytes>>20<<20), strings.Join(p.Serves, ", "))
		}
	}
	t.Flush()
	if r := s.LastReload; r != nil {
		fmt.Fprintf(w, "\nLAST RELOAD  %s, by %s\n", clock(r.At), r.Trigger)
		for line := range strings.Lines(r.Text) {
			fmt.Fprintf(w, "  %s\n", strings.TrimRight(line, "\n"))
		}
	}
}

func prefixed(with string, names []string) []string {
	var all []string
	for _, n := range names {
		all = append(all, with+n)
	}
	return all
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
