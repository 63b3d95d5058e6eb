package openai

import (
	"net/http"
	"strconv"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
)

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
	allowed, hasLimit := count(exchange.First(h, limitName))
	remaining, hasRemaining := count(exchange.First(h, remainingName))
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
	l.Reset, _ = exchange.Wait(exchange.First(h, resetName))
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
