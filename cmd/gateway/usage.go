package gateway

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

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
	sc.line(false, title)
	if r.Notice != "" {
		sc.line(true, "NOTICE: "+r.Notice)
	}
	heads := map[string]string{usage.ByKey: "KEY", usage.ByDay: "DAY", usage.ByDoor: "DOOR", usage.BySession: "SESSION"}
	head := []string{heads[r.By], "texts", "characters", "cached", "tokens"}
	limited, paid := false, len(r.Total.Cost) > 0
	for _, row := range r.Rows {
		limited = limited || row.Limit > 0
	}
	if limited {
		head = append(head, "limit", "used")
	}
	if paid {
		head = append(head, "cost")
	}
	if r.By == usage.BySession {
		head = append(head, "key", "last")
	}
	line := func(title cell, row usage.ReportRow) []cell {
		cells := []cell{
			title, good(count(float64(row.Texts))), good(count(float64(row.Characters))),
			good(share(float64(row.CachedCharacters), float64(row.Characters))), good(count(float64(row.PromptTokens + row.CompletionTokens))),
		}
		if limited {
			limit, used := good("-"), good("-")
			if row.Limit > 0 {
				limit = good(count(float64(row.Limit)))
				used = cell{share(float64(row.Characters), float64(row.Limit)), row.Characters >= row.Limit}
			}
			cells = append(cells, limit, used)
		}
		if paid {
			cells = append(cells, good(row.Cost.String()))
		}
		if r.By == usage.BySession {
			key, last := name(row.Key), good("")
			if row.Key == "" {
				key = good("-")
			}
			if !row.Last.IsZero() {
				last = good(clock(row.Last))
			}
			cells = append(cells, key, last)
		}
		return cells
	}
	var rows [][]cell
	for _, row := range r.Rows {
		title := name(row.Name)
		if row.Name == "" {
			title = good("-")
		}
		rows = append(rows, line(title, row))
	}
	if len(rows) != 1 {
		rows = append(rows, line(good("all"), usage.ReportRow{Use: r.Total}))
	}
	sc.table(head, rows)
}
