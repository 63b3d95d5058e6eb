package openai

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
)

// Servers do not always send what their headers say, so what an answer is made of
// is told by how it begins.

// errPacked is the reason for an answer in an encoding that is not known.
var errPacked = errors.New("its Content-Encoding is neither gzip nor deflate")

// unpack makes the body of resp one that is not packed. Nothing packed was asked
// for, but some servers and proxies send it nevertheless.
func unpack(resp *http.Response) error {
	encoding := first(resp.Header, "Content-Encoding")
	if encoding == "" || resp.StatusCode < http.StatusOK {
		return nil
	}
	for name := range strings.SplitSeq(encoding, ",") {
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "", "identity":
		case "gzip", "x-gzip", "deflate":
			resp.Body = &unpacked{Closer: resp.Body, packed: bufio.NewReader(resp.Body)}
			resp.ContentLength = -1
		default:
			return errPacked
		}
	}
	return nil
}

// unpacked reads what is packed with gzip (RFC 1952), or with deflate, by which some
// mean zlib's format (RFC 1950, as RFC 9110 section 8.4.1.2 has it) and some the bare
// one (RFC 1951). Some say either and pack nothing.
type unpacked struct {
	io.Closer
	packed *bufio.Reader
	plain  io.Reader // nil before the first read
}

func (u *unpacked) Read(b []byte) (int, error) {
	if u.plain == nil {
		start, err := u.packed.Peek(2)
		switch {
		case len(start) < 2:
			if err == io.EOF && len(start) > 0 {
				u.plain = u.packed
				break
			}
			return 0, err
		case start[0] == 0x1f && start[1] == 0x8b:
			u.plain, err = gzip.NewReader(u.packed)
			if err != nil {
				return 0, err
			}
		case start[0]&0x0f == 8 && (int(start[0])<<8|int(start[1]))%31 == 0:
			u.plain, err = zlib.NewReader(u.packed)
			if err != nil {
				return 0, err
			}
		case start[0] == '{' || start[0] == '[' || start[0] == ':' || start[0] == '<' || start[0] == 'd' && start[1] == 'a', start[0] == ' ' || start[0] == '\n' || start[0] == '\r':
			u.plain = u.packed
		default:
			u.plain = flate.NewReader(u.packed)
		}
	}
	return u.plain.Read(b)
}

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
