package gateway

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core/door"
)

func (p program) recentCommand() *cobra.Command {
	r := remote{program: p}
	var reason, session, client, request string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "recent",
		Short: "Look back at the slow, failed and fallen-over texts of a running gateway",
		Long: fmt.Sprintf(`Look back at the texts of a running gateway that were slow (log.slow), that failed,
that a fallback answered, and those that were refused for what their client did:
the last %d of each since the gateway was started. Each has one line, latest first,
and one for each attempt that was made, with what came of it.

With --request, which may be the end of an id, the time in each stage is shown too.
Texts are not kept, so none is shown.

Exit status: 0 when it is shown, 1 when there is no gateway, 2 when the command line
cannot be understood.`, door.MostRecent),
		Example: "  dragoman recent --reason failed --limit 20\n  dragoman recent --request 4f0c",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if reason != "" {
				if !slices.Contains(door.Reasons, door.Reason(reason)) {
					return usageError{fmt.Errorf("--reason %s: a text is looked back at since it is slow, failed, fell_over or refused", reason)}
				}
				query.Set("reason", reason)
			}
			if cmd.Flags().Changed("limit") {
				if limit < 1 {
					return usageError{fmt.Errorf("--limit: %d is too small; the least is 1", limit)}
				}
				query.Set("limit", strconv.Itoa(limit))
			}
			for name, value := range map[string]string{"session": session, "client": client, "request": request} {
				if value != "" {
					query.Set(name, value)
				}
			}
			gateway, err := r.client()
			if err != nil {
				return err
			}
			var told struct {
				Recent []door.Past `json:"recent"`
			}
			if err := gateway.getJSON(cmd.Context(), "/admin/recent", query, &told); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), told)
			}
			showRecent(newScreen(cmd.OutOrStdout(), recentColumns), told.Recent, request != "")
			return nil
		},
	}
	r.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "only those that are looked back at for this `REASON`: slow, failed, fell_over or refused")
	cmd.Flags().StringVar(&session, "session", "", "only those of the session `NAME`")
	cmd.Flags().StringVar(&client, "client", "", "only those of the client `NAME`, such as the name of a key")
	cmd.Flags().StringVar(&request, "request", "", "only those whose id ends in `ID`, with the time in each stage")
	cmd.Flags().IntVar(&limit, "limit", 0, "the last `N` of these")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// recentColumns is how wide a line is where there is no terminal.
const recentColumns = 160

// showRecent prints a line for each of all, and below it one for each attempt; whole says
// that the time in each stage is wanted.
func showRecent(sc *screen, all []door.Past, whole bool) {
	if len(all) == 0 {
		sc.line(false, "nothing is kept that was slow, failed, fell over or was refused")
		return
	}
	row := func(bad bool, at, request, door, client, pair, took, what string) {
		sc.line(bad, fmt.Sprintf("%-14s %s %s %s %s %8s  %s", at, pad(ending(request, 10), 10), pad(beginning(door, 14), 14),
			pad(beginning(client, 12), 12), pad(pair, 9), took, what))
	}
	row(false, "time", "request", "door", "client", "pair", "ms", "what")
	for _, p := range all {
		what := strings.ReplaceAll(string(p.Reason), "_", " ")
		switch {
		case p.Failure != nil:
			what += ": " + p.Failure.String()
		case p.Provider != "":
			what += ", answered by " + p.Provider
		}
		if p.Joined {
			what += ", in the flight of another"
		}
		pair := ""
		if p.Target != "" {
			source := p.Source
			if source == "" {
				source = "?"
			}
			pair = source + ">" + p.Target
		}
		row(p.Reason == door.HasFailed, when(p.At), p.Request, p.Door, p.Client, pair, strconv.FormatFloat(p.TookMS, 'f', 1, 64), what)
		if whole {
			if p.TraceID != "" {
				sc.line(false, "    trace "+p.TraceID)
			}
			var stages []string
			for _, s := range p.Stages {
				stages = append(stages, fmt.Sprintf("%s %.1f ms", s.Stage, s.MS))
			}
			if len(stages) > 0 {
				sc.line(false, "    "+strings.Join(stages, ", "))
			}
		}
		if len(p.Attempts) == 1 && p.Attempts[0].Failure == nil && !whole {
			continue
		}
		for _, a := range p.Attempts {
			what := "answered"
			switch {
			case a.Lost:
				what = "called off, another was faster"
			case a.Failure != nil:
				what = a.Failure.String()
			}
			sc.line(false, fmt.Sprintf("    %s %s after %.1f ms, %.1f ms long: %s", pad(a.Why, 8), a.Provider, a.AfterMS, a.TookMS, what))
		}
	}
}

// when is a time as far back as a gateway keeps.
func when(at time.Time) string {
	at = at.Local()
	if time.Since(at) < 24*time.Hour {
		return at.Format("15:04:05.000")
	}
	return at.Format("01-02 15:04:05")
}
