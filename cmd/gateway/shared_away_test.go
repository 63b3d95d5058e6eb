package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
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

// tried is ask for who may be killed meanwhile.
func (g *gatewayProcess) tried(text string) error {
	body, err := json.Marshal(map[string]string{"text": text, "source": "en", "target": "es"})
	if err != nil {
		return err
	}
	res, err := http.Post(g.url+"/v1/translate", "application/json", strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var a answer
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || len(a.Translations) != 1 || a.Translations[0].Text != "[es] "+text {
		return fmt.Errorf("status %d: %+v", res.StatusCode, a)
	}
	return nil
}

// A text that 300 clients ask three gateways for at once is upstream once; and when the gateway
// that calls for all is killed with -9, one other calls in its place, and only its own
// clients hear of it: they lose their connection.
func TestOneOtherCallsWhenTheGatewayThatDoesIsKilled(t *testing.T) {
	t.Parallel()
	r := sharedtest.Start(t)
	var mu sync.Mutex
	var callers []string // keys, by which gateways are told apart
	came := make(chan struct{}, 1000)
	sim := upstream(t, openaitest.Config{Latency: 1000 * time.Millisecond, Observe: func(r *http.Request, _ []byte) {
		mu.Lock()
		defer mu.Unlock()
		callers = append(callers, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer key"))
		came <- struct{}{}
	}})
	const clients = 100
	for round := 0; ; round++ {
		var gates []*gatewayProcess
		for i := range 3 {
			yaml := strings.Replace(sharing(sim.URL(), r.URL, 60000), "api_key: test", fmt.Sprintf("api_key: key%d", i), 1)
			gates = append(gates, serveYAML(t, yaml, nil))
		}
		for _, g := range gates {
			until(t, func() bool { return g.metric("dragoman_shared_members ") == "3" })
		}
		late := func() (n float64) { // on a busy machine the store may not answer in 10 ms, and then each calls
			for _, g := range gates {
				for _, outcome := range []string{"failed", "refused"} {
					n += g.number(fmt.Sprintf(`dragoman_shared_calls_total{for="answers",outcome=%q} `, outcome))
				}
			}
			return n
		}
		// all asks each gateway for text, and returns which caller was first, and what became of the clients.
		all := func(text string, kill bool) (calls int, failed map[int][]error) {
			mu.Lock()
			callers = nil
			mu.Unlock()
			for len(came) > 0 {
				<-came
			}
			var failing sync.Mutex
			failed = map[int][]error{}
			var asking sync.WaitGroup
			for i, g := range gates {
				for range clients {
					asking.Go(func() {
						if err := g.tried(text); err != nil {
							failing.Lock()
							defer failing.Unlock()
							failed[i] = append(failed[i], err)
						}
					})
				}
			}
			receive(t, came)
			if kill {
				mu.Lock()
				leader, err := strconv.Atoi(callers[0])
				mu.Unlock()
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(300 * time.Millisecond) // its call is under way
				gates[leader].signal(syscall.SIGKILL)
				defer delete(failed, leader)
			}
			asking.Wait()
			mu.Lock()
			defer mu.Unlock()
			return len(callers), failed
		}
		calls, failed := all(fmt.Sprint("Three hundred ask for this ", round), false)
		if len(failed) > 0 {
			t.Fatalf("failed: %v", failed)
		}
		busy := late()
		if calls == 1 && busy == 0 {
			began := time.Now()
			calls, failed = all(fmt.Sprint("And for this as well ", round), true)
			t.Logf("%d calls upstream when the gateway of the first was killed; the last client had its answer after %v", calls, time.Since(began))
			if len(failed) > 0 {
				t.Fatalf("clients of the others failed: %v", failed)
			}
			if calls == 2 {
				return
			}
			for i := range gates { // who is dead counts nothing
				if syscall.Kill(gates[i].cmd.Process.Pid, 0) != nil {
					gates = slices.Delete(gates, i, i+1)
					break
				}
			}
			busy = late()
		}
		if busy == 0 || round == 10 {
			t.Fatalf("%d calls upstream for one text, %v calls of the store failed", calls, busy)
		}
		for _, g := range gates {
			g.signal(syscall.SIGTERM)
			g.wait()
		}
	}
}

// resident is the memory of g, in MB.
func (g *gatewayProcess) resident() float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		g.t.Skip("not tested: there is no /proc")
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kb / 1024
		}
	}
	g.t.Fatal("no VmRSS")
	return 0
}

// Whatever befalls the store, no request fails for it, and it costs next to nothing: of 100
// requests that come right then 99 take 12 ms longer at the most, and once it is known to be away
// no request takes longer. What is measured is a gateway that shares against one that does not, in
// turns.
func TestAStoreThatIsAwayFailsAndDelaysNoRequest(t *testing.T) {
	soak := property.Rounds(1, 0) == 1
	r := sharedtest.Start(t)
	w := r.Wire()
	sim := upstream(t, openaitest.Config{})
	ours := serveYAML(t, sharing(sim.URL(), w.URL, 1_000_000), nil)
	alone := serveYAML(t, sharing(sim.URL(), "", 1_000_000), nil)
	until(t, func() bool { return ours.metric("dragoman_shared_members ") == "1" })
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: patience}
	defer client.CloseIdleConnections()
	var n atomic.Int64
	ask := func(g *gatewayProcess) (took float64, err error) {
		body := fmt.Sprintf(`{"text": "Bus number %d leaves.", "source": "en", "target": "es"}`, n.Add(1))
		began := time.Now()
		res, err := client.Post(g.url+"/v1/translate", "application/json", strings.NewReader(body))
		if err != nil {
			return 0, err
		}
		defer res.Body.Close()
		var a answer
		if err = json.NewDecoder(res.Body).Decode(&a); err == nil && res.StatusCode != http.StatusOK {
			err = errors.New(res.Status)
		}
		return time.Since(began).Seconds() * 1000, err
	}
	// both asks both until over, in random order, and returns what they took.
	both := func(over func(asked int) bool) (with, without []float64) {
		t.Helper()
		for i := 0; !over(i); i++ {
			for _, first := range rand.Perm(2) {
				g, all := ours, &with
				if first == 1 {
					g, all = alone, &without
				}
				took, err := ask(g)
				if err != nil {
					t.Fatalf("a request failed: %v", err)
				}
				*all = append(*all, took)
			}
		}
		slices.Sort(with)
		slices.Sort(without)
		return with, without
	}
	at := func(q float64, all []float64) float64 { return all[min(int(q*float64(len(all))), len(all)-1)] }
	many, warm, slack := 150, 200, 20.
	if soak {
		many, warm, slack = 3000, 8000, 0
	}
	both(func(i int) bool { return i == warm }) // memory grows until garbage is collected often
	with, without := both(func(i int) bool { return i == many })
	t.Logf("with the store: %.2f ms added at p50, %.2f at p99", at(0.5, with)-at(0.5, without), at(0.99, with)-at(0.99, without))
	before := ours.resident() - alone.resident()
	for _, hurt := range []struct {
		name       string
		hurt, mend func()
	}{
		{"stopped", r.Stop, r.Begin},
		{"paused", r.Pause, r.Resume},
		{"a black hole", w.Cut, w.Join},
		{"200 ms slow", func() { w.Slow(200 * time.Millisecond) }, func() { w.Slow(0) }},
	} {
		until(t, func() bool { return ours.number(`dragoman_shared_up{for="state"} `) == 1 })
		hurt.hurt()
		began := time.Now()
		with, without := both(func(i int) bool { return time.Since(began) > time.Second && i > 20 })
		first := at(0.99, with) - at(0.99, without)
		until(t, func() bool { return ours.number(`dragoman_shared_up{for="state"} `) == 0 })
		with, without = both(func(i int) bool { return i == many })
		p50, p99 := at(0.5, with)-at(0.5, without), at(0.99, with)-at(0.99, without)
		more := ours.resident() - alone.resident() - before
		t.Logf("%s: %.2f ms added at p99 in the first second; then %.2f at p50 and %.2f at p99; %.1f MB more", hurt.name, first, p50, p99, more)
		// Either may be held up by more than that, and collect its garbage another time, on a busy machine.
		if first > 12+slack || p50 > 0.2+slack/20 {
			t.Errorf("%s: %.2f ms added at p99 in the first second, then %.2f at p50", hurt.name, first, p50)
		}
		if more > 4+slack/2 {
			t.Errorf("%s: %.1f MB more", hurt.name, more)
		}
		hurt.mend()
	}
}

// When a primary dies, and its replica takes its place, nobody's request fails, and what takes
// over is used; so for Sentinels, and in a cluster.
func TestAFailoverFailsNoRequest(t *testing.T) {
	t.Parallel()
	property.WithoutRace(t)
	sentinel := func(t *testing.T) (url string, fail func()) {
		url, primary, _ := sharedtest.Sentinel(t)
		return url, primary.Stop
	}
	cluster := func(t *testing.T) (url string, fail func()) {
		url, nodes := sharedtest.Cluster(t)
		return url, func() { // the one with the members, of which each has some keys
			for _, n := range nodes {
				if strings.Contains(n.Do("INFO", "replication"), "role:master") && strings.Contains(n.Do("KEYS", "*"), "group:members") {
					n.Stop()
					return
				}
			}
			t.Error("no node has the members")
		}
	}
	for name, begin := range map[string]func(*testing.T) (string, func()){"Sentinel": sentinel, "a cluster": cluster} {
		t.Run(name, func(t *testing.T) {
			url, fail := begin(t)
			sim := upstream(t, openaitest.Config{})
			var gates []*gatewayProcess
			var streams []*stream
			for range 2 {
				gates = append(gates, serveYAML(t, sharing(sim.URL(), url, 1_000_000), nil))
			}
			for _, g := range gates {
				until(t, func() bool { return g.metric("dragoman_shared_members ") == "2" })
				streams = append(streams, g.sends(50*time.Millisecond))
			}
			fail()
			began := time.Now()
			answered := func(g *gatewayProcess) float64 {
				return g.number(`dragoman_shared_calls_total{for="state",outcome="answered"} `)
			}
			for _, g := range gates {
				until(t, func() bool { return strings.Contains(g.output(), "the shared store is away") })
			}
			for _, g := range gates {
				until(t, func() bool { return g.number(`dragoman_shared_up{for="state"} `) == 1 })
				was := answered(g)
				until(t, func() bool { return answered(g) > was+4 })
				until(t, func() bool { return g.metric("dragoman_shared_members ") == "2" })
			}
			t.Logf("both share again %v after the primary's end", time.Since(began))
			for _, s := range streams {
				s.end(t)
			}
			once := false // on a busy machine it may not answer in 10 ms
			for i := 0; i < 20 && !once; i++ {
				text := fmt.Sprint("After it ", i)
				gates[0].ask(text).text(t)
				made := sim.Stats().Chats
				time.Sleep(20 * time.Millisecond) // it is stored beside the answer
				gates[1].ask(text).text(t)
				once = sim.Stats().Chats == made
			}
			if !once {
				t.Error("no text that one translated was found by the other")
			}
		})
	}
}
