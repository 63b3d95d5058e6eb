package main

import (
	"context"
	"fmt"
	"time"
)

// memoryRows measure what the gateway takes of the machine.
func memoryRows() []row {
	return []row{
		{
			name: "rest", doc: "resident memory of a gateway that is ready and has nothing to do",
			bars: []bar{{what: "resident", unit: "MB", limit: 40}},
			open: openRest,
		},
		{
			name: "full", doc: "resident memory of a gateway whose cache of 32 MiB has been full for a while",
			bars: []bar{{what: "resident", unit: "MB", limit: 90}},
			open: openFull,
		},
		{
			name: "usage", doc: "what 4 sessions of 44 requests a minute take, steady upstream",
			bars: []bar{{what: "processor, of one core", unit: "%", limit: 20}, {what: "resident", unit: "MB", limit: 100}},
			open: openUsage,
		},
	}
}

func openRest(ctx context.Context, s *lab, c *closers) (round, error) {
	m, err := s.simulator(ctx, c)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) ([]float64, string, error) {
		var c closers
		defer c.close()
		g, err := s.subject(ctx, &c, m.url, m.ca)
		if err != nil {
			return nil, "", err
		}
		if err := pause(ctx, 3*time.Second); err != nil { // till all connections are there
			return nil, "", err
		}
		mb, err := g.resident()
		return []float64{mb}, "", err
	}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func openFull(ctx context.Context, s *lab, c *closers) (round, error) {
	up, err := s.role(ctx, c, "upstream")
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) ([]float64, string, error) {
		var c closers
		defer c.close()
		g, err := s.subject(ctx, &c, up.url+"/v1", "", append([]string{"stages.cache.max_size=32MiB"}, unlimited...)...)
		if err != nil {
			return nil, "", err
		}
		l, err := newLoad(&c, g.url, translatePath, atATime, func(n int64, b []byte) []byte { return appendRequest(b, n) })
		if err != nil {
			return nil, "", err
		}
		// Full is when answers make room for others; then as much again as it
		// holds.
		const most = 1_000_000
		full := false
		for asked := 0; asked < most; asked += turn {
			if _, err := l.run(ctx, turn); err != nil {
				return nil, "", err
			}
			v, err := g.metrics()
			if err != nil {
				return nil, "", err
			}
			if gone := v["cache_evictions_total"] + v["cache_rejections_total"]; gone > v["cache_entries"] {
				full = true
				mb, err := g.resident()
				return []float64{mb}, fmt.Sprintf("%.0f answers held in %.1f MB, %.0f let go", v["cache_entries"], v["cache_bytes"]/(1<<20), gone), err
			}
		}
		if !full {
			return nil, "", fmt.Errorf("the cache was not full after %d texts", most)
		}
		return nil, "", nil
	}, nil
}

func openUsage(ctx context.Context, s *lab, c *closers) (round, error) {
	m, err := s.simulator(ctx, c, "--profile", "steady")
	if err != nil {
		return nil, err
	}
	g, err := s.subject(ctx, c, m.url, m.ca)
	if err != nil {
		return nil, err
	}
	const (
		sessions = 4
		each     = 15 // requests of a session in a round
		gap      = time.Minute / 44
	)
	asked := int64(0)
	return func(ctx context.Context) ([]float64, string, error) {
		busy, err := g.cpu()
		if err != nil {
			return nil, "", err
		}
		begin := time.Now()
		beat := time.NewTicker(gap)
		defer beat.Stop()
		for range each {
			if _, err := g.together(ctx, sessions, asked); err != nil {
				return nil, "", err
			}
			asked += sessions
			select {
			case <-beat.C:
			case <-ctx.Done():
				return nil, "", context.Cause(ctx)
			}
		}
		end, err := g.cpu()
		if err != nil {
			return nil, "", err
		}
		mb, err := g.resident()
		return []float64{100 * (end - busy).Seconds() / time.Since(begin).Seconds(), mb}, "", err
	}, nil
}
