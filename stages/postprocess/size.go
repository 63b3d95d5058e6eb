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
func misfit(q *question, answer string) finding {
	// No character weighs more than its bytes.
	if len(answer) <= longMin && len(q.source) < minText {
		return finding{}
	}
	q.spend(len(answer) + len(q.source))
	text, got := weight(q.source), weight(answer)
	switch {
	case got > longBy*text+longMin:
		return tooLong
	case text >= minText && got*shortBy < text:
		return finding{kind: core.BadAnswer, detail: "the answer is far shorter than the text", flag: FlagOddLength}
	}
	return finding{}
}

// absurdMin is how many letters more than those of longBy texts an answer may
// have to be repaired: one that is longer is refused as it came. That is more
// than a model writes about a translation, and as much as output limits allow.
const absurdMin = 16 << 10

// absurd finds an answer that is too long to look for a translation in it. What
// a model thinks before it answers may be of any length.
func absurd(q *question, answer string) finding {
	if len(answer) <= absurdMin || holdsThoughts(q, answer) {
		return finding{}
	}
	q.spend(len(answer) + len(q.source))
	if weight(answer) <= longBy*weight(q.source)+absurdMin {
		return finding{}
	}
	return tooLong
}

var tooLong = finding{kind: core.BadAnswer, detail: "the answer is far longer than the text", flag: FlagOddLength}

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
func looped(q *question, answer string) finding {
	q.spend(min(len(answer), maxLoop))
	times, unit := repeats(answer)
	heft := weight(unit)
	if heft == 0 || times < 3 || heft < 12 && (times < 6 || times*heft < 60) {
		return finding{}
	}
	if own := mostRepeats(q, len(unit)/4); own > 1 && times <= 2*own+2 {
		return finding{}
	}
	return finding{kind: core.BadAnswer, detail: "the answer repeats itself without end", flag: FlagRepeats}
}

// maxLoop is how much of the end of a text, in bytes, is looked at for what
// repeats itself.
const maxLoop = 8 << 10

// repeats says how often s has unit at its end, one behind the other. Signs at
// the very end may be missing.
func repeats(s string) (times int, unit string) {
	const probe, tries = 8, 16
	s = strings.TrimRightFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsNumber(r) })
	s = s[max(0, len(s)-maxLoop):]
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

// mostRepeats says how often the text has any one unit of at least size bytes,
// one behind the other, at its beginning or its end. It is asked when an answer
// is all but refused.
func mostRepeats(q *question, size int) int {
	first, last := q.source, ""
	if len(first) > 2*maxLoop {
		first, last = first[:maxLoop], first[len(first)-maxLoop:]
	}
	q.spend(len(first) + len(last))
	most := 1
	for _, s := range [...]string{first, last} {
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
	}
	return most
}
