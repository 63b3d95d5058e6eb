package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/native"
	"github.com/dragoman-mt/dragoman/core/engine"
	"github.com/dragoman-mt/dragoman/plugins/host"
)

// These tests hold the whole chain, from the native door down to providers that
// the test plays, against what it promises about calls of providers. They run in
// virtual time, so what they count is exact.

// A virtual is a gateway in a bubble of testing/synctest.
type virtual struct {
	t       *testing.T
	engine  *engine.Engine
	file    *config.File
	service *door.Service
	doors   *doors // nil for the native one alone
	door    http.Handler
}

// nowhere is an upstream that no played provider calls.
type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no upstream")
}
func (nowhere) Warm(string) (func(), error) { return func() {}, nil }

// virtually serves yaml, whose providers are of type played and are called by
// their names.
func virtually(t *testing.T, yaml string, players map[string]core.TranslatorFunc) *virtual {
	t.Helper()
	s := program{}.schema(host.New())
	type none struct{}
	s.Kinds = append(s.Kinds, core.NewKind("played", core.RoleProvider, "Does what a test says.", func() none { return none{} },
		func(env core.Env, _ *none) (any, error) { return players[env.Name], nil }))
	file, err := s.Load(config.Options{File: write(t, yaml)})
	if err != nil {
		t.Fatal(err)
	}
	v := &virtual{t: t, engine: engine.New(nowhere{}, zap.NewNop()), file: file}
	server := serverSection.Of(file)
	v.service = door.New(*server, v.engine)
	g, err := v.engine.Build(file, server.Deadline)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.engine.Serve(g, 0)
	v.door = native.New(v.service, door.NewMetrics(prometheus.NewRegistry()), zap.NewNop())
	return v
}

// close closes everything, which nothing may hold up.
func (v *virtual) close() { v.engine.Close(context.Background()) }

func (v *virtual) ask(ctx context.Context, body map[string]any) answer {
	body["source"], body["target"] = "en", "es"
	b, err := json.Marshal(body)
	if err != nil {
		v.t.Fatal(err)
	}
	w := httptest.NewRecorder()
	v.door.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/translate", strings.NewReader(string(b))))
	a := answer{Status: w.Code}
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			v.t.Errorf("%s: %v", w.Body, err)
		}
	}
	return a
}

// measures returns what the engine reports, by name.
func (v *virtual) measures() map[string]float64 {
	all := map[string]float64{}
	v.engine.Measure(func(m core.Measure) { all[m.Name] += m.Value })
	return all
}

// Texts come and leave, providers answer, fail, hang and refuse, and calls are
// made again, hedged and taken over by the fallback. Whatever happens, there are
// never more calls at once than slots, never two starts closer than the
// interval, and never more in any 60 s than the limit; at the end nothing is
// held.
func TestNoLimitIsExceededWhateverHappens(t *testing.T) {
	type play struct {
		took time.Duration
		err  *core.Error
	}
	type visit struct {
		at, leave time.Duration // leave is 0 for never
		body      map[string]any
	}
	ms := func(t *rapid.T, name string, least, most int) time.Duration {
		return time.Duration(rapid.IntRange(least, most).Draw(t, name)) * time.Millisecond
	}
	plays := rapid.Custom(func(t *rapid.T) play {
		p := play{took: ms(t, "took", 0, 600)}
		switch rapid.IntRange(0, 9).Draw(t, "ends") {
		case 0:
			p.err = &core.Error{Kind: core.ProviderFailed, Retryable: true}
		case 1:
			p.err = &core.Error{Kind: core.RateLimited, Retryable: true, RetryAfter: ms(t, "retry after", 0, 3000)}
		case 2:
			p.took, p.err = 2*time.Second, &core.Error{Kind: core.DeadlineExceeded, Retryable: true} // its own timeout
		case 3:
			p.err = &core.Error{Kind: core.TooLarge}
		}
		return p
	})
	visits := rapid.Custom(func(t *rapid.T) visit {
		v := visit{at: ms(t, "at", 0, 90_000), body: map[string]any{
			"text":    fmt.Sprint("Text number ", rapid.IntRange(0, 999).Draw(t, "text"), " of many."),
			"session": rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "session"),
		}}
		if rapid.Bool().Draw(t, "crowd") {
			v.at = v.at.Truncate(10 * time.Second) // many at once
		}
		switch rapid.IntRange(0, 3).Draw(t, "lane") {
		case 0:
			v.body["bulk"] = true
		case 1:
			v.body["final"], v.body["segment"], v.body["revision"] = false, "s", rapid.IntRange(0, 5).Draw(t, "revision")
		}
		switch rapid.IntRange(0, 5).Draw(t, "ends") {
		case 0:
			v.leave = ms(t, "leave", 1, 2000)
		case 1:
			v.body["deadline_ms"] = rapid.IntRange(1, 3000).Draw(t, "deadline")
		}
		return v
	})
	seen := map[string]float64{} // of what must have happened somewhere
	property.Few(t, 50)
	property.Check(t, func(rt *rapid.T) {
		slots := rapid.IntRange(1, 6).Draw(rt, "slots")
		interval := ms(rt, "interval", 0, 60)
		limit := rapid.SampledFrom([]int{5, 30, 4500}).Draw(rt, "limit")
		yaml := fmt.Sprintf(`version: 1
providers:
  main: {type: played}
  spare: {type: played}
stages:
  - cache
  - ratelimit: {requests_per_minute: %d}
  - queue: {max_concurrent: %d, min_interval: %s}
  - provider: {use: main, fallback: [%s], retries: %d, hedge: {after: %s}}
  - postprocess
`, limit, slots, interval, rapid.SampledFrom([]string{"", "spare"}).Draw(rt, "fallback"),
			rapid.IntRange(0, 3).Draw(rt, "retries"), rapid.SampledFrom([]string{"never", "50ms", "200ms", "p95"}).Draw(rt, "hedge"))
		script := rapid.SliceOfN(plays, 5, 60).Draw(rt, "plays")
		crowd := rapid.SliceOfN(visits, 40, 120).Draw(rt, "visits")
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			var (
				mu     sync.Mutex
				now    int
				calls  int
				starts []time.Time
			)
			player := func(name string) core.TranslatorFunc {
				return func(ctx context.Context, req *core.Request) (*core.Result, error) {
					mu.Lock()
					p := script[calls%len(script)]
					calls++
					if now++; now > slots {
						wrong = append(wrong, fmt.Sprintf("%d calls at once, there are %d slots", now, slots))
					}
					if name == "main" { // the spare one uses a turn that was taken for main
						starts = append(starts, time.Now())
					}
					mu.Unlock()
					defer func() { mu.Lock(); now--; mu.Unlock() }()
					timer := time.NewTimer(p.took)
					defer timer.Stop()
					select {
					case <-timer.C:
					case <-ctx.Done():
						return nil, core.ContextError(ctx, name)
					}
					if p.err != nil {
						failed := *p.err
						return nil, &failed
					}
					return &core.Result{Text: "[es] " + req.Text, Provider: name}, nil
				}
			}
			v := virtually(t, yaml, map[string]core.TranslatorFunc{"main": player("main"), "spare": player("spare")})
			var all sync.WaitGroup
			for _, visit := range crowd {
				all.Go(func() {
					time.Sleep(visit.at)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if visit.leave > 0 {
						defer time.AfterFunc(visit.leave, cancel).Stop()
					}
					v.ask(ctx, visit.body)
				})
			}
			all.Wait()
			synctest.Wait() // for calls that nobody waits for any more
			slices.SortFunc(starts, time.Time.Compare)
			first := 0
			for i, at := range starts {
				if i > 0 && at.Sub(starts[i-1]) < interval {
					wrong = append(wrong, fmt.Sprintf("two starts are %v apart, want %v", at.Sub(starts[i-1]), interval))
				}
				for at.Sub(starts[first]) >= time.Minute {
					first++
				}
				if n := i - first + 1; n > limit {
					wrong = append(wrong, fmt.Sprintf("%d starts within 60 s, the limit is %d", n, limit))
				}
				if i-first+1 == limit {
					seen["minutes that were full"]++
				}
			}
			m := v.measures()
			if m["queue_in_flight"] != 0 || m["line_waiting"] != 0 {
				wrong = append(wrong, fmt.Sprintf("at the end %v slots are held and %v wait", m["queue_in_flight"], m["line_waiting"]))
			}
			v.engine.Measure(func(m core.Measure) {
				if m.Name == "provider_attempts_total" {
					seen[m.Labels[slices.Index(m.Labels, "reason")+1]] += m.Value
				}
			})
			v.close()
		})
		if len(wrong) > 0 || t.Failed() {
			rt.Fatal(strings.Join(wrong[:min(len(wrong), 5)], "\n"))
		}
	})
	for _, what := range []string{"retry", "hedge", "fallback", "minutes that were full"} {
		if seen[what] == 0 {
			t.Errorf("no %s was ever seen, of %v: the test proves less than it says", what, seen)
		}
	}
}

// A 429 pauses the provider in use for 30 s. Whoever cannot wait for so long
// has the fallback's answer after the fallback's own time, and not later.
func TestAFallbackTakesItsOwnTimeWhileTheProviderInUseIsPaused(t *testing.T) {
	const yaml = `version: 1
providers:
  main: {type: played}
  spare: {type: played}
stages:
  - cache
  - ratelimit
  - queue
  - provider: {use: main, fallback: [spare]}
  - postprocess
`
	const own, refusing = 300 * time.Millisecond, 30 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		asked := 0 // main
		v := virtually(t, yaml, map[string]core.TranslatorFunc{
			"main": func(_ context.Context, req *core.Request) (*core.Result, error) {
				time.Sleep(refusing)
				if asked++; asked == 1 {
					return nil, &core.Error{Kind: core.RateLimited, Retryable: true, RetryAfter: 30 * time.Second}
				}
				return &core.Result{Text: "[es] " + req.Text, Provider: "main"}, nil
			},
			"spare": func(_ context.Context, req *core.Request) (*core.Result, error) {
				time.Sleep(own)
				return &core.Result{Text: "[es] " + req.Text, Provider: "spare"}, nil
			},
		})
		n := 0
		ask := func(provider string, want time.Duration) {
			n++
			begin := time.Now()
			a := v.ask(t.Context(), map[string]any{"text": fmt.Sprint("Text number ", n, " of many."), "session": fmt.Sprint(n % 4)})
			if a.text(t); a.Translations[0].Provider != provider || time.Since(begin) != want {
				t.Errorf("%s answered after %v, want %s after %v", a.Translations[0].Provider, time.Since(begin), provider, want)
			}
		}
		begin := time.Now()
		ask("spare", refusing+own)
		var all sync.WaitGroup
		for time.Since(begin) < 25*time.Second { // until a request could wait for the end of the pause
			all.Go(func() { ask("spare", own) })
			synctest.Wait()
			time.Sleep(55 * time.Millisecond)
		}
		all.Wait()
		if asked != 1 {
			t.Errorf("while it was paused the provider was called %d times", asked-1)
		}
		time.Sleep(30*time.Second - time.Since(begin) + refusing)
		ask("main", refusing)
		v.close()
	})
}
