package gateway

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

const (
	// logRoom is how many bytes of lines may wait to be written. As many may be
	// on their way at the same time.
	logRoom = 256 << 10
	// lastWords is how long the lines that wait when the program ends are given.
	lastWords = time.Second
)

// A logWriter hands lines to a writer that may block, such as a pipe that nobody
// reads, from a goroutine of its own: whoever logs never waits for it. Lines
// that find no room are dropped and counted, and where they are missing a line
// says how many. It is safe for concurrent use.
type logWriter struct {
	out  io.Writer
	note func(dropped int64) []byte // the line that says so
	more chan struct{}              // told when there is something to do
	done chan struct{}              // closed when the goroutine has ended

	spare []byte // of the goroutine: what it has written

	mu      sync.Mutex
	waiting []byte // whole lines
	missing int64  // lines dropped since the last note
	dropped int64  // lines dropped in all
	closed  bool
}

var _ core.Measurer = (*logWriter)(nil)

func newLogWriter(out io.Writer, note func(dropped int64) []byte) *logWriter {
	w := &logWriter{out: out, note: note, more: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// Write takes one line. It never blocks and never fails.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return len(line), nil
	}
	if len(w.waiting)+len(line) <= logRoom {
		w.waiting = append(w.waiting, line...)
	} else {
		w.missing++
		w.dropped++
	}
	select {
	case w.more <- struct{}{}:
	default:
	}
	return len(line), nil
}

func (w *logWriter) run() {
	defer close(w.done)
	for range w.more {
		w.write()
	}
	w.write() // what came last
}

// write writes what waits, and what is missing after it.
func (w *logWriter) write() {
	w.mu.Lock()
	lines, missing := w.waiting, w.missing
	w.waiting, w.missing = w.spare[:0], 0
	w.mu.Unlock()
	batch := lines
	if missing > 0 {
		batch = append(batch, w.note(missing)...)
	}
	w.spare = batch // also when it is empty: what was spare takes lines now
	if len(batch) == 0 {
		return
	}
	n, err := w.out.Write(batch)
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	unread := int64(bytes.Count(lines[min(n, len(lines)):], []byte("\n")))
	w.dropped += unread
	w.missing += missing + unread // for the next note: this one was not written
}

// Close ends the writer when what waits has been written, or after lastWords:
// then the goroutine is left to its write, which ends with the process.
func (w *logWriter) Close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.more)
	}
	w.mu.Unlock()
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
	}
}

// Measure reports how many lines were dropped.
func (w *logWriter) Measure(emit func(core.Measure)) {
	w.mu.Lock()
	dropped := w.dropped
	w.mu.Unlock()
	emit(core.Measure{Name: "log_dropped_lines_total", Help: "Log lines that were dropped because nobody read standard error.", Counter: true, Value: float64(dropped)})
}
