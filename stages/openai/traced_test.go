package openai

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
)

// recording is the tracer of nobody: that a span is recorded is what its context says.
func recording(req *core.Request, sampled bool) *core.Traced {
	span := &core.Traced{Context: core.SpanContext{}.Child()}
	span.Context.Sampled = sampled
	req.Trace.Follow(span, nil)
	return span
}

func TestASpanIsToldWhatWasAskedAndWhatTheAnswerIsCalled(t *testing.T) {
	// One parameter is refused at first, so what counts is what the second call sent.
	const answer = `{"id":%q,"object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Hola."}}],"usage":{"prompt_tokens":9,"completion_tokens":7,"completion_tokens_details":{"reasoning_tokens":4}}}`
	const pieces = "data: {\"id\":%[1]q,\"choices\":[{\"delta\":{\"content\":\"Hola.\"}}]}\n\ndata: {\"id\":%[1]q,\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":%[1]q,\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":7,\"completion_tokens_details\":{\"reasoning_tokens\":4}}}\n\ndata: [DONE]\n\n"
	text := func(*core.Request) {}
	chat := func(req *core.Request) {
		req.Chat = &core.Chat{Provider: "main", Model: "other", Fields: []core.ChatField{
			{Name: "messages", Value: []byte(`[{"role":"user","content":"geheim"}]`)}, {Name: "temperature", Value: []byte(`0.5`)}, {Name: "top_p", Value: []byte(`0.25`)},
			{Name: "n", Value: []byte(`2`)}, {Name: "seed", Value: []byte(`-7`)}, {Name: "stop", Value: []byte(`["geheim"]`)}, {Name: "max_tokens", Value: []byte(`"geheim"`)},
			{Name: "response_format", Value: []byte(`{"json_schema":{"type":"geheim"},"type":"json_schema"}`)},
		}}
	}
	streamed := func(ask func(*core.Request)) func(*core.Request) {
		return func(req *core.Request) { ask(req); req.OnDelta = func(string) error { return nil } }
	}
	for name, c := range map[string]struct {
		ask    func(*core.Request)
		id     string
		want   string // the parameters
		stream bool
		called string
	}{
		"a text":                     {text, "chatcmpl-1", "max_completion_tokens=100", false, "chatcmpl-1"},
		"a text in pieces":           {streamed(text), "chatcmpl-1", "max_completion_tokens=100", true, "chatcmpl-1"},
		"a chat":                     {chat, "chatcmpl-1", "top_p=0.25 n=2 seed=-7 response_format=json_schema", false, "chatcmpl-1"},
		"a chat in pieces":           {streamed(chat), "chatcmpl-1", "top_p=0.25 n=2 seed=-7 response_format=json_schema", true, "chatcmpl-1"},
		"a text for a name":          {text, "Sehr geheim", "max_completion_tokens=100", false, ""},
		"a text for a name in parts": {streamed(text), "geheim", "max_completion_tokens=100", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				switch {
				case strings.Contains(string(body), "temperature"):
					w.WriteHeader(http.StatusBadRequest)
					io.WriteString(w, `{"error":{"message":"Unsupported parameter: 'temperature' is not supported with this model.","type":"invalid_request_error","param":"temperature","code":"unsupported_parameter"}}`)
				case strings.Contains(string(body), `"stream":true`):
					w.Header().Set("Content-Type", "text/event-stream")
					fmt.Fprintf(w, pieces, c.id)
				default:
					fmt.Fprintf(w, answer, c.id)
				}
			}))
			defer server.Close()
			p := provide(t, server.URL, nil, nil)
			for _, sampled := range []bool{true, false} {
				req := ask("Very geheim.")
				c.ask(req)
				span := recording(req, sampled)
				if _, err := p.Translate(t.Context(), req); err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, f := range span.Parameters {
					value := string(f.Value)
					if f.Name == "max_completion_tokens" {
						value = "100" // it follows the length of the text
					}
					got = append(got, f.Name+"="+value)
				}
				want, called, thought := strings.Fields(c.want), c.called, 4
				if !sampled {
					want, called, thought = nil, "", 0
				}
				if !slices.Equal(got, want) || span.Stream != (c.stream && sampled) || span.AnswerID != called || span.Reasoning != thought {
					t.Errorf("recorded %v: %v, in pieces %v, called %q, %d tokens of thoughts", sampled, got, span.Stream, span.AnswerID, span.Reasoning)
				}
			}
		})
	}
}
