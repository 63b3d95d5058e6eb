package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// latencyRows measure time, against a simulator with a latency of its own.
func latencyRows() []row {
	return []row{
		{
			name: "start", doc: "from the start of the process to its first answer, with the simulator running",
			bars: []bar{{what: "start to first answer", unit: "ms", limit: 300}},
			open: openStart,
		},
		{
			name: "burst", doc: "12 requests at once, each 300 ms upstream: when the last starts there, after the first",
			bars: []bar{
				// The schedules themselves take 425 and 750 ms. The margin is for
				// what comes between an answer and the next start.
				{what: "queue 6 / 25ms (425 ms)", unit: "ms", limit: 425 + margin},
				{what: "queue 4 / 50ms (750 ms), as before", unit: "ms", limit: 750 + margin},
			},
			open: openBurst,
		},
		{
			name: "batch", doc: "16 texts for which nobody waits in one call of a client, against 16 calls at once, each 300 ms upstream",
			bars: []bar{
				{what: "time, one call / 16 calls", unit: "x", limit: 0.6},
				{what: "tokens, one call / 16 calls", unit: "x", limit: 0.5},
			},
			open: openBatch,
		},
		{
			name: "added", doc: "added latency over the upstream's own, 4 sessions, the wait for min_interval counted apart",
			bars: []bar{{what: "p50", unit: "ms", limit: 1}, {what: "p99", unit: "ms", limit: 5}},
			open: openAdded,
		},
		{
			name: "pooled", doc: "pooled against direct connections, upstream 50 ms away",
			bars: []bar{{what: "p50 of direct less p50 of pooled", unit: "ms", limit: 80, least: true}},
			open: openPooled,
		},
	}
}

func openStart(ctx context.Context, s *lab, c *closers) (round, error) {
	m, err := s.simulator(ctx, c)
	if err != nil {
		return nil, err
	}
	once := func(ctx context.Context) (float64, error) {
		var c closers
		defer c.close()
		begin := time.Now()
		g, err := s.begin(ctx, &c, m.url, m.ca)
		if err != nil {
			return 0, err
		}
		if _, _, err := g.translate(ctx, "Good morning. The train is late.", ""); err != nil {
			return 0, err
		}
		return milliseconds(time.Since(begin)), nil
	}
	if _, err := once(ctx); err != nil { // from the disk, the first time
		return nil, err
	}
	return func(ctx context.Context) ([]float64, string, error) {
		var took []float64
		for range 5 {
			ms, err := once(ctx)
			if err != nil {
				return nil, "", err
			}
			took = append(took, ms)
		}
		return []float64{median(took)}, fmt.Sprintf("5 starts, the slowest %.0f ms", slices.Max(took)), nil
	}, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// margin is what a schedule that waits for answers may take beyond its own
// time, in ms: the call that ends has to be read and the next to arrive.
const margin = 10

func openBurst(ctx context.Context, s *lab, c *closers) (round, error) {
	type shape struct {
		*simulator
		*subject
	}
	var shapes []shape
	for _, set := range [][]string{
		{"stages.queue.max_concurrent=6", "stages.queue.min_interval=25ms"},
		{"stages.queue.max_concurrent=4", "stages.queue.min_interval=50ms"},
	} {
		m, err := s.simulator(ctx, c, "--latency", "300ms")
		if err != nil {
			return nil, err
		}
		g, err := s.subject(ctx, c, m.url, m.ca, set...)
		if err != nil {
			return nil, err
		}
		shapes = append(shapes, shape{m, g})
	}
	asked := int64(0)
	return func(ctx context.Context) ([]float64, string, error) {
		var last []float64
		for _, s := range shapes {
			if err := s.call(http.MethodDelete, "/sim/stats", "", nil); err != nil {
				return nil, "", err
			}
			if _, err := s.together(ctx, 12, asked); err != nil {
				return nil, "", err
			}
			asked += 12
			st, err := s.stats()
			if err != nil {
				return nil, "", err
			}
			if len(st.Records) != 12 {
				return nil, "", fmt.Errorf("the upstream saw %d calls for 12 requests", len(st.Records))
			}
			last = append(last, milliseconds(st.Records[11].Start.Sub(st.Records[0].Start)))
		}
		return last, "", nil
	}, nil
}

func openBatch(ctx context.Context, s *lab, c *closers) (round, error) {
	m, err := s.simulator(ctx, c, "--latency", "300ms")
	if err != nil {
		return nil, err
	}
	g, err := s.subject(ctx, c, m.url, m.ca)
	if err != nil {
		return nil, err
	}
	const n = 16
	asked := int64(0)
	// ask asks for n texts that nobody has asked for, of so many a call, all calls at once.
	ask := func(ctx context.Context, each int) (took time.Duration, tokens int, calls int64, err error) {
		if err := m.call(http.MethodDelete, "/sim/stats", "", nil); err != nil {
			return 0, 0, 0, err
		}
		var group errgroup.Group
		var spent atomic.Int64
		begin := time.Now()
		for range n / each {
			texts := make([]string, each)
			for i := range texts {
				texts[i] = string(appendText(nil, asked))
				asked++
			}
			group.Go(func() error {
				used, err := g.tokens(ctx, texts)
				spent.Add(int64(used))
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return 0, 0, 0, err
		}
		took = time.Since(begin)
		st, err := m.stats()
		return took, int(spent.Load()), st.Chats, err
	}
	for range 3 { // how many go together is learnt from how fast the model is
		if _, _, _, err := ask(ctx, n); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) ([]float64, string, error) {
		one, oneTokens, calls, err := ask(ctx, n)
		if err != nil {
			return nil, "", err
		}
		many, manyTokens, _, err := ask(ctx, 1)
		if err != nil {
			return nil, "", err
		}
		if oneTokens == 0 || manyTokens == 0 {
			return nil, "", errors.New("an answer does not say what it cost")
		}
		remark := fmt.Sprintf("%.0f against %.0f ms, %d against %d tokens, in %d calls upstream", milliseconds(one), milliseconds(many), oneTokens, manyTokens, calls)
		return []float64{float64(one) / float64(many), float64(oneTokens) / float64(manyTokens)}, remark, nil
	}, nil
}

// tokens asks for texts in one call, and returns what they cost.
func (g *subject) tokens(ctx context.Context, texts []string) (int, error) {
	body, err := json.Marshal(map[string]any{"text": texts, "source": "en", "target": "es", "bulk": true})
	if err != nil {
		return 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/v1/translate", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	resp, err := g.http.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, &refusal{resp.StatusCode, got}
	}
	var a struct {
		Translations []struct {
			Text  string
			Usage struct {
				Prompt     int `json:"prompt_tokens"`
				Completion int `json:"completion_tokens"`
			}
		}
	}
	if err := json.Unmarshal(got, &a); err != nil {
		return 0, err
	}
	if len(a.Translations) != len(texts) {
		return 0, fmt.Errorf("%d translations of %d texts: %.300s", len(a.Translations), len(texts), got)
	}
	spent := 0
	for i, t := range a.Translations {
		if !strings.HasSuffix(t.Text, texts[i]) {
			return 0, fmt.Errorf("%q is no translation of %q", t.Text, texts[i])
		}
		spent += t.Usage.Prompt + t.Usage.Completion
	}
	return spent, nil
}

// together sends n texts at once, from the from-th on, each of a session of its
// own, and returns how long each took in ms.
func (g *subject) together(ctx context.Context, n int, from int64) ([]float64, error) {
	took := make([]float64, n)
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for i := range n {
		all.Go(func() {
			_, d, err := g.translate(ctx, string(appendText(nil, from+int64(i))), fmt.Sprint("session ", i))
			took[i] = milliseconds(d)
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return took, failed
}

// A timed call is one as the client saw it.
type timed struct {
	id    string
	took  time.Duration
	paced float64 // of it, waiting for min_interval, in ms
}

// converse lets each of sessions make n calls, one after the other with a pause
// of up to pause between, and returns all of them. They are numbered from 0.
func converse(ctx context.Context, sessions, n int, pause time.Duration, call func(session, k int) (timed, error)) ([]timed, error) {
	calls := make([]timed, sessions*n)
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for session := range sessions {
		all.Go(func() {
			for i := range n {
				k := session*n + i
				var err error
				if calls[k], err = call(session, k); err == nil {
					time.Sleep(rand.N(pause))
					err = context.Cause(ctx)
				}
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
			}
		})
	}
	all.Wait()
	return calls, failed
}

// between is the longest pause of a session between two calls.
const between = 50 * time.Millisecond

// talk lets each of sessions ask for n texts, from the from-th on.
func (g *subject) talk(ctx context.Context, sessions, n int, from int64) ([]timed, error) {
	return converse(ctx, sessions, n, between, func(session, k int) (timed, error) {
		a, took, err := g.translate(ctx, string(appendText(nil, from+int64(k))), fmt.Sprint("session ", session))
		if err != nil {
			return timed{}, err
		}
		return timed{a.ID, took, a.Timing.Paced}, nil
	})
}

// talk lets each of sessions make n calls without a gateway, over warm
// connections. The calls carry ids that begin with prefix.
func (m *simulator) talk(ctx context.Context, sessions, n int, prefix string) ([]timed, error) {
	return converse(ctx, sessions, n, between, func(_, k int) (timed, error) {
		id := prefix + strconv.Itoa(k)
		begin := time.Now()
		err := m.complete(ctx, id, string(appendText(nil, int64(k))))
		return timed{id: id, took: time.Since(begin)}, err
	})
}

// outside returns what each call took beyond the upstream's own work on it and
// the wait for min_interval, in ms.
func (m *simulator) outside(calls []timed) ([]float64, error) {
	st, err := m.stats()
	if err != nil {
		return nil, err
	}
	own := map[string]time.Duration{}
	for _, r := range st.Records {
		own[r.ClientID] = r.Took
	}
	rest := make([]float64, len(calls))
	for i, call := range calls {
		took, ok := own[call.id]
		if !ok {
			return nil, fmt.Errorf("the upstream has not seen request %s", call.id)
		}
		rest[i] = milliseconds(call.took-took) - call.paced
	}
	return rest, nil
}

// openAdded compares what calls take beyond the upstream's own work on them with
// the gateway and without. That is more than nothing without: both ends of a
// connection that was silent for 100 ms have to be woken. What is left is the
// gateway's.
func openAdded(ctx context.Context, s *lab, c *closers) (round, error) {
	// The upstream's own time does not matter to what is added; a short one
	// gives the thousand calls that a p99 takes in less time.
	m, err := s.simulator(ctx, c, "--latency", "100ms")
	if err != nil {
		return nil, err
	}
	g, err := s.subject(ctx, c, m.url, m.ca)
	if err != nil {
		return nil, err
	}
	const sessions, each, alone = 4, 260, 60
	asked := int64(0)
	return func(ctx context.Context) ([]float64, string, error) {
		if err := m.call(http.MethodDelete, "/sim/stats", "", nil); err != nil {
			return nil, "", err
		}
		// Without before and after, so that a machine that gets busier or
		// calmer favours neither.
		before, err := m.talk(ctx, sessions, alone, "before-")
		if err != nil {
			return nil, "", err
		}
		through, err := g.talk(ctx, sessions, each, asked)
		if err != nil {
			return nil, "", err
		}
		asked += sessions * each
		after, err := m.talk(ctx, sessions, alone, "after-")
		if err != nil {
			return nil, "", err
		}
		with, err := m.outside(through)
		if err != nil {
			return nil, "", err
		}
		without, err := m.outside(append(before, after...))
		if err != nil {
			return nil, "", err
		}
		var paced []float64
		for _, call := range through {
			paced = append(paced, call.paced)
		}
		hop := median(without)
		remark := fmt.Sprintf("%d calls, beyond the upstream's work p50 %.2f, p99 %.2f, most %.1f ms, and without a gateway p50 %.2f, p99 %.2f ms; the wait for min_interval: p50 %.1f, p99 %.1f ms",
			len(with), median(with), quantile(with, 0.99), slices.Max(with), hop, quantile(without, 0.99), median(paced), quantile(paced, 0.99))
		return []float64{median(with) - hop, quantile(with, 0.99) - hop}, remark, nil
	}, nil
}

func openPooled(ctx context.Context, s *lab, c *closers) (round, error) {
	m, err := s.simulator(ctx, c, "--profile", "steady")
	if err != nil {
		return nil, err
	}
	var gateways []*subject
	for _, mode := range []string{"pooled", "direct"} {
		g, err := s.subject(ctx, c, m.url, m.ca, "pool.mode="+mode)
		if err != nil {
			return nil, err
		}
		gateways = append(gateways, g)
	}
	const sessions, each = 4, 30
	asked := int64(0)
	return func(ctx context.Context) ([]float64, string, error) {
		p50 := make([]float64, len(gateways))
		for i, g := range gateways {
			calls, err := g.talk(ctx, sessions, each, asked)
			if err != nil {
				return nil, "", err
			}
			asked += sessions * each
			var took []float64
			for _, call := range calls {
				took = append(took, milliseconds(call.took)-call.paced)
			}
			p50[i] = median(took)
		}
		return []float64{p50[1] - p50[0]}, fmt.Sprintf("pooled %.1f, direct %.1f ms", p50[0], p50[1]), nil
	}, nil
}
