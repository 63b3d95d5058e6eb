package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// limitRows count at the upstream whether limits hold.
func limitRows() []row {
	return []row{
		{
			name: "limits", doc: "slots and interval as counted upstream, with retries, hedges and an upstream that fails one call in ten",
			bars: []bar{
				{what: "calls at once (6), longer than the way", limit: slots, worst: true},
				{what: "between two starts (25 ms), and the way", unit: "ms", limit: interval, least: true, worst: true},
				{what: "from a start to the 40th after it, and the way", unit: "ms", limit: inARow * interval, least: true, worst: true},
			},
			open: openLimits,
		},
		{
			name: "minute", doc: "600 texts offered in each minute, where fewer calls are allowed",
			bars: []bar{
				{what: "calls in any 60 s, with requests_per_minute 300", limit: 300, worst: true},
				{what: "calls in the first 60 s, so that little is wasted", limit: 285, least: true},
				{what: "429s of an upstream that allows 100, configured 4500", limit: 0, worst: true},
			},
			open: openMinute,
		},
	}
}

// The queue of pipeline.yaml, and how many intervals the third bar of the row
// limits looks at.
//
// Calls leave the gateway at the right time and arrive a little later, one more
// than the other, so two arrivals may be closer than the starts were, by as much
// as their ways differ. How much that is on this machine is measured at the same
// time, with calls that another program makes by the clock: the longest way less
// the shortest is what is added to what was counted. With forty intervals it
// weighs a fortieth.
const (
	slots    = 6
	interval = 25 // ms
	inARow   = 40
)

func openLimits(ctx context.Context, s *lab, c *closers) (round, error) {
	m, err := s.simulator(ctx, c)
	if err != nil {
		return nil, err
	}
	// Latencies at which now the slots are what holds a start up, and now the
	// interval. No fault ends a connection before an answer has begun: what the
	// pool then sends again by itself belongs to the turn that was taken.
	const config = `{"latency": "100ms", "latency_p99": "600ms",
		"faults": {"500": 0.04, "503-html": 0.03, "truncated": 0.03, "hang": 0.005}}`
	if err := m.call(http.MethodPost, "/sim/config", config, nil); err != nil {
		return nil, err
	}
	g, err := s.subject(ctx, c, m.url, m.ca, "providers.openai.timeout=1s", "stages.provider.breaker.failures=0", "stages.provider.hedge.after=p95")
	if err != nil {
		return nil, err
	}
	clock, err := s.simulator(ctx, c)
	if err != nil {
		return nil, err
	}
	asked := int64(0)
	return func(ctx context.Context) ([]float64, string, error) {
		if err := m.call(http.MethodDelete, "/sim/stats", "", nil); err != nil {
			return nil, "", err
		}
		before, err := g.attempts()
		if err != nil {
			return nil, "", err
		}
		ways, stop := clock.ways(ctx)
		calls, refused := 0, 0
		// A crowd, in which nothing is free for a hedge, and then a few.
		for _, crowd := range []struct{ callers, each int }{{20, 20}, {3, 50}} {
			n, err := g.crowd(ctx, crowd.callers, crowd.each, asked)
			if err != nil {
				stop()
				return nil, "", err
			}
			refused += n
			calls += crowd.callers * crowd.each
			asked += int64(crowd.callers * crowd.each)
		}
		stop()
		after, err := g.attempts()
		if err != nil {
			return nil, "", err
		}
		retries, hedges := after["retry"]-before["retry"], after["hedge"]-before["hedge"]
		if retries == 0 || hedges == 0 {
			return nil, "", fmt.Errorf("%.0f retries and %.0f hedges were made: without both the row proves nothing", retries, hedges)
		}
		st, err := m.stats()
		if err != nil {
			return nil, "", err
		}
		late, err := clock.late(<-ways)
		if err != nil {
			return nil, "", err
		}
		way := slices.Max(late) - slices.Min(late)
		closest, span := st.ShortestSpan(2), st.ShortestSpan(inARow+1)
		remark := fmt.Sprintf("%d texts, %d of them not translated, %d calls with %.0f retries and %.0f hedges; as counted: %d at once, %.1f ms, %.1f ms; the way of a call takes %.1f to %.1f ms",
			calls, refused, st.Chats, retries, hedges, st.MaxInFlight, milliseconds(closest), milliseconds(span), slices.Min(late), slices.Max(late))
		return []float64{
			float64(st.MostTogether(time.Duration(way * float64(time.Millisecond)))),
			milliseconds(closest) + way,
			milliseconds(span) + way,
		}, remark, nil
	}, nil
}

// crowd lets each of callers ask for each texts, one after the other, and
// returns how many were refused.
func (g *subject) crowd(ctx context.Context, callers, each int, from int64) (refused int, err error) {
	var mu sync.Mutex
	_, err = converse(ctx, callers, each, 1, func(caller, k int) (timed, error) {
		_, _, err := g.translate(ctx, string(appendText(nil, from+int64(k))), fmt.Sprint("session ", caller))
		if _, ok := errors.AsType[*refusal](err); ok {
			mu.Lock()
			refused++
			mu.Unlock()
			return timed{}, nil
		}
		return timed{}, err
	})
	return refused, err
}

// attempts returns the calls of providers so far, by their reason.
func (g *subject) attempts() (map[string]float64, error) {
	resp, err := g.http.Get(g.url + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	sums := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		labels, ok := strings.CutPrefix(lines.Text(), "dragoman_provider_attempts_total{")
		if !ok {
			continue
		}
		_, reason, _ := strings.Cut(labels, `reason="`)
		reason, _, _ = strings.Cut(reason, `"`)
		n, err := strconv.ParseFloat(labels[strings.LastIndexByte(labels, ' ')+1:], 64)
		if err != nil {
			return nil, err
		}
		sums[reason] += n
	}
	return sums, lines.Err()
}

// ways makes a call every 20 ms without a gateway, until stop is called, and
// then tells when each was made, by its id.
func (m *simulator) ways(ctx context.Context) (made <-chan map[string]time.Time, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	told := make(chan map[string]time.Time, 1)
	go func() {
		sent := map[string]time.Time{}
		defer func() { told <- sent }()
		if m.complete(ctx, "connects", "Hello.") != nil {
			return
		}
		beat := time.NewTicker(20 * time.Millisecond)
		defer beat.Stop()
		for {
			id := fmt.Sprint("way-", len(sent))
			at := time.Now()
			if m.complete(ctx, id, "Hello.") == nil {
				sent[id] = at
			}
			select {
			case <-beat.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return told, cancel
}

// late returns how long each call that was made took to arrive, in ms. Both
// ends have the same clock.
func (m *simulator) late(made map[string]time.Time) ([]float64, error) {
	st, err := m.stats()
	if err != nil {
		return nil, err
	}
	var late []float64
	for _, r := range st.Records {
		if at, ok := made[r.ClientID]; ok {
			late = append(late, milliseconds(r.Start.Sub(at)))
		}
	}
	if len(late) == 0 {
		return nil, errors.New("no call without a gateway arrived")
	}
	return late, m.call(http.MethodDelete, "/sim/stats", "", nil)
}

func openMinute(_ context.Context, s *lab, _ *closers) (round, error) {
	const (
		beat  = 100 * time.Millisecond
		lasts = 75 * time.Second
	)
	// A side is an upstream with a gateway of its own in front.
	type side struct {
		*simulator
		*subject
		answered map[int]int
		err      error
	}
	begin := func(ctx context.Context, c *closers, limit int, flags ...string) (*side, error) {
		m, err := s.simulator(ctx, c, append([]string{"--latency", "100ms"}, flags...)...)
		if err != nil {
			return nil, err
		}
		g, err := s.subject(ctx, c, m.url, m.ca, fmt.Sprint("stages.ratelimit.requests_per_minute=", limit))
		return &side{simulator: m, subject: g}, err
	}
	return func(ctx context.Context) ([]float64, string, error) {
		var c closers
		defer c.close()
		ours, err := begin(ctx, &c, 300)
		if err != nil {
			return nil, "", err
		}
		theirs, err := begin(ctx, &c, 4500, "--rpm", "100")
		if err != nil {
			return nil, "", err
		}
		var both sync.WaitGroup
		for _, s := range []*side{ours, theirs} {
			both.Go(func() { s.answered, s.err = s.offer(ctx, beat, lasts) })
		}
		both.Wait()
		if err := errors.Join(ours.err, theirs.err); err != nil {
			return nil, "", err
		}
		limited, err := ours.stats()
		if err != nil {
			return nil, "", err
		}
		learned, err := theirs.stats()
		if err != nil {
			return nil, "", err
		}
		if len(limited.Records) == 0 || len(learned.Records) == 0 {
			return nil, "", errors.New("nothing arrived upstream")
		}
		first, begin := 0, limited.Records[0].Start
		for _, r := range limited.Records {
			if r.Start.Sub(begin) < time.Minute {
				first++
			}
		}
		remark := fmt.Sprintf("texts by status, with 300: %s; with 100 learned: %s, of %d calls", statuses(ours.answered), statuses(theirs.answered), learned.Chats)
		return []float64{float64(limited.MostWithin(time.Minute)), float64(first), float64(learned.Statuses[http.StatusTooManyRequests])}, remark, nil
	}, nil
}

// offer asks for a text at every beat, whatever became of those before, and
// returns how many were answered with which status.
func (g *subject) offer(ctx context.Context, beat, lasts time.Duration) (map[int]int, error) {
	var (
		all      sync.WaitGroup
		mu       sync.Mutex
		failed   error
		answered = map[int]int{}
	)
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for n := range int64(lasts / beat) {
		all.Go(func() {
			status := http.StatusOK
			_, _, err := g.translate(ctx, string(appendText(nil, n)), fmt.Sprint("session ", n%8))
			if r, ok := errors.AsType[*refusal](err); ok {
				status, err = r.status, nil
			}
			mu.Lock()
			defer mu.Unlock()
			answered[status]++
			if err != nil {
				failed = err
			}
		})
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	all.Wait()
	return answered, errors.Join(failed, context.Cause(ctx))
}

func statuses(answered map[int]int) string {
	var said []string
	for _, status := range slices.Sorted(maps.Keys(answered)) {
		said = append(said, fmt.Sprintf("%d %d times", status, answered[status]))
	}
	return strings.Join(said, ", ")
}
