// Package normal gives texts that are written in different bytes, but mean the
// same to a translator, one form.
package normal

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Append appends the normal form of s to dst: outer white space is left out,
// each run of blanks is one space, and the rest is in Unicode normalisation form
// C (UAX #15). Case, punctuation and line breaks are kept: they change a
// translation. It allocates only to grow dst, and for text that was not in form
// C.
func Append(dst []byte, s string) []byte {
	s = strings.TrimSpace(s)
	start, copied := len(dst), 0 // s[:copied] is in dst
	composed, afterBlank := true, false
	for i := 0; i < len(s); {
		r, n := rune(s[i]), 1
		if r > ' ' && r < utf8.RuneSelf { // most of all text
			afterBlank = false
			i++
			continue
		}
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(s[i:])
			composed = composed && r < firstMark
		}
		if !isBlank(r) {
			afterBlank = false
		} else {
			if afterBlank || r != ' ' {
				dst = append(dst, s[copied:i]...)
				if !afterBlank {
					dst = append(dst, ' ')
				}
				copied = i + n
			}
			afterBlank = true
		}
		i += n
	}
	dst = append(dst, s[copied:]...)
	// What package norm is given may not be on the stack, which dst may be. Other blanks
	// make no text that is in form C one that is not.
	if composed || norm.NFC.IsNormalString(s) {
		return dst
	}
	return append(dst[:start], norm.NFC.String(string(dst[start:]))...)
}

// firstMark is the first combining mark. Text without it and what follows, such
// as that of most European languages, is in form C.
const firstMark = 0x300

// isBlank says whether r is a tab or a space separator (Zs of Unicode).
func isBlank(r rune) bool {
	switch {
	case r < 0x80:
		return r == ' ' || r == '\t'
	case r < 0x1680:
		return r == 0xa0
	}
	return r == 0x1680 || r >= 0x2000 && r <= 0x200a || r == 0x202f || r == 0x205f || r == 0x3000
}

// String returns the normal form of s.
func String(s string) string { return string(Append(nil, s)) }
