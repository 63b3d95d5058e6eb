package pool

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
)

// ErrClosed is why a call fails after Close. It comes inside a CallError.
var ErrClosed = errors.New("the pool of connections is closed")

// A DialError says that no connection could be made: nothing of the request was
// sent. It never wraps a context's error: the caller's time is not over.
type DialError struct {
	Origin string // scheme, host and port
	Err    error
}

func (e *DialError) Error() string { return "connecting to " + e.Origin + ": " + reason(e.Err) }
func (e *DialError) Unwrap() error { return e.Err }

// A CallError says that a call got no answer, for another reason than a failed
// dial. Err wraps the cause of the request's context when that ended the call.
type CallError struct {
	Origin string
	// Written says that bytes of the request were written, so that the server
	// may have seen it.
	Written bool
	Err     error
}

func (e *CallError) Error() string {
	if e.Written {
		return fmt.Sprintf("calling %s: after the request was sent: %v", e.Origin, e.Err)
	}
	return fmt.Sprintf("calling %s: %v", e.Origin, e.Err)
}

func (e *CallError) Unwrap() error { return e.Err }

// reason adds to an error what an operator can do about it.
func reason(err error) string {
	text := err.Error()
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return text + " (pool.ca_file adds an authority)"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return text + " (does the server speak TLS on this port? the URL says https)"
	}
	return text
}

// errorPeerClosed reports whether err, of a round trip that brought no answer,
// says that the peer closed the connection before the first byte of one. heard
// says that bytes came in meanwhile, which under TLS need not be an answer's.
//
// net/http turns an end of file inside an answer into io.ErrUnexpectedEOF, so
// io.EOF is one before it, even where TLS said good-bye first.
func errorPeerClosed(err error, heard bool) bool {
	if errors.Is(err, io.EOF) {
		return true
	}
	return !heard && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
}

// A streamError is net/http's error of one HTTP/2 stream, whose own type it does
// not export: errors.As fills any struct with the same fields.
type streamError struct {
	StreamID uint32
	Code     uint32 // RFC 9113, section 7
	Cause    error
}

func (e streamError) Error() string { return fmt.Sprintf("stream %d: code %d", e.StreamID, e.Code) }

// errorRefused reports whether err says that the server did nothing with a
// request that it got, and whether it takes no more on that connection.
//
// It says the first by REFUSED_STREAM (RFC 9113, section 8.7), and both by a
// GOAWAY whose last stream is below that of the request (section 6.8), an error
// to which net/http gives no type. A PROTOCOL_ERROR is its other way to refuse
// one call too many (section 5.1.2), which Go's server does to a client that
// heard of an answer's end before the server's own books had it; net/http uses
// the connection no more then.
func errorRefused(err error) (refused, away bool) {
	if e, ok := errors.AsType[streamError](err); ok {
		const protocolError, refusedStream = 0x1, 0x7
		away = e.Code == protocolError && e.Cause != nil && e.Cause.Error() == "received from peer"
		return away || e.Code == refusedStream, away
	}
	away = strings.Contains(err.Error(), goAway)
	return away, away
}

// What net/http says of a GOAWAY, to a call that the server did not take and to
// one that it took but did not answer.
const (
	goAway       = "http2: Transport received Server's graceful shutdown GOAWAY"
	goAwayClosed = "http2: server sent GOAWAY and closed the connection"
)

// errorPeerLeft is errorPeerClosed for HTTP/2, where an end of file always is
// unexpected, an answer that began is no error, and other calls may have been
// answered meanwhile.
func errorPeerLeft(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.Contains(err.Error(), goAway) || strings.Contains(err.Error(), goAwayClosed)
}
