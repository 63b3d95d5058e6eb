package sessions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// WriteTable writes the report for a terminal.
func (r *Report) WriteTable(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n%s\n", r.what(), r.load())
	few := false
	for _, m := range r.Cells {
		t := table{{"session", "n", "failed", "cached", "p50", "p95", "p99", "max", "added p50", "added p99", "paced p99"}}
		for _, row := range append(append([]Row{}, m.Rows...), m.Worst, m.All) {
			mark := ""
			if m.few() {
				few, mark = true, "*"
			}
			t = append(t, []string{row.Name, fmt.Sprint(row.N), fmt.Sprint(row.Failed), fmt.Sprint(row.Cached), row.P50.with(0), row.P95.with(0), row.P99.with(0) + mark, row.Max.with(0),
				row.AddedP50.with(1), row.AddedP99.with(1) + mark, row.PacedP99.with(1) + mark})
		}
		fmt.Fprintf(&b, "\n%s\n", m.Cell)
		t.write(&b)
		fmt.Fprintf(&b, "  CPU %s %%, resident %s MB, %s upstream calls, %s 429s, %s connections, %s cold requests\n",
			m.CPU.with(1), m.MB.with(0), m.Calls.with(0), m.RateLimited.with(0), m.Dialled.with(0), m.Cold.with(0))
		if m.Late > 5 {
			fmt.Fprintf(&b, "  the load came up to %s ms late (p99): this machine is too busy for these figures\n", m.Late.with(0))
		}
		for kind, n := range m.Failures {
			fmt.Fprintf(&b, "  failed: %s %d\n", kind, n)
		}
	}
	t := table{{"criterion", "bound", "got", ""}}
	for _, c := range r.Criteria {
		t = append(t, []string{c.Cell.String() + ": " + c.Name, c.sign() + " " + c.Bound.with(0) + c.unit(), c.Got.with(c.decimals()) + c.unit(), c.word()})
	}
	fmt.Fprintln(&b)
	t.write(&b)
	fmt.Fprintf(&b, "\n%s\n", r.headline())
	if few {
		fmt.Fprintf(&b, "* of fewer than %d requests in the cell: raise --requests or --duration for a p99 to rely on\n", enough)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// A table is lines of cells, the first of each to the left, the others to the
// right.
type table [][]string

func (t table) write(w io.Writer) {
	widths := make([]int, len(t[0]))
	for _, line := range t {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range t {
		out := "  "
		for i, cell := range line {
			blank := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				out += cell + blank
			} else {
				out += "  " + blank + cell
			}
		}
		fmt.Fprintln(w, strings.TrimRight(out, " "))
	}
}

// The lines of a file between which its table stands.
const (
	tableBegins = "<!-- made by `dragoman bench sessions --readme` -->"
	tableEnds   = "<!-- end of what it made -->"
)

// WriteMarkdown writes a line a cell, as it stands in a README.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s; %s, %s.\n\n", r.what(), r.Began.Format("2006-01-02"), r.load())
	b.WriteString("| sessions | connections, queue | n | p50 | p95 | p99 | max | added p50 / p99 | CPU | memory | calls | 429s | dialled | cold | criteria |\n")
	b.WriteString("|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|\n")
	few := false
	for _, m := range r.Cells {
		queue := map[string]string{After: "6 / 25 ms", Before: "4 / 50 ms"}[m.Preset]
		mark := ""
		if m.few() {
			few, mark = true, "\\*"
		}
		how := m.Mode
		if queue != "" {
			how += ", " + queue
		}
		fmt.Fprintf(&b, "| %d | %s | %d | %s | %s | %s%s | %s | %s / %s ms | %s %% | %s MB | %s | %s | %s | %s | %s |\n", m.Sessions, how, m.All.N,
			m.Worst.P50.with(0), m.Worst.P95.with(0), m.Worst.P99.with(0), mark, m.Worst.Max.with(0), m.Worst.AddedP50.with(1), m.Worst.AddedP99.with(1),
			m.CPU.with(1), m.MB.with(0), m.Calls.with(0), m.RateLimited.with(0), m.Dialled.with(0), m.Cold.with(0), r.inShort(m.Cell))
	}
	b.WriteString("\nTimes are milliseconds, of the worst session in each column; `added` is what the gateway adds to its upstream's own time, the wait for `min_interval` apart.\n")
	if few {
		fmt.Fprintf(&b, "\\* of fewer than %d requests.\n", enough)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// inShort tells of a cell's criteria in a few words.
func (r *Report) inShort(c Cell) string {
	asked, missed := 0, []string(nil)
	for _, k := range r.Criteria {
		if k.Cell == c && k.Asked {
			asked++
			if !k.Met {
				missed = append(missed, k.Name)
			}
		}
	}
	switch {
	case asked == 0:
		return "for comparison"
	case missed != nil:
		return "missed: " + strings.Join(missed, ", ")
	}
	return fmt.Sprintf("all %d met", asked)
}

// UpdateReadme puts the table between its marks in a file.
func (r *Report) UpdateReadme(file string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, begins := strings.Cut(string(old), tableBegins+"\n")
	_, tail, ends := strings.Cut(rest, tableEnds+"\n")
	if !begins || !ends {
		return errors.New(file + " does not have the two lines between which the table goes: " + tableBegins + " and " + tableEnds)
	}
	var b bytes.Buffer
	b.WriteString(head + tableBegins + "\n")
	if err := r.WriteMarkdown(&b); err != nil {
		return err
	}
	b.WriteString(tableEnds + "\n" + tail)
	return os.WriteFile(file, b.Bytes(), 0o644)
}
