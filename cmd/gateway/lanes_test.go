package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// An order is in which order texts arrive at the simulator, told by the calls
// themselves. The first call is held until it is let go, so that the others can
// line up behind it.
type order struct {
	*inside
	arrived chan string
	let     chan struct{}
	clients sync.WaitGroup
}

func inOrder(t *testing.T, limits string) *order {
	o := &order{arrived: make(chan string, 1000), let: make(chan struct{})}
	observe := func(r *http.Request, body []byte) {
		var sent struct{ Messages []struct{ Content string } }
		if err := json.Unmarshal(body, &sent); err != nil || len(sent.Messages) == 0 {
			t.Errorf("%s: %v", body, err)
			return
		}
		o.arrived <- sent.Messages[len(sent.Messages)-1].Content
		select {
		case <-o.let:
		case <-r.Context().Done(): // the test has failed
		}
	}
	o.inside = newInside(t, openaitest.Config{Observe: observe}, strings.NewReplacer("deadline: 2s", "deadline: 10m",
		"timeout: 400ms", "timeout: 5m", "- ratelimit\n  - queue: {max_concurrent: 2, min_interval: 0s}", limits).Replace(small))
	return o
}

// send asks without waiting for the answer, which is nobody's concern here, and
// returns when n requests have started or wait, with how many of each lane have
// started by then.
func (o *order) send(t *testing.T, ctx context.Context, n int, body map[string]any) (started map[string]int) {
	t.Helper()
	body["source"], body["target"] = "en", "es"
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url+"/v1/translate", strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	o.clients.Go(func() {
		if res, err := insecure.Do(req); err == nil {
			res.Body.Close()
		}
	})
	until(t, func() bool {
		there := 0
		started = map[string]int{}
		o.engine.Measure(func(m core.Measure) {
			switch m.Name {
			case "line_starts_total":
				started[m.Labels[slices.Index(m.Labels, "lane")+1]] += int(m.Value)
				there += int(m.Value)
			case "line_waiting":
				there += int(m.Value)
			}
		})
		return there >= n
	})
	return started
}

// A hundred texts of a catalogue wait for their turn at sixty a minute. A final
// of somebody who speaks comes last and is the next to start.
func TestAFinalIsTheNextToStartBeforeAHundredThatWait(t *testing.T) {
	o := inOrder(t, "- ratelimit: {requests_per_minute: 60}\n  - queue: {max_concurrent: 6, min_interval: 0s}")
	close(o.let)
	ctx, leave := context.WithCancel(t.Context())
	defer o.clients.Wait()
	defer leave()
	for i := range 100 { // each a call of its own: those of one call would share a turn
		o.send(t, ctx, i+1, map[string]any{"text": fmt.Sprintf("Entry number %d of the catalogue.", i), "bulk": true})
	}
	const said = "This is what was just said."
	started := o.send(t, ctx, 101, map[string]any{"text": said})
	if started["bulk"] > 50 {
		t.Fatalf("%d of the hundred have started: nothing holds them up", started["bulk"])
	}
	for range started["bulk"] {
		if text := receive(t, o.arrived); text == said {
			return
		}
	}
	if next := receive(t, o.arrived); next != said {
		t.Errorf("the next to start was %q", next)
	}
}

// Sessions that send as they like share the starts: each gets at least
// floor(n/S)-1 of any n that follow each other, in the order in which it sent,
// and who leaves takes nothing with it.
func TestSessionsShareTheStartsAsTheUpstreamSeesThem(t *testing.T) {
	o := inOrder(t, "- ratelimit\n  - queue: {max_concurrent: 1, min_interval: 0s}")
	o.send(t, t.Context(), 1, map[string]any{"text": "Everybody lines up behind this one."})
	receive(t, o.arrived)

	const sessions, each, leavers = 4, 12, 3
	leave := make([]context.CancelFunc, 0, leavers*sessions)
	there := 1
	for session := range sessions { // one after the other, so that the first could have it all
		for n := range each {
			there++
			o.send(t, t.Context(), there, map[string]any{"text": fmt.Sprintf("%d: sentence number %d.", session, n), "session": fmt.Sprint(session)})
			if n%4 == session {
				ctx, cancel := context.WithCancel(t.Context())
				leave = append(leave, cancel)
				there++
				o.send(t, ctx, there, map[string]any{"text": fmt.Sprintf("%d: a sentence that nobody waits for, %d.", session, n), "session": fmt.Sprint(session)})
			}
		}
	}
	for _, cancel := range leave {
		cancel()
	}
	until(t, func() bool { return int(o.measures()["line_waiting"]) == sessions*each })
	close(o.let)
	o.clients.Wait()
	close(o.arrived)

	var starts []int
	next := make([]int, sessions)
	for text := range o.arrived {
		var session, n int
		if _, err := fmt.Sscanf(text, "%d: sentence number %d.", &session, &n); err != nil {
			t.Fatalf("%q was sent upstream", text)
		}
		if n != next[session] {
			t.Errorf("session %d: sentence %d started when %d was next", session, n, next[session])
		}
		next[session] = n + 1
		starts = append(starts, session)
	}
	if len(starts) != sessions*each {
		t.Fatalf("%d started of %d", len(starts), sessions*each)
	}
	for from := range starts {
		got := make([]int, sessions)
		for i, session := range starts[from:] {
			got[session]++
			if least := slices.Min(got); least < (i+1)/sessions-1 {
				t.Fatalf("a session got %d of %d starts from %d on: %v", least, i+1, from, starts)
			}
		}
	}
}
