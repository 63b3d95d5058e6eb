package gateway

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/dragoman-mt/dragoman/cmd/gateway/internal/sessions"
)

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a gateway from outside",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(benchSessionsCommand(), benchLiveCommand())
	return cmd
}

func benchSessionsCommand() *cobra.Command {
	o := sessions.Defaults()
	var asJSON bool
	var page, readme string
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "Drive a few live sessions, and hold their latencies against the plan's criteria",
		Long: `Drive a few live sessions, and hold their latencies against the plan's criteria.

Each combination of --sessions, --mode and --preset is a cell: a gateway of its
own in front of an openai-sim of its own, both ended with the test. All cells run
at the same time unless --at-once says how many. With --url it is a gateway that
runs already, with whatever it serves, and its provider is paid for every call.
DRAGOMAN_KEY is the API key for it.

A p99 wants 1,000 requests a cell: --requests 1000 takes 12 minutes at the
planned rate, however many cells there are.

Exit status: 0 when every criterion is met, 1 when one is not or the test could
not be run, 2 when the command line cannot be understood.`,
		Example: "  dragoman bench sessions --requests 1000 --html sessions.html\n" +
			"  dragoman bench sessions --url http://127.0.0.1:8080 --sessions 4 --duration 2m",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.URL != "" {
				for _, name := range []string{"mode", "preset", "profile", "at-once"} {
					if cmd.Flags().Changed(name) {
						return usageError{fmt.Errorf("--%s: is for gateways that are started here, not for one given by --url", name)}
					}
				}
				o.Key = os.Getenv("DRAGOMAN_KEY")
			}
			if o.Requests > 0 && cmd.Flags().Changed("duration") {
				return usageError{errors.New("--requests and --duration: give one of them")}
			}
			if err := o.Check(); err != nil {
				return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
			}
			report, err := sessions.Run(cmd.Context(), o, progress(cmd))
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
				if err := report.UpdateReadme(readme); err != nil {
					return fmt.Errorf("--readme: %w", err)
				}
			}
			if !report.Met {
				return errSaid
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.IntSliceVar(&o.Sessions, "sessions", o.Sessions, "how many live sessions there are at once, a cell for each `N,...`")
	fs.Float64Var(&o.Rate, "rate", o.Rate, "requests a minute of each session")
	fs.StringSliceVar(&o.Modes, "mode", o.Modes, "connections of the gateway: `pooled,direct`")
	fs.StringSliceVar(&o.Presets, "preset", o.Presets, "its queue: after is 6 calls at once 25 ms apart, before is 4 and 50 ms; direct and before is how it all began (`after,before`)")
	fs.StringVar(&o.Profile, "profile", o.Profile, "simulated upstream: `steady` (p50 300ms, p99 400ms) or rough (p99 900ms)")
	fs.DurationVar(&o.Duration, "duration", o.Duration, "how long requests come")
	fs.IntVar(&o.Requests, "requests", 0, "run until a cell has had so many, in place of --duration")
	fs.Float64Var(&o.Repeats, "repeats", 0, "share of requests that repeat an earlier text, which the cache knows")
	fs.Uint64Var(&o.Seed, "seed", o.Seed, "makes arrivals, texts and the upstream's latencies: the same seed, the same load")
	fs.IntVar(&o.AtOnce, "at-once", 0, "how many cells run at the same time (0: all)")
	fs.StringVar(&o.URL, "url", "", "drive the gateway at this `URL`")
	fs.StringVar(&o.Admin, "admin", "", "`URL` of its metrics, when they are elsewhere")
	fs.BoolVar(&asJSON, "json", false, "print JSON")
	fs.StringVar(&page, "html", "", "write a page with charts to this `FILE`")
	fs.StringVar(&readme, "readme", "", "put the table into this `FILE`, between its marks")
	return cmd
}

// progress tells a terminal how far the run is; anything else stays clean.
func progress(cmd *cobra.Command) func(sessions.Progress) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	began, last := time.Now(), time.Time{}
	return func(p sessions.Progress) {
		if now := time.Now(); now.Sub(last) < 200*time.Millisecond && p.Answered < p.All {
			return
		} else {
			last = now
		}
		out := cmd.ErrOrStderr()
		fmt.Fprintf(out, "\r%d of %d answered, %d failed, %s \x1b[K", p.Answered, p.All, p.Failed, time.Since(began).Round(time.Second))
		if p.Answered == p.All {
			fmt.Fprint(out, "\r\x1b[K")
		}
	}
}
