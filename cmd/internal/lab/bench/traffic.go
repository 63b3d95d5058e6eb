package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Traffic is requests that come at a steady rate, whether those before them were
// answered or not.
type traffic struct {
	stop context.CancelFunc
	open sync.WaitGroup

	mu    sync.Mutex
	calls []asked
	by    map[string]int // answers, by provider
}

// An asked text is one request and what came of it.
type asked struct {
	at     time.Time
	took   time.Duration
	cached bool
	err    error // also of an answer that is not the text's
}

// send asks for texts until end is called: one at each beat, text(0) first, which
// is called from one goroutine. The upstream is to be a simulator, whose
// translations are known.
func (g *subject) send(ctx context.Context, beat time.Duration, text func(n int64) string) *traffic {
	t := &traffic{by: map[string]int{}}
	ticking, stop := context.WithCancel(ctx)
	t.stop = stop
	t.open.Go(func() {
		ticker := time.NewTicker(beat)
		defer ticker.Stop()
		for n := int64(0); ; n++ {
			select {
			case <-ticker.C:
			case <-ticking.Done():
				return
			}
			text, session := text(n), fmt.Sprint("session ", n%8)
			t.open.Go(func() { t.ask(ctx, g, text, session) })
		}
	})
	return t
}

func (t *traffic) ask(ctx context.Context, g *subject, text, session string) {
	call := asked{at: time.Now()}
	a, took, err := g.translate(ctx, text, session)
	call.took, call.err = took, err
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		got := a.Translations[0]
		call.cached = got.Cached
		t.by[got.Provider]++
		if got.Text != "[es] "+text {
			call.err = fmt.Errorf("%q is translated as %q", text, got.Text)
		}
	}
	t.calls = append(t.calls, call)
}

// end stops asking and returns all that was asked, when it has been answered.
func (t *traffic) end() []asked {
	t.stop()
	t.open.Wait()
	return t.calls
}

// answered waits until provider has given n more answers.
func (t *traffic) answered(ctx context.Context, provider string, n int) error {
	count := func() int {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.by[provider]
	}
	want := count() + n
	for deadline := time.Now().Add(startTimeout); count() < want; {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d answers by %s after %s", n-want+count(), n, provider, startTimeout)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// failures returns how many of calls failed, and the first that did or nil.
func failures(calls []asked) (n int, first error) {
	for _, call := range calls {
		if call.err == nil {
			continue
		}
		if n++; first == nil {
			first = call.err
		}
	}
	return n, first
}
