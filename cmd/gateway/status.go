package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core/door/admin"
)

func (p program) statusCommand() *cobra.Command {
	r := remote{program: p}
	var everybody bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show on one screen what a running gateway does",
		Long: `Show on one screen what a running gateway does: its chain, connections, waiting
requests, breakers and plugins, and what came of the last reload. Counts are since
it was started. With --all the gateways that share something with it are shown as well.

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
			if counted.Sum("live_sessions") > 0 {
				var open struct{ Sessions []admin.Session }
				if err := client.getJSON(cmd.Context(), "/admin/sessions", nil, &open); err != nil {
					return err
				}
				liveSessions(sc, open.Sessions)
			}
			if everybody {
				var g admin.Group
				if err := client.getJSON(cmd.Context(), "/admin/cluster", nil, &g); err != nil {
					return err
				}
				for _, t := range admin.GroupTables(g) {
					sc.table(t)
				}
			}
			if !s.Ready {
				return errSaid
			}
			return nil
		},
	}
	r.add(cmd)
	cmd.Flags().BoolVar(&everybody, "all", false, "show all gateways of its group, and the store that they share")
	return cmd
}

// statusColumns is how wide status is where there is no terminal.
const statusColumns = 100

func readSample(res *http.Response) (admin.Sample, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(io.LimitReader(res.Body, maxAnswer))
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

// mostName is the width of a name, such as that of a stage or an origin.
const mostName = 30

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

// table prints t, numbers to the right under their titles.
func (s *screen) table(t admin.Table) {
	if len(t.Rows) == 0 {
		return
	}
	titles := make([]admin.Cell, len(t.Head))
	for i, h := range t.Head {
		if !h.Known {
			titles[i].Text = h.Title
		}
	}
	rows := [][]admin.Cell{titles}
	for _, r := range t.Rows {
		row := slices.Clone(r)
		for i := range row {
			row[i].Text = oneLine(row[i].Text)
		}
		row[0].Text = beginning(row[0].Text, mostName)
		rows = append(rows, row)
	}
	widths := make([]int, len(t.Head))
	for _, r := range rows {
		for i := range widths {
			widths[i] = max(widths[i], utf8.RuneCountInString(r[i].Text))
		}
	}
	fmt.Fprintln(s.w)
	for _, row := range rows {
		var b strings.Builder
		at := 0
		for i, c := range row {
			text := pad(c.Text, widths[i])
			if i == len(row)-1 {
				text = c.Text
			}
			if i > 0 && !t.Head[i].Words {
				text = strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.Text)) + c.Text
			}
			if i > 0 {
				text = "  " + text
			}
			if at+utf8.RuneCountInString(text) > s.columns {
				text = beginning(text, max(s.columns-at, 1))
			}
			at += utf8.RuneCountInString(text)
			b.WriteString(s.mark(text, c.Bad))
			if at >= s.columns {
				break
			}
		}
		fmt.Fprintln(s.w, strings.TrimRight(b.String(), " "))
	}
}

// maxReload is how many lines of the last reload are shown.
const maxReload = 5

// status prints s and what was counted. What is not well now stands out; what
// was counted once does not, for it would forever.
func status(sc *screen, s admin.Status, m admin.Sample) {
	sc.line(false, fmt.Sprintf("Dragoman %s serves %s, generation %d, loaded %s, up %v", s.Version, s.Config, s.Generation, admin.Clock(s.Loaded), time.Duration(s.UptimeSeconds)*time.Second))
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

	for _, t := range admin.Overview(s, m) {
		sc.table(t)
	}

	if r := s.LastReload; r != nil {
		fmt.Fprintln(sc.w)
		sc.line(r.Outcome == "refused", fmt.Sprintf("LAST RELOAD  %s at %s, by %s", r.Outcome, admin.Clock(r.At), r.Trigger))
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

// mostSessions is how many live sessions status shows.
const mostSessions = 10

// liveSessions prints the live sessions that are open.
func liveSessions(sc *screen, all []admin.Session) {
	t := admin.SessionsTable(all)
	t.Rows = t.Rows[:min(len(all), mostSessions)]
	sc.table(t)
	if n := len(all) - mostSessions; n > 0 {
		sc.line(false, fmt.Sprintf("  and %d sessions more, at /admin/sessions", n))
	}
}
