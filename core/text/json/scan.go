package jsontext

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A Scanner goes through JSON, value by value, and checks it on the way. Each method
// takes what is next; the caller asks Next what that is. After the first error, which
// the scanner keeps, there is nothing more to take: what is taken then is empty.
//
// The values of an array, and the members of an object, are gone through like this:
//
//	s.Open()
//	for i := 0; s.More(i, ']'); i++ {
//		// take the value
//	}
type Scanner struct {
	body    []byte
	at      int
	depth   int
	err     error
	lenient bool
}

// deepest is how many values may stand in one another.
const deepest = 100

// Strict returns a scanner that takes text for text only: what is not UTF-8 and half of
// a surrogate pair, which encoding/json makes U+FFFD, are errors. It is for what clients
// send, who can mend it.
func Strict(body []byte) Scanner {
	s := Scanner{body: body}
	if utf8.Valid(body) {
		return s
	}
	for {
		r, n := utf8.DecodeRune(body[s.at:])
		if r == utf8.RuneError && n <= 1 {
			s.Fail(errors.New("the body is not valid UTF-8 at " + s.Place(s.at)))
			return s
		}
		s.at += n
	}
}

// Lenient returns a scanner that takes what is no text in a string as encoding/json
// does: each byte that is not UTF-8, and each half of a surrogate pair, becomes U+FFFD.
// It is for what servers send, of which the rest is good.
func Lenient(body []byte) Scanner { return Scanner{body: body, lenient: true} }

// Err returns the first error.
func (s *Scanner) Err() error { return s.err }

// Fail ends the scan with err, unless it has ended with another.
func (s *Scanner) Fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.body, s.at = nil, 0
}

// Broken ends the scan: what is next is no JSON.
func (s *Scanner) Broken(format string, args ...any) {
	if s.err == nil {
		s.Fail(errors.New("the JSON is broken at " + s.Place(s.at) + ": " + fmt.Sprintf(format, args...)))
	}
}

// Expected ends the scan: what is next is not what should be there.
func (s *Scanner) Expected(what string) {
	if s.at >= len(s.body) {
		s.Broken("it ends where %s should be", what)
		return
	}
	r, _ := utf8.DecodeRune(s.body[s.at:])
	s.Broken("%q stands where %s should be", r, what)
}

// Offset says where the scanner stands, for Place.
func (s *Scanner) Offset() int { return s.at }

// Place says in which line and column an offset is; a column is a code point.
func (s *Scanner) Place(offset int) string {
	before := s.body[:min(offset, len(s.body))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Sprintf("line %d, column %d", line, column)
}

// Next skips white space and returns the byte that follows, 0 at the end.
func (s *Scanner) Next() (c byte) {
	if s.at < len(s.body) {
		if c = s.body[s.at]; c > ' ' {
			return c
		}
	}
	return s.blank()
}

// blank is Next where there may be white space. It stands apart so that Next is short
// enough to be inlined.
func (s *Scanner) blank() byte {
	for ; s.at < len(s.body); s.at++ {
		switch c := s.body[s.at]; c {
		case ' ', '\t', '\n', '\r':
		case 0:
			s.Broken("a NUL character, which is not text")
			return 0
		default:
			return c
		}
	}
	return 0
}

// Peek returns the very next byte, 0 at the end.
func (s *Scanner) Peek() byte {
	if s.at < len(s.body) {
		return s.body[s.at]
	}
	return 0
}

// Kind says what kind of value is next; it is empty when none is.
func (s *Scanner) Kind() string {
	switch c := s.Next(); {
	case c == '"':
		return "a string"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == 't', c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	case c == '-', '0' <= c && c <= '9':
		return "a number"
	}
	return ""
}

// Open takes the bracket or the brace that is next.
func (s *Scanner) Open() {
	if s.at < len(s.body) {
		s.at++
	}
}

// More says whether there is one more in what was opened, after i of them, and takes
// the comma before it; if not it takes end, which is ']' or '}'.
func (s *Scanner) More(i int, end byte) bool {
	c := s.Next()
	switch {
	case c == end:
		s.at++
		if i > 0 {
			s.depth--
		}
		return false
	case i == 0:
		if s.depth++; s.depth > deepest {
			s.Broken("more than %d values stand in one another", deepest)
		}
		return s.err == nil
	case c == ',':
		s.at++
		return true
	case end == '}':
		s.Expected("a comma or the closing brace")
	default:
		s.Expected("a comma or the closing bracket")
	}
	return false
}

// Name takes the name of a member, as it is written. Colon follows.
func (s *Scanner) Name() []byte {
	if s.Next() != '"' {
		s.Expected("the name of a field, in quotes,")
		return nil
	}
	return s.Raw()
}

// Colon takes what stands between a name and its value.
func (s *Scanner) Colon() {
	if s.Next() != ':' {
		s.Expected("a colon")
		return
	}
	s.at++
}

// Literal takes true, false or null, of which the first letter is next.
func (s *Scanner) Literal(word string) {
	if !bytes.HasPrefix(s.body[s.at:], []byte(word)) {
		s.Expected("a value")
		return
	}
	s.at += len(word)
}

// Whole takes the sign and the whole part of the number that is next. What is left of
// it, if it is no whole number, begins with a point or an e.
func (s *Scanner) Whole() []byte {
	begin := s.at
	if s.Peek() == '-' {
		s.at++
	}
	first := s.at
	switch n := s.digits(); {
	case n == 0:
		s.Expected("a digit")
		return nil
	case n > 1 && s.body[first] == '0':
		s.at = first
		s.Broken("a number begins with 0")
		return nil
	}
	return s.body[begin:s.at]
}

// Number takes the number that is next, as it is written.
func (s *Scanner) Number() []byte {
	begin := s.at
	s.Whole()
	if s.Peek() == '.' {
		s.at++
		if s.digits() == 0 {
			s.Expected("a digit")
		}
	}
	if s.Peek()|0x20 == 'e' {
		s.at++
		if c := s.Peek(); c == '+' || c == '-' {
			s.at++
		}
		if s.digits() == 0 {
			s.Expected("a digit")
		}
	}
	if s.err != nil {
		return nil
	}
	return s.body[begin:s.at]
}

// digits takes digits and says how many.
func (s *Scanner) digits() int {
	begin := s.at
	for s.at < len(s.body) && '0' <= s.body[s.at] && s.body[s.at] <= '9' {
		s.at++
	}
	return s.at - begin
}

// Text takes the string that is next.
func (s *Scanner) Text() string {
	text, escaped := s.quoted()
	if escaped {
		text = Unescaped(text)
	}
	if s.lenient && !utf8.Valid(text) {
		return string([]rune(string(text))) // one U+FFFD for each byte
	}
	return string(text)
}

// Raw takes the string that is next and returns what stands between its quotes, as it
// is written: a part of the body.
func (s *Scanner) Raw() []byte {
	raw, _ := s.quoted()
	return raw
}

// quoted is Raw, and says whether there are escapes.
func (s *Scanner) quoted() (raw []byte, escaped bool) {
	if s.Next() != '"' {
		s.Expected("a string")
		return nil, false
	}
	s.at++
	begin := s.at
	for {
		s.at += plain(s.body[s.at:])
		if s.at == len(s.body) {
			s.Broken("it ends within a string")
			return nil, false
		}
		switch c := s.body[s.at]; c {
		case '"':
			s.at++
			return s.body[begin : s.at-1], escaped
		case '\\':
			if !s.escape() {
				return nil, false
			}
			escaped = true
		case 0:
			s.Broken("a NUL character, which is not text")
			return nil, false
		default:
			s.Broken(`a control character in a string; write it as \u%04x`, c)
			return nil, false
		}
	}
}

// plain returns how many bytes at the start of b stand for themselves in a string: all
// but controls, the quotation mark and the backslash. Eight are looked at at once.
func plain[T string | []byte](b T) int {
	const each, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := b[i : i+8]
		x := uint64(w[0]) | uint64(w[1])<<8 | uint64(w[2])<<16 | uint64(w[3])<<24 | uint64(w[4])<<32 | uint64(w[5])<<40 | uint64(w[6])<<48 | uint64(w[7])<<56
		// A byte less n, where that is below 0, has its highest bit set.
		quote, slash := x^each*'"', x^each*'\\'
		if found := (x-each*' ')&^x | (quote-each)&^quote | (slash-each)&^slash; found&high != 0 {
			return i + bits.TrailingZeros64(found&high)/8 // a borrow spoils only what follows the first
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' {
			break
		}
	}
	return i
}

// escape passes over one escape (RFC 8259 section 7), or over two that are the halves
// of one character, and says whether there is one.
func (s *Scanner) escape() bool {
	if s.at+1 >= len(s.body) {
		s.at = len(s.body)
		s.Broken("it ends within a string")
		return false
	}
	switch s.body[s.at+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.at += 2
		return true
	case 'u':
		r, n := unit(s.body[s.at:])
		switch {
		case n == 0:
			s.Broken(`\u is followed by four hexadecimal digits`)
			return false
		case utf16.IsSurrogate(r) && !s.lenient:
			s.Broken("half of a surrogate pair, which is no character")
			return false
		}
		s.at += n
		return true
	}
	s.Broken("a backslash is followed by one of \" \\ / b f n r t u")
	return false
}

// Skip passes over a value of any kind.
func (s *Scanner) Skip() {
	switch c := s.Next(); {
	case c == '"':
		s.Raw()
	case c == '{':
		s.Open()
		for i := 0; s.More(i, '}'); i++ {
			s.Name()
			s.Colon()
			s.Skip()
		}
	case c == '[':
		s.Open()
		for i := 0; s.More(i, ']'); i++ {
			s.Skip()
		}
	case c == 't':
		s.Literal("true")
	case c == 'f':
		s.Literal("false")
	case c == 'n':
		s.Literal("null")
	case c == '-', '0' <= c && c <= '9':
		s.Number()
	default:
		s.Expected("a value")
	}
}

// Unescaped returns what a string says that a scanner has taken raw: raw itself unless
// there are escapes in it. Half of a surrogate pair becomes U+FFFD.
func Unescaped(raw []byte) []byte {
	n := bytes.IndexByte(raw, '\\')
	if n < 0 {
		return raw
	}
	out := make([]byte, 0, len(raw)) // an escape is longer than what it stands for
	for n >= 0 {
		out = append(out, raw[:n]...)
		switch c := raw[n+1]; c {
		case 'u':
			r, size := unit(raw[n:])
			out = utf8.AppendRune(out, r) // U+FFFD for a half
			raw = raw[n+size:]
		case '"', '\\', '/':
			out, raw = append(out, c), raw[n+2:]
		default:
			out, raw = append(out, "\b\f\n\r\t"[strings.IndexByte("bfnrt", c)]), raw[n+2:]
		}
		n = bytes.IndexByte(raw, '\\')
	}
	return append(out, raw...)
}

// unit reads the \uXXXX with which b begins, or two that are one character. It returns
// the length too, 0 when there is none. Of a half without the other it returns the half.
func unit(b []byte) (r rune, n int) {
	r, ok := unhex(b)
	if !ok {
		return 0, 0
	}
	if utf16.IsSurrogate(r) {
		if second, ok := unhex(b[6:]); ok {
			if whole := utf16.DecodeRune(r, second); whole != utf8.RuneError {
				return whole, 12
			}
		}
	}
	return r, 6
}

// unhex reads one \uXXXX.
func unhex(b []byte) (r rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
