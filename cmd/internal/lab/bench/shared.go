package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// sharedRows measure what it costs a gateway to share with others over a store.
func sharedRows() []row {
	return []row{{
		name: "shared", doc: "a gateway that shares over a Redis on this machine against one that does not, one request at a time, in random order",
		bars: []bar{
			{what: "a miss, p50 added", unit: "ms", limit: 0.3},
			{what: "a hit, p50 with / without", unit: "x", limit: 1.1},
		},
		open: openShared,
	}}
}

// redis starts a Redis of our own, on a Unix socket, and returns its URL.
func (s *lab) redis(ctx context.Context, c *closers) (string, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return "", errors.New("redis-server is not installed: apt-get install redis-server")
	}
	socket := filepath.Join(s.temp, "redis")
	cmd := exec.CommandContext(ctx, program, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", s.temp)
	if err := cmd.Start(); err != nil {
		return "", err
	}
	c.add(func() { cmd.Process.Kill(); cmd.Wait(); os.Remove(socket) })
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			return "unix://" + socket, nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("redis-server does not answer: %w", err)
		}
	}
}

// asksEach is how many requests of each sort either gateway is asked in a round.
const asksEach = 1500

func openShared(ctx context.Context, s *lab, c *closers) (round, error) {
	up, err := s.role(ctx, c, "upstream")
	if err != nil {
		return nil, err
	}
	url, err := s.redis(ctx, c)
	if err != nil {
		return nil, err
	}
	alone, err := s.subject(ctx, c, up.url+"/v1", "", unlimited...)
	if err != nil {
		return nil, err
	}
	shares, err := s.subject(ctx, c, up.url+"/v1", "", append(slices.Clone(unlimited), "shared.url="+url)...)
	if err != nil {
		return nil, err
	}
	n := 0
	ask := func(ctx context.Context, g *subject, known bool) (float64, error) {
		text := "The train at a quarter to eight leaves today from platform three."
		if n++; !known {
			text = fmt.Sprintf("Train number %d leaves today from platform three.", n)
		}
		a, took, err := g.translate(ctx, text, "")
		if err == nil && known && !a.Translations[0].Cached {
			err = errors.New("a text that was asked before is not known")
		}
		return milliseconds(took), err
	}
	for _, g := range []*subject{alone, shares} {
		if _, _, err := g.translate(ctx, "The train at a quarter to eight leaves today from platform three.", ""); err != nil {
			return nil, err
		}
		for range asksEach {
			if _, err := ask(ctx, g, false); err != nil {
				return nil, err
			}
		}
	}
	calls := func() (float64, error) {
		m, err := shares.metrics()
		return m["shared_calls_total"], err
	}
	return func(ctx context.Context) ([]float64, string, error) {
		before, err := calls()
		if err != nil {
			return nil, "", err
		}
		took := [4][]float64{} // misses and hits of the one, and of the other
		for range asksEach {
			for _, which := range rand.Perm(len(took)) {
				g := alone
				if which >= 2 {
					g = shares
				}
				ms, err := ask(ctx, g, which%2 == 1)
				if err != nil {
					return nil, "", err
				}
				took[which] = append(took[which], ms)
			}
		}
		after, err := calls()
		if err != nil {
			return nil, "", err
		}
		at := func(q float64, which int) float64 { return quantile(took[which], q) }
		remark := fmt.Sprintf("a miss %.3f against %.3f ms at p50, %.2f against %.2f at p99; a hit %.3f against %.3f ms; %.1f calls of the store a miss",
			at(0.5, 2), at(0.5, 0), at(0.99, 2), at(0.99, 0), at(0.5, 3), at(0.5, 1), (after-before)/asksEach)
		return []float64{at(0.5, 2) - at(0.5, 0), at(0.5, 3) / at(0.5, 1)}, remark, nil
	}, nil
}
