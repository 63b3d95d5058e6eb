package admin

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/dragoman-mt/dragoman/core"
)

// NewRegistry returns a registry with what every process tells of itself.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// Collector returns a collector of what measurers report, asked anew at every
// scrape, so that parts may come and go with a generation. It is unchecked: what
// it will report is not known before.
func Collector(measurers func() []core.Measurer) prometheus.Collector {
	return collector(measurers)
}

type collector func() []core.Measurer

// Describe sends nothing, which is what makes a collector unchecked.
func (collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, m := range c() {
		collect(m, out)
	}
}

// collect keeps a measurer that panics from ending the process: the registry
// calls it on a goroutine of its own, where nobody would recover.
func collect(m core.Measurer, out chan<- prometheus.Metric) {
	defer func() {
		if p := recover(); p != nil {
			err := fmt.Errorf("measuring %T: panic: %v", m, p)
			out <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		}
	}()
	m.Measure(func(v core.Measure) { out <- metric(v) })
}

func metric(v core.Measure) prometheus.Metric {
	if len(v.Labels)%2 != 0 {
		err := fmt.Errorf("measure %s: %d labels, which are no pairs", v.Name, len(v.Labels))
		return prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
	}
	names, values := make([]string, 0, len(v.Labels)/2), make([]string, 0, len(v.Labels)/2)
	for i := 0; i < len(v.Labels); i += 2 {
		names, values = append(names, v.Labels[i]), append(values, v.Labels[i+1])
	}
	kind := prometheus.GaugeValue
	if v.Counter {
		kind = prometheus.CounterValue
	}
	desc := prometheus.NewDesc("dragoman_"+v.Name, v.Help, names, nil)
	if h := v.Histogram; h != nil {
		m, err := prometheus.NewConstHistogram(desc, h.Count, h.Sum, h.Buckets, values...)
		if err == nil && len(h.Exemplars) > 0 {
			examples := make([]prometheus.Exemplar, len(h.Exemplars))
			for i, e := range h.Exemplars {
				examples[i] = prometheus.Exemplar{Value: e.Value, Timestamp: e.At, Labels: prometheus.Labels{"trace_id": e.TraceID}}
			}
			m, err = prometheus.NewMetricWithExemplars(m, examples...)
		}
		if err != nil {
			return prometheus.NewInvalidMetric(desc, err)
		}
		return m
	}
	m, err := prometheus.NewConstMetric(desc, kind, v.Value, values...)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return m
}
