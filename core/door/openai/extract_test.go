package openai

import (
	"encoding/json"
	"slices"
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

// FuzzExtract: whatever is translated goes back in the shape in which it came, with as many
// texts.
func FuzzExtract(f *testing.F) {
	for _, seed := range []string{"x", `["a"]`, `{"targetLanguage":"es","segments":[{"id":1,"text":"a"}]}`, "a:\n\nb", "a\n%%\nb", "🔤 a 🔤", `"""a"""`, "#1\nOriginal>\n",
		`[{"position":1,"line":"a"}]`, `{"history":[{"source":"a","translation":"b"}],"lines":[{"n":1,"text":"a"}]}`, `{"target_language":"es","strings":[{"source":"@@PH1@@"}]}`, "{}\n{}", "```json\n[1]\n```", "a\r\n==WEBLATE_PART==\r\n"} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, text string, format bool) {
		j, err := extract(asked{text: text, format: format})
		if err != nil {
			return
		}
		if len(j.texts) == 0 {
			t.Fatalf("%q: no text", text)
		}
		translations := make([]string, len(j.texts))
		for i, one := range j.texts {
			if translations[i] = one; strings.TrimSpace(one) != "" {
				translations[i] = "x" + one
			}
			if j.keeps != nil && !j.keeps(i, translations[i]) {
				t.Errorf("%q: text %d is not good enough for itself", text, i)
			}
		}
		answer, same := j.join(translations, func(int) string { return "en" }), j.join(j.texts, func(int) string { return "en" })
		switch j.rule {
		case "b":
			if !json.Valid([]byte(answer)) {
				t.Errorf("%q was put together to %q", text, answer)
			}
		case "f":
			if same != text {
				t.Errorf("%q was put together to %q", text, same)
			}
			if again, ok := separated(answer); !ok || !slices.Equal(again.texts, translations) {
				t.Errorf("%q became %q", translations, answer)
			}
		}
	})
}
