package postprocess

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// maxRefusal is the longest refusal, in bytes: what is longer translates a text
// that begins like one.
const maxRefusal = 1000

// refused finds a refusal in place of a translation. A text may be a refusal
// itself, and a good translation of it looks just like one. What tells them
// apart: a refusal is in another language than was asked for, or the text says
// neither "sorry" nor "not".
func refused(req *core.Request, source, answer string) finding {
	if len(answer) > maxRefusal {
		return finding{}
	}
	found := findRefusal(answer)
	if found == "" || findRefusal(source) != "" || containsFold(source, lowerWord(firstWords(answer))) {
		return finding{}
	}
	declined := finding{kind: core.ProviderRefused, detail: "the provider declined to translate this text", flag: FlagMaybeRefused}
	if found != related(req.Target) {
		return declined
	}
	words, known := negations[req.Source.Base()]
	switch negated := hasAny(source, words); {
	case hasAny(source, apologies), negated && !hasAny(answer, apologies):
		return finding{}
	case negated || !known:
		return finding{flag: FlagMaybeRefused}
	}
	return declined
}

// firstWords returns the first 12 bytes of s or a little more.
func firstWords(s string) string {
	for i := range s {
		if i >= 12 {
			return s[:i]
		}
	}
	return s
}

// findRefusal returns the language of the refusal that text begins with, or "".
func findRefusal(text string) string {
	text = strings.TrimLeft(text, "*\"“«'> ")
	first, _ := utf8.DecodeRuneInString(text)
	head, lower := text[:min(len(text), 240)], ""
	for _, o := range openings[unicode.ToLower(first)] {
		if _, ok := cutFold(head, o.words); !ok {
			continue
		}
		if lower == "" {
			lower = strings.ReplaceAll(strings.ToLower(head), "’", "'")
		}
		if rest, ok := behindAny(lower, o.of.middles); ok {
			if _, ok = behindAny(rest, o.of.ends); ok {
				return o.of.language
			}
		}
	}
	return ""
}

// openings are the beginnings of all refusals by their first character.
var openings = func() map[rune][]opening {
	all := map[rune][]opening{}
	for i := range refusals {
		for _, words := range refusals[i].opens {
			first, _ := utf8.DecodeRuneInString(words)
			all[first] = append(all[first], opening{words, &refusals[i]})
		}
	}
	return all
}()

type opening struct {
	words string
	of    *refusal
}

// behindAny returns what stands in s behind the first of words that it has.
func behindAny(s string, words []string) (rest string, ok bool) {
	at, size := -1, 0
	for _, word := range words {
		if i := strings.Index(s, word); i >= 0 && (at < 0 || i < at) {
			at, size = i, len(word)
		}
	}
	if at < 0 {
		return "", false
	}
	return s[at+size:], true
}

// hasAny says whether text has one of stems, as the beginning of a word where
// words are set apart, else anywhere.
func hasAny(text string, stems []string) bool {
	text = strings.ReplaceAll(strings.ToLower(text), "’", "'")
	for _, stem := range stems {
		whole := strings.HasSuffix(stem, "$")
		stem = strings.TrimSuffix(stem, "$")
		for at := 0; ; {
			i := strings.Index(text[at:], stem)
			if i < 0 {
				break
			}
			i += at
			at = i + len(stem)
			before, _ := utf8.DecodeLastRuneInString(text[:i])
			after, _ := utf8.DecodeRuneInString(text[at:])
			first, _ := utf8.DecodeRuneInString(stem)
			if noSpaces(first) || !unicode.IsLetter(before) && !(whole && unicode.IsLetter(after)) {
				return true
			}
		}
	}
	return false
}

// noSpaces says whether r is written without spaces between words, or with
// endings that begin the word.
func noSpaces(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai, unicode.Arabic, unicode.Hebrew)
}

// related returns the language whose refusals a good answer in l may look like.
func related(l core.Language) string {
	base := l.Base()
	switch base {
	case "yue", "cmn", "wuu", "nan", "hak", "lzh":
		return "zh"
	case "ms":
		return "id"
	case "gl":
		return "pt"
	}
	return base
}
