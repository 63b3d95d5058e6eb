package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/verify"
)

func pluginCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "For authors of plugins: look at one from outside",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(verifyCommand())
	return cmd
}

func verifyCommand() *cobra.Command {
	var (
		o        verify.Options
		settings string
		env      []string
		from, to string
	)
	cmd := &cobra.Command{
		Use:   "verify [flags] COMMAND [ARG...]",
		Short: "Start a plugin, in any language, and check that it does what the gateway needs",
		Long: `Start a plugin some twenty times, as the gateway would, and check what it does:
how it starts and says what it is, texts short, long and many at once, bad
configurations, calls that are canceled, a crash, and every way to end.

Each check is one line, and one that failed says what to do. The plugin is given
texts to translate: for a provider that costs money, name a test account or a
simulated upstream with --config.

Exit status: 0 when every check passed, 1 when one failed, 2 when the command
line cannot be understood.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("%s needs the command that starts the plugin; see `%[1]s --help`", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Command = args
			if settings != "" {
				var object map[string]any
				if err := json.Unmarshal([]byte(settings), &object); err != nil {
					return usageError{fmt.Errorf("--config is no JSON object: %w", err)}
				}
				o.Config = []byte(settings)
			}
			for _, variable := range env {
				if !strings.Contains(variable, "=") {
					value, ok := os.LookupEnv(variable)
					if !ok {
						return usageError{fmt.Errorf("--env %s: there is no such variable here; give it a value, %[1]s=VALUE", variable)}
					}
					variable += "=" + value
				}
				o.Env = append(o.Env, variable)
			}
			for _, l := range []struct {
				flag, tag string
				into      *core.Language
			}{{"--from", from, &o.Source}, {"--to", to, &o.Target}} {
				if l.tag == "" {
					continue
				}
				language, err := core.ParseLanguage(l.tag)
				if err != nil {
					return usageError{fmt.Errorf("%s: %s", l.flag, core.AsError(err, "").Detail)}
				}
				*l.into = language
			}
			out := cmd.OutOrStdout()
			began := time.Now()
			passed := 0
			failed, err := verify.Run(cmd.Context(), o, func(r verify.Result) {
				mark := "ok  "
				switch {
				case r.Failed:
					mark = "FAIL"
				case r.Skipped:
					mark = "skip"
				default:
					passed++
				}
				fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("%s  %-18s %s", mark, r.Name, r.Detail), " "))
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%d passed, %d failed, after %v\n", passed, failed, time.Since(began).Round(100*time.Millisecond))
			if failed > 0 {
				return errSaid
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&settings, "config", "", "the plugin's configuration, a `JSON` object")
	cmd.Flags().StringArrayVar(&env, "env", nil, "a variable for its environment, which is empty otherwise: `NAME`=VALUE, or NAME for the one here")
	cmd.Flags().StringVar(&from, "from", "", "the `LANG` of the texts (default what the plugin offers first, else en)")
	cmd.Flags().StringVar(&to, "to", "", "the `LANG` wanted (default what the plugin offers first, else es)")
	cmd.Flags().SetInterspersed(false) // what follows COMMAND is its own
	return cmd
}
