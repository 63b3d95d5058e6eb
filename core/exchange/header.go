package exchange

import (
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// LongestWait is the longest time that an upstream is believed when it says how
// long to wait; longer ones are limits a day, or points in time, and are taken
// as unknown.
const LongestWait = 24 * time.Hour

// First is h.Get of a name that is canonical already.
func First(h http.Header, canonical string) string {
	if v := h[canonical]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Wait reads "12ms", "1s", "6m0s", or plain seconds with or without a fraction.
func Wait(s string) (time.Duration, bool) {
	if s == "" || len(s) > 32 {
		return 0, false
	}
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		// Written so that NaN fails as well.
		if !(seconds >= 0 && seconds <= LongestWait.Seconds()) {
			return 0, false
		}
		return time.Duration(seconds * float64(time.Second)), true
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > LongestWait {
		return 0, false
	}
	return d, true
}

// RetryAfter reads how long the upstream wants to be left alone; 0 when it does
// not say. The more exact header wins: retry-after-ms (OpenAI's own), then
// retry-after (RFC 9110 section 10.2.3: seconds or a date). The reset of an
// allowance that is used up is no such wish: it is when the allowance will be
// whole again, long after there is room for one request.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	if s := First(h, "Retry-After-Ms"); s != "" {
		if ms, err := strconv.ParseFloat(s, 64); err == nil && ms >= 0 && ms <= float64(LongestWait/time.Millisecond) {
			return time.Duration(ms * float64(time.Millisecond))
		}
	}
	if s := First(h, "Retry-After"); s != "" {
		if d, ok := Wait(s); ok {
			return d
		}
		if at, err := http.ParseTime(s); err == nil {
			if d := at.Sub(now); d <= LongestWait {
				return max(d, 0)
			}
		}
	}
	return 0
}

// IsLoopback says whether what goes to u stays on this machine.
func IsLoopback(u *url.URL) bool {
	host := u.Hostname()
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

// IsToken says whether s may be a header's name (RFC 9110 section 5.6.2).
func IsToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// IsFieldValue says whether s may be a header's value (RFC 9110 section 5.5).
func IsFieldValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
