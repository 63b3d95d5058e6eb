package native

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/dragoman-mt/dragoman/core"
)

// reference is the body as encoding/json reads it.
type reference struct {
	Text         any      `json:"text"`
	Source       string   `json:"source"`
	Target       string   `json:"target"`
	Targets      []string `json:"targets"`
	Format       string   `json:"format"`
	Formality    string   `json:"formality"`
	Glossary     any      `json:"glossary"`
	Context      any      `json:"context"`
	Instructions []string `json:"instructions"`
	Session      string   `json:"session"`
	Segment      string   `json:"segment"`
	Revision     int64    `json:"revision"`
	Final        bool     `json:"final"`
	Bulk         bool     `json:"bulk"`
	DeadlineMS   int64    `json:"deadline_ms"`
	NoCache      bool     `json:"no_cache"`
	Stream       bool     `json:"stream"`
	SessionUsage bool     `json:"session_usage"`
}

// glossary and context are what the decoder makes of these two.
func (r reference) glossary() (name string, terms map[string]any) {
	name, _ = r.Glossary.(string)
	terms, _ = r.Glossary.(map[string]any)
	return name, terms
}

func (r reference) context() (around string, pairs []core.Pair) {
	list, _ := r.Context.([]any)
	for _, item := range list {
		p := item.(map[string]any)
		pairs = append(pairs, core.Pair{Source: p["source"].(string), Target: p["target"].(string)})
	}
	around, _ = r.Context.(string)
	return around, pairs
}

func (r reference) texts() []string {
	switch t := r.Text.(type) {
	case string:
		return []string{t}
	case []any:
		out := []string{}
		for _, s := range t {
			out = append(out, s.(string))
		}
		return out
	}
	return nil
}

// FuzzDecode proves that whatever the decoder accepts, encoding/json reads the
// same way, and that whatever it refuses is refused with a reason of ours.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"text":"a","target":"es"}`, ` { "text" : [ "a" , "b\n\u00e9\ud83d\ude00\/" ] , "targets" : [ ] } `,
		`{"text":"a","source":null,"final":false,"revision":-0,"deadline_ms":12,"no_cache":true,"stream":true,"session_usage":true,"instructions":["x"]}`,
		`{"text":"a\ud800"}`, `{"text":"\udc00\ud800"}`, `{"revision":01}`, `{"revision":1e3}`, `{"t\u0065xt":"a"}`, `{"text":"a",}`,
		`{"glossary":"house","context":"about cars"}`, `{"glossary":{"a\u0041":"b","c":"d"},"context":[{"source":"x","target":"y"},{"target":"z","source":""}]}`,
		`{"glossary":{"a":"b","a":"c"}}`, `{"context":[{"source":"x"}]}`, `{"context":[{"source":"x","source":"y","target":"z"}]}`, `{"context":["x"]}`,
		`{"final":truefalse}`, `{"text":"a"}x`, `{"text":["a",]}`, "{\"text\":\"a\x00\"}", "\xff", `{"text"`, `{"text":"\`, `{"text":"\u12`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		got, err := decode(body)
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			e, ok := err.(*core.Error)
			if !ok || e.Kind != core.InvalidRequest || e.Detail == "" || !utf8.ValidString(e.Detail) {
				t.Fatalf("%q: %#v", body, err)
			}
			return
		}
		want := reference{Final: true}
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&want); err != nil || !json.Valid(body) {
			t.Fatalf("%q was accepted; encoding/json says %v", body, err)
		}
		clear(body) // nothing may depend on it any more
		if diff := cmp.Diff(want, reference{
			Text: want.Text, Format: got.format, Glossary: want.Glossary, Context: want.Context, Source: got.source, Target: got.target, Targets: got.targets, Formality: got.formality,
			Instructions: got.instructions, Session: got.session, Segment: got.segment, Revision: got.revision,
			Final: got.final, Bulk: got.bulk, DeadlineMS: got.deadlineMS, NoCache: got.noCache, Stream: got.stream, SessionUsage: got.sessionUsage,
		}); diff != "" {
			t.Errorf("%q (-encoding/json +ours):\n%s", before, diff)
		}
		name, terms := want.glossary()
		if name != got.glossary || len(terms) != len(got.terms) {
			t.Errorf("%q: glossary %q of %d terms", before, got.glossary, len(got.terms))
		}
		for _, p := range got.terms {
			if terms[p.Source] != p.Target {
				t.Errorf("%q: the term %q is %q", before, p.Source, p.Target)
			}
		}
		around, pairs := want.context()
		if diff := cmp.Diff(pairs, got.earlier); diff != "" || around != got.around {
			t.Errorf("%q: context %q, (-encoding/json +ours):\n%s", before, got.around, diff)
		}
		if diff := cmp.Diff(want.texts(), got.texts); diff != "" {
			t.Errorf("%q (-encoding/json +ours):\n%s", before, diff)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct{ name, body string }{
		{"plain", `{"text": "The meeting begins at nine o'clock in the large room upstairs.", "source": "en", "target": "es"}`},
		{"escapes", `{"text": ["La reuni\u00f3n \"empieza\" a las nueve\nen la sala.", "\ud83d\ude00"], "target": "es", "revision": 12, "final": true}`},
		{"long", `{"text": "` + strings.Repeat("The meeting begins at nine o'clock. ", 100) + `", "target": "es"}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			body := []byte(c.body)
			for b.Loop() {
				if _, err := decode(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
