package glossary

import (
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// words are the words of one text, with what stands between them but for white space.
type words struct {
	text string
	all  []word
	fold []byte // the folded words, one after the other
}

// A word is a run of letters, marks and digits, one letter of a script that writes no
// blanks between words, or one sign.
type word struct {
	start, end int // in the text
	from, to   int // in fold
	// inner says that no term begins here: it is a syllable of Hangul within a run of them.
	inner bool
	kind  kind
}

type kind uint8

const (
	sign     kind = iota
	letters       // a word between blanks or signs
	syllable      // of Hangul, whose words end in particles
	alone         // a letter that may be a word: Han, Hiragana, Thai
	mark          // what stands before it goes on
	blank
	unseen // within a word, and no part of it: a soft hyphen, a joiner
)

// unspaced are the scripts that write no blanks between words.
var unspaced = []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.Tibetan}

func kindOf(r rune) kind {
	switch {
	case r < utf8.RuneSelf:
		switch {
		case 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_':
			return letters
		case r <= ' ' || r == 0x7f:
			return blank
		}
		return sign
	case unicode.IsMark(r):
		return mark
	case unicode.IsLetter(r) || unicode.IsNumber(r):
		switch {
		case r < 0xe00: // before Thai there is none of the others
			return letters
		case unicode.Is(unicode.Hangul, r):
			return syllable
		case unicode.In(r, unspaced...):
			return alone
		}
		return letters
	case unicode.IsSpace(r) || unicode.IsControl(r):
		return blank
	case unicode.Is(unicode.Cf, r):
		return unseen
	}
	return sign
}

// pool keeps words for the next text.
var pool = sync.Pool{New: func() any { return new(words) }}

func wordsOf(text string) *words {
	w := pool.Get().(*words)
	w.split(text)
	return w
}

const mostKept = 4096 // words of a text whose room is kept

func (w *words) done() {
	w.text = ""
	if cap(w.all) <= mostKept {
		pool.Put(w)
	}
}

// split splits text. A mark belongs to what stands before it.
func (w *words) split(text string) {
	w.text, w.all, w.fold = text, w.all[:0], w.fold[:0]
	open := false // the last word goes on
	ascii := true
	for i, r := range text {
		n := utf8.RuneLen(r)
		if n < 0 || r == utf8.RuneError {
			_, n = utf8.DecodeRuneInString(text[i:])
		}
		k := kindOf(r)
		last := len(w.all) - 1
		switch {
		case k == blank:
			open = false
			continue
		case k == unseen:
			continue
		case k == mark:
			if last < 0 || w.all[last].end != i {
				continue // a mark on nothing
			}
			ascii = false
		case k == letters && open && w.all[last].kind == letters:
		default:
			inner := k == syllable && last >= 0 && w.all[last].kind == syllable && w.all[last].end == i
			w.all = append(w.all, word{start: i, from: len(w.fold), kind: k, inner: inner})
			last++
		}
		open = k == letters || open && k == mark
		if r < utf8.RuneSelf {
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			w.fold = append(w.fold, byte(r))
		} else {
			ascii = false
			w.fold = utf8.AppendRune(w.fold, unicode.ToLower(r))
		}
		w.all[last].end, w.all[last].to = i+n, len(w.fold)
	}
	if !ascii && !norm.NFC.IsNormal(w.fold) {
		w.compose()
	}
}

// compose makes the folded words of form C.
func (w *words) compose() {
	var fold []byte
	for i := range w.all {
		from := len(fold)
		fold = norm.NFC.Append(fold, w.folded(i)...)
		w.all[i].from, w.all[i].to = from, len(fold)
	}
	w.fold = fold
}

func (w *words) folded(i int) []byte { return w.fold[w.all[i].from:w.all[i].to] }

// written returns words from i up to j as they are written, without what is between them.
func (w *words) written(i, j int) string {
	var s []byte
	for ; i < j; i++ {
		s = append(s, w.text[w.all[i].start:w.all[i].end]...)
	}
	return norm.NFC.String(string(s))
}
