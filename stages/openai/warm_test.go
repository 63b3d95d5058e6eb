package openai

import (
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// loader is a server that loads its model when it is asked for, for which it needs 40 s,
// unloads it after 5 minutes without a call, and gives a load up when the caller leaves.
type loader struct {
	until atomic.Int64 // loaded
	calls atomic.Int64
}

func (l *loader) answer(r *http.Request) (int, string, error) {
	l.calls.Add(1)
	if time.Now().UnixNano() > l.until.Load() {
		select {
		case <-time.After(40 * time.Second):
		case <-r.Context().Done():
			return 0, "", r.Context().Err()
		}
	}
	l.until.Store(time.Now().Add(5 * time.Minute).UnixNano())
	return 200, `{"choices":[{"message":{"content":"Hola"},"finish_reason":"stop"}]}`, nil
}

func TestAModelIsLoadedOutsideOfRequests(t *testing.T) {
	for _, warm := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			l := &loader{}
			cfg := defaults()
			cfg.APIKey, cfg.Warm = "key", warm
			built, err := Kind().Build(core.Env{Name: "main", Log: zap.NewNop(), Upstream: answering(l.answer)}, &cfg)
			if err != nil {
				t.Fatal(err)
			}
			p := built.(*Provider)
			if err := p.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			ask := func() error {
				_, err := p.Translate(t.Context(), &core.Request{Text: "Hello", Source: "en", Target: "es", Trace: core.NewTrace(nil)})
				return err
			}
			synctest.Wait()
			if warm == 0 {
				for range 20 {
					if ask() == nil {
						t.Error("a request got an answer of a model that nobody has loaded")
					}
				}
				return
			}
			if err := p.Ready(); core.KindOf(err) != core.Unavailable {
				t.Errorf("while the model is loaded: %v", err)
			}
			time.Sleep(41 * time.Second)
			synctest.Wait()
			if err := p.Ready(); err != nil {
				t.Errorf("with the model: %v", err)
			}
			if err := ask(); err != nil {
				t.Errorf("with the model: %v", err)
			}
			time.Sleep(time.Hour + 30*time.Second) // between two of the calls that keep it warm, not in the moment of one
			if err := ask(); err != nil {
				t.Errorf("after an hour without a request: %v", err)
			}
			// A provider that is in use needs no such calls.
			before := l.calls.Load()
			for range 100 {
				time.Sleep(30 * time.Second)
				if err := ask(); err != nil {
					t.Error(err)
				}
			}
			if extra := l.calls.Load() - before - 100; extra != 0 {
				t.Errorf("%d calls were made though it was in use", extra)
			}
		})
	}
}

func TestALoadThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		cfg := defaults()
		cfg.APIKey, cfg.Warm = "key", time.Minute
		built, err := Kind().Build(core.Env{Name: "main", Log: zap.NewNop(), Upstream: answering(func(*http.Request) (int, string, error) {
			if calls.Add(1) < 5 {
				return 503, `{"error":"loading model"}`, nil
			}
			return 200, `{"choices":[{"message":{"content":"Hola"},"finish_reason":"stop"}]}`, nil
		})}, &cfg)
		if err != nil {
			t.Fatal(err)
		}
		p := built.(*Provider)
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if err := p.Ready(); err != nil || calls.Load() != 5 {
			t.Errorf("after %d calls: %v", calls.Load(), err)
		}
	})
}
