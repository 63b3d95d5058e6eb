package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core/door/admin"
)

func (p program) reloadCommand() *cobra.Command {
	var (
		r                   = remote{program: p}
		previous, list, dry bool
		to                  int
	)
	cmd := &cobra.Command{
		Use:   "reload [--previous | --to N] [--dry-run] [--list]",
		Short: "Make a running gateway serve what its configuration file says now",
		Long: `Make a running gateway serve what its configuration file says now, and wait for the
verdict. It does so by itself when the file is saved; this is for scripts, and for
files that the configuration names, such as a plugin that was built anew.

With --previous it serves what served before, one step further back each time, up
to the last five. The file stays as it is: save it, or reload without --previous,
to go back to it. Right after a save that was refused there is nothing to undo, so
the first --previous says that, and the next goes back.

--list shows what is kept, with numbers, and how each differs from what serves; --to
N serves one of them. With --dry-run nothing is done, and it says what would be: no
plugin is started then, and no provider asked, which dragoman check does.

Exit status: 0 when the gateway serves what was asked for, or would, 1 when it
refused, and serves on as before, or there is none, 2 when the command line cannot
be understood.`,
		Example: "  dragoman reload\n  dragoman reload --previous\n  dragoman reload --to 3 --dry-run",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch goes := cmd.Flags().Changed("to"); {
			case goes && to < 1:
				return usageError{fmt.Errorf("--to: %d is too small; the list begins with 1", to)}
			case goes && previous:
				return usageError{errors.New("--to and --previous both name what to serve; give one of them")}
			case list && (goes || previous || dry):
				return usageError{errors.New("--list changes nothing, so it goes with neither --to, --previous nor --dry-run")}
			}
			client, err := r.client()
			if err != nil {
				return err
			}
			if list {
				return listKept(cmd.Context(), client, cmd.OutOrStdout())
			}
			query := url.Values{}
			if previous {
				query.Set("previous", "true")
			}
			if to > 0 {
				query.Set("to", strconv.Itoa(to))
			}
			if dry {
				query.Set("dry_run", "true")
			}
			var verdict admin.Reload
			res, err := client.post(cmd.Context(), "/admin/reload", query, http.StatusUnprocessableEntity)
			if err := client.decode(res, err, &verdict); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), printable(verdict.Text))
			for _, w := range verdict.Warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", printable(w))
			}
			if verdict.Outcome == "refused" {
				return errSaid
			}
			return nil
		},
	}
	r.add(cmd)
	cmd.Flags().BoolVar(&previous, "previous", false, "serve what served before")
	cmd.Flags().IntVar(&to, "to", 0, "serve what has the number `N` in --list")
	cmd.Flags().BoolVar(&list, "list", false, "show what is kept, and change nothing")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what it would do, and do nothing")
	return cmd
}

// listKept prints what can be gone back to.
func listKept(ctx context.Context, client *adminClient, out io.Writer) error {
	var answer struct{ Kept []admin.Kept }
	if err := client.getJSON(ctx, "/admin/kept", nil, &answer); err != nil {
		return err
	}
	for _, k := range answer.Kept {
		fmt.Fprintf(out, "%d  %s  %.12s  %s\n", k.Number, k.At.Local().Format(time.DateTime), k.Hash, printable(k.Differs()))
	}
	return nil
}
