package gateway

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/state"
)

// What one gateway has spent of a day, the next one knows, whether it was stopped or
// killed; a memory that is broken is told and counts anew.
func TestCallsOfADayAreCountedOverARestart(t *testing.T) {
	up := newBackend(t, completes("una frase"))
	yaml := fmt.Sprintf(`version: 1
log: {level: error}
providers:
  main: {type: openai, api_key: sk-secret-of-the-day, base_url: "%s/v1", limits: {requests_per_day: 5}}
stages:
  - provider: {use: main}
`, up.URL)
	dir := filepath.Join(t.TempDir(), "state")
	folder, err := state.Of("/x/pipeline.yaml", func(name string) (string, bool) { return dir, name == "STATE_DIRECTORY" })
	if err != nil {
		t.Fatal(err)
	}
	good := 0
	for round, want := range []int{3, 5, 5} {
		g := runs(t, yaml)
		m := &memory{folder: folder, engine: g.engine, log: g.log}
		end := m.begin()
		for n := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // there is no room for a day
			if _, err := g.engine.Translate(ctx, &core.Request{Text: fmt.Sprintf("Sentence %d of round %d.", n, round), Source: "en", Target: "es"}); err == nil {
				good++
			}
			cancel()
		}
		if round == 0 {
			m.remember() // as it does every few seconds; then it is killed
			t.Cleanup(end)
		} else {
			end()
		}
		if good != want {
			t.Errorf("round %d: %d calls of 5 a day, want %d", round, good, want)
		}
		if kept, err := folder.Recall(); err != nil || strings.Contains(string(kept), "secret") || len(kept) == 0 {
			t.Errorf("kept %s, %v", kept, err)
		}
		if round == 0 {
			g.close(time.Second)
		}
	}
	if err := folder.Remember([]byte("[broken")); err != nil {
		t.Fatal(err)
	}
	g := runs(t, yaml)
	if err := (&memory{folder: folder, engine: g.engine, log: g.log}).recall(); err == nil || !strings.Contains(err.Error(), folder.Path()) {
		t.Errorf("a broken memory: %v", err)
	}
}

// Of an answer in one piece the first byte counts, of a stream the first token: a provider
// from which nothing comes in time is left, and one that is slow behind that is not.
func TestTheNextProviderIsAskedWhenNothingIsHeardOverHTTP(t *testing.T) {
	var hangs, slow atomic.Bool
	first := newBackend(t, func(w http.ResponseWriter, r *http.Request, body string) {
		w.Header().Set("Content-Type", "application/json")
		if hangs.Load() {
			if strings.Contains(body, `"stream":true`) {
				// Headers and comments are no token.
				w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprint(w, ": PROCESSING\n\n")
				w.(http.Flusher).Flush()
			}
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Second):
			}
			return
		}
		if slow.Load() {
			fmt.Fprint(w, " ")
			w.(http.Flusher).Flush()
			time.Sleep(700 * time.Millisecond)
		}
		completes("la primera")(w, r, body)
	})
	next := newBackend(t, completes("la segunda"))
	g := runs(t, fmt.Sprintf(`version: 1
log: {level: error}
server: {deadline: 20s}
providers:
  one: {type: openai, base_url: "%s/v1", timeout: 15s}
  two: {type: openai, base_url: "%s/v1"}
stages:
  - provider: {use: one, fallback: [two], first: 300ms}
`, first.URL, next.URL))
	for _, c := range []struct {
		name         string
		hangs, slow  bool
		streamed     bool
		want, called string
	}{
		{"it answers", false, false, false, "la primera", "one"},
		{"it hangs", true, false, false, "la segunda", "two"},
		{"it begins, and is slow", false, true, false, "la primera", "one"},
		{"it streams", false, false, true, "la primera", "one"},
		{"its stream has no token", true, false, true, "la segunda", "two"},
	} {
		hangs.Store(c.hangs)
		slow.Store(c.slow)
		req := &core.Request{Text: "A sentence: " + c.name, Source: "en", Target: "es"}
		heard := ""
		if c.streamed {
			req.OnDelta = func(s string) error { heard += s; return nil }
		}
		began := time.Now()
		res, err := g.engine.Translate(t.Context(), req)
		if err != nil || strings.TrimSpace(res.Text) != c.want || res.Provider != c.called || c.streamed && heard != res.Text {
			t.Errorf("%s: %+v, %v, heard %q", c.name, res, err, heard)
		}
		if took := time.Since(began); c.hangs && took > 5*time.Second {
			t.Errorf("%s: it took %v", c.name, took)
		}
	}
}

// What an account says of its limits holds for its calls alone.
func TestTwoAccountsLearnTheirLimitsApart(t *testing.T) {
	limits := map[string]string{"Bearer key-one": "300", "Bearer key-two": "6000"}
	var calls [2]atomic.Int64
	up := newBackend(t, nil)
	up.reply = func(w http.ResponseWriter, r *http.Request, body string) {
		key := r.Header.Get("Authorization")
		if key == "Bearer key-one" {
			calls[0].Add(1)
		} else {
			calls[1].Add(1)
		}
		w.Header().Set("X-Ratelimit-Limit-Requests", limits[key])
		w.Header().Set("X-Ratelimit-Remaining-Requests", limits[key])
		w.Header().Set("X-Ratelimit-Reset-Requests", "1s")
		completes("una cuenta")(w, r, body)
	}
	g := runs(t, fmt.Sprintf(`version: 1
log: {level: error}
server: {deadline: 20s}
providers:
  up: {type: openai, base_url: "%s/v1", accounts: [{api_key: key-one}, {api_key: key-two}]}
stages:
  - ratelimit: {requests_per_minute: 100000}
  - queue: {max_concurrent: 8, min_interval: 0s}
  - provider: {use: up}
`, up.URL))
	for n := range 4 {
		if _, err := g.engine.Translate(t.Context(), &core.Request{Text: fmt.Sprintf("Sentence %d.", n), Source: "en", Target: "es"}); err != nil {
			t.Fatal(err)
		}
	}
	// Five calls a second fit into the first, and a hundred into the second.
	began, before := time.Now(), [2]int64{calls[0].Load(), calls[1].Load()}
	done := make(chan error)
	for n := range 30 {
		go func() {
			_, err := g.engine.Translate(t.Context(), &core.Request{Text: fmt.Sprintf("Another sentence, number %d.", n), Source: "en", Target: "es"})
			done <- err
		}()
	}
	for range 30 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	took := time.Since(began).Seconds()
	one, two := calls[0].Load()-before[0], calls[1].Load()-before[1]
	if float64(one) > 5*took+7 {
		t.Errorf("%d calls in %.1f s of the account that allows five a second", one, took)
	}
	if two < 10 {
		t.Errorf("%d of 30 calls went to the account that allows a hundred a second, in %.1f s", two, took)
	}
}
