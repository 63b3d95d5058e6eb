// Package traffic is what clients of live sessions say: speech as a recogniser writes it
// down, and traces of it in files.
package traffic

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// An Event is one revision that a client sends. A trace is a file with one a line.
type Event struct {
	AtMS     int64  `json:"at_ms"`
	Session  string `json:"session"`
	Segment  string `json:"segment"`
	Revision int64  `json:"revision"`
	Text     string `json:"text"`
	Final    bool   `json:"final,omitempty"`
	Speaker  string `json:"speaker,omitempty"`
	// Runes is how long the text was, in a trace without texts.
	Runes int `json:"code_points,omitempty"`
}

// At is when, after the start.
func (e Event) At() time.Duration { return time.Duration(e.AtMS) * time.Millisecond }

const (
	maxLine   = 1 << 20
	maxEvents = 1 << 20
)

// Read reads a trace. The error names the line.
func Read(r io.Reader) (all []Event, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	n := 0
	for lines.Scan() {
		n++
		if len(lines.Bytes()) == 0 {
			continue
		}
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("line %d is no event of a trace: %w", n, err)
		}
		switch {
		case e.Segment == "":
			return nil, fmt.Errorf("line %d has no segment", n)
		case len(all) > 0 && e.AtMS < all[len(all)-1].AtMS || e.AtMS < 0:
			return nil, fmt.Errorf("line %d: at_ms goes back", n)
		case len(all) == maxEvents:
			return nil, fmt.Errorf("line %d: at most %d events are taken", n, maxEvents)
		}
		all = append(all, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	if len(all) == 0 {
		return nil, errors.New("the trace is empty")
	}
	return all, nil
}

// Write writes a trace.
func Write(w io.Writer, all []Event) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	for _, e := range all {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	return b.Flush()
}
