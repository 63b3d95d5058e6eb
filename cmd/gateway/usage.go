package gateway

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core/door/admin"
	"github.com/dragoman-mt/dragoman/core/usage"
)

func (p program) usageCommand() *cobra.Command {
	r := remote{program: p}
	var by, month string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "Show what the keys of a running gateway have used",
		Long: `Show what was used of a running gateway in a month, by UTC: texts, their characters
(code points), the part of them that no provider was called for, tokens, and money
where providers have a price. Of sessions it shows the 10,000 that were used last,
since each began.

Exit status: 0 when it is shown, 1 when there is no gateway, 2 when the command line
cannot be understood.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch by {
			case usage.ByKey, usage.ByDay, usage.ByDoor, usage.BySession:
			default:
				return usageError{fmt.Errorf("--by %s: usage is told by key, day, door or session", by)}
			}
			client, err := r.client()
			if err != nil {
				return err
			}
			query := url.Values{"by": {by}}
			if month != "" {
				query.Set("month", month)
			}
			var report usage.Report
			if err := client.getJSON(cmd.Context(), "/admin/usage", query, &report); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), report)
			}
			showUsage(newScreen(cmd.OutOrStdout(), statusColumns), report)
			return nil
		},
	}
	r.add(cmd)
	cmd.Flags().StringVar(&by, "by", usage.ByKey, "`WHAT` it is told by: key, day, door or session")
	cmd.Flags().StringVar(&month, "month", "", "another `MONTH`, such as 2026-11")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// showUsage prints a report as a table. Its title and its total fit every width.
func showUsage(sc *screen, r usage.Report) {
	title := "USAGE of " + r.Month + ", by UTC"
	if r.By == usage.BySession {
		title = "USAGE of sessions since each began"
	}
	switch {
	case r.Gateways == 1:
		title += ", with another gateway"
	case r.Gateways > 1:
		title += fmt.Sprintf(", with %d other gateways", r.Gateways)
	}
	sc.line(false, title)
	if r.Alone != "" {
		sc.line(r.By != usage.BySession, "OF THIS GATEWAY ALONE: "+r.Alone)
	}
	if r.Notice != "" {
		sc.line(true, "NOTICE: "+r.Notice)
	}
	sc.table(admin.UsageTable(r))
}
