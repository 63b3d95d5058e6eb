package documents

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dragoman-mt/dragoman/core"
)

// Lines translates the lines of o.In into the first language, several at a time, and writes
// them in order as they come.
func Lines(ctx context.Context, o Options, asker Asker) error {
	b := &batch{Options: o, asker: asker, out: bufio.NewWriter(o.Output)}
	return b.run(ctx)
}

// A batch are lines that are translated.
type batch struct {
	Options
	asker Asker
	out   *bufio.Writer

	done, failed int
	shown        time.Time
}

const (
	// window is how many lines are on their way at once. Lines wait in the
	// gateway's own line, so it need only be more than any queue lets through.
	window = 64
	// maxLine bounds what is read before a line's end, in bytes.
	maxLine = 16 << 20
	// tries is how often a line that may still succeed is asked for.
	tries = 4
)

// A lineOf is one line on its way.
type lineOf struct {
	file   string
	number int
	text   string // without its end
	end    string // "\n", "\r\n", or nothing for a last line without one
	result string
	err    error
	ready  chan struct{} // closed when result or err is there
}

func (b *batch) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan *lineOf, window)
	read := make(chan error, 1)
	go func() {
		defer close(lines)
		read <- b.read(ctx, lines)
	}()
	var wrote error
	for l := range lines {
		<-l.ready
		if wrote == nil {
			if wrote = b.write(l); wrote != nil {
				cancel() // nobody reads: what is on its way ends, and nothing new begins
			}
		}
	}
	if err := b.out.Flush(); wrote == nil {
		wrote = err
	}
	b.show(true)
	switch err := <-read; {
	case wrote != nil:
		return fmt.Errorf("writing: %w", wrote)
	case err != nil:
		return err
	case b.failed > 0:
		fmt.Fprintf(b.Errs, "%d of %d lines were not translated\n", b.failed, b.done)
		return ErrSaid
	}
	return nil
}

// read sends the lines to lines, each on its way already.
func (b *batch) read(ctx context.Context, lines chan<- *lineOf) error {
	const name = "standard input"
	scan := bufio.NewScanner(b.In)
	scan.Buffer(nil, maxLine)
	scan.Split(wholeLines)
	number := 0
	for scan.Scan() {
		number++
		text := strings.TrimSuffix(scan.Text(), "\n")
		text = strings.TrimSuffix(text, "\r")
		l := &lineOf{file: name, number: number, text: text, end: scan.Text()[len(text):], ready: make(chan struct{})}
		select {
		case lines <- l:
		case <-ctx.Done():
			return fmt.Errorf("stopped at %s:%d", name, number)
		}
		go func() {
			defer close(l.ready)
			l.result, l.err = b.translate(ctx, l.text)
		}()
	}
	if err := scan.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("%s:%d: the line is longer than %d MiB", name, number+1, maxLine>>20)
	} else if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// wholeLines is bufio.ScanLines that keeps each line's end.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// translate asks again for what may still succeed, since nobody waits in front
// of a file and a line that is left out has to be found and mended by hand.
func (b *batch) translate(ctx context.Context, text string) (string, error) {
	for try := 1; ; try++ {
		if strings.TrimSpace(text) == "" {
			return text, nil
		}
		var a Answer
		b.asker.Ask(ctx, b.Source, b.Targets[0], "", []string{text}, func(_ int, said Answer) { a = said })
		if a.Err == nil {
			return a.Text, nil
		}
		if !a.again() || try == tries || ctx.Err() != nil {
			return "", a.Err
		}
		timer := time.NewTimer(max(a.Err.RetryAfter, time.Second))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", core.ContextError(ctx, "")
		}
	}
}

func (b *batch) write(l *lineOf) error {
	b.done++
	if l.err != nil {
		b.failed++
		b.erase()
		fmt.Fprintf(b.Errs, "%s:%d: %v\n", l.file, l.number, l.err)
		l.result = l.text
	}
	b.show(false)
	if strings.ContainsAny(l.result, "\r\n") {
		// One line in, one line out, whatever the provider made of it.
		l.result = strings.Join(strings.FieldsFunc(l.result, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
	}
	_, err := b.out.WriteString(l.result + l.end)
	return err
}

// show tells how far it is, five times a second, on a terminal alone.
func (b *batch) show(last bool) {
	if b.Progress == nil {
		return
	}
	if last {
		b.erase()
		return
	}
	if now := time.Now(); now.Sub(b.shown) > 200*time.Millisecond {
		b.shown = now
		fmt.Fprintf(b.Progress, "\r%d lines", b.done)
	}
}

func (b *batch) erase() {
	if b.Progress != nil {
		fmt.Fprint(b.Progress, "\r\033[K")
	}
}
