// Command dashboard draws the panels of a Grafana dashboard as one SVG picture, from what a
// Prometheus has: for whoever has no Grafana, and for those who want to see what they get.
//
//	dashboard URL DASHBOARD.json SECONDS >PICTURE.svg
//
// A panel for which Prometheus has nothing, or a query that it refuses, is an error.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := draw(os.Args[1:], time.Now()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A panel is what is read of one of Grafana's.
type panel struct {
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct{ Expr, LegendFormat string }
}

func draw(args []string, now time.Time) error {
	if len(args) != 3 {
		return errors.New("usage: dashboard URL DASHBOARD.json SECONDS >PICTURE.svg")
	}
	seconds, err := strconv.Atoi(args[2])
	if err != nil || seconds < 10 {
		return fmt.Errorf("%q is no number of seconds that can be drawn; give 10 or more", args[2])
	}
	raw, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	var dashboard struct{ Panels []panel }
	if err := json.Unmarshal(raw, &dashboard); err != nil {
		return fmt.Errorf("%s: %w", args[1], err)
	}
	const unit, high = 46, 26 // of Grafana's grid, in pixels
	var out bytes.Buffer
	bottom := 0
	var wrong []error
	for _, p := range dashboard.Panels {
		at := p.GridPos
		x, y, w, h := at.X*unit, at.Y*high, at.W*unit, at.H*high
		bottom = max(bottom, y+h)
		if p.Type == "row" {
			fmt.Fprintf(&out, `<text x="%d" y="%d" class="row">%s</text>`+"\n", x+8, y+18, html.EscapeString(p.Title))
			continue
		}
		var all []series
		for _, t := range p.Targets {
			found, err := query(args[0], t.Expr, t.LegendFormat, now, seconds)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", p.Title, err))
			}
			all = append(all, found...)
		}
		if len(all) == 0 {
			wrong = append(wrong, fmt.Errorf("%s: there is nothing to draw", p.Title))
		}
		plot(&out, p, all, x+4, y+4, w-8, h-8, now, seconds)
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	fmt.Printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="10">
<style>.back{fill:#111217}.panel{fill:#181b1f;stroke:#2c3235}.row{fill:#ccccdc;font-size:14px}.title{fill:#ccccdc;font-size:12px}.axis{fill:#8e8e9a}.grid{stroke:#2c3235}</style>
<rect class="back" width="100%%" height="100%%"/>
%s</svg>
`, 24*unit, bottom+8, out.String())
	return nil
}

// A series is a line of a plot.
type series struct {
	name   string
	at     []float64 // Unix time in seconds
	values []float64
}

// query asks Prometheus for what a panel of Grafana would ask for.
func query(base, expr, legend string, now time.Time, seconds int) ([]series, error) {
	expr = strings.NewReplacer("$__rate_interval", "15s", "$job", ".+", "$instance", ".+").Replace(expr)
	end := float64(now.UnixMilli()) / 1000
	asked := url.Values{"query": {expr}, "start": {fmt.Sprint(end - float64(seconds))}, "end": {fmt.Sprint(end)}, "step": {"1"}}
	res, err := http.Get(base + "/api/v1/query_range?" + asked.Encode())
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.Unmarshal(raw, &answer); err != nil || answer.Status != "success" {
		return nil, fmt.Errorf("%s %s %w", res.Status, answer.Error, err)
	}
	var all []series
	for _, r := range answer.Data.Result {
		s := series{name: label.ReplaceAllStringFunc(legend, func(l string) string { return r.Metric[strings.Trim(l, "{} ")] })}
		for _, v := range r.Values {
			at, _ := v[0].(float64)
			text, _ := v[1].(string)
			value, err := strconv.ParseFloat(text, 64)
			if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
				continue // nothing was divided by nothing
			}
			s.at, s.values = append(s.at, at), append(s.values, value)
		}
		if len(s.at) > 0 {
			all = append(all, s)
		}
	}
	return all, nil
}

var label = regexp.MustCompile(`\{\{ *\w+ *\}\}`)

var colours = []string{"#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#96d98d", "#ffcb7d", "#ca95e5"}

// plot draws a panel into the rectangle.
func plot(out io.Writer, p panel, all []series, x, y, w, h int, now time.Time, seconds int) {
	fmt.Fprintf(out, `<rect class="panel" x="%d" y="%d" width="%d" height="%d" rx="2"/><text class="title" x="%d" y="%d">%s</text>`+"\n", x, y, w, h, x+8, y+16, html.EscapeString(p.Title))
	most := 0.0
	for _, s := range all {
		for _, v := range s.values {
			most = max(most, v)
		}
	}
	if most == 0 {
		most = 1
	}
	left, top, wide, high := float64(x+48), float64(y+26), float64(w-60), float64(h-62)
	for i := range 5 {
		at := top + high*float64(i)/4
		fmt.Fprintf(out, `<line class="grid" x1="%.0f" y1="%.1f" x2="%.0f" y2="%.1f"/><text class="axis" x="%.0f" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, at, left+wide, at, left-4, at+3, amount(most*float64(4-i)/4, p.FieldConfig.Defaults.Unit))
	}
	begin := float64(now.UnixMilli())/1000 - float64(seconds)
	legend := left - 40
	row := top + high + 16
	for i, s := range all {
		colour := colours[i%len(colours)]
		fmt.Fprintf(out, `<polyline fill="none" stroke="%s" stroke-width="1.3" points="`, colour)
		for j := range s.at {
			fmt.Fprintf(out, "%.1f,%.1f ", left+(s.at[j]-begin)/float64(seconds)*wide, top+high-s.values[j]/most*high)
		}
		fmt.Fprint(out, "\"/>\n")
		if i >= 10 {
			continue // a legend has its bounds
		}
		length := float64(len(s.name))*5.4 + 22
		if legend+length > left+wide && legend > left {
			legend, row = left-40, row+12
		}
		fmt.Fprintf(out, `<rect x="%.0f" y="%.0f" width="8" height="3" fill="%s"/><text class="axis" x="%.0f" y="%.0f">%s</text>`+"\n", legend, row-4, colour, legend+11, row, html.EscapeString(s.name))
		legend += length
	}
}

// amount is v in a unit of Grafana's.
func amount(v float64, unit string) string {
	switch {
	case unit == "bytes":
		return fmt.Sprintf("%.0f MiB", v/(1<<20))
	case unit == "percentunit":
		return fmt.Sprintf("%.0f%%", v*100)
	case unit == "s" && v < 1:
		return fmt.Sprintf("%.0f ms", v*1000)
	case unit == "s":
		return fmt.Sprintf("%.2g s", v)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
