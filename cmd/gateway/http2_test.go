package gateway

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// overHTTP2 is the shipped chain with two connections for 32 calls at once.
var overHTTP2 = strings.NewReplacer(
	"max_connections: 4", "max_connections: 2, protocol: http2",
	"max_concurrent: 2", "max_concurrent: 32",
	"timeout: 400ms", "timeout: 1900ms",
).Replace(small)

func TestOverHTTP2TwoConnectionsGiveTheSameTexts(t *testing.T) {
	texts := map[string]map[string]string{}
	for protocol, yaml := range map[string]string{"HTTP/1.1": strings.Replace(overHTTP2, "http2", "http1", 1), "HTTP/2.0": overHTTP2} {
		seen := sync.Map{}
		in := newInside(t, openaitest.Config{Observe: func(r *http.Request, _ []byte) { seen.Store(r.Proto, true) }}, yaml)
		got := map[string]string{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				text := fmt.Sprintf("Sentence number %d of this test.", i)
				a, _, err := in.ask(t.Context(), text)
				if err != nil || a.Status != 200 {
					t.Errorf("%+v %v", a, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				got[text] = a.text(t)
			})
		}
		wg.Wait()
		texts[protocol] = got
		seen.Range(func(p, _ any) bool {
			if p != protocol {
				t.Errorf("a call came with %s, want %s", p, protocol)
			}
			return true
		})
		if n := in.sim.Stats().Connections; n > 2 {
			t.Errorf("%s: %d connections, want at most 2", protocol, n)
		}
	}
	for text, want := range texts["HTTP/1.1"] {
		if got := texts["HTTP/2.0"][text]; got != want || got != "[es] "+text {
			t.Errorf("%q became %q over HTTP/2, %q over HTTP/1.1", text, got, want)
		}
	}
}

func TestOverHTTP2AClientThatLeavesCostsNoConnection(t *testing.T) {
	seen := make(chan struct{}, 100)
	in := newInside(t, openaitest.Config{Latency: time.Minute, Observe: func(*http.Request, []byte) { seen <- struct{}{} }}, overHTTP2)
	const calls = 30
	var wg sync.WaitGroup
	ctx, leave := context.WithCancel(t.Context())
	for i := range calls {
		wg.Go(func() { in.ask(ctx, fmt.Sprintf("Nobody waits for sentence %d.", i)) })
	}
	for range calls {
		receive(t, seen)
	}
	leave()
	wg.Wait()
	stats, err := in.sim.Settled(patiently(t))
	if err != nil || stats.Aborted != calls {
		t.Errorf("aborted upstream: %d of %d, %v", stats.Aborted, calls, err)
	}
	if err := in.sim.Configure(func(c *openaitest.Config) { c.Latency = 0 }); err != nil {
		t.Fatal(err)
	}
	if a, _, err := in.ask(t.Context(), "Somebody waits for this."); err != nil || a.text(t) != "[es] Somebody waits for this." {
		t.Errorf("%+v %v", a, err)
	}
	stats = in.sim.Stats()
	if stats.Connections != 2 || stats.Open != 2 {
		t.Errorf("%d connections, of which %d are open; want the two there were", stats.Connections, stats.Open)
	}
	// The pool hears of it a moment after the simulator.
	o := in.pool.Stats()[0]
	until(t, func() bool { o = in.pool.Stats()[0]; return o.InUse == 0 })
	if o.Cancelled != calls || o.Dials != 2 || o.InUse != 0 {
		t.Errorf("the pool: %+v", o)
	}
}

// A connection that carries many calls is no second queue.
func TestCheckDoesNotCountConnectionsThatCarryManyCalls(t *testing.T) {
	file := write(t, `version: 1
pool: {protocol: http2, warm_connections: 2, max_connections: 4}
providers:
  openai: {type: openai, api_key: x, timeout: 2s}
stages:
  - queue: {max_concurrent: 12}
  - provider: {use: openai}
`)
	if _, errs, status := commandHere(t, filepath.Dir(file), nil, "", "check", "--offline"); status != 0 || errs != "" {
		t.Errorf("status %d, errors:\n%s", status, errs)
	}
}
