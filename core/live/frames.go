package live

import (
	"github.com/dragoman-mt/dragoman/core"
)

// Frames to a client, as the protocol has them. They are encoded with encoding/json.

// A Head begins every frame.
type Head struct {
	Type string `json:"type"`
	// Seq counts the frames of a session, over all its connections; ack has none.
	Seq int64 `json:"seq,omitempty"`
}

func (h *Head) stamp(seq int64) { h.Seq = seq }

// A Frame is anything that a client is sent.
type Frame interface{ stamp(seq int64) }

// Ready is the first frame of a connection.
type Ready struct {
	Head
	Session string `json:"session"`
	// Epoch counts the sessions of that name and key.
	Epoch   int64 `json:"epoch"`
	Resumed bool  `json:"resumed"`
	// Resume is what the next connection shows to continue.
	Resume string `json:"resume"`
}

// Target is the translation of a segment as far as it is known.
type Target struct {
	Head
	Target   core.Language `json:"target"`
	Segment  string        `json:"segment"`
	Revision int64         `json:"revision"`
	// Concluded is put behind what was concluded before.
	Concluded string `json:"concluded"`
	// Tentative takes the place of the former tentative text.
	Tentative string `json:"tentative"`
	Final     bool   `json:"final"`
	*Last
	Labels
}

// Last is what only a final frame says.
type Last struct {
	// Text is the whole translation, which is what counts.
	Text      string   `json:"text"`
	LatencyMS int64    `json:"latency_ms"`
	Flags     []string `json:"flags"`
	// Corrected is how many code points of what was concluded are not in Text.
	Corrected    int      `json:"corrected,omitempty"`
	Late         bool     `json:"late,omitempty"`
	FromFinalize bool     `json:"from_finalize,omitempty"`
	Error        *Problem `json:"error,omitempty"`
}

// Labels come back as the client gave them.
type Labels struct {
	Speaker  string        `json:"speaker,omitempty"`
	StartMS  *int64        `json:"start_ms,omitempty"`
	EndMS    *int64        `json:"end_ms,omitempty"`
	Language core.Language `json:"language,omitempty"`
}

// A Problem is why a final has no text.
type Problem struct {
	Code    core.ErrorKind `json:"code"`
	Message string         `json:"message"`
}

// Correction says what should stand where Concluded was, before the final that says so
// too; only to who asked for corrections.
type Correction struct {
	Head
	Target    core.Language `json:"target"`
	Segment   string        `json:"segment"`
	Revision  int64         `json:"revision"`
	Text      string        `json:"text"`
	Corrected int           `json:"corrected"`
}

// Notice says what changed, or what was passed over.
type Notice struct {
	Head
	Kind   string `json:"kind"`
	Detail string `json:"detail"`
}

// GoAway says that the connection is about to be closed.
type GoAway struct {
	Head
	Reason     string `json:"reason"`
	TimeLeftMS int64  `json:"time_left_ms"`
}

// Failure is an error of the client's.
type Failure struct {
	Head
	Code    core.ErrorKind `json:"code"`
	Message string         `json:"message"`
	Field   string         `json:"field,omitempty"`
	Segment string         `json:"segment,omitempty"`
	Fatal   bool           `json:"fatal"`
}

// Ack says that a revision was taken.
type Ack struct {
	Head
	Segment  string `json:"segment"`
	Revision int64  `json:"revision"`
}

func (*Ack) stamp(int64) {}

// End is the last frame of a target, and, without one, of the session.
type End struct {
	Head
	Target core.Language `json:"target,omitempty"`
}
