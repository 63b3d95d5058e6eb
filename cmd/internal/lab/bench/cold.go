package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// coldRows measure whether requests ever wait for a connection to be made.
func coldRows() []row {
	return []row{{
		name: "cold", doc: "cold requests: bursts of warm_connections after idle gaps of 4, 5, 30 and 60 s, server closing idle connections at 5 and 30 s, from the second gap on",
		bars: []bar{
			{what: "cold requests", limit: 0, worst: true},
			{what: "requests resent, since their connection was gone", limit: 0, worst: true},
		},
		open: openCold,
	}}
}

// The cells of the row: each has a gateway and a simulator of its own, and all
// idle at the same time.
var (
	coldGaps   = []time.Duration{4 * time.Second, 5 * time.Second, 30 * time.Second, 60 * time.Second}
	coldLimits = []time.Duration{5 * time.Second, 30 * time.Second}
)

// burst is warm_connections of pipeline.yaml.
const burst = 6

// coldRTT makes a request on a new connection two of these slower than one on a
// warm one, so that the clients can tell as well.
const coldRTT = 50 * time.Millisecond

func openCold(ctx context.Context, s *lab, c *closers) (round, error) {
	var cells []*cell
	for _, limit := range coldLimits {
		for _, gap := range coldGaps {
			cells = append(cells, &cell{limit: limit, gaps: []time.Duration{gap}})
		}
		cells = append(cells, &cell{limit: limit, gaps: coldGaps})
	}
	var all sync.WaitGroup
	errs := make([]error, len(cells))
	for i, cell := range cells {
		var err error
		if cell.sim, err = s.simulator(ctx, c, "--latency", "20ms", "--rtt", coldRTT.String()); err != nil {
			return nil, err
		}
		config := fmt.Sprintf(`{"idle_timeout": %q, "fresh_timeout": %q}`, cell.limit, cell.limit)
		if err := cell.sim.call(http.MethodPost, "/sim/config", config, nil); err != nil {
			return nil, err
		}
		if cell.g, err = s.subject(ctx, c, cell.sim.url, cell.sim.ca, "stages.queue.min_interval=0s"); err != nil {
			return nil, err
		}
		// The first burst and the first gap teach, as every first idle close
		// does.
		all.Go(func() {
			if errs[i] = cell.fire(ctx); errs[i] == nil {
				errs[i] = cell.gap(ctx)
			}
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cells[i], err)
		}
	}
	return func(ctx context.Context) ([]float64, string, error) {
		var all sync.WaitGroup
		found := make([]counted, len(cells))
		for i, cell := range cells {
			all.Go(func() { found[i], errs[i] = cell.round(ctx) })
		}
		all.Wait()
		sum, said := counted{}, []string{}
		for i, cell := range cells {
			if errs[i] != nil {
				return nil, "", fmt.Errorf("%s: %w", cell, errs[i])
			}
			sum.bursts += found[i].bursts
			sum.cold += found[i].cold
			sum.resends += found[i].resends
			sum.slowest = max(sum.slowest, found[i].slowest)
			if found[i].cold > 0 || found[i].resends > 0 {
				said = append(said, fmt.Sprintf("%s: %.0f cold, %.0f resent, slowest %.0f ms", cell, found[i].cold, found[i].resends, found[i].slowest))
			}
		}
		remark := fmt.Sprintf("%d bursts of %d, the slowest request %.0f ms (warm: %d, cold: %d)", sum.bursts, burst, sum.slowest,
			(20*time.Millisecond + coldRTT).Milliseconds(), (20*time.Millisecond + 3*coldRTT).Milliseconds())
		return []float64{sum.cold, sum.resends}, strings.Join(append([]string{remark}, said...), "; "), nil
	}, nil
}

// A cell is one gateway in front of one server.
type cell struct {
	limit time.Duration // the server's
	gaps  []time.Duration
	sim   *simulator
	g     *subject
	asked int64
	next  int // of gaps
	burst counted
}

// counted is what came of some bursts.
type counted struct {
	bursts        int
	cold, resends float64
	slowest       float64 // ms
}

func (c *cell) String() string {
	if len(c.gaps) > 1 {
		return fmt.Sprintf("gaps of %v in turn, server closes at %s", c.gaps, c.limit)
	}
	return fmt.Sprintf("gaps of %s, server closes at %s", c.gaps[0], c.limit)
}

// fire sends a burst.
func (c *cell) fire(ctx context.Context) error {
	took, err := c.g.together(ctx, burst, c.asked)
	c.asked += burst
	if err != nil {
		return err
	}
	c.burst.bursts++
	c.burst.slowest = max(c.burst.slowest, slices.Max(took))
	return nil
}

// gap waits for the next of the gaps, and sends the burst after it.
func (c *cell) gap(ctx context.Context) error {
	if err := pause(ctx, c.gaps[c.next%len(c.gaps)]); err != nil {
		return err
	}
	c.next++
	return c.fire(ctx)
}

// round goes once through the gaps.
func (c *cell) round(ctx context.Context) (counted, error) {
	before, err := c.g.metrics()
	if err != nil {
		return counted{}, err
	}
	c.burst = counted{}
	for range c.gaps {
		if err := c.gap(ctx); err != nil {
			return counted{}, err
		}
	}
	after, err := c.g.metrics()
	if err != nil {
		return counted{}, err
	}
	c.burst.cold = after["pool_cold_total"] - before["pool_cold_total"]
	c.burst.resends = after["pool_resends_total"] - before["pool_resends_total"]
	return c.burst, nil
}
