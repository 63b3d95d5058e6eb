package live

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/sentences"
	"github.com/clipperhouse/uax29/v2/words"

	"github.com/dragoman-mt/dragoman/core"
)

// A unit is one sentence of a text, without the white space round it.
type unit struct {
	text       string
	begin, end int    // in the text, in bytes
	blank      string // between the sentence before and this one
	ended      bool   // it has its full stop
}

// unitsOf cuts a text into sentences (Unicode Standard Annex 29), but not after what is
// likely to be an abbreviation: a sentence cut there would be translated as two.
func unitsOf(text string) (all []unit) {
	begin, over := 0, 0 // of the sentence that is being put together; the end of the one before
	for it := sentences.FromString(text); it.Next(); {
		piece := text[begin:it.End()]
		trimmed := strings.TrimSpace(piece)
		if trimmed == "" || abbreviated(trimmed) && it.End() < len(text) {
			continue
		}
		from := begin + strings.Index(piece, trimmed)
		all = append(all, unit{text: trimmed, begin: from, end: from + len(trimmed), blank: text[over:from], ended: ended(trimmed)})
		begin, over = it.End(), from+len(trimmed)
	}
	return all
}

// ended says whether a sentence has its full stop, brackets and quotes behind it aside.
func ended(sentence string) bool {
	for len(sentence) > 0 {
		r, n := utf8.DecodeLastRuneInString(sentence)
		switch {
		case unicode.Is(unicode.Sentence_Terminal, r) || r == '…':
			return !abbreviated(sentence)
		case unicode.In(r, unicode.Pe, unicode.Pf, unicode.Pi) || r == '"' || r == '\'' || unicode.IsSpace(r):
			sentence = sentence[:len(sentence)-n]
		default:
			return false
		}
	}
	return false
}

// short are words that are written with a full stop and seldom end a sentence.
var short = func() map[string]bool {
	all := map[string]bool{}
	for word := range strings.FieldsSeq("mr mrs ms dr prof st sr sra srta jr mt gen col capt lt sgt rev hon gov sen rep vs vol fig inc ltd co corp bzw ca mme mlle núm ud uds") {
		all[word] = true
	}
	return all
}()

// abbreviated says whether what a text ends in is likely to be an abbreviation: a known
// one, or a single letter.
func abbreviated(text string) bool {
	body, stop := strings.CutSuffix(text, ".")
	if !stop {
		return false
	}
	last := body[strings.LastIndexFunc(body, unicode.IsSpace)+1:]
	if i := strings.LastIndexByte(last, '.'); i >= 0 {
		last = last[i+1:]
	}
	last = strings.TrimLeft(last, "(\"'“‘«")
	r, n := utf8.DecodeRuneInString(last)
	if n > 0 && n == len(last) {
		return unicode.IsUpper(r) && r != 'I'
	}
	return short[strings.ToLower(last)]
}

// measure is how much a text is in quarters of a word: a word of a language that
// puts blanks between them is four, an ideograph or a kana half as much, and a letter of
// Thai, Lao, Khmer or Burmese, whose words stand without blanks, one.
func measure(text string) (quarters int) {
	for it := words.FromString(text); it.Next(); {
		quarters += weight(it.Value())
	}
	return quarters
}

func weight(token string) int {
	r, _ := utf8.DecodeRuneInString(token)
	switch {
	case unicode.In(r, unicode.Han, unicode.Hiragana):
		return 2
	case r >= 0x0E00 && unicode.In(r, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar):
		if unicode.IsLetter(r) {
			return 1
		}
		return 0
	case unicode.IsLetter(r) || unicode.IsDigit(r):
		return 4
	}
	return 0
}

// agreed returns how many bytes of b begin as a does, in whole words.
func agreed(a, b string) int {
	if strings.HasPrefix(a, b) && len(a) == len(b) {
		return len(b)
	}
	i, j, n := words.FromString(a), words.FromString(b), 0
	for i.Next() && j.Next() && i.Value() == j.Value() {
		n = j.End()
	}
	return n
}

// ahead returns the end in text of so many more words behind from, in bytes.
func ahead(text string, from, count int) int {
	quarters, end := 0, from
	for it := words.FromString(text[from:]); it.Next(); {
		w := weight(it.Value())
		if quarters+w > 4*count {
			break
		}
		quarters += w
		end = from + it.End()
	}
	return end
}

// folded is a text as those take it who pass over case, blanks and punctuation.
func folded(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) || unicode.IsSymbol(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, text)
}

// wordless says whether a text holds nothing to translate: numbers, addresses,
// punctuation, emoji.
func wordless(text string) bool {
	for field := range strings.FieldsSeq(text) {
		if strings.Contains(field, "://") || strings.HasPrefix(field, "www.") || strings.Contains(field, "@") && strings.Contains(field, ".") {
			continue
		}
		if strings.ContainsFunc(field, unicode.IsLetter) {
			return false
		}
	}
	return true
}

// solid are the languages that put no blanks between sentences.
func solid(l core.Language) bool {
	switch l.Base() {
	case "zh", "ja", "yue":
		return true
	}
	return false
}

// byRune are the languages whose words have no blanks between them: what is shown of
// them is measured in characters.
func byRune(l core.Language) bool {
	switch l.Base() {
	case "zh", "ja", "yue", "th", "lo", "km", "my":
		return true
	}
	return false
}

// joint is what stands before the i-th sentence of a translation into l, whose source has
// blank there.
func joint(l core.Language, i int, blank string) string {
	switch {
	case i == 0:
		return ""
	case strings.Contains(blank, "\n"):
		return blank
	case solid(l):
		return ""
	case blank == "":
		return " "
	}
	return blank
}

// tokens are the pieces that a text in l is measured in.
func tokens(l core.Language, text string) []string {
	if !byRune(l) {
		return strings.Fields(text)
	}
	all := make([]string, 0, len(text)/3)
	for _, r := range text {
		if !unicode.IsSpace(r) {
			all = append(all, string(r))
		}
	}
	return all
}

// held returns text without its last words, at most count of them and half of what
// there is.
func held(l core.Language, text string, count int) string {
	if count <= 0 {
		return text
	}
	if byRune(l) {
		runes := []rune(text)
		return strings.TrimRightFunc(string(runes[:len(runes)-min(2*count, len(runes)/2)]), unicode.IsSpace)
	}
	for range min(count, len(strings.Fields(text))/2) {
		text = strings.TrimRightFunc(text, unicode.IsSpace)
		text = text[:strings.LastIndexFunc(text, unicode.IsSpace)+1]
	}
	return strings.TrimRightFunc(text, unicode.IsSpace)
}

// common returns how many pieces of a and b are the same from the beginning.
func common(a, b []string) (n int) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
