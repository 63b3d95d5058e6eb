package door

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/dragoman-mt/dragoman/core"
)

// Metrics count what passes the doors. There is one for the life of a process;
// it is safe for concurrent use.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	chosen   []atomic.Int64 // when a class of seconds had its last exemplar, in Unix nanoseconds
}

// NewMetrics registers the doors' metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		chosen: make([]atomic.Int64, len(bounds)+1),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dragoman_requests_total",
			Help: "Texts that were answered, and calls that were refused as a whole, by door and kind of failure (ok when there was none).",
		}, []string{"door", "kind"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "dragoman_request_seconds",
			Help:    "Time from the arrival of a call to the answer for each of its texts.",
			Buckets: bounds,
		}, []string{"door"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "dragoman_requests_in_flight",
			Help: "Calls that are being served now.",
		}),
	}
	reg.MustRegister(m.requests, m.seconds, m.inFlight)
	return m
}

// bounds are those of the classes of request times, in seconds.
var bounds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .2, .3, .4, .5, .6, .7, 1, 2, 3, 5, 10, 20, 30}

// Bounds are those of the classes of Counted.Within, in seconds, rising.
func Bounds() []float64 { return slices.Clone(bounds) }

// Counted is what all doors have counted since the start.
type Counted struct {
	// Translated are texts that were answered, Failed those that were not, and Refused texts and calls that
	// were not for what their client did. A client that left is none of them.
	Translated, Failed, Refused float64
	InFlight                    float64
	// Within counts for each of Bounds the texts that took so long at most, and in a last place all.
	Within []uint64
}

// Counted reads what was counted.
func (m *Metrics) Counted() (c Counted) {
	c.Within = make([]uint64, len(bounds)+1)
	each(m.requests, func(one *dto.Metric) {
		n := one.GetCounter().GetValue()
		for _, l := range one.GetLabel() {
			if l.GetName() != "kind" {
				continue
			}
			switch kind := core.ErrorKind(l.GetValue()); {
			case kind == "ok":
				c.Translated += n
			case blames(&core.Error{Kind: kind}) == HasFailed:
				c.Failed += n
			case blames(&core.Error{Kind: kind}) == WasRefused:
				c.Refused += n
			}
		}
	})
	each(m.seconds, func(one *dto.Metric) {
		h := one.GetHistogram()
		for i, b := range h.GetBucket() {
			if i < len(bounds) {
				c.Within[i] += b.GetCumulativeCount()
			}
		}
		c.Within[len(bounds)] += h.GetSampleCount()
	})
	each(m.inFlight, func(one *dto.Metric) { c.InFlight += one.GetGauge().GetValue() })
	return c
}

// each reads the metrics of from.
func each(from prometheus.Collector, f func(*dto.Metric)) {
	all := make(chan prometheus.Metric)
	go func() {
		from.Collect(all)
		close(all)
	}()
	for one := range all {
		var read dto.Metric
		if one.Write(&read) == nil { // it is made of numbers and labels that were taken
			f(&read)
		}
	}
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
	if span != nil && span.Context.Sampled && m.wants(took) {
		if e, ok := seconds.(prometheus.ExemplarObserver); ok {
			e.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": span.Context.TraceID()})
			return
		}
	}
	seconds.Observe(took.Seconds())
}

// wants says whether a text that took so long becomes the exemplar of its class. One a second
// is enough, of all doors: each takes the place of the one before, and costs as much as a span.
func (m *Metrics) wants(took time.Duration) bool {
	class, _ := slices.BinarySearch(bounds, took.Seconds())
	last, now := m.chosen[class].Load(), time.Now().UnixNano()
	return now-last >= int64(time.Second) && m.chosen[class].CompareAndSwap(last, now)
}
