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
// itself, and a good translation of it looks just like one. So it takes evidence
// to call one: the answer is in another language than was asked for, or the text
// says neither "sorry" nor "not" in a language whose words are known, or the
// answer speaks of translating or of a model and the text does not, or it is of
// another length and shape.
func refused(q *question, answer string) finding {
	if len(answer) > maxRefusal {
		return finding{}
	}
	q.spend(len(answer))
	found := q.words.findRefusal(answer)
	if found == "" || q.words.findRefusal(q.source) != "" {
		return finding{}
	}
	if q.spend(len(q.source)); strings.Contains(q.fold(), lowerWord(firstWords(answer))) {
		return finding{}
	}
	if found != related(q.req.Target) {
		return declined
	}
	said := lowerWord(answer)
	ofItself := q.words.mentions(answer) > q.mentions() || hasAny(said, q.words.models) && !hasAny(q.fold(), q.words.models)
	apologises := hasAny(said, q.words.apologies)
	switch q.stance() {
	case apologetic:
		return finding{}
	case affirmative:
		return declined
	case declining:
		if !ofItself && (!apologises || nearly(q, answer, 24)) {
			return finding{}
		}
	case negative:
		if !ofItself && !apologises {
			return finding{}
		}
	case unknown:
		if !ofItself && nearly(q, answer, 2) {
			return finding{}
		}
	}
	return finding{flag: FlagMaybeRefused}
}

var declined = finding{kind: core.ProviderRefused, detail: "the provider declined to translate this text", flag: FlagMaybeRefused}

// A stance is what a text says of what its translation reads like, a refusal.
type stance int

const (
	unknown     stance = iota // its language is not known
	apologetic                // it says "sorry", in any language
	declining                 // it says "not", and "help" or "can do"
	negative                  // it says "not"
	affirmative               // it says neither
	doubtful                  // it says neither in the words that are known
)

// stance says how the text stands to a refusal. Of a language of which only some
// words are known, or that is guessed, nothing can be affirmative.
func (q *question) stance() stance {
	if q.stands == nil {
		q.spend(len(q.source))
		found := q.words.stanceOf(q.fold(), q.req.Source.Base())
		q.stands = &found
	}
	return *q.stands
}

func (v *vocabulary) stanceOf(text, language string) stance {
	if hasAny(text, v.apologies) {
		return apologetic
	}
	certain := language != ""
	if !certain {
		for _, few := range v.few {
			if hasAny(text, few.apologies) {
				return apologetic
			}
		}
		if language = byScript(text); language == "" {
			language, _ = v.guess(text, "")
		}
	}
	words, known := v.negations[language]
	switch few := v.few[language]; {
	case !known && few == nil:
		return unknown
	case !known && hasAny(text, few.apologies):
		return apologetic
	case !known && hasAny(text, few.negations):
		return declining
	case !known:
		return doubtful
	case hasAny(text, words):
		if v.speaksOfHelp(text, language) {
			return declining
		}
		return negative
	case !certain:
		return doubtful
	}
	return affirmative
}

// byScript returns the language that text is in by its letters alone, or "".
func byScript(text string) string {
	found := ""
	for _, r := range text[:wholeRunes(text[:min(len(text), maxGrammar)])] {
		if r < 0x370 || !unicode.IsLetter(r) {
			continue
		}
		for _, s := range scripts {
			if unicode.Is(s.table, r) {
				found = s.language
				break
			}
		}
		if found != "zh" && found != "" {
			break // Japanese has both
		}
	}
	return found
}

// speaksOfHelp says whether text has what a refusal in its language speaks of.
func (v *vocabulary) speaksOfHelp(text, language string) bool {
	if hasAny(text, v.abilities[language]) {
		return true
	}
	for _, r := range v.refusals {
		if r.language == related(core.Language(language)) {
			return hasAny(text, r.middles) || hasAny(text, r.ends)
		}
	}
	return false
}

// nearly says whether answer has about the length of the text, or so many letters
// more, and its shape: a refusal asks nothing, counts nothing and fills one line.
func nearly(q *question, answer string, more int) bool {
	text, got := weight(q.source), weight(answer)
	return 10*got <= 16*text+10*more && text <= 2*got+4 &&
		shapeOf(q.source) == shapeOf(answer)
}

// A shape is what a text and its translation have alike.
type shape struct{ asks, counts, breaks bool }

func shapeOf(s string) shape {
	return shape{
		asks:   strings.ContainsAny(s, "?？؟՞፧"),
		counts: strings.ContainsFunc(s, unicode.IsNumber),
		breaks: strings.Contains(s, "\n"),
	}
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
func (v *vocabulary) findRefusal(text string) string {
	text = strings.TrimLeft(text, "*\"“«'> ")
	first, _ := utf8.DecodeRuneInString(text)
	head, lower := text[:min(len(text), 240)], ""
	for _, o := range v.openings[unicode.ToLower(first)] {
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

// hasAny says whether text, which is in lower case with straight apostrophes, has
// one of stems, as the beginning of a word where words are set apart, else
// anywhere.
func hasAny(text string, stems []string) bool {
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
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.Arabic, unicode.Hebrew, unicode.Ethiopic)
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
