package openai

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
)

// Servers do not always send what their headers say, so what an answer is made of
// is told by how it begins.

// isStream says whether the body of resp, which is not changed by that, is a stream
// of events. It waits for the first byte that is neither blank nor of a comment.
func isStream(resp *http.Response) (bool, error) {
	in := bufio.NewReaderSize(&atMost{resp.Body, maxStream}, 1<<10)
	resp.Body = struct {
		io.Reader
		io.Closer
	}{in, resp.Body}
	for comment := false; ; {
		c, err := in.ReadByte()
		switch {
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, err
		case c == '\n' || c == '\r':
			comment = false
		case comment, c == ' ', c == '\t', c == bom[0], c == bom[1], c == bom[2]:
		case c == ':':
			comment = true
		default:
			return opensField(c), in.UnreadByte()
		}
	}
}

// opensField says whether c begins the name of a field of an event: data, event, id
// or retry.
func opensField(c byte) bool { return c == 'd' || c == 'e' || c == 'i' || c == 'r' }

// looksStreamed says whether body is a stream of events.
func looksStreamed(body []byte) bool {
	body = start(body)
	return len(body) > 0 && opensField(body[0]) && bytes.Contains(body, dataField)
}

// start returns body from the first byte on that is neither blank nor of a comment.
func start(body []byte) []byte {
	for {
		body = bytes.TrimLeft(body, " \t\r\n\ufeff")
		if len(body) == 0 || body[0] != ':' {
			return body
		}
		end := bytes.IndexAny(body, "\r\n")
		if end < 0 {
			return nil
		}
		body = body[end:]
	}
}

// parse reads the JSON in body, whatever stands round it: comments and blank lines
// before, the end of a stream behind; of a stream its first event.
func parse(body []byte) (tree any, ok bool) {
	body = start(body)
	if len(body) > 0 && opensField(body[0]) {
		data, err := newEvents(bytes.NewReader(body), nil).next()
		if err != nil {
			return nil, false
		}
		body = data
	}
	body = bytes.TrimRight(body, " \t\r\n")
	if rest, cut := bytes.CutSuffix(body, done); cut {
		body = bytes.TrimSuffix(bytes.TrimRight(rest, " \t\r\n"), dataField)
	}
	if len(body) == 0 || body[0] != '{' && body[0] != '[' {
		return nil, false
	}
	return tree, json.Unmarshal(body, &tree) == nil
}
