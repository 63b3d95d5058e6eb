package gateway

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/cmd/internal/speech"
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/live"
)

func (p program) replayCommand() *cobra.Command {
	f := p.flags()
	var with, targets []string
	var page string
	cmd := &cobra.Command{
		Use:   "replay TRACE",
		Short: "Play what a session said through other policies, side by side, in virtual time",
		Long: `Play what a session said, as "dragoman record" wrote it, through other policies, side
by side: that of the configuration, one for each --with, and a client that asks for
every revision. openai-sim simulates the provider (p50 300 ms, p99 400 ms, 50 ms away),
so an hour of speech takes seconds and costs nothing.`,
		Example: "  dragoman replay room.jsonl --with growth=3,mask=3 --with interval=500ms --html room.html",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("%s takes one trace; see `%[1]s --help`", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			trace, err := readTrace(args[0])
			if err != nil {
				return err
			}
			for i, e := range trace {
				if e.Text == "" && e.Runes > 0 {
					return fmt.Errorf("%s: event %d has no text: it was recorded without --texts", args[0], i+1)
				}
			}
			o := liveBench{targets: targets}
			for _, t := range targets {
				if _, err := core.ParseLanguage(t); err != nil {
					return usageError{fmt.Errorf("--targets: %s", core.AsError(err, "").Detail)}
				}
			}
			r, plan := speech.Report{What: args[0] + ", in virtual time."}, o.plan(trace)
			for _, set := range append([]string{""}, with...) {
				own := *f
				name := f.file
				if set != "" {
					name = set
					for one := range strings.SplitSeq(set, ",") {
						own.set = append(own.set[:len(own.set):len(own.set)], "live."+strings.TrimSpace(one))
					}
				}
				file, err := own.load(true)
				if err != nil {
					return err
				}
				plan.Runs = append(plan.Runs, speech.Run{Name: name, Policy: file.Sections["live"].(*live.Config)})
			}
			plan.Runs = append(plan.Runs, speech.Run{Name: "every revision"})
			if r.Runs, err = plan.Play(cmd.Context()); err != nil {
				return err
			}
			if page != "" {
				if err := r.WritePage(page); err != nil {
					return fmt.Errorf("--html: %w", err)
				}
			}
			return r.WriteTable(cmd.OutOrStdout())
		},
	}
	f.add(cmd)
	cmd.Flags().StringArrayVar(&with, "with", nil, "another policy: keys of live that differ, as `KEY=VALUE,...`")
	cmd.Flags().StringSliceVar(&targets, "targets", []string{"es"}, "languages")
	cmd.Flags().StringVar(&page, "html", "", "write a page with plots to this `FILE`")
	return cmd
}
