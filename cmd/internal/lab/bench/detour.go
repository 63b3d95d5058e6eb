package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// detourRows measure what the gateway makes of an upstream that is slow or
// does not want to be called.
func detourRows() []row {
	return []row{
		{
			name: "paused", doc: "the provider in use paused for 30 s by a 429, a fallback beside it: what calls take beyond the fallback's own work",
			bars: []bar{{what: "p99", unit: "ms", limit: 5}},
			open: openPaused,
		},
		{
			name: "hedged", doc: "hedge: {after: p95} against none, 32 sessions, rough upstream (p50 300, p99 900 ms)",
			bars: []bar{
				// The slowest call of all is too much a matter of luck.
				{what: "slowest but 4 in 4,000: without less with", unit: "ms", limit: 100, least: true},
				{what: "further calls, of all that were asked for", unit: "%", limit: 10},
			},
			open: openHedged,
		},
	}
}

// beside is a pipeline.yaml with a provider and a fallback.
const beside = `version: 1
providers:
  openai: {type: openai, base_url: "${OPENAI_BASE_URL}", api_key: "${OPENAI_API_KEY}"}
  other: {type: openai, base_url: "%s", api_key: bench}
stages:
  - cache
  - ratelimit
  - queue
  - provider: {use: openai, fallback: [other]}
  - postprocess
`

func openPaused(ctx context.Context, s *lab, c *closers) (round, error) {
	primary, err := s.simulator(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := primary.call(http.MethodPost, "/sim/config", `{"faults": {"429": 1}, "retry_after": "30s"}`, nil); err != nil {
		return nil, err
	}
	other, err := s.simulator(ctx, c, "--latency", "100ms")
	if err != nil {
		return nil, err
	}
	two := *s
	two.pipeline = filepath.Join(s.temp, "paused.yaml")
	if err := os.WriteFile(two.pipeline, fmt.Appendf(nil, beside, other.url), 0o600); err != nil {
		return nil, err
	}
	ca, err := join(s.temp, primary.ca, other.ca)
	if err != nil {
		return nil, err
	}
	const sessions, each, alone = 4, 60, 30
	return func(ctx context.Context) ([]float64, string, error) {
		var c closers
		defer c.close()
		g, err := two.subject(ctx, &c, primary.url, ca)
		if err != nil {
			return nil, "", err
		}
		for _, m := range []*simulator{primary, other} {
			if err := m.call(http.MethodDelete, "/sim/stats", "", nil); err != nil {
				return nil, "", err
			}
		}
		if _, _, err := g.translate(ctx, "Who asks first is told to come back later.", ""); err != nil {
			return nil, "", err
		}
		// As in the row added.
		before, err := other.talk(ctx, sessions, alone, "before-")
		if err != nil {
			return nil, "", err
		}
		through, err := g.talk(ctx, sessions, each, 0)
		if err != nil {
			return nil, "", err
		}
		after, err := other.talk(ctx, sessions, alone, "after-")
		if err != nil {
			return nil, "", err
		}
		with, err := other.outside(through)
		if err != nil {
			return nil, "", err
		}
		without, err := other.outside(append(before, after...))
		if err != nil {
			return nil, "", err
		}
		refused, err := primary.stats()
		if err != nil {
			return nil, "", err
		}
		if refused.Chats != 1 {
			return nil, "", fmt.Errorf("the provider that is paused was called %d times, want once", refused.Chats)
		}
		hop := median(without)
		remark := fmt.Sprintf("%d calls, p50 %.2f, most %.1f ms more than without a gateway", len(with), median(with)-hop, slices.Max(with)-hop)
		return []float64{quantile(with, 0.99) - hop}, remark, nil
	}, nil
}

// join writes the certificates of files to one.
func join(dir string, files ...string) (string, error) {
	var all bytes.Buffer
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		all.Write(pem)
	}
	joined := filepath.Join(dir, "ca-joined.pem")
	return joined, os.WriteFile(joined, all.Bytes(), 0o600)
}

func openHedged(ctx context.Context, s *lab, c *closers) (round, error) {
	type side struct {
		*simulator
		*subject
		took  []float64 // ms
		extra int64
		err   error
	}
	// Both upstreams draw the same latencies, in the order of their calls.
	sides := make([]*side, 2)
	for i, after := range []string{"never", "p95"} {
		m, err := s.simulator(ctx, c, "--profile", "rough", "--seed", "1")
		if err != nil {
			return nil, err
		}
		g, err := s.subject(ctx, c, m.url, m.ca, "stages.provider.hedge.after="+after, "pool.max_connections=64",
			"stages.queue.max_concurrent=64", "stages.queue.min_interval=0s", "stages.ratelimit.requests_per_minute=100000")
		if err != nil {
			return nil, err
		}
		sides[i] = &side{simulator: m, subject: g}
	}
	asked := int64(0)
	ask := func(ctx context.Context, each int) error {
		const sessions = 32
		var both sync.WaitGroup
		for _, s := range sides {
			both.Go(func() {
				if s.err = s.call(http.MethodDelete, "/sim/stats", "", nil); s.err != nil {
					return
				}
				var calls []timed
				if calls, s.err = s.subject.talk(ctx, sessions, each, asked); s.err != nil {
					return
				}
				st, err := s.stats()
				s.took, s.extra, s.err = nil, st.Chats-int64(len(calls)), err
				for _, call := range calls {
					s.took = append(s.took, milliseconds(call.took))
				}
			})
		}
		both.Wait()
		asked += int64(sessions * each)
		for _, s := range sides {
			if s.err != nil {
				return s.err
			}
		}
		return nil
	}
	if err := ask(ctx, 3); err != nil { // p95 is that of calls which were made
		return nil, err
	}
	return func(ctx context.Context) ([]float64, string, error) {
		if err := ask(ctx, 125); err != nil {
			return nil, "", err
		}
		never, p95 := sides[0], sides[1]
		if never.extra != 0 || p95.extra == 0 {
			return nil, "", fmt.Errorf("%d further calls without hedges and %d with: the row proves nothing", never.extra, p95.extra)
		}
		say := func(took []float64) string {
			return fmt.Sprintf("p50 %.0f, p95 %.0f, p99 %.0f, p99.9 %.0f, slowest %.0f ms",
				median(took), quantile(took, 0.95), quantile(took, 0.99), quantile(took, 0.999), slices.Max(took))
		}
		n := len(p95.took)
		remark := fmt.Sprintf("%d calls each, %d further ones; without: %s; with: %s", n, p95.extra, say(never.took), say(p95.took))
		return []float64{quantile(never.took, 0.999) - quantile(p95.took, 0.999), 100 * float64(p95.extra) / float64(n)}, remark, nil
	}, nil
}
