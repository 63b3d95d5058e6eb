package door

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dragoman-mt/dragoman/core"
)

// Metrics count what passes the doors. There is one for the life of a process;
// it is safe for concurrent use.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

// NewMetrics registers the doors' metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dragoman_requests_total",
			Help: "Texts that were answered, and calls that were refused as a whole, by door and kind of failure (ok when there was none).",
		}, []string{"door", "kind"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "dragoman_request_seconds",
			Help:    "Time from the arrival of a call to the answer for each of its texts.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .2, .3, .4, .5, .6, .7, 1, 2, 3, 5, 10, 20, 30},
		}, []string{"door"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dragoman_requests_in_flight",
			Help: "Calls that are being served now.",
		}),
	}
	reg.MustRegister(m.requests, m.seconds, m.inFlight)
	return m
}

// Count notes that door answered a text, or refused a call, after took. Kind is
// empty when it was translated.
func (m *Metrics) Count(door string, kind core.ErrorKind, took time.Duration) {
	m.count(door, kind, took, nil)
}

// count is Count for a text with a span, which is the exemplar of its class if it is recorded.
func (m *Metrics) count(door string, kind core.ErrorKind, took time.Duration, span *core.Traced) {
	if kind == "" {
		kind = "ok"
	}
	m.requests.WithLabelValues(door, string(kind)).Inc()
	seconds := m.seconds.WithLabelValues(door)
	if span != nil && span.Context.Sampled {
		if e, ok := seconds.(prometheus.ExemplarObserver); ok {
			e.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": span.Context.TraceID()})
			return
		}
	}
	seconds.Observe(took.Seconds())
}
