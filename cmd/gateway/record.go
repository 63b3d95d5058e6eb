package gateway

import (
	"bufio"
	"fmt"
	"net/url"
	"os"

	"github.com/spf13/cobra"
)

func (p program) recordCommand() *cobra.Command {
	r := remote{program: p}
	var session string
	var texts bool
	cmd := &cobra.Command{
		Use:   "record TRACE",
		Short: "Write what live sessions of a running gateway say to a file, for replay",
		Long: `Write what live sessions of a running gateway say to a file, a line of JSON for each
revision, until Ctrl-C. What they say itself is written only with --texts; without, the
file shows when how much was said. "dragoman replay" and "dragoman bench live --trace"
play it.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("%s takes the name of one file; see `%[1]s --help`", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := r.client()
			if err != nil {
				return err
			}
			query := url.Values{"session": {session}, "texts": {fmt.Sprint(texts)}}
			res, err := client.get(cmd.Context(), "/admin/record", query)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			file, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			defer file.Close()
			n := 0
			lines := bufio.NewScanner(res.Body)
			lines.Buffer(nil, maxAnswer)
			for lines.Scan() {
				if len(lines.Bytes()) == 0 {
					continue
				}
				if _, err := file.Write(append(lines.Bytes(), '\n')); err != nil {
					return err
				}
				n++
			}
			if err := file.Close(); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d revisions are in %s\n", n, args[0])
			if cmd.Context().Err() == nil {
				return fmt.Errorf("the gateway has ended the recording")
			}
			return nil
		},
	}
	r.add(cmd)
	cmd.Flags().StringVar(&session, "session", "", "only the sessions of this `NAME`")
	cmd.Flags().BoolVar(&texts, "texts", false, "write what they say, too")
	return cmd
}
