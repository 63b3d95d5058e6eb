package openai

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestABatchKeepsCountOrderAndIDs whatever its texts are, and whatever becomes of them.
func TestABatchKeepsCountOrderAndIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.String(), 1, 20).Draw(t, "texts")
		out := make([]string, len(texts))
		for i := range out {
			out[i] = rapid.String().Draw(t, "translation")
		}
		type line struct {
			Position int    `json:"position"`
			Line     string `json:"line"`
		}
		type segment struct {
			ID   int    `json:"id"`
			Text string `json:"text"`
		}
		lines, segments := make([]line, len(texts)), make([]segment, len(texts))
		for i := range texts {
			lines[i], segments[i] = line{i * 3, texts[i]}, segment{i * 7, texts[i]}
		}
		object := rapid.Bool().Draw(t, "object")
		for _, shape := range []any{texts, lines, map[string]any{"targetLanguage": "es", "segments": segments}} {
			j, ok := batch(encode(shape), object)
			if !ok || len(j.texts) != len(texts) {
				t.Fatalf("%v is no batch of %d", shape, len(texts))
			}
			answer := j.join(out, func(int) string { return "en" })
			var got struct {
				Translations json.RawMessage
			}
			raw := []byte(answer)
			if json.Unmarshal(raw, &got) == nil && got.Translations != nil {
				raw = got.Translations
			}
			var items []json.RawMessage
			if err := json.Unmarshal(raw, &items); err != nil || len(items) != len(texts) {
				t.Fatalf("%s: %d items, want %d", answer, len(items), len(texts))
			}
			for i, item := range items {
				var one struct {
					Position, ID *int
					Line, Text   string
				}
				var plain string
				if json.Unmarshal(item, &plain) == nil {
					one.Text = plain
				} else if err := json.Unmarshal(item, &one); err != nil {
					t.Fatal(err)
				}
				if one.Line+one.Text != out[i] || one.Position != nil && *one.Position != i*3 || one.ID != nil && *one.ID != i*7 {
					t.Fatalf("item %d is %s", i, item)
				}
			}
		}
	})
}

// TestWhatIsStreamedIsTheText, though it is ASCII and says "data:" nowhere.
func TestWhatIsStreamedIsTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text") + rapid.SampledFrom([]string{"", "data:", "x data: y", "🎉\u2028"}).Draw(t, "more")
		line := ascii(encode(text))
		var back string
		if err := json.Unmarshal([]byte(line), &back); err != nil || back != text {
			t.Fatalf("%q became %q, %v", text, back, err)
		}
		if strings.Contains(line, "data:") || strings.ContainsFunc(line, func(r rune) bool { return r > 0x7e }) {
			t.Fatalf("%q", line)
		}
	})
}

func FuzzExtract(f *testing.F) {
	for _, seed := range []string{"x", `["a"]`, `{"targetLanguage":"es","segments":[{"id":1,"text":"a"}]}`, "a:\n\nb", "a\n%%\nb", "🔤 a 🔤", `"""a"""`, "#1\nOriginal>\n"} {
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, text string, format bool) {
		j, err := extract(asked{text: text, format: format})
		if err != nil {
			return
		}
		if len(j.texts) == 0 {
			t.Fatalf("%q: no text", text)
		}
		answer := j.join(j.texts, func(int) string { return "en" })
		if j.rule == "f" && answer != text {
			t.Errorf("%q was put together to %q", text, answer)
		}
	})
}
