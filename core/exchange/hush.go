package exchange

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/textproto"
	"regexp"
	"strings"
	"syscall"
	"unicode"

	"github.com/dragoman-mt/dragoman/core"
)

// What an upstream writes may hold the request's own texts: validation and content
// filters quote them, and a hostile server puts them wherever something is read.
// So of what it wrote only short words are kept, and none that could be a piece of a
// text.

// A Hush keeps the secrets of a configuration and the texts of the requests of one call
// out of what is logged about it.
type Hush struct {
	secrets *strings.Replacer
	raw     []string
	texts   []string // folded
}

// Hush returns that of a call for reqs, of which there are none in a call without
// texts.
func (s *Secrets) Hush(reqs ...*core.Request) Hush {
	h := Hush{secrets: s.found}
	for _, req := range reqs {
		h.raw = append(h.raw, req.Instructions...)
		for _, pairs := range [][]core.Pair{req.Context, req.Terms} {
			for _, pair := range pairs {
				h.raw = append(h.raw, pair.Source, pair.Target)
			}
		}
		h.raw = append(h.raw, req.Text, req.Glossary)
		if req.Chat != nil {
			for _, f := range req.Chat.Fields {
				h.raw = append(h.raw, texts(f.Value)...)
			}
		}
	}
	for _, text := range h.raw {
		h.texts = append(h.texts, fold(text))
	}
	return h
}

// texts returns all texts in a JSON value but the names of keys and of what is usual.
func texts(value []byte) (all []string) {
	var tree any
	if json.Unmarshal(value, &tree) != nil {
		return []string{string(value)}
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			all = append(all, v)
		case []any:
			for _, each := range v {
				walk(each)
			}
		case map[string]any:
			for name, each := range v {
				if text, is := each.(string); is && (name == "role" || name == "type" && len(text) <= 16) {
					continue
				}
				walk(each)
			}
		}
	}
	walk(tree)
	return all
}

// fold leaves the letters and digits of s, in lower case.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, s)
}

const (
	// longestCode is the longest code that is kept, in bytes.
	longestCode = 64
	// piece is how many letters and digits in a row make a piece of a text.
	piece = 4
	// withheld stands for what is not kept.
	withheld = "(withheld)"
)

// codeShape is what type, code and location of an error look like: no blanks, no
// quotes, nothing but ASCII.
var codeShape = regexp.MustCompile(`^[A-Za-z0-9_.:/@+\[\]-]+$`)

// IsCode says whether s has the shape of a code.
func IsCode(s string) bool { return codeShape.MatchString(s) }

// Code returns s, which an upstream wrote where a code belongs.
func (h Hush) Code(s string) string {
	s = h.secrets.Replace(s)
	switch {
	case s == "":
		return ""
	case len(s) > longestCode || !codeShape.MatchString(s) || !usual(s) && h.Holds(s):
		return withheld
	}
	return s
}

// Cut returns s without the texts, as far as they stand in it as they are: what is
// left is the upstream's own.
func (h Hush) Cut(s string) string {
	for _, text := range h.raw {
		if text = strings.TrimSpace(text); len(text) >= piece {
			s = strings.ReplaceAll(s, text, " ")
		}
	}
	return s
}

const (
	// longestMessage is the most that is kept of a message, in bytes.
	longestMessage = 200
	// longestWord is the longest word of it: longer ones may be a text in another
	// writing, such as base64.
	longestWord = 24
)

// wordShape is what a word of a message looks like, with its marks round it.
var wordShape = regexp.MustCompile(`^[A-Za-z0-9_.,:;!?'"()\[\]{}<>=%$/-]+$`)

// Message returns s, which an upstream wrote for people, without what may be of the
// texts: every word is withheld that shares a piece with one of them.
func (h Hush) Message(s string) string {
	var b strings.Builder
	for word := range strings.FieldsSeq(h.secrets.Replace(h.Cut(s))) {
		if word != "[redacted]" && (len(word) > longestWord || !wordShape.MatchString(word) || h.Holds(word)) {
			if strings.HasSuffix(b.String(), withheld) {
				continue
			}
			word = withheld
		}
		if b.Len()+len(word) >= longestMessage {
			b.WriteString(" …")
			break
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word)
	}
	return b.String()
}

// Holds says whether s shares a piece with one of the texts.
func (h Hush) Holds(s string) bool {
	s = fold(s)
	for _, text := range h.texts {
		if text == "" {
			continue
		}
		if len(s) < piece && s != "" && strings.Contains(text, s) {
			return true
		}
		for i := 0; i+piece <= len(s); i++ {
			if strings.Contains(text, s[i:i+piece]) {
				return true
			}
		}
	}
	return false
}

// usual says whether s is made of words that the API itself is made of, which tell
// nothing of a text though one may hold them.
func usual(s string) bool {
	words := strings.FieldsFunc(s, func(r rune) bool { return r == '.' || r == '[' || r == ']' || '0' <= r && r <= '9' })
	for _, word := range words {
		switch word {
		case "invalid_request_error", "authentication_error", "permission_error", "not_found_error", "rate_limit_error",
			"server_error", "api_error", "overloaded_error", "tokens", "requests",
			"unsupported_value", "unsupported_parameter", "unknown_parameter", "missing_required_parameter", "invalid_value", "invalid_type",
			"invalid_api_key", "model_not_found", "rate_limit_exceeded", "insufficient_quota", "billing_hard_limit_reached",
			"context_length_exceeded", "string_above_max_length", "content_filter", "content_policy_violation",
			"messages", "content", "model", "temperature", "reasoning_effort", "store", "stream", "stream_options", "include_usage",
			"max_tokens", "max_completion_tokens":
		default:
			return false
		}
	}
	return len(words) > 0
}

// quoted is what Go's libraries put between quotes: what the server wrote.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*("|$)`)

// Failure returns the reason for a failed connection, on one line.
func (h Hush) Failure(err error) error {
	if _, ok := errors.AsType[textproto.ProtocolError](err); ok {
		return errors.New("the answer is not HTTP") // the rest of it is what the server wrote
	}
	text := oneLine(h.secrets.Replace(quoted.ReplaceAllString(err.Error(), withheld)), maxCause)
	if ofTheSystem(err) {
		return errors.New(text)
	}
	words := strings.Fields(text)
	for i, word := range words {
		if h.Holds(word) {
			words[i] = withheld
		}
	}
	return errors.New(strings.Join(words, " "))
}

// ofTheSystem says whether err is one in which nothing is that a server wrote.
func ofTheSystem(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrTooLong)
}
