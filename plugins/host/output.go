package host

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Bounds of what a plugin prints, whatever it prints.
const (
	maxLine   = 16 << 10 // bytes of one line that are kept
	maxLines  = 100      // lines a second that are logged
	lastLines = 5        // lines that are part of the error when it dies
	lastLine  = 300      // bytes of each
)

// An output takes the lines that a plugin prints, on any of its streams: they go
// to the log, and the last ones are remembered. It is safe for concurrent use.
type output struct {
	log *zap.Logger

	mu      sync.Mutex
	last    []string
	second  time.Time // when the current second began
	logged  int       // lines in it
	dropped int       // lines in it that were too many
}

// tail returns the last lines, to end an error with.
func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.last) == 0 {
		return "it printed nothing"
	}
	return "its last lines: " + strings.Join(o.last, " | ")
}

// clear forgets the lines of a process before.
func (o *output) clear() {
	o.mu.Lock()
	o.last = nil
	o.mu.Unlock()
}

// A logged line is what hclog writes as JSON.
type loggedLine struct {
	Level   string `json:"@level"`
	Message string `json:"@message"`
	Module  string `json:"@module"`
}

func (o *output) line(line []byte, now time.Time) {
	text := strings.TrimRight(strings.ToValidUTF8(string(line), "?"), "\r")
	if strings.TrimSpace(text) == "" {
		return
	}
	level, message := zapcore.InfoLevel, text
	var fields []zap.Field
	var parsed loggedLine
	if text[0] == '{' && json.Unmarshal(line, &parsed) == nil && parsed.Message != "" {
		message = parsed.Message
		if l, err := zapcore.ParseLevel(parsed.Level); err == nil && l <= zapcore.ErrorLevel {
			level = l
		}
		if parsed.Level == "trace" {
			level = zapcore.DebugLevel
		}
		fields = rest(line)
	}

	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.last) == lastLines {
		o.last = append(o.last[:0], o.last[1:]...)
	}
	o.last = append(o.last, clip(message, lastLine))
	o.turn(now)
	if o.logged == maxLines {
		o.dropped++
		return
	}
	o.logged++
	if entry := o.log.Check(level, message); entry != nil {
		entry.Write(fields...)
	}
}

// settle tells of lines that were not logged, though no other line follows.
func (o *output) settle(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.turn(now)
}

// turn begins another second when the last is over. The caller holds mu.
func (o *output) turn(now time.Time) {
	if now.Sub(o.second) < time.Second {
		return
	}
	if o.dropped > 0 {
		o.log.Warn(fmt.Sprintf("the plugin printed %d more lines in a second than the %d that are logged", o.dropped, maxLines))
	}
	o.second, o.logged, o.dropped = now, 0, 0
}

// rest returns what else a line of JSON says.
func rest(line []byte) []zap.Field {
	var all map[string]any
	if json.Unmarshal(line, &all) != nil {
		return nil
	}
	for key := range all {
		if strings.HasPrefix(key, "@") {
			delete(all, key)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return []zap.Field{zap.Any("plugin", all)}
}

// A stream cuts one stream into lines. It is not safe for concurrent use.
type stream struct {
	out  *output
	buf  []byte
	over bool // the line is longer than maxLine: the rest is dropped
}

func (s *stream) Write(b []byte) (int, error) {
	n := len(b)
	for {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if room := maxLine - len(s.buf); len(line) > room {
			line, s.over = line[:room], true
		}
		s.buf = append(s.buf, line...)
		if !whole {
			return n, nil
		}
		s.flush()
		b = rest
	}
}

// flush ends the line that was begun.
func (s *stream) flush() {
	if s.over {
		s.buf = append(s.buf, "..."...)
	}
	if len(s.buf) > 0 {
		s.out.line(s.buf, time.Now())
	}
	s.buf, s.over = s.buf[:0], false
}
