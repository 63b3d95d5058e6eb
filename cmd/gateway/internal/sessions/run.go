package sessions

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Run runs every cell of o and returns what was measured. Progress hears of
// each answer; it may be nil and is called from many goroutines at once. The
// error is that of the test itself; that a criterion is missed is none.
func Run(ctx context.Context, o Options, progress func(Progress)) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &Report{Options: o, Began: time.Now().Truncate(time.Second), CPUs: runtime.NumCPU(), LoadBefore: load()}

	run := strconv.FormatInt(time.Now().UnixMilli(), 36)
	cells := o.cells()
	plans := make([][]arrival, len(cells))
	seen := newTally(progress)
	for i, c := range cells {
		plans[i] = o.schedule(c.Sessions)
		if len(plans[i]) > maxRequests {
			return nil, fmt.Errorf("--duration: %d requests fall into one cell and at most %d can be kept: make it shorter", len(plans[i]), maxRequests)
		}
		if len(plans[i]) == 0 {
			return nil, fmt.Errorf("--duration: not one request falls into %s: make it longer", c)
		}
		if o.URL != "" {
			// It may know the texts of earlier runs, and of the cell before, and
			// what it knows is no call upstream.
			for j := range plans[i] {
				plans[i][j].text += fmt.Sprintf(" Run %s, load %d.", run, i+1)
			}
		}
		seen.expect(len(plans[i]))
	}
	atOnce := o.AtOnce
	switch {
	case o.URL != "":
		atOnce = 1 // they would be one load on one gateway
	case atOnce == 0:
		atOnce = len(cells)
	}
	r.Cells = make([]Measured, len(cells))
	room := make(chan struct{}, atOnce)
	var running sync.WaitGroup
	for i, c := range cells {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		running.Go(func() {
			defer func() { <-room }()
			m, err := runCell(ctx, o, c, plans[i], seen.answered)
			if err != nil {
				cancel(fmt.Errorf("%s: %w", c, err)) // the first one tells why
			}
			r.Cells[i] = m
		})
	}
	running.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	r.LoadAfter, r.Took = load(), time.Since(r.Began).Round(time.Second)
	r.judge()
	return r, nil
}

// runCell runs one cell from its start to its end.
func runCell(ctx context.Context, o Options, c Cell, plan []arrival, answered func(sample)) (Measured, error) {
	var l *lab
	url, admin := strings.TrimSuffix(o.URL, "/"), strings.TrimSuffix(o.Admin, "/")
	if o.URL == "" {
		var err error
		l, err = newLab(ctx, o, c)
		defer l.close()
		if err != nil {
			return Measured{}, err
		}
		url = l.url
	}
	if admin == "" {
		admin = url
	}
	w := &watch{lab: l, admin: admin, key: o.Key, client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}}
	defer w.client.CloseIdleConnections()
	if err := w.ready(ctx); err != nil {
		return Measured{}, err
	}
	before := w.look(ctx)
	stop := w.sample(ctx)
	callers := newClient(url, o.Key, c.Sessions)
	defer callers.close()
	began := time.Now()
	samples, err := drive(ctx, plan, callers.send, answered)
	took := time.Since(began)
	peak := max(stop(), 0)
	if err != nil {
		return Measured{}, err
	}
	after := w.look(ctx)
	facts := between(before, after, took)
	if resident := max(peak, before.resident, after.resident); resident > 0 {
		facts.MB = figure(resident) / 1e6
	}
	if l != nil {
		calls, err := l.settled(ctx)
		if err != nil {
			return Measured{}, err
		}
		facts.Calls, facts.RateLimited = figure(calls.Chats), figure(calls.Statuses[http.StatusTooManyRequests])
		join(samples, plan, calls, l.rtt)
	} else {
		for i := range samples {
			s := &samples[i]
			s.upstream, s.known = s.inside, s.attempts == 1
		}
	}
	return measure(c, samples, facts), nil
}

// join gives each sample the time that the upstream took for it: what the
// simulator's book says under the request's id, and the network's round trip.
// What a call took beyond it, a new connection's handshakes too, is the
// gateway's. It also checks that the answer is that of the sample's own text.
func join(samples []sample, plan []arrival, calls book, rtt time.Duration) {
	took := make(map[string]time.Duration, len(calls.Records))
	for _, r := range calls.Records {
		took[r.ClientID] = r.Took + rtt
	}
	for i := range samples {
		s := &samples[i]
		if s.failed == "" && s.text != "[es] "+plan[i].text {
			s.failed = wrong
		}
		// A second attempt overlaps nothing, but the pause before it is neither
		// the upstream's nor counted: such a request tells nothing here.
		if s.failed == "" && !s.cached && s.attempts == 1 {
			s.upstream, s.known = took[s.id]
		}
	}
}

// A watch looks at a gateway from outside.
type watch struct {
	lab        *lab // nil for a gateway that runs already
	admin, key string
	client     *http.Client
}

// A look is what was seen at one time. Counters count from the gateway's start.
type look struct {
	cpu      figure // seconds
	resident int64  // bytes

	calls, limited, dials, cold figure
}

// ready waits until the gateway says that it could translate, and no longer
// than a start may take.
func (w *watch) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		var answer any
		err := get(ctx, w.client, w.admin+"/readyz", "", &answer)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the gateway is not ready: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (w *watch) look(ctx context.Context) look {
	v := look{cpu: unknown, calls: unknown, limited: unknown, dials: unknown, cold: unknown}
	m, err := scrape(ctx, w.client, w.admin, w.key)
	if err == nil {
		v.calls = m.sum("dragoman_provider_attempts_total")
		v.limited = m.sum("dragoman_provider_attempts_total", `outcome="rate_limited"`)
		v.dials, v.cold = m.sum("dragoman_pool_dials_total"), m.sum("dragoman_pool_cold_total")
	}
	if w.lab == nil {
		v.cpu = m.sum("process_cpu_seconds_total")
		if resident := m.sum("process_resident_memory_bytes"); resident.known() {
			v.resident = int64(resident)
		}
		return v
	}
	if cpu, resident, err := usage(w.lab.gateway.cmd.Process.Pid); err == nil {
		v.cpu, v.resident = figure(cpu.Seconds()), resident
	}
	return v
}

// sample looks at the memory every second until stop is called, which returns
// the most that was seen.
func (w *watch) sample(ctx context.Context) (stop func() int64) {
	if w.lab == nil {
		return func() int64 { return 0 } // a scrape is not free: first and last alone
	}
	ctx, cancel := context.WithCancel(ctx)
	var most int64
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, resident, err := usage(w.lab.gateway.cmd.Process.Pid); err == nil {
					most = max(most, resident)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return func() int64 {
		cancel()
		running.Wait()
		return most
	}
}

// between returns what happened from one look to the other, took apart.
func between(before, after look, took time.Duration) Facts {
	return Facts{
		CPU:         (after.cpu - before.cpu) / figure(took.Seconds()) * 100,
		MB:          unknown,
		Calls:       after.calls - before.calls,
		RateLimited: after.limited - before.limited,
		Dialled:     after.dials, // with those of the start: they are what pooling costs
		Cold:        after.cold - before.cold,
	}
}

// Progress is how far a run is.
type Progress struct {
	Answered, Failed, All int
}

// A tally counts answers over all cells.
type tally struct {
	tell func(Progress)
	mu   sync.Mutex
	p    Progress
}

func newTally(tell func(Progress)) *tally { return &tally{tell: tell} }

func (t *tally) expect(n int) { t.p.All += n }

func (t *tally) answered(s sample) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p.Answered++
	if s.failed != "" {
		t.p.Failed++
	}
	if t.tell != nil {
		t.tell(t.p)
	}
}

// measure makes rows of samples.
func measure(c Cell, samples []sample, f Facts) Measured {
	m := Measured{Cell: c, Facts: f, samples: samples}
	of := make([][]sample, c.Sessions)
	late := make([]time.Duration, len(samples))
	for i, s := range samples {
		of[s.session] = append(of[s.session], s)
		late[i] = s.late
	}
	m.Late = percentile(sorted(late), 99)
	for i, part := range of {
		m.Rows = append(m.Rows, row(fmt.Sprint(i+1), part))
	}
	m.Worst, m.All = worst(m.Rows), row("all", samples)
	m.Facts.Failures = map[string]int{}
	for _, s := range samples {
		if s.failed != "" {
			m.Facts.Failures[s.failed]++
		}
	}
	return m
}

// row sums samples up. Those that failed count as such, and nowhere else.
func row(name string, samples []sample) Row {
	r := Row{Name: name}
	var took, added, paced []time.Duration
	for _, s := range samples {
		if s.failed != "" {
			r.Failed++
			continue
		}
		took = append(took, s.took)
		if s.cached {
			r.Cached++
			continue
		}
		paced = append(paced, s.paced)
		if s.known {
			added = append(added, s.took-s.upstream-s.paced)
		}
	}
	slices.Sort(took)
	slices.Sort(added)
	slices.Sort(paced)
	r.N = len(took)
	r.P50, r.P95, r.P99, r.Max = percentile(took, 50), percentile(took, 95), percentile(took, 99), percentile(took, 100)
	r.AddedP50, r.AddedP99 = percentile(added, 50), percentile(added, 99)
	r.PacedP99 = percentile(paced, 99)
	return r
}

// worst is the worst of rows, figure by figure: the least requests, the most of
// everything else.
func worst(rows []Row) Row {
	w := rows[0]
	w.Name = "worst"
	for _, r := range rows[1:] {
		w.N, w.Failed, w.Cached = min(w.N, r.N), max(w.Failed, r.Failed), max(w.Cached, r.Cached)
		for _, f := range [][2]*figure{
			{&w.P50, &r.P50}, {&w.P95, &r.P95}, {&w.P99, &r.P99}, {&w.Max, &r.Max},
			{&w.AddedP50, &r.AddedP50}, {&w.AddedP99, &r.AddedP99}, {&w.PacedP99, &r.PacedP99},
		} {
			if !f[0].known() || f[1].known() && *f[1] > *f[0] {
				*f[0] = *f[1]
			}
		}
	}
	return w
}
