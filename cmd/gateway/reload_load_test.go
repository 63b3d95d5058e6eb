package gateway

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

// A phase is how long requests took between two moments.
type phase struct {
	name  string
	took  []time.Duration
	worst time.Duration
}

func (p phase) String() string {
	slices.Sort(p.took)
	at := func(q float64) time.Duration {
		return p.took[min(int(q*float64(len(p.took))), len(p.took)-1)].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("%s: %d requests, p50 %v, p99 %v, slowest %v", p.name, len(p.took), at(.5), at(.99), at(1))
}

// A mix is traffic at a steady rate of which most texts were answered before and
// the others are new each time.
type mix struct {
	url    string
	client *http.Client
	stop   chan struct{}
	ended  chan struct{}

	sent  atomic.Int64
	fresh atomic.Int64

	mu     sync.Mutex
	phases []phase
	failed []string
	waits  chan struct{} // told of every answer
}

const (
	known = 30 // texts that repeat
	every = 4  // requests of which one is new
)

func knownText(n int64) string { return fmt.Sprintf("Platform %d is closed today.", n%known) }

func newMix(g *gatewayProcess) *mix {
	return &mix{url: g.url, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}},
		stop: make(chan struct{}), ended: make(chan struct{}), waits: make(chan struct{}, 1)}
}

func (m *mix) begin(rate time.Duration, first string) {
	m.phases = []phase{{name: first}}
	go func() {
		defer close(m.ended)
		var open sync.WaitGroup
		defer open.Wait()
		tick := time.NewTicker(rate)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-m.stop:
				return
			}
			n := m.sent.Add(1)
			text := knownText(n)
			if n%every == 0 {
				text = fmt.Sprintf("Bus number %d leaves now.", m.fresh.Add(1))
			}
			open.Go(func() { m.ask(text) })
		}
	}()
}

func (m *mix) ask(text string) {
	m.mu.Lock()
	at := len(m.phases) - 1
	m.mu.Unlock()
	began := time.Now()
	a, err := translate(m.client, m.url, text)
	took := time.Since(began)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil || a.Status != 200 || len(a.Translations) != 1 || a.Translations[0].Text != "[es] "+text {
		m.failed = append(m.failed, fmt.Sprintf("%v %+v", err, a))
	}
	m.phases[at].took = append(m.phases[at].took, took)
	select {
	case m.waits <- struct{}{}:
	default:
	}
}

func translate(client *http.Client, url, text string) (a answer, err error) {
	body, _ := json.Marshal(map[string]string{"text": text, "source": "en", "target": "es"})
	res, err := client.Post(url+"/v1/translate", "application/json", strings.NewReader(string(body)))
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	a.Status = res.StatusCode
	return a, json.NewDecoder(res.Body).Decode(&a)
}

// phase begins another one when the present one has had n answers.
func (m *mix) phase(t *testing.T, name string, n int) {
	t.Helper()
	for {
		m.mu.Lock()
		if len(m.phases[len(m.phases)-1].took) >= n {
			m.phases = append(m.phases, phase{name: name})
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		receive(t, m.waits)
	}
}

func (m *mix) end(t *testing.T) {
	t.Helper()
	close(m.stop)
	receive(t, m.ended)
	m.client.CloseIdleConnections()
	if len(m.failed) > 0 {
		t.Errorf("%d of %d requests failed, the first with %s", len(m.failed), m.sent.Load(), m.failed[0])
	}
}

// A choice is what the reloads of a test turn back and forth.
type choice struct {
	concurrent int    // of the queue
	mode       string // of the pool
	provider   string
	stage      string // one more
	limited    bool   // the stage ratelimit is enabled
}

func (c choice) yaml(s *simulator) string {
	return fmt.Sprintf(`version: 1
log: {level: error}
pool: {mode: %s, max_connections: 16}
providers:
  openai: {type: openai, base_url: "%s", api_key: test}
  direct: {type: plugin, command: [%s], config_from: openai}
stages:
  - cache
  - ratelimit: {requests_per_minute: 600000}
    enabled: %v
  - queue: {max_concurrent: %d, min_interval: 0s}
  - provider: {use: %s, retries: 0}
  - postprocess
%s
`, c.mode, s.base, filepath.Join(programs, "openai-direct"), c.limited, c.concurrent, c.provider, c.stage)
}

var (
	providersOf = []string{"openai", "direct"}
	stagesOf    = []string{"", "  - postprocess: {skip: [echo]}\n    name: again"}
)

// another is a choice in which at least one thing is another than in c.
func (c choice) another(random *rand.Rand) choice {
	for {
		next := choice{
			concurrent: []int{6, 12}[random.IntN(2)], mode: []string{"pooled", "direct"}[random.IntN(2)],
			provider: providersOf[random.IntN(2)], stage: stagesOf[random.IntN(2)], limited: random.IntN(2) == 0,
		}
		if next != c {
			return next
		}
	}
}

// TestAHundredReloadsUnderLoadFailNothing changes, under 200 requests a second,
// what operators change, and counts to the last call what reached the upstream.
func TestAHundredReloadsUnderLoadFailNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("not tested: it takes a quarter of a minute")
	}
	s := simulate(t, "--latency", "20ms")
	first := choice{concurrent: 6, mode: "pooled", provider: "openai", limited: true}
	g := serveAndEdit(t, first.yaml(s))
	// Everything below the cache that changes answers has its own: each gets to
	// know the texts that repeat.
	warm := 0
	for _, provider := range providersOf {
		for _, stage := range stagesOf {
			c := first
			c.provider, c.stage = provider, stage
			if c != first {
				g.reload(c.yaml(s))
			}
			for n := range int64(known) {
				g.ask(knownText(n)).text(t)
			}
			warm += known
		}
	}
	g.reload(first.yaml(s))
	g.sinks("dragoman_generations_draining", 0)
	if n, _ := s.asked(); n != warm {
		t.Fatalf("%d calls for %d texts", n, warm)
	}
	hits := g.number("dragoman_cache_hits_total")
	goroutines, descriptors := g.number("go_goroutines"), g.number("process_open_fds")
	g.keeps(0)

	m := newMix(g.gatewayProcess)
	m.begin(5*time.Millisecond, "before")
	m.phase(t, "during", 400)
	reloads := property.Rounds(100, 20)
	began := time.Now()
	random := rand.New(rand.NewPCG(1, 2))
	c, outcomes := first, map[string]int{}
	var slowest time.Duration
	for i := range reloads {
		if c = c.another(random); i == reloads-1 {
			c = first
		}
		g.edit(c.yaml(s) + fmt.Sprintf("# %d\n", i))
		since := time.Now()
		v := g.try("")
		slowest = max(slowest, time.Since(since))
		outcomes[v.Outcome]++
		if v.Status != http.StatusOK {
			t.Errorf("%s", v.Text)
		}
	}
	all := time.Since(began)
	m.phase(t, "after", 1)
	m.phase(t, "", 400)
	m.end(t)

	calls, _ := s.asked()
	calls -= warm
	misses := int(g.number("dragoman_cache_misses_total")) - warm
	fresh, sent := int(m.fresh.Load()), int(m.sent.Load())
	t.Logf("%d reloads in %v, the slowest took %v: %v\n%v\n%v\n%v", reloads, all.Round(time.Millisecond), slowest.Round(time.Millisecond), outcomes, m.phases[0], m.phases[1], m.phases[2])
	if calls != fresh || misses != fresh {
		t.Errorf("%d calls and %d misses for %d new texts", calls, misses, fresh)
	}
	if n := int(g.number("dragoman_cache_hits_total") - hits); n != sent-fresh {
		t.Errorf("%d hits, %d texts were known", n, sent-fresh)
	}
	if int(g.number("dragoman_generation")) < reloads {
		t.Errorf("generation %v after %d reloads", g.number("dragoman_generation"), reloads)
	}
	// Nothing of the former generations is left.
	g.sinks("dragoman_generations_draining", 0)
	g.sinks("go_goroutines", goroutines+10)
	g.sinks("process_open_fds", descriptors+10)
	g.keeps(0)
}
