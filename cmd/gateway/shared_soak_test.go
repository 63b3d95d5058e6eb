package gateway

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/shared/sharedtest"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// A groupMember is a gateway of a group in a test, with a wire of its own to the store.
type groupMember struct {
	file  string
	wire  *sharedtest.Wire
	now   atomic.Pointer[gatewayProcess]
	lives atomic.Int64 // odd while it is being killed: whom it answers then is not known

	// Of its former lives:
	asked map[string]float64
	lived time.Duration
	began time.Time
}

// costs are how many calls of the store g has made, for state and for answers.
func costs(g *gatewayProcess) map[string]float64 {
	all := map[string]float64{}
	for _, of := range []string{"state", "answers"} {
		for _, outcome := range []string{"answered", "failed"} {
			n, _ := strconv.ParseFloat(g.metric(fmt.Sprintf(`dragoman_shared_calls_total{for=%q,outcome=%q} `, of, outcome)), 64)
			all[of] += n
		}
	}
	return all
}

// begin starts it, or kills it first.
func (m *groupMember) begin(t *testing.T) {
	if g := m.now.Load(); g != nil {
		m.lives.Add(1)
		m.count()
		g.signal(syscall.SIGKILL)
		g.wait()
		defer m.lives.Add(1)
	}
	m.now.Store(serveFile(t, m.file, nil))
	m.began = time.Now()
}

// count adds up what its life has cost so far.
func (m *groupMember) count() {
	for of, n := range costs(m.now.Load()) {
		m.asked[of] += n
	}
	m.lived += time.Since(m.began)
}

// inCommands are those that the scripts themselves run.
var inCommands = []string{"time", "hset", "hget", "hgetall", "hdel", "pexpire", "publish", "get", "set", "del", "type", "pttl"}

// commandsOf are the commands that r has been sent since it began, by name.
func commandsOf(r *sharedtest.Redis) map[string]float64 {
	all := map[string]float64{}
	for line := range strings.Lines(r.Do("INFO", "commandstats")) {
		name, rest, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "cmdstat_"), ":calls=")
		count, _, _ := strings.Cut(rest, ",")
		if n, err := strconv.ParseFloat(count, 64); err == nil && !slices.Contains(inCommands, name) {
			all[name] += n
		}
	}
	return all
}

// Whatever becomes of gateways, of the store and of the network in between: in no 60 s do four
// gateways start more calls together than their account allows (one that alone is cut off may
// add its share to that), hardly anything of it is left unused, no request fails or
// waits for the store for longer than it may, and the leases cost at most four calls of it a second and
// gateway.
func TestFourGatewaysKeepToOneLimit(t *testing.T) {
	lasts := time.Duration(property.Rounds(600, 0)) * time.Second
	if lasts == 0 {
		t.Skip("it takes ten minutes: `make soak` runs it; in `make test` a property of the stage ratelimit looks at the same")
	}
	const limit, n = 600, 4
	r := sharedtest.Start(t)
	var mu sync.Mutex
	var starts []time.Time
	sim := upstream(t, openaitest.Config{Latency: 100 * time.Millisecond, Observe: func(*http.Request, []byte) {
		mu.Lock()
		defer mu.Unlock()
		starts = append(starts, time.Now())
	}})
	gates := make([]*groupMember, n)
	for i := range gates {
		w := r.Wire()
		gates[i] = &groupMember{wire: w, file: write(t, sharing(sim.URL(), w.URL, limit)), asked: map[string]float64{}}
		gates[i].begin(t)
	}

	var failed, answered atomic.Int64
	var waits []float64 // in the cache, where a miss asks the store, in ms
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i, m := range gates {
		for c := range 6 {
			clients.Go(func() {
				for k := 0; ; k++ {
					select {
					case <-stop:
						return
					default:
					}
					life := m.lives.Load()
					body, _ := json.Marshal(map[string]string{"text": fmt.Sprintf("Text %d of client %d of gateway %d.", k, c, i), "source": "en", "target": "es"})
					var a struct {
						Timing struct{ Stages map[string]float64 }
					}
					res, err := http.Post(m.now.Load().url+"/v1/translate", "application/json", strings.NewReader(string(body)))
					if err == nil {
						err = json.NewDecoder(res.Body).Decode(&a)
						res.Body.Close()
					}
					switch {
					case err == nil && res.StatusCode == 200:
						answered.Add(1)
						mu.Lock()
						waits = append(waits, a.Timing.Stages["cache"])
						mu.Unlock()
					case m.lives.Load() == life && life%2 == 0:
						failed.Add(1)
						t.Errorf("gateway %d: %v, %v", i, res, err)
					default:
						time.Sleep(50 * time.Millisecond)
					}
				}
			})
		}
	}

	type span struct{ from, to time.Time }
	var cuts []span // when one was cut off, and what it spent then may be in a minute
	began := time.Now()
	server := map[string]float64{} // what the store says that it was sent
	note := func() {
		for name, n := range commandsOf(r) {
			server[name] += n
		}
	}
	what := map[string]int{}
	for turn := 0; time.Since(began) < lasts; turn++ {
		time.Sleep(time.Duration(5+rand.IntN(8)) * time.Second)
		i, while := rand.IntN(n), time.Duration(2+rand.IntN(12))*time.Second
		kind := []string{"kill", "stall", "cut one", "flush", "restart", "cut all", "kill while it is away"}[turn%7]
		what[kind]++
		t.Logf("%v: %s %d, %v", time.Since(began).Round(time.Second), kind, i, while)
		switch kind {
		case "kill":
			gates[i].begin(t)
		case "stall":
			r.Pause()
			time.Sleep(while)
			r.Resume()
		case "flush":
			r.Do("FLUSHALL")
		case "restart":
			note()
			r.Stop()
			time.Sleep(while)
			r.Begin()
		case "cut one":
			from := time.Now()
			gates[i].wire.Cut()
			time.Sleep(while)
			gates[i].wire.Join()
			cuts = append(cuts, span{from, time.Now().Add(time.Minute)})
		case "cut all":
			for _, m := range gates {
				m.wire.Cut()
			}
			time.Sleep(while)
			for _, m := range gates {
				m.wire.Join()
			}
		case "kill while it is away":
			r.Pause()
			time.Sleep(while / 2)
			gates[i].begin(t)
			time.Sleep(while / 2)
			r.Resume()
		}
	}
	ran := time.Since(began)
	close(stop)
	clients.Wait()
	note()
	total, lived := map[string]float64{}, 0.
	for _, m := range gates {
		m.count()
		lived += m.lived.Seconds()
		for of, n := range m.asked {
			total[of] += n
		}
	}
	mu.Lock()
	defer mu.Unlock()
	slices.SortFunc(starts, time.Time.Compare)
	most, mostCut, from := 0, 0, 0
	for i, at := range starts {
		for at.Sub(starts[from]) > time.Minute {
			from++
		}
		cut := slices.ContainsFunc(cuts, func(c span) bool { return at.After(c.from) && starts[from].Before(c.to) })
		if cut {
			mostCut = max(mostCut, i-from+1)
		} else {
			most = max(most, i-from+1)
		}
	}
	slices.Sort(waits)
	used := float64(len(starts)) / ran.Minutes() / limit
	t.Logf("%v with %v: at most %d starts in 60 s, %d where one was cut off; %.1f %% of the limit used; %d answers, %d failed", ran.Round(time.Second), what, most, mostCut, 100*used, answered.Load(), failed.Load())
	t.Logf("calls of the store a second and gateway: %.2f for state, %.2f for answers of %.2f misses", total["state"]/lived, total["answers"]/lived, float64(len(starts))/ran.Seconds()/n)
	var names []string
	for _, name := range slices.SortedFunc(maps.Keys(server), func(a, b string) int { return int(server[b] - server[a]) }) {
		names = append(names, fmt.Sprintf("%s %.2f", name, server[name]/lived))
	}
	t.Logf("as the store counts them: %s", strings.Join(names, ", "))
	at := func(q float64) float64 { return waits[min(int(q*float64(len(waits))), len(waits)-1)] }
	t.Logf("a request was in the cache for %.2f ms at p50, %.2f at p99, %.2f at the most", at(0.5), at(0.99), at(1))
	if most > limit || mostCut > limit+limit/n {
		t.Errorf("at most %d starts in 60 s, %d where one was cut off; the limit is %d", most, mostCut, limit)
	}
	if used < 0.97 {
		t.Errorf("%.1f %% of the limit used", 100*used)
	}
	if calls := total["state"] / lived; calls > 4 {
		t.Errorf("%.2f calls of the store for leases a second and gateway", calls)
	}
}
