package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/state"
)

func (p program) healthCommand() *cobra.Command {
	f := p.flags()
	var at string
	var ready bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Say whether the gateway of this machine lives, for images without curl",
		Long: `Say whether the gateway lives that runs with the same configuration file, or with
--ready whether it could translate a text now. It is asked over its socket if this user
runs it, else at server.listen, or at --url; none of it needs a key, and where the
admin door is does not matter. In a Dockerfile:

  HEALTHCHECK CMD ["/dragoman", "health"]

Exit status: 0 when it does, 1 when it does not or nobody answers in time, 2 when the
command line cannot be understood.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usageError{fmt.Errorf("--timeout: %v is no time to wait; give one such as 3s", timeout)}
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("the gateway has not answered within %v", timeout))
			defer cancel()
			client, err := healthClient(f, at)
			if err != nil {
				return err
			}
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			res, err := client.get(ctx, path, nil)
			if refused, ok := errors.AsType[*refusal](err); ok && refused.Status == http.StatusServiceUnavailable {
				return errors.New("it lives, and could not translate a text now; `dragoman status` tells why")
			}
			if err != nil {
				return err
			}
			defer res.Body.Close()
			io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
			if ready {
				fmt.Fprintln(cmd.OutOrStdout(), "ready")
			} else {
				fmt.Fprintln(cmd.OutOrStdout(), "it lives")
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&at, "url", "", "ask at `URL`")
	cmd.Flags().BoolVar(&ready, "ready", false, "say whether it could translate a text now")
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "wait for an answer for `TIME`")
	return cmd
}

// healthClient returns a client of the gateway at an address; when that is empty, of the one
// that this user runs with the file of f, else of whoever listens where that says.
func healthClient(f *flags, at string) (*adminClient, error) {
	if at != "" {
		c, err := newAdminClient(at, "")
		if err != nil {
			return nil, usageError{fmt.Errorf("--url: %w", err)}
		}
		return c, nil
	}
	// In an image whose files cannot be written there is no socket.
	if past, err := state.Of(f.file, os.LookupEnv); err == nil {
		if found, err := past.Find(); err == nil && found.Socket != "" {
			return newSocketClient(fmt.Sprintf("process %d", found.PID), socketDial(past, found)), nil
		}
	}
	file, err := f.load(true)
	if err != nil {
		return nil, err
	}
	return newAdminClient(door.URL(serverSection.Of(file.File).Listen), "")
}
