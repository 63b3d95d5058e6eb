package openai

import (
	"encoding/json"
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
		switch name := string(key); name {
		case "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "max_tokens", "max_completion_tokens", "seed", "n":
			if c := s.Next(); c == '-' || '0' <= c && c <= '9' {
				span.Parameters = append(span.Parameters, core.ChatField{Name: name, Value: s.Number()})
			} else {
				s.Skip()
			}
		case "stream":
			span.Stream = s.Next() == 't'
			s.Skip()
		case "response_format":
			s.object(func(key []byte) {
				if string(key) != "type" || s.Next() != '"' {
					s.Skip()
					return
				}
				switch kind := s.Text(); kind {
				case "text", "json_object", "json_schema":
					span.Parameters = append(span.Parameters, core.ChatField{Name: name, Value: []byte(kind)})
				}
			})
		default:
			s.Skip()
		}
	})
}

// answers tells the span of req what an answer in one piece says of itself.
func (p *Provider) answers(req *core.Request, body []byte) {
	span := recorded(req)
	if span == nil {
		return
	}
	s := scan{Scanner: jsontext.Lenient(body)}
	s.object(func(key []byte) {
		switch string(key) {
		case "id":
			p.called(req, span, s.string())
		case "usage":
			u := s.usage()
			span.Reasoning = u.Reasoning
		default:
			s.Skip()
		}
	})
}

// told tells the span of req what a piece of a streamed answer says of the whole.
func (p *Provider) told(req *core.Request, c *chunk) {
	span := recorded(req)
	if span == nil {
		return
	}
	if c.Usage != nil {
		span.Reasoning = c.Usage.Reasoning
	}
	var id string
	if span.AnswerID == "" && json.Unmarshal(c.ID, &id) == nil {
		p.called(req, span, id)
	}
}

// called notes the name of an answer, unless the server has written into it what it was
// sent.
func (p *Provider) called(req *core.Request, span *core.Traced, id string) {
	if id = p.hush(req).Code(id); !strings.HasPrefix(id, "(") {
		span.AnswerID = id
	}
}
