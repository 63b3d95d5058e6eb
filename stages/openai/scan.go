package openai

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"
)

// read reads what is needed of a completion and says whether it was one. Taking
// it apart by hand, in one pass, costs a tenth of what encoding/json takes,
// which was an eighth of the work on a text that is not cached.
//
// Keys are taken as they are written; null is as good as nothing.
func (a *answer) read(body []byte) bool {
	s := scan{rest: body}
	s.object(func(key []byte) {
		switch string(key) {
		case "model":
			a.Model = s.string()
		case "choices":
			s.array(func() { a.Choices = append(a.Choices, s.choice()) })
		case "usage":
			a.Usage = s.usage()
		default:
			s.skip()
		}
	})
	return s.next() == 0 && len(s.rest) == 0 && !s.odd
}

func (s *scan) choice() (c choice) {
	s.object(func(key []byte) {
		switch string(key) {
		case "finish_reason":
			c.FinishReason = s.string()
		case "message":
			s.object(func(key []byte) {
				switch string(key) {
				case "content":
					c.Message.Content = s.string()
				case "refusal":
					c.Message.Refusal = s.string()
				default:
					s.skip()
				}
			})
		default:
			s.skip()
		}
	})
	return c
}

// usage reads what a call is said to have cost. It is beside the point of the answer,
// so nothing in it makes that one odd: what is no count is unknown.
func (s *scan) usage() (u usage) {
	s.counts(func(key []byte) {
		switch string(key) {
		case "prompt_tokens":
			u.PromptTokens = s.count()
		case "completion_tokens":
			u.CompletionTokens = s.count()
		case "prompt_tokens_details":
			s.counts(func(key []byte) {
				if string(key) == "cached_tokens" {
					u.Details.CachedTokens = s.count()
				} else {
					s.skip()
				}
			})
		default:
			s.skip()
		}
	})
	return u
}

// UnmarshalJSON reads the usage in a piece of a stream as that of a whole answer.
func (u *usage) UnmarshalJSON(body []byte) error {
	s := scan{rest: body}
	*u = s.usage()
	return nil
}

// A scan goes through JSON (RFC 8259), value by value. Each method takes the
// value that is next. One of another type than the method is for is skipped and
// makes the whole odd, except null; so does what is not JSON, and nothing is
// read after that.
type scan struct {
	rest  []byte
	depth int
	odd   bool
}

// deepest is how many values may stand in one another.
const deepest = 100

// next returns the byte with which the next token begins, 0 at the end.
func (s *scan) next() byte {
	for i, c := range s.rest {
		switch c {
		case ' ', '\t', '\r', '\n':
		default:
			s.rest = s.rest[i:]
			return c
		}
	}
	s.rest = nil
	return 0
}

// fail ends the scan: what is next is not JSON.
func (s *scan) fail() { s.odd, s.rest = true, nil }

// take takes the token c, if it is next.
func (s *scan) take(c byte) bool {
	if s.next() != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// is says whether the value that is next begins with c; if not it is skipped.
func (s *scan) is(c byte) bool {
	switch s.next() {
	case c:
		return true
	case 'n':
	default:
		s.odd = true
	}
	s.skip()
	return false
}

// object calls each with every key; each takes the value.
func (s *scan) object(each func(key []byte)) {
	if !s.is('{') {
		return
	}
	s.within('}', func() {
		if s.next() != '"' {
			s.fail()
			return
		}
		key := s.raw()
		if !s.take(':') {
			s.fail()
			return
		}
		each(key)
	})
}

// array calls each for every element; each takes it.
func (s *scan) array(each func()) {
	if s.is('[') {
		s.within(']', each)
	}
}

// within calls each for what stands, parted by commas, between the bracket that
// is next and end.
func (s *scan) within(end byte, each func()) {
	s.rest = s.rest[1:]
	if s.take(end) {
		return
	}
	if s.depth++; s.depth > deepest {
		s.fail()
		return
	}
	each()
	for s.take(',') {
		each()
	}
	if s.depth--; !s.take(end) {
		s.fail()
	}
}

func (s *scan) string() string {
	if !s.is('"') {
		return ""
	}
	whole := s.rest
	inner := s.raw()
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner)
	}
	var text string
	s.odd = s.odd || json.Unmarshal(whole[:len(inner)+2], &text) != nil
	return text
}

// counts calls each with every key, if what is next is an object.
func (s *scan) counts(each func(key []byte)) {
	if s.next() == '{' {
		s.object(each)
	} else {
		s.skip()
	}
}

// count takes a number, which may be written as a float or in a string, and is the
// nearest int; what is none counts as 0.
func (s *scan) count() int {
	var raw []byte
	switch c := s.next(); {
	case c == '"':
		raw = s.raw()
	case c == '-' || '0' <= c && c <= '9':
		raw = s.scalar()
	default:
		s.skip()
	}
	if n, err := strconv.Atoi(string(raw)); err == nil {
		return n
	}
	if !json.Valid(raw) { // ParseFloat knows more numbers than JSON
		return 0
	}
	switch f, _ := strconv.ParseFloat(string(raw), 64); { // infinite if it is too large for that, 0 if it is none
	case f >= math.MaxInt:
		return math.MaxInt
	case f <= math.MinInt:
		return math.MinInt
	default:
		return int(f)
	}
}

// raw takes a string and returns what stands between its quotes, as it is
// written.
func (s *scan) raw() []byte {
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			raw := s.rest[1:i]
			s.rest = s.rest[i+1:]
			return raw
		case c == '\\':
			n := escaped(s.rest[i+1:])
			if n == 0 {
				s.fail()
				return nil
			}
			i += n
		case c < ' ':
			s.fail()
			return nil
		}
	}
	s.fail()
	return nil
}

// escaped returns how much of b, which a backslash stands before, belongs to
// it; 0 when that is nothing.
func escaped(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	switch b[0] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 1
	case 'u':
		if len(b) < 5 {
			return 0
		}
		for _, c := range b[1:5] {
			if !('0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f') {
				return 0
			}
		}
		return 5
	}
	return 0
}

// scalar takes a number or a literal.
func (s *scan) scalar() []byte {
	i := 0
	for i < len(s.rest) && bytes.IndexByte([]byte(",]} \t\r\n"), s.rest[i]) < 0 {
		i++
	}
	raw := s.rest[:i]
	if !json.Valid(raw) {
		s.fail()
		return nil
	}
	s.rest = s.rest[i:]
	return raw
}

// skip passes over a value of any type.
func (s *scan) skip() {
	switch s.next() {
	case '"':
		s.raw()
	case '{':
		s.object(func([]byte) { s.skip() })
	case '[':
		s.array(s.skip)
	default:
		s.scalar()
	}
}
