package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/stages/provider"
)

func (p program) translateCommand() *cobra.Command {
	var (
		f        = p.flags()
		from, to string
		name     string
	)
	cmd := &cobra.Command{
		Use:   "translate --to LANG [--from LANG] [--provider NAME] [FILE...|-]",
		Short: "Translate files or standard input through the chain, line by line",
		Long: `Translate files, or standard input when there are none or one is "-", through
the same chain that serve uses. Each line is one text. Lines come out in the
order in which they went in, and blank ones stay as they are.

A line that cannot be translated is reported on standard error with its place
and stands in the output as it was, so that no line is lost or moved.

Exit status: 0 when every line was translated, 1 when one was not or nothing
could be started, 2 when the command line cannot be understood.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			b := &batch{out: bufio.NewWriter(cmd.OutOrStdout()), errs: cmd.ErrOrStderr()}
			if err := b.languages(from, to); err != nil {
				return usageError{err}
			}
			file, err := f.load(false)
			if err != nil {
				return err
			}
			if name != "" {
				if err := use(file.File, name); err != nil {
					return usageError{err}
				}
			}
			g, err := build(file)
			if err != nil {
				return err
			}
			defer g.close(time.Second)
			if err := g.start(cmd.Context()); err != nil {
				return err
			}
			b.service = door.New(*g.server, g.engine)
			if stderr, ok := b.errs.(*os.File); ok && term.IsTerminal(int(stderr.Fd())) {
				b.progress = stderr
			}
			if len(args) == 0 {
				args = []string{"-"}
			}
			return b.run(cmd.Context(), args, cmd.InOrStdin())
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&from, "from", "", "the `LANG` of the texts; without it the provider decides")
	cmd.Flags().StringVar(&to, "to", "", "the `LANG` wanted")
	cmd.Flags().StringVar(&name, "provider", "", "use the provider `NAME` of the file")
	return cmd
}

// use makes the chain of file call the provider name.
func use(file *config.File, name string) error {
	var known []string
	for _, p := range file.Providers {
		known = append(known, p.Name)
		if p.Name != name {
			continue
		}
		for _, s := range file.Stages {
			if c, ok := s.Config.(*provider.Config); ok {
				c.Use, c.Routes = core.Names{name}, nil
				c.Fallback = without(c.Fallback, name)
			}
		}
		return nil
	}
	return fmt.Errorf("--provider: %s has no provider %q; it has %s", file.Path, name, strings.Join(known, ", "))
}

func without(names []string, name string) []string {
	var out []string
	for _, n := range names {
		if n != name {
			out = append(out, n)
		}
	}
	return out
}

// A batch translates the lines of files, several at a time, and writes them in
// order.
type batch struct {
	service        *door.Service
	source, target core.Language
	out            *bufio.Writer
	errs           io.Writer
	progress       *os.File // nil when nobody looks

	done, failed int
	shown        time.Time
}

func (b *batch) languages(from, to string) error {
	if to == "" {
		return errors.New("--to is missing: name the language wanted, such as --to es")
	}
	var err error
	if b.target, err = core.ParseLanguage(to); err != nil {
		return fmt.Errorf("--to: %s", core.AsError(err, "").Detail)
	}
	if from != "" {
		if b.source, err = core.ParseLanguage(from); err != nil {
			return fmt.Errorf("--from: %s", core.AsError(err, "").Detail)
		}
	}
	return nil
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

// run translates args, which are files or "-" for stdin.
func (b *batch) run(ctx context.Context, args []string, stdin io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan *lineOf, window)
	read := make(chan error, 1)
	go func() {
		defer close(lines)
		read <- b.read(ctx, args, stdin, lines)
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
		fmt.Fprintf(b.errs, "%d of %d lines were not translated\n", b.failed, b.done)
		return errSaid
	}
	return nil
}

// read sends the lines of every file to lines, each on its way already.
func (b *batch) read(ctx context.Context, args []string, stdin io.Reader, lines chan<- *lineOf) error {
	for _, name := range args {
		in := stdin
		if name == "-" {
			name = "standard input"
		} else {
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		scan := bufio.NewScanner(in)
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
		res, err := b.service.Translate(ctx, &core.Request{
			ID: door.NewID(), Text: text, Source: b.source, Target: b.target,
			Client: "command line", Final: true, Lane: core.LaneBulk,
		})
		if err == nil {
			return res.Text, nil
		}
		e := core.AsError(err, "")
		again := e.Retryable || e.Kind == core.RateLimited || e.Kind == core.Overloaded || e.Kind == core.DeadlineExceeded
		if !again || try == tries || ctx.Err() != nil {
			return "", err
		}
		timer := time.NewTimer(max(e.RetryAfter, time.Second))
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
		fmt.Fprintf(b.errs, "%s:%d: %v\n", l.file, l.number, l.err)
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
	if b.progress == nil {
		return
	}
	if last {
		b.erase()
		return
	}
	if now := time.Now(); now.Sub(b.shown) > 200*time.Millisecond {
		b.shown = now
		fmt.Fprintf(b.progress, "\r%d lines", b.done)
	}
}

func (b *batch) erase() {
	if b.progress != nil {
		fmt.Fprint(b.progress, "\r\033[K")
	}
}
