package gateway

import (
	"context"
	"encoding/json"
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

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/coretest/property"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/live"
	"github.com/dragoman-mt/dragoman/core/live/livetest"
	"github.com/dragoman-mt/dragoman/core/live/traffic"
)

// A captioner is a client that asks for the whole text of a caption again and again, and
// knows nothing of sessions.
type captioner struct {
	name  string
	shape func(text string) (path, body string)
	read  func(answer string) string
	// leaves says that it gives up what it still waits for once a newer one is answered.
	leaves bool
}

// captioners send what LiveCaptions-Translator, obs-localvocal and LunaTranslator send.
var captioners = []captioner{
	{
		name: "LiveCaptions-Translator",
		shape: func(text string) (string, string) {
			return "/v1/chat/completions", sent(map[string]any{
				"model": "captions-es", "temperature": 1.0, "max_tokens": 128, "stream": false, "keep_alive": 600,
				"messages": []any{
					map[string]string{"role": "system", "content": "As an professional simultaneous interpreter, translate the sentence between 🔤 into es."},
					map[string]string{"role": "user", "content": "🔤 " + text + " 🔤"},
				},
			})
		},
		read: func(answer string) string {
			var a struct {
				Choices []struct{ Message struct{ Content string } }
			}
			if json.Unmarshal([]byte(answer), &a) != nil || len(a.Choices) != 1 {
				return "[ERROR] " + answer
			}
			return strings.TrimSpace(strings.ReplaceAll(a.Choices[0].Message.Content, "🔤", ""))
		},
		leaves: true,
	},
	{
		name: "obs-localvocal",
		shape: func(text string) (string, string) {
			return "/translate", sent(map[string]any{"q": text, "source": "__en__", "target": "__es__", "api_key": ""})
		},
		read: func(answer string) string {
			var a struct{ TranslatedText string }
			if json.Unmarshal([]byte(answer), &a) != nil {
				return "[ERROR] " + answer
			}
			return a.TranslatedText
		},
	},
	{
		name: "LunaTranslator",
		shape: func(text string) (string, string) {
			return "/v1/chat/completions", sent(map[string]any{
				"model": "captions-es", "temperature": 0, "top_p": 0.3, "max_tokens": 1024, "stream": true,
				"messages": []any{
					map[string]string{"role": "system", "content": "You translate English into Spanish."},
					map[string]string{"role": "user", "content": text},
				},
			})
		},
		read: func(answer string) (text string) {
			for line := range strings.Lines(answer) {
				data, is := strings.CutPrefix(strings.TrimSpace(line), "data: ")
				var a struct {
					Choices []struct{ Delta struct{ Content string } }
				}
				if is && json.Unmarshal([]byte(data), &a) == nil && len(a.Choices) == 1 {
					text += a.Choices[0].Delta.Content
				}
			}
			return text
		},
	},
}

func sent(body map[string]any) string {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// all makes all doors those of v.
func (v *virtual) all(t *testing.T, l live.Config) {
	v.doors = newDoors(*doorsSection.Of(v.file), l, t.TempDir(), v.service, door.NewMetrics(prometheus.NewRegistry()), zap.NewNop())
	v.door = v.doors.all()
}

// captioned is what clients have shown, and what it cost.
type captioned struct {
	calls, runes int
	finals       map[string]string // by session and segment
	lags         []time.Duration   // of finals
	spared       float64
}

// A recorder takes a stream, too.
type recorder struct{ *httptest.ResponseRecorder }

func (recorder) SetWriteDeadline(time.Time) error { return nil }

// caption plays a trace against a gateway in virtual time: each session is one of clients, and
// they all come from the same address.
func caption(t *testing.T, clients map[string]captioner, trace []traffic.Event, infer bool) (is captioned) {
	synctest.Test(t, func(t *testing.T) {
		is.finals = map[string]string{}
		var mu sync.Mutex
		v := virtually(t, `version: 1
doors: {openai: {models: {captions-es: {translate: {target: es}}}}}
providers: {main: {type: played}}
stages:
  - cache
  - queue: {max_concurrent: 6}
  - provider: {use: main}
  - postprocess
`, map[string]core.TranslatorFunc{"main": func(ctx context.Context, r *core.Request) (*core.Result, error) {
			mu.Lock()
			is.calls++
			is.runes += len([]rune(r.Text))
			mu.Unlock()
			select {
			case <-time.After(300 * time.Millisecond):
			case <-ctx.Done():
				return nil, core.ContextError(ctx, "test")
			}
			return &core.Result{Text: livetest.Translated(r.Text, r.Target)}, nil
		}})
		l := live.Defaults()
		l.Infer = infer
		v.all(t, l)
		defer v.close()
		defer v.doors.close()
		begin := time.Now()
		var all sync.WaitGroup
		pending := map[string][]context.CancelFunc{}
		for _, e := range trace {
			time.Sleep(time.Until(begin.Add(e.At())))
			c := clients[e.Session]
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			older := pending[e.Session]
			pending[e.Session] = append(older, cancel)
			all.Go(func() {
				defer cancel()
				at := time.Now()
				path, body := c.shape(e.Text)
				w := &recorder{httptest.NewRecorder()}
				r := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				v.door.ServeHTTP(w, r)
				if ctx.Err() != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if w.Code != http.StatusOK {
					t.Errorf("%s: %q is answered with %d: %s", c.name, e.Text, w.Code, w.Body)
				}
				if c.leaves {
					for _, leave := range older {
						leave()
					}
				}
				if e.Final {
					is.finals[e.Session+" "+e.Segment] = c.read(w.Body.String())
					is.lags = append(is.lags, time.Since(at))
				}
			})
		}
		all.Wait()
		v.doors.live.Measure(func(m core.Measure) {
			if m.Name == "live_inferred_spared_total" {
				is.spared = m.Value
			}
		})
	})
	return is
}

// Clients that know nothing of sessions cost at most half of the calls when they are
// recognised, and the last text of each segment has its own translation, to the letter.
func TestRecognisedCaptionClientsCostHalfAndLoseNoFinal(t *testing.T) {
	trace := traffic.Speech(len(captioners), 3*time.Minute, 9)
	clients := map[string]captioner{}
	for i, c := range captioners {
		clients[fmt.Sprint("session-", i+1)] = c
	}
	one := func(session string) (all []traffic.Event) {
		for _, e := range trace {
			if e.Session == session {
				all = append(all, e)
			}
		}
		return all
	}
	runs := map[string][]traffic.Event{"all at once, behind one address": trace}
	if !property.Raced { // one alone does what it does beside others, and less that could race
		for session, c := range clients {
			runs[c.name] = one(session)
		}
	}
	for what, trace := range runs {
		without, with := caption(t, clients, trace, false), caption(t, clients, trace, true)
		slices.Sort(with.lags)
		t.Logf("%s: %d texts, %d calls without and %d with, %.2f times the code points, final lag p50 %v p95 %v", what, len(trace), without.calls, with.calls,
			float64(with.runes)/float64(without.runes), with.lags[len(with.lags)/2], with.lags[len(with.lags)*95/100])
		if 2*with.calls > without.calls || without.spared > 0 || with.spared == 0 {
			t.Errorf("%s: %d calls, and %d when they are recognised; %v and %v are spared", what, without.calls, with.calls, without.spared, with.spared)
		}
		for _, e := range trace {
			if want, is := livetest.Translated(e.Text, "es"), with.finals[e.Session+" "+e.Segment]; e.Final && is != want {
				t.Errorf("%s: the final of %s is %q, want %q", clients[e.Session].name, e.Segment, is, want)
			}
		}
	}
}
