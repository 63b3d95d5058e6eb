package postprocess

import (
	"errors"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core"
)

// What servers and models put round a translation comes off, in one piece or in many.
func TestWrappedAnswersAreUnwrapped(t *testing.T) {
	const text, want = "The doors are closing.", "Las puertas se están cerrando."
	for name, answer := range map[string]string{
		"an object":         `{"translation": "` + want + `"}`,
		"an escaped object": `{"translation": "Las puertas se est\u00e1n cerrando."}`,
		"an array":          `["` + want + `"]`,
		"nested":            `{"translations": [{"text": "` + want + `", "score": 0.9}]}`,
		"fenced":            "```json\n{\"translation\": \"" + want + "\"}\n```",
		"ChatML":            want + "<|im_end|>",
		"Llama":             want + "<|eot_id|><|start_header_id|>assistant",
		"Gemma":             want + "<end_of_turn>\n",
		"another turn":      want + "<|im_end|>\n<|im_start|>user\nAnd now?",
		"both":              text + "\n\n" + want,
		"both, arrowed":     text + " → " + want,
		"both, in JSON":     `{"translation": "` + want + `<|im_end|>"}`,
	} {
		s := New("postprocess", Config{})
		req := &core.Request{Text: text, Source: "en", Target: "es"}
		if res, err := s.look(req, &core.Result{Text: answer, Finish: core.FinishStop}, ""); err != nil || res.Text != want {
			t.Errorf("%s: got %+v, %v", name, res, err)
		}
	}
}

// What the text has itself is no wrapping.
func TestWhatTheTextIsWrappedInStays(t *testing.T) {
	for _, p := range []pair{
		{source: "en", target: "es", text: `{"greeting": "Good morning"}`, answer: `{"greeting": "Buenos días"}`},
		{source: "en", target: "es", text: "[Applause]", answer: "[Aplausos]"},
		{source: "en", target: "es", text: "Write <|im_end|> at the end of it.", answer: "Escribe <|im_end|> al final."},
		{source: "en", target: "es", text: "OK", answer: "OK"},
		{source: "en", target: "es", text: "Two strings.", answer: `["dos", "cadenas"]`},
	} {
		in := &core.Result{Text: p.answer, Finish: core.FinishStop}
		out, err := New("postprocess", Config{}).look(p.request(), in, "")
		if e, ok := errors.AsType[*core.Error](err); ok && e != nil || out != in && err == nil && strings.TrimSpace(out.Text) != p.answer {
			t.Errorf("%q: %q became %+v, %v", p.text, p.answer, out, err)
		}
	}
}
