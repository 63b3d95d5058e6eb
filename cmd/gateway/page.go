package gateway

import (
	"context"
	"strings"
	"sync"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/admin"
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

// explained is what `dragoman explain` says of file, as the page shows it.
func explained(file *config.File) (c admin.Configuration) {
	var chain strings.Builder
	explainChain(&chain, file)
	explainChats(&chain, file)
	c.Chain = chain.String()
	if p := choose(file).provider; p != nil {
		c.Called = p.Names()
	}
	for _, v := range file.Values {
		c.Values = append(c.Values, admin.Value{Path: v.Path, Text: v.Text, From: v.From})
	}
	return c
}
