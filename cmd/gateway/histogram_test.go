package gateway

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// A histogram is one as it stands in /metrics.
type histogram struct {
	bounds, counts []float64
	sum, count     float64
}

// histogram reads one with these labels, from the text that Prometheus reads.
func (g *gatewayProcess) histogram(name, labels string) (h histogram) {
	g.t.Helper()
	res, err := http.Get(g.url + "/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	text := string(raw)
	if !strings.Contains(text, "# TYPE "+name+" histogram\n") {
		g.t.Errorf("%s is no histogram", name)
	}
	number := func(s string) float64 {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			g.t.Errorf("%s: %v", name, err)
		}
		return n
	}
	for _, m := range regexp.MustCompile(`(?m)^`+name+`_bucket\{`+labels+`,le="([^"]+)"\} (\S+)$`).FindAllStringSubmatch(text, -1) {
		h.bounds, h.counts = append(h.bounds, number(m[1])), append(h.counts, number(m[2]))
	}
	for suffix, into := range map[string]*float64{"sum": &h.sum, "count": &h.count} {
		m := regexp.MustCompile(`(?m)^` + name + `_` + suffix + `\{` + labels + `\} (\S+)$`).FindStringSubmatch(text)
		if m == nil {
			g.t.Fatalf("there is no %s_%s{%s} in:\n%s", name, suffix, labels, text)
		}
		*into = number(m[1])
	}
	return h
}

// within is the share of what h observed that took at most so long.
func (h histogram) within(bound float64) float64 {
	for i, b := range h.bounds {
		if b == bound {
			return h.counts[i]
		}
	}
	return math.NaN()
}

// What a dashboard computes percentiles from: each bucket holds what those before
// it hold, the last holds everything, and the times of this test are where they
// belong. `dragoman status` reads the same numbers.
func TestLatencyIsAHistogramAndTheStatusReadsIt(t *testing.T) {
	t.Parallel()
	const slow, quick = 3, 9
	sim := upstream(t, openaitest.Config{})
	g := serveYAML(t, `version: 1
providers:
  main: {type: openai, base_url: "`+sim.URL()+`", api_key: test}
stages: [{provider: {use: main}}]
`, nil)
	spent := 0.0 // as it seems here, which is longer than it seems there
	ask := func(n int) {
		for i := range n {
			began := time.Now()
			g.ask(fmt.Sprintf("Number %d of %d.", i, n)).text(t)
			spent += time.Since(began).Seconds()
		}
	}
	ask(quick)
	if err := sim.Configure(func(c *openaitest.Config) { c.Latency = 750 * time.Millisecond }); err != nil {
		t.Fatal(err)
	}
	ask(slow)

	h := g.histogram("dragoman_request_seconds", `door="native"`)
	if len(h.bounds) < 10 || !math.IsInf(h.bounds[len(h.bounds)-1], 1) {
		t.Fatalf("the bounds are %v", h.bounds)
	}
	for i := 1; i < len(h.bounds); i++ {
		if h.bounds[i] <= h.bounds[i-1] || h.counts[i] < h.counts[i-1] {
			t.Errorf("at most %v s: %v, and at most %v s: %v", h.bounds[i-1], h.counts[i-1], h.bounds[i], h.counts[i])
		}
	}
	if last := h.counts[len(h.counts)-1]; h.count != slow+quick || last != h.count {
		t.Errorf("%v were observed, %v in the last bucket, want %d", h.count, last, slow+quick)
	}
	if h.sum < slow*.75 || h.sum > spent {
		t.Errorf("they took %v s together, want from %v to %v", h.sum, slow*.75, spent)
	}
	// Three took 750 ms, so none of them is in the bucket of 700 ms.
	if n := h.within(.7); !(n <= quick) {
		t.Errorf("%v took at most 700 ms, want at most %d", n, quick)
	}
	if n := h.within(30); n != slow+quick {
		t.Errorf("%v took at most 30 s, want all", n)
	}

	out, errs, code := command(t, t.TempDir(), nil, "", "status", "--url", g.url)
	_, row, _ := strings.Cut(out, "since the start")
	row, _, _ = strings.Cut(row, "\n")
	// In flight, translated and failed, then the median; of so few there is no p99.
	var shown struct {
		inFlight, translated, failed int
		p50                          float64
		unit, p99                    string
	}
	if _, err := fmt.Sscan(row, &shown.inFlight, &shown.translated, &shown.failed, &shown.p50, &shown.unit, &shown.p99); code != 0 || err != nil {
		t.Fatalf("%d %s %v\n%s", code, errs, err, out)
	}
	if below, above := h.around(.5); shown.translated != slow+quick || shown.unit != "ms" || shown.p50 < math.Floor(1000*below) || shown.p50 > math.Ceil(1000*above) || shown.p99 != "-" {
		t.Errorf("%+v, with the median from %v to %v s:\n%s", shown, below, above, out)
	}
}

// around are the bounds of the bucket in which the share q lies.
func (h histogram) around(q float64) (below, above float64) {
	for i, n := range h.counts {
		if n >= q*h.count {
			return below, h.bounds[i]
		}
		below = h.bounds[i]
	}
	return below, math.Inf(1)
}
