package openai

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/exchange"
)

// maxStream is the most that is read of one stream, in bytes: each token comes in
// some 300 of them.
const maxStream = 64 << 20

// events reads the data of server-sent events (WHATWG HTML section 9.2), of
// which the API puts each on one line: a line is an event, whether or not a
// blank one follows, unless it is JSON that goes on. Comments, other fields and
// blank lines are passed over.
type events struct {
	lines *bufio.Scanner
	begun *bytes.Buffer // an event that goes on
}

func newEvents(r io.Reader, buf []byte) events {
	lines := bufio.NewScanner(&atMost{r, maxStream})
	lines.Buffer(buf, exchange.MaxAnswer)
	lines.Split((&splitter{}).lines)
	return events{lines, new(bytes.Buffer)}
}

// next returns the data of the next event; it is valid until the next call. The
// error is io.EOF at the end.
func (e events) next() ([]byte, error) {
	e.begun.Reset()
	var open nesting
	for e.lines.Scan() {
		line := bytes.TrimPrefix(e.lines.Bytes(), bom)
		data, ok := bytes.CutPrefix(line, dataField)
		data = bytes.TrimSpace(data)
		switch {
		case !ok && len(line) == 0 && e.begun.Len() > 0:
			return e.begun.Bytes(), nil
		case !ok || len(data) == 0:
			continue
		}
		whole := open.closes(data)
		if whole && e.begun.Len() == 0 {
			return data, nil
		}
		if e.begun.Len()+len(data) >= exchange.MaxAnswer {
			return nil, exchange.ErrTooLong
		}
		if e.begun.Len() > 0 {
			e.begun.WriteByte('\n')
		}
		if e.begun.Write(data); whole {
			return e.begun.Bytes(), nil
		}
	}
	switch err := e.lines.Err(); {
	case err == nil && e.begun.Len() > 0:
		return e.begun.Bytes(), nil
	case err == nil:
		return nil, io.EOF
	case errors.Is(err, bufio.ErrTooLong):
		return nil, exchange.ErrTooLong
	default:
		return nil, err
	}
}

// A nesting follows the brackets of JSON that comes in pieces.
type nesting struct {
	depth             int
	inString, escaped bool
}

// closes says whether nothing is open any more behind piece. What does not begin
// like a JSON object is whole as it is.
func (n *nesting) closes(piece []byte) bool {
	if n.depth == 0 && !n.inString && piece[0] != '{' {
		return true
	}
	for _, c := range piece {
		switch {
		case n.escaped:
			n.escaped = false
		case n.inString:
			n.escaped, n.inString = c == '\\', c != '"'
		case c == '"':
			n.inString = true
		case c == '{' || c == '[':
			n.depth++
		case c == '}' || c == ']':
			n.depth--
		}
	}
	return n.depth <= 0 && !n.inString
}

// Written to by nobody.
var (
	bom       = []byte("\ufeff")
	dataField = []byte("data:")
	done      = []byte("[DONE]")
)

// A splitter ends lines at CR or LF. CRLF gives a blank line more, which means
// nothing, and so a CR need not wait for what follows.
type splitter struct {
	seen int // how much of the line that is being read has no end
}

// lines is a bufio.SplitFunc. A long line that comes in small pieces is looked
// at once, not again with every piece.
func (s *splitter) lines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexAny(data[s.seen:], "\r\n"); i >= 0 {
		i += s.seen
		s.seen = 0
		return i + 1, data[:i], nil
	}
	if s.seen = len(data); atEOF && len(data) > 0 {
		s.seen = 0
		return len(data), data, nil
	}
	return 0, nil, nil
}

// atMost is an io.LimitedReader that fails instead of ending.
type atMost struct {
	r    io.Reader
	left int
}

func (a *atMost) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, exchange.ErrTooLong
	}
	n, err := a.r.Read(p[:min(len(p), a.left)])
	a.left -= n
	return n, err
}

// chunk is what is read of one event of a streamed completion.
type chunk struct {
	ID      json.RawMessage `json:"id"`
	Created json.RawMessage `json:"created"`
	Model   string          `json:"model"`
	Choices []struct {
		FinishReason string          `json:"finish_reason"`
		Delta        delta           `json:"delta"`
		Message      *delta          `json:"message"` // of servers that stream one piece
		Text         json.RawMessage `json:"text"`    // of those that complete, and do not chat
		Error        json.RawMessage `json:"error"`   // why it ends
	} `json:"choices"`
	Usage *usage          `json:"usage"`
	Error json.RawMessage `json:"error"`
}

type delta struct {
	Content   json.RawMessage `json:"content"`
	Refusal   string          `json:"refusal"`
	Reasoning json.RawMessage `json:"reasoning"`
	Thinking  json.RawMessage `json:"thinking"`
	Thoughts  json.RawMessage `json:"reasoning_content"`
	ToolCalls json.RawMessage `json:"tool_calls"`
}

// says says whether raw is there and neither null nor empty.
func says(raw json.RawMessage) bool {
	switch string(raw) {
	case "", "null", `""`, "false", "{}", "[]":
		return false
	}
	return true
}

// A seam puts text together whose characters were cut over two pieces: JSON writes
// those beyond the BMP as two halves (RFC 8259 section 7).
type seam struct{ half []byte }

// text returns the text of raw, the content of a delta, up to a half that another
// piece completes.
func (s *seam) text(raw json.RawMessage) (text string, thought bool, err error) {
	if len(raw) < 2 || raw[0] != '"' {
		var content any
		if !says(raw) {
			return "", false, nil
		}
		if err := json.Unmarshal(raw, &content); err != nil {
			return "", false, err
		}
		text, thought = parts(content, 0)
		return text, thought, nil
	}
	if n := halfAt(raw[1 : len(raw)-1]); len(s.half) > 0 || n > 0 {
		inner := append(slices.Clone(s.half), raw[1:len(raw)-1]...)
		n = halfAt(inner)
		s.half = slices.Clone(inner[len(inner)-n:])
		raw = append(append([]byte{'"'}, inner[:len(inner)-n]...), '"')
	}
	err = json.Unmarshal(raw, &text)
	return text, false, err
}

// halfAt returns how many bytes at the end of inner, the inside of a JSON string, are
// the beginning of a character.
func halfAt(inner []byte) int {
	const escape = len(`\ud83d`)
	if n := len(inner); n >= escape {
		last := inner[n-escape:]
		if last[0] == '\\' && last[1] == 'u' && last[2]|0x20 == 'd' && strings.IndexByte("89abAB", last[3]) >= 0 && slashes(inner[:n-escape])%2 == 0 {
			return escape
		}
	}
	for n := 1; n < utf8.UTFMax && n <= len(inner); n++ {
		if c := inner[len(inner)-n]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(inner[len(inner)-n:]) {
				return n
			}
			break
		}
	}
	return 0
}

// slashes returns how many backslashes b ends with.
func slashes(b []byte) int { return len(b) - len(bytes.TrimRight(b, `\`)) }

// stream reads a streamed answer to its end and hands its text to OnDelta of req
// as it comes. An error from that ends it. The usage holds even when there is an
// error.
//
// That the failures of a broken stream are retryable says that another attempt
// may succeed; whether one may still be made, only the owner of retries knows,
// which sees what has left.
func (p *Provider) stream(ctx, call context.Context, cancel func(), req *core.Request, sent *params, resp *http.Response, buf *bytes.Buffer) (*core.Result, core.Usage, error) {
	buf.Reset()
	buf.Grow(4 << 10)
	in := newEvents(resp.Body, buf.AvailableBuffer())
	var (
		a     said
		text  strings.Builder
		seam  seam
		timer *time.Timer // runs when the text is complete
		// begins follows the thoughts with which the text may begin.
		begins opening
		// always says that pieces of text carry a reason for the end, so that it says
		// nothing of the end.
		always bool
		heard  int // how much of text the caller has got or will not get
	)
	complete := func() {
		if timer == nil {
			timer = time.AfterFunc(exchange.Parting, cancel)
		}
	}
	defer func() {
		if timer != nil {
			timer.Stop()
		}
	}()
	for {
		data, err := in.next()
		if err == nil && bytes.Equal(data, done) {
			complete()
			// What is left is the end, which the connection needs to be used again.
			io.Copy(io.Discard, io.LimitReader(resp.Body, maxKept))
			break
		}
		if err != nil && timer != nil || err == io.EOF && a.finish != "" {
			break // nothing of the text is missing
		}
		switch {
		case err == io.EOF:
			return nil, a.usage, p.again(core.ProviderFailed, "the provider's answer ended in its middle", nil)
		case err != nil:
			return nil, a.usage, p.broken(ctx, call, req, err)
		}
		var c chunk
		if json.Unmarshal(data, &c) != nil {
			if !json.Valid(data) {
				return nil, a.usage, p.garbled("the provider's answer was not the JSON that was asked for", data)
			}
			c = chunk{Error: data}
		}
		if len(c.Choices) > 0 && says(c.Choices[0].Error) && !says(c.Error) {
			c.Error = c.Choices[0].Error
		}
		if says(c.Error) || len(c.Choices) == 0 && c.Usage == nil {
			if r := readRefusal(data); r.isError {
				failed := p.interrupted(req, resp, r)
				if heard > 0 {
					return nil, a.usage, failed
				}
				return nil, a.usage, p.adapted(req, sent, failed, 0, data)
			}
			if says(c.Error) {
				return nil, a.usage, p.garbled("the provider's answer was not the JSON that was asked for", data)
			}
		}
		if c.Model != "" {
			a.model = c.Model
		}
		if c.Usage != nil {
			a.usage = c.Usage.counted()
		}
		answers(req, c.ID, c.Usage)
		if len(c.Choices) == 0 {
			continue
		}
		choice := &c.Choices[0]
		said := &choice.Delta
		if said.Content == nil && choice.Message != nil && text.Len() == 0 {
			said = choice.Message
		}
		if said.Content == nil {
			said.Content = choice.Text
		}
		piece, thought, err := seam.text(said.Content)
		if err != nil {
			return nil, a.usage, p.garbled("the provider's answer was not the JSON that was asked for", data)
		}
		piece = printable(piece)
		if whole := text.String(); p.grows && whole != "" {
			piece = strings.TrimPrefix(piece, whole)
		}
		if text.Len()+len(piece) > exchange.MaxAnswer {
			return nil, a.usage, p.broken(ctx, call, req, exchange.ErrTooLong)
		}
		a.thought = a.thought || thought || says(said.Reasoning) || says(said.Thoughts) || says(said.Thinking)
		if said.Refusal != "" {
			a.refusal = said.Refusal // that there is one is all that counts
		}
		if piece != "" {
			if timer != nil {
				timer.Stop() // it goes on
				timer = nil
			}
			always = always || choice.FinishReason != ""
			text.WriteString(piece)
			if req.OnDelta != nil {
				if heard == 0 {
					// Thoughts at the beginning are no piece of an answer: who has heard
					// nothing can be given another.
					heard = begins.end(text.String())
					piece = text.String()[max(heard, 0):]
				}
				if heard >= 0 && piece != "" {
					heard = text.Len()
					if err := req.OnDelta(piece); err != nil {
						return nil, a.usage, p.unwanted(err)
					}
				} else {
					heard = 0
				}
			}
		}
		if choice.FinishReason != "" {
			a.finish = choice.FinishReason
			if piece == "" && !always && (text.Len() > 0 || ending(a.finish) != core.FinishStop) {
				complete()
			}
		}
	}
	a.text = text.String()
	res, err := p.result(a)
	if err == nil && heard == 0 && req.OnDelta != nil && !opensMark(a.text) {
		// It only looked like the beginning of thoughts.
		if err := req.OnDelta(a.text); err != nil {
			return nil, a.usage, p.unwanted(err)
		}
	}
	if short, is := errors.AsType[*cutShort](err); is {
		short.heard = heard > 0
	}
	return res, a.usage, err
}

// interrupted is the error that an answer turned into. Its status was sent
// before it was known, so what it says has to tell.
func (p *Provider) interrupted(req *core.Request, resp *http.Response, r refusal) *core.Error {
	err := p.failure(req, r.status(), resp.Header, r)
	if err.Kind == core.ProviderFailed {
		err.Detail, err.Retryable = "the provider broke its answer off", err.Retryable || r.Status == 0
	}
	return err
}

// unwanted is the error of an answer that the caller wants no more of.
func (p *Provider) unwanted(why error) error {
	if _, ok := errors.AsType[*core.Error](why); ok {
		return why
	}
	return p.fail(core.Canceled, "the answer is not wanted any more", fmt.Errorf("a delta was refused: %w", why))
}
