package sessions

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
)

// metrics are the lines of a gateway's /metrics.
type metrics map[string]float64

func scrape(ctx context.Context, c *http.Client, url, key string) (metrics, error) {
	var b bytes.Buffer
	if err := get(ctx, c, url+"/metrics", key, &b); err != nil {
		return nil, err
	}
	return parseMetrics(b.String()), nil
}

func parseMetrics(text string) metrics {
	m := metrics{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
			m[line[:i]] = v
		}
	}
	return m
}

// sum adds up what name counts, of those lines that have every label given as
// key="value". It is unknown when the gateway tells of none.
func (m metrics) sum(name string, labels ...string) figure {
	total := unknown
lines:
	for line, v := range m {
		is, rest, _ := strings.Cut(line, "{")
		if is != name {
			continue
		}
		if !total.known() {
			total = 0
		}
		for _, label := range labels {
			if !strings.Contains("{"+rest, "{"+label) && !strings.Contains(rest, ","+label) {
				continue lines
			}
		}
		total += figure(v)
	}
	return total
}
