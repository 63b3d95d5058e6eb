package openai

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
)

// answered is an answer as a server writes it.
type answered struct {
	status  int
	headers []string // names and values
	body    string
}

const fine = `{"model":"m1","choices":[{"finish_reason":"stop","message":{"role":"assistant","content":"hola"}}],"usage":{"prompt_tokens":9,"completion_tokens":2}}`

// A talker is a server that answers by what it is asked; it keeps what that was.
type talker struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []map[string]any
	heads  []http.Header
	paths  []string
}

func talk(t testing.TB, answer func(body map[string]any, n int) answered) *talker {
	s := &talker{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := map[string]any{}
		json.NewDecoder(r.Body).Decode(&body)
		s.mu.Lock()
		n := len(s.bodies)
		s.bodies, s.heads, s.paths = append(s.bodies, body), append(s.heads, r.Header.Clone()), append(s.paths, r.URL.RequestURI())
		s.mu.Unlock()
		a := answer(body, n)
		for i := 0; i < len(a.headers); i += 2 {
			w.Header().Set(a.headers[i], a.headers[i+1])
		}
		w.WriteHeader(a.status)
		io.WriteString(w, a.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *talker) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.bodies)
}

// Servers refuse a parameter in many ways: it is left out from then on.
func TestARefusedParameterIsFoundWhereverTheServerSaysIt(t *testing.T) {
	for _, c := range []struct {
		name, refused string
		status        int
		body          string
		streamed      bool
	}{
		{"OpenAI, old", "reasoning_effort", 400, `{"error":{"message":"Unrecognized request argument supplied: reasoning_effort","type":"invalid_request_error","param":null,"code":null}}`, false},
		{"OpenAI, value", "temperature", 400, `{"error":{"message":"Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.","type":"invalid_request_error","param":"temperature","code":"unsupported_value"}}`, false},
		{"Moonshot", "temperature", 400, `{"error":{"message":"invalid temperature: only 1 is allowed for this model","type":"invalid_request_error"}}`, false},
		{"Gemini, in a list", "reasoning_effort", 400, `[{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"Invalid JSON payload received. Unknown name \"reasoning_effort\": Cannot find field."}}]`, false},
		{"Gemini, its own name", "reasoning_effort", 400, `[{"error":{"code":400,"message":"Budget 0 is invalid. This model only works in thinking mode.","status":"INVALID_ARGUMENT"}}]`, false},
		{"Mistral", "max_completion_tokens", 422, `{"detail":[{"type":"extra_forbidden","loc":["body","max_completion_tokens"],"msg":"Extra inputs are not permitted","input":32}]}`, false},
		{"Mistral, in the message", "reasoning_effort", 422, `{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","reasoning_effort"],"msg":"Extra inputs are not permitted","input":"none"}]},"type":"invalid_request_error","code":null}`, false},
		{"Groq", "reasoning_effort", 400, "{\"error\":{\"message\":\"`reasoning_effort` is not supported with this model\",\"type\":\"invalid_request_error\"}}", false},
		{"xAI", "reasoning_effort", 400, `{"code":"Client specified an invalid argument","error":"Argument not supported on this model: reasoningEffort"}`, false},
		{"camel case", "max_completion_tokens", 400, `{"message":"maxCompletionTokens is not a valid field"}`, false},
		{"Ollama", "reasoning_effort", 400, `{"error":{"message":"think value \"none\" is not supported for this model","type":"api_error"}}`, false},
		{"a string", "temperature", 400, `{"error":"unknown field \"temperature\""}`, false},
		{"a list of words", "stream_options", 400, `{"errors":["unexpected property stream_options"]}`, true},
		{"JSON in a message", "max_completion_tokens", 400, `{"error":{"message":"{\"error\":{\"message\":\"Unsupported parameter\",\"param\":\"max_completion_tokens\"}}"}}`, false},
		{"an error with 200", "temperature", 200, `{"error":{"code":400,"message":"temperature is not supported"}}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			learnsToLeaveOut(t, c.refused, c.streamed, answered{c.status, []string{"Content-Type", "application/json"}, c.body})
		})
	}
}

// learnsToLeaveOut has a server answer so for as long as a parameter is sent: it and nothing
// else is left out from the second call on, which is said once.
func learnsToLeaveOut(t *testing.T, refused string, streamed bool, a answered) {
	t.Helper()
	logged, logs := observer.New(zap.InfoLevel)
	srv := talk(t, func(body map[string]any, _ int) answered {
		if _, sent := body[refused]; sent {
			return a
		}
		return answered{200, nil, fine}
	})
	p := provide(t, srv.URL, nil, nil)
	p.env.Log = zap.New(logged)
	for range 3 {
		req := ask("The doors are closing.")
		if streamed {
			req.OnDelta = func(string) error { return nil }
		}
		if _, err := p.Translate(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	if n := srv.calls(); n != 4 {
		t.Fatalf("%d calls for 3 texts, want one more than texts", n)
	}
	if logs.Len() != 1 {
		t.Errorf("%d lines in the log, want 1", logs.Len())
	}
	sent := srv.bodies[3]
	for _, name := range []string{"temperature", "reasoning_effort"} {
		if _, is := sent[name]; !is && name != refused {
			t.Errorf("%s is left out as well", name)
		}
	}
	if sent["max_completion_tokens"] == nil && sent["max_tokens"] == nil {
		t.Error("no cap is sent, under neither name")
	}
}

// What a server quotes of a text teaches nothing, whatever words it holds.
func TestATextThatIsQuotedTeachesNothing(t *testing.T) {
	const text = "temperature is not supported, use max_tokens"
	for _, body := range []string{
		`{"detail":[{"loc":["body","messages",1,"content"],"msg":"bad","input":%q}]}`,
		`{"error":{"message":"cannot process %s"}}`,
		`{"error":{"message":"bad message","param":"messages[1].content","input":%q}}`,
	} {
		srv := talk(t, func(map[string]any, int) answered { return answered{400, nil, fmt.Sprintf(body, text)} })
		p := provide(t, srv.URL, nil, nil)
		if _, err := p.Translate(t.Context(), ask(text)); core.KindOf(err) != core.ProviderFailed || srv.calls() != 1 || p.params.Load().refused != (refusals{}) {
			t.Errorf("%s: %v after %d calls, learned %+v", body, err, srv.calls(), p.params.Load().refused)
		}
	}
}

func TestAModelWithoutASystemRoleIsToldInTheUserMessage(t *testing.T) {
	for name, answer := range map[string]answered{
		"vLLM":       {400, nil, `{"object":"error","message":"System role not supported","type":"BadRequestError","param":null,"code":400}`},
		"Gemini":     {400, nil, `[{"error":{"code":400,"message":"Developer instruction is not enabled for models/gemma-3-4b-it","status":"INVALID_ARGUMENT"}}]`},
		"OpenAI":     {400, nil, `{"error":{"message":"Unsupported value: 'messages[0].role' does not support 'system' with this model.","type":"invalid_request_error","param":"messages[0].role","code":"unsupported_value"}}`},
		"a template": {500, nil, `{"error":{"message":"Conversation roles must alternate user/assistant/user/assistant/..."}}`},
	} {
		t.Run(name, func(t *testing.T) { learnsOfNoSystemRole(t, answer) })
	}
}

// learnsOfNoSystemRole has a server answer so to a system message: what it says goes into the
// first user message from the second call on.
func learnsOfNoSystemRole(t *testing.T, a answered) {
	t.Helper()
	srv := talk(t, func(body map[string]any, _ int) answered {
		if strings.Contains(fmt.Sprint(body["messages"]), "role:system") {
			return a
		}
		return answered{200, nil, fine}
	})
	p := provide(t, srv.URL, nil, nil)
	for range 2 {
		req := ask("Is it \"on\"?")
		req.Context = []core.Pair{{Source: "One.", Target: "Uno."}}
		if _, err := p.Translate(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	if srv.calls() != 3 {
		t.Errorf("%d calls for 2 texts, want 3", srv.calls())
	}
	messages := srv.bodies[2]["messages"].([]any)
	first, _ := messages[0].(map[string]any)
	if said := fmt.Sprint(first["content"]); len(messages) != 3 || first["role"] != "user" || !strings.HasPrefix(said, "Translate each user message from English") || !strings.HasSuffix(said, "\n\nOne.") {
		t.Errorf("asked with %v", messages)
	}
}

// What a server of one's own wants is known by the address alone.
func TestKeysAndAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		at     string
		path   string
		header string
		want   string
	}{
		"no key":          {func(c *Config) { c.APIKey = "" }, "/v1", "/v1/chat/completions", "Authorization", ""},
		"a key":           {func(c *Config) {}, "/v1/", "/v1/chat/completions", "Authorization", "Bearer " + key},
		"Azure":           {func(c *Config) { c.APIKey, c.Headers = "", map[string]core.Secret{"api-key": "az-0123456789"} }, "/openai/deployments/d?api-version=2024-10-21", "/openai/deployments/d/chat/completions?api-version=2024-10-21", "Api-Key", "az-0123456789"},
		"its own scheme":  {func(c *Config) { c.APIKey, c.Headers = "", map[string]core.Secret{"Authorization": "Api-Key y0"} }, "/v1", "/v1/chat/completions", "Authorization", "Api-Key y0"},
		"slash and query": {func(c *Config) { c.APIKey = "" }, "/a%2Fb/?x=1&y=2", "/a%2Fb/chat/completions?x=1&y=2", "Authorization", ""},
	} {
		t.Run(name, func(t *testing.T) {
			srv := talk(t, func(map[string]any, int) answered { return answered{200, nil, fine} })
			p := provide(t, srv.URL+c.at, nil, c.change)
			if err := p.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if _, err := p.Translate(t.Context(), ask("x")); err != nil {
				t.Fatal(err)
			}
			if srv.paths[0] != c.path || srv.heads[0].Get(c.header) != c.want {
				t.Errorf("%s with %q, want %s with %q", srv.paths[0], srv.heads[0].Get(c.header), c.path, c.want)
			}
		})
	}
}

func TestCallsWithoutAKeyThatLeaveTheMachineAreToldAtStart(t *testing.T) {
	for at, want := range map[string]int{
		"http://10.0.0.7:8000/v1": 1, "http://127.0.0.1:8000/v1": 0, "http://[::1]:8000/v1": 0, "http://localhost:8000/v1": 0, "https://llm.example.com/v1?api-key=0123456789": 0,
	} {
		logged, logs := observer.New(zap.InfoLevel)
		p := provide(t, at, nil, func(c *Config) { c.APIKey = "" })
		p.env.Log = zap.New(logged)
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Close()
		if logs.Len() != want {
			t.Errorf("%s: %d lines, want %d", at, logs.Len(), want)
		}
	}
}

func TestAWrongAddressIsToldWithWhatWasCalled(t *testing.T) {
	for at, hint := range map[string]string{"/v1?k=1": "was called", "": "such as /v1"} {
		srv := talk(t, func(map[string]any, int) answered { return answered{404, nil, "404 page not found"} })
		_, err := provide(t, srv.URL+at, nil, nil).Translate(t.Context(), ask("x"))
		if err == nil || !strings.Contains(err.Error(), hint) || !strings.Contains(err.Error(), "POST "+srv.URL) || strings.Contains(err.Error(), "k=1") {
			t.Errorf("%q: %v", at, err)
		}
	}
}

func TestAShortDummyKeyRedactsNothing(t *testing.T) {
	srv := talk(t, func(map[string]any, int) answered {
		return answered{500, nil, `{"error":{"message":"boxed engine","type":"x_error"}}`}
	})
	_, err := provide(t, srv.URL, nil, func(c *Config) { c.APIKey = "x" }).Translate(t.Context(), ask("Guten Tag"))
	if err == nil || !strings.Contains(err.Error(), "type x_error, message boxed engine") {
		t.Error(err)
	}
}

// The body is what request says, and no more.
func TestEveryParameterCanBeSwitchedOffAndMoreBeAdded(t *testing.T) {
	srv := talk(t, func(map[string]any, int) answered { return answered{200, nil, fine} })
	p := provide(t, srv.URL, nil, func(c *Config) {
		c.Request.ReasoningEffort = ""
		c.Request.Omit = []string{"temperature", "max_completion_tokens", "max_tokens", "store", "stream", "stream_options"}
		c.Request.Extra = map[string]any{"chat_template_kwargs": map[string]any{"enable_thinking": false}, "seed": 7}
	})
	req, _ := heard("x")
	if _, err := p.Translate(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	body := srv.bodies[0]
	delete(body, "messages")
	if got, want := fmt.Sprint(body), "map[chat_template_kwargs:map[enable_thinking:false] model:gpt-5.4-nano seed:7]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	plain := provide(t, srv.URL, nil, nil)
	if p.Fingerprint() == plain.Fingerprint() {
		t.Error("request.extra does not change the fingerprint")
	}
	p = provide(t, srv.URL, nil, func(c *Config) { c.Request.Extra = map[string]any{"temperature": 0.7, "max_tokens": 99} })
	var sent map[string]any
	raw := p.encode(ask("x"), p.params.Load(), false)
	if json.Unmarshal(raw, &sent); bytes.Count(raw, []byte(`"temperature"`)) != 1 || sent["temperature"] != 0.7 || sent["max_tokens"] != 99.0 || sent["max_completion_tokens"] != nil {
		t.Errorf("sent %s", raw)
	}
}

func packed(t *testing.T, how, s string) string {
	var b bytes.Buffer
	var w io.WriteCloser
	switch how {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zlib":
		w = zlib.NewWriter(&b)
	default:
		w, _ = flate.NewWriter(&b, flate.BestSpeed)
	}
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

// However an answer is framed, asked for as a stream or not, it is the same answer.
func TestTheFirstByteTellsJSONFromAStream(t *testing.T) {
	sse := strings.Join([]string{`data: {"model":"m1","choices":[{"delta":{"content":"ho"}}]}`, `data: {"choices":[{"delta":{"content":"la"}}]}`, stop, end}, "\n\n") + "\n\n"
	pretty := "data: {\ndata: \"choices\": [{\"delta\": {\"content\": \"hola\"},\ndata: \"finish_reason\": \"stop\"}]\ndata: }\n\n" + end + "\n\n"
	for name, a := range map[string]answered{
		"JSON":                       {200, nil, fine},
		"JSON as a stream":           {200, []string{"Content-Type", "text/event-stream"}, fine},
		"JSON as text":               {200, []string{"Content-Type", "text/plain"}, "\n \n" + fine},
		"a stream":                   {200, []string{"Content-Type", "text/event-stream"}, sse},
		"a stream as JSON":           {200, []string{"Content-Type", "application/json"}, sse},
		"a stream behind comments":   {200, []string{"Content-Type", "text/event-stream"}, ": PROCESSING\n\n: PROCESSING\n\n" + sse},
		"JSON behind comments":       {200, []string{"Content-Type", "application/json"}, ": PROCESSING\n\n\r\n" + fine},
		"a mark before JSON":         {200, nil, "\ufeff" + fine},
		"a mark before a stream":     {200, nil, "\ufeff" + sse},
		"the end of a stream behind": {200, nil, fine + "\n\ndata: [DONE]\n\n"},
		"a bare end behind":          {200, nil, fine + "\n[DONE]"},
		"events of several lines":    {200, []string{"Content-Type", "text/event-stream"}, pretty},
		"gzip":                       {200, []string{"Content-Encoding", "gzip"}, packed(t, "gzip", fine)},
		"deflate":                    {200, []string{"Content-Encoding", "deflate"}, packed(t, "zlib", fine)},
		"bare deflate":               {200, []string{"Content-Encoding", "deflate"}, packed(t, "flate", fine)},
		"gzip in name only":          {200, []string{"Content-Encoding", "gzip"}, fine},
		"a packed stream":            {200, []string{"Content-Encoding", "gzip", "Content-Type", "text/event-stream"}, packed(t, "gzip", sse)},
		"201":                        {201, nil, fine},
		"203":                        {203, nil, sse},
		"parts":                      {200, nil, `{"choices":[{"finish_reason":"stop","message":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"ho"},{"type":"output_text","text":"la"}]}}]}`},
		"parts in a stream":          {200, nil, `data: {"choices":[{"delta":{"content":[{"type":"text","text":"hola"}]},"finish_reason":"stop"}]}` + "\n\n"},
		"no usage":                   {200, nil, `{"choices":[{"finish_reason":"stop","message":{"content":"hola"}}],"usage":null}`},
		"usage in words":             {200, nil, `{"choices":[{"finish_reason":"stop","message":{"content":["hola"]}}],"usage":"some"}`},
		"delta in one piece":         {200, nil, `{"choices":[{"finish_reason":"end_turn","delta":{"content":"hola"}}]}`},
		"control characters":         {200, nil, `{"choices":[{"finish_reason":"STOP","message":{"content":"ho\u0000\u001b\u0008la"}}]}`},
		"a control in a stream":      {200, nil, `data: {"choices":[{"delta":{"content":"ho\u0000la"},"finish_reason":"stop"}]}` + "\n\n" + end},
	} {
		t.Run(name, func(t *testing.T) { isRead(t, a) })
	}
}

// isRead has a server answer so: it is read in full, whether or not a stream is wanted.
func isRead(t *testing.T, a answered) {
	t.Helper()
	for _, streamed := range []bool{false, true} {
		srv := talk(t, func(map[string]any, int) answered { return a })
		req, deltas := heard("hello")
		if !streamed {
			req.OnDelta = nil
		}
		res, err := provide(t, srv.URL, nil, nil).Translate(t.Context(), req)
		if err != nil || res.Text != "hola" || srv.calls() != 1 || res.Finish != core.FinishStop || len(res.Flags) > 0 {
			t.Fatalf("streamed %v: got %+v, %v after %d calls", streamed, res, err, srv.calls())
		}
		if heard := strings.Join(*deltas, ""); heard != "" && heard != "hola" {
			t.Errorf("streamed %v: heard %q", streamed, heard)
		}
	}
}

// A small body that unpacks to a large one is read no further than any other.
func TestAPackedBombIsBounded(t *testing.T) {
	bomb := packed(t, "gzip", `{"x":"`+strings.Repeat(" ", 2*exchange.MaxAnswer))
	for _, status := range []int{200, 500} {
		srv := talk(t, func(map[string]any, int) answered {
			return answered{status, []string{"Content-Encoding", "gzip"}, bomb}
		})
		for _, streamed := range []bool{false, true} {
			req, _ := heard("x")
			if !streamed {
				req.OnDelta = nil
			}
			if _, err := provide(t, srv.URL, nil, nil).Translate(t.Context(), req); core.KindOf(err) != core.ProviderFailed {
				t.Errorf("%d: %v", status, err)
			}
		}
	}
	srv := talk(t, func(map[string]any, int) answered { return answered{200, []string{"Content-Encoding", "br"}, "x"} })
	if _, err := provide(t, srv.URL, nil, nil).Translate(t.Context(), ask("x")); err == nil || !strings.Contains(err.Error(), "neither gzip nor deflate") {
		t.Error(err)
	}
}

func TestHalvesOfACharacterOverTwoPiecesAreOne(t *testing.T) {
	for _, pieces := range [][]string{{`"a\ud83d"`, `"\ude00b"`}, {`"a\\"`, `"\uD83D"`, `"\uDE00b"`}, {"\"a\xf0\x9f\"", "\"\x98\x80b\""}} {
		body := ""
		for _, piece := range pieces {
			body += `data: {"choices":[{"delta":{"content":` + piece + "}}]}\n\n"
		}
		srv := talk(t, func(map[string]any, int) answered { return answered{200, nil, body + stop + "\n\n" + end} })
		req, deltas := heard("x")
		res, err := provide(t, srv.URL, nil, nil).Translate(t.Context(), req)
		if want := strings.ReplaceAll("a"+strings.Repeat(`\`, len(pieces)-2)+"😀b", "\x00", ""); err != nil || res.Text != want || strings.Join(*deltas, "") != want {
			t.Errorf("%q: got %+v, %v, deltas %q", pieces, res, err, *deltas)
		}
	}
}

// Why an answer ended, in the words of many servers.
func TestReasonsToEnd(t *testing.T) {
	for reason, want := range map[string]core.ErrorKind{
		"stop": "", "STOP": "", "end_turn": "", "eos": "", "": "",
		"error": core.ProviderFailed, "abort": core.ProviderFailed, "insufficient_system_resource": core.ProviderFailed, "MALFORMED_FUNCTION_CALL": core.ProviderFailed, "tool_calls": core.ProviderFailed,
	} {
		if _, err := ended(t, reason); core.KindOf(err) != want {
			t.Errorf("%s: %v, want %q", reason, err, want)
		}
	}
	for reason, want := range map[string]core.Finish{"SAFETY": core.FinishFiltered, "sensitive": core.FinishFiltered, "MAX_TOKENS": core.FinishLength, "max_output_tokens": core.FinishLength} {
		if res, err := ended(t, reason); err != nil || res.Finish != want || !res.NoStore {
			t.Errorf("%s: %+v, %v", reason, res, err)
		}
	}
}

// ended has a server answer that ends for that reason.
func ended(t *testing.T, reason string) (*core.Result, error) {
	t.Helper()
	srv := talk(t, func(map[string]any, int) answered {
		return answered{200, nil, fmt.Sprintf(`{"choices":[{"finish_reason":%q,"message":{"content":"hola"}}]}`, reason)}
	})
	return provide(t, srv.URL, nil, nil).Translate(t.Context(), ask("x"))
}

// A reason on every piece of a stream cuts nothing, however slowly the pieces come.
func TestAFinishReasonOnEveryPieceCutsNothing(t *testing.T) {
	p, _ := canned(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for _, word := range []string{"", "uno", "", " dos", " tres"} {
			fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%q},\"finish_reason\":\"stop\"}]}\n\n", word)
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(exchange.Parting + exchange.Parting/4): // the pause that would end it
			}
		}
		io.WriteString(w, end+"\n\n")
	})
	p.cfg.Timeout = time.Minute
	req, _ := heard("one two three")
	if res, err := p.Translate(t.Context(), req); err != nil || res.Text != "uno dos tres" {
		t.Errorf("got %+v, %v", res, err)
	}
}

// What a server says of its health, of the account and of the text, in its own way.
func TestWhatAnErrorSays(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		kind   core.ErrorKind
		again  bool
		wait   time.Duration
	}{
		{"an error in a 200", 200, `{"error":{"code":429,"message":"Provider returned error"}}`, core.RateLimited, true, 0},
		{"an error in a 200, as words", 200, `{"error":"model overloaded"}`, core.ProviderFailed, true, 0},
		{"an error in a 200, flat", 200, `{"object":"error","message":"no such key","code":401}`, core.ProviderFailed, false, 0},
		{"an error in a stream", 200, `data: {"error":{"code":"429","message":"slow down, retry in 2s"}}` + "\n\n", core.RateLimited, true, 2 * time.Second},
		{"an error as words in a stream", 200, `data: {"error":"model overloaded"}` + "\n\n", core.ProviderFailed, true, 0},
		{"an event of an error", 200, "event: error\ndata: {\"message\":\"overloaded\",\"code\":503}\n\n", core.ProviderFailed, true, 0},
		{"Gemini's wait", 429, `[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"You exceeded your current quota, please check your plan and billing details. Please retry in 4.5s.","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"4s"}]}}]`, core.RateLimited, true, 4 * time.Second},
		{"a wait in words", 429, `{"error":{"message":"Rate limit reached. Please try again in 6m1.5s.","code":"rate_limit_exceeded"}}`, core.RateLimited, true, 6*time.Minute + 1500*time.Millisecond},
		{"a wait in milliseconds", 429, `{"error":{"message":"Please try again in 120ms."}}`, core.RateLimited, true, 120 * time.Millisecond},
		{"a wait as number", 503, `{"error":"loading","retry_after":20}`, core.ProviderFailed, true, 20 * time.Second},
		{"a wait in long words", 429, `{"message":"Please retry after 30 seconds."}`, core.RateLimited, true, 30 * time.Second},
		{"Moonshot's balance", 429, `{"error":{"message":"Your account is suspended due to insufficient balance","type":"exceeded_current_quota_error"}}`, core.QuotaExceeded, false, 0},
		{"DeepSeek's balance", 402, `{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}`, core.QuotaExceeded, false, 0},
		{"Qwen's balance", 400, `{"error":{"code":"Arrearage","message":"Access denied, please make sure your account is in good standing."}}`, core.QuotaExceeded, false, 0},
		{"xAI's balance", 403, `{"code":"The caller does not have permission","error":"Your team has either used all available credits or reached its monthly spending limit."}`, core.QuotaExceeded, false, 0},
		{"a reseller's balance", 403, `{"error":{"message":"用户额度不足","type":"new_api_error","code":"insufficient_user_quota"}}`, core.QuotaExceeded, false, 0},
		{"DeepSeek's moderation", 400, `{"error":{"message":"Content Exists Risk","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}`, core.ProviderRefused, false, 0},
		{"Qwen's moderation", 400, `{"error":{"code":"data_inspection_failed","message":"Input text data may contain inappropriate content."}}`, core.ProviderRefused, false, 0},
		{"Azure's moderation", 400, `{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}`, core.ProviderRefused, false, 0},
		{"xAI's moderation", 403, `{"code":"The caller does not have permission","error":"Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"}`, core.ProviderRefused, false, 0},
		{"Zhipu's moderation", 400, `{"error":{"code":"1301","message":"系统检测到输入或生成内容可能包含不安全或敏感内容"}}`, core.ProviderRefused, false, 0},
		{"OpenRouter's moderation", 403, `{"error":{"code":403,"message":"openai/gpt requires moderation. Your input was flagged","metadata":{"reasons":["violence"],"flagged_input":"x"}}}`, core.ProviderRefused, false, 0},
		{"vLLM's context", 400, `{"object":"error","message":"This model's maximum context length is 512 tokens. However, you requested 900 tokens (500 in the messages, 400 in the completion). Please reduce max_tokens.","type":"BadRequestError","param":null,"code":400}`, core.TooLarge, false, 0},
		{"llama.cpp's context", 400, `{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":900,"n_ctx":512}}`, core.TooLarge, false, 0},
		{"Gemini's context", 400, `[{"error":{"code":400,"message":"The input token count (40000) exceeds the maximum number of tokens allowed (32768).","status":"INVALID_ARGUMENT"}}]`, core.TooLarge, false, 0},
		{"Qwen's context", 400, `{"error":{"message":"Range of input length should be [1, 30720]","type":"invalid_request_error"}}`, core.TooLarge, false, 0},
		{"a packed error", 400, "", core.TooLarge, false, 0},
		{"a wrong key", 401, `{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}`, core.ProviderFailed, false, 0},
		{"case-sensitive", 400, `{"error":{"message":"names are case-sensitive"}}`, core.ProviderFailed, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := answered{c.status, nil, c.body}
			if c.body == "" {
				a = answered{c.status, []string{"Content-Encoding", "gzip"}, packed(t, "gzip", `{"error":{"code":"context_length_exceeded"}}`)}
			}
			fails(t, a, c.kind, c.again, c.wait)
		})
	}
}

// fails has a server answer so: the error is of that kind, whether or not a stream is wanted.
func fails(t *testing.T, a answered, kind core.ErrorKind, again bool, wait time.Duration) {
	t.Helper()
	srv := talk(t, func(map[string]any, int) answered { return a })
	for _, streamed := range []bool{false, true} {
		req, _ := heard("Guten Tag")
		if !streamed {
			req.OnDelta = nil
		}
		_, err := provide(t, srv.URL, nil, nil).Translate(t.Context(), req)
		e, _ := errors.AsType[*core.Error](err)
		if e == nil || e.Kind != kind || e.Retryable != again || e.RetryAfter != wait {
			t.Errorf("streamed %v: got %v, %+v, want %s, again %v, wait %v", streamed, err, e, kind, again, wait)
		}
	}
	if srv.calls() != 2 {
		t.Errorf("%d calls for 2 texts", srv.calls())
	}
}

func TestTheReasonOfAFailureIsInItsCauseAndTheTextIsNot(t *testing.T) {
	const text = "The Zanzibar contract ends."
	srv := talk(t, func(map[string]any, int) answered {
		return answered{500, nil, fmt.Sprintf(`{"error":{"message":"model overloaded while it read '%s' (%s)"}}`, text, strings.ToUpper(text))}
	})
	_, err := provide(t, srv.URL, nil, nil).Translate(t.Context(), ask(text))
	if err == nil || !strings.Contains(err.Error(), "model overloaded") || strings.Contains(strings.ToLower(err.Error()), "zanzibar") || strings.Contains(strings.ToLower(err.Error()), "contract") {
		t.Error(err)
	}
}

// A model that thinks is given the room for it at once, and from then on.
func TestAModelThatThinksGetsRoomAndKeepsIt(t *testing.T) {
	for name, spent := range map[string]string{
		"an empty answer": `{"choices":[{"finish_reason":"length","message":{"content":""}}]}`,
		"DeepSeek":        `{"choices":[{"finish_reason":"length","message":{"content":null,"reasoning_content":"Okay"}}]}`,
		"OpenRouter":      `{"choices":[{"finish_reason":"length","message":{"content":"","reasoning":"Okay"}}]}`,
		"Mistral":         `{"choices":[{"finish_reason":"length","message":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Okay"}]}]}}]}`,
		"Gemini":          `{"choices":[{"finish_reason":"MAX_TOKENS","message":{"role":"assistant"}}]}`,
		"in tags":         `{"choices":[{"finish_reason":"length","message":{"content":"<think>Okay, the user wants"}}]}`,
		"in a stream":     `data: {"choices":[{"delta":{"reasoning_content":"Okay"}}]}` + "\n\n" + `data: {"choices":[{"delta":{},"finish_reason":"length"}]}` + "\n\n" + end + "\n\n",
		"a word was left": `{"choices":[{"finish_reason":"length","message":{"content":"ho","reasoning":"Okay"}}]}`,
	} {
		for _, needs := range []float64{300, 3000} {
			t.Run(fmt.Sprintf("%s, %v tokens", name, needs), func(t *testing.T) { getsRoom(t, spent, needs) })
		}
	}
}

// getsRoom has a server answer so to calls with room for fewer tokens than it needs.
func getsRoom(t *testing.T, spent string, needs float64) {
	t.Helper()
	srv := talk(t, func(body map[string]any, _ int) answered {
		if n, _ := body["max_completion_tokens"].(float64); n < needs {
			return answered{200, nil, spent}
		}
		return answered{200, nil, fine}
	})
	p := provide(t, srv.URL, nil, nil)
	for range 10 {
		if res, err := p.Translate(t.Context(), ask("x")); err != nil || res.Text != "hola" || len(res.Flags) > 0 {
			t.Fatalf("got %+v, %v", res, err)
		}
	}
	if n := srv.calls(); n > 10+2 {
		t.Errorf("%d calls for 10 texts, want at most two more than texts", n)
	}
}

func TestAModelThatOnlyThinksFailsAfterThreeCalls(t *testing.T) {
	srv := talk(t, func(map[string]any, int) answered {
		return answered{200, nil, `{"choices":[{"finish_reason":"length","message":{"content":""}}],"usage":{"prompt_tokens":10,"completion_tokens":20}}`}
	})
	req := ask("x")
	_, err := provide(t, srv.URL, nil, nil).Translate(t.Context(), req)
	if u := core.AsError(err, "").Usage; core.KindOf(err) != core.ProviderFailed || srv.calls() != 3 || u.CompletionTokens != 60 {
		t.Errorf("%v after %d calls, usage %+v", err, srv.calls(), u)
	}
}

// An answer that was cut tells how much the next one in that language needs.
func TestTheCapIsLearnedForALanguage(t *testing.T) {
	srv := talk(t, func(map[string]any, int) answered {
		return answered{200, nil, `{"choices":[{"finish_reason":"length","message":{"content":"ho"}}]}`}
	})
	p := provide(t, srv.URL, nil, nil)
	text := strings.Repeat("word ", 40)
	var caps []int
	for _, target := range []core.Language{"es", "es-MX", "de", "lo", "my", "km", "am"} {
		req := ask(text)
		req.Target = target
		caps = append(caps, p.cap(req, p.params.Load()))
		if res, err := p.Translate(t.Context(), req); err != nil || !slices.Contains(res.Flags, core.FlagCut) {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	if caps[1] < 2*caps[0]-16 || caps[2] != caps[0] || slices.Min(caps[3:]) < 3*caps[0] {
		t.Errorf("caps %v", caps)
	}
	heir := provide(t, srv.URL, nil, nil)
	heir.Inherit(p)
	if heir.cap(ask(text), heir.params.Load()) != p.cap(ask(text), p.params.Load()) {
		t.Error("a provider built anew has forgotten it")
	}
}

// Who may translate may do so though the list of models is closed to the key.
func TestAClosedListOfModelsIsANoticeWhenChatsWork(t *testing.T) {
	for _, works := range []bool{true, false} {
		srv := talk(t, func(body map[string]any, _ int) answered {
			if works && body["messages"] != nil {
				return answered{200, nil, fine}
			}
			return answered{403, nil, `{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: api.model.read."}}`}
		})
		p := provide(t, srv.URL, nil, nil)
		err := p.Probe(t.Context())
		if works && (err != nil || !strings.Contains(p.Notice(), "may translate")) || !works && core.KindOf(err) != core.Unauthorized {
			t.Errorf("works %v: %v, notice %q", works, err, p.Notice())
		}
	}
}

func FuzzReadRefusal(f *testing.F) {
	for _, s := range []string{`{"error":{"message":"try again in 6m0s","code":429}}`, `[{"error":{"details":[{"retryDelay":"4s"}]}}]`, "data: {\"error\":\"x\"}\n\n", ": c\n\n{}", "\ufeff[[[[", `{"detail":[{"loc":["body",1]}]}`, "\x01", `{"error":{"message":"retry in ..s"}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := readRefusal(body)
		if d := r.toWait(); d < 0 || d > exchange.LongestWait {
			t.Fatalf("wait %v", d)
		}
		if len(r.Message) > longestSaid+1 || r.status() < 400 || r.status() > 599 {
			t.Fatalf("%+v", r)
		}
		r.refused([]string{"store", "temperature"})
	})
}

// However an error spreads its words, as many of them are read as there is room for.
func TestAnErrorOfManyLongMessagesIsOne(t *testing.T) {
	for _, words := range []string{`"message":"%s","detail":"x","title":"y"`, `"message":"%s","detail":["x","y","z"]`, `"message":"x","errors":{"a":"%s","b":"%[1]s","c":"%[1]s"}`} {
		body := `{"error":{` + fmt.Sprintf(words, strings.Repeat("é", longestSaid)) + `,"code":"rate_limit_exceeded"}}`
		if r := readRefusal([]byte(body)); !r.isError || r.Code != "rate_limit_exceeded" || len(r.Message) > longestSaid || !utf8.ValidString(r.Message) {
			t.Errorf("%.40s: %d bytes, code %q", words, len(r.Message), r.Code)
		}
	}
}

// What is kept while an answer of many parts is put together grows with the answer,
// not with its square.
func TestPartsArePutTogetherOnce(t *testing.T) {
	const n = 20_000
	for _, body := range []string{
		`{"choices":[{"message":{"content":[` + strings.Repeat(`"a",`, n-1) + `"a"]}}]}`,
		`[` + strings.Repeat(`{"choices":[{"delta":{"content":"a"}}]},`, n) + `{}]`,
	} {
		tree, ok := parse([]byte(body))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		says, is := loose(tree)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; !ok || !is || len(says.text) != n || took > 200*n {
			t.Errorf("%.40s: %d bytes of text, for which %d were taken", body, len(says.text), took)
		}
	}
}

// Thoughts at the beginning are told from a text in whatever pieces they come, and no
// piece is looked at again for them.
func TestThoughtsAreToldWhateverThePieces(t *testing.T) {
	for _, c := range []struct {
		text string
		want int
	}{
		{"hola", 0}, {" \n hola", 0}, {"<b>hola</b>", 0}, {"<thin", -1}, {"   ", -1}, {" <think>hm", -1}, {"<think>hm</think> \n", -1},
		{"<think>hm</think> hola", 18}, {" <thinking>a</think></thinking>\nhola", 32}, {"◁think▷ hm ◁/think▷hola", len("◁think▷ hm ◁/think▷")},
	} {
		var whole, pieces opening
		got := 0
		for i := range c.text {
			if got = pieces.end(c.text[:i]); got > 0 && got != c.want {
				t.Errorf("%q ends its thoughts at %d", c.text[:i], got)
			}
		}
		if got = pieces.end(c.text); got != c.want || whole.end(c.text) != c.want {
			t.Errorf("%q: %d in pieces, %d as a whole, want %d", c.text, got, whole.end(c.text), c.want)
		}
	}
	for _, begin := range []string{"", "<think>"} {
		var o opening
		if text := begin + strings.Repeat(" ", 1000); o.end(text) != -1 || o.at < len(text)-len("</think>") {
			t.Errorf("%d of %d bytes are looked at again", len(text)-o.at, len(text))
		}
	}
}
