package cache

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/shared"
	"github.com/dragoman-mt/dragoman/core/shared/sharedtest"
)

// A gatewayOf is one cache of a group, above something that translates.
type gatewayOf struct {
	*Stage
	core.Translator
	logs *observer.ObservedLogs
}

// gatewaysOf are n caches with one memory over the Redis at c.URL, above next.
func gatewaysOf(t *testing.T, n int, c shared.Config, config Config, next func(i int) core.Translator) (all []gatewayOf) {
	t.Helper()
	c.Prefix = "test"
	for i := range n {
		seen, logs := observer.New(zap.DebugLevel)
		store, err := shared.New(c, fmt.Sprint("m", i), zap.New(seen))
		if err != nil {
			t.Fatal(err)
		}
		store.Start(shared.Member{})
		t.Cleanup(store.Close)
		s := New(core.Env{Name: "cache", Log: zap.New(seen), Shared: store}, config)
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		for deadline := time.Now().Add(10 * time.Second); !store.Answers().Up(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the store does not answer")
			}
		}
		s.common.room = patient{s.common.room}
		all = append(all, gatewayOf{s, s.Wrap(next(i)), logs})
	}
	return all
}

// A patient room waits longer for its store than requests may, since the machine of a test
// may be busy.
type patient struct{ core.Room }

func (p patient) Ask(ctx context.Context, s *core.Script, key string, args ...string) ([]string, error) {
	return p.Run(ctx, s, key, args...)
}

// translates answers with d after each call, and counts the calls.
func translates(calls *atomic.Int64, d time.Duration) core.Translator {
	return core.TranslatorFunc(func(ctx context.Context, req *core.Request) (*core.Result, error) {
		calls.Add(1)
		select {
		case <-time.After(d):
			return &core.Result{Text: "[es] " + req.Text, Source: "en", Provider: "p", Model: "m", Finish: core.FinishStop, Usage: core.Usage{PromptTokens: 5}}, nil
		case <-ctx.Done():
			return nil, core.ContextError(ctx, "below")
		}
	})
}

// askAll has clients ask each gateway for text, and returns the errors and the longest time.
func askAll(t *testing.T, gates []gatewayOf, clients int, text string) (failed []error, longest time.Duration) {
	var mu sync.Mutex
	var asking sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	for _, g := range gates {
		for range clients {
			asking.Go(func() {
				began := time.Now()
				res, err := g.Translate(ctx, &core.Request{Text: text, Source: "en", Target: "es", Trace: core.NewTrace(nil)})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed = append(failed, err)
				} else if res.Text != "[es] "+text {
					failed = append(failed, fmt.Errorf("%q", res.Text))
				}
				longest = max(longest, time.Since(began))
			})
		}
	}
	asking.Wait()
	return failed, longest
}

func TestATextIsUpstreamOnceForAllGateways(t *testing.T) {
	r := sharedtest.Start(t)
	var calls atomic.Int64
	gates := gatewaysOf(t, 3, shared.Config{URL: r.URL}, small(), func(int) core.Translator { return translates(&calls, 300*time.Millisecond) })
	for i := range 3 {
		if failed, longest := askAll(t, gates, 100, fmt.Sprint("text ", i)); failed != nil || calls.Load() != int64(i+1) {
			t.Fatalf("text %d: %d calls in all, the longest request took %v, failed: %v", i, calls.Load(), longest, failed)
		}
	}
	// And from now on each has it, whatever becomes of the store.
	r.Stop()
	if failed, _ := askAll(t, gates, 3, "text 1"); failed != nil || calls.Load() != 3 {
		t.Errorf("%d calls, failed: %v", calls.Load(), failed)
	}
}

// deadRoom is the room of a gateway that was killed: nothing comes from it any more.
type deadRoom struct {
	core.Room
	dead *atomic.Bool
}

func (d deadRoom) Later(s *core.Script, key string, args ...string) {
	if !d.dead.Load() {
		d.Room.Later(s, key, args...)
	}
}

// When the gateway that calls for all is killed, one other calls in its place, and nobody
// hears of it.
func TestWhenTheOneThatCallsDiesOneOtherCalls(t *testing.T) {
	r := sharedtest.Start(t)
	var first, others atomic.Int64
	var dead atomic.Bool
	started := make(chan struct{})
	gates := gatewaysOf(t, 3, shared.Config{URL: r.URL}, small(), func(i int) core.Translator {
		if i > 0 {
			return translates(&others, 300*time.Millisecond)
		}
		return core.TranslatorFunc(func(ctx context.Context, _ *core.Request) (*core.Result, error) {
			first.Add(1)
			close(started)
			<-ctx.Done()
			return nil, core.ContextError(ctx, "below")
		})
	})
	gates[0].common.room = deadRoom{gates[0].common.room, &dead}
	ctx, cancel := context.WithCancel(t.Context())
	var leader sync.WaitGroup
	leader.Go(func() { gates[0].Translate(ctx, &core.Request{Text: "hello", Source: "en", Target: "es"}) })
	<-started
	dead.Store(true)
	failed, longest := askAll(t, gates[1:], 100, "hello")
	if failed != nil || first.Load() != 1 || others.Load() != 1 {
		t.Errorf("%d calls of the first and %d of the others, failed: %v", first.Load(), others.Load(), failed)
	}
	if longest > leading+time.Second { // 300 ms of them for the call
		t.Errorf("the longest request took %v", longest)
	}
	cancel()
	leader.Wait()
}

// What befalls the call of one gateway is not what the others get.
func TestAFailureOfOneGatewayIsNotThatOfTheOthers(t *testing.T) {
	r := sharedtest.Start(t)
	var calls atomic.Int64
	began := make(chan struct{})
	gates := gatewaysOf(t, 2, shared.Config{URL: r.URL}, small(), func(i int) core.Translator {
		if i > 0 {
			return translates(&calls, time.Millisecond)
		}
		return core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) {
			close(began)
			time.Sleep(100 * time.Millisecond)
			return nil, &core.Error{Kind: core.ProviderFailed, Stage: "below"}
		})
	})
	var leader sync.WaitGroup
	leader.Go(func() {
		if failed, _ := askAll(t, gates[:1], 1, "hello"); len(failed) != 1 {
			t.Error("the first did not fail")
		}
	})
	<-began
	if failed, longest := askAll(t, gates[1:], 10, "hello"); failed != nil || calls.Load() != 1 || longest > 5*time.Second { // of 8
		t.Errorf("%d calls, the longest request took %v, failed: %v", calls.Load(), longest, failed)
	}
	leader.Wait()
}

// An answer is as old on the gateway that fetched it as on the one that made it.
func TestNoAnswerLivesTwiceItsTime(t *testing.T) {
	r := sharedtest.Start(t)
	var calls atomic.Int64
	config := Defaults()
	config.TTL = time.Hour
	gates := gatewaysOf(t, 2, shared.Config{URL: r.URL}, config, func(int) core.Translator { return translates(&calls, 0) })
	ask := func(g gatewayOf) *core.Result {
		t.Helper()
		res, err := g.Translate(t.Context(), &core.Request{Text: "hello", Source: "en", Target: "es"})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	ask(gates[0])
	key := written(t, r)
	left := 2 * time.Second
	r.Do("PEXPIRE", key, fmt.Sprint(left.Milliseconds())) // as if it had been made almost an hour ago
	expired := time.Now().Add(left)
	if res := ask(gates[1]); !res.Cached || calls.Load() != 1 || res.Usage != (core.Usage{}) || res.Provider != "p" || res.Model != "m" || res.Finish != core.FinishStop || res.Source != "en" {
		t.Fatalf("%+v after %d calls", res, calls.Load())
	}
	time.Sleep(time.Until(expired.Add(100 * time.Millisecond))) // its own time, for which there is no event
	if ask(gates[1]); calls.Load() != 2 {
		t.Error("it is used after its time")
	}
}

// written waits for an answer in the store, and returns its key.
func written(t *testing.T, r *sharedtest.Redis) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		for key := range strings.Lines(r.Do("KEYS", "test:answer:*}")) {
			if key = strings.TrimSpace(key); key != "" {
				return key
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was stored")
		}
	}
}

// With a secret no text lies in the store; who has another one calls by itself, and says so.
func TestAnswersAreEncryptedForTheGroup(t *testing.T) {
	r := sharedtest.Start(t)
	var calls atomic.Int64
	with := func(secret string) gatewayOf {
		return gatewaysOf(t, 1, shared.Config{URL: r.URL, Encrypt: core.Secret(secret)}, small(), func(int) core.Translator { return translates(&calls, 0) })[0]
	}
	a, b, other := with("0123456789abcdef"), with("0123456789abcdef"), with("fedcba9876543210")
	askAll(t, []gatewayOf{a}, 1, "a secret text")
	key := written(t, r)
	if value := r.Do("GET", key); strings.Contains(value, "secret text") {
		t.Errorf("%s: %q", key, value)
	}
	askAll(t, []gatewayOf{b}, 1, "a secret text")
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
	if askAll(t, []gatewayOf{other}, 1, "a secret text"); calls.Load() != 2 {
		t.Errorf("%d calls", calls.Load())
	}
}

// What another program, or a later version, keeps under our name is left as it is.
func TestAForeignValueIsLeftAsItIs(t *testing.T) {
	r := sharedtest.Start(t)
	var calls atomic.Int64
	g := gatewaysOf(t, 1, shared.Config{URL: r.URL}, small(), func(int) core.Translator { return translates(&calls, 0) })[0]
	key := string(appendKey(appendPart(nil, ""), &core.Request{Text: "hello", Source: "en", Target: "es"})) // what stands below has no fingerprint
	at := "test:" + shelf(g.common.shared.Name(key))
	r.Do("SET", at, "theirs")
	if failed, _ := askAll(t, []gatewayOf{g}, 1, "hello"); failed != nil || calls.Load() != 1 || g.common.unread.Load() != 1 {
		t.Errorf("failed: %v; %d calls, %d unread", failed, calls.Load(), g.common.unread.Load())
	}
	if n := g.logs.FilterMessageSnippet("cannot be read").Len(); n != 1 {
		t.Errorf("%d lines: %v", n, g.logs.All())
	}
	time.Sleep(50 * time.Millisecond)
	if got := r.Do("GET", at); got != "theirs" {
		t.Errorf("it is %q now", got)
	}
}

// A store that is away costs a miss nothing but its breaker, and nobody fails.
func TestMissesGoOnWithoutTheStore(t *testing.T) {
	r := sharedtest.Start(t)
	var calls atomic.Int64
	gates := gatewaysOf(t, 2, shared.Config{URL: r.URL}, small(), func(int) core.Translator { return translates(&calls, 0) })
	for _, g := range gates {
		g.common.room = g.common.room.(patient).Room
	}
	r.Pause()
	defer r.Resume()
	fastest := time.Hour // the round in which the machine held nobody up
	for i := range 20 {
		failed, longest := askAll(t, gates, 5, fmt.Sprint(i))
		if failed != nil {
			t.Error(failed)
		}
		fastest = min(fastest, longest)
	}
	if fastest > 200*time.Millisecond {
		t.Errorf("in each round a request took %v or longer", fastest)
	}
}

func TestOnlyTheAnswerOfTheSameKeyIsRead(t *testing.T) {
	res := &core.Result{Text: "Hallo", Source: "en", Provider: "p", Model: "m", Finish: core.FinishStop}
	value := encode("key", res, time.Hour)
	if got, ttl, err := decode(value, "key"); err != nil || ttl != time.Hour || fmt.Sprint(got) != fmt.Sprint(res) {
		t.Errorf("%+v, %v, %v", got, ttl, err)
	}
	if _, _, err := decode(value, "yek"); err == nil {
		t.Error("another key's answer was read")
	}
	for n := range value {
		if _, _, err := decode(value[:n], "key"); err == nil {
			t.Errorf("%d of %d bytes were read", n, len(value))
		}
	}
	value[0]++
	if _, _, err := decode(value, "key"); err == nil {
		t.Error("a later version's answer was read")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode("key", &core.Result{Text: "Hallo"}, time.Hour))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, value []byte) {
		if res, ttl, err := decode(value, "key"); err == nil && (res == nil || ttl < 0) {
			t.Errorf("%v, %v", res, ttl)
		}
	})
}
