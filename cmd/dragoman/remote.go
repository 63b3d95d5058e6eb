package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/engine"
)

// A remote is how a command finds the gateway that it is about: the one that
// runs with the same configuration file, or the one at an address.
type remote struct {
	file string
	url  string
}

func (r *remote) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&r.file, "config", "c", "pipeline.yaml", "the configuration `FILE` that the gateway runs with")
	cmd.Flags().StringVar(&r.url, "url", "", "the `URL` of its admin door, for a gateway of another user or machine")
}

// client returns a client of the gateway. The key is DRAGOMAN_KEY, else one that
// the file names.
func (r *remote) client() (*adminClient, error) {
	key := os.Getenv("DRAGOMAN_KEY")
	if r.url != "" {
		c, err := newAdminClient(r.url, key)
		if err != nil {
			return nil, usageError{fmt.Errorf("--url: %w", err)}
		}
		return c, nil
	}
	past, err := engine.StateOf(r.file, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	at, err := past.Find()
	if _, none := errors.AsType[*engine.NotRunning](err); none {
		return nil, fmt.Errorf("%w; name its address with --url if another user runs it", err)
	}
	if err != nil {
		return nil, err
	}
	if at.Admin == "" {
		return nil, fmt.Errorf("the gateway with process id %d has no admin door: its server.listen is beyond loopback and server.admin is empty", at.PID)
	}
	if key == "" {
		// What is broken in the file is not what was asked for here.
		if file, err := (&flags{file: r.file}).load(false); err == nil {
			if keys := file.Sections["server"].(*door.Config).Keys; len(keys) > 0 {
				key = keys[0].Reveal()
			}
		}
	}
	return newAdminClient(at.Admin, key)
}
