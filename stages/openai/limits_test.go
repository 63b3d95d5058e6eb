package openai

import (
	"net/http"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
)

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		name                    string
		limit, remaining, reset string
		want                    core.Limit
	}{
		{"OpenAI", "5000", "4999", "12ms", core.Limit{Known: true, Limit: 5000, Remaining: 4999, Reset: 12 * time.Millisecond}},
		{"minutes", "5000", "0", "6m0s", core.Limit{Known: true, Limit: 5000, Reset: 6 * time.Minute}},
		{"plain seconds", "10", "1", "59.5", core.Limit{Known: true, Limit: 10, Remaining: 1, Reset: 59500 * time.Millisecond}},
		{"minus one for unknown", "-1", "-1", "0", core.Limit{}},
		{"nothing", "", "", "", core.Limit{}},
		{"a reset alone", "", "", "1s", core.Limit{}},
		{"what remains alone", "", "7", "", core.Limit{Known: true, Remaining: 7}},
		{"a limit alone is untouched", "60", "", "", core.Limit{Known: true, Limit: 60, Remaining: 60}},
		{"garbage", "many", "1e9", "soon", core.Limit{}},
		{"a point in time", "60", "0", "1790000000", core.Limit{Known: true, Limit: 60}},
		{"more than counts", "99999999999999999999", "1", "-3s", core.Limit{Known: true, Remaining: 1}},
		{"not a number", "60", "3", "NaN", core.Limit{Known: true, Limit: 60, Remaining: 3}},
	} {
		h := http.Header{}
		for name, v := range map[string]string{"limit": c.limit, "remaining": c.remaining, "reset": c.reset} {
			if v != "" {
				h.Set("x-ratelimit-"+name+"-requests", v)
			}
		}
		if got := limits(h); got != (core.Limits{Requests: c.want}) {
			t.Errorf("%s: got %+v, want %+v", c.name, got.Requests, c.want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		h    http.Header
		want time.Duration
	}{
		{"nothing", header(), 0},
		{"milliseconds win", header("retry-after-ms", "1500", "retry-after", "2"), 1500 * time.Millisecond},
		{"seconds", header("retry-after", "2"), 2 * time.Second},
		{"a fraction", header("retry-after", "0.25"), 250 * time.Millisecond},
		{"a date", header("retry-after", now.Add(90*time.Second).Format(http.TimeFormat)), 90 * time.Second},
		{"a date gone by", header("retry-after", now.Add(-time.Hour).Format(http.TimeFormat)), 0},
		{"a date next year", header("retry-after", now.AddDate(1, 0, 0).Format(http.TimeFormat)), 0},
		{"garbage", header("retry-after-ms", "x", "retry-after", "soon"), 0},
		{"negative", header("retry-after-ms", "-1", "retry-after", "-1"), 0},
		{"a reset is no wish", header("x-ratelimit-remaining-requests", "0", "x-ratelimit-reset-requests", "3s"), 0},
	} {
		if got := exchange.RetryAfter(c.h, now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func FuzzLimits(f *testing.F) {
	for _, s := range []string{"12ms", "1s", "6m0s", "59.7", "-1", "1e308", "NaN", "Inf", "9999999h", "Mon, 23 Nov 2026 09:00:00 GMT", "0x10p3", "1_000"} {
		f.Add(s, s, s, s)
	}
	f.Fuzz(func(t *testing.T, limit, remaining, reset, after string) {
		h := http.Header{
			"X-Ratelimit-Limit-Requests": {limit}, "X-Ratelimit-Remaining-Requests": {remaining}, "X-Ratelimit-Reset-Requests": {reset},
			"X-Ratelimit-Limit-Tokens": {remaining}, "X-Ratelimit-Remaining-Tokens": {limit}, "X-Ratelimit-Reset-Tokens": {after},
			"Retry-After": {after}, "Retry-After-Ms": {reset},
		}
		l := limits(h)
		for _, l := range []core.Limit{l.Requests, l.Tokens} {
			if l.Limit < 0 || l.Remaining < 0 || l.Reset < 0 || l.Reset > exchange.LongestWait || !l.Known && l != (core.Limit{}) {
				t.Fatalf("%+v", l)
			}
		}
		if d := exchange.RetryAfter(h, time.Now()); d < 0 || d > exchange.LongestWait {
			t.Fatalf("retry after %v", d)
		}
	})
}
