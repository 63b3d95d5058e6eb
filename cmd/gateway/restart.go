package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door/admin"
)

func (p program) restartCommand() *cobra.Command {
	r := remote{program: p}
	cmd := &cobra.Command{
		Use:   "restart NAME",
		Short: "Start another process of a plugin of a running gateway",
		Long: `Start another process of a plugin of a running gateway, from its files as they are
now, and wait for it. NAME is its entry in the file, or its program. Requests go
on: the new process takes over when it is ready, and what the former was asked is
answered there. When the new one does not start, the former serves on.

Exit status: 0 when the new process serves, 1 when it does not, or there is no
such plugin or no gateway, 2 when the command line cannot be understood.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usageError{fmt.Errorf("%s needs the name of one plugin; see `%[1]s --help`", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := r.client()
			if err != nil {
				return err
			}
			var answer admin.Restart
			res, err := client.post(cmd.Context(), "/admin/plugins/"+url.PathEscape(args[0])+"/restart", nil, http.StatusUnprocessableEntity)
			if err := client.decode(res, err, &answer); err != nil {
				return err
			}
			if answer.Outcome != "restarted" {
				return errors.New(printable(answer.Text))
			}
			fmt.Fprintln(cmd.OutOrStdout(), printable(answer.Text))
			return nil
		},
	}
	r.add(cmd)
	return cmd
}

// restart starts another process of the plugin called name, as the admin door
// tells it. Its error is that there is none.
func (g *gateway) restart(ctx context.Context, name string) (admin.Restart, error) {
	began := time.Now()
	a := admin.Restart{Outcome: "restarted", Was: g.processesOf(name)}
	err := g.plugins.Restart(ctx, name)
	if e, ok := errors.AsType[*core.Error](err); ok && e.Kind == core.NotFound {
		return a, err
	}
	took := time.Since(began)
	a.TookMS, a.Now = float64(took.Microseconds())/1000, g.processesOf(name)
	if err != nil {
		a.Outcome, a.Text = "failed", fmt.Sprintf("%s is not restarted: %v", name, err)
		return a, nil
	}
	a.Text = fmt.Sprintf("%s restarted in %v", name, took.Round(time.Millisecond))
	if len(a.Now) > 0 {
		a.Text += ", process " + strings.TrimPrefix(numbers(a.Was)+" -> "+numbers(a.Now), " -> ")
	}
	return a, nil
}

// processesOf returns the numbers of the processes of the plugin called name.
func (g *gateway) processesOf(name string) (all []int) {
	for _, p := range g.plugins.Status() {
		if p.PID != 0 && (p.Program == name || slices.Contains(p.Serves, name)) {
			all = append(all, p.PID)
		}
	}
	slices.Sort(all)
	return all
}

func numbers(all []int) string {
	var s []string
	for _, n := range all {
		s = append(s, strconv.Itoa(n))
	}
	return strings.Join(s, ", ")
}
