package gateway

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/door/admin"
	"github.com/dragoman-mt/dragoman/core/shared/sharedtest"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// cluster is what a gateway says of its group.
func (g *gatewayProcess) cluster() (group admin.Group) {
	g.t.Helper()
	req, err := http.NewRequest(http.MethodGet, g.url+"/admin/cluster", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+operator)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&group); err != nil {
		g.t.Fatal(err)
	}
	return group
}

const operator = "ops-0123456789abcdef"

// here is what a gateway has counted itself, by key, and all what it knows of all.
func (g *gatewayProcess) here() (here, all map[string]int64) {
	here, all = map[string]int64{}, map[string]int64{}
	for _, u := range g.cluster().Usage {
		here[u.Key], all[u.Key] = u.Here, u.Characters
	}
	return here, all
}

// A flight is what a client of one gateway saw of one key since that began.
type flight struct {
	mu       sync.Mutex
	answered int64 // characters
	flying   int64 // lengths of texts that were never answered, each a bit of its own
}

// Three gateways, which are killed again and again while their store is emptied again and
// again: each goes on from what it answered, with no more than a part of what was in
// flight; all know the sum of these to the character; and no key is above its limit by
// more than what was in flight when a gateway was killed.
func TestUsageOfAGroupIsExactOverKillsAndFlushes(t *testing.T) {
	t.Parallel()
	kills, flushes, enough := property.Rounds(50, 2), property.Rounds(20, 1), int64(property.Rounds(10_000_000, 50_000))
	r := sharedtest.Start(t)
	sim := upstream(t, openaitest.Config{Latency: 2 * time.Millisecond})
	const n, workers, shortest = 3, 3, 64
	names := []string{"free", "low", "high"}
	limits := map[string]int64{"low": enough / 5, "high": enough / 4}
	var files [n]string
	var gates [n]atomic.Pointer[gatewayProcess]
	for i := range n {
		files[i] = write(t, fmt.Sprintf(`version: 1
log: {level: warn}
server:
  keys:
    - {name: free, key: free-%[1]s}
    - {name: low, key: low-%[1]s, characters_per_month: %[2]d}
    - {name: high, key: high-%[1]s, characters_per_month: %[3]d}
    - {name: ops, key: %[4]s, role: operate}
shared: {url: "%[5]s", prefix: group}
providers: {openai: {type: openai, base_url: "%[6]s", api_key: test}}
stages: [provider: {use: openai}]
`, good1, limits["low"], limits["high"], operator, r.URL, sim.URL()))
		gates[i].Store(serveFile(t, files[i], nil))
	}
	var answered, refused, held, lost atomic.Int64
	slowest := time.Duration(0) // start
	stop := make(chan struct{})
	// spend has clients ask one gateway until it is killed.
	spend := func(g *gatewayProcess, all *sync.WaitGroup, flights map[string]*flight) {
		for _, name := range names {
			f := flights[name]
			for w := range workers {
				length := shortest << w
				all.Go(func() {
					for k := 0; ; k++ {
						select {
						case <-stop:
							return
						default:
						}
						text := fmt.Sprintf("%s %d %d %d ", name, w, k, rand.Uint64())
						text = text[:min(len(text), length)] + strings.Repeat("é", max(length-len(text), 0))
						a, _, err := g.as(t.Context(), name+"-"+good1, map[string]any{"text": text})
						f.mu.Lock()
						switch {
						case err != nil:
							f.flying |= int64(length)
						case a.Status == http.StatusOK:
							f.answered += int64(length)
							answered.Add(int64(length))
						case a.Status == http.StatusTooManyRequests && a.Error.Kind == "quota_exceeded":
							refused.Add(1)
						case a.Status == http.StatusTooManyRequests && a.Error.Kind == "rate_limited":
							held.Add(1)
						default:
							t.Errorf("%+v", a)
						}
						f.mu.Unlock()
						if err != nil {
							return
						}
						if a.Status != http.StatusOK {
							time.Sleep(20 * time.Millisecond)
						}
					}
				})
			}
		}
	}
	var clients [n]sync.WaitGroup
	var flights [n]map[string]*flight
	want := [n]map[string]int64{}
	begin := func(i int) {
		flights[i] = map[string]*flight{}
		for _, name := range names {
			flights[i][name] = &flight{}
		}
		spend(gates[i].Load(), &clients[i], flights[i])
	}
	// look compares what gateway i counted with what its clients saw.
	look := func(i int) {
		here, _ := gates[i].Load().here()
		for name, f := range flights[i] {
			more := here[name] - want[i][name] - f.answered
			if more&^f.flying != 0 {
				t.Fatalf("gateway %d: %s has used %d, which is %d beyond what was answered; in flight were %b", i, name, here[name], more, f.flying)
			}
			lost.Add(f.flying)
		}
		want[i] = here
	}
	for i := range n {
		want[i] = map[string]int64{}
		begin(i)
	}
	killed, flushed := 0, 0
	for began := time.Now(); killed < kills || flushed < flushes || answered.Load() < enough; {
		if time.Since(began) > 15*time.Minute {
			t.Fatalf("%d characters after %v", answered.Load(), time.Since(began))
		}
		time.Sleep(time.Duration(100+rand.IntN(900)) * time.Millisecond)
		if flushed < flushes && rand.IntN(3) == 0 {
			r.Do("FLUSHALL")
			flushed++
		}
		if killed < kills {
			i := rand.IntN(n)
			g := gates[i].Load()
			g.signal(syscall.SIGKILL)
			g.wait()
			clients[i].Wait()
			starts := time.Now()
			gates[i].Store(serveFile(t, files[i], nil))
			slowest = max(slowest, time.Since(starts))
			look(i)
			begin(i)
			killed++
		}
	}
	close(stop)
	for i := range n {
		clients[i].Wait()
		look(i)
	}
	sums := map[string]int64{}
	for i := range n {
		for name, used := range want[i] {
			sums[name] += used
		}
	}
	for i := range n {
		until(t, func() bool {
			_, all := gates[i].Load().here()
			return all["free"] == sums["free"] && all["low"] == sums["low"] && all["high"] == sums["high"]
		})
		if got := gates[i].Load().used("low-" + good1); got != sums["low"] {
			t.Errorf("gateway %d says %d at its DeepL door, want %d", i, got, sums["low"])
		}
	}
	t.Logf("%d kills, %d flushes: %d characters answered, %v counted, of %v; %d calls over the limit, %d held; up to %d characters in flight at kills, the slowest start took %v", killed, flushed, answered.Load(), sums, limits, refused.Load(), held.Load(), lost.Load(), slowest)
	for name, most := range limits {
		if over := sums[name] - most; over > n*(shortest<<workers-shortest) {
			t.Errorf("%s has used %d of %d, which is %d above, and at most %d were in flight", name, sums[name], most, over, n*(shortest<<workers-shortest))
		}
	}
	out, complaint, status := command(t, t.TempDir(), []string{"DRAGOMAN_KEY=" + operator}, "", "status", "--url", gates[0].Load().url, "--all")
	if status != 0 || !strings.Contains(out, "KEY this month") {
		t.Errorf("status --all exits with %d: %s%s", status, out, complaint)
	}
	out, complaint, status = command(t, t.TempDir(), []string{"DRAGOMAN_KEY=" + operator}, "", "usage", "--url", gates[0].Load().url)
	if status != 0 || !strings.Contains(out, "with 2 other gateways") {
		t.Errorf("usage exits with %d: %s%s", status, out, complaint)
	}
	r.Stop()
	until(t, func() bool {
		out, _, _ := command(t, t.TempDir(), []string{"DRAGOMAN_KEY=" + operator}, "", "usage", "--url", gates[0].Load().url)
		return strings.Contains(out, "OF THIS GATEWAY ALONE")
	})
}
