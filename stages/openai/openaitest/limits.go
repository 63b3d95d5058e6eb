package openaitest

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// A bucket holds a minute's worth of requests or tokens and fills evenly, as
// OpenAI's limits do: after one request of 5,000 a minute it is full again in
// 12 ms.
type bucket struct {
	limit int // 0 for no limit
	level float64
	at    time.Time
}

// refill brings b up to now under limit. A new limit starts full.
func (b *bucket) refill(now time.Time, limit int) {
	if b.limit != limit {
		b.limit, b.level = limit, float64(limit)
	} else {
		b.level = min(float64(limit), b.level+now.Sub(b.at).Seconds()*b.rate())
	}
	b.at = now
}

func (b *bucket) rate() float64 { return float64(b.limit) / 60 }

// wait is how long until n fit; 0 when they do.
func (b *bucket) wait(n int) time.Duration {
	const rounding = 1e-6 // of a token: a refusal's own wait must be enough
	if b.limit == 0 || b.level >= float64(n)-rounding {
		return 0
	}
	return seconds((float64(n) - b.level) / b.rate())
}

func (b *bucket) take(n int) {
	if b.limit > 0 {
		b.level -= float64(n)
	}
}

// headers tells limit, remaining and the time until the bucket is full.
func (b *bucket) headers(h http.Header, what string) {
	if b.limit == 0 {
		return
	}
	h.Set("x-ratelimit-limit-"+what, strconv.Itoa(b.limit))
	h.Set("x-ratelimit-remaining-"+what, strconv.Itoa(max(0, int(b.level))))
	full := seconds((float64(b.limit) - b.level) / b.rate())
	h.Set("x-ratelimit-reset-"+what, full.Round(time.Millisecond).String())
}

func seconds(s float64) time.Duration { return time.Duration(math.Ceil(s * 1e9)) }

// limit takes one request of n tokens from both buckets, or neither. The
// error is the answer when it cannot; state goes into h either way.
func (s *Server) limit(cfg *Config, h http.Header, model string, n int, now time.Time) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests.refill(now, cfg.RPM)
	s.tokens.refill(now, cfg.TPM)
	var refused *apiError
	switch {
	case cfg.TPM > 0 && n > cfg.TPM:
		refused = errorOf(http.StatusTooManyRequests, "tokens", "", "rate_limit_exceeded",
			fmt.Sprintf("Request too large for %s on tokens per min (TPM): Limit %d, Requested %d.", model, cfg.TPM, n))
	case s.requests.wait(1) > 0:
		refused = tooMany("requests", "requests per min (RPM)", model, cfg.RPM, 1, &s.requests)
	case s.tokens.wait(n) > 0:
		refused = tooMany("tokens", "tokens per min (TPM)", model, cfg.TPM, n, &s.tokens)
	default:
		s.requests.take(1)
		s.tokens.take(n)
	}
	if !cfg.Bare {
		s.requests.headers(h, "requests")
		s.tokens.headers(h, "tokens")
	}
	return refused
}

func tooMany(kind, unit, model string, limit, n int, b *bucket) *apiError {
	wait := b.wait(n)
	e := errorOf(http.StatusTooManyRequests, kind, "", "rate_limit_exceeded", fmt.Sprintf(
		"Rate limit reached for %s in organization org-sim on %s: Limit %d, Used %d, Requested %d. Please try again in %v.",
		model, unit, limit, limit-max(0, int(b.level)), n, wait.Round(time.Millisecond)))
	e.retryAfter = wait
	return e
}
