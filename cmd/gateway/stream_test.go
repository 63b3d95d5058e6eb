package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// An event is one of a streamed answer.
type event struct {
	name   string
	Text   string
	Cached bool
	Error  *struct{ Kind, Message string }
}

// A reading is a streamed answer that is being read.
type reading struct {
	t     *testing.T
	lines *bufio.Scanner
}

// stream asks for one text as a stream, until ctx is over.
func (in *inside) stream(ctx context.Context, t *testing.T, text string) *reading {
	t.Helper()
	body, _ := json.Marshal(map[string]any{"text": text, "source": "en", "target": "es", "stream": true})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url+"/v1/translate", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	res, err := insecure.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("%d %s", res.StatusCode, got)
	}
	return &reading{t: t, lines: bufio.NewScanner(res.Body)}
}

// next returns the next event; its name is empty at the end.
func (r *reading) next() (e event) {
	r.t.Helper()
	for r.lines.Scan() {
		line := r.lines.Text()
		if line == "" && e.name != "" {
			return e
		}
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			e.name = name
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	if r.lines.Err() != nil {
		r.t.Fatal(r.lines.Err())
	}
	return event{}
}

// rest returns the text of all deltas up to the result, and the result.
func (r *reading) rest() (deltas []string, result event) {
	r.t.Helper()
	for {
		switch e := r.next(); e.name {
		case "delta":
			deltas = append(deltas, e.Text)
		case "result":
			if done := r.next(); done.name != "done" {
				r.t.Errorf("after the result comes %+v", done)
			}
			return deltas, e
		default:
			r.t.Fatalf("an event %+v after %q", e, deltas)
		}
	}
}

// patient is small with the time that a slow stream takes, and that a busy machine does.
var patient = strings.NewReplacer("deadline: 2s", "deadline: 20s", "timeout: 400ms", "timeout: 15s").Replace(small)

// long is long enough to be streamed in more than a few pieces, even if a stage
// holds its beginning back.
const long = "The night train to the coast leaves at nine from platform four. Sleeping cars are at the front, and the " +
	"dining car stands in the middle. Bicycles travel in the last coach, where a guard will help to lift them. " +
	"Please keep your ticket until the end of the journey, since it is looked at twice on the way. Breakfast is " +
	"served from six o'clock, an hour before the first stop by the sea."

func TestAnAnswerIsStreamedThroughTheChainAndCachedAfterwards(t *testing.T) {
	in := newInside(t, openaitest.Config{TokensPerSecond: 400}, patient)
	deltas, result := in.stream(t.Context(), t, long).rest()
	if strings.Join(deltas, "") != "[es] "+long || len(deltas) < 3 || result.Text != "[es] "+long || result.Cached {
		t.Errorf("deltas %q, result %+v", deltas, result)
	}
	if deltas, result := in.stream(t.Context(), t, long).rest(); len(deltas) > 0 || !result.Cached || result.Text != "[es] "+long {
		t.Errorf("cached: deltas %q, result %+v", deltas, result)
	}
	if stats, err := in.sim.Settled(patiently(t)); err != nil || stats.Chats != 1 || !stats.Records[0].Stream {
		t.Errorf("%d calls upstream, %v: %+v", stats.Chats, err, stats.Records)
	}
}

func TestAnAnswerThatBreaksOffAfterItBeganIsNotAskedForAgain(t *testing.T) {
	in := newInside(t, openaitest.Config{TokensPerSecond: 400}, patient)
	in.sim.FailNext(1, openaitest.Cut)
	deltas, result := in.stream(t.Context(), t, long).rest()
	if len(deltas) == 0 || result.Error == nil || result.Error.Kind != "provider_failed" {
		t.Errorf("deltas %q, result %+v", deltas, result)
	}
	if stats, err := in.sim.Settled(patiently(t)); err != nil || stats.Chats != 1 {
		t.Errorf("%d calls upstream, %v", stats.Chats, err)
	}
}

func TestAClientThatLeavesItsStreamEndsTheCallUpstream(t *testing.T) {
	in := newInside(t, openaitest.Config{}, patient)
	in.sim.FailNext(1, openaitest.Stall)
	ctx, leave := context.WithCancel(t.Context())
	if e := in.stream(ctx, t, long).next(); e.name != "delta" {
		t.Errorf("%+v", e)
	}
	leave()
	if stats, err := in.sim.Settled(patiently(t)); err != nil || stats.Aborted != 1 || stats.Chats != 1 {
		t.Errorf("%d calls upstream, %d aborted, %v", stats.Chats, stats.Aborted, err)
	}
	for m := in.measures(); m["queue_in_flight"] != 0 || m["cache_flights"] != 0; m = in.measures() {
	}
}

func TestAClientThatLeavesASharedStreamTakesNothingFromTheOther(t *testing.T) {
	in := newInside(t, openaitest.Config{TokensPerSecond: 100}, patient)
	ctx, leave := context.WithCancel(t.Context())
	if e := in.stream(ctx, t, long).next(); e.name != "delta" {
		t.Errorf("%+v", e)
	}
	other := in.stream(t.Context(), t, long)
	begins := other.next()
	if begins.name != "delta" || !strings.HasPrefix("[es] "+long, begins.Text) {
		t.Errorf("who joins begins with %+v", begins)
	}
	leave()
	deltas, result := other.rest()
	if got := begins.Text + strings.Join(deltas, ""); got != "[es] "+long || len(deltas) == 0 || result.Text != got {
		t.Errorf("%q then %q, result %+v", begins.Text, deltas, result)
	}
	if stats, err := in.sim.Settled(patiently(t)); err != nil || stats.Chats != 1 || stats.Aborted != 0 || in.measures()["cache_joins_total"] != 1 {
		t.Errorf("%d calls upstream, %d aborted, %v", stats.Chats, stats.Aborted, err)
	}
}
