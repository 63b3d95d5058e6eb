package openai

import (
	"bytes"
	"slices"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
	jsontext "github.com/dragoman-mt/dragoman/core/text/json"
)

// What the span of an attempt is told of the call and its answer is read of what was sent
// and received, and only for a span that is recorded: no other call pays for it.

// recorded is the span of the attempt that req is part of, nil unless it is recorded.
func recorded(req *core.Request) *core.Traced {
	if span := req.Trace.Traced(); span != nil && span.Context.Sampled {
		return span
	}
	return nil
}

// asks tells the span what a call asks for, whose body is encoded: numbers, and whether
// the answer is to be JSON. Whatever else a body holds may be a text.
func asks(span *core.Traced, encoded []byte) {
	if !span.Context.Sampled {
		return
	}
	span.Parameters, span.Stream, span.AnswerID, span.Reasoning = nil, false, "", 0 // those of a call that was made again
	s := scan{Scanner: jsontext.Lenient(encoded)}
	s.object(func(key []byte) {
		switch string(key) { // which needs no memory, as a variable of it would
		case "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "max_tokens", "max_completion_tokens", "seed", "n":
			if c := s.Next(); c == '-' || '0' <= c && c <= '9' {
				span.Parameters = append(span.Parameters, core.ChatField{Name: string(key), Value: s.Number()})
			} else {
				s.Skip()
			}
		case "stream":
			span.Stream = s.Next() == 't'
			s.Skip()
		case "response_format":
			s.object(func(inner []byte) {
				if string(inner) != "type" || s.Next() != '"' {
					s.Skip()
					return
				}
				switch kind := s.Text(); kind {
				case "text", "json_object", "json_schema":
					span.Parameters = append(span.Parameters, core.ChatField{Name: "response_format", Value: []byte(kind)})
				}
			})
		default:
			s.Skip()
		}
	})
}

// answers tells the span of req what an answer, or a piece of one, says of the whole: what
// the server calls it, in JSON, and what it cost.
func answers(req *core.Request, id []byte, cost *usage) {
	span := recorded(req)
	if span == nil {
		return
	}
	if cost != nil {
		span.Reasoning = cost.Reasoning
	}
	if span.AnswerID == "" && len(id) > 2 && id[0] == '"' {
		if id = id[1 : len(id)-1]; isName(req, id) {
			span.AnswerID = string(id)
		}
	}
}

// mostName is the longest name of an answer that is taken, in bytes.
const mostName = 128

// isName says whether id is a name that a server makes up, and not what it was sent: letters
// and digits of which no word is one of the texts.
func isName(req *core.Request, id []byte) bool {
	if len(id) > mostName || sent(req, id) {
		return false
	}
	digits, word := false, 0
	for i := 0; i <= len(id); i++ {
		c := byte('-')
		if i < len(id) {
			c = id[i]
		}
		switch {
		case c|0x20 >= 'a' && c|0x20 <= 'z':
			continue
		case c >= '0' && c <= '9':
			digits = true
		case strings.IndexByte("-_.:", c) < 0:
			return false
		}
		if i-word > 3 && sent(req, id[word:i]) {
			return false
		}
		word = i + 1
	}
	return digits
}

// sent says whether part stands in what was sent.
func sent(req *core.Request, part []byte) bool {
	if strings.Contains(req.Text, string(part)) || slices.ContainsFunc(req.Context, func(p core.Pair) bool {
		return strings.Contains(p.Source, string(part)) || strings.Contains(p.Target, string(part))
	}) {
		return true
	}
	return req.Chat != nil && slices.ContainsFunc(req.Chat.Fields, func(f core.ChatField) bool { return bytes.Contains(f.Value, part) })
}
