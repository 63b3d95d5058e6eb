package protect

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Style is how marks are written, which are sent in place of placeholders. Engines
// differ in what they keep.
type Style int

const (
	Tags    Style = iota // <x1/>
	Words                // XQ1X
	Corners              // ⟦1⟧
	Styles  int   = iota // how many there are
)

// MaxMarks is the most placeholders that a text may have marks for.
const MaxMarks = 2000

// Example is a mark of the style, for those who are told of them.
func (s Style) Example() string { return s.mark(1) }

func (s Style) String() string {
	switch s {
	case Tags:
		return "tags"
	case Words:
		return "words"
	}
	return "corners"
}

// mark is the n-th one.
func (s Style) mark(n int) string {
	switch s {
	case Tags:
		return "<x" + strconv.Itoa(n) + "/>"
	case Words:
		return "XQ" + strconv.Itoa(n) + "X"
	}
	return "⟦" + strconv.Itoa(n) + "⟧"
}

// Marked says whether text has marks of some style, and which.
func Marked(text string) (Style, bool) {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '<', 'X', "⟦"[0]:
			for s := range Styles {
				if n, end := Style(s).parse(text, i); n == 1 && text[i:end] == Style(s).mark(1) {
					return Style(s), true
				}
			}
		}
	}
	return 0, false
}

// parse reads a mark at i as engines may have written it, with blanks in it, in another
// case, with other digits: its number and its end, which is i when none stands there.
func (s Style) parse(t string, i int) (number, end int) {
	number, end, _ = s.read(t, i)
	return number, end
}

// read is parse, and says whether a mark may stand there of which only the beginning has
// come.
func (s Style) read(t string, i int) (number, end int, short bool) {
	j := i
	one := func(any string) bool {
		r, n := utf8.DecodeRuneInString(t[j:])
		short = !utf8.FullRuneInString(t[j:])
		if n == 0 || !strings.ContainsRune(any, r) {
			return false
		}
		j += n
		return true
	}
	blanks := func() {
		for k := 0; k < 3 && one(" \u00a0\u202f\t"); k++ {
		}
	}
	const x = "xXхХ" // Latin and Cyrillic
	ok := false
	switch s {
	case Tags:
		if !one("<＜") {
			return 0, i, short
		}
		blanks()
		if one("/／") {
			blanks()
		}
		if !one(x) {
			return 0, i, short
		}
		blanks()
		if number, j, short = digits(t, j); number < 0 {
			return 0, i, short
		}
		blanks()
		if one("/／\\") {
			blanks()
		}
		ok = one(">＞")
	case Words:
		if !one(x) {
			return 0, i, short
		}
		blanks()
		if !one("qQ") {
			return 0, i, short
		}
		blanks()
		if number, j, short = digits(t, j); number < 0 {
			return 0, i, short
		}
		blanks()
		ok = one(x)
	case Corners:
		if !one("⟦〚") {
			return 0, i, short
		}
		blanks()
		if number, j, short = digits(t, j); number < 0 {
			return 0, i, short
		}
		blanks()
		ok = one("⟧〛")
	}
	if !ok {
		return 0, i, short
	}
	return number, j, short
}

// digits reads a number of at most four digits of any script at i; -1 when none stands
// there. Short says that it may be only the beginning of one.
func digits(t string, i int) (number, end int, short bool) {
	end = i
	for n := 0; n < 5; n++ {
		short = !utf8.FullRuneInString(t[end:])
		r, size := utf8.DecodeRuneInString(t[end:])
		if !unicode.IsDigit(r) {
			if n == 0 {
				return -1, i, short
			}
			return number, end, short
		}
		number = number*10 + value(r)
		end += size
	}
	return -1, i, false
}

// value is what a decimal digit of any script counts: each script's ten stand in a row, the
// zero at the first place (Unicode standard, section 4.6).
func value(r rune) int {
	if r <= '9' {
		return int(r - '0')
	}
	v := 0
	for v < 9 && unicode.IsDigit(r-rune(v)-1) {
		v++
	}
	return v
}
