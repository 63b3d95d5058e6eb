package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/dragoman-mt/dragoman/core/door/admin"
)

func (p program) tapCommand() *cobra.Command {
	var (
		r              = remote{program: p}
		stage, session string
		texts, asJSON  bool
		limit          int64
	)
	cmd := &cobra.Command{
		Use:   "tap [--stage NAME] [--session NAME] [--texts] [--limit N]",
		Short: "Watch what passes the stages of a running gateway",
		Long: `Watch what passes the stages of a running gateway, until Ctrl-C. Each line is one
request that left one stage, so it comes from the innermost stage first: when,
the end of its id, the stage, how many ms it was there, and what became of it.
Between these two a wide terminal also shows how much of the time was the stage's
own, languages, lane, and the lengths of text and translation. A gate, such as
queue, shows the requests that waited there or were refused.

About 200 lines a second are shown. Of more, some requests are chosen, and those
are shown in every stage. The gateway waits for nobody: what is not read in time
is dropped, and counted.

With --texts the texts themselves are shown, up to 1,000 code points of each. The
gateway's log says that somebody looked.

DRAGOMAN_KEY is an operator's key, for a gateway at --url that has keys.

Exit status: 0 after Ctrl-C, at the limit, and when the gateway stops; 1 when no
gateway answers or the connection breaks, 2 when the command line cannot be
understood.`,
		Example: "  dragoman tap --stage queue\n  dragoman tap --stage providers/openai --texts --limit 20",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if cmd.Flags().Changed("limit") {
				if limit < 1 {
					return usageError{fmt.Errorf("--limit: %d is too small; the least is 1", limit)}
				}
				query.Set("limit", strconv.FormatInt(limit, 10))
			}
			for name, value := range map[string]string{"stage": stage, "session": session} {
				if value != "" {
					query.Set(name, value)
				}
			}
			if texts {
				query.Set("texts", "1")
			}
			client, err := r.client()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			width, colour := terminal(out)
			var p tapPrinter = &tapTable{out: out, columns: width, colour: colour, zone: time.Local}
			if asJSON {
				p = rawLines{out}
			}
			return tap(cmd.Context(), client, query, p, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&stage, "stage", "", "only what leaves the stage `NAME`, such as queue or providers/openai")
	cmd.Flags().StringVar(&session, "session", "", "only requests of the session `NAME`")
	cmd.Flags().BoolVar(&texts, "texts", false, "show the texts too")
	cmd.Flags().Int64Var(&limit, "limit", 0, "end after `N` lines")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the gateway's lines of JSON as they come")
	r.add(cmd)
	return cmd
}

// terminal returns how many columns the terminal behind out has, and whether it
// may be coloured (https://no-color.org). When there is none, or it does not say,
// columns is 0 and lines may be of any length.
func terminal(out io.Writer) (columns int, colour bool) {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}
	columns, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		columns = 0
	}
	return columns, os.Getenv("NO_COLOR") == ""
}

// A tapPrinter shows lines of a tap.
type tapPrinter interface {
	print(raw []byte, line *admin.TapLine) error
}

// silence is how long a tap may say nothing before its gateway is given up.
const silence = 4 * admin.TapHeartbeat

// errSilent ends a tap whose gateway says nothing any more.
var errSilent = fmt.Errorf("the gateway has said nothing for %v; it, or the way to it, is gone", silence)

// tap prints what passes and then, to errs, a summary.
func tap(ctx context.Context, client *adminClient, query url.Values, p tapPrinter, errs io.Writer) error {
	listening, hangUp := context.WithCancelCause(ctx)
	defer hangUp(nil)
	res, err := client.get(listening, "/admin/tap", query)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	begin := time.Now()
	last, err := readTap(res.Body, p, time.AfterFunc(silence, func() { hangUp(errSilent) }))
	if ctx.Err() != nil {
		err = nil // Ctrl-C is how it ends
	} else if cause := context.Cause(listening); cause != nil {
		err = cause
	}
	summarize(errs, last, time.Since(begin))
	return err
}

// maxTapLine bounds one line of a tap in bytes. A passing has two texts of at
// most 1,000 code points, and a code point takes 6 bytes at most.
const maxTapLine = 64 << 10

// readTap prints each line of r until the gateway ends the tap, and returns the
// last tally with the passings counted that came after it. Each line puts alarm
// off.
func readTap(r io.Reader, p tapPrinter, alarm *time.Timer) (last admin.TapTally, err error) {
	defer alarm.Stop()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxTapLine)
	for lines.Scan() {
		alarm.Reset(silence)
		line, err := parseTapLine(lines.Bytes())
		if err != nil {
			return last, err
		}
		if line.Tally == nil {
			last.Shown++
		} else {
			last = *line.Tally
		}
		if err := p.print(lines.Bytes(), line); err != nil {
			return last, err
		}
		if last.End != "" {
			return last, nil
		}
	}
	if err := lines.Err(); err != nil {
		return last, fmt.Errorf("the connection to the gateway broke: %w", err)
	}
	return last, errors.New("the connection to the gateway ended; does it still run?")
}

// parseTapLine reads one line of a tap. A key that a newer gateway adds is
// passed over.
func parseTapLine(raw []byte) (*admin.TapLine, error) {
	var line admin.TapLine
	if err := json.Unmarshal(raw, &line); err != nil {
		return nil, fmt.Errorf("the gateway sent a line that cannot be understood: %s", printable(err.Error()))
	}
	if line.Tally == nil && (line.Stage == "" || line.Outcome == "") {
		return nil, fmt.Errorf("the gateway sent a line that is neither a passing nor a tally: %.80q", raw)
	}
	return &line, nil
}

func summarize(w io.Writer, t admin.TapTally, took time.Duration) {
	fmt.Fprintf(w, "%d shown in %v", t.Shown, took.Round(100*time.Millisecond))
	if t.LeftOut > 0 {
		fmt.Fprintf(w, ", %d left out to show about 200 a second", t.LeftOut)
	}
	if t.Dropped > 0 {
		fmt.Fprintf(w, ", %d dropped since they were not read in time", t.Dropped)
	}
	if t.End == admin.TapStopping {
		fmt.Fprint(w, "; the gateway is stopping")
	}
	fmt.Fprintln(w)
}

// rawLines prints lines as they come.
type rawLines struct{ out io.Writer }

func (r rawLines) print(raw []byte, _ *admin.TapLine) error {
	_, err := r.out.Write(append(bytes.Clone(raw), '\n'))
	return err
}

// A tapTable prints a line for each passing, in columns, and lines below it for
// its texts.
type tapTable struct {
	out     io.Writer
	columns int // of the terminal; 0 for none
	colour  bool
	zone    *time.Location

	headed  bool
	dropped int64
}

// wide is how many columns a terminal has that gets the whole table. A narrower
// one, such as one of 80, gets what matters most.
const wide = 112

func (t *tapTable) print(_ []byte, line *admin.TapLine) error {
	if line.Tally != nil {
		return t.tally(line.Tally)
	}
	var b strings.Builder
	if !t.headed {
		t.headed = true
		t.row(&b, "time", "request", "stage", "ms", "self", "languages", "lane", "length", "what")
	}
	what := strings.ReplaceAll(line.Outcome, "_", " ")
	failed := line.Outcome == "failed"
	if failed {
		what = line.Error
		if line.From != "" {
			what += " from " + line.From
		}
	}
	if line.Attempt != "" && line.Attempt != "first" {
		what += " (" + line.Attempt + ")"
	}
	source := line.Source
	if source == "" {
		source = "?"
	}
	length := strconv.Itoa(line.In)
	if line.Out > 0 {
		length += ">" + strconv.Itoa(line.Out)
	}
	if failed && t.colour {
		b.WriteString("\x1b[31m")
	}
	t.row(&b, line.Time.In(t.zone).Format("15:04:05.000"), line.Request, line.Stage,
		strconv.FormatFloat(line.TotalMS, 'f', 1, 64), strconv.FormatFloat(line.SelfMS, 'f', 1, 64),
		source+">"+line.Target, line.Lane, length, what)
	if failed && t.colour {
		b.WriteString("\x1b[0m")
	}
	// In quotes, which leave nothing that would move the cursor.
	if line.TextIn != "" {
		fmt.Fprintf(&b, "    < %s\n", strconv.QuoteToGraphic(line.TextIn))
	}
	if line.TextOut != "" {
		fmt.Fprintf(&b, "    > %s\n", strconv.QuoteToGraphic(line.TextOut))
	}
	_, err := io.WriteString(t.out, b.String())
	return err
}

func (t *tapTable) row(b *strings.Builder, at, request, stage, total, self, languages, lane, length, what string) {
	line := fmt.Sprintf("%-12s %s %s %8s", at, pad(ending(request, 9), 9), pad(beginning(stage, 17), 17), total)
	if t.columns == 0 || t.columns >= wide {
		line += fmt.Sprintf(" %7s %s %s %s", self, pad(languages, 9), pad(lane, 7), pad(length, 7))
	}
	line += " " + what
	if t.columns > 0 {
		line = beginning(line, t.columns)
	}
	line = strings.ReplaceAll(printable(line), "\n", " ")
	b.WriteString(strings.TrimRight(line, " "))
	b.WriteByte('\n')
}

// tally tells of passings that were dropped since it was last told.
func (t *tapTable) tally(now *admin.TapTally) error {
	if now.Dropped <= t.dropped {
		return nil
	}
	_, err := fmt.Fprintf(t.out, "... %d dropped since they were not read in time\n", now.Dropped-t.dropped)
	t.dropped = now.Dropped
	return err
}

// pad returns s followed by blanks up to width characters.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(width-utf8.RuneCountInString(s), 0))
}

// ending returns the last characters of s, at most most of them: ids of one
// client differ there.
func ending(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return "…" + string(r[len(r)-most+1:])
	}
	return s
}

// beginning returns the first characters of s, at most most of them.
func beginning(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
