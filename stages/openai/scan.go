package openai

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// read reads what is needed of a completion and says whether it was one. Taking
// it apart by hand costs a fifth of what encoding/json takes, which was an
// eighth of the work on a text that is not cached.
//
// The body is checked by json.Valid first, so that what follows need not doubt
// its syntax. Keys are taken as they are written; null is as good as nothing.
func (a *answer) read(body []byte) bool {
	if !json.Valid(body) {
		return false
	}
	s := scan{rest: body}
	s.object(func(key string) {
		switch key {
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
	return !s.odd
}

func (s *scan) choice() (c choice) {
	s.object(func(key string) {
		switch key {
		case "finish_reason":
			c.FinishReason = s.string()
		case "message":
			s.object(func(key string) {
				switch key {
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

func (s *scan) usage() (u usage) {
	s.object(func(key string) {
		switch key {
		case "prompt_tokens":
			u.PromptTokens = s.int()
		case "completion_tokens":
			u.CompletionTokens = s.int()
		case "prompt_tokens_details":
			s.object(func(key string) {
				if key == "cached_tokens" {
					u.Details.CachedTokens = s.int()
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

// A scan goes through valid JSON, value by value. Each method takes the value
// that is next; one of another type than the method is for is skipped and makes
// the whole odd, except null.
type scan struct {
	rest []byte
	odd  bool
}

// next returns the byte with which the next token begins.
func (s *scan) next() byte {
	for {
		switch s.rest[0] {
		case ' ', '\t', '\r', '\n':
			s.rest = s.rest[1:]
		default:
			return s.rest[0]
		}
	}
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
func (s *scan) object(each func(key string)) {
	if !s.is('{') {
		return
	}
	s.rest = s.rest[1:]
	for s.next() != '}' {
		if s.rest[0] == ',' {
			s.rest = s.rest[1:]
			s.next()
		}
		raw := s.raw()
		s.next()
		s.rest = s.rest[1:] // the colon
		each(string(raw[1 : len(raw)-1]))
	}
	s.rest = s.rest[1:]
}

// array calls each for every element; each takes it.
func (s *scan) array(each func()) {
	if !s.is('[') {
		return
	}
	s.rest = s.rest[1:]
	for s.next() != ']' {
		if s.rest[0] == ',' {
			s.rest = s.rest[1:]
		}
		each()
	}
	s.rest = s.rest[1:]
}

func (s *scan) string() string {
	if !s.is('"') {
		return ""
	}
	raw := s.raw()
	if plain := raw[1 : len(raw)-1]; bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain) {
		return string(plain)
	}
	var text string
	s.odd = json.Unmarshal(raw, &text) != nil || s.odd
	return text
}

func (s *scan) int() int {
	if c := s.next(); c != '-' && (c < '0' || c > '9') {
		s.is('-')
		return 0
	}
	n, err := strconv.Atoi(string(s.scalar()))
	s.odd = s.odd || err != nil
	return n
}

// raw takes a string as it is written, quotes included.
func (s *scan) raw() []byte {
	i := 1
	for s.rest[i] != '"' {
		if s.rest[i] == '\\' {
			i++
		}
		i++
	}
	raw := s.rest[:i+1]
	s.rest = s.rest[i+1:]
	return raw
}

// scalar takes a number or a literal.
func (s *scan) scalar() []byte {
	i := 0
	for i < len(s.rest) && bytes.IndexByte([]byte(",]} \t\r\n"), s.rest[i]) < 0 {
		i++
	}
	raw := s.rest[:i]
	s.rest = s.rest[i:]
	return raw
}

// skip passes over a value of any type.
func (s *scan) skip() {
	for depth := 0; ; {
		switch s.next() {
		case '"':
			s.raw()
		case '{', '[':
			depth++
			s.rest = s.rest[1:]
		case '}', ']':
			depth--
			s.rest = s.rest[1:]
		case ',', ':':
			s.rest = s.rest[1:]
			continue
		default:
			s.scalar()
		}
		if depth == 0 {
			return
		}
	}
}
