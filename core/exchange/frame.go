package exchange

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Body returns b in the form in which net/http sees that it is in memory: it
// writes such a body together with the head, and any other in a packet of its
// own after it.
func Body(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

// IsGood says whether an answer with status may be a translation: 204 and 205 have
// nothing to say (RFC 9110, 15.3.5 and 15.3.6).
func IsGood(status int) bool {
	return status >= 200 && status < 300 && status != http.StatusNoContent && status != http.StatusResetContent
}

// The reasons for an answer that is not unpacked.
var (
	errPacked      = errors.New("its Content-Encoding is neither gzip nor deflate")
	errPackedTwice = errors.New("its Content-Encoding says that it is packed more than once")
)

// Unpack makes the body of resp one that is not packed. Nothing packed was asked
// for, but some servers and proxies send it nevertheless. One packed several times is
// refused, since each name in a header would take the memory of an unpacker.
func Unpack(resp *http.Response) error {
	encoding := First(resp.Header, "Content-Encoding")
	if encoding == "" || resp.StatusCode < http.StatusOK {
		return nil
	}
	packed := false
	for name := range strings.SplitSeq(encoding, ",") {
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "", "identity":
		case "gzip", "x-gzip", "deflate":
			if packed {
				return errPackedTwice
			}
			packed = true
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

// MaxAnswer is the longest answer that is read, in bytes.
const MaxAnswer = 1 << 20

// ErrTooLong is why an answer was not read to its end.
var ErrTooLong = fmt.Errorf("the answer is longer than %d bytes", MaxAnswer)

// Of an answer that has said what it has to say, the end is waited for a moment
// more, so that the connection can be used again.
const (
	// Parting is for one of which nothing is missing any more.
	Parting = 250 * time.Millisecond
	// reason is for what comes with a status that is a failure anyway.
	reason = time.Second
)

// Receive reads an answer to its end, or until it has said what it has to say, as whole
// finds of what ends like JSON, and its end does not come. Cancel ends the call; ctx is
// the caller's.
func Receive(ctx context.Context, cancel func(), resp *http.Response, buf *bytes.Buffer, whole func([]byte) bool) error {
	defer resp.Body.Close()
	buf.Reset()
	if resp.StatusCode < http.StatusOK {
		// A server that leaves HTTP (101), which it was not asked to, may hand
		// over its connection in place of a body. A read of that could last for
		// ever.
		return nil
	}
	if n := resp.ContentLength; n > 0 && n < MaxAnswer {
		buf.Grow(int(n) + bytes.MinRead)
	}
	var enough *time.Timer
	if !IsGood(resp.StatusCode) {
		// The status says more than the missing rest of the body.
		enough = time.AfterFunc(reason, cancel)
	}
	defer func() {
		if enough != nil {
			enough.Stop()
		}
	}()
	in := io.LimitReader(resp.Body, MaxAnswer+1)
	for looks := 0; ; {
		buf.Grow(bytes.MinRead)
		free := buf.AvailableBuffer()
		n, err := in.Read(free[:cap(free)])
		buf.Write(free[:n])
		switch {
		case buf.Len() > MaxAnswer:
			return ErrTooLong
		case err == io.EOF:
			return nil
		case err != nil && ctx.Err() == nil && (enough != nil || closed(buf.Bytes()) && whole(buf.Bytes())):
			return nil // only its end is missing
		case err != nil:
			return err
		case enough == nil && looks < maxLooks && closed(free[:n]):
			looks++
			if whole(buf.Bytes()) {
				enough = time.AfterFunc(Parting, cancel)
			}
		}
	}
}

// maxLooks bounds how often an answer that comes in pieces is looked at for
// whether it is whole.
const maxLooks = 8

// closed says whether b may be the whole of a JSON object or a stream.
func closed(b []byte) bool {
	b = bytes.TrimRight(b, " \t\r\n")
	return len(b) > 0 && (b[len(b)-1] == '}' || b[len(b)-1] == ']')
}
