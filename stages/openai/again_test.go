package openai

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-mt/dragoman/core"
)

// streamed writes pieces as a stream of chunks that ends for finish.
func streamed(finish string, pieces ...string) string {
	var b strings.Builder
	for _, piece := range pieces {
		raw, _ := json.Marshal(piece)
		fmt.Fprintf(&b, "data: {\"choices\":[{\"delta\":{\"content\":%s}}]}\n\n", raw)
	}
	fmt.Fprintf(&b, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":%q}]}\n\ndata: [DONE]\n\n", finish)
	return b.String()
}

// Of a stream of which nothing was handed on yet another can be asked for at once.
func TestAStreamThatHasSaidNothingIsAskedForAgain(t *testing.T) {
	good := streamed("stop", "Hola", " mundo")
	for _, c := range []struct {
		name   string
		first  string
		deltas string
		calls  int
		kind   core.ErrorKind
	}{
		{"thoughts in tags that are cut", streamed("length", "<thi", "nk>Okay, the user", " wants"), "Hola| mundo", 2, ""},
		{"thoughts in other tags", streamed("length", "\n[THINK]", "Well"), "Hola| mundo", 2, ""},
		{"thoughts in tags that end", streamed("stop", "<think>Okay", "</think>", "\n\nHo", "la"), "Ho|la", 1, ""},
		{"a text that begins like a tag", streamed("stop", "<", "b>Hola</b>"), "<b>Hola</b>", 1, ""},
		{"a text that is the beginning of one", streamed("stop", "<"), "<", 1, ""},
		{"thoughts and an answer that is cut", streamed("length", "<think>Okay</think>Ho"), "Ho", 1, ""},
		{"an event that refuses a parameter", "data: {\"error\":{\"message\":\"Unsupported parameter: 'reasoning_effort' is not supported with this model.\",\"type\":\"invalid_request_error\",\"param\":\"reasoning_effort\"}}\n\n", "Hola| mundo", 2, ""},
		{"an event that refuses one, with a code", "data: {\"error\":{\"code\":400,\"message\":\"stream_options is not permitted\"}}\n\n", "Hola| mundo", 2, ""},
		{"an error behind a piece", "data: {\"choices\":[{\"delta\":{\"content\":\"Ho\"}}]}\n\ndata: {\"error\":{\"code\":400,\"message\":\"temperature is not permitted\"}}\n\n", "Ho", 1, core.ProviderFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := 0
			var bodies []string
			cfg := defaults()
			cfg.APIKey = "key"
			built, err := Kind().Build(core.Env{Name: "main", Log: zap.NewNop(), Upstream: answering(func(r *http.Request) (int, string, error) {
				calls++
				raw, _ := io.ReadAll(r.Body)
				bodies = append(bodies, string(raw))
				if calls == 1 {
					return 200, c.first, nil
				}
				return 200, good, nil
			})}, &cfg)
			if err != nil {
				t.Fatal(err)
			}
			req, deltas := heard("Hello world, how are you?")
			_, err = built.(*Provider).Translate(t.Context(), req)
			if core.KindOf(err) != c.kind || calls != c.calls || strings.Join(*deltas, "|") != c.deltas {
				t.Errorf("%d calls, deltas %q, %v; want %d, %q, %q", calls, *deltas, err, c.calls, c.deltas, c.kind)
			}
			if calls == 2 && bodies[0] == bodies[1] {
				t.Errorf("the second call asks for the same: %s", bodies[1])
			}
		})
	}
}
