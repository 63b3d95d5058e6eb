package main

import (
	"context"
	"fmt"
	"time"
)

// throughputRows compare how many requests a second two programs serve that
// take turns on the same machine.
func throughputRows() []row {
	return []row{
		{
			name: "miss", doc: "requests a second that the cache does not know, 10 at a time, against httputil.ReverseProxy",
			bars: []bar{{what: "gateway / ReverseProxy", unit: "x", limit: 1, least: true}, {what: "processor time, gateway / ReverseProxy", unit: "x", limit: 1.15}},
			open: openMiss,
		},
		{
			name: "hit", doc: "requests a second that the cache knows, 10 at a time, against a handler that only decodes and encodes",
			bars: []bar{{what: "gateway / bare handler", unit: "x", limit: 0.8, least: true}, {what: "processor time, gateway / bare handler", unit: "x", limit: 1.15}},
			open: openHit,
		},
	}
}

// unlimited opens the gates: what is measured is what the gateway costs, not
// what it keeps back.
var unlimited = []string{
	"stages.queue.min_interval=0s", "stages.queue.max_concurrent=64",
	"stages.ratelimit.requests_per_minute=10000000",
	"pool.max_connections=64", "pool.warm_connections=10",
}

const (
	atATime = 10
	pairs   = 7    // turns that the two programs take in a round
	turn    = 4000 // requests in each
)

func openMiss(ctx context.Context, s *lab, c *closers) (round, error) {
	up, err := s.role(ctx, c, "upstream")
	if err != nil {
		return nil, err
	}
	g, err := s.subject(ctx, c, up.url+"/v1", "", unlimited...)
	if err != nil {
		return nil, err
	}
	p, err := s.role(ctx, c, "proxy", up.url)
	if err != nil {
		return nil, err
	}
	// Both are sent the same bytes. That what the gateway sends on is longer,
	// since it holds the prompt, is the gateway's own business.
	distinct := func(n int64, b []byte) []byte { return appendRequest(b, n) }
	return compare(ctx, s, c, "miss", g.child, p, distinct)
}

func openHit(ctx context.Context, s *lab, c *closers) (round, error) {
	up, err := s.role(ctx, c, "upstream")
	if err != nil {
		return nil, err
	}
	g, err := s.subject(ctx, c, up.url+"/v1", "", unlimited...)
	if err != nil {
		return nil, err
	}
	b, err := s.role(ctx, c, "bare")
	if err != nil {
		return nil, err
	}
	const texts = 1000
	known := func(n int64, b []byte) []byte { return appendRequest(b, n%texts) }
	return compare(ctx, s, c, "hit", g.child, b, known)
}

// compare returns rounds in which ours and theirs take turns, atATime requests in
// flight.
func compare(ctx context.Context, s *lab, c *closers, name string, ours, theirs *child, body func(int64, []byte) []byte) (round, error) {
	play, err := inTurn(ctx, c, ours, theirs, atATime, translatePath, body)
	if err == nil {
		c.add(s.record(ours, name))
	}
	return play, err
}

// inTurn returns rounds in which ours and theirs take turns. The first turns
// warm both up and do not count.
func inTurn(ctx context.Context, c *closers, ours, theirs *child, atOnce int, path string, body func(int64, []byte) []byte) (round, error) {
	a, err := newLoad(c, ours.url, path, atOnce, body)
	if err != nil {
		return nil, err
	}
	b, err := newLoad(c, theirs.url, path, atOnce, body)
	if err != nil {
		return nil, err
	}
	for _, l := range []*load{a, b} {
		if _, err := l.run(ctx, turn); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) ([]float64, string, error) {
		var ratios, ourRates, theirRates, ourCalls, theirCalls []float64
		busyA, err := ours.cpu()
		if err != nil {
			return nil, "", err
		}
		busyB, err := theirs.cpu()
		if err != nil {
			return nil, "", err
		}
		for i := range pairs {
			// Who goes first changes, so that a machine that gets busier or
			// calmer favours neither.
			var x, y sample
			for k := range 2 {
				if (i+k)%2 == 0 {
					x, err = a.run(ctx, turn)
				} else {
					y, err = b.run(ctx, turn)
				}
				if err != nil {
					return nil, "", err
				}
			}
			ratios = append(ratios, x.rate()/y.rate())
			ourRates, theirRates = append(ourRates, x.rate()), append(theirRates, y.rate())
			ourCalls, theirCalls = append(ourCalls, x.calls...), append(theirCalls, y.calls...)
		}
		endA, err := ours.cpu()
		if err != nil {
			return nil, "", err
		}
		endB, err := theirs.cpu()
		if err != nil {
			return nil, "", err
		}
		each := func(d time.Duration) float64 { return float64(d.Microseconds()) / (pairs * turn) }
		remark := fmt.Sprintf("%.0f against %.0f requests/s, p99 %.1f against %.1f ms, processor time a request %.0f against %.0f us; turns from %.2f to %.2f",
			median(ourRates), median(theirRates), quantile(ourCalls, 0.99), quantile(theirCalls, 0.99),
			each(endA-busyA), each(endB-busyB), quantile(ratios, 0), quantile(ratios, 1))
		return []float64{median(ratios), float64(endA-busyA) / float64(endB-busyB)}, remark, nil
	}, nil
}
