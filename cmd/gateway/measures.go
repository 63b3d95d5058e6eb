package gateway

import (
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/pool"
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
