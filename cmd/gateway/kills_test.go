package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// upstream is a simulator within the test, whose books it reads.
func upstream(t *testing.T, cfg openaitest.Config) *openaitest.Server {
	t.Helper()
	s, err := openaitest.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Traffic is requests that come at a steady rate, whether others are answered or not.
type stream struct {
	stop, ended chan struct{}
	asked       atomic.Int64
	failed      atomic.Int64
	mu          sync.Mutex
	by          map[string]int // answers, by provider
	firstFailed string
}

// sends starts asking g for texts of their own, until stopped.
func (g *gatewayProcess) sends(every time.Duration) *stream {
	tr := &stream{stop: make(chan struct{}), ended: make(chan struct{}), by: map[string]int{}}
	go func() {
		defer close(tr.ended)
		var open sync.WaitGroup
		defer open.Wait()
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-tr.stop:
				return
			}
			n := tr.asked.Add(1)
			open.Go(func() { tr.ask(g.url, n) })
		}
	}()
	return tr
}

func (tr *stream) ask(url string, n int64) {
	body := fmt.Sprintf(`{"text": "Bus number %d leaves now.", "source": "en", "target": "es"}`, n)
	a, err := func() (a answer, err error) {
		res, err := http.Post(url+"/v1/translate", "application/json", strings.NewReader(body))
		if err != nil {
			return a, err
		}
		defer res.Body.Close()
		a.Status = res.StatusCode
		return a, json.NewDecoder(res.Body).Decode(&a)
	}()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if err != nil || a.Status != 200 || a.Translations[0].Text != fmt.Sprintf("[es] Bus number %d leaves now.", n) {
		if tr.failed.Add(1) == 1 {
			tr.firstFailed = fmt.Sprintf("%v %+v", err, a)
		}
		return
	}
	tr.by[a.Translations[0].Provider]++
}

// answered waits for n more answers of provider.
func (tr *stream) answered(t *testing.T, provider string, n int) {
	t.Helper()
	before := tr.count(provider)
	for deadline := time.Now().Add(60 * time.Second); tr.count(provider) < before+n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d answers by %s", tr.count(provider)-before, n, provider)
		}
	}
}

// count is how many answers provider gave so far.
func (tr *stream) count(provider string) int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.by[provider]
}

// end stops asking and says what has failed.
func (tr *stream) end(t *testing.T) {
	t.Helper()
	close(tr.stop)
	receive(t, tr.ended)
	if n := tr.failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed, the first with %s", n, tr.asked.Load(), tr.firstFailed)
	}
}

// TestKillsOfAPluginFailNothing kills the plugin in use again and again under 200
// requests a second, each time once it has proven itself.
func TestKillsOfAPluginFailNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("not tested: it takes many seconds")
	}
	t.Parallel()
	primary := upstream(t, openaitest.Config{Latency: 40 * time.Millisecond})
	spare := upstream(t, openaitest.Config{})
	g := serveYAML(t, fmt.Sprintf(`version: 1
log: {level: error}
providers:
  main: {type: openai, base_url: "%s", api_key: test}
  spare: {type: openai, base_url: "%s", api_key: test}
  direct: {type: plugin, command: [%s], config_from: main}
stages:
  - queue: {min_interval: 0s, max_concurrent: 64}
  - provider: {use: direct, fallback: [spare], breaker: {open_for: 100ms}}
`, primary.URL(), spare.URL(), filepath.Join(programs, "openai-direct")), nil)
	tr := g.sends(5 * time.Millisecond)
	// lost is how many calls have died with their process so far, by the
	// gateway's book.
	lost := func() int {
		n, err := strconv.Atoi(g.metric(`dragoman_plugin_failed_calls_total{provider="direct"}`))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	var kills []time.Time
	var died []int // with each process
	pid, before := 0, 0
	for range property.Rounds(20, 2) {
		pid = g.plugin(pid)
		tr.answered(t, "direct", 250) // more than a second's
		if n := lost(); len(kills) > 0 {
			died, before = append(died, n-before), n
		}
		kills = append(kills, time.Now())
		syscall.Kill(pid, syscall.SIGKILL)
	}
	g.plugin(pid)
	tr.answered(t, "direct", 50)
	tr.end(t)
	died = append(died, lost()-before)

	first, err := primary.Settled(patiently(t))
	if err != nil {
		t.Fatal(err)
	}
	second, err := spare.Settled(patiently(t))
	if err != nil {
		t.Fatal(err)
	}
	// An attempt is one too many when its request was asked upstream before. The
	// attempts of a request have its id, and a number behind that.
	type call struct {
		openaitest.Record
		spare bool
	}
	var calls []call
	for _, r := range first.Records {
		calls = append(calls, call{r, false})
	}
	for _, r := range second.Records {
		calls = append(calls, call{r, true})
	}
	slices.SortFunc(calls, func(a, b call) int { return a.Start.Compare(b.Start) })
	asked := map[string]bool{}
	began := make([]time.Time, len(kills)) // the fallback's first attempt after each
	extra := make([]int, len(kills))
	for _, c := range calls {
		request, _, _ := strings.Cut(c.ClientID, "-")
		again := asked[request]
		asked[request] = true
		i, _ := slices.BinarySearchFunc(kills, c.Start, time.Time.Compare)
		switch i--; { // the last kill before it
		case i < 0 && again:
			t.Errorf("request %s was asked twice before anything was killed", request)
		case i < 0:
			continue
		case again:
			extra[i]++
		}
		if c.spare && began[i].IsZero() {
			began[i] = c.Start
		}
	}
	var waits []time.Duration
	all := 0
	for i, kill := range kills {
		if began[i].IsZero() {
			t.Errorf("kill %d: the fallback was not asked before the next", i+1)
			continue
		}
		wait := began[i].Sub(kill)
		waits = append(waits, wait)
		t.Logf("kill %2d: the fallback was asked after %v; %d calls died, %d were made again", i+1, wait, died[i], extra[i])
		if extra[i] > died[i] {
			t.Errorf("kill %d: %d calls died with the process, and %d were made again", i+1, died[i], extra[i])
		}
		all += died[i]
	}
	slices.Sort(waits)
	t.Logf("%d requests, %d answered by the fallback, which was asked %v (median) and %v (longest) after a kill; %d calls died",
		tr.asked.Load(), second.Chats, waits[len(waits)/2], waits[len(waits)-1], all)
	if all == 0 || len(asked) != int(tr.asked.Load()) {
		t.Errorf("%d calls died, and %d of %d requests came upstream", all, len(asked), tr.asked.Load())
	}
	if n, _ := strconv.Atoi(g.metric(`dragoman_plugin_restarts_total{provider="direct"}`)); n != len(kills) {
		t.Errorf("%d restarts after %d kills", n, len(kills))
	}
}

// TestWithoutAFallbackRequestsWaitForThePluginAndThenFail takes the plugin's
// program away and brings it back.
func TestWithoutAFallbackRequestsWaitForThePluginAndThenFail(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := simulate(t)
	program := filepath.Join(t.TempDir(), "plugin")
	if err := os.Link(filepath.Join(programs, "openai-direct"), program); err != nil {
		t.Fatal(err)
	}
	yaml := strings.Replace(direct(s, "{use: direct, breaker: {failures: 0}}"), filepath.Join(programs, "openai-direct"), program, 1)
	g := serveYAML(t, strings.Replace(yaml, "version: 1", "version: 1\nserver: {deadline: 3s}", 1), nil)
	pid := g.plugin()
	syscall.Kill(pid, syscall.SIGKILL)
	if a := g.ask("Somebody is on the way."); a.text(t) != "[es] Somebody is on the way." {
		t.Errorf("%+v", a)
	}
	pid = g.plugin(pid)
	away := program + ".away"
	if err := os.Rename(program, away); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	for i := range 3 {
		if a := g.ask(fmt.Sprintf("Nobody is there, %d.", i)); a.Status != 503 || a.Error == nil || a.Error.Kind != "unavailable" {
			t.Errorf("while it cannot start: %d %+v", a.Status, a.Error)
		}
	}
	// ready is the status of /readyz, and what it says.
	ready := func() (int, string) {
		t.Helper()
		res, err := http.Get(g.url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		said, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(said)
	}
	if status, said := ready(); status != 503 || strings.Contains(said, "direct") {
		t.Errorf("/readyz without the plugin: %d %s", status, said)
	}
	if err := os.Rename(away, program); err != nil {
		t.Fatal(err)
	}
	g.plugin(pid)
	// A probe that went wrong meanwhile is made again a while later.
	status, said := 0, ""
	if !comes(func() bool { status, said = ready(); return status == 200 }) {
		t.Fatalf("/readyz with the plugin again: %d %s", status, said)
	}
	if a := g.ask("It is back."); a.text(t) != "[es] It is back." {
		t.Errorf("%+v", a)
	}
}
