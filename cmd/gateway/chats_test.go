package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/live"
	"github.com/dragoman-mt/dragoman/plugins/host"
)

// A backend is a server of chat completions that a test plays: reply says what it
// answers, and it remembers what it was asked.
type backend struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	heads  []http.Header
	reply  func(w http.ResponseWriter, r *http.Request, body string)
}

func newBackend(t *testing.T, reply func(w http.ResponseWriter, r *http.Request, body string)) *backend {
	t.Helper()
	b := &backend{reply: reply}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		b.bodies, b.heads = append(b.bodies, string(raw)), append(b.heads, r.Header.Clone())
		b.mu.Unlock()
		b.reply(w, r, string(raw))
	}))
	t.Cleanup(b.Close)
	return b
}

// calls returns how many there were, and the body of the last.
func (b *backend) calls() (int, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.bodies) == 0 {
		return 0, ""
	}
	return len(b.bodies), b.bodies[len(b.bodies)-1]
}

// indoors serves all doors of a gateway in this process, with what yaml says, and
// returns its URL.
func indoors(t *testing.T, yaml string) string {
	t.Helper()
	g := runs(t, yaml)
	service, metrics := door.New(*g.server, g.engine), door.NewMetrics(prometheus.NewRegistry())
	doors := newDoors(*doorsSection.Of(g.file), live.Defaults(), t.TempDir(), service, metrics, g.log)
	t.Cleanup(doors.close)
	s := httptest.NewServer(doors.all())
	t.Cleanup(s.Close)
	return s.URL
}

const completion = `{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"real-1","choices":[{"index":0,"message":{"role":"assistant","content":%s,"refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}`

// completes answers every chat with text, in one piece or streamed, as it is asked.
func completes(text string) func(http.ResponseWriter, *http.Request, string) {
	quoted, _ := json.Marshal(text)
	return func(w http.ResponseWriter, _ *http.Request, body string) {
		if !strings.Contains(body, `"stream":true`) {
			fmt.Fprintf(w, completion, quoted)
			return
		}
		chunk := `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"real-1","choices":[%s],"usage":%s}` + "\n\n"
		fmt.Fprintf(w, ": keep-alive\n\n"+chunk, `{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}`, "null")
		for word := range strings.SplitSeq(text, " ") {
			piece, _ := json.Marshal(word + " ")
			fmt.Fprintf(w, "event: x\n"+chunk, `{"index":0,"delta":{"content":`+string(piece)+`},"finish_reason":null}`, "null")
			w.(http.Flusher).Flush()
		}
		fmt.Fprintf(w, chunk, `{"index":0,"delta":{},"finish_reason":"stop"}`, "null")
		fmt.Fprintf(w, chunk, "", `{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}`)
		io.WriteString(w, "data: [DONE]\n\n")
	}
}

func chatting(upstream, more string) string {
	return `version: 1
log: {level: error}
doors:
  openai:
    models:
      gpt-4o-mini: {chat: {provider: main, set: {temperature: 0, reasoning_effort: none}, drop: [top_p], strip: [think]}}
      plain: {chat: {provider: main}}
      other: {chat: {provider: aside, model: special}}
      captions-es: {translate: {target: es}}
providers:
  main: {type: openai, api_key: sk-upstream-key, base_url: "` + upstream + `/v1", model: real-1}
  aside: {type: openai, api_key: sk-other-key, base_url: "` + upstream + `/v1", model: real-2, request: {pass_unknown: true}}
stages:
  - cache
  - ratelimit
  - queue: {max_concurrent: 8}
  - provider: {use: main` + more + `}
  - postprocess
`
}

func post(t *testing.T, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(raw)
}

// TestAChatPassesAsItWasAsked: nothing of it changes but the model and what the file
// says, and nothing of the answer but the model's name.
func TestAChatPassesAsItWasAsked(t *testing.T) {
	b := newBackend(t, completes(`<think>hm</think> 你好: "data: x"`))
	url := indoors(t, chatting(b.URL, ""))
	const messages = `[{"role":"system","content":"Echo \u00e9."},{"role":"user","content":[{"type":"text","text":"Hi"}],"name":"n"}]`
	for _, c := range []struct{ name, body, sent, content, model string }{
		{"what the file sets and drops", `{"model":"gpt-4o-mini","messages":` + messages + `,"temperature":1,"top_p":0.5,"think":false,"max_tokens":5,"api_key":"x"}`,
			`{"model":"real-1","messages":` + messages + `,"max_tokens":5,"reasoning_effort":"none","temperature":0}`, `你好: "data: x"`, "gpt-4o-mini"},
		{"nothing is set", `{"stop":["\n"],"model":"plain","messages":` + messages + `,"enable_thinking":false,"tools":[{"type":"function","function":{"name":"f"}}]}`,
			`{"model":"real-1","messages":` + messages + `,"stop":["\n"],"tools":[{"type":"function","function":{"name":"f"}}]}`, `<think>hm</think> 你好: "data: x"`, "plain"},
		{"another provider, another model, unknown parameters", `{"model":"other","messages":` + messages + `,"enable_thinking":false}`,
			`{"model":"special","messages":` + messages + `,"enable_thinking":false}`, "", "other"},
		{"keys of messages that are nobody's", `{"model":"plain","messages":[{"query_1":"x","role":"user","content":"a","z":{}}]}`,
			`{"model":"real-1","messages":[{"role":"user","content":"a"}]}`, "", "plain"},
		{"the model of a provider", `{"model":"real-2","messages":` + messages + `}`, `{"model":"real-2","messages":` + messages + `}`, "", "real-2"},
	} {
		res, body := post(t, url+"/v1/chat/completions", c.body, "Authorization", "Bearer sk-client", "X-Secret", "client")
		if _, sent := b.calls(); sent != c.sent {
			t.Errorf("%s: sent\n%s, want\n%s", c.name, sent, c.sent)
		}
		quoted, _ := json.Marshal(c.content)
		if c.content == "" {
			quoted, _ = json.Marshal(`<think>hm</think> 你好: "data: x"`)
		}
		if c.content != "" && strings.HasPrefix(c.content, "你") { // what was changed is written anew
			quoted = []byte(`"` + strings.ReplaceAll(c.content, `"`, `\"`) + `"`)
		}
		want := strings.Replace(fmt.Sprintf(completion, quoted), "real-1", c.model, 1) + "\n"
		if res.StatusCode != 200 || body != want {
			t.Errorf("%s: %d\n%s, want\n%s", c.name, res.StatusCode, body, want)
		}
		if res.Header.Get("X-Dragoman-Model") != "real-1" {
			t.Errorf("%s: %v", c.name, res.Header)
		}
	}
	for _, h := range b.heads {
		if h.Get("X-Secret") != "" || strings.Contains(fmt.Sprint(h), "sk-client") || !strings.HasPrefix(h.Get("Authorization"), "Bearer sk-") {
			t.Errorf("sent on: %v", h)
		}
	}
}

// TestAStreamPassesEventByEvent, framed as the strictest of its readers want it: one
// line of ASCII an event, no comments, no other fields, and usage for whom it asked.
func TestAStreamPassesEventByEvent(t *testing.T) {
	const text = `<think>a b</think> día 🎉 data: x end`
	b := newBackend(t, completes(text))
	url := indoors(t, chatting(b.URL, ""))
	for _, c := range []struct {
		model, more, text string
		events            int
		usage             bool
	}{
		{"plain", "", text + " ", 10, false},
		{"plain", `,"stream_options":{"include_usage":true}`, text + " ", 11, true},
		{"gpt-4o-mini", "", "día 🎉 data: x end ", 10, false},
		{"gpt-4o-mini", "", "día 🎉 data: x end ", 4, false}, // out of the cache
		{"plain", `,"temperature":0`, "", 0, false},
	} {
		res, raw := post(t, url+"/v1/chat/completions", `{"model":"`+c.model+`","stream":true,"messages":[{"role":"user","content":"x"}]`+c.more+`}`)
		if h := res.Header; h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-cache" || h.Get("X-Accel-Buffering") != "no" {
			t.Errorf("%v", h)
		}
		var events []string
		for line := range strings.SplitSeq(strings.TrimSuffix(raw, "\n\n"), "\n\n") {
			data, ok := strings.CutPrefix(line, "data: ")
			if !ok || strings.ContainsAny(data, "\n") || strings.Contains(data, "data:") || strings.ContainsFunc(data, func(r rune) bool { return r > 0x7e }) {
				t.Errorf("%q", line)
			}
			events = append(events, data)
		}
		got, finish, usage := "", "", false
		for _, e := range events[:len(events)-1] {
			var chunk struct {
				Model   string
				Choices []struct {
					Delta  struct{ Content string }
					Finish string `json:"finish_reason"`
				}
				Usage *struct{ Total int }
			}
			if err := json.Unmarshal([]byte(e), &chunk); err != nil || chunk.Model != c.model {
				t.Errorf("%v: %s", err, e)
			}
			if !c.usage && strings.Contains(e, `"usage"`) {
				t.Errorf("usage that nobody asked for: %s", e)
			}
			usage = usage || chunk.Usage != nil
			for _, choice := range chunk.Choices {
				got += choice.Delta.Content
				finish += choice.Finish
			}
		}
		if c.text == "" {
			continue
		}
		if got != c.text || finish != "stop" || usage != c.usage || events[len(events)-1] != "[DONE]" || len(events) != c.events {
			t.Errorf("%+v: %q, %q, usage %v, %d events", c, got, finish, usage, len(events))
		}
	}
}

// TestOnlyDeterministicChatsAreStored, streamed and whole ones alike, and a client that
// asks for the same structure again soon has a new one: it could not use the first.
func TestOnlyDeterministicChatsAreStored(t *testing.T) {
	b := newBackend(t, completes(`["ok"]`))
	url := indoors(t, chatting(b.URL, ""))
	for _, c := range []struct {
		body, how string
		calls     int
		header    []string
	}{
		{`{"model":"plain","messages":[{"role":"user","content":"x"}]}`, "off", 1, nil},
		{`{"model":"plain","messages":[{"role":"user","content":"x"}]}`, "off", 2, nil},
		{`{"model":"plain","temperature":0,"messages":[{"role":"user","content":"x"}]}`, "miss", 3, nil},
		{`{"model":"plain","temperature":0,"messages":[{"role":"user","content":"x"}]}`, "hit", 3, nil},
		{`{"model":"plain","user":"u","stream":true,"temperature":0.0,"messages":[{"role":"user","content":"x"}]}`, "miss", 4, nil}, // 0.0 is another writing
		{`{"model":"plain","user":"v","temperature":0.0,"messages":[{"role":"user","content":"x"}]}`, "hit", 4, nil},
		{`{"model":"plain","temperature":0,"messages":[{"role":"user","content":"x"}]}`, "miss", 5, []string{"Cache-Control", "no-cache"}},
		{`{"model":"plain","temperature":0,"messages":[{"role":"user","content":"x"}]}`, "off", 6, []string{"Cache-Control", "no-store"}},
		{`{"model":"plain","temperature":0,"n":2,"messages":[{"role":"user","content":"x"}]}`, "off", 7, nil},
		{`{"model":"gpt-4o-mini","temperature":1,"messages":[{"role":"user","content":"x"}]}`, "miss", 8, nil},
		{`{"model":"gpt-4o-mini","temperature":0.3,"messages":[{"role":"user","content":"x"}]}`, "hit", 8, nil},
		{`{"model":"plain","temperature":0,"messages":[{"role":"user","content":"[\"a\"]"}]}`, "miss", 9, nil},
		{`{"model":"plain","temperature":0,"messages":[{"role":"user","content":"[\"a\"]"}]}`, "miss", 10, nil},
	} {
		res, body := post(t, url+"/v1/chat/completions", c.body, c.header...)
		if n, _ := b.calls(); n != c.calls || res.Header.Get("X-Dragoman-Cache") != c.how {
			t.Errorf("%s: %s, %d calls; want %s, %d: %s", c.body, res.Header.Get("X-Dragoman-Cache"), n, c.how, c.calls, body)
		}
	}
}

// TestWhatAChatMeetsIsToldInTheWordsOfTheAPI
func TestWhatAChatMeetsIsToldInTheWordsOfTheAPI(t *testing.T) {
	var answer func(w http.ResponseWriter)
	b := newBackend(t, func(w http.ResponseWriter, _ *http.Request, _ string) { answer(w) })
	url := indoors(t, chatting(b.URL, ", retries: 0, breaker: {failures: 0}"))
	with := func(status int, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(status); io.WriteString(w, body) }
	}
	for _, c := range []struct {
		name, body string
		answer     func(http.ResponseWriter)
		status     int
		want       string
	}{
		{"a wrong value", `{"model":"plain","temperature":9,"messages":[{"role":"user","content":"secretword"}]}`,
			with(400, `{"error":{"message":"Invalid 'temperature': secretword is above 2.","type":"invalid_request_error","param":"temperature","code":"decimal_above_max_value"}}`), 400, `"param":"temperature"`},
		{"too long", `{"model":"plain","messages":[{"role":"user","content":"x"}]}`, with(400, `{"error":{"message":"too long","code":"context_length_exceeded"}}`), 400, `"code":"context_length_exceeded"`},
		{"a filter", `{"model":"plain","messages":[{"role":"user","content":"x"}]}`, with(400, `{"error":{"message":"no","code":"content_filter"}}`), 400, `"code":"content_filter"`},
		{"the upstream's key", `{"model":"plain","messages":[{"role":"user","content":"x"}]}`, with(401, `{"error":{"message":"Incorrect API key provided: sk-upstream-key","code":"invalid_api_key"}}`), 502, `"code":"upstream_error"`},
		{"a page", `{"model":"plain","messages":[{"role":"user","content":"x"}]}`, with(502, `<html>secretword</html>`), 502, `"code":"upstream_error"`},
		{"no completion", `{"model":"plain","messages":[{"role":"user","content":"x"}]}`, with(200, `{"ok":true}`), 502, `"code":"upstream_error"`},
		{"an error that says it is none", `{"model":"plain","messages":[{"role":"user","content":"x"}]}`, with(200, `{"error":{"message":"boom","code":500}}`), 502, `"code":"upstream_error"`},
		{"no messages", `{"model":"plain"}`, nil, 400, `"param":"messages"`},
		{"messages that are none", `{"model":"plain","messages":["x"]}`, nil, 400, `"param":"messages"`},
		{"a stream that fails before it begins", `{"model":"plain","stream":true,"messages":[{"role":"user","content":"x"}]}`, with(500, ``), 502, `"code":"upstream_error"`},
		{"nobody is meant", `{"model":"gpt-9","messages":[{"role":"user","content":"x"}]}`, nil, 404, `"code":"model_not_found"`},
	} {
		answer = c.answer
		res, body := post(t, url+"/v1/chat/completions", c.body)
		if res.StatusCode != c.status || !strings.Contains(body, c.want) || !strings.HasPrefix(body, `{"error":{"message":`) || strings.Contains(body, "secretword") || strings.Contains(body, "sk-") {
			t.Errorf("%s: %d %s, want %d with %s", c.name, res.StatusCode, body, c.status, c.want)
		}
	}
	answer = func(w http.ResponseWriter) {
		io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"a"}}]}`+"\n\n"+`data: {"error":{"message":"boom","code":"server_error"}}`+"\n\n")
	}
	if res, body := post(t, url+"/v1/chat/completions", `{"model":"plain","stream":true,"messages":[{"role":"user","content":"x"}]}`); res.StatusCode != 200 || !strings.Contains(body, `data: {"error":{"message":`) || strings.Contains(body, "[DONE]") {
		t.Errorf("a stream that breaks off: %d %s", res.StatusCode, body)
	}
}

// TestARefusedParameterIsLearnedOnceAndAWrongValueNever: one client's mistake changes
// nothing for the others.
func TestARefusedParameterIsLearnedOnceAndAWrongValueNever(t *testing.T) {
	b := newBackend(t, nil)
	b.reply = func(w http.ResponseWriter, r *http.Request, body string) {
		refuse := func(name, code, message string) {
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"error":{"message":"%s","type":"invalid_request_error","param":"%s","code":"%s"}}`, message, name, code)
		}
		switch {
		case strings.Contains(body, `"max_tokens"`):
			refuse("max_tokens", "unsupported_parameter", "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
		case strings.Contains(body, `"temperature":0}`), strings.Contains(body, `"temperature":0,`):
			refuse("temperature", "unsupported_value", "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.")
		case strings.Contains(body, `"temperature":7`):
			refuse("temperature", "decimal_above_max_value", "Invalid 'temperature': must be at most 2.")
		default:
			completes("ok")(w, r, body)
		}
	}
	url := indoors(t, chatting(b.URL, ""))
	for _, c := range []struct {
		more   string
		status int
		calls  int
		sent   string
	}{
		{`,"max_tokens":7`, 200, 2, `"max_completion_tokens":7}`},
		{`,"max_tokens":8`, 200, 3, `"max_completion_tokens":8}`},
		{`,"temperature":0`, 200, 5, `"content":"x"}]}`},
		{`,"temperature":0`, 200, 6, `"content":"x"}]}`}, // another answer than was asked for is not stored
		{`,"temperature":7`, 400, 7, `"temperature":7}`},
		{`,"temperature":1`, 200, 8, `"temperature":1}`},
	} {
		res, body := post(t, url+"/v1/chat/completions", `{"model":"plain","messages":[{"role":"user","content":"x"}]`+c.more+`}`)
		if n, sent := b.calls(); res.StatusCode != c.status || n != c.calls || !strings.HasSuffix(sent, c.sent) {
			t.Errorf("%s: %d, call %d %s: %s; want %d, call %d %s", c.more, res.StatusCode, n, sent, body, c.status, c.calls, c.sent)
		}
	}
}

// TestAFallbackOfAChatTakesChats: another server answers with its own model, and its
// answer is not stored.
func TestAFallbackOfAChatTakesChats(t *testing.T) {
	bad := newBackend(t, func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(500) })
	good := newBackend(t, completes("fine"))
	yaml := strings.Replace(chatting(bad.URL, ", fallback: [aside], retries: 0"), `aside: {type: openai, api_key: sk-other-key, base_url: "`+bad.URL, `aside: {type: openai, api_key: sk-other-key, base_url: "`+good.URL, 1)
	url := indoors(t, yaml)
	for range 2 {
		res, body := post(t, url+"/v1/chat/completions", `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"x"}]}`)
		if _, sent := good.calls(); res.StatusCode != 200 || !strings.Contains(body, `"content":"fine"`) || res.Header.Get("X-Dragoman-Flags") != "fallback" || !strings.HasPrefix(sent, `{"model":"real-2"`) {
			t.Errorf("%d %v %s, sent %s", res.StatusCode, res.Header, body, sent)
		}
	}
	if n, _ := good.calls(); n != 2 {
		t.Errorf("%d calls of the fallback, want 2", n)
	}
	// What was meant for the fallback never goes to the one it stands in for.
	before, _ := bad.calls()
	good.reply = bad.reply
	if res, _ := post(t, url+"/v1/chat/completions", `{"model":"other","messages":[{"role":"user","content":"x"}]}`); res.StatusCode != 502 {
		t.Errorf("%d", res.StatusCode)
	}
	if after, _ := bad.calls(); after != before {
		t.Errorf("%d calls went back", after-before)
	}
}

// TestAChatThatIsAskedTwiceIsOneCall of the same client, and a client that leaves ends it.
func TestAChatThatIsAskedTwiceIsOneCall(t *testing.T) {
	going, left := make(chan struct{}), make(chan struct{}, 1)
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if strings.Contains(body, "leaves") {
			io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"a"}}]}`+"\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			left <- struct{}{}
			return
		}
		<-going
		completes("fine")(w, r, body)
	})
	url := indoors(t, chatting(b.URL, ""))
	for _, stream := range []string{"false", "true"} {
		var all sync.WaitGroup
		hows := make(chan string, 2)
		for range 2 {
			all.Go(func() {
				res, body := post(t, url+"/v1/chat/completions", `{"model":"plain","stream":`+stream+`,"messages":[{"role":"user","content":"once"}]}`)
				if !strings.Contains(body, "fine") {
					t.Errorf("%s", body)
				}
				hows <- res.Header.Get("X-Dragoman-Cache")
			})
		}
		time.AfterFunc(200*time.Millisecond, func() { going <- struct{}{} })
		all.Wait()
		if a, b := <-hows, <-hows; a+b != "offjoin" && a+b != "joinoff" {
			t.Errorf("%s and %s", a, b)
		}
	}
	if n, _ := b.calls(); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
	ctx, leave := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(`{"model":"plain","stream":true,"messages":[{"role":"user","content":"leaves"}]}`))
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || !strings.Contains(line, `"a"`) {
		t.Errorf("%q, %v", line, err)
	}
	leave()
	res.Body.Close()
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Error("the call upstream goes on")
	}
}

// TestAChatCountsForItsKey with all that it says, streamed or not, stored or not, and one that
// is over the limit is never asked for.
func TestAChatCountsForItsKey(t *testing.T) {
	b := newBackend(t, completes("fine"))
	const key, other = "sk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "sk-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	url := indoors(t, chatting(b.URL, "")+`server: {keys: [{name: few, key: `+key+`, characters_per_month: 40}, {name: many, key: `+other+`}]}`+"\n")
	used := 0
	for _, call := range []struct {
		path, body string
		characters int
	}{
		{"/v1/chat/completions", `{"model":"plain","messages":[{"role":"system","content":"één"},{"role":"user","content":[{"type":"text","text":"twee"},{"type":"image_url","image_url":{}}],"x":1}]}`, 7},
		{"/v1/chat/completions", `{"model":"plain","stream":true,"messages":[{"role":"user","content":"drie"},{"role":"assistant","content":null},{"role":"user","content":"🎉"}]}`, 5},
		{"/v1/chat/completions", `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"stored"}]}`, 6},
		{"/v1/chat/completions", `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"stored"}]}`, 6},
		{"/v1/responses", `{"model":"plain","instructions":"vier","input":"vijf"}`, 8},
	} {
		for _, k := range []string{key, other} {
			if res, body := post(t, url+call.path, call.body, "Authorization", "Bearer "+k); res.StatusCode != 200 {
				t.Fatalf("%s: %d %s", call.body, res.StatusCode, body)
			}
		}
		used += call.characters
		for _, k := range []string{key, other} {
			if _, body := post(t, url+"/v2/usage", "", "Authorization", "Bearer "+k); !strings.Contains(body, fmt.Sprintf(`"character_count":%d,`, used)) {
				t.Errorf("after %s: %s, want %d", call.body, body, used)
			}
		}
	}
	before, _ := b.calls()
	res, body := post(t, url+"/v1/chat/completions", `{"model":"plain","messages":[{"role":"user","content":"nine and more"}]}`, "Authorization", "Bearer "+key)
	if res.StatusCode != 429 || !strings.Contains(body, `"code":"insufficient_quota"`) {
		t.Errorf("over the limit: %d %s", res.StatusCode, body)
	}
	if after, _ := b.calls(); after != before {
		t.Error("what is over the limit was asked for")
	}
}

// TestADoorsProviderIsOneThatTakesChats is what the file hears at its place.
func TestADoorsProviderIsOneThatTakesChats(t *testing.T) {
	for _, c := range []struct{ doors, want string }{
		{`default: nobody`, `doors.openai.default: there is no provider "nobody"`},
		{`models: {x: {chat: {provider: rough}}}`, `takes no chats`},
		{`models: {x: {chat: {provider: main, set: {stream: true}}}}`, `x.chat.set: stream cannot be set`},
		{`models: {x: {chat: {provider: main}, translate: {target: es}}}`, `leave one of them out`},
		{`models: {x: {chat: {provider: main, strip: [all]}}}`, `strip`},
	} {
		path := filepath.Join(t.TempDir(), "pipeline.yaml")
		yaml := "version: 1\ndoors: {openai: {" + c.doors + "}}\nproviders:\n  main: {type: openai, api_key: x}\n  rough: {type: plugin, command: [nothing]}\nstages:\n  - provider: {use: main}\n"
		if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := program{}.load(config.Options{File: path}, host.New())
		if err == nil {
			var g *gateway
			if g, err = build(file); err == nil {
				g.close(0)
			}
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "pipeline.yaml:2:") {
			t.Errorf("%s: %v, want %s", c.doors, err, c.want)
		}
	}
}

// TestExplainSaysWhatChatsPassBy
func TestExplainSaysWhatChatsPassBy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipeline.yaml")
	if err := os.WriteFile(path, []byte(chatting("http://127.0.0.1:9", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := program{}.load(config.Options{File: path}, host.New())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	explain(&out, file.File)
	for _, want := range []string{"chats go through cache, ratelimit, queue, provider to main, aside", "chats pass by postprocess"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String()[:1500])
		}
	}
}
