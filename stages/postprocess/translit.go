package postprocess

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// withoutTransliteration takes off how the translation is spoken, in Latin letters, behind
// one in another alphabet: in brackets, or in lines of its own. Names and abbreviations,
// which many languages write in Latin letters behind their own, stay: a transliteration
// has about as many letters as what it spells, and no word of the text.
func withoutTransliteration(q *question, answer string) string {
	if !q.mayBeSpelt() {
		return answer
	}
	q.spend(len(answer))
	switch last, _ := utf8.DecodeLastRuneInString(answer); last {
	case ')', '）', ']':
		at := lastBracket(answer)
		if at > 0 {
			if kept := strings.TrimSpace(answer[:at]); q.spells(inBracket(answer[at:]), kept) && covered(q, kept) {
				return kept
			}
		}
	}
	// The Latin lines at the end are the transliteration of those above.
	at, lines := len(answer), 0
	for at > 0 && lines < maxSpeltLines {
		i := strings.LastIndexByte(answer[:at], '\n')
		if line := strings.TrimSpace(answer[i+1 : at]); line != "" && !isLatin(line) {
			break
		}
		if i < 0 {
			return answer
		}
		at = i
		lines++
	}
	if at == len(answer) {
		return answer
	}
	kept := strings.TrimSpace(answer[:at])
	if below := strings.TrimSpace(answer[at:]); q.spells(strings.Trim(below, "*_()（）[]\"/ "), kept) && covered(q, kept) {
		return kept
	}
	return answer
}

// maxSpeltLines is how many lines of a transliteration are looked for.
const maxSpeltLines = 64

// mayBeSpelt says whether the target language is written with another alphabet than the
// text, and that is not Latin.
func (q *question) mayBeSpelt() bool {
	return q.once(&q.spelt, func(string) bool {
		a, ok := alphabetOf(q.req.Target)
		return ok && !a.latin
	})
}

// spells says whether latin may be how text is spoken.
func (q *question) spells(latin, text string) bool {
	if !isLatin(latin) || strings.ContainsAny(latin, "0123456789@/\\_=<>{}|+&%$#") {
		return false
	}
	a, _ := alphabetOf(q.req.Target)
	native, other := 0, 0
	for _, r := range text {
		switch a.class(r) {
		case ownLetter:
			native++
		case noLetter:
		default:
			other++
		}
	}
	letters, lower := 0, 0
	for _, r := range latin {
		if unicode.IsLetter(r) {
			letters++
			if unicode.IsLower(r) {
				lower++
			}
		}
	}
	// A character of Chinese is spoken as two letters or more, a syllable of Korean as
	// well, and one of the others as one: Arabic and Hebrew write no vowels.
	least, most := native, 3*native
	switch a {
	case alphabets["Hans"], alphabets["Hant"], alphabets["Kore"]:
		least, most = 3*native/2, 6*native
	case alphabets["Jpan"]:
		least, most = native, 6*native
	case alphabets["Cyrl"], alphabets["Grek"], alphabets["Armn"], alphabets["Geor"]:
		least, most = 3*native/4, 2*native
	}
	if native < 2 || other > 0 || letters < least || letters > most || lower*2 < letters {
		return false
	}
	for word := range strings.FieldsFuncSeq(latin, func(r rune) bool { return !isWordRune(r) }) {
		if utf8.RuneCountInString(word) > 2 && q.says(lowerWord(word)) {
			return false
		}
	}
	// What it says in a language of its own is no sound.
	_, found := q.words.guess(latin, "")
	return found.words < 2
}

// isLatin says whether s has letters, and all are Latin.
func isLatin(s string) bool {
	has := false
	for _, r := range s {
		if !unicode.IsLetter(r) {
			continue
		}
		if !unicode.Is(unicode.Latin, r) && !unicode.Is(unicode.Lm, r) {
			return false
		}
		has = true
	}
	return has
}

// transliterationAt finds from where on withoutTransliteration may take off the end of
// answer.
func transliterationAt(q *question, answer string, from int) int {
	if !q.mayBeSpelt() {
		return len(answer)
	}
	q.spend(2 * (len(answer) - from))
	// What stands at the end without a letter of another alphabet may become one, from
	// its first line or its outermost bracket on.
	start := len(answer)
	for start > from {
		r, size := utf8.DecodeLastRuneInString(answer[:start])
		if unicode.IsLetter(r) && !unicode.Is(unicode.Latin, r) && !unicode.Is(unicode.Lm, r) {
			break
		}
		start -= size
	}
	if at := strings.IndexAny(answer[start:], "\n(（["); at >= 0 {
		return max(from, len(strings.TrimRightFunc(answer[:start+at], isRule)))
	}
	return len(answer)
}
