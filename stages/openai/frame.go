package openai

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"

	"github.com/dragoman-mt/dragoman/core/exchange"
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

// looksStreamed says whether body is a stream of events, or of lines of JSON.
func looksStreamed(body []byte) bool {
	body = start(body)
	return len(body) > 0 && (opensField(body[0]) && bytes.Contains(body, dataField) || isLines(body))
}

// isLines says whether body is an object a line. In one object no line ends so: its
// strings have no line ends, and in its lists a comma follows.
func isLines(body []byte) bool {
	return len(body) > 0 && body[0] == '{' && (bytes.Contains(body, []byte("}\n{")) || bytes.Contains(body, []byte("}\r\n{")))
}

// asEvents returns body as the stream of events that it is, or stands for.
func asEvents(body []byte) []byte {
	if lines := start(body); isLines(lines) {
		return append([]byte("data: "), bytes.ReplaceAll(lines, []byte("\n{"), []byte("\ndata: {"))...)
	}
	return bytes.Clone(body)
}

// unpack unpacks an answer that is packed with gzip though no header says so.
func unpack(buf *bytes.Buffer) error {
	if !bytes.HasPrefix(buf.Bytes(), []byte("\x1f\x8b")) {
		return nil
	}
	in, err := gzip.NewReader(bytes.NewReader(bytes.Clone(buf.Bytes())))
	if err != nil {
		return err
	}
	buf.Reset()
	_, err = io.Copy(buf, &atMost{in, exchange.MaxAnswer})
	return err
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
