package openai

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

func bulk(n int) (reqs []*core.Request) {
	for i := range n {
		reqs = append(reqs, &core.Request{ID: "list", Text: fmt.Sprintf("Text %d \"quoted\"\nof two lines.", i), Source: "en", Target: "es", Lane: core.LaneBulk})
	}
	return reqs
}

// TestBulkTextsShareACompletion and each has its own translation and its part of the cost.
func TestBulkTextsShareACompletion(t *testing.T) {
	var calls atomic.Int64
	sim := simulate(t, openaitest.Config{Observe: func(_ *http.Request, body []byte) {
		calls.Add(1)
		if !strings.Contains(string(body), `"json_schema"`) {
			t.Errorf("no schema: %s", body)
		}
	}})
	p := provide(t, sim.URL(), sim.CA(), func(c *Config) { c.Timeout = 30 * time.Second })
	reqs := bulk(20)
	if n := p.Together(reqs); n != 20 {
		t.Fatalf("%d go together", n)
	}
	all, err := p.TranslateAll(t.Context(), reqs)
	if err != nil || len(all) != 20 || calls.Load() != 1 {
		t.Fatalf("%d results of %d calls: %v", len(all), calls.Load(), err)
	}
	prompt := 0
	for i, r := range all {
		if r == nil || r.Text != "[es] "+reqs[i].Text {
			t.Errorf("%d: %+v", i, r)
			continue
		}
		prompt += r.Usage.PromptTokens
	}
	if prompt < 100 {
		t.Errorf("all of them cost %d tokens", prompt)
	}
}

// TestOnlyWhatNobodyWaitsForSharesACompletion: a final of a live session goes alone.
func TestOnlyWhatNobodyWaitsForSharesACompletion(t *testing.T) {
	p := provide(t, "http://127.0.0.1:9/v1", nil, func(c *Config) { c.Timeout = 30 * time.Second })
	for name, change := range map[string]func(*core.Request){
		"final":   func(r *core.Request) { r.Lane = core.LaneFinal },
		"partial": func(r *core.Request) { r.Lane = core.LanePartial },
		"session": func(r *core.Request) { r.Session = "s" },
		"stream":  func(r *core.Request) { r.OnDelta = func(string) error { return nil } },
		"context": func(r *core.Request) { r.Context = []core.Pair{{Source: "a", Target: "b"}} },
	} {
		req := bulk(1)[0]
		if !p.Batches(req) {
			t.Error("a bulk text goes alone")
		}
		if change(req); p.Batches(req) {
			t.Errorf("%s: it waits for others", name)
		}
	}
	long := bulk(10)
	for _, r := range long {
		r.Text = strings.Repeat("A long sentence of many words. ", 60)
	}
	if n := p.Together(long); n < 1 || n > 3 {
		t.Errorf("%d long texts go together within 30 s", n)
	}
	if n := p.Together(bulk(100)); n < 20 || n > mostListed {
		t.Errorf("%d short texts go together within 30 s", n)
	}
	p.cfg.Timeout = time.Second
	if n := p.Together(bulk(100)); n > 3 {
		t.Errorf("%d texts go together within 1 s", n)
	}
}

// TestWhatIsMissingInAListIsNoTranslation of another text, whatever the model answers.
func TestWhatIsMissingInAListIsNoTranslation(t *testing.T) {
	for answer, want := range map[string][]string{
		`{"translations":[{"id":1,"text":"a"},{"id":2,"text":"b"},{"id":3,"text":"c"}]}`:                     {"a", "b", "c"},
		`{"translations":[{"id":3,"text":"c"},{"id":1,"text":"a"}]}`:                                         {"a", "", "c"},
		"Sure!\n```json\n" + `{"translations":[{"id":"1","text":"a"},{"id":2,"text":"b"}]}` + "\n```\nDone.": {"a", "b", ""},
		`[{"id":2,"text":"b"}]`: {"", "b", ""},
		`{"translations":[{"id":1,"text":"a"},{"id":1,"text":"x"},{"id":2,"text":"b"},{"id":9,"text":"z"},{"id":0,"text":"y"}]}`: {"", "b", ""},
		`{"translations":[{"id":1,"text":"a"},{"id":2,"text":"b`:                                                                 {"a", "", ""},
		`{"translations":[{"id":1,"text":"a"},{"id":2},{"id":3,"text":null}]}`:                                                   {"a", "", ""},
		`{"translations":{"1":"a"}}`: {"", "", ""},
		"a\nb\nc":                    {"", "", ""},
		"":                           {"", "", ""},
	} {
		if got := readList(answer, 3); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", answer, got, want)
		}
	}
}

// TestASchemaThatIsRefusedIsLeftOutFromThenOn, and a server that takes no list gets texts alone.
func TestASchemaThatIsRefusedIsLeftOutFromThenOn(t *testing.T) {
	var calls, schemas atomic.Int64
	refuses := `{"error":{"message":"Unsupported parameter: 'response_format' is not supported with this model.","type":"invalid_request_error","param":"response_format","code":"unsupported_parameter"}}`
	p, _ := canned(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "response_format") {
			schemas.Add(1)
			w.WriteHeader(400)
			io.WriteString(w, refuses)
			return
		}
		text, _ := json.Marshal(`{"translations":[{"id":1,"text":"uno"},{"id":2,"text":"dos"}]}`)
		fmt.Fprintf(w, `{"choices":[{"message":{"content":%s},"finish_reason":"stop"}],"usage":{"prompt_tokens":50,"completion_tokens":20}}`, text)
	})
	for range 2 {
		all, err := p.TranslateAll(t.Context(), bulk(2))
		if err != nil || all[0].Text != "uno" || all[1].Text != "dos" {
			t.Fatal(all, err)
		}
	}
	if calls.Load() != 3 || schemas.Load() != 1 {
		t.Errorf("%d calls, %d with a schema", calls.Load(), schemas.Load())
	}

	p, _ = canned(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(422)
		io.WriteString(w, `{"error":{"message":"no"}}`)
	})
	if _, err := p.TranslateAll(t.Context(), bulk(2)); err == nil || p.Batches(bulk(1)[0]) {
		t.Errorf("%v, and texts still go together", err)
	}
}

// FuzzList reads what a model may answer a list with.
func FuzzList(f *testing.F) {
	f.Add(`{"translations":[{"id":1,"text":"a"},{"id":2,"text":"b"}]}`, 2)
	f.Add(`[{"id":"2","text":null}`, 3)
	f.Fuzz(func(t *testing.T, answer string, n int) {
		if n < 0 || n > 100 {
			t.Skip()
		}
		if got := readList(answer, n); len(got) != n {
			t.Errorf("%d of %d", len(got), n)
		}
	})
}
