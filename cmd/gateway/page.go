package gateway

import (
	"context"
	"sync"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/history"
)

// keep keeps what hour is told until end is called, which waits for it.
func keep(hour *history.History) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { hour.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// counted is what the doors and the parts behind them have counted.
func counted(metrics *door.Metrics, parts core.Measurer) history.Reading {
	c := metrics.Counted()
	r := history.Reading{Translated: c.Translated, Failed: c.Failed, Refused: c.Refused, InFlight: c.InFlight, Within: c.Within}
	parts.Measure(func(m core.Measure) {
		switch m.Name {
		case "cache_hits_total", "cache_joins_total", "cache_preload_hits_total":
			r.Stored += m.Value
		case "line_waiting":
			r.Waiting += m.Value
		}
	})
	return r
}
