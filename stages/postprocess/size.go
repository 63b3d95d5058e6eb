package postprocess

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// Bounds of length. Lengths are in letters and digits, where a Han character or
// a kana counts three and a Hangul syllable two.
const (
	longBy  = 4   // an answer is too long with more than 4 times the text's length,
	longMin = 240 // and so much besides
	shortBy = 8   // and too short with less than an 8th of it,
	minText = 160 // if the text has at least so much
)

// misfit finds answers that are far longer or shorter than the text. The bounds
// are wide: they are there for an answer that explains, or leaves out, most of
// it.
func misfit(_ *core.Request, source, answer string) finding {
	// No character weighs more than its bytes.
	if len(answer) <= longMin && len(source) < minText {
		return finding{}
	}
	text, got := weight(source), weight(answer)
	switch {
	case got > longBy*text+longMin:
		return finding{kind: core.BadAnswer, detail: "the answer is far longer than the text", flag: FlagOddLength}
	case text >= minText && got*shortBy < text:
		return finding{kind: core.BadAnswer, detail: "the answer is far shorter than the text", flag: FlagOddLength}
	}
	return finding{}
}

func weight(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf:
			if c := r | 0x20; 'a' <= c && c <= 'z' || '0' <= r && r <= '9' {
				n++
			}
		case r < 0x2e80:
			if unicode.IsLetter(r) {
				n++
			}
		case 0xac00 <= r && r <= 0xd7a3:
			n += 2
		case unicode.IsLetter(r):
			n += 3
		}
	}
	return n
}

// looped finds an answer that ends in the same again and again, which is how a
// model runs away. A text that repeats itself may be answered alike.
func looped(_ *core.Request, source, answer string) finding {
	times, unit := repeats(answer)
	heft := weight(unit)
	if heft == 0 || times < 3 || heft < 12 && (times < 6 || times*heft < 60) {
		return finding{}
	}
	if own := mostRepeats(source, len(unit)/4); own > 1 && times <= 2*own+2 {
		return finding{}
	}
	return finding{kind: core.BadAnswer, detail: "the answer repeats itself without end", flag: FlagRepeats}
}

// repeats says how often s has unit at its end, one behind the other. Signs at
// the very end may be missing.
func repeats(s string) (times int, unit string) {
	const probe, tries, span = 8, 16, 8 << 10
	s = strings.TrimRightFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsNumber(r) })
	s = s[max(0, len(s)-span):]
	if len(s) < 3*probe {
		return 0, ""
	}
	end := s[len(s)-probe:]
	at := len(s) - probe
	for range tries {
		// Where the end stands once more, the unit may begin.
		at = strings.LastIndex(s[:at+probe-1], end)
		if at < 0 {
			break
		}
		period := len(s) - probe - at
		same := 0
		for i := len(s) - 1; i >= period && s[i] == s[i-period]; i-- {
			same++
		}
		if n := same/period + 1; n >= 3 {
			return n, s[len(s)-period:]
		}
	}
	return 0, ""
}

// mostRepeats says how often s has any one unit of at least size bytes, one
// behind the other. It is asked when an answer is all but refused.
func mostRepeats(s string, size int) int {
	most := 1
	for period := max(size, 2); period <= len(s)/2 && period <= 1024; period++ {
		same := 0
		for i := period; i < len(s); i++ {
			if s[i] != s[i-period] {
				same = 0
				continue
			}
			same++
			most = max(most, same/period+1)
		}
	}
	return most
}
