package openaitest

import (
	"encoding/json"
	"regexp"
	"strings"
	"unicode"
)

// placeholder is what a text may carry that is not for translating: {name}, {{name}},
// %s, ${x}, <b>, </b>, and the marks that gateways put in their place.
var placeholder = regexp.MustCompile(`\$?\{\{?[^{}]*\}\}?|%[-+0-9.]*[a-zA-Z@]|</?[a-zA-Z][^<>]*>|XQ[0-9]+X|⟦[0-9]+⟧`)

// letters are a word in one.
var letters = regexp.MustCompile(`\pL+`)

// chatter gives a translation the bad habit kind, or returns it as it is.
func (c *call) chatter(kind, text string, p *prompt) string {
	pick := func(options ...string) string { return options[c.rng.IntN(len(options))] }
	switch kind {
	case ChatterQuotes:
		q := pick(`""`, "“”", "«»")
		open, size := q[:len(q)/2], len(q)/2
		return open + text + q[size:]
	case ChatterPrefix:
		return pick("Here is the translation:\n\n", "Here is the translation: ", "Here's the translation:\n", "Translation: ") + text
	case ChatterRefusal:
		return pick("I'm sorry, but I can't help with that.", "I'm sorry, but I cannot assist with that request.")
	case ChatterEcho:
		return p.text
	case ChatterThink:
		return "<think>The user wants a translation. I will keep it short.</think>\n\n" + text
	case ChatterFence:
		return pick("```\n", "```text\n") + text + "\n```"
	case ChatterNote:
		return text + pick("\n\nNote: The tone of the original was kept.", "\n\n(Note: I kept the tone of the original.)")
	case ChatterWrongScript:
		return otherScript(text, p)
	case ChatterRepetition:
		return strings.TrimSpace(strings.Repeat(text+" ", 12))
	case ChatterBoth:
		return p.text + pick("\n\n", "\n", " → ") + text
	case ChatterJSON:
		raw, _ := json.Marshal(text) // a string: it cannot fail
		return pick(`{"translation": `+string(raw)+`}`, "```json\n{\"translation\": "+string(raw)+"}\n```", "["+string(raw)+"]")
	case ChatterToken:
		return text + pick("<|im_end|>", "<end_of_turn>\n", "<|eot_id|>")
	case ChatterPlaceholder:
		return placeholder.ReplaceAllString(text, "")
	case ChatterDrop:
		return c.bend(text, func(all []string, one int) { all[one] = "" })
	case ChatterTranslate:
		return c.bend(text, func(all []string, one int) {
			all[one] = letters.ReplaceAllStringFunc(all[one], func(word string) string {
				return pick(word+"o", strings.ToUpper(word), strings.ToLower(word), "х")
			})
		})
	case ChatterDouble:
		return c.bend(text, func(all []string, one int) { all[one] += pick("", " ") + all[one] })
	case ChatterReorder:
		return c.bend(text, func(all []string, _ int) {
			c.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		})
	case ChatterSpace:
		return c.bend(text, func(all []string, one int) {
			runes := []rune(all[one])
			at := 1 + c.rng.IntN(len(runes)-1)
			all[one] = string(runes[:at]) + pick(" ", "\u00a0") + string(runes[at:])
		})
	}
	return text
}

// bend does something to the placeholders of text, or to one of them.
func (c *call) bend(text string, how func(all []string, one int)) string {
	at := placeholder.FindAllStringIndex(text, -1)
	if len(at) == 0 {
		return text
	}
	all := make([]string, len(at))
	for i, a := range at {
		all[i] = text[a[0]:a[1]]
	}
	how(all, c.rng.IntN(len(all)))
	var b strings.Builder
	end := 0
	for i, a := range at {
		b.WriteString(text[end:a[0]] + all[i])
		end = a[1]
	}
	return b.String() + text[end:]
}

// otherScript writes text in letters that its language does not use: Cyrillic,
// or Hangul where Cyrillic is right.
func otherScript(text string, p *prompt) string {
	letters := []rune("абвгдежзиклмнопрстуфхцчш")
	if script, _ := p.target.Tag().Script(); script.String() == "Cyrl" {
		letters = []rune("가나다라마바사아자차카타파하")
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) {
			return letters[int(r)%len(letters)]
		}
		return r
	}, text)
}
