package door

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
)

// encodings are those that a body may be packed with, for Accept-Encoding.
const encodings = "gzip, deflate"

// unpackRoom is what unpacking a body takes besides the body, in bytes: the window
// of deflate and its tables.
const unpackRoom = 48 << 10

// encoding returns how a body is packed: gzip, deflate, or empty for not at all
// (RFC 9110 section 8.4). One packed several times is refused, since each layer
// multiplies what a few bytes can stand for.
func encoding(h http.Header) (string, error) {
	packed := ""
	for _, header := range h["Content-Encoding"] {
		for coding := range strings.SplitSeq(header, ",") {
			switch coding = strings.ToLower(strings.TrimSpace(coding)); coding {
			case "", "identity":
				continue
			case "x-gzip": // RFC 9110 section 8.4.1.3
				coding = "gzip"
			case "gzip", "deflate":
			default:
				return "", &core.Error{Kind: core.UnsupportedEncoding, Field: "Content-Encoding", Detail: fmt.Sprintf("a body packed with %.40q is not taken; send it as it is, or packed with gzip or deflate", coding)}
			}
			if packed != "" {
				return "", &core.Error{Kind: core.UnsupportedEncoding, Field: "Content-Encoding", Detail: "the body is packed more than once; pack it once, with gzip or deflate"}
			}
			packed = coding
		}
	}
	return packed, nil
}

// unpack returns what content holds. It reads content to its end before its own,
// and takes nothing that follows what was packed.
func unpack(packed string, content io.Reader) io.Reader {
	return &unpacker{packed: packed, content: bufio.NewReader(content)}
}

type unpacker struct {
	packed  string
	content *bufio.Reader
	inner   io.Reader // nil before the first byte
	err     error
}

func (u *unpacker) Read(p []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	if u.inner == nil {
		if u.inner, u.err = u.open(); u.err != nil {
			return 0, u.err
		}
	}
	n, err := u.inner.Read(p)
	if err == io.EOF {
		if _, more := u.content.ReadByte(); more == nil {
			err = fmt.Errorf("something follows what was packed")
		} else {
			err = more
		}
	}
	u.err = err
	return n, err
}

// open begins to unpack. Deflate is zlib's format (RFC 9110 section 8.4.1.2), but
// there are clients that leave its two bytes of head away.
func (u *unpacker) open() (io.Reader, error) {
	head, err := u.content.Peek(2)
	if len(head) == 0 && err == io.EOF {
		return nil, io.EOF // an empty body is one, however it is packed
	}
	switch {
	case u.packed == "gzip":
		return gzip.NewReader(u.content)
	case err == nil && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0:
		return zlib.NewReader(u.content)
	}
	return flate.NewReader(u.content), nil
}
