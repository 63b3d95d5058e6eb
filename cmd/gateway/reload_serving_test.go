package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

func TestTurningThePoolOffIsSeenUpstreamWithinASecondAndBack(t *testing.T) {
	s := simulate(t, "--tls")
	pooled := pipeline(s, "pooled", "")
	g := serveAndEdit(t, pooled)
	round := 0
	// counts returns the connections that 40 new texts were worth.
	counts := func() int {
		round++
		_, before := s.asked()
		for n := range 40 {
			g.ask(fmt.Sprintf("Round %d, stop %d.", round, n)).text(t)
		}
		_, after := s.asked()
		return after - before - 1 // that of the question itself
	}
	// open waits for so many connections of the gateway.
	open := func(want string, fits func(n int) bool) {
		t.Helper()
		began := time.Now()
		for {
			var stats openaitest.Stats
			get(t, s.client(), strings.TrimSuffix(s.base, "/v1")+"/sim/stats", &stats)
			if fits(int(stats.Open) - 1) { // that of the question itself
				return
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("%v after the reload %d connections are open, want %s", took, stats.Open-1, want)
				return
			}
		}
	}
	some := func(n int) bool { return n > 0 }
	none := func(n int) bool { return n <= 0 }

	open("warm ones", some)
	if n := counts(); n > 5 {
		t.Errorf("pooled: %d new connections for 40 calls", n)
	}
	for range 3 {
		g.reload(strings.Replace(pooled, "mode: pooled", "mode: direct", 1))
		open("none", none)
		if n := counts(); n != 40 {
			t.Errorf("direct: %d new connections for 40 calls", n)
		}
		g.reload(pooled)
		open("warm ones", some)
		if n := counts(); n > 10 {
			t.Errorf("pooled: %d new connections for 40 calls", n)
		}
	}
}

// listen asks g for one text as a stream.
func (g *gatewayProcess) listen(t *testing.T, text string) *reading {
	t.Helper()
	body, _ := json.Marshal(map[string]any{"text": text, "source": "en", "target": "es", "stream": true})
	res, err := http.Post(g.url+"/v1/translate", "application/json", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("%d %s", res.StatusCode, got)
	}
	return &reading{t: t, lines: bufio.NewScanner(res.Body)}
}

// A stream began with a provider that the reload takes away, and ends as if
// nothing had been; who asks after the reload is answered by the next.
func TestAStreamEndsOnTheGenerationThatItBeganOn(t *testing.T) {
	t.Parallel()
	for name, former := range map[string]string{
		"builtin": `{type: openai, base_url: "BASE", api_key: test, timeout: 30s}`,
		"plugin":  `{type: plugin, command: [` + filepath.Join(programs, "openai-direct") + `], config: {base_url: "BASE", api_key: test, timeout: 30s}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slow := upstream(t, openaitest.Config{TokensPerSecond: 30})
			quick := upstream(t, openaitest.Config{})
			yaml := `version: 1
log: {level: error}
server: {deadline: 30s, drain_timeout: 30s}
providers:
  NAME: PROVIDER
stages:
  - cache
  - queue: {min_interval: 0s}
  - provider: {use: NAME}
`
			with := func(name, provider, base string) string {
				return strings.NewReplacer("NAME", name, "PROVIDER", strings.Replace(provider, "BASE", base, 1)).Replace(yaml)
			}
			g := serveAndEdit(t, with("former", former, slow.URL()))
			r := g.listen(t, long)
			began := r.next()
			if began.name != "delta" {
				t.Fatalf("%+v", began)
			}
			g.reload(with("latter", `{type: openai, base_url: "BASE", api_key: test}`, quick.URL()))
			if a := g.ask("Who answers this?"); a.text(t) != "[es] Who answers this?" || a.Translations[0].Provider != "latter" {
				t.Errorf("after the reload: %+v", a)
			}
			if n := slow.Stats().InFlight; n != 1 {
				t.Fatalf("%d streams are under way: the test proves nothing", n)
			}
			if n := g.number("dragoman_generations_draining"); n != 1 {
				t.Errorf("%v former generations have requests in them", n)
			}
			deltas, result := r.rest()
			if text := began.Text + strings.Join(deltas, ""); text != "[es] "+long || result.Text != text {
				t.Errorf("deltas %q, result %+v", text, result)
			}
			g.sinks("dragoman_generations_draining", 0)
			g.keeps(0)
			st, err := slow.Settled(patiently(t))
			if err != nil || st.Chats != 1 || st.Aborted != 0 {
				t.Errorf("%d calls, %d given up, %v", st.Chats, st.Aborted, err)
			}
		})
	}
}

// waiting is a gateway whose upstream holds every call until it is let go, and
// tells the texts in the order in which they came.
type waiting struct {
	*reloading
	sim     *openaitest.Server
	arrived chan string
	let     chan struct{}
	clients sync.WaitGroup
	good    atomic.Int64
	failed  chan string
}

const held = `version: 1
log: {level: error}
server: {deadline: 5m, drain_timeout: 5m}
pool: {max_connections: 64}
providers:
  openai: {type: openai, base_url: "BASE", api_key: test, timeout: 5m}
stages:
  - cache
  - queue: {max_concurrent: 1, min_interval: 0s}
  - provider: {use: openai, retries: 0}
`

func hold(t *testing.T) *waiting {
	w := &waiting{arrived: make(chan string, 10_000), let: make(chan struct{}), failed: make(chan string, 10_000)}
	w.sim = upstream(t, openaitest.Config{Observe: func(r *http.Request, body []byte) {
		var sent struct{ Messages []struct{ Content string } }
		if err := json.Unmarshal(body, &sent); err != nil || len(sent.Messages) == 0 {
			t.Errorf("%s: %v", body, err)
			return
		}
		w.arrived <- sent.Messages[len(sent.Messages)-1].Content
		select {
		case <-w.let:
		case <-r.Context().Done(): // the test has failed
		}
	}})
	w.reloading = serveAndEdit(t, w.yaml("max_concurrent: 1"))
	return w
}

func (w *waiting) yaml(concurrent string) string {
	return strings.NewReplacer("BASE", w.sim.URL(), "max_concurrent: 1", concurrent).Replace(held)
}

// send asks without waiting for the answer.
func (w *waiting) send(text, session string) {
	body, _ := json.Marshal(map[string]string{"text": text, "source": "en", "target": "es", "session": session})
	w.clients.Go(func() {
		a, err := func() (a answer, err error) {
			res, err := http.Post(w.url+"/v1/translate", "application/json", strings.NewReader(string(body)))
			if err != nil {
				return a, err
			}
			defer res.Body.Close()
			a.Status = res.StatusCode
			return a, json.NewDecoder(res.Body).Decode(&a)
		}()
		if err != nil || a.Status != 200 || a.Translations[0].Text != "[es] "+text {
			w.failed <- fmt.Sprintf("%v %+v", err, a)
			return
		}
		w.good.Add(1)
	})
}

// lined waits until n requests wait.
func (w *waiting) lined(n int) {
	w.t.Helper()
	there := 0
	if !comes(func() bool { there = int(w.number(`dragoman_line_waiting{lane="final"`)); return there == n }) {
		w.t.Fatalf("%d requests wait, want %d", there, n)
	}
}

// comes returns the next n texts that reach the upstream.
func (w *waiting) comes(n int) (texts []string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.(*testing.T).Context(), 60*time.Second)
	defer cancel()
	for range n {
		select {
		case text := <-w.arrived:
			texts = append(texts, text)
		case <-ctx.Done():
			w.t.Fatalf("%d calls came, want %d", len(texts), n)
		}
	}
	return texts
}

// done lets everything go and waits for n answers.
func (w *waiting) done(n int) {
	w.t.Helper()
	close(w.let)
	w.clients.Wait()
	close(w.failed)
	if w.good.Load() != int64(n) {
		w.t.Errorf("%d good answers, want %d; the first failure: %s", w.good.Load(), n, <-w.failed)
	}
}

// 25 sessions have 20 texts each in the line, behind one call. A reload gives
// them twelve turns, while that call still runs, and all are answered in their
// order.
func TestMoreTurnsAreForThoseWhoWaitAlready(t *testing.T) {
	const sessions, each = 25, 20
	w := hold(t)
	w.send("Everybody lines up behind this one.", "")
	w.comes(1)
	for n := range each {
		for session := range sessions {
			w.send(fmt.Sprintf("%d: sentence number %d.", session, n), fmt.Sprint(session))
		}
		w.lined(sessions * (n + 1))
	}
	v := w.reload(w.yaml("max_concurrent: 12"))
	if !strings.Contains(v.Text, "max_concurrent 1 -> 12") {
		t.Errorf("%s", v.Text)
	}
	order := w.comes(11) // and the first makes twelve
	if n := w.sim.Stats().InFlight; n != 12 {
		t.Errorf("%d calls are in flight, there are 12 turns", n)
	}
	w.lined(sessions*each - 11)
	for range sessions*each - 11 {
		w.let <- struct{}{} // one ends, and the next begins
		order = append(order, w.comes(1)...)
	}
	w.done(sessions*each + 1)
	if n := w.sim.Stats().MaxInFlight; n != 12 {
		t.Errorf("at most %d calls were in flight, there are 12 turns", n)
	}
	next := make([]int, sessions)
	for _, text := range order {
		var session, n int
		if _, err := fmt.Sscanf(text, "%d: sentence number %d.", &session, &n); err != nil {
			t.Fatalf("%q", text)
		}
		if n != next[session] {
			t.Errorf("session %d: sentence %d started when %d was next", session, n, next[session])
		}
		next[session] = n + 1
	}
	w.sinks("dragoman_generations_draining", 0)
}

func TestAQueueThatIsTakenAwayServesThoseWhoWaitInIt(t *testing.T) {
	w := hold(t)
	for n := range 20 {
		w.send(fmt.Sprintf("In the line, %d.", n), "")
	}
	w.comes(1)
	w.lined(19)
	without := strings.Replace(w.yaml("max_concurrent: 1"), "  - queue: {max_concurrent: 1, min_interval: 0s}\n", "", 1)
	w.reload(without)
	for n := range 5 {
		w.send(fmt.Sprintf("No line any more, %d.", n), "")
	}
	for _, text := range w.comes(5) {
		if !strings.HasPrefix(text, "No line any more") {
			t.Errorf("%q came, and waits for a turn", text)
		}
	}
	w.reload(w.yaml("max_concurrent: 2")) // another queue of the same name
	for n := range 5 {
		w.send(fmt.Sprintf("In the second line, %d.", n), "")
	}
	for _, text := range w.comes(2) {
		if !strings.HasPrefix(text, "In the second line") {
			t.Errorf("%q came, and waits for a turn", text)
		}
	}
	w.done(30)
	w.sinks("dragoman_generations_draining", 0)
}
