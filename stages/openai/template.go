package openai

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/detect"
	jsontext "github.com/dragoman-mt/dragoman/core/text/json"
	"github.com/dragoman-mt/dragoman/core/text/names"
)

// A template stands in place of the provider's own prompt: one user message, into which
// text and languages are put. It is nil without one.
type template struct {
	// plain is for all pairs of languages that have none in chinese.
	plain, chinese string
	// options says that languages go into translation_options beside the messages, as
	// Qwen-MT wants it, with those of request.extra.
	options map[string]any
	codes   bool // {source} and {target} are codes
	own     string
}

// shipped are the templates that have a name, word for word as the makers of the models
// document them: Hunyuan-MT in the section "Prompts" of https://github.com/Tencent-Hunyuan/Hunyuan-MT
// (one prompt for pairs with Chinese, one for the others), TranslateGemma at
// https://ollama.com/library/translategemma (two blank lines before the text), and Qwen-MT at
// https://help.aliyun.com/en/model-studio/qwen-mt-api (one user message that is the text, no
// system message, languages by their English names or as "auto"). It is written to by nobody.
var shipped = map[string]template{
	"qwen-mt": {plain: "{text}", options: map[string]any{}},
	"hunyuan-mt": {
		plain:   "Translate the following segment into {target}, without additional explanation.\n\n{text}",
		chinese: "把下面的文本翻译成{target}，不要额外解释。\n\n{text}",
	},
	"translategemma": {plain: "You are a professional {source} ({source_code}) to {target} ({target_code}) translator. " +
		"Your goal is to accurately convey the meaning and nuances of the original {source} text while adhering to {target} grammar, vocabulary, and cultural sensitivities.\n" +
		"Produce only the {target} translation, without any additional explanations or commentary. Please translate the following {source} text into {target}:\n\n\n{text}"},
}

// grows says whether pieces of a stream hold all of the text so far. So it is with those of
// Qwen-MT that are not named here (https://help.aliyun.com/en/model-studio/qwen-mt-api, of
// the parameter stream).
func (t *template) grows(model string) bool {
	return t != nil && t.options != nil && !strings.Contains(model, "flash") && !strings.Contains(model, "lite")
}

// place finds what is replaced in a template, or looks like it.
var place = regexp.MustCompile(`\{[a-z_]+\}`)

// makeTemplate reads prompt.template. The key at fault is named with an error.
func (c *Config) makeTemplate() (t *template, at string, err error) {
	text := c.Prompt.Template
	if text == "" {
		return nil, "", nil
	}
	known, is := shipped[strings.TrimSpace(text)]
	if !is {
		known = template{plain: text}
		if n := strings.Count(text, "{text}"); n != 1 {
			what := "has no {text}, where the text would go"
			if n > 1 {
				what = "has {text} more than once"
			}
			return nil, "prompt.template", fmt.Errorf("%s; or name one that is shipped: %s", what, strings.Join(slices.Sorted(maps.Keys(shipped)), ", "))
		}
		for _, word := range place.FindAllString(text, -1) {
			switch word {
			case "{text}", "{source}", "{target}", "{source_code}", "{target_code}", "{instructions}":
			default:
				return nil, "prompt.template", fmt.Errorf("holds %s, which nothing replaces; there are {text}, {source}, {target}, {source_code}, {target_code} and {instructions}", word)
			}
		}
	}
	known.own = strings.TrimSpace(c.Instructions)
	if known.own != "" && known.options == nil && !strings.Contains(known.plain, "{instructions}") {
		return nil, "instructions", fmt.Errorf("are in no place of prompt.template; leave them out, or write {instructions} into a template of your own")
	}
	if known.options != nil {
		known.options = map[string]any{}
		if own, is := c.Request.Extra["translation_options"]; is {
			options, is := own.(map[string]any)
			if !is {
				return nil, "request.extra.translation_options", fmt.Errorf("must be a mapping, to which the languages are added")
			}
			known.options = maps.Clone(options)
		}
		if _, has := known.options["domains"]; !has && known.own != "" {
			known.options["domains"] = known.own
		}
	}
	known.codes = c.Prompt.Languages == "codes"
	return &known, "", nil
}

// begin returns the start of a body for model, up to the end of the one message.
func (t *template) begin(model string, req *core.Request) []byte {
	source := req.Source
	if source == "" {
		if guess := detect.Of(req.Text); guess.Language != "" {
			source = guess.Language
		}
	}
	text, named := t.plain, names.English
	if t.chinese != "" && (source.Base() == "zh" || req.Target.Base() == "zh") {
		text, named = t.chinese, names.Chinese
	}
	name := func(l core.Language) string {
		if t.options != nil && l.Base() != "zh" {
			l = core.Language(l.Base()) // Qwen-MT knows Portuguese and not that of Brazil
		}
		tag := l.Named()
		if said := named(tag); said != "" && !t.codes {
			return said
		}
		return tag.String()
	}
	b := jsontext.AppendString([]byte(`{"model":`), model)
	if t.options != nil {
		options := maps.Clone(t.options)
		options["source_lang"], options["target_lang"] = "auto", name(req.Target)
		if req.Source != "" {
			options["source_lang"] = name(req.Source)
		}
		if len(req.Terms) > 0 {
			var terms []any
			for _, t := range req.Terms {
				terms = append(terms, map[string]string{"source": t.Source, "target": t.Target})
			}
			own, _ := options["terms"].([]any) // of request.extra
			options["terms"] = append(terms, own...)
		}
		raw, err := json.Marshal(options)
		if err != nil {
			raw = []byte("{}") // request.extra was encoded once already
		}
		b = append(append(b, `,"translation_options":`...), raw...)
	}
	from, code := "the source language", "und"
	if source != "" {
		from, code = name(source), source.Named().String()
	}
	wishes := t.own
	for _, w := range req.Instructions {
		if w = wish(w); w != "" {
			wishes = strings.TrimLeft(wishes+"\n- "+w, "\n")
		}
	}
	wishes = strings.TrimLeft(wishes+circumstances(req), "\n")
	before, behind, _ := strings.Cut(text, "{text}")
	fill := strings.NewReplacer("{source_code}", code, "{target_code}", req.Target.Named().String(), "{source}", from, "{target}", name(req.Target), "{instructions}", wishes)
	b = append(b, `,"messages":[{"role":"user","content":`...)
	b = jsontext.AppendString(b, fill.Replace(before)+req.Text+fill.Replace(behind))
	return append(b, '}')
}
