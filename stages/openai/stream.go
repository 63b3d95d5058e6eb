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
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// maxStream is the most that is read of one stream, in bytes: each token comes in
// some 300 of them.
const maxStream = 64 << 20

// events reads the data of server-sent events (WHATWG HTML section 9.2), of
// which the API puts each on one line: a line is an event, whether or not a
// blank one follows. Comments, other fields and blank lines are passed over.
type events struct{ lines *bufio.Scanner }

func newEvents(r io.Reader, buf []byte) events {
	lines := bufio.NewScanner(&atMost{r, maxStream})
	lines.Buffer(buf, maxAnswer)
	lines.Split((&splitter{}).lines)
	return events{lines}
}

// next returns the data of the next event; it is valid until the next call. The
// error is io.EOF at the end.
func (e events) next() ([]byte, error) {
	for e.lines.Scan() {
		data, ok := bytes.CutPrefix(bytes.TrimPrefix(e.lines.Bytes(), bom), dataField)
		if !ok {
			continue
		}
		if data = bytes.TrimSpace(data); len(data) > 0 {
			return data, nil
		}
	}
	switch err := e.lines.Err(); {
	case err == nil:
		return nil, io.EOF
	case errors.Is(err, bufio.ErrTooLong):
		return nil, errTooLong
	default:
		return nil, err
	}
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
		return 0, errTooLong
	}
	n, err := a.r.Read(p[:min(len(p), a.left)])
	a.left -= n
	return n, err
}

// chunk is what is read of one event of a streamed completion.
type chunk struct {
	Model   string `json:"model"`
	Choices []struct {
		FinishReason string `json:"finish_reason"`
		Delta        struct {
			Content string `json:"content"`
			Refusal string `json:"refusal"`
		} `json:"delta"`
	} `json:"choices"`
	Usage *usage          `json:"usage"`
	Error json.RawMessage `json:"error"`
}

// isStream says whether resp is a stream. A server that does not know how to
// answers in one piece instead.
func isStream(resp *http.Response) bool {
	return resp.StatusCode == http.StatusOK && !strings.Contains(resp.Header.Get("Content-Type"), "json")
}

// stream reads a streamed answer to its end and hands its text to OnDelta of req
// as it comes. An error from that ends it. The usage holds even when there is an
// error.
//
// That the failures of a broken stream are retryable says that another attempt
// may succeed; whether one may still be made, only the owner of retries knows,
// which sees what has left.
func (p *Provider) stream(ctx, call context.Context, cancel func(), req *core.Request, resp *http.Response, buf *bytes.Buffer) (*core.Result, core.Usage, error) {
	buf.Reset()
	buf.Grow(4 << 10)
	in := newEvents(resp.Body, buf.AvailableBuffer())
	var (
		a     said
		text  strings.Builder
		timer *time.Timer // runs when the text is complete
	)
	complete := func() {
		if timer == nil {
			timer = time.AfterFunc(parting, cancel)
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
		if err != nil && timer != nil {
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
			return nil, a.usage, p.garbled("the provider's answer was not the JSON that was asked for", data)
		}
		if len(c.Error) > 0 && c.Error[0] == '{' {
			return nil, a.usage, p.interrupted(req, resp, data)
		}
		if c.Model != "" {
			a.model = c.Model
		}
		if c.Usage != nil {
			a.usage = c.Usage.counted()
		}
		if len(c.Choices) == 0 {
			continue
		}
		choice := &c.Choices[0]
		if text.Len()+len(choice.Delta.Content) > maxAnswer {
			return nil, a.usage, p.broken(ctx, call, req, errTooLong)
		}
		if piece := choice.Delta.Refusal; piece != "" {
			a.refusal = piece // that there is one is all that counts
		}
		if piece := choice.Delta.Content; piece != "" {
			text.WriteString(piece)
			if err := req.OnDelta(piece); err != nil {
				return nil, a.usage, p.unwanted(err)
			}
		}
		if choice.FinishReason != "" {
			a.finish = choice.FinishReason
			complete()
		}
	}
	a.text = text.String()
	res, err := p.result(a)
	return res, a.usage, err
}

// interrupted is the error that an answer turned into. Its status was sent
// before it was known, so the code has to tell.
func (p *Provider) interrupted(req *core.Request, resp *http.Response, data []byte) *core.Error {
	status := http.StatusInternalServerError
	if r := readRefusal(data); r.Code == "rate_limit_exceeded" {
		status = http.StatusTooManyRequests
	}
	err := p.failed(req, status, resp.Header, data)
	if err.Kind == core.ProviderFailed {
		err.Detail = "the provider broke its answer off"
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
