package sessions

import (
	_ "embed"
	"fmt"
	"html"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

//go:embed page.html
var pageHTML string

// WritePage writes the report as one HTML page that needs nothing from outside:
// its charts are SVG, drawn here.
func (r *Report) WritePage(file string) error {
	return os.WriteFile(file, []byte(r.page()), 0o644)
}

// page fills page.html in, by hand: with html/template in it a program holds whatever
// method anybody could call by name, which made this one 5 MB larger.
func (r *Report) page() string {
	v := r.view()
	few := ""
	if v.Few > 0 {
		few = fmt.Sprintf(`<p class="missed">Some cells have fewer than %d requests: their p99 says little.</p>`, v.Few)
	}
	var groups, criteria, facts strings.Builder
	for _, g := range v.Groups {
		g.write(&groups)
	}
	for _, c := range v.Criteria {
		fmt.Fprintf(&criteria, `<tr><td>%s</td><td class="name">%s</td><td>%s</td><td>%s</td><td class="%s">%s</td></tr>`+"\n",
			html.EscapeString(c.Where), html.EscapeString(c.Name), html.EscapeString(c.Bound), html.EscapeString(c.Got), c.Class, html.EscapeString(c.Word))
	}
	for _, row := range v.Facts {
		facts.WriteString("<tr>")
		for _, cell := range row {
			fmt.Fprintf(&facts, "<td>%s</td>", html.EscapeString(cell))
		}
		facts.WriteString("</tr>\n")
	}
	met := "missed"
	if v.Met {
		met = "met"
	}
	return strings.NewReplacer(
		"{{.Met}}", met, "{{.Headline}}", html.EscapeString(v.Headline), "{{.What}}", html.EscapeString(v.What),
		"{{.Began}}", html.EscapeString(v.Began), "{{.Load}}", html.EscapeString(v.Load), "{{.Few}}", few,
		"{{.Groups}}", groups.String(), "{{.Criteria}}", criteria.String(), "{{.Facts}}", facts.String(),
	).Replace(pageHTML)
}

// A view is what the page shows, ready to be printed.
type view struct {
	What, Load, Headline, Began string
	Met                         bool
	Few                         int // the number that a cell should have had, when one had fewer
	Groups                      []group
	Facts                       [][]string
	Criteria                    []judged
}

// A group is what is compared: the cells with as many sessions.
type group struct {
	Sessions int
	Spread   string // the distributions, in one chart
	Legend   []key
	Times    []chart // latency over time, a chart a cell
}

type key struct{ Class, Text string }

type chart struct {
	Title string
	SVG   string
}

func (c chart) write(b *strings.Builder) {
	fmt.Fprintf(b, "<div><h3>%s</h3>%s</div>", html.EscapeString(c.Title), c.SVG)
}

func (g group) write(b *strings.Builder) {
	fmt.Fprintf(b, "<h2>%d sessions</h2>\n<p class=\"legend\">", g.Sessions)
	for _, k := range g.Legend {
		fmt.Fprintf(b, `<span><i class="%s"></i>%s</span>`, k.Class, html.EscapeString(k.Text))
	}
	fmt.Fprintf(b, "</p>\n<p>Share of requests that were answered within a time:</p>\n%s\n<div class=\"pairs\">", g.Spread)
	for _, c := range g.Times {
		c.write(b)
	}
	b.WriteString("</div>\n")
}

type judged struct{ Where, Name, Bound, Got, Word, Class string }

func (r *Report) view() view {
	v := view{
		What: r.what(), Load: r.load(), Headline: r.headline(), Met: r.Met,
		Began: r.Began.Format("2 January 2006 15:04"),
	}
	var counts []int
	for _, m := range r.Cells {
		if !slices.Contains(counts, m.Sessions) {
			counts = append(counts, m.Sessions)
		}
		if m.few() {
			v.Few = enough
		}
		v.Facts = append(v.Facts, []string{
			m.Cell.String(), fmt.Sprint(m.All.N), m.Worst.P50.with(0), m.Worst.P95.with(0), m.Worst.P99.with(0), m.Worst.Max.with(0),
			m.Worst.AddedP50.with(1), m.Worst.AddedP99.with(1), m.Worst.PacedP99.with(1), m.CPU.with(1), m.MB.with(0),
			m.Calls.with(0), m.RateLimited.with(0), m.Dialled.with(0), m.Cold.with(0),
		})
	}
	for _, n := range counts {
		v.Groups = append(v.Groups, r.group(n))
	}
	for _, c := range r.Criteria {
		if c.Asked {
			class := "met"
			if !c.Met {
				class = "missed"
			}
			v.Criteria = append(v.Criteria, judged{
				c.Cell.String(), c.Name, c.sign() + " " + c.Bound.with(0) + c.unit(), c.Got.with(c.decimals()) + c.unit(), c.word(), class,
			})
		}
	}
	return v
}

// group draws the cells with n sessions on common scales.
func (r *Report) group(n int) group {
	g := group{Sessions: n}
	var cells []Measured
	slowest, last := 500.0, 1.0
	for _, m := range r.Cells {
		if m.Sessions != n {
			continue
		}
		cells = append(cells, m)
		if m.All.P99.known() {
			slowest = max(slowest, float64(m.All.P99)*1.15)
		}
		for _, s := range m.samples {
			last = max(last, s.at.Seconds())
		}
	}
	spread := newPlot(760, 300, slowest, 100, " ms", " %")
	for i, m := range cells {
		class := fmt.Sprintf("c%d", i%4)
		g.Legend = append(g.Legend, key{class, strings.TrimPrefix(m.Cell.String(), fmt.Sprintf("%d sessions, ", n))})
		spread.line(class, ecdf(m.samples))

		times := newPlot(372, 210, last, slowest, " s", " ms")
		for _, s := range m.samples {
			class := fmt.Sprintf("s%d", s.session%4)
			y := float64(inMilliseconds(s.took))
			if s.failed != "" {
				class, y = "failed", slowest
			}
			times.dot(class, s.at.Seconds(), y)
		}
		times.rule(float64(m.All.P50), "p50")
		times.rule(float64(m.Worst.P99), "worst p99")
		g.Times = append(g.Times, chart{m.Cell.String(), times.svg("Latency of each request over time: " + m.Cell.String())})
	}
	g.Spread = spread.svg(fmt.Sprintf("Share of requests answered within a time, %d sessions", n))
	return g
}

// ecdf is the share, in per cent, of requests that were answered within a time
// in milliseconds. One that failed was never answered.
func ecdf(samples []sample) [][2]float64 {
	var took []time.Duration
	for _, s := range samples {
		if s.failed == "" {
			took = append(took, s.took)
		}
	}
	slices.Sort(took)
	points := make([][2]float64, 0, len(took))
	for i, t := range took {
		points = append(points, [2]float64{float64(inMilliseconds(t)), 100 * float64(i+1) / float64(len(samples))})
	}
	return points
}

// A plot is a chart with both axes from 0. What lies beyond its end is drawn at
// the edge.
type plot struct {
	width, height float64
	right, top    float64 // the ends of the axes, in their units
	unitX, unitY  string
	marks         strings.Builder
}

// The space round a plot for its labels.
const (
	padLeft, padRight, padTop, padBottom = 58.0, 12.0, 10.0, 26.0
)

func newPlot(width, height, right, top float64, unitX, unitY string) *plot {
	return &plot{width: width, height: height, right: right, top: top, unitX: unitX, unitY: unitY}
}

func (p *plot) x(v float64) float64 {
	return padLeft + (p.width-padLeft-padRight)*min(max(v/p.right, 0), 1)
}

func (p *plot) y(v float64) float64 {
	return p.height - padBottom - (p.height-padTop-padBottom)*min(max(v/p.top, 0), 1)
}

// line draws a staircase, since between two samples there is nothing.
func (p *plot) line(class string, points [][2]float64) {
	if len(points) == 0 {
		return
	}
	fmt.Fprintf(&p.marks, `<path class="line %s" d="M%.1f %.1f`, class, p.x(points[0][0]), p.y(0))
	for _, at := range points {
		if at[0] > p.right {
			break
		}
		fmt.Fprintf(&p.marks, "H%.1fV%.1f", p.x(at[0]), p.y(at[1]))
	}
	p.marks.WriteString(`"/>`)
}

func (p *plot) dot(class string, x, y float64) {
	fmt.Fprintf(&p.marks, `<circle class="%s" cx="%.1f" cy="%.1f" r="1.7"/>`, class, p.x(x), p.y(y))
}

// rule draws a level across the plot, with its name.
func (p *plot) rule(v float64, name string) {
	if math.IsNaN(v) {
		return
	}
	y := p.y(v)
	fmt.Fprintf(&p.marks, `<path class="rule" d="M%.1f %.1fH%.1f"/><text class="rule" x="%.1f" y="%.1f" text-anchor="end">%s %.0f</text>`,
		padLeft, y, p.width-padRight, p.width-padRight-2, y-4, name, v)
}

// svg returns the plot with its grid and labels.
func (p *plot) svg(title string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %.0f %.0f" role="img"><title>%s</title>`, p.width, p.height, html.EscapeString(title))
	for _, v := range ticks(p.right, int(p.width/90)) {
		fmt.Fprintf(&b, `<path class="grid" d="M%.1f %.1fV%.1f"/><text x="%.1f" y="%.1f" text-anchor="middle">%g%s</text>`,
			p.x(v), padTop, p.height-padBottom, p.x(v), p.height-8, v, p.unitX)
	}
	for _, v := range ticks(p.top, int(p.height/45)) {
		fmt.Fprintf(&b, `<path class="grid" d="M%.1f %.1fH%.1f"/><text x="%.1f" y="%.1f" text-anchor="end">%g%s</text>`,
			padLeft, p.y(v), p.width-padRight, padLeft-6, p.y(v)+4, v, p.unitY)
	}
	b.WriteString(p.marks.String())
	b.WriteString("</svg>")
	return b.String()
}

// ticks returns round values from 0 to end, about so many of them.
func ticks(end float64, about int) []float64 {
	step := math.Pow(10, math.Floor(math.Log10(end/float64(max(about, 1)))))
	for _, m := range []float64{1, 2, 5, 10} {
		if end/(step*m) <= float64(about) {
			step *= m
			break
		}
	}
	var out []float64
	for i := 0; float64(i)*step <= end*1.0001; i++ {
		out = append(out, float64(i)*step)
	}
	return out
}
