package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

// tracedRows measure what it costs that requests are traced.
func tracedRows() []row {
	return []row{{
		name: "traced", doc: "requests a second that the cache does not know, 10 at a time: with 1 % traced, with all, and with all and a collector that never answers, against a gateway that traces nothing",
		bars: []bar{
			{what: "1 % traced / off", unit: "x", limit: 0.98, least: true},
			{what: "all traced / off", unit: "x", limit: 0.9, least: true},
			{what: "processor time, 1 % traced / off", unit: "x", limit: 1.02},
			{what: "processor time, all traced / off", unit: "x", limit: 1.1},
			{what: "p99, collector black-holed / answering", unit: "x", limit: 1.1},
			{what: "resident, collector black-holed, more than off", unit: "MB", limit: 8},
			{what: "resident, collector black-holed, more than answering", unit: "MB", limit: 8},
		},
		open: openTraced,
	}}
}

// Short turns: all four are to meet the same weather.
const (
	tracedTurns = 24
	tracedTurn  = 1000
)

// collector is the role of one that takes spans and forgets them.
func collector(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// blackhole is the role of a collector that takes calls and never answers.
func blackhole(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body) // else it is not seen that the caller has left
	<-r.Context().Done()
}

func openTraced(ctx context.Context, s *lab, c *closers) (round, error) {
	up, err := s.role(ctx, c, "upstream")
	if err != nil {
		return nil, err
	}
	good, err := s.role(ctx, c, "collector")
	if err != nil {
		return nil, err
	}
	hole, err := s.role(ctx, c, "blackhole")
	if err != nil {
		return nil, err
	}
	const off, some, all, lost = 0, 1, 2, 3
	var gateways [4]*child
	var loads [4]*load
	for i, set := range [4][]string{
		off:  nil,
		some: {"trace.endpoint=" + good.url, "trace.sample=0.01"},
		all:  {"trace.endpoint=" + good.url, "trace.sample=1"},
		lost: {"trace.endpoint=" + hole.url, "trace.sample=1"},
	} {
		// With a full cache all of them rest alike: what differs then is what waits for a
		// collector.
		set = append(append(unlimited[:len(unlimited):len(unlimited)], "stages.cache.max_size=1MiB"), set...)
		g, err := s.subject(ctx, c, up.url+"/v1", "", set...)
		if err != nil {
			return nil, err
		}
		gateways[i] = g.child
		if loads[i], err = newLoad(c, g.url, translatePath, atATime, func(n int64, b []byte) []byte { return appendRequest(b, n) }); err != nil {
			return nil, err
		}
		if _, err := loads[i].run(ctx, turn); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) ([]float64, string, error) {
		var rates, calls, resident [4][]float64
		var busy [4]time.Duration
		for i, g := range gateways {
			began, err := g.cpu()
			if err != nil {
				return nil, "", err
			}
			busy[i] = -began
		}
		for range tracedTurns {
			for _, i := range rand.Perm(len(loads)) {
				took, err := loads[i].run(ctx, tracedTurn)
				if err != nil {
					return nil, "", err
				}
				mb, err := gateways[i].resident()
				if err != nil {
					return nil, "", err
				}
				rates[i], calls[i], resident[i] = append(rates[i], took.rate()), append(calls[i], took.calls...), append(resident[i], mb)
			}
		}
		for i, g := range gateways {
			ended, err := g.cpu()
			if err != nil {
				return nil, "", err
			}
			busy[i] += ended
		}
		// Each turn is compared with that of the same time.
		against := func(i int) float64 {
			ratios := make([]float64, tracedTurns)
			for n := range ratios {
				ratios[n] = rates[i][n] / rates[off][n]
			}
			return median(ratios)
		}
		processor := func(i int) float64 { return float64(busy[i]) / float64(busy[off]) }
		p99 := func(i int) float64 { return quantile(calls[i], 0.99) }
		more := func(than int) float64 { return median(resident[lost]) - median(resident[than]) }
		each := func(i int) float64 { return float64(busy[i].Microseconds()) / (tracedTurns * tracedTurn) }
		remark := fmt.Sprintf("off, 1 %%, all, black-holed: %.0f, %.0f, %.0f, %.0f requests/s, processor time a request %.0f, %.0f, %.0f, %.0f us, p99 %.1f, %.1f, %.1f, %.1f ms, resident %.0f, %.0f, %.0f, %.0f MB",
			median(rates[off]), median(rates[some]), median(rates[all]), median(rates[lost]), each(off), each(some), each(all), each(lost),
			p99(off), p99(some), p99(all), p99(lost), median(resident[off]), median(resident[some]), median(resident[all]), median(resident[lost]))
		return []float64{against(some), against(all), processor(some), processor(all), p99(lost) / p99(all), more(off), more(all)}, remark, nil
	}, nil
}
