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
			emit(core.Measure{Name: "requests_total", Counter: true, Value: s.r.Translated, Labels: []string{"kind", "ok"}})
			for i, stage := range []string{"cache", "provider", "postprocess"} {
				emit(core.Measure{Name: "stage_calls_total", Counter: true, Value: s.r.Translated * float64(3-i), Labels: []string{"stage", stage}})
			}
			emit(core.Measure{Name: "line_waiting", Value: s.r.Waiting, Labels: []string{"stage", "queue"}})
		})}
	}))
	h := admin.New(admin.Options{
		Gatherer: reg, Log: zap.NewNop(), History: s.hour, Ready: func() error { return nil },
		Status: func() admin.Status {
			return admin.Status{Version: "1", Config: "pipeline.yaml", Generation: 1, Loaded: time.Now(), Stages: []string{"cache", "queue", "provider", "postprocess"}}
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
		b.Until(`window.polls >= ` + strconv.Itoa(polls))
		scripts, nodes = b.Held()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return scripts, nodes, m.HeapAlloc
	}
	scripts, nodes, gateway := until(10)
	b.LooksWell("page-hour")
	laterScripts, laterNodes, laterGateway := until(160)
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
