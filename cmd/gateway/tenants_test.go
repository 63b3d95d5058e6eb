package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// What one client, or one account, has trouble with is nobody else's, as whoever
// asks the gateway and the upstream see it.

// as asks with a key, which may be empty, and returns when ctx ends or the
// answer is there.
func (g *gatewayProcess) as(ctx context.Context, key string, body map[string]any) (a answer, took time.Duration, err error) {
	body["source"], body["target"] = "en", "es"
	b, err := json.Marshal(body)
	if err != nil {
		return a, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/v1/translate", bytes.NewReader(b))
	if err != nil {
		return a, 0, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	began := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, 0, err
	}
	defer res.Body.Close()
	a.Status = res.StatusCode
	err = json.NewDecoder(res.Body).Decode(&a)
	return a, time.Since(began), err
}

// said is the text of a chat request.
func said(t *testing.T, body []byte) string {
	var sent struct{ Messages []struct{ Content string } }
	if err := json.Unmarshal(body, &sent); err != nil || len(sent.Messages) == 0 {
		t.Errorf("%s: %v", body, err)
		return ""
	}
	return sent.Messages[len(sent.Messages)-1].Content
}

// A provider, or a key of it, wants to be left alone for five minutes. The file
// is edited, and the next text is answered by another at once, though texts wait
// for the first; those of the same account still find it shut.
func TestThePauseOfOneAccountEndsWithItsUse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		after func(yaml string) string
		by    string // who answers then; nobody when empty
	}{
		{"another provider", func(y string) string { return strings.Replace(y, "use: a", "use: b", 1) }, "b"},
		{"another key of the same provider", func(y string) string { return strings.Replace(y, "api_key: one", "api_key: two", 1) }, "a"},
		{"the same account in another entry", func(y string) string { return strings.Replace(y, "use: a", "use: same", 1) }, ""},
		{"nothing that matters", func(y string) string { return strings.Replace(y, "timeout: 20s", "timeout: 21s", 1) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			limited := upstream(t, openaitest.Config{RetryAfter: 5 * time.Minute, Schedule: []openaitest.Step{{Kind: openaitest.RateLimit, Count: 1}}})
			other := upstream(t, openaitest.Config{})
			yaml := strings.NewReplacer("A", limited.URL(), "B", other.URL()).Replace(`version: 1
log: {level: error}
server: {deadline: 10m, drain_timeout: 500ms}
providers:
  a: {type: openai, base_url: "A", api_key: one, timeout: 20s}
  same: {type: openai, base_url: "A", api_key: one}
  b: {type: openai, base_url: "B", api_key: one}
stages:
  - cache
  - ratelimit
  - queue
  - provider: {use: a}
`)
			g := serveAndEdit(t, yaml)
			ctx, leave := context.WithCancel(t.Context())
			var waiting sync.WaitGroup
			defer waiting.Wait()
			defer leave()
			for n := range 5 { // the first meets the 429, and all wait for the end of the pause
				waiting.Go(func() { g.as(ctx, "", map[string]any{"text": fmt.Sprintf("This one waits, %d.", n)}) })
				until(t, func() bool { return g.number(`dragoman_line_waiting{lane="final"`) == float64(n+1) })
			}
			g.reload(c.after(yaml))
			for n := range 10 {
				a, took, err := g.as(t.Context(), "", map[string]any{"text": fmt.Sprintf("After the edit, %d.", n), "deadline_ms": 4500})
				if err != nil {
					t.Fatal(err)
				}
				if c.by == "" {
					if a.Status != http.StatusTooManyRequests {
						t.Errorf("%+v", a)
					}
					continue
				}
				if a.text(t); a.Translations[0].Provider != c.by || took > 4500*time.Millisecond {
					t.Errorf("%+v after %v", a, took)
				}
			}
			want := int64(1)
			if c.by == "a" {
				want += 10
			}
			if n := limited.Stats().Chats; int64(n) != want {
				t.Errorf("the account that is paused was called %d times, want %d", n, want)
			}
		})
	}
}

// Localisation jobs of one client have their calls, many times longer than what
// the captions beside them can wait: these have slots of their own, and none of
// them is refused.
func TestSlowBulkWorkHasNoCaptionRefused(t *testing.T) {
	for name, captions := range map[string]string{"one client": "jobs", "two clients": "captions"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			sim := upstream(t, openaitest.Config{Latency: 20 * time.Millisecond, Observe: func(r *http.Request, body []byte) {
				if strings.Contains(said(t, body), "catalogue") {
					select {
					case <-time.After(1500 * time.Millisecond):
					case <-r.Context().Done():
					}
				}
			}})
			g := serveYAML(t, strings.Replace(`version: 1
log: {level: error}
server: {deadline: 60s, keys: [captions, jobs]}
pool: {max_connections: 64}
providers:
  openai: {type: openai, base_url: "BASE", api_key: test, timeout: 30s}
stages:
  - cache
  - ratelimit
  - queue: {max_concurrent: 20}
  - provider: {use: openai}
`, "BASE", sim.URL(), 1), nil)
			ctx, leave := context.WithCancel(t.Context())
			var jobs sync.WaitGroup
			defer jobs.Wait()
			defer leave()
			done := make(chan struct{}, 1000)
			for job := range 12 {
				jobs.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						g.as(ctx, "jobs", map[string]any{"text": fmt.Sprintf("Entry %d of catalogue %d.", n, job), "bulk": true})
						done <- struct{}{}
					}
				})
			}
			for range 24 { // so that it is known how long they take
				receive(t, done)
			}
			good := 0
			for n := range 100 {
				a, took, err := g.as(t.Context(), captions, map[string]any{"text": fmt.Sprintf("What was just said, %d.", n), "session": "live", "deadline_ms": 800})
				if err != nil {
					t.Fatal(err)
				}
				if a.Status == 200 && a.Translations[0].Error == nil {
					good++
				} else {
					t.Errorf("caption %d: %+v after %v", n, a, took)
				}
			}
			if good != 100 {
				t.Errorf("%d of 100 captions", good)
			}
			if n := sim.Stats().InFlight; n < 6 {
				t.Errorf("%d jobs run beside them: the test proves less than it says", n)
			}
		})
	}
}

// A client that opens a session for every request gets no more of the starts for
// that: another one is refused nothing, and hardly notices.
func TestSessionsByTheHundredTakeNothingFromAnotherClient(t *testing.T) {
	sim := upstream(t, openaitest.Config{Latency: 100 * time.Millisecond})
	g := serveYAML(t, strings.Replace(`version: 1
log: {level: error}
server: {deadline: 4500ms, keys: [many, few]}
pool: {max_connections: 64}
providers:
  openai: {type: openai, base_url: "BASE", api_key: test}
stages:
  - cache
  - ratelimit
  - queue: {max_concurrent: 6, min_interval: 0s}
  - provider: {use: openai}
`, "BASE", sim.URL(), 1), nil)
	const flood, slots = 160, 6
	each := property.Rounds(40, 25)
	// p99 returns that of one client, of so few the slowest but one, while the
	// other client asks as it likes.
	p99 := func(round string, session func(n int) string) time.Duration {
		ctx, leave := context.WithCancel(t.Context())
		var many sync.WaitGroup
		defer many.Wait()
		defer leave()
		if session != nil {
			for caller := range flood {
				many.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						a, _, err := g.as(ctx, "many", map[string]any{"text": fmt.Sprintf("%s: %d of %d.", round, n, caller), "session": session(1000*caller + n)})
						if err == nil && a.Status != 200 {
							time.Sleep(50 * time.Millisecond) // it is told to come later
						}
					}
				})
			}
			until(t, func() bool { return sim.Stats().InFlight == slots })
		}
		var all []time.Duration
		for n := range each {
			a, took, err := g.as(t.Context(), "few", map[string]any{"text": fmt.Sprintf("%s: number %d.", round, n), "session": "live"})
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != 200 || a.Translations[0].Error != nil {
				t.Errorf("%s: refused: %+v after %v", round, a, took)
			}
			all = append(all, took)
		}
		slices.Sort(all)
		return all[len(all)-2]
	}
	p99("to warm up", nil)
	away := p99("nobody else", nil)
	one := p99("one session", func(int) string { return "one" })
	hundreds := p99("hundreds", func(n int) string { return fmt.Sprint(n) })
	t.Logf("p99 %v alone, %v beside one session, %v beside %d at a time", away, one, hundreds, flood)
	// What the scheduler of a busy machine adds is no matter of turns.
	const noise = 100 * time.Millisecond
	if hundreds > 2*away+noise || hundreds > 2*one+noise {
		t.Errorf("p99 %v alone, %v beside one session, %v beside %d at a time", away, one, hundreds, flood)
	}
}

// Clients that have little time say nothing about a provider, also when the
// gateway gives it but a part of that because there is a fallback.
func TestShortDeadlinesOpenNoBreaker(t *testing.T) {
	sim := upstream(t, openaitest.Config{Latency: 300 * time.Millisecond})
	spare := upstream(t, openaitest.Config{})
	g := serveYAML(t, strings.NewReplacer("PROGRAM", filepath.Join(programs, "openai-direct"), "SPARE", spare.URL(), "BASE", sim.URL()).Replace(`version: 1
log: {level: error}
providers:
  plug: {type: plugin, command: ["PROGRAM"], config: {base_url: "BASE", api_key: test}}
  spare: {type: openai, base_url: "SPARE", api_key: test}
stages:
  - cache
  - ratelimit
  - queue
  - provider: {use: plug, fallback: [spare]}
`), nil)
	for n := range 10 {
		if _, _, err := g.as(t.Context(), "", map[string]any{"text": fmt.Sprintf("In a hurry, %d.", n), "deadline_ms": 400}); err != nil {
			t.Fatal(err)
		}
	}
	if state, opened := g.number(`dragoman_provider_breaker_state{provider="plug"`), g.number(`dragoman_provider_breaker_opened_total{provider="plug"`); state != 0 || opened != 0 {
		t.Errorf("the breaker is in state %v, and has opened %v times", state, opened)
	}
	if a := g.ask("There is time for this."); a.text(t) == "" || a.Translations[0].Provider != "plug" {
		t.Errorf("%+v", a)
	}
}

// Whoever joins, and whoever leaves: a text is upstream once.
func TestATextIsPaidForOnceWhoeverComesAndGoes(t *testing.T) {
	t.Parallel()
	const text = "What is asked for more than once."
	begin := func(t *testing.T) (*openaitest.Server, *gatewayProcess) {
		sim := upstream(t, openaitest.Config{Latency: 1500 * time.Millisecond})
		return sim, serveYAML(t, strings.Replace(`version: 1
log: {level: error}
server: {deadline: 20s}
providers:
  openai: {type: openai, base_url: "BASE", api_key: test}
stages:
  - cache
  - ratelimit
  - queue
  - provider: {use: openai}
`, "BASE", sim.URL(), 1), nil)
	}
	calls := func(t *testing.T, sim *openaitest.Server, want int) {
		st, err := sim.Settled(patiently(t))
		if err != nil || int(st.Chats) != want {
			t.Errorf("%d calls, want %d; %v", st.Chats, want, err)
		}
	}
	t.Run("bulk work, and finals that leave", func(t *testing.T) {
		sim, g := begin(t)
		var all sync.WaitGroup
		bulk := func() {
			all.Go(func() {
				if a, _, err := g.as(t.Context(), "", map[string]any{"text": text, "bulk": true}); err != nil || a.Status != 200 {
					t.Errorf("%+v, %v", a, err)
				}
			})
		}
		bulk()
		until(t, func() bool { return sim.Stats().Chats > 0 })
		for range 5 {
			ctx, leave := context.WithCancel(t.Context())
			all.Go(func() { g.as(ctx, "", map[string]any{"text": text}) })
			time.AfterFunc(20*time.Millisecond, leave)
			<-ctx.Done()
			bulk()
		}
		all.Wait()
		calls(t, sim, 1)
	})
	t.Run("a final whose text is upstream as a partial", func(t *testing.T) {
		sim, g := begin(t)
		part := map[string]any{"text": text, "session": "s", "segment": "1", "revision": 1, "final": false}
		whole := map[string]any{"text": text, "session": "s", "segment": "1", "revision": 2, "final": true}
		var partial sync.WaitGroup
		partial.Go(func() {
			if a, _, err := g.as(t.Context(), "", part); err != nil || a.Status != 200 {
				t.Errorf("%+v, %v", a, err)
			}
		})
		until(t, func() bool { return sim.Stats().Chats > 0 })
		if a, _, err := g.as(t.Context(), "", whole); err != nil || a.text(t) != "[es] "+text {
			t.Errorf("%+v, %v", a, err)
		}
		partial.Wait()
		calls(t, sim, 1)
	})
}
