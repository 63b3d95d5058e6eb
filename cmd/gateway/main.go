// Package gateway is the program: its commands, a file each, and the one place that knows
// every part. cmd/dragoman is that program with the kinds it is shipped with; another
// main links further ones.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/live"
	"github.com/dragoman-mt/dragoman/core/pool"
	"github.com/dragoman-mt/dragoman/core/shared"
	"github.com/dragoman-mt/dragoman/core/trace"
	"github.com/dragoman-mt/dragoman/plugins/host"
	"github.com/dragoman-mt/dragoman/stages"
)

// Exit statuses. One command says more about its own in its help.
const (
	exitOK     = 0
	exitFailed = 1 // it did not work
	exitUsage  = 2 // the command line cannot be understood
)

// Main is the whole program: it reads the command line, runs the command and ends the
// process with its status. Kinds are linked beside those that every gateway has; a
// pipeline.yaml names them as it names all others.
func Main(kinds ...core.Kind) {
	os.Exit(program{kinds}.run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// A program is a gateway with the kinds that it was linked with beside the shipped ones.
type program struct{ kinds []core.Kind }

func (p program) run(args []string, in io.Reader, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)

	if err := p.sound(); err != nil {
		fmt.Fprintln(errs, err)
		return exitFailed
	}
	root := p.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSaid):
		return exitFailed
	}
	fmt.Fprintln(errs, err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// sound says which of the linked kinds cannot be: a file could not tell two stages, or
// two providers, of one name apart.
func (p program) sound() error {
	taken := map[string]bool{}
	what := func(k core.Kind) string {
		if k.Role == core.RoleProvider {
			return "provider " + strconv.Quote(k.Name)
		}
		return "stage " + strconv.Quote(k.Name)
	}
	for _, k := range append(stages.Kinds(), host.New().Kinds()...) {
		taken[what(k)] = true
	}
	roles := []core.Role{core.RoleStage, core.RoleLookup, core.RoleGate, core.RoleCaller, core.RoleProvider}
	for _, k := range p.kinds {
		switch {
		case k.Name == "" || k.Config == nil || k.Build == nil || !slices.Contains(roles, k.Role):
			return fmt.Errorf("the linked %s is not whole: it needs a name, a role, Config and Build; core.NewKind makes one", what(k))
		case taken[what(k)]:
			return fmt.Errorf("the linked %s has a name that is taken; give it another", what(k))
		}
		taken[what(k)] = true
	}
	return nil
}

// errSaid fails a command that has printed why already.
var errSaid = errors.New("said")

// A usageError is a command line that cannot be understood.
type usageError struct{ error }

func (p program) root() *cobra.Command {
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
	cmd.AddCommand(p.serveCommand(), p.reloadCommand(), p.statusCommand(), p.healthCommand(), p.usageCommand(), p.recentCommand(), p.tapCommand(), p.recordCommand(), p.replayCommand(), p.translateCommand(), p.checkCommand(), p.explainCommand(), p.testCommand(),
		p.schemaCommand(), p.initCommand(), benchCommand(), buildCommand(), p.pluginCommand(), p.versionCommand(), p.manualCommand())
	return cmd
}

// The keys at the top of a pipeline.yaml, beside those that declare parts.
var (
	serverSection     = config.NewSection("server", "Where and for whom the gateway listens, and what it takes.", door.Defaults)
	doorsSection      = config.NewSection("doors", "The doors for clients of other services, all on server.listen. false in place of one closes it.", doorsDefaults)
	liveSection       = config.NewSection("live", "Live sessions: when a text that still grows is translated, and what a session may hold.", live.Defaults)
	glossariesSection = config.NewSection("glossaries", "Terms that are to be translated in one way: the file of each glossary, .tsv, .csv or .tbx, by the name that calls use.", glossariesDefaults)
	logSection        = config.NewSection("log", "What is logged, on standard error.", logDefaults)
	traceSection      = config.NewSection("trace", "Spans of requests and attempts for a collector of OpenTelemetry. What is left out, OTEL_* variables say.", trace.Defaults)
	sharedSection     = config.NewSection("shared", "What the gateways of one group have in common, over Redis or Valkey: the limits of accounts and of keys, answers, and live sessions.", shared.Defaults)
	poolSection       = config.NewSection("pool", "Upstream connections, per origin.", pool.Defaults)
)

// schema is everything that a pipeline.yaml may say. Its plugins will run in h.
func (p program) schema(h *host.Host) config.Schema {
	return config.Schema{
		Sections: []config.Section{serverSection.Section, doorsSection.Section, liveSection.Section, glossariesSection.Section, logSection.Section, traceSection.Section, sharedSection.Section, poolSection.Section},
		Kinds:    slices.Concat(stages.Kinds(), h.Kinds(), p.kinds),
	}
}

// A loaded file is a checked configuration, and the host that its plugins run in.
type loaded struct {
	*config.File
	plugins *host.Host
}

// load loads what o names for plugins that run in h. Each of adapted may put another
// kind in the place of one.
func (p program) load(o config.Options, h *host.Host, adapted ...func(core.Kind) core.Kind) (loaded, error) {
	o.LookupEnv = os.LookupEnv
	s := p.schema(h)
	for _, adapt := range adapted {
		for i := range s.Kinds {
			s.Kinds[i] = adapt(s.Kinds[i])
		}
	}
	file, err := s.Load(o)
	if err == nil {
		err = inheritAll(file)
	}
	if err == nil {
		err = checkGlossaries(file)
	}
	if err != nil {
		return loaded{}, err
	}
	return loaded{file, h}, nil
}

// flags are those that every command with a configuration has.
type flags struct {
	program
	file string
	set  []string
}

func (p program) flags() *flags { return &flags{program: p} }

func (f *flags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.file, "config", "c", usualFile(), "the configuration `FILE`; DRAGOMAN_CONFIG names another than pipeline.yaml")
	cmd.Flags().StringArrayVar(&f.set, "set", nil, "set one `KEY=VALUE` over the file, such as pool.mode=direct or stages.queue.max_concurrent=4")
}

func (f *flags) load(offline bool, adapted ...func(core.Kind) core.Kind) (loaded, error) {
	return f.program.load(config.Options{File: f.file, Set: f.set, Offline: offline}, host.New(), adapted...)
}

// content loads content in place of what the file holds, for plugins that run in h.
func (f *flags) content(content []byte, h *host.Host) (loaded, error) {
	return f.program.load(config.Options{File: f.file, Content: content, Set: f.set}, h)
}

// usualFile is the configuration where none is named.
func usualFile() string { return cmp.Or(os.Getenv("DRAGOMAN_CONFIG"), "pipeline.yaml") }

// noArgs refuses arguments with a line that says so.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no arguments, got %q; see `%[1]s --help`", cmd.CommandPath(), args[0])}
	}
	return nil
}
