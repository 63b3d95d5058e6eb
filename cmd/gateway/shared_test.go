package gateway

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core/shared/sharedtest"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// sharing is a configuration of a gateway that shares what it can.
func sharing(upstream, store string, rpm int) string {
	return fmt.Sprintf(`version: 1
log: {level: info}
server: {deadline: 20s}
shared: {url: "%s", prefix: group, encrypt: "a secret of the whole group"}
providers:
  openai: {type: openai, base_url: "%s", api_key: test}
stages:
  - cache
  - ratelimit: {requests_per_minute: %d}
  - queue: {min_interval: 0s}
  - provider: {use: openai}
  - postprocess
`, store, upstream, rpm)
}

// Gateways in three folders, as on three machines, are one: a text is upstream once, each sees
// the others, and nobody notices when the store ends.
func TestThreeGatewaysAreOneGroup(t *testing.T) {
	t.Parallel()
	r := sharedtest.Start(t)
	sim := upstream(t, openaitest.Config{Latency: 300 * time.Millisecond})
	var gates []*gatewayProcess
	for range 3 {
		gates = append(gates, serveYAML(t, sharing(sim.URL(), r.URL, 6000), nil))
	}
	for _, g := range gates {
		until(t, func() bool { return g.metric("dragoman_shared_members ") == "3" })
	}
	// On a busy machine a gateway may not have the answer of the store in 10 ms, and then
	// calls by itself.
	late := func() (n int) {
		for _, g := range gates {
			failed, _ := strconv.Atoi(g.metric(`dragoman_shared_calls_total{for="answers",outcome="failed"} `))
			refused, _ := strconv.Atoi(g.metric(`dragoman_shared_calls_total{for="answers",outcome="refused"} `))
			n += failed + refused
		}
		return n
	}
	once := false
	for i := 0; i < 20 && !once; i++ {
		before, made := late(), sim.Stats().Chats
		var asking sync.WaitGroup
		for range 10 {
			for _, g := range gates {
				asking.Go(func() {
					if a := g.ask(fmt.Sprint("The kettle is boiling ", i)); a.text(t) != fmt.Sprint("[es] The kettle is boiling ", i) {
						t.Errorf("%+v", a)
					}
				})
			}
		}
		asking.Wait()
		switch calls := sim.Stats().Chats - made; {
		case calls == 1:
			once = true
		case late() == before || calls > 3:
			t.Fatalf("%d calls for one text", calls)
		}
	}
	if !once {
		t.Error("no text was upstream once")
	}
	out, complaint, status := command(t, t.TempDir(), nil, "", "status", "--url", gates[0].url, "--all")
	if status != 0 || !strings.Contains(out, "GROUP") || strings.Count(out, "127.0.0.1:") < 3 {
		t.Errorf("status --all exits with %d: %s%s", status, out, complaint)
	}
	file := write(t, sharing(sim.URL(), r.URL, 6000))
	_, complaint, status = command(t, filepath.Dir(file), nil, "", "check", "--live", "--config", file)
	if status != 0 || !strings.Contains(complaint, "warning: shared.url: its memory has no bound") {
		t.Errorf("check --live exits with %d: %s", status, complaint)
	}
	// One with another prompt says so, and gets nothing that was translated with theirs.
	gates[0].ask("Known to the others").text(t)
	until(t, func() bool { return strings.Contains(r.Do("KEYS", "group:answer:*"), "answer") })
	other := serveYAML(t, strings.Replace(sharing(sim.URL(), r.URL, 6000), "api_key: test", `api_key: test, instructions: "Be brief."`, 1), nil)
	until(t, func() bool { return strings.Contains(other.output(), "have other providers, models or prompts") })
	made := sim.Stats().Chats
	if other.ask("Known to the others").text(t); sim.Stats().Chats != made+1 {
		t.Errorf("with another prompt %d calls were made, want one", sim.Stats().Chats-made)
	}
	r.Stop()
	for i, g := range gates {
		if a := g.ask(fmt.Sprint("Without the store ", i)); a.text(t) != fmt.Sprint("[es] Without the store ", i) {
			t.Errorf("%+v", a)
		}
		until(t, func() bool { return strings.Contains(g.output(), "the shared store is away") })
		if strings.Contains(g.output(), "a secret") {
			t.Error(g.output())
		}
	}
	r.Begin()
	for _, g := range gates {
		until(t, func() bool { return strings.Contains(g.output(), "the shared store is back") })
	}
}
