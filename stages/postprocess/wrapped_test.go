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
		"an object":                    `{"translation": "` + want + `"}`,
		"an escaped object":            `{"translation": "Las puertas se est\u00e1n cerrando."}`,
		"an array":                     `["` + want + `"]`,
		"nested":                       `{"translations": [{"text": "` + want + `", "score": 0.9}]}`,
		"fenced":                       "```json\n{\"translation\": \"" + want + "\"}\n```",
		"an object with the text":      `{"source": "` + text + `", "target": "` + want + `"}`,
		"an object with languages":     `{"from": "en", "to": "Spanish", "result": "` + want + `"}`,
		"an object by language":        `{"en": "` + text + `", "es": "` + want + `"}`,
		"an object with a note":        `{"translated_text": "` + want + `", "note": "A common announcement."}`,
		"Python":                       `{'translation': '` + want + `'}`,
		"announced JSON":               "Here is the translation in JSON:\n```json\n[\"" + want + "\"]\n```",
		"ChatML":                       want + "<|im_end|>",
		"Llama":                        want + "<|eot_id|><|start_header_id|>assistant",
		"Llama 4":                      want + "<|eot|>",
		"Gemma":                        want + "<end_of_turn>\n",
		"DeepSeek":                     want + "<｜end▁of▁sentence｜>",
		"DeepSeek, another turn":       want + "<｜User｜>Thanks",
		"Granite":                      "<|start_of_role|>assistant<|end_of_role|>" + want + "<|end_of_text|>",
		"Phi":                          "<|assistant|>\n" + want + "<|end|>",
		"Cohere":                       "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>" + want + "<|END_OF_TURN_TOKEN|>",
		"Command A":                    "<|START_RESPONSE|>" + want + "<|END_RESPONSE|>",
		"GLM":                          "<|begin_of_box|>" + want + "<|end_of_box|>",
		"Mistral":                      "<s> " + want + "</s>",
		"Mistral, the prompt's end":    "[/INST] " + want,
		"a turn of ChatML":             "<|im_start|>assistant\n" + want + "<|im_end|>",
		"a turn of Llama":              "<|start_header_id|>assistant<|end_header_id|>\n\n" + want,
		"a turn of Gemma":              "<start_of_turn>model\n" + want,
		"a turn without tokens":        "assistant\n\n" + want,
		"another turn":                 want + "<|im_end|>\n<|im_start|>user\nAnd now?",
		"Harmony":                      "<|channel|>final<|message|>" + want + "<|return|>",
		"Harmony, with thoughts":       "<|channel|>analysis<|message|>We need Spanish.<|end|><|start|>assistant<|channel|>final<|message|>" + want,
		"Harmony, a commentary":        "<|start|>assistant<|channel|>commentary<|message|>Hm.<|end|><|start|>assistant<|channel|>final <|constrain|>text<|message|>" + want,
		"Harmony, without its tokens":  "analysisWe need to translate.assistantfinal" + want,
		"Magistral":                    "[THINK]The user wants Spanish.[/THINK]" + want,
		"Kimi":                         "◁think▷The user wants Spanish.◁/think▷\n\n" + want,
		"Seed":                         "<seed:think>The user wants Spanish.</seed:think>" + want,
		"Command A, with thoughts":     "<|START_THINKING|>Spanish.<|END_THINKING|><|START_RESPONSE|>" + want,
		"both":                         text + "\n\n" + want,
		"both, arrowed":                text + " → " + want,
		"both, arrowed in ASCII":       text + " => " + want,
		"both, arrowed and quoted":     `"` + text + `" → "` + want + `"`,
		"both, in bold":                "**" + text + "** → **" + want + "**",
		"both, labelled":               "English: " + text + "\nSpanish: " + want,
		"both, labelled in bold":       "**Original:** " + text + "\n\n**Translation:** " + want,
		"both, labelled in Spanish":    "Texto original: " + text + "\nTraducción: " + want,
		"both, labelled on one line":   "EN: " + text + " | ES: " + want,
		"both, labelled in brackets":   "[EN] " + text + "\n[ES] " + want,
		"both, a list":                 "- Source: \"" + text + "\"\n- Target: \"" + want + "\"",
		"both, a label on a line":      "Source text:\n" + text + "\n\nTranslated text:\n" + want,
		"both, equal":                  text + " = " + want,
		"both, with a dash":            text + " – " + want,
		"both, in brackets":            text + " (" + want + ")",
		"both, one behind the other":   text + " " + want,
		"both, quoted above":           "> " + text + "\n\n" + want,
		"both, the text below":         want + "\n\n" + text,
		"both, the text in brackets":   want + " (" + text + ")",
		"both, the text labelled":      want + "\n\nEnglish: " + text,
		"both, labelled, below":        "Spanish: " + want + "\nEnglish: " + text,
		"both, the arrow back":         want + " ← " + text,
		"both, announced":              "Here is the translation:\n\n" + text + "\n" + want,
		"both, and a note":             text + "\n" + want + "\n\nNote: It is formal.",
		"both, the text below, a note": want + "\n\n" + text + "\n\n(Note: It is formal.)",
		"both, in JSON":                `{"translation": "` + want + `<|im_end|>"}`,
		"a note of culture":            want + "\n\nCultural note: It is said in trains.",
		"a vocabulary":                 want + "\n\n**Vocabulary:**\n- puertas: doors",
		"a note on the same line":      want + " Note: It is said in trains.",
		"how it is spoken":             want + "\n\nPronunciation: las PWER-tas",
	} {
		s := New("postprocess", Config{})
		req := &core.Request{Text: text, Source: "en", Target: "es"}
		if res, err := s.look(req, &core.Result{Text: answer, Finish: core.FinishStop}, ""); err != nil || res.Text != want {
			t.Errorf("%s: got %+v, %v", name, res, err)
		}
		agrees(t, s, req, answer, core.FinishStop, runes(answer))
		agrees(t, s, req, answer, core.FinishStop, strings.SplitAfter(answer, " "))
	}
}

// What the text has itself is no wrapping.
func TestWhatTheTextIsWrappedInStays(t *testing.T) {
	for _, p := range []pair{
		{source: "en", target: "es", text: `{"greeting": "Good morning"}`, answer: `{"greeting": "Buenos días"}`},
		{source: "en", target: "es", text: "[Applause]", answer: "[Aplausos]"},
		{source: "en", target: "es", text: "Write <|im_end|> at the end of it.", answer: "Escribe <|im_end|> al final."},
		{source: "en", target: "es", text: "OK", answer: "OK"},
		{source: "en", target: "zh", text: "The World Health Organization met.", answer: "世界卫生组织 (WHO) 开会了。"},
		{source: "en", target: "zh", text: "World Health Organization", answer: "世界卫生组织 (WHO)"},
		{source: "en", target: "zh", text: "Tony Blair", answer: "托尼·布莱尔 (Tony Blair)"},
		{source: "en", target: "ja", text: "Play Bohemian Rhapsody.", answer: "ボヘミアン・ラプソディ (Bohemian Rhapsody) をかけて。"},
		{source: "en", target: "ru", text: "Press Enter to go on", answer: "Нажмите клавишу (Enter)"},
		{source: "en", target: "es", text: "Back to the Future", answer: "Back to the Future (Regreso al futuro)"},
		{source: "en", target: "es", text: "Settings → Network", answer: "Ajustes → Red"},
		{source: "en", target: "es", text: "English: yes\nSpanish: no", answer: "Inglés: sí\nEspañol: no"},
		{source: "en", target: "es", text: "CD", answer: "CD (disco compacto)"},
		{source: "en", target: "es", text: "assistant", answer: "asistente"},
		{source: "es", target: "en", text: "asistente", answer: "assistant"},
		{source: "es", target: "en", text: "análisis", answer: "analysis"},
		{source: "en", target: "es", text: "a <| b |> c", answer: "a <| b |> c"},
		{source: "en", target: "es", text: "Pinyin: nǐ hǎo", answer: "Pinyin: nǐ hǎo"},
	} {
		in := &core.Result{Text: p.answer, Finish: core.FinishStop}
		out, err := New("postprocess", Config{}).look(p.request(), in, "")
		if e, ok := errors.AsType[*core.Error](err); ok && e != nil || out != in && err == nil && strings.TrimSpace(out.Text) != p.answer {
			t.Errorf("%q: %q became %+v, %v", p.text, p.answer, out, err)
		}
	}
}

// How a translation is spoken comes off behind it.
func TestTransliterationsComeOff(t *testing.T) {
	for _, c := range []struct {
		target       core.Language
		text, answer string
		want         string
	}{
		{"zh", "The doors are closing.", "车门即将关闭。(Chēmén jíjiāng guānbì.)", "车门即将关闭。"},
		{"zh", "The doors are closing.", "车门即将关闭。\n\nChēmén jíjiāng guānbì.", "车门即将关闭。"},
		{"zh", "The doors are closing.", "车门即将关闭。\nPinyin: Chēmén jíjiāng guānbì.", "车门即将关闭。"},
		{"zh", "The doors are closing.", "车门即将关闭。\n拼音：Chēmén jíjiāng guānbì.", "车门即将关闭。"},
		{"zh-Hant", "Hello", "你好（nǐ hǎo）", "你好"},
		{"ja", "Thank you.", "ありがとうございます。 (Arigatō gozaimasu.)", "ありがとうございます。"},
		{"ja", "Thank you.", "ありがとうございます。\n*Arigatou gozaimasu*", "ありがとうございます。"},
		{"ja", "Thank you.", "ありがとうございます。\n\nRomaji: Arigatou gozaimasu", "ありがとうございます。"},
		{"ko", "Hello", "안녕하세요 (annyeonghaseyo)", "안녕하세요"},
		{"ru", "Good morning", "Доброе утро [Dobroye utro]", "Доброе утро"},
		{"ar", "Hello", "مرحبا (marhaban)", "مرحبا"},
		{"hi", "Hello", "नमस्ते (namaste)", "नमस्ते"},
		{"el", "Good morning", "Καλημέρα (Kaliméra)", "Καλημέρα"},
		{"th", "Hello", "สวัสดี\n(sawatdee)", "สวัสดี"},
		{"ru", "Good morning", "Доброе утро\n\nTransliteration: Dobroye utro\nNote: It is said until noon.", "Доброе утро"},
	} {
		req := &core.Request{Text: c.text, Source: "en", Target: c.target}
		s := New("postprocess", Config{})
		if res, err := s.look(req, &core.Result{Text: c.answer, Finish: core.FinishStop}, ""); err != nil || res.Text != c.want {
			t.Errorf("%q: got %+v, %v", c.answer, res, err)
		}
		agrees(t, s, req, c.answer, core.FinishStop, runes(c.answer))
	}
}

// What of an answer is the translation must be certain: else another is asked for.
func TestWhatCannotBeToldApartIsABadAnswer(t *testing.T) {
	for name, answer := range map[string]string{
		"two strings":         `["Las puertas", "se están cerrando"]`,
		"alternatives":        `{"translation": "Las puertas se cierran.", "translation_formal": "Se están cerrando las puertas."}`,
		"a table":             "| English | Spanish |\n|---|---|\n| The doors are closing. | Las puertas se cierran. |",
		"the text in between": "Las puertas (The doors are closing.) se están cerrando.",
		"the text quoted":     "\"The doors are closing.\" se puede traducir como \"Las puertas se cierran.\"",
		"thoughts alone":      "<|channel|>analysis<|message|>We need to translate",
		"thoughts in marks":   "[THINK]The user wants Spanish, so",
	} {
		req := &core.Request{Text: "The doors are closing.", Source: "en", Target: "es"}
		s := New("postprocess", Config{})
		if res, err := s.look(req, &core.Result{Text: answer, Finish: core.FinishStop}, ""); err == nil || err.Kind != core.BadAnswer {
			t.Errorf("%s: got %+v, %v", name, res, err)
		}
		agrees(t, s, req, answer, core.FinishStop, runes(answer))
	}
}
