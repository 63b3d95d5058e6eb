package speech

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

// A Report is what `dragoman bench live` has to say.
type Report struct {
	What string     `json:"what"`
	Runs []Measured `json:"runs"`
}

// columns are the figures of a run, as the tables show them.
func (m Measured) columns() []string {
	or := func(x float64, format string) string {
		if x < 0 {
			return "-"
		}
		return fmt.Sprintf(format, x)
	}
	lag := func(s Spread) string {
		return or(s.P50, "%.0f") + " / " + or(s.P95, "%.0f") + " / " + or(s.P99, "%.0f")
	}
	return []string{
		m.Name, fmt.Sprint(m.Sessions), fmt.Sprint(m.Segments), fmt.Sprint(m.Calls), fmt.Sprintf("%.2f", m.Ampl), fmt.Sprintf("%.2f", m.Erasure),
		or(m.Draft.P50, "%.0f"), lag(m.Final), or(m.Stable.P50, "%.0f"), fmt.Sprintf("%.1f %%", 100*m.OnTime), fmt.Sprintf("%.0f %%", 100*m.Wasted),
		or(m.RateLimited, "%.0f"), or(m.Cold, "%.0f"), or(m.CPU, "%.1f"), or(m.MB, "%.0f"), m.unread(), fmt.Sprintf("%d, %d, %d", m.Dropped, m.Inverted, m.Doubled),
	}
}

var headings = []string{
	"", "sessions", "finals", "calls", "amplification", "erasure", "first draft p50", "final lag p50 / p95 / p99", "stable lag p50", "on time", "wasted",
	"429s", "cold", "CPU %", "MB", "read nothing, closed", "dropped, inverted, doubled",
}

func (m Measured) unread() string {
	if m.Deaf == 0 {
		return "-"
	}
	return fmt.Sprintf("%d, %d", m.Deaf, m.Cut)
}

// known are the columns of which something is known.
func (r Report) known() (all []int) {
	for i := range headings {
		for _, m := range r.Runs {
			if m.columns()[i] != "-" {
				all = append(all, i)
				break
			}
		}
	}
	return all
}

// WriteTable writes the report for a terminal.
func (r Report) WriteTable(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n\n", r.What)
	// A run a column reads better than a run a line: there are more figures than runs.
	wide := 0
	for _, h := range headings {
		wide = max(wide, utf8.RuneCountInString(h))
	}
	for _, i := range r.known() {
		fmt.Fprintf(&b, "  %-*s", wide, strings.TrimSpace(headings[i]))
		for _, m := range r.Runs {
			fmt.Fprintf(&b, "  %*s", max(22, utf8.RuneCountInString(m.Name)), m.columns()[i])
		}
		b.WriteByte('\n')
	}
	_, err := w.Write(b.Bytes())
	return err
}

// WriteJSON writes the report as one JSON object.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteMarkdown writes a line a run.
func (r Report) WriteMarkdown(w io.Writer) error {
	var b bytes.Buffer
	line := func(cells []string) {
		for _, i := range r.known() {
			b.WriteString("| " + cells[i] + " ")
		}
		b.WriteString("|\n")
	}
	b.WriteString(r.What + "\n\n")
	line(headings)
	b.WriteString("|---" + strings.Repeat("|---:", len(r.known())-1) + "|\n")
	for _, m := range r.Runs {
		line(m.columns())
	}
	_, err := w.Write(b.Bytes())
	return err
}

// UpdateReadme puts the table between two marks of a file.
func (r Report) UpdateReadme(file, command string) error {
	begins, ends := "<!-- made by `dragoman bench live"+command+" --readme` -->\n", "<!-- end of what it made -->\n"
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, is := strings.Cut(string(old), begins)
	_, tail, has := strings.Cut(rest, ends)
	if !is || !has {
		return errors.New(file + " does not have the two lines between which the table goes: " + strings.TrimSpace(begins) + " and " + strings.TrimSpace(ends))
	}
	var b bytes.Buffer
	b.WriteString(head + begins)
	if err := r.WriteMarkdown(&b); err != nil {
		return err
	}
	b.WriteString(ends + tail)
	return os.WriteFile(file, b.Bytes(), 0o644)
}
