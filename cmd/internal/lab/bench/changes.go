package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// changeRows measure what requests notice of what changes while they come.
func changeRows() []row {
	return []row{
		{
			name: "reload", doc: "100 reloads in 60 s under 200 requests a second, of which one in four is new; one round",
			bars: []bar{
				{what: "requests that failed", limit: 0, worst: true},
				{what: "calls upstream, more or fewer than misses", limit: 0, worst: true},
				{what: "hits and misses, more or fewer than they should be", limit: 0, worst: true},
			},
			once: true,
			open: openReload(100, time.Minute, 10*time.Second),
		},
		{
			name: "kill", doc: "kill -9 of the plugin in use, 20 times under 200 requests a second, a fallback beside it",
			bars: []bar{
				{what: "requests that failed", limit: 0, worst: true},
				{what: "from a kill to the fallback's first attempt", unit: "ms", limit: 50, worst: true},
				{what: "from a kill to the last of a call that died", unit: "ms", limit: 50, worst: true},
			},
			open: openKill(20, 250),
		},
	}
}

const (
	beat  = 5 * time.Millisecond // between two requests
	known = 30                   // texts that repeat
	fresh = 4                    // requests of which one is new
)

// A setting is what the reloads change, one thing at a time.
type setting [4]bool

// yaml returns the pipeline.yaml of the setting.
func (v setting) yaml(direct string) []byte {
	concurrent, mode, provider, stage := 6, "pooled", "openai", ""
	if v[0] {
		concurrent = 12
	}
	if v[1] {
		mode = "direct"
	}
	if v[2] {
		provider = "openai-direct"
	}
	if v[3] {
		stage = "  - postprocess: {skip: [echo]}\n    name: again\n"
	}
	return fmt.Appendf(nil, `version: 1
pool: {mode: %s, max_connections: 16}
providers:
  openai: {type: openai, base_url: "${OPENAI_BASE_URL}", api_key: "${OPENAI_API_KEY}"}
  openai-direct: {type: plugin, command: [%q], config_from: openai}
stages:
  - cache
  - ratelimit: {requests_per_minute: 600000}
  - queue: {max_concurrent: %d, min_interval: 0s}
  - provider: {use: %s, retries: 0}
  - postprocess
%s`, mode, direct, concurrent, provider, stage)
}

// openReload makes so many reloads within a time, and has as much traffic before
// and after them as around says.
func openReload(reloads int, within, around time.Duration) func(context.Context, *lab, *closers) (round, error) {
	return func(ctx context.Context, s *lab, c *closers) (round, error) {
		m, err := s.plain(ctx, c, "--latency", "20ms")
		if err != nil {
			return nil, err
		}
		edited := *s
		edited.pipeline = filepath.Join(s.temp, "reload.yaml")
		var v setting
		if err := os.WriteFile(edited.pipeline, v.yaml(s.direct), 0o600); err != nil {
			return nil, err
		}
		g, err := edited.subject(ctx, c, m.url, "")
		if err != nil {
			return nil, err
		}
		// Each provider and each list of stages has answers of its own: all get to
		// know the texts that repeat.
		for _, flip := range []int{2, 3, 2, 3} {
			for n := range int64(known) {
				if _, _, err := g.translate(ctx, string(appendText(nil, n)), ""); err != nil {
					return nil, err
				}
			}
			v[flip] = !v[flip]
			if err := g.reload(ctx, edited.pipeline, v.yaml(s.direct)); err != nil {
				return nil, err
			}
		}
		next := int64(known)
		return func(ctx context.Context) ([]float64, string, error) {
			if err := m.call(http.MethodDelete, "/sim/stats", "", nil); err != nil {
				return nil, "", err
			}
			before, err := g.metrics()
			if err != nil {
				return nil, "", err
			}
			news := 0
			traffic := g.send(ctx, beat, func(n int64) string {
				if n%fresh != 0 {
					return string(appendText(nil, n%known))
				}
				next++
				news++
				return string(appendText(nil, next))
			})
			defer traffic.end()
			if err := pause(ctx, around); err != nil {
				return nil, "", err
			}
			began := time.Now()
			slowest := time.Duration(0)
			for i := range reloads {
				if err := pause(ctx, time.Until(began.Add(within*time.Duration(i)/time.Duration(reloads)))); err != nil {
					return nil, "", err
				}
				v[i%len(v)] = !v[i%len(v)]
				if i == reloads-1 {
					v = setting{} // so that what comes after compares with what was before
				}
				at := time.Now()
				if err := g.reload(ctx, edited.pipeline, v.yaml(s.direct)); err != nil {
					return nil, "", fmt.Errorf("reload %d: %w", i+1, err)
				}
				slowest = max(slowest, time.Since(at))
			}
			ended := time.Now()
			if err := pause(ctx, around); err != nil {
				return nil, "", err
			}
			calls := traffic.end()
			after, err := g.metrics()
			if err != nil {
				return nil, "", err
			}
			st, err := m.stats()
			if err != nil {
				return nil, "", err
			}
			grown := func(name string) int { return int(after[name] - before[name]) }
			if n := grown("generation"); n != reloads {
				return nil, "", fmt.Errorf("%d generations came of %d reloads: the row proves nothing", n, reloads)
			}
			failed, first := failures(calls)
			hits, misses := grown("cache_hits_total"), grown("cache_misses_total")
			remark := fmt.Sprintf("%d requests, %d new, %d hits, %d misses, %d calls; %d reloads in %.1f s, the slowest %.0f ms; %s",
				len(calls), news, hits, misses, st.Chats, reloads, ended.Sub(began).Seconds(), milliseconds(slowest), sideBySide(calls, began, ended))
			if first != nil {
				remark += "; the first failed with " + first.Error()
			}
			return []float64{
				float64(failed),
				math.Abs(float64(int(st.Chats) - misses)),
				math.Abs(float64(hits-(len(calls)-news))) + math.Abs(float64(misses-news)),
			}, remark, nil
		}, nil
	}
}

// reload puts yaml in the place of file and returns when the gateway serves it.
func (g *subject) reload(ctx context.Context, file string, yaml []byte) error {
	if err := os.WriteFile(file+".new", yaml, 0o600); err != nil {
		return err
	}
	if err := os.Rename(file+".new", file); err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/admin/reload", nil)
	if err != nil {
		return err
	}
	resp, err := g.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var verdict struct{ Text string }
	if err := json.NewDecoder(resp.Body).Decode(&verdict); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", resp.StatusCode, verdict.Text)
	}
	return nil
}

// sideBySide tells how long calls took that began before a time, between two and
// after, and how many of them were hits.
func sideBySide(calls []asked, from, to time.Time) string {
	var all, hits [3][]float64
	for _, call := range calls {
		if call.err != nil {
			continue
		}
		i := 0
		switch {
		case !call.at.Before(to):
			i = 2
		case !call.at.Before(from):
			i = 1
		}
		all[i] = append(all[i], milliseconds(call.took))
		if call.cached {
			hits[i] = append(hits[i], milliseconds(call.took))
		}
	}
	three := func(digits int, of func(i int) float64) string {
		return fmt.Sprintf("%.*f, %.*f, %.*f", digits, of(0), digits, of(1), digits, of(2))
	}
	return fmt.Sprintf("before, during and after them p99 %s ms, of hits alone %s ms, hits %s %%",
		three(1, func(i int) float64 { return quantile(all[i], 0.99) }),
		three(1, func(i int) float64 { return quantile(hits[i], 0.99) }),
		three(1, func(i int) float64 { return 100 * float64(len(hits[i])) / float64(len(all[i])) }))
}

// killed is a pipeline.yaml with a plugin in use and a fallback. The calls that
// die with a process open the breaker, which would keep the next process waiting
// for long by default.
const killed = `version: 1
providers:
  openai: {type: openai, base_url: "${OPENAI_BASE_URL}", api_key: "${OPENAI_API_KEY}"}
  other: {type: openai, base_url: %q, api_key: bench}
  openai-direct: {type: plugin, command: [%q], config_from: openai}
stages:
  - cache
  - ratelimit: {requests_per_minute: 600000}
  - queue: {max_concurrent: 64, min_interval: 0s}
  - provider: {use: openai-direct, fallback: [other], breaker: {open_for: 100ms}}
  - postprocess
`

// openKill kills the plugin so often, each time when it has given so many
// answers more.
func openKill(kills, between int) func(context.Context, *lab, *closers) (round, error) {
	return func(ctx context.Context, s *lab, c *closers) (round, error) {
		primary, err := s.plain(ctx, c, "--latency", "40ms")
		if err != nil {
			return nil, err
		}
		other, err := s.plain(ctx, c)
		if err != nil {
			return nil, err
		}
		two := *s
		two.pipeline = filepath.Join(s.temp, "kill.yaml")
		if err := os.WriteFile(two.pipeline, fmt.Appendf(nil, killed, other.url, s.direct), 0o600); err != nil {
			return nil, err
		}
		g, err := two.subject(ctx, c, primary.url, "")
		if err != nil {
			return nil, err
		}
		next := int64(0)
		return func(ctx context.Context) ([]float64, string, error) {
			for _, m := range []*simulator{primary, other} {
				if err := m.call(http.MethodDelete, "/sim/stats", "", nil); err != nil {
					return nil, "", err
				}
			}
			before, err := g.metrics()
			if err != nil {
				return nil, "", err
			}
			traffic := g.send(ctx, beat, func(int64) string {
				next++
				return string(appendText(nil, next))
			})
			defer traffic.end()
			var at []time.Time
			pid := 0
			for range kills {
				if err := traffic.answered(ctx, "openai-direct", between); err != nil {
					return nil, "", err
				}
				now, err := g.metrics()
				if err != nil {
					return nil, "", err
				}
				former := pid
				if pid = int(now["plugin_pid"]); pid <= 0 || pid == former {
					return nil, "", fmt.Errorf("the plugin's process is %d, and was %d before it was killed", pid, former)
				}
				at = append(at, time.Now())
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					return nil, "", err
				}
			}
			if err := traffic.answered(ctx, "openai-direct", between); err != nil {
				return nil, "", err
			}
			calls := traffic.end()
			after, err := g.metrics()
			if err != nil {
				return nil, "", err
			}
			died, restarts := after["plugin_failed_calls_total"]-before["plugin_failed_calls_total"], after["plugin_restarts_total"]-before["plugin_restarts_total"]
			if died == 0 || int(restarts) != kills {
				return nil, "", fmt.Errorf("%.0f calls died, and %.0f restarts came of %d kills: the row proves nothing", died, restarts, kills)
			}
			first, last, err := fallbacks(primary, other, at)
			if err != nil {
				return nil, "", err
			}
			failed, why := failures(calls)
			remark := fmt.Sprintf("%d requests, %d of them answered by the fallback; %.0f calls died; median from a kill to the first attempt %.1f ms, to the last for a call that died %.1f ms",
				len(calls), traffic.by["other"], died, median(first), median(last))
			if why != nil {
				remark += "; the first failed with " + why.Error()
			}
			return []float64{float64(failed), slices.Max(first), slices.Max(last)}, remark, nil
		}, nil
	}
}

// fallbacks returns for each kill how long it took until the fallback was asked
// first, and until it was asked last for a request that was upstream with the
// plugin when that was killed, in ms. All have the same clock.
func fallbacks(primary, other *simulator, kills []time.Time) (first, last []float64, err error) {
	dead, err := primary.stats()
	if err != nil {
		return nil, nil, err
	}
	saved, err := other.stats()
	if err != nil {
		return nil, nil, err
	}
	// The attempts of a request have its id, and a number behind that.
	begun := map[string]time.Time{}
	for _, r := range dead.Records {
		id, _, _ := strings.Cut(r.ClientID, "-")
		begun[id] = r.Start
	}
	first, last = make([]float64, len(kills)), make([]float64, len(kills))
	for _, r := range saved.Records { // in the order in which they began
		i, _ := slices.BinarySearchFunc(kills, r.Start, time.Time.Compare)
		if i--; i < 0 {
			continue
		}
		took := milliseconds(r.Start.Sub(kills[i]))
		if first[i] == 0 {
			first[i] = took
		}
		id, _, _ := strings.Cut(r.ClientID, "-")
		if at, ok := begun[id]; ok && at.Before(kills[i]) {
			last[i] = took
		}
	}
	if i := slices.Index(first, 0); i >= 0 {
		return nil, nil, fmt.Errorf("the fallback was not asked between kill %d and the next", i+1)
	}
	if slices.Max(last) == 0 {
		return nil, nil, errors.New("no call that died was made again: the row proves nothing")
	}
	return first, last, nil
}
