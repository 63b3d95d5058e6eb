// Command bench measures Dragoman against its bars. A row is measured in three
// rounds, if not in one, and judged by their median; the exit status is 1 when a
// bar is missed. README.md says what each row measures and how to read it.
//
// What is measured are the programs beside it in bin/, as children: the gateway
// is the real `dragoman serve` with the pipeline.yaml of the checkout and values
// set over it. What it is compared with, and the instant upstream, are this
// program itself, started once more under another role.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// rounds are how often each row is measured that is not measured once. The bars
// are stated for three.
const rounds = 3

func main() {
	if len(os.Args) > 1 && os.Args[1] == roleFlag {
		os.Exit(play(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	only := fs.String("rows", "", "the rows to measure, separated by commas (default: all)")
	list := fs.Bool("list", false, "list the rows and end")
	profiles := fs.String("profile", "", "write CPU profiles of the gateway, built with a recorder, to this `FOLDER`")
	fs.Usage = func() {
		fmt.Fprintln(stderr, "Measure Dragoman against its bars. Run it with make bench, in the root of a checkout.")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	rows, err := choose(allRows(), *only)
	if err != nil || fs.NArg() > 0 {
		if err == nil {
			err = fmt.Errorf("bench takes no arguments, got %q", fs.Arg(0))
		}
		fmt.Fprintln(stderr, err)
		return 2
	}
	if *list {
		for _, r := range rows {
			fmt.Fprintf(stdout, "%-8s %s\n", r.name, r.doc)
		}
		return 0
	}
	s, err := newLab(*profiles)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	defer s.close()
	fmt.Fprintln(stdout, machine())
	missed := 0
	for _, r := range rows {
		missed += r.measure(ctx, s, stdout)
		if ctx.Err() != nil {
			fmt.Fprintln(stderr, "interrupted")
			return 1
		}
	}
	fmt.Fprintln(stdout, machine())
	if missed > 0 {
		fmt.Fprintf(stdout, "%d missed\n", missed)
		return 1
	}
	fmt.Fprintln(stdout, "all bars met")
	return 0
}

// allRows are those that this program knows, in the order of their cost.
func allRows() []row {
	return slices.Concat(inProcessRows(), throughputRows(), hopRows(), chatRows(), tracedRows(), latencyRows(), sharedRows(), memoryRows(), limitRows(), detourRows(), changeRows(), coldRows())
}

// choose returns the rows named in only, in their own order; all for none.
func choose(rows []row, only string) ([]row, error) {
	if only == "" {
		return rows, nil
	}
	names := strings.Split(only, ",")
	chosen := slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return !slices.Contains(names, r.name) })
	for _, name := range names {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.name == name }) {
			known := make([]string, len(rows))
			for i, r := range rows {
				known[i] = r.name
			}
			return nil, fmt.Errorf("there is no row %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// machine is the line without which figures mean little.
func machine() string {
	load := "unknown"
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 3 {
			load = strings.Join(f[:3], " ")
		}
	}
	return fmt.Sprintf("%s  %d cores, %s %s/%s, load average %s",
		time.Now().Format(time.DateTime), runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, load)
}

// A lab is where rows are measured: the programs, the configuration and a
// folder that goes when all is over.
type lab struct {
	dragoman, sim, self string
	direct              string // the plugin openai-direct
	pipeline            string // file
	temp                string // folder
	profiles            string // folder; empty for none
}

func newLab(profiles string) (*lab, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	bin := filepath.Dir(self)
	s := &lab{
		self: self, dragoman: filepath.Join(bin, "dragoman"), sim: filepath.Join(bin, "openai-sim"),
		direct:   filepath.Join(bin, "plugins", "openai-direct"),
		pipeline: "pipeline.yaml", profiles: profiles,
	}
	for _, file := range []string{s.dragoman, s.sim, s.direct, s.pipeline} {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("%w; run make bench in the root of a checkout", err)
		}
	}
	if s.temp, err = os.MkdirTemp("", "dragoman-bench-"); err != nil {
		return nil, err
	}
	if profiles != "" {
		if err := s.buildRecorder(); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *lab) close() { os.RemoveAll(s.temp) }
