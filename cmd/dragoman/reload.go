package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core/door/admin"
)

func reloadCommand() *cobra.Command {
	var (
		r        remote
		previous bool
	)
	cmd := &cobra.Command{
		Use:   "reload [--previous]",
		Short: "Make a running gateway serve what its configuration file says now",
		Long: `Make a running gateway serve what its configuration file says now, and wait for the
verdict. It does so by itself when the file is saved; this is for scripts, and for
files that the configuration names, such as a plugin that was built anew.

With --previous it serves what served before, one step further back each time, up
to the last five. The file stays as it is: save it, or reload without --previous,
to go back to it.

Exit status: 0 when the gateway serves what was asked for, 1 when it refused, and
serves on as before, or there is none.`,
		Example: "  dragoman reload\n  dragoman reload --previous",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := r.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			if previous {
				query.Set("previous", "true")
			}
			var verdict admin.Reload
			res, err := client.post(cmd.Context(), "/admin/reload", query, http.StatusUnprocessableEntity)
			if err := client.decode(res, err, &verdict); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), verdict.Text)
			for _, w := range verdict.Warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
			}
			if verdict.Outcome == "refused" {
				return errSaid
			}
			return nil
		},
	}
	r.add(cmd)
	cmd.Flags().BoolVar(&previous, "previous", false, "serve what served before")
	return cmd
}
