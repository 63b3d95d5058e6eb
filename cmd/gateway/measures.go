package gateway

import (
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/pool"
	"github.com/dragoman-mt/dragoman/core/usage"
)

// poolMeasures reports the pool, which knows nothing of core.
type poolMeasures struct{ pool *pool.Pool }

func (p poolMeasures) Measure(emit func(core.Measure)) {
	for _, o := range p.pool.Stats() {
		now := func(name, help string, v float64, labels ...string) {
			emit(core.Measure{Name: "pool_" + name, Help: help, Value: v, Labels: append([]string{"origin", o.Origin}, labels...)})
		}
		const states = "Upstream connections, by what they are doing."
		now("connections", states, float64(o.Ready), "state", "ready")
		now("connections", states, float64(o.InUse), "state", "in_use")
		now("connections", states, float64(o.Dialling), "state", "dialling")
		now("connections", states, float64(o.Probing), "state", "probing")
		now("waiting", "Calls that are waiting for a connection.", float64(o.Waiting))
		const limits = "How long the server was seen to keep an idle connection; 0 when not learned."
		now("idle_limit_seconds", limits, o.IdleLimitNew.Seconds(), "used", "never")
		now("idle_limit_seconds", limits, o.IdleLimitUsed.Seconds(), "used", "before")

		for _, c := range []struct {
			name, help string
			n          int64
		}{
			{"dials_total", "Connections that were dialled.", o.Dials},
			{"dial_failures_total", "Connections that could not be dialled.", o.DialFailures},
			{"handshakes_total", "TLS handshakes.", o.Handshakes},
			{"resumptions_total", "TLS handshakes that resumed a session.", o.Resumptions},
			{"resends_total", "Requests that the pool sent again.", o.Resends},
			{"waits_total", "Calls that waited because the maximum of connections was open.", o.Waits},
			{"cold_total", "Calls that found no connection that could take them while fewer than the maximum were open.", o.Cold},
			{"cancelled_total", "Calls that were given up; with HTTP/1.1 each cost its connection.", o.Cancelled},
			{"spent_total", "Connections of HTTP/1.1 that ended with a whole answer.", o.Spent},
			{"retired_total", "Connections that were closed for their age, or for idling.", o.Retired},
		} {
			emit(core.Measure{Name: "pool_" + c.name, Help: c.help, Counter: true, Value: float64(c.n), Labels: []string{"origin", o.Origin}})
		}
	}
}

// usageMeasures reports what keys used. Its labels are the names of the keys that there
// are, and - for calls without one.
type usageMeasures struct {
	book    *usage.Book
	service *door.Service
}

func (u usageMeasures) Measure(emit func(core.Measure)) {
	for _, m := range u.book.Measures(u.service.Limits()) {
		key := m.Name
		if key == "" {
			key = "-"
		}
		counted := func(name, help string, n int64, labels ...string) {
			emit(core.Measure{Name: "usage_" + name, Help: help, Counter: true, Value: float64(n), Labels: append([]string{"key", key}, labels...)})
		}
		const texts, characters = "Texts that were answered, by key, and whether a provider was called.", "Code points of the texts that were answered, by key, and whether a provider was called."
		counted("texts_total", texts, m.Total.Texts-m.Total.CachedTexts, "cached", "false")
		counted("texts_total", texts, m.Total.CachedTexts, "cached", "true")
		counted("characters_total", characters, m.Total.Characters-m.Total.CachedCharacters, "cached", "false")
		counted("characters_total", characters, m.Total.CachedCharacters, "cached", "true")
		const tokens = "Tokens of the calls that a key's texts caused."
		counted("tokens_total", tokens, m.Total.PromptTokens, "kind", "prompt")
		counted("tokens_total", tokens, m.Total.CompletionTokens, "kind", "completion")
		for _, a := range m.Total.Cost {
			emit(core.Measure{Name: "usage_cost_total", Help: "What the calls cost that a key's texts caused, at the prices of the configuration.", Counter: true, Value: float64(a.Billionths) / 1e9, Labels: []string{"key", key, "currency", a.Currency}})
		}
		const refused = "Calls that were over a limit of their key."
		counted("refused_total", refused, m.OverQuota, "limit", usage.CharactersPerMonth)
		counted("refused_total", refused, m.OverPerMinute, "limit", usage.RequestsPerMinute)
		now := func(name, help string, n int64) {
			emit(core.Measure{Name: "usage_" + name, Help: help, Value: float64(n), Labels: []string{"key", key}})
		}
		now("month_characters", "Code points that a key has used in this month.", m.Month)
		if m.Limit > 0 {
			now("limit_characters", "Code points that a key may use in a month.", m.Limit)
		}
	}
	if u.book.Shares() {
		alone := 0.0
		if u.book.Alone() {
			alone = 1
		}
		emit(core.Measure{Name: "usage_alone", Help: "1 while this gateway cannot know what others of its group use, 0 while usage_month_characters is the sum of all.", Value: alone})
	}
	kept := 1.0
	if u.book.Notice() != "" {
		kept = 0
	}
	emit(core.Measure{Name: "usage_kept", Help: "1 while what is used is kept on disk, 0 while it is counted in memory alone.", Value: kept})
}
