package door

import (
	"net/http"
	"slices"
	"time"
)

const (
	// Heartbeat is how long a stream may be silent before a comment is sent:
	// proxies on the way cut what is silent for longer, often for 30 or 60 s.
	Heartbeat = 15 * time.Second
	// Patience is how long a client may leave no room for the next piece of a
	// stream before it is given up.
	Patience = 5 * time.Second
	// piece is how much is written at once, in bytes: with Patience it sets how
	// slowly a client may read.
	piece = 16 << 10
)

// A Stream answers a call with server-sent events (WHATWG HTML standard, section
// 9.2). Until the first Send nothing has left, and any other answer may be given
// instead. It is used by one goroutine at a time, before the handler returns.
type Stream struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
	begun    bool
}

// NewStream returns a stream to w, whose client may leave no room for as long as
// patience.
func NewStream(w http.ResponseWriter, patience time.Duration) *Stream {
	return &Stream{w: w, control: http.NewResponseController(w), patience: patience}
}

// Begun says whether something was sent.
func (s *Stream) Begun() bool { return s.begun }

// Send writes events, whole ones, and returns when they have left. After an
// error the client gets nothing more, and there is nothing to tell it.
//
// The deadline is that of each piece, so that neither a long stream nor one of
// large events is cut while its client reads.
func (s *Stream) Send(events []byte) error {
	if !s.begun {
		s.begun = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream")
		if h.Get("Cache-Control") == "" {
			h.Set("Cache-Control", "no-store")
		}
		h.Set("X-Accel-Buffering", "no") // nginx would hold the events back
		h["X-Content-Type-Options"] = noSniff
		s.w.WriteHeader(http.StatusOK)
	}
	for part := range slices.Chunk(events, piece) {
		if err := s.control.SetWriteDeadline(time.Now().Add(s.patience)); err != nil {
			return err
		}
		if _, err := s.w.Write(part); err != nil {
			return err
		}
	}
	return s.control.Flush()
}

// Comment sends what clients pass over, if anything was sent before.
func (s *Stream) Comment() error {
	if !s.begun {
		return nil
	}
	return s.Send(comment)
}

var comment = []byte(":\n\n")
