package openai

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// FuzzSplice changes members of JSON in place: what comes out is JSON again, and says
// the same but for what was changed.
func FuzzSplice(f *testing.F) {
	for _, seed := range []string{`{}`, `{"model":"a"}`, ` {"x":[{"model":1}],"model":null , "z":"\"}"}`, `{"model":{"a":"]"},"usage":{}}`, `{"usage":null,"model":""}`, `[1]`, `{"m\u006fdel":1}`, `{"model"`, `"a"`, `{"a":1,,}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		in := []byte(raw)
		named, less := replaced(in, "model", []byte(`"n"`)), without(in, "model")
		if string(in) != raw {
			t.Fatalf("%q was changed", raw)
		}
		var was map[string]any
		if json.Unmarshal(in, &was) != nil || was == nil || strings.Count(raw, `"model"`) != 1 || strings.Contains(raw, `\u`) {
			return // nothing is promised but that nothing breaks
		}
		_, has := was["model"]
		var now, rest map[string]any
		if json.Unmarshal(named, &now) != nil || json.Unmarshal(less, &rest) != nil {
			t.Fatalf("%q became %q and %q", raw, named, less)
		}
		if _, still := rest["model"]; still || has && now["model"] != "n" || len(now) != len(was) {
			t.Errorf("%q became %q and %q", raw, named, less)
		}
	})
}

// TestThoughtsAreTakenOutHoweverTheyAreCut
func TestThoughtsAreTakenOutHoweverTheyAreCut(t *testing.T) {
	for text, want := range map[string]string{
		"<think>a</think>b": "b", "<think>a</think>\n\nb <c": "b <c", "x<think>a": "x", "a<think>b</think> <think>c</think>d": "ad", "<thi": "<thi", "plain": "plain", "": "",
	} {
		if got := stripped(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"<think>", "</think>", "<", "th", "a", " ", "é", "\n", "</thi"})).Draw(t, "parts"), "")
		var th thoughts
		got := ""
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "cut")
			got += th.piece(rest[:n])
			rest = rest[n:]
		}
		if got += th.rest(); got != stripped(text) {
			t.Fatalf("%q: %q in pieces, %q in one", text, got, stripped(text))
		}
	})
}

// FuzzChat reads the body of a chat and makes of it what is sent on.
func FuzzChat(f *testing.F) {
	for _, seed := range []string{
		`{"messages":[{"role":"user","content":"a"}]}`, `{"messages":[{"role":"user","content":[{"type":"text","text":"a"}],"x":1}],"temperature":0,"n":1,"tools":[]}`,
		`{"messages":[{"content":" \n[1]","role":"user"}],"max_tokens":99999999999,"response_format":{"type":"json_object"}}`, `{"messages":[]}`, `{"messages":[null]}`, `{"messages":{}}`, `{"messages":[ {} , {} ]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		var body map[string]json.RawMessage
		if json.Unmarshal([]byte(raw), &body) != nil {
			return
		}
		messages, _, _, err := cleaned(body["messages"])
		if err != nil {
			return
		}
		var all []map[string]any
		if json.Unmarshal(messages, &all) != nil || len(all) == 0 {
			t.Fatalf("%q became %q", raw, messages)
		}
		p := &passage{Chat: Chat{Set: map[string]any{"temperature": 0}}, set: []core.ChatField{{Name: "temperature", Value: []byte("0"), Set: true}}}
		chat, err := p.ask(&call{rawMessages: body["messages"]}, &door.Call{Params: &door.Params{}})
		if err != nil || chat.Tokens < 1 || !bytes.Equal(chat.Fields[0].Value, messages) {
			t.Fatalf("%q: %+v, %v", raw, chat, err)
		}
		p.key(chat, "c", false)
		if len(chat.Key) != 32 {
			t.Fatalf("%q", chat.Key)
		}
	})
}

// TestAnEventOfAStreamIsSentOnInRoomThatIsThere: hundreds of them come in a second, and
// what they leave behind is collected while the next one waits.
func TestAnEventOfAStreamIsSentOnInRoomThatIsThere(t *testing.T) {
	r := &relay{sending: &sending{k: &call{model: "m"}}, p: &passage{}, model: []byte(`"m"`)}
	data := []byte(`{"id":"chatcmpl-1","model":"gpt-5.4-nano","choices":[{"index":0,"delta":{"content":"a "},"finish_reason":null}],"usage":null}`)
	if n := testing.AllocsPerRun(100, func() { r.sent = r.event1(r.sent[:0], data) }); n != 0 {
		t.Errorf("an event leaves %v pieces of memory behind", n)
	}
	if want := `data: {"id":"chatcmpl-1","model":"m","choices":[{"index":0,"delta":{"content":"a "},"finish_reason":null}]}` + "\n\n"; string(r.sent) != want {
		t.Errorf("got %q, want %q", r.sent, want)
	}
	for data, want := range map[string]string{
		`{"usage":1,"usage":2,"model":"a"}`: `{"usage":2,"model":"m"}`, `{"usage":{}}`: `{}`, `{"model":1,"usage":{},"choices":[ ]}`: `{"model":"m","choices":[ ]}`,
		`{"choices":[],"usage":{}}`: "", `{"choices":[]}`: `{"choices":[]}`, `{"model":"a","choices":[{"delta":{"content":"é data: x"}}]}`: `{"model":"m","choices":[{"delta":{"content":"\u00e9 data\u003a x"}}]}`,
		`{"choices":[{"delta":{"content":"íata: x"}}]}`: `{"choices":[{"delta":{"content":"\u00edata\u003a x"}}]}`,
	} {
		if want != "" {
			want = "data: " + want + "\n\n"
		}
		if got := string(r.event1(nil, []byte(data))); got != want {
			t.Errorf("%s: got %q, want %q", data, got, want)
		}
	}
}

// FuzzEvent makes of an event what the client gets: one line of ASCII.
func FuzzEvent(f *testing.F) {
	for _, seed := range []string{`{"model":"a","choices":[{"delta":{"content":"<think>x"}}]}`, `{"choices":[],"usage":{"total_tokens":1}}`, `{"choices":[{"delta":{"content":"</think> é data: "},"finish_reason":"stop"}],"usage":null}`, `{"model":"íata: "}`, `{}`} {
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, data string, strip bool) {
		if !json.Valid([]byte(data)) || strings.ContainsAny(data, "\r\n") {
			return
		}
		p := &passage{}
		if strip {
			p.Strip = []string{"think"}
		}
		r := &relay{sending: &sending{k: &call{model: "m"}}, p: p, model: []byte(`"m"`)}
		out := string(r.event1(nil, []byte(data)))
		if out == "" {
			return
		}
		inner, ok := strings.CutPrefix(out, "data: ")
		inner, whole := strings.CutSuffix(inner, "\n\n")
		if !ok || !whole || strings.ContainsAny(inner, "\r\n") || strings.Contains(inner, "data:") || strings.ContainsFunc(inner, func(r rune) bool { return r > 0x7e }) || !json.Valid([]byte(inner)) {
			t.Errorf("%q became %q", data, out)
		}
	})
}
