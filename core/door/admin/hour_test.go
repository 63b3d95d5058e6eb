package admin_test

import (
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/admin"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
	"github.com/dragoman-mt/dragoman/core/history"
)

// simulated is a gateway with traffic that never was: waves of captions, and a provider that was away
// for some minutes.
type simulated struct {
	mu   sync.Mutex
	now  time.Time
	r    history.Reading
	hour *history.History
}

func newSimulated() *simulated {
	s := &simulated{now: time.Now().Add(-time.Hour)}
	s.r.Within = make([]uint64, len(door.Bounds())+1)
	s.hour = history.New(door.Bounds(), func() history.Reading {
		r := s.r
		r.Within = append([]uint64(nil), r.Within...)
		return r
	})
	for range int(time.Hour/history.Every) + 1 {
		s.pass()
	}
	return s
}

// pass lets the time between two readings pass.
func (s *simulated) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(history.Every)
	at := float64(s.now.Unix() % 3600)
	load := 200 + 120*math.Sin(at/380) + 30*math.Sin(at/17)
	away := at > 1500 && at < 1750
	slow := 0.33
	if away {
		slow = 0.9
		s.r.Failed += math.Round(load / 9)
	}
	s.r.Translated += math.Round(load)
	s.r.Stored += math.Round(load * 0.34)
	s.r.Refused += math.Round(2 + 2*math.Sin(at/90))
	s.r.InFlight, s.r.Waiting = math.Round(load/30), math.Round(max(0, load/40-5))
	for i, b := range door.Bounds() {
		s.r.Within[i] += uint64(load / (1 + math.Exp(-6*math.Log(b/slow))))
	}
	s.r.Within[len(door.Bounds())] += uint64(load)
	s.hour.Note(s.now)
}

func (s *simulated) handler() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(admin.Collector(func() []core.Measurer {
		return []core.Measurer{measurer(func(emit func(core.Measure)) {
			s.mu.Lock()
			defer s.mu.Unlock()
			r, made := s.r, math.Round(0.66*s.r.Translated)
			counted := func(name string, value float64, labels ...string) {
				emit(core.Measure{Name: name, Counter: true, Value: value, Labels: labels})
			}
			gauge := func(name string, value float64, labels ...string) {
				emit(core.Measure{Name: name, Value: value, Labels: labels})
			}
			counted("requests_total", r.Translated, "kind", "ok")
			counted("requests_total", r.Failed, "kind", "provider_failed")
			gauge("requests_in_flight", r.InFlight)
			within := map[float64]uint64{}
			for i, b := range door.Bounds() {
				within[b] = r.Within[i]
			}
			emit(core.Measure{Name: "request_seconds", Histogram: &core.Histogram{Count: r.Within[len(door.Bounds())], Buckets: within}})
			counted("cache_hits_total", r.Stored)
			counted("cache_misses_total", made)
			for stage, calls := range map[string]float64{"cache": r.Translated, "provider": made, "protect": made, "postprocess": made} {
				counted("stage_calls_total", calls, "stage", stage)
				counted("stage_self_seconds_total", calls*0.00004, "stage", stage)
			}
			counted("stage_answers_total", r.Stored, "stage", "cache")
			counted("stage_errors_total", r.Failed, "stage", "provider")
			gauge("queue_max_concurrent", 12, "stage", "queue")
			gauge("queue_in_flight", r.InFlight, "stage", "queue")
			gauge("ratelimit_limit", 4500, "stage", "ratelimit", "unit", "requests")
			gauge("ratelimit_left", 1873, "stage", "ratelimit", "unit", "requests")
			gauge("line_waiting", r.Waiting, "stage", "queue")
			counted("line_starts_total", made, "stage", "queue")
			counted("line_waited_seconds_total", made*0.0027, "stage", "queue")
			for origin, n := range map[string]float64{"https://api.openai.com": 10, "https://api-free.deepl.com": 2} {
				gauge("pool_connections", n-2, "origin", origin, "state", "ready")
				gauge("pool_connections", 2, "origin", origin, "state", "in_use")
				counted("pool_dials_total", 9*n, "origin", origin)
			}
			for provider, share := range map[string]float64{"openai": 0.97, "deepl": 0.03} {
				for reason, part := range map[string]float64{"first": 0.98, "retry": 0.02} {
					counted("provider_attempts_total", math.Round(made*share*part), "provider", provider, "reason", reason, "outcome", "ok")
				}
				counted("provider_attempt_seconds_total", made*share*0.345, "provider", provider)
				gauge("provider_breaker_state", 0, "provider", provider)
			}
		})}
	}))
	h := admin.New(admin.Options{
		Gatherer: reg, Log: zap.NewNop(), History: s.hour, Ready: func() error { return nil },
		Status: func() admin.Status {
			return admin.Status{
				Version: "1", Config: "/etc/dragoman/pipeline.yaml", Generation: 3, Loaded: time.Now().Add(-26 * time.Hour),
				Stages:  []string{"cache", "ratelimit", "queue", "provider", "protect", "postprocess"},
				Plugins: []admin.Plugin{{Program: "apertium", Serves: []string{"apertium"}, State: "ready", PID: 4711, MemoryBytes: 23 << 20}},
			}
		},
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/admin/page/history" {
			for range 5 {
				s.pass()
			}
		}
		h.ServeHTTP(w, r)
	})
}

// An hour of traffic in front of the page: what the browser holds, and what the gateway
// holds, is bounded. The page asks every 25 seconds of it, on a clock that is much faster.
func TestAnHourOnThePageKeepsItsMemoryBounded(t *testing.T) {
	s := newSimulated()
	server := httptest.NewServer(s.handler())
	defer server.Close()
	b := doortest.OpenBrowser(t)
	b.First(`(() => {
		const wait = setTimeout, begin = Date.now(), now = Date.now.bind(Date);
		window.setTimeout = (f, ms, ...more) => wait(f, ms / 500, ...more);
		window.polls = 0;
		const ask = fetch;
		window.fetch = (...all) => { if (String(all[0]).startsWith("/admin/page/history")) window.polls++; return ask(...all); };
		Date.now = () => begin + 25000 * window.polls;
	})()`)
	b.Go(server.URL + "/")
	until := func(polls int) (scripts, nodes int, gateway uint64) {
		for n := 10; n <= polls; n += 10 { // each has a time of its own
			b.Until(`window.polls >= ` + strconv.Itoa(n))
		}
		scripts, nodes = b.Held()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return scripts, nodes, m.HeapAlloc
	}
	first := b.Eval(`document.querySelector("#t-hour tbody").textContent`)
	scripts, nodes, gateway := until(10)
	b.LooksWell("page-hour")
	b.Picture(doortest.Look{Name: "page", Width: 1280, Height: 1010})
	b.Picture(doortest.Look{Name: "page-dark", Width: 1280, Height: 1010, Dark: true})
	laterScripts, laterNodes, laterGateway := until(160)
	if rows := b.Eval(`document.querySelectorAll("#t-hour tbody tr").length`); b.Eval(`document.querySelector("#t-hour tbody").textContent`) == first || rows != "12" && rows != "13" {
		t.Errorf("the table of the hour stands still, or has %s rows", rows)
	}
	t.Logf("scripts hold %d bytes and then %d, documents %d nodes and then %d, the gateway %d bytes and then %d", scripts, laterScripts, nodes, laterNodes, gateway, laterGateway)
	if laterScripts > scripts+1<<20 || laterScripts > 16<<20 {
		t.Errorf("after an hour scripts hold %d bytes, and %d before it", laterScripts, scripts)
	}
	if laterNodes > nodes+200 {
		t.Errorf("after an hour documents have %d nodes, and %d before it", laterNodes, nodes)
	}
	if laterGateway > gateway+2<<20 {
		t.Errorf("after an hour the gateway holds %d bytes, and %d before it", laterGateway, gateway)
	}
	for _, c := range b.Complaints {
		t.Error(c)
	}
}
