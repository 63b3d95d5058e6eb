// Command dragoman is the gateway. This file wires kinds and commands; it and
// its neighbours are the only place that knows every part.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/pool"
	"github.com/dragoman-mt/dragoman/plugins/host"
	"github.com/dragoman-mt/dragoman/stages"
)

// Exit statuses. One command says more about its own in its help.
const (
	exitOK     = 0
	exitFailed = 1 // it did not work
	exitUsage  = 2 // the command line cannot be understood
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)

	root := root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSaid):
		return exitFailed
	}
	fmt.Fprintln(os.Stderr, err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// errSaid fails a command that has printed why already.
var errSaid = errors.New("said")

// A usageError is a command line that cannot be understood.
type usageError struct{ error }

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "dragoman",
		Short:         "A translation gateway: one chain of stages, declared in pipeline.yaml",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := "see `dragoman --help`"
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				hint = "did you mean " + like[0] + "?"
			}
			return usageError{fmt.Errorf("there is no command %q; %s", args[0], hint)}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
	})
	cmd.AddCommand(serveCommand(), reloadCommand(), statusCommand(), tapCommand(), translateCommand(), checkCommand(), explainCommand(), testCommand(),
		schemaCommand(), benchCommand(), pluginCommand(), versionCommand())
	return cmd
}

// schema is everything that a pipeline.yaml may say.
func schema() config.Schema {
	return config.Schema{
		Sections: []config.Section{
			{Name: "server", Doc: "Where and for whom the gateway listens, and what it takes.", Config: func() any { c := door.Defaults(); return &c }},
			{Name: "log", Doc: "What is logged, on standard error.", Config: func() any { c := logDefaults(); return &c }},
			{Name: "pool", Doc: "Upstream connections, per origin.", Config: func() any { c := pool.Defaults(); return &c }},
		},
		Kinds: append(stages.Kinds(), host.New().Kinds()...),
	}
}

// flags are those that every command with a configuration has.
type flags struct {
	file string
	set  []string
}

func (f *flags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.file, "config", "c", "pipeline.yaml", "the configuration `FILE`")
	cmd.Flags().StringArrayVar(&f.set, "set", nil, "set one `KEY=VALUE` over the file, such as pool.mode=direct or stages.queue.max_concurrent=4")
}

func (f *flags) load(offline bool) (*config.File, error) {
	return schema().Load(config.Options{File: f.file, Set: f.set, LookupEnv: os.LookupEnv, Offline: offline})
}

// content loads content in place of what the file holds.
func (f *flags) content(content []byte) (*config.File, error) {
	return schema().Load(config.Options{File: f.file, Content: content, Set: f.set, LookupEnv: os.LookupEnv})
}

// noArgs refuses arguments with a line that says so.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no arguments, got %q; see `%[1]s --help`", cmd.CommandPath(), args[0])}
	}
	return nil
}
