package native

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/agnivade/levenshtein"

	"github.com/dragoman-mt/dragoman/core"
)

// A call is the body of POST /v1/translate as it was written. What was left
// out, or is null, has its default.
type call struct {
	texts        []string
	source       string
	target       string
	targets      []string
	formality    string
	instructions []string
	session      string
	segment      string
	revision     int64
	final        bool
	bulk         bool
	deadlineMS   int64
	noCache      bool
	stream       bool
	sessionUsage bool

	several bool // text is an array
	given   uint32
}

// A field is a key of the body.
type field uint8

const (
	fText field = iota
	fSource
	fTarget
	fTargets
	fFormat
	fFormality
	fGlossary
	fContext
	fInstructions
	fSession
	fSegment
	fRevision
	fFinal
	fBulk
	fDeadline
	fNoCache
	fStream
	fSessionUsage
	fields // how many there are
)

var names = [fields]string{
	"text", "source", "target", "targets", "format", "formality", "glossary", "context", "instructions",
	"session", "segment", "revision", "final", "bulk", "deadline_ms", "no_cache", "stream", "session_usage",
}

// has says whether f was given, and was not null.
func (c *call) has(f field) bool { return c.given&(1<<f) != 0 }

// decode reads a body. It is stricter than encoding/json, which would let a
// misspelt or repeated key, half a surrogate pair or broken UTF-8 pass, and it
// does in one pass what would take three there. Every error names its place or
// its field. What it returns shares no memory with body.
func decode(body []byte) (*call, error) {
	c := &call{final: true}
	s := &scanner{body: body}
	if err := s.utf8(); err != nil {
		return nil, err
	}
	s.object(c)
	if s.err == nil && s.next() != 0 {
		s.broken("something follows the object")
	}
	if s.err != nil {
		return nil, s.err
	}
	return c, nil
}

// A scanner walks through a body. After the first error, which it keeps, it
// does nothing more.
type scanner struct {
	body []byte
	at   int
	err  error
}

func (s *scanner) fail(err *core.Error) {
	if s.err == nil {
		s.err = err
	}
}

// broken notes that the body is no JSON where the scanner stands.
func (s *scanner) broken(format string, args ...any) {
	s.fail(&core.Error{Kind: core.InvalidRequest, Detail: "the JSON is broken at " + s.place() + ": " + fmt.Sprintf(format, args...)})
}

// place says where the scanner stands; a column is a code point.
func (s *scanner) place() string {
	before := s.body[:s.at]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Sprintf("line %d, column %d", line, column)
}

func (s *scanner) utf8() error {
	if utf8.Valid(s.body) {
		return nil
	}
	for s.at = 0; ; {
		r, n := utf8.DecodeRune(s.body[s.at:])
		if r == utf8.RuneError && n <= 1 {
			return &core.Error{Kind: core.InvalidRequest, Detail: "the body is not valid UTF-8 at " + s.place()}
		}
		s.at += n
	}
}

// next skips white space and returns the byte that follows, 0 at the end.
func (s *scanner) next() byte {
	for ; s.at < len(s.body); s.at++ {
		switch c := s.body[s.at]; c {
		case ' ', '\t', '\n', '\r':
		case 0:
			s.broken("a NUL character, which is not text")
			return 0
		default:
			return c
		}
	}
	return 0
}

// take skips white space and the byte c; what says, for the error, what should
// have stood there.
func (s *scanner) take(c byte, what string) {
	if s.err != nil {
		return
	}
	if got := s.next(); got != c {
		s.expected(what)
		return
	}
	s.at++
}

func (s *scanner) expected(what string) {
	if s.at >= len(s.body) {
		s.broken("it ends where %s should be", what)
		return
	}
	r, _ := utf8.DecodeRune(s.body[s.at:])
	s.broken("%q stands where %s should be", r, what)
}

const example = `{"text": "Good morning", "target": "es"}`

func (s *scanner) object(c *call) {
	switch c := s.next(); c {
	case '{':
		s.at++
	case 0:
		s.fail(&core.Error{Kind: core.InvalidRequest, Detail: "the body is empty; send JSON such as " + example})
		return
	case '[', '"':
		s.fail(&core.Error{Kind: core.InvalidRequest, Detail: "the body is " + s.typeName() + "; send an object such as " + example})
		return
	default:
		s.expected("an object, such as " + example + ",")
		return
	}
	if s.next() == '}' {
		s.at++
		return
	}
	var seen uint32
	for s.err == nil {
		if s.next() != '"' {
			s.expected("the name of a field, in quotes,")
			return
		}
		at := s.at
		name := s.raw()
		if s.err != nil {
			return
		}
		f, ok := lookUp(name)
		if !ok {
			s.fail(unknown(string(name)))
			return
		}
		if seen&(1<<f) != 0 {
			s.at = at
			s.fail(&core.Error{Kind: core.InvalidRequest, Field: names[f], Detail: names[f] + " is given a second time at " + s.place()})
			return
		}
		seen |= 1 << f
		s.take(':', "a colon")
		s.value(c, f)
		switch s.next() {
		case ',':
			s.at++
		case '}':
			s.at++
			return
		default:
			s.expected("a comma or the closing brace")
		}
	}
}

func lookUp(name []byte) (field, bool) {
	for f, n := range names {
		if string(name) == n {
			return field(f), true
		}
	}
	return 0, false
}

// elsewhere are names that other services give to fields of this call.
var elsewhere = map[string]field{
	"q": fText, "texts": fText, "input": fText,
	"source_lang": fSource, "source_language": fSource, "from": fSource, "sl": fSource,
	"target_lang": fTarget, "target_language": fTarget, "target_langs": fTargets, "to": fTarget, "tl": fTarget,
	"glossary_id": fGlossary,
}

func unknown(name string) *core.Error {
	shown := name
	if r := []rune(shown); len(r) > 40 {
		shown = string(r[:40]) + "…"
	}
	e := &core.Error{Kind: core.InvalidRequest, Field: shown, Detail: fmt.Sprintf("%q is not a field of this call", shown)}
	if len(name) > 40 {
		return e
	}
	switch strings.ToLower(name) {
	case "api_key", "auth_key":
		e.Detail += "; a key travels in the header Authorization: Bearer KEY"
		return e
	}
	if f, ok := elsewhere[strings.ToLower(name)]; ok {
		e.Detail += fmt.Sprintf("; here it is called %q", names[f])
		return e
	}
	best, distance := "", 4
	for _, n := range names {
		if d := levenshtein.ComputeDistance(strings.ToLower(name), n); d < distance && d <= (len(n)+1)/2 {
			best, distance = n, d
		}
	}
	if best != "" {
		e.Detail += fmt.Sprintf("; did you mean %q?", best)
	}
	return e
}

// value reads the value of f into c.
func (s *scanner) value(c *call, f field) {
	if s.err != nil {
		return
	}
	if s.next() == 'n' {
		s.literal("null")
		return
	}
	switch f {
	case fText:
		if s.next() == '[' {
			c.several = true
			c.texts = s.strings(f)
		} else {
			c.texts = []string{s.string(f, "a string or an array of strings")}
		}
	case fSource:
		c.source = s.string(f, "a string")
	case fTarget:
		c.target = s.string(f, "a string")
	case fTargets:
		c.targets = s.strings(f)
	case fFormality:
		c.formality = s.string(f, "a string")
	case fInstructions:
		c.instructions = s.strings(f)
	case fSession:
		c.session = s.string(f, "a string")
	case fSegment:
		c.segment = s.string(f, "a string")
	case fRevision:
		c.revision = s.integer(f)
	case fFinal:
		c.final = s.bool(f)
	case fBulk:
		c.bulk = s.bool(f)
	case fDeadline:
		c.deadlineMS = s.integer(f)
	case fNoCache:
		c.noCache = s.bool(f)
	case fFormat:
		if s.string(f, "a string") != "text" {
			s.fail(notYet(f, `a format other than "text"`))
		}
	case fStream:
		c.stream = s.bool(f)
	case fSessionUsage:
		c.sessionUsage = s.bool(f)
	case fGlossary, fContext:
		// Refused whatever it holds: ignoring it would change the translation.
		if s.typeName() == "" {
			s.expected("a value")
		}
		s.fail(notYet(f, names[f]))
	}
	c.given |= 1 << f
}

func notYet(f field, what string) *core.Error {
	return &core.Error{Kind: core.InvalidRequest, Field: names[f], Detail: what + " is not supported yet"}
}

// typeName says what kind of value begins where the scanner stands; it is empty
// when none does.
func (s *scanner) typeName() string {
	switch c := s.next(); {
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

func (s *scanner) wrongType(name, want string) {
	got := s.typeName()
	if got == "" {
		s.expected("a value")
		return
	}
	s.fail(&core.Error{Kind: core.InvalidRequest, Field: name, Detail: name + " is " + got + "; it must be " + want})
}

func (s *scanner) string(f field, want string) string {
	if s.next() != '"' {
		s.wrongType(names[f], want)
		return ""
	}
	return string(s.raw())
}

func (s *scanner) strings(f field) []string {
	if s.next() != '[' {
		s.wrongType(names[f], "an array of strings")
		return nil
	}
	s.at++
	list := []string{}
	if s.next() == ']' {
		s.at++
		return list
	}
	for s.err == nil {
		if s.next() != '"' {
			s.wrongType(names[f]+"["+strconv.Itoa(len(list))+"]", "a string")
			return nil
		}
		list = append(list, string(s.raw()))
		switch s.next() {
		case ',':
			s.at++
		case ']':
			s.at++
			return list
		default:
			s.expected("a comma or the closing bracket")
		}
	}
	return nil
}

func (s *scanner) bool(f field) bool {
	switch s.next() {
	case 't':
		s.literal("true")
		return true
	case 'f':
		s.literal("false")
		return false
	}
	s.wrongType(names[f], "true or false")
	return false
}

func (s *scanner) literal(word string) {
	if !bytes.HasPrefix(s.body[s.at:], []byte(word)) {
		s.expected("a value")
		return
	}
	s.at += len(word)
}

// integer reads a whole number. More digits than an int64 is sure to hold are
// refused.
func (s *scanner) integer(f field) int64 {
	if s.typeName() != "a number" {
		s.wrongType(names[f], "a whole number")
		return 0
	}
	begin := s.at
	if s.body[s.at] == '-' {
		s.at++
	}
	digits := s.at
	for s.at < len(s.body) && '0' <= s.body[s.at] && s.body[s.at] <= '9' {
		s.at++
	}
	switch n := s.at - digits; {
	case n == 0:
		s.expected("a digit")
		return 0
	case n > 1 && s.body[digits] == '0':
		s.at = digits
		s.broken("a number begins with 0")
		return 0
	case n > 18:
		s.fail(&core.Error{Kind: core.InvalidRequest, Field: names[f], Detail: names[f] + " is a larger number than is taken"})
		return 0
	}
	if s.at < len(s.body) && (s.body[s.at] == '.' || s.body[s.at]|0x20 == 'e') {
		s.fail(&core.Error{Kind: core.InvalidRequest, Field: names[f], Detail: names[f] + " must be a whole number"})
		return 0
	}
	n, err := strconv.ParseInt(string(s.body[begin:s.at]), 10, 64)
	if err != nil {
		s.broken("not a number")
	}
	return n
}

// raw reads the string that begins where the scanner stands. Without escapes
// what it returns is a part of the body.
func (s *scanner) raw() []byte {
	s.at++
	begin := s.at
	for ; s.at < len(s.body); s.at++ {
		switch c := s.body[s.at]; {
		case c == '"':
			s.at++
			return s.body[begin : s.at-1]
		case c == '\\':
			return s.escaped(append([]byte(nil), s.body[begin:s.at]...))
		case c < ' ':
			s.control(c)
			return nil
		}
	}
	s.broken("it ends within a string")
	return nil
}

// escaped reads on in a string from its first escape; out is what stood before.
func (s *scanner) escaped(out []byte) []byte {
	for s.at < len(s.body) {
		c := s.body[s.at]
		switch {
		case c == '"':
			s.at++
			return out
		case c == '\\':
			r, ok := s.escape()
			if !ok {
				return nil
			}
			out = utf8.AppendRune(out, r)
		case c < ' ':
			s.control(c)
			return nil
		default:
			out = append(out, c)
			s.at++
		}
	}
	s.broken("it ends within a string")
	return nil
}

func (s *scanner) control(c byte) {
	if c == 0 {
		s.broken("a NUL character, which is not text")
		return
	}
	s.broken(`a control character in a string; write it as \u%04x`, c)
}

// escape reads one escape (RFC 8259 section 7), or two that are the halves of
// one character.
func (s *scanner) escape() (rune, bool) {
	if s.at+1 >= len(s.body) {
		s.at = len(s.body)
		s.broken("it ends within a string")
		return 0, false
	}
	switch c := s.body[s.at+1]; c {
	case '"', '\\', '/':
		s.at += 2
		return rune(c), true
	case 'b', 'f', 'n', 'r', 't':
		s.at += 2
		return rune("\b\f\n\r\t"[strings.IndexByte("bfnrt", c)]), true
	case 'u':
		r, ok := s.hex(s.at)
		if !ok {
			s.broken(`\u is followed by four hexadecimal digits`)
			return 0, false
		}
		n := 6
		if utf16.IsSurrogate(r) {
			second, _ := s.hex(s.at + 6)
			if r = utf16.DecodeRune(r, second); r == utf8.RuneError {
				s.broken("half of a surrogate pair, which is no character")
				return 0, false
			}
			n = 12
		}
		s.at += n
		return r, true
	}
	s.broken("a backslash is followed by one of \" \\ / b f n r t u")
	return 0, false
}

// hex reads the \uXXXX that stands at the offset at.
func (s *scanner) hex(at int) (rune, bool) {
	if at+6 > len(s.body) || s.body[at] != '\\' || s.body[at+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range s.body[at+2 : at+6] {
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
