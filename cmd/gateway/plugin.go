package gateway

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/plugins/scaffold"
	"github.com/dragoman-mt/dragoman/plugins/verify"
)

func (p program) pluginCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Begin a plugin, look at one from outside, or restart one that runs",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCommand(), verifyCommand(), p.restartCommand())
	return cmd
}

func newCommand() *cobra.Command {
	var p scaffold.Plugin
	cmd := &cobra.Command{
		Use:   "new [flags] NAME",
		Short: "Write a plugin to start from, in a new folder NAME",
		Long: `Write a plugin to start from into a new folder NAME, wherever you are: a program
that builds, a test that passes, and a pipeline.yaml that calls it.

A Go plugin is a package that can be linked as well (dragoman build). It is built with
the sources of Dragoman, which the replace line of its go.mod names; a Python plugin gets a copy of the SDK.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("%s needs one name; see `%[1]s --help`", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p.Name = args[0]
			for _, f := range []struct {
				flag, value string
				known       []string
			}{{"--lang", p.Lang, scaffold.Languages()}, {"--role", p.Role, scaffold.Roles()}} {
				if !slices.Contains(f.known, f.value) {
					return usageError{fmt.Errorf("%s must be %s, got %q", f.flag, strings.Join(f.known, " or "), f.value)}
				}
			}
			asked := p.Checkout
			places := []string{asked}
			if asked == "" {
				program, _ := os.Executable()
				folder, _ := os.Getwd()
				places = []string{program, folder, sourceFile()}
			} else if absolute, err := filepath.Abs(asked); err == nil {
				places = []string{absolute}
			}
			var err error
			if p.Checkout, err = scaffold.Checkout(places...); err != nil {
				return err
			}
			if p.Replace = p.Checkout; !filepath.IsAbs(asked) {
				// A path from the new folder, so that both can be moved together.
				to, err := filepath.Abs(p.Name)
				if err == nil {
					to, err = filepath.Rel(to, p.Checkout)
				}
				if err != nil {
					return err
				}
				p.Replace = filepath.ToSlash(to)
			}
			files, err := scaffold.Write(p.Name, p)
			if err != nil {
				return err
			}
			slices.Sort(files)
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%s/ is a %s in %s: %s\n", p.Name, p.Role, p.Lang, strings.Join(files, ", "))
			if p.Lang == "go" {
				fmt.Fprintf(out, "its go.mod says: replace github.com/dragoman-mt/dragoman => %q; change that line when the sources move\n", p.Replace)
			} else {
				fmt.Fprintf(out, "the SDK was copied from %s\n", p.Checkout)
			}
			fmt.Fprintf(out, "README.md in it tells how to go on\n")
			return nil
		},
	}
	cmd.Flags().StringVar(&p.Lang, "lang", "go", "the `LANGUAGE` to write it in: "+strings.Join(scaffold.Languages(), " or "))
	cmd.Flags().StringVar(&p.Role, "role", "", "what it is to be, its `ROLE` in the chain: "+strings.Join(scaffold.Roles(), " or "))
	cmd.Flags().StringVar(&p.Checkout, "dragoman", "", "the `FOLDER` of Dragoman's sources (default where this program, or the working directory, is)")
	return cmd
}

// sourceFile is this file, where the program was built; no whole path when that was
// left out of it.
func sourceFile() string {
	_, file, _, _ := runtime.Caller(0)
	return file
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
