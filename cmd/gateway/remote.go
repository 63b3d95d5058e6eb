package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/state"
)

// A remote is how a command finds the gateway that it is about: the one that this
// user runs with the same configuration file, or the one at an address.
type remote struct {
	program
	file string
	url  string
	key  string
}

func (r *remote) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&r.file, "config", "c", usualFile(), "the configuration `FILE` that the gateway runs with")
	cmd.Flags().StringVar(&r.url, "url", "", "the `URL` of its admin door, for a gateway of another user or machine")
	cmd.Flags().StringVar(&r.key, "key", "", "an operator's `KEY` for --url; better in DRAGOMAN_KEY, which nobody sees in a list of processes")
}

// client returns a client of the gateway: over its socket, which asks for no key,
// else over HTTP.
func (r *remote) client() (*adminClient, error) {
	key := r.key
	if key == "" {
		key = os.Getenv("DRAGOMAN_KEY")
	}
	if r.url != "" {
		c, err := newAdminClient(r.url, key)
		if err != nil {
			return nil, usageError{fmt.Errorf("--url: %w", err)}
		}
		return c, nil
	}
	past, err := state.Of(r.file, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	at, err := past.Find()
	if _, none := errors.AsType[*state.NotRunning](err); none {
		return nil, fmt.Errorf("%w; this command looks for the one that serves %s: name another file with --config, or the address of another user's with --url", err, r.file)
	}
	if err != nil {
		return nil, err
	}
	unheard := errors.New("it is older than this command")
	if at.Socket != "" {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return past.Dial(ctx, at) }
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		var conn net.Conn
		if conn, unheard = dial(ctx, "", ""); unheard == nil {
			conn.Close()
			return newSocketClient(fmt.Sprintf("process %d", at.PID), dial), nil
		}
	}
	// Gateways of older versions have no socket.
	if at.Admin == "" {
		return nil, fmt.Errorf("the gateway with process id %d cannot be reached over a socket (%w), and has no admin door at an address", at.PID, unheard)
	}
	if key == "" {
		// What is broken in the file is not what was asked for here.
		if file, err := (&flags{program: r.program, file: r.file}).load(false); err == nil {
			key = operatorKey(serverSection.Of(file.File).Keys)
		}
	}
	return newAdminClient(at.Admin, key)
}

// operatorKey returns a key that a gateway takes for what operators ask: an
// operator's, else the first, as gateways took any before keys had roles.
func operatorKey(keys []door.Key) string {
	first := ""
	for _, k := range keys {
		switch {
		case k.For(door.Operate) && k.Key != "":
			return k.Key.Reveal()
		case first == "":
			first = k.Key.Reveal()
		}
	}
	return first
}
