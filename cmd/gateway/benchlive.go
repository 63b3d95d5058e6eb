package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/cmd/gateway/internal/sessions"
	"github.com/dragoman-mt/dragoman/cmd/internal/speech"
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/live"
	"github.com/dragoman-mt/dragoman/core/live/traffic"
)

// liveBench is what `dragoman bench live` was told.
type liveBench struct {
	sessions             []int
	modes                []string
	duration             time.Duration
	seed                 uint64
	trace                string
	targets              []string
	url, admin           string
	virtual, curve       bool
	noNaive              bool
	context, slots, deaf int
}

func benchLiveCommand() *cobra.Command {
	o := liveBench{sessions: []int{2, 3, 4}, modes: []string{sessions.Pooled, sessions.Direct}, duration: time.Minute, seed: 1, targets: []string{"es"}}
	var asJSON bool
	var page, readme string
	cmd := &cobra.Command{
		Use:   "live",
		Short: "Drive live sessions with speech, beside a client that asks for every revision",
		Long: `Drive live sessions with speech, beside a client that asks for every revision.

Each number of --sessions is run with a gateway of its own in front of an
openai-sim of its own, all at the same time: with connections kept ready and
without, and once with the client that asks for every revision. With --url it is a
gateway that runs already, and its provider is paid. DRAGOMAN_KEY is the key for it.

With --virtual no gateway is started: openai-sim plays the policy in virtual time,
with the provider that it simulates, ten minutes of speech in less than a second.
--curve does so for several values of live.agreement and other keys.`,
		Example: "  dragoman bench live --sessions 4 --html live.html\n" +
			"  dragoman bench live --virtual --trace room.jsonl\n" +
			"  dragoman bench live --sessions 1000 --slots 400 --mode pooled --no-naive",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return usageError{err}
			}
			report, err := o.run(cmd.Context())
			if err != nil {
				return err
			}
			write := report.WriteTable
			if asJSON {
				write = report.WriteJSON
			}
			if err := write(cmd.OutOrStdout()); err != nil {
				return err
			}
			if page != "" {
				if err := report.WritePage(page); err != nil {
					return fmt.Errorf("--html: %w", err)
				}
			}
			if readme != "" {
				which := ""
				if o.curve {
					which = " --curve"
				}
				if err := report.UpdateReadme(readme, which); err != nil {
					return fmt.Errorf("--readme: %w", err)
				}
			}
			for _, m := range report.Runs {
				if m.Dropped+m.Inverted+m.Doubled > 0 {
					return fmt.Errorf("%s: %d finals dropped, %d out of order, %d doubled", m.Name, m.Dropped, m.Inverted, m.Doubled)
				}
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.IntSliceVar(&o.sessions, "sessions", o.sessions, "how many speak at once, a run for each `N,...`")
	fs.StringSliceVar(&o.modes, "mode", o.modes, "connections of the gateways: `pooled,direct`")
	fs.DurationVar(&o.duration, "duration", o.duration, "how long they speak")
	fs.Uint64Var(&o.seed, "seed", o.seed, "what they say: the same seed, the same speech")
	fs.StringVar(&o.trace, "trace", "", "what they say is in this `FILE`, as `dragoman record` writes it")
	fs.StringSliceVar(&o.targets, "targets", o.targets, "languages")
	fs.IntVar(&o.context, "context", 0, "live.context, with --virtual")
	fs.BoolVar(&o.virtual, "virtual", false, "in virtual time")
	fs.BoolVar(&o.curve, "curve", false, "in virtual time, for several values of live.agreement and other keys")
	fs.IntVar(&o.slots, "slots", 0, "calls of each gateway at once, with limits that do not bind, to see how many sessions it holds: about one for each three; 0 for 6 and the limits of an account")
	fs.IntVar(&o.deaf, "deaf", 0, "so many of a hundred clients read nothing of what they are sent: how the others fare")
	fs.BoolVar(&o.noNaive, "no-naive", false, "leave out the client that asks for every revision")
	fs.StringVar(&o.url, "url", "", "drive the gateway at this `URL`")
	fs.StringVar(&o.admin, "admin", "", "`URL` of its metrics, when they are elsewhere")
	fs.BoolVar(&asJSON, "json", false, "print JSON")
	fs.StringVar(&page, "html", "", "write a page with plots to this `FILE`")
	fs.StringVar(&readme, "readme", "", "put the table into this `FILE`, between its marks")
	return cmd
}

func (o liveBench) check() error {
	for _, n := range o.sessions {
		if n < 1 || n > 20000 {
			return fmt.Errorf("--sessions: must be between 1 and 20000, got %d", n)
		}
	}
	for _, m := range o.modes {
		if m != sessions.Pooled && m != sessions.Direct {
			return fmt.Errorf("--mode: there are pooled and direct, got %q", m)
		}
	}
	if o.slots < 0 || o.slots > 10000 {
		return fmt.Errorf("--slots: must be between 0 and 10000, got %d", o.slots)
	}
	if o.deaf < 0 || o.deaf > 99 {
		return fmt.Errorf("--deaf: must be between 0 and 99, got %d", o.deaf)
	}
	if o.duration < time.Second || o.duration > 4*time.Hour {
		return fmt.Errorf("--duration: must be between 1s and 4h, got %s", o.duration)
	}
	if len(o.sessions) == 0 || len(o.modes) == 0 || len(o.targets) == 0 {
		return errors.New("--sessions, --mode and --targets need a value each")
	}
	for _, t := range o.targets {
		if _, err := core.ParseLanguage(t); err != nil {
			return fmt.Errorf("--targets: %s", core.AsError(err, "").Detail)
		}
	}
	if (o.virtual || o.curve) && o.url != "" {
		return errors.New("--url: in virtual time no gateway is driven")
	}
	return nil
}

func (o liveBench) languages() (all []core.Language) {
	for _, t := range o.targets {
		if l, err := core.ParseLanguage(t); err == nil {
			all = append(all, l)
		}
	}
	return all
}

// speech is what so many say.
func (o liveBench) speech(n int) ([]traffic.Event, error) {
	if o.trace == "" {
		return traffic.Speech(n, o.duration, o.seed), nil
	}
	return readTrace(o.trace)
}

func readTrace(name string) ([]traffic.Event, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	trace, err := traffic.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return trace, nil
}

// benchDeadline is what makes a final late: the gateway's own default.
const benchDeadline = 4500 * time.Millisecond

func (o liveBench) run(ctx context.Context) (speech.Report, error) {
	switch {
	case o.curve:
		return o.runCurve(ctx)
	case o.virtual:
		return o.runVirtual(ctx)
	}
	return o.runReal(ctx)
}

func (o liveBench) runVirtual(ctx context.Context) (r speech.Report, err error) {
	r.What = "In virtual time; upstream p50 300 ms, p99 400 ms, 50 ms away, six calls at once."
	for _, n := range o.sessions {
		trace, err := o.speech(n)
		if err != nil {
			return r, err
		}
		c := live.Defaults()
		c.Context = o.context
		p := o.plan(trace, speech.Run{Name: fmt.Sprintf("live, %d", n), Policy: &c})
		if !o.noNaive {
			p.Runs = append(p.Runs, speech.Run{Name: fmt.Sprintf("naive, %d", n)})
		}
		played, err := p.Play(ctx)
		if err != nil {
			return r, err
		}
		r.Runs = append(r.Runs, played...)
		if o.trace != "" {
			break
		}
	}
	return r, nil
}

func (o liveBench) plan(trace []traffic.Event, runs ...speech.Run) speech.Plan {
	return speech.Plan{Trace: trace, Targets: o.languages(), Deadline: benchDeadline, Runs: runs}
}

// A point of the curve that --curve shows: a change of what is shipped.
type point struct {
	name string
	set  func(*live.Config)
}

func curve() []point {
	return []point{
		{"as shipped", func(*live.Config) {}},
		{"agreement 2", func(c *live.Config) { c.Agreement = 2 }},
		{"agreement 2, tail_words 1, words 4, mask 2", func(c *live.Config) { c.Agreement, c.TailWords, c.Words, c.Mask = 2, 1, 4, 2 }},
		{"agreement 4", func(c *live.Config) { c.Agreement = 4 }},
		{"tail_words 2", func(c *live.Config) { c.TailWords = 2 }},
		{"words 3, growth 0", func(c *live.Config) { c.Words, c.Growth = 3, 0 }},
		{"words 8", func(c *live.Config) { c.Words = 8 }},
		{"words 20: a first draft, and sentences that are over", func(c *live.Config) { c.Words = 20 }},
		{"mask 0", func(c *live.Config) { c.Mask = 0 }},
		{"mask 2", func(c *live.Config) { c.Mask = 2 }},
		{"agreement 2, first_words 2, interval 400ms", func(c *live.Config) { c.Agreement, c.FirstWords, c.Interval = 2, 2, 400*time.Millisecond }},
		{"first_words 6, interval 2s", func(c *live.Config) { c.FirstWords, c.Interval = 6, 2*time.Second }},
	}
}

func (o liveBench) runCurve(ctx context.Context) (r speech.Report, err error) {
	if o.trace == "" {
		o.duration = 10 * time.Minute
	}
	trace, err := o.speech(4)
	if err != nil {
		return r, err
	}
	r.What = "Ten minutes of four speakers in virtual time, `context: 0`."
	p := o.plan(trace)
	for _, change := range curve() {
		c := live.Defaults()
		c.Context = 0
		change.set(&c)
		p.Runs = append(p.Runs, speech.Run{Name: change.name, Policy: &c})
	}
	p.Runs = append(p.Runs, speech.Run{Name: "every revision"})
	r.Runs, err = p.Play(ctx)
	return r, err
}

// A liveCell is one run against a gateway.
type liveCell struct {
	name     string
	sessions int
	mode     string
	naive    bool
}

func (o liveBench) cells() (all []liveCell) {
	for _, n := range o.sessions {
		modes := o.modes
		if o.url != "" {
			modes = []string{sessions.Pooled}
		}
		for _, mode := range modes {
			name := fmt.Sprintf("live, %d, %s", n, mode)
			if o.url != "" {
				name = fmt.Sprintf("live, %d", n)
			}
			all = append(all, liveCell{name, n, mode, false})
		}
		if !o.noNaive {
			all = append(all, liveCell{fmt.Sprintf("naive, %d", n), n, modes[0], true})
		}
		if o.trace != "" {
			break
		}
	}
	return all
}

func (o liveBench) runReal(ctx context.Context) (r speech.Report, err error) {
	cells := o.cells()
	r.Runs = make([]speech.Measured, len(cells))
	r.What = fmt.Sprintf("Each with a gateway of its own and a simulated upstream: p50 300 ms, p99 400 ms, 50 ms away; %s of speech.", o.duration)
	if o.url != "" {
		r.What = "The gateway at " + o.url + "."
	}
	failures := make([]error, len(cells))
	var all sync.WaitGroup
	for i, c := range cells {
		one := func() { r.Runs[i], failures[i] = o.cell(ctx, c, i) }
		if o.url != "" {
			one() // they would be one load on one gateway
			continue
		}
		all.Go(one)
	}
	all.Wait()
	return r, errors.Join(failures...)
}

func (o liveBench) cell(ctx context.Context, c liveCell, i int) (speech.Measured, error) {
	trace, err := o.speech(c.sessions)
	if err != nil {
		return speech.Measured{}, err
	}
	so := sessions.Defaults()
	so.URL, so.Admin, so.Engine, so.Seed = o.url, o.admin, "flicker", o.seed
	if o.url != "" {
		so.Key = os.Getenv("DRAGOMAN_KEY")
	}
	subject, err := sessions.Start(ctx, so, sessions.Cell{Sessions: c.sessions, Mode: c.mode, Preset: sessions.After, Slots: o.slots})
	defer subject.Close()
	if err != nil {
		return speech.Measured{}, fmt.Errorf("%s: %w", c.name, err)
	}
	subject.Begin(ctx)
	client := speech.Client{URL: subject.URL, Key: subject.Key, Targets: o.languages(), Run: fmt.Sprintf("-%d-%d", time.Now().UnixMilli(), i), Deaf: o.deaf}
	play := client.Live
	if c.naive {
		play = client.Naive
	}
	m, err := play(ctx, trace, benchDeadline)
	if err != nil {
		return m, fmt.Errorf("%s: %w", c.name, err)
	}
	facts := subject.End(ctx)
	m.Name = c.name
	m.RateLimited, m.Cold, m.CPU, m.MB = float64(facts.RateLimited), float64(facts.Cold), float64(facts.CPU), float64(facts.MB)
	return m, nil
}
