package provider

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
)

const ms = time.Millisecond

// plays waits for each of pauses and says a delta after it, then waits for last
// and answers with all deltas, or fails with err. It leaves when its call ends.
func plays(who string, pauses []time.Duration, last time.Duration, err *core.Error) answer {
	return func(ctx context.Context, req *core.Request) (*core.Result, error) {
		text := ""
		wait := func(d time.Duration) error {
			select {
			case <-time.After(d):
				return nil
			case <-ctx.Done():
				return core.ContextError(ctx, who)
			}
		}
		for i, d := range pauses {
			if err := wait(d); err != nil {
				return nil, err
			}
			delta := fmt.Sprintf("%s%d ", who, i)
			text += delta
			if req.OnDelta != nil {
				if err := req.OnDelta(delta); err != nil {
					return nil, err
				}
			}
		}
		if err := wait(last); err != nil {
			return nil, err
		}
		if err != nil {
			again := *err
			return nil, &again
		}
		return &core.Result{Text: text + who, Usage: core.Usage{PromptTokens: 1}}, nil
	}
}

func after(d string) Config { return Config{Hedge: Hedge{After: d}} }

func (b *bench) counted(want map[string]float64) string {
	var wrong []string
	got := map[string]float64{}
	b.stage.Measure(func(m core.Measure) {
		if m.Name == "provider_attempts_total" && m.Value > 0 {
			got[m.Labels[3]+" "+m.Labels[5]] = m.Value
		}
	})
	for name, n := range want {
		if got[name] != n {
			wrong = append(wrong, fmt.Sprintf("%s %v", name, got[name]))
		}
		delete(got, name)
	}
	for name, n := range got {
		wrong = append(wrong, fmt.Sprintf("%s %v", name, n))
	}
	return strings.Join(wrong, ", ")
}

// cancelledFirst is want with its last two entries the other way round, when the
// last is the one who lost: it and the winner give back on their own goroutines.
func cancelledFirst(want string) string {
	did := strings.Split(want, ", ")
	if n := len(did); n > 1 && did[n-1] == "give canceled" {
		did[n-1], did[n-2] = did[n-2], did[n-1]
	}
	return strings.Join(did, ", ")
}

// What happens when a hedge is made beside a first attempt, and who answers.
func TestHedges(t *testing.T) {
	failed := &core.Error{Kind: core.ProviderFailed, Retryable: true}
	limited := &core.Error{Kind: core.RateLimited, Retryable: true}
	for _, c := range []struct {
		name    string
		cfg     Config
		main    []answer
		want    string
		text    string
		kind    core.ErrorKind
		took    time.Duration
		counted map[string]float64
	}{
		{"off unless asked for", Config{}, []answer{plays("a", nil, time.Second, nil)},
			"take, main#0, give ok", "a", "", time.Second, map[string]float64{"first ok": 1}},
		{"the first is quick", after("100ms"), []answer{plays("a", nil, 99*ms, nil)},
			"take, main#0, give ok", "a", "", 99 * ms, map[string]float64{"first ok": 1}},
		{"the hedge is faster", after("100ms"), []answer{plays("a", nil, time.Second, nil), plays("b", nil, 50*ms, nil)},
			"take, main#0, take, main#1, give ok, give canceled", "b", "", 150 * ms, map[string]float64{"first canceled": 1, "hedge ok": 1}},
		{"the first is faster", after("100ms"), []answer{plays("a", nil, 120*ms, nil), plays("b", nil, 50*ms, nil)},
			"take, main#0, take, main#1, give ok, give canceled", "a", "", 120 * ms, map[string]float64{"first ok": 1, "hedge canceled": 1}},
		{"the first fails meanwhile", after("100ms"), []answer{plays("a", nil, 120*ms, failed), plays("b", nil, 50*ms, nil)},
			"take, main#0, take, main#1, give provider_failed, give ok", "b", "", 150 * ms, map[string]float64{"first provider_failed": 1, "hedge ok": 1}},
		{"the gates hear of a 429 at once", after("100ms"), []answer{plays("a", nil, 120*ms, limited), plays("b", nil, 50*ms, nil)},
			"take, main#0, take, main#1, give rate_limited, give ok", "b", "", 150 * ms, map[string]float64{"first rate_limited": 1, "hedge ok": 1}},
		{"the hedge fails", after("100ms"), []answer{plays("a", nil, 200*ms, nil), plays("b", nil, 50*ms, failed)},
			"take, main#0, take, main#1, give provider_failed, give ok", "a", "", 200 * ms, map[string]float64{"first ok": 1, "hedge provider_failed": 1}},
		{"both fail", after("100ms"), []answer{plays("a", nil, 120*ms, failed), plays("b", nil, 50*ms, limited)},
			"take, main#0, take, main#1, give provider_failed, give rate_limited", "", core.ProviderFailed, 150 * ms, map[string]float64{"first provider_failed": 1, "hedge rate_limited": 1}},
		{"the request is at fault", after("100ms"), []answer{plays("a", nil, 120*ms, &core.Error{Kind: core.TooLarge}), plays("b", nil, time.Second, nil)},
			"take, main#0, take, main#1, give too_large, give canceled", "", core.TooLarge, 120 * ms, map[string]float64{"first too_large": 1, "hedge canceled": 1}},
		{"a panic of the hedge", after("100ms"), []answer{plays("a", nil, 200*ms, nil), func(context.Context, *core.Request) (*core.Result, error) { panic("oh") }},
			"take, main#0, take, main#1, give internal, give ok", "a", "", 200 * ms, map[string]float64{"first ok": 1, "hedge internal": 1}},
		{"p95 of too few calls", after("p95"), []answer{plays("a", nil, time.Second, nil)},
			"take, main#0, give ok", "a", "", time.Second, map[string]float64{"first ok": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(c.cfg, c.main)
				start := time.Now()
				req := &core.Request{ID: "r", Text: "hello", Target: "es", Trace: core.NewTrace(nil)}
				res, err := b.top.Translate(ends(t, 5*time.Second), req)
				took := time.Since(start)
				synctest.Wait() // for who lost
				if got := b.diary.String(); got != c.want && got != cancelledFirst(c.want) {
					t.Errorf("happened: %s\n    want: %s", got, c.want)
				}
				if core.KindOf(err) != c.kind || err == nil && res.Text != c.text || took != c.took {
					t.Errorf("got %+v, %v after %v, want %q, %q after %v", res, err, took, c.text, c.kind, c.took)
				}
				if wrong := b.counted(c.counted); wrong != "" {
					t.Errorf("counted %s, want %v", wrong, c.counted)
				}
				if want := strings.Count(c.want, "main#"); req.Trace.Attempts != want {
					t.Errorf("%d attempts in the trace, want %d", req.Trace.Attempts, want)
				}
				b.balanced(t)
			})
		})
	}
}

// After a race that nobody won, the request goes on as after any failure: with
// another turn.
func TestAfterALostRaceAnotherProviderIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := &core.Error{Kind: core.ProviderFailed, Retryable: true}
		cfg := after("100ms")
		cfg.Retries = 1 // the hedge was it
		b := newBench(cfg, []answer{plays("a", nil, 120*ms, failed), plays("b", nil, 50*ms, failed)}, []answer{well})
		res, err := b.ask(ends(t, 5*time.Second))
		const want = "take, main#0, take, main#1, give provider_failed, give provider_failed, take, spare1#2, give ok"
		if got := b.diary.String(); err != nil || res.Provider != "spare1" || got != want {
			t.Errorf("got %+v, %v, happened: %s\nwant %s", res, err, got, want)
		}
		b.balanced(t)
	})
}

func TestAHedgeNeedsATurnThatIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(after("100ms"), []answer{plays("a", nil, time.Second, nil)})
		b.queue.slots = 1
		if _, err := b.ask(ends(t, 5*time.Second)); err != nil {
			t.Fatal(err)
		}
		if got, want := b.diary.String(), "take, main#0, give ok"; got != want {
			t.Errorf("happened: %s, want %s", got, want)
		}
		if wrong := b.counted(map[string]float64{"first ok": 1}); wrong != "" {
			t.Errorf("counted %s", wrong)
		}
	})
}

func TestHedgesLeaveSomeOfTheBudgetToRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget()
		hedges, retries := 0, 0
		for b.spend(time.Now(), leftByHedges) {
			hedges++
		}
		for b.spend(time.Now(), 0) {
			retries++
		}
		if hedges != 1 || retries != 2 {
			t.Errorf("%d hedges and %d retries of 3, want 1 and 2", hedges, retries)
		}
		for range 51 {
			b.earn()
		}
		hedges = 0
		for b.spend(time.Now(), leftByHedges) {
			hedges++
		}
		if hedges != 3 {
			t.Errorf("%d hedges of 5 that were earned, want 3", hedges)
		}
	})
}

// Of many requests that are all slow, no more than the budget allows are
// hedged: a tenth, and three a second besides.
func TestTheBudgetBoundsHedges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const requests = 200
		b := newBench(after("10ms"), []answer{plays("a", nil, 100*ms, nil)})
		var all sync.WaitGroup
		for range requests {
			all.Go(func() {
				if _, err := b.ask(ends(t, 5*time.Second)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		synctest.Wait()
		if hedges := b.fakes["main"].calls - requests; hedges < requests/10 || hedges > requests/10+4 {
			t.Errorf("%d hedges for %d requests at once", hedges, requests)
		}
		b.balanced(t)
	})
}

// The delay follows what the provider's last calls took, of which enough must
// be known.
func TestTheDelayIsTheLiveP95(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		takes := 100 * ms
		b := newBench(after("p95"), []answer{func(ctx context.Context, req *core.Request) (*core.Result, error) {
			mu.Lock()
			d := takes
			mu.Unlock()
			return plays("a", nil, d, nil)(ctx, req)
		}})
		slow := func(d time.Duration) (calls int) {
			before := b.fakes["main"].calls
			mu.Lock()
			takes = d
			mu.Unlock()
			if _, err := b.ask(ends(t, 10*time.Second)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return b.fakes["main"].calls - before
		}
		for i := range enough - 1 {
			// A tail of one in ten: the p95 is in it.
			d := 100 * ms
			if i%10 == 9 {
				d = 400 * ms
			}
			if slow(d) != 1 {
				t.Fatalf("a hedge after %d calls, before anything is known", i)
			}
		}
		slow(100 * ms)
		if n := slow(399 * ms); n != 1 {
			t.Errorf("%d calls although the first took no longer than the p95", n)
		}
		if n := slow(450 * ms); n != 2 {
			t.Errorf("%d calls for one that takes longer than the p95, want a hedge", n)
		}
		for range 2 * remembered {
			slow(1 * time.Second) // the provider has become slow
		}
		if n := slow(900 * ms); n != 1 {
			t.Errorf("%d calls for what is usual by now", n)
		}
	})
}

// With deltas the first that speaks is the one that counts, also when it fails
// in the end.
func TestWhoSpeaksFirstAnswers(t *testing.T) {
	failed := &core.Error{Kind: core.ProviderFailed, Retryable: true}
	for _, c := range []struct {
		name  string
		main  []answer
		want  string
		kind  core.ErrorKind
		calls int
	}{
		{"a first that speaks is not hedged", []answer{plays("a", []time.Duration{90 * ms, 500 * ms}, 500*ms, nil)}, "a0 a1 ", "", 1},
		{"the hedge speaks", []answer{plays("a", []time.Duration{300 * ms}, 0, nil), plays("b", []time.Duration{50 * ms, 900 * ms}, ms, nil)}, "b0 b1 ", "", 2},
		{"the first speaks", []answer{plays("a", []time.Duration{120 * ms, 900 * ms}, ms, nil), plays("b", []time.Duration{50 * ms}, ms, nil)}, "a0 a1 ", "", 2},
		{"the hedge answers without a word", []answer{plays("a", []time.Duration{300 * ms}, 0, nil), plays("b", nil, ms, nil)}, "", "", 2},
		{"the hedge speaks and fails", []answer{plays("a", []time.Duration{300 * ms}, 0, nil), plays("b", []time.Duration{50 * ms}, ms, failed), well}, "b0 ", core.ProviderFailed, 2},
		{"the first speaks and fails", []answer{plays("a", []time.Duration{50 * ms}, 500*ms, failed), well}, "a0 ", core.ProviderFailed, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := after("100ms")
				cfg.Retries = 3
				b := newBench(cfg, c.main, []answer{well})
				var text string
				req := &core.Request{Text: "hello", Target: "es", OnDelta: func(s string) error { text += s; return nil }}
				res, err := b.top.Translate(ends(t, 5*time.Second), req)
				synctest.Wait()
				if core.KindOf(err) != c.kind || text != c.want || b.fakes["main"].calls != c.calls || b.fakes["spare1"].calls != 0 {
					t.Errorf("got %+v, %v, heard %q in %d calls: %s", res, err, text, b.fakes["main"].calls, &b.diary)
				}
				if err == nil && !strings.HasPrefix(res.Text, text) {
					t.Errorf("heard %q, the answer is %q", text, res.Text)
				}
				if e := core.AsError(err, ""); e != nil && e.Retryable {
					t.Error("a failure after a delta left says that it may be tried again")
				}
				b.balanced(t)
			})
		})
	}
}

// Whatever attempts do, and whenever: what was heard is of one of them, the one
// that answered, nothing is heard after the answer or from two goroutines at
// once, there is at most one hedge, no retry or fallback beside an attempt that
// may still answer, and the gates get everything back.
func TestAnyRace(t0 *testing.T) {
	property.Check(t0, func(t *rapid.T) {
		var wrong diary
		pause := rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.IntRange(0, 20).Draw(t, "pause")) * 10 * ms })
		kinds := rapid.SampledFrom([]core.ErrorKind{
			"", "", "", core.ProviderFailed, core.RateLimited, core.TooLarge, core.BadAnswer, core.Overloaded, core.Internal,
			core.Unavailable, core.UnsupportedLanguage, core.Unauthorized, core.DeadlineExceeded,
		})
		var running sync.Map // of contexts: attempts that nobody has ended
		part := func(who string) answer {
			var err *core.Error
			if kind := kinds.Draw(t, who+" fails"); kind != "" {
				err = &core.Error{Kind: kind, Retryable: rapid.Bool().Draw(t, who+" retryable"), Own: rapid.Bool().Draw(t, who+" own")}
			}
			play := plays(who, rapid.SliceOfN(pause, 0, 3).Draw(t, who+" speaks"), pause.Draw(t, who+" ends"), err)
			rude := rapid.Bool().Draw(t, who+" speaks after the end")
			return func(ctx context.Context, req *core.Request) (*core.Result, error) {
				beside := 0
				running.Range(func(other, _ any) bool {
					if other.(context.Context).Err() == nil {
						beside++
					}
					return true
				})
				if why := req.Trace.Attempt; beside > 1 || beside > 0 && why != hedge.String() {
					wrong.note("%s, a %s, began beside %d others", who, why, beside)
				}
				running.Store(ctx, nil)
				defer running.Delete(ctx)
				res, err := play(ctx, req)
				if rude && req.OnDelta != nil {
					go func() {
						time.Sleep(ms)
						if req.OnDelta(who+" late") == nil {
							panic("a delta was taken after its attempt had ended")
						}
					}()
				}
				return res, err
			}
		}
		main, spare := []answer{part("a"), part("b"), part("c")}, [][]answer{{part("d")}, {part("e")}}
		cfg := after(rapid.SampledFrom([]string{hedgeNever, "50ms", "100ms"}).Draw(t, "hedge"))
		cfg.Retries = rapid.IntRange(0, 2).Draw(t, "retries")
		spare = spare[:rapid.IntRange(0, 2).Draw(t, "fallbacks")]
		slots := rapid.IntRange(1, 3).Draw(t, "slots")
		leaves := time.Duration(rapid.IntRange(1, 80).Draw(t, "leaves")) * 10 * ms
		listens := rapid.Bool().Draw(t, "listens")
		refuses := rapid.IntRange(0, 6).Draw(t, "refuses the delta")

		synctest.Test(t0, func(*testing.T) {
			b := newBench(cfg, main, spare...)
			b.queue.slots = slots
			ctx, cancel := context.WithTimeout(context.Background(), leaves)
			defer cancel()
			var speaks sync.Mutex
			var heard []string
			over := false
			req := &core.Request{Text: "hello", Target: "es", Trace: core.NewTrace(nil)}
			if listens {
				req.OnDelta = func(s string) error {
					if !speaks.TryLock() {
						wrong.note("two speak at once")
						return nil
					}
					defer speaks.Unlock()
					if over {
						wrong.note("%q was said after the answer", s)
					}
					heard = append(heard, s)
					runtime.Gosched()
					if len(heard) == refuses {
						return &core.Error{Kind: core.Canceled, Stage: "listener"}
					}
					return nil
				}
			}
			res, err := b.top.Translate(ctx, req)
			over = true
			time.Sleep(time.Second) // who lost has ended, and was rude
			synctest.Wait()
			if (res == nil) == (err == nil) {
				wrong.note("got %+v and %v", res, err)
			}
			for _, s := range heard {
				if s[0] != heard[0][0] {
					wrong.note("two attempts were heard: %q", heard)
				}
			}
			if res != nil && !strings.HasPrefix(res.Text, strings.Join(heard, "")) {
				wrong.note("heard %q, the answer is %q", heard, res.Text)
			}
			if len(heard) > 0 && err != nil && core.AsError(err, "").Retryable {
				wrong.note("after a delta: %v", err)
			}
			if kind := core.KindOf(err); kind == core.Unauthorized {
				wrong.note("a client hears of the gateway's key: %v", err)
			}
			hedges := 0.0
			b.stage.Measure(func(m core.Measure) {
				if m.Name == "provider_attempts_total" && m.Labels[3] == "hedge" {
					hedges += m.Value
				}
			})
			if hedges > 1 || (slots == 1 || cfg.Hedge.After == hedgeNever) && hedges > 0 {
				wrong.note("%v hedges with %d slots", hedges, slots)
			}
			if most := 1 + max(cfg.Retries, int(hedges)); b.fakes["main"].calls > most {
				wrong.note("%d calls with %d retries and %v hedges", b.fakes["main"].calls, cfg.Retries, hedges)
			}
			if n, m := b.limit.holds(), b.queue.holds(); n != 0 || m != 0 {
				wrong.note("the gates miss %d and %d turns", n, m)
			}
			b.stage.Close()
		})
		if said := wrong.String(); said != "" {
			t.Fatal(said)
		}
	})
}
