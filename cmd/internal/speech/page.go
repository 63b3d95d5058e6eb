package speech

import (
	_ "embed"
	"fmt"
	"html"
	"os"
	"slices"
	"strings"
	"time"
)

//go:embed page.html
var pageHTML string

// WritePage writes the report as one HTML page that needs nothing from outside.
func (r Report) WritePage(file string) error {
	return os.WriteFile(file, []byte(r.page()), 0o644)
}

// page fills page.html in, by hand: with html/template in it a program holds whatever
// method anybody could call by name, which made this one 5 MB larger.
func (r Report) page() string {
	v := r.view()
	var table, lags, segments strings.Builder
	for _, row := range v.Table {
		table.WriteString("<tr>")
		for i, cell := range row {
			tag := "td"
			if i == 0 {
				tag = "th"
			}
			fmt.Fprintf(&table, "<%s>%s</%[1]s>", tag, html.EscapeString(cell))
		}
		table.WriteString("</tr>\n")
	}
	for _, c := range v.Lags {
		fmt.Fprintf(&lags, `<div class="card"><h3>%s</h3>%s</div>`, html.EscapeString(c.Title), c.SVG)
	}
	for _, row := range v.Segments {
		segments.WriteString(`<div class="pairs">`)
		for _, s := range row {
			s.write(&segments)
		}
		segments.WriteString("</div>\n")
	}
	return strings.NewReplacer(
		"{{.What}}", html.EscapeString(v.What), "{{.Table}}", table.String(), "{{.Lags}}", lags.String(), "{{.Segments}}", segments.String(),
	).Replace(pageHTML)
}

func (s story) write(b *strings.Builder) {
	fmt.Fprintf(b, `<div class="card"><h3>%s</h3><ol tabindex="0">`, html.EscapeString(s.Title))
	for _, l := range s.Lines {
		fmt.Fprintf(b, "<li><b>%s</b><span>%s", html.EscapeString(l.At), html.EscapeString(l.Kept))
		if l.New != "" {
			fmt.Fprintf(b, " <ins>%s</ins>", html.EscapeString(l.New))
		}
		if l.Gone != "" {
			fmt.Fprintf(b, " <del>%s</del>", html.EscapeString(l.Gone))
		}
		b.WriteString("</span></li>")
	}
	b.WriteString("</ol></div>")
}

type pageView struct {
	What     string
	Table    [][]string
	Lags     []chart
	Segments [][]story
}

type chart struct {
	Title string
	SVG   string
}

// A story is what one segment showed.
type story struct {
	Title string
	Lines []storyLine
}

type storyLine struct{ At, Kept, New, Gone string }

// stories is how many segments the page shows.
const stories = 4

func (r Report) view() pageView {
	v := pageView{What: r.What}
	for _, i := range r.known() {
		line := []string{headings[i]}
		for _, m := range r.Runs {
			line = append(line, m.columns()[i])
		}
		v.Table = append(v.Table, line)
	}
	for _, m := range r.Runs {
		v.Lags = append(v.Lags, chart{m.Name, lags(m)})
	}
	if len(r.Runs) == 0 {
		return v
	}
	// Those that changed most where they changed most.
	first := r.Runs[0]
	for _, m := range r.Runs {
		if strings.HasPrefix(m.Name, "naive") {
			first = m
		}
	}
	names := make([]string, 0, len(first.Views))
	for name := range first.Views {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if n := len(first.Views[b]) - len(first.Views[a]); n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	for _, name := range names[:min(len(names), stories)] {
		var row []story
		for _, m := range r.Runs {
			if views, is := m.Views[name]; is && len(row) < 2 {
				row = append(row, told(m.Name+", "+name, views))
			}
		}
		v.Segments = append(v.Segments, row)
	}
	return v
}

func told(title string, views []View) story {
	s := story{Title: title}
	var was []string
	for _, v := range views {
		is := strings.Fields(v.Text)
		n := common(was, is)
		s.Lines = append(s.Lines, storyLine{
			At: fmt.Sprintf("%.1f s", v.At.Seconds()), Kept: strings.Join(is[:n], " "), New: strings.Join(is[n:], " "), Gone: strings.Join(was[n:], " "),
		})
		was = is
	}
	return s
}

// lags draws the lag of each final over time, a colour a session.
func lags(m Measured) string {
	const width, height, left, bottom = 400, 160, 40, 20
	end, most := time.Second, 100*time.Millisecond
	var names []string
	for _, p := range m.Lags {
		end, most = max(end, p.At), max(most, p.Lag)
		if !slices.Contains(names, p.Session) {
			names = append(names, p.Session)
		}
	}
	slices.Sort(names)
	most = (most/(200*time.Millisecond) + 1) * 200 * time.Millisecond
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="lag of finals over time">`, width, height)
	for i := range 5 {
		y := float64(height-bottom) - float64(height-bottom-10)*float64(i)/4
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text x="0" y="%.1f">%d ms</text>`, left, width, y, y, y+4, most.Milliseconds()*int64(i)/4)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%.0f s</text>`, width-4, height-4, end.Seconds())
	for _, p := range m.Lags {
		x := left + float64(width-left-4)*p.At.Seconds()/end.Seconds()
		y := float64(height-bottom) - float64(height-bottom-10)*float64(p.Lag)/float64(most)
		fmt.Fprintf(&b, `<circle class="s%d" cx="%.1f" cy="%.1f" r="2.5"/>`, slices.Index(names, p.Session)%4, x, y)
	}
	b.WriteString("</svg>")
	return b.String()
}
