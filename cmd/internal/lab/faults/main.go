// Command faults proves that an upstream's faults cost nobody an answer that
// could be had, and leave nothing behind. It asks a gateway for many texts while
// a share of the calls upstream meets a fault of each kind that the simulated
// OpenAI knows, joins every answer with what its calls met, and exits with 1
// unless all of it is accounted for. README.md says what is held against what.
//
// The gateway is the real `dragoman serve` beside this program, as a child, with
// the pipeline.yaml of the checkout and values set over it. The simulator runs
// in this process, behind TLS on loopback.
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
	"syscall"
)

// options are what a run is told.
type options struct {
	requests int
	rate     float64 // of calls upstream that meet a fault
	hedge    string  // stages.provider.hedge.after
	seed     uint64
	dragoman string // program
	pipeline string // file
}

// asking is how many requests are in flight at any time.
const asking = 64

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "faults:", err)
		return 2
	}
	found, err := prove(ctx, o)
	if err != nil {
		fmt.Fprintln(stderr, "faults:", err)
		return 1
	}
	if !found.report(stdout) {
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	fs := flag.NewFlagSet("faults", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.requests, "requests", 200_000, "how many texts are asked for; from 500,000 on memory is judged too")
	fs.Float64Var(&o.rate, "rate", 0.02, "share of the calls upstream that meet a fault, above 0 and at most 0.5")
	fs.StringVar(&o.hedge, "hedge", "never", "stages.provider.hedge.after of the gateway: never, p95, or a time such as 50ms")
	fs.Uint64Var(&o.seed, "seed", 1, "makes the simulator's choices")
	fs.StringVar(&o.dragoman, "dragoman", filepath.Join(filepath.Dir(self), "dragoman"), "the gateway's `program`")
	fs.StringVar(&o.pipeline, "config", "pipeline.yaml", "the gateway's `file`")
	fs.Usage = func() {
		fmt.Fprintln(stderr, "Prove what becomes of an upstream's faults. Run it with make faults, in the root of a checkout.")
		fs.PrintDefaults()
	}
	switch err := fs.Parse(args); {
	case err != nil:
		return o, err
	case fs.NArg() > 0:
		return o, fmt.Errorf("takes no arguments, got %q", fs.Arg(0))
	case o.requests < asking:
		return o, fmt.Errorf("-requests must be at least %d, got %d", asking, o.requests)
	case !(o.rate > 0 && o.rate <= 0.5):
		return o, fmt.Errorf("-rate must be above 0 and at most 0.5, got %v", o.rate)
	}
	for _, file := range []string{o.dragoman, o.pipeline} {
		if _, err := os.Stat(file); err != nil {
			return o, fmt.Errorf("%w; run make faults in the root of a checkout", err)
		}
	}
	return o, nil
}

// prove makes the run and says what came of it.
func prove(ctx context.Context, o options) (*findings, error) {
	b := newBook(o)
	sim, err := simulate(o, b)
	if err != nil {
		return nil, err
	}
	defer sim.Close()
	g, err := serve(ctx, o, sim)
	if err != nil {
		return nil, err
	}
	defer g.end()
	before, err := g.rest(ctx, sim, nil)
	if err != nil {
		return nil, err
	}
	l := load{subject: g, book: b}
	if err := l.run(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, g.said())
	}
	stats, err := sim.Settled(ctx)
	if err != nil {
		return nil, err
	}
	after, err := g.rest(ctx, sim, before)
	if err != nil {
		return nil, err
	}
	// Connections are counted when nothing is about to be dialled any more.
	still := sim.Stats()
	stats.Connections, stats.Open = still.Connections, still.Open
	return judge(o, b, stats, before, after, l.samples), nil
}
