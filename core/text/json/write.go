// Package jsontext reads and writes JSON (RFC 8259) by hand, where encoding/json
// would be the dearest part of a call. It knows no message of any protocol: who uses
// it says which keys there are and what they hold.
package jsontext

import (
	"strings"
	"unicode/utf8"
)

// AppendString appends s as a JSON string. A run of bytes that is not UTF-8 becomes
// one U+FFFD.
func AppendString(b []byte, s string) []byte {
	return append(AppendEscaped(append(b, '"'), s), '"')
}

// AppendEscaped is AppendString without the quotation marks, for a string that is
// written piece by piece.
func AppendEscaped(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	for {
		n := plain(s)
		b = append(b, s[:n]...)
		if n == len(s) {
			return b
		}
		switch c := s[n]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		s = s[n+1:]
	}
}
