package openai

import (
	"net/http"
	"strconv"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// longestWait is the longest time that an upstream is believed when it says how
// long to wait; longer ones are limits a day, or points in time, and are taken
// as unknown.
const longestWait = 24 * time.Hour

// limits reads what an answer says about the account's limits. OpenAI writes
// "x-ratelimit-reset-tokens: 6m0s"; compatible servers leave headers out, write
// plain seconds, or -1 for unknown.
func limits(h http.Header) core.Limits {
	return core.Limits{
		Requests: limit(h, "X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests"),
		Tokens:   limit(h, "X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens"),
	}
}

// limit reads one allowance. It is known when it says what remains; a limit
// alone is taken as not touched.
func limit(h http.Header, limitName, remainingName, resetName string) core.Limit {
	allowed, hasLimit := count(first(h, limitName))
	remaining, hasRemaining := count(first(h, remainingName))
	if !hasLimit && !hasRemaining {
		return core.Limit{}
	}
	l := core.Limit{Known: true, Limit: allowed, Remaining: remaining}
	switch {
	case !hasRemaining:
		l.Remaining = allowed
	case allowed > 0:
		l.Remaining = min(remaining, allowed)
	}
	l.Reset, _ = wait(first(h, resetName))
	return l
}

// believed is l as far as it can be true of an account by which a call was just
// answered that cost usage: a limit a minute that is below that is none, and would
// hold up the calls after it for hours. It is nil when nothing is left.
func believed(l core.Limits, usage core.Usage) *core.Limits {
	if cost := usage.PromptTokens + usage.CompletionTokens; l.Tokens.Limit > 0 && l.Tokens.Limit < cost {
		l.Tokens = core.Limit{}
	}
	if l == (core.Limits{}) {
		return nil
	}
	return &l
}

// first is h.Get of a name that is canonical already.
func first(h http.Header, canonical string) string {
	if v := h[canonical]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func count(s string) (int, bool) {
	if s == "" || len(s) > 12 {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return 0, false
	}
	return int(n), true
}

// wait reads "12ms", "1s", "6m0s", or plain seconds with or without a fraction.
func wait(s string) (time.Duration, bool) {
	if s == "" || len(s) > 32 {
		return 0, false
	}
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		// Written so that NaN fails as well.
		if !(seconds >= 0 && seconds <= longestWait.Seconds()) {
			return 0, false
		}
		return time.Duration(seconds * float64(time.Second)), true
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > longestWait {
		return 0, false
	}
	return d, true
}

// retryAfter reads how long the upstream wants to be left alone; 0 when it does
// not say. The more exact header wins: retry-after-ms (OpenAI's own), then
// retry-after (RFC 9110 section 10.2.3: seconds or a date). The reset of an
// allowance that is used up is no such wish: it is when the allowance will be
// whole again, long after there is room for one request.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if s := first(h, "Retry-After-Ms"); s != "" {
		if ms, err := strconv.ParseFloat(s, 64); err == nil && ms >= 0 && ms <= float64(longestWait/time.Millisecond) {
			return time.Duration(ms * float64(time.Millisecond))
		}
	}
	if s := first(h, "Retry-After"); s != "" {
		if d, ok := wait(s); ok {
			return d
		}
		if at, err := http.ParseTime(s); err == nil {
			if d := at.Sub(now); d <= longestWait {
				return max(d, 0)
			}
		}
	}
	return 0
}
