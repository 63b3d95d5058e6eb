package gateway

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/cmd/gateway/internal/spec"
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

func (p program) testCommand() *cobra.Command {
	var (
		s       = suite{flags: p.flags()}
		pattern string
	)
	cmd := &cobra.Command{
		Use:   "test [FILE...]",
		Short: "Run the tests of a configuration: pipeline_test.yaml beside pipeline.yaml",
		Long: `Run the tests of a configuration. Each puts requests to the chain as it is
configured, with answers of its providers that the test gives, and holds what
comes back against what it expects. No provider is called, no plugin that serves
one is started, and no key is needed; stages that are plugins are started.

The tests of pipeline.yaml stand beside it in pipeline_test.yaml. A FILE is one of
tests, and tests the configuration that its name says, or that of --config.

Exit status: 0 when every test passed or was skipped, 1 when one failed or a file
is wrong, 2 when the command line cannot be understood.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if s.wanted, err = regexp.Compile(pattern); err != nil {
				return usageError{fmt.Errorf("--run: %w", err)}
			}
			if s.limit <= 0 {
				return usageError{fmt.Errorf("--limit: must be more than 0, got %v", s.limit)}
			}
			if len(args) == 0 {
				args = []string{testsOf(s.file)}
			}
			s.named = cmd.Flags().Changed("config")
			s.out, s.errs = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return s.run(cmd.Context(), args)
		},
	}
	s.add(cmd)
	cmd.Flags().StringVar(&pattern, "run", "", "run only the tests whose name matches the regular expression `PATTERN`")
	cmd.Flags().BoolVarP(&s.verbose, "verbose", "v", false, "tell what came of every request, how long tests took, and what the chain logs")
	cmd.Flags().BoolVar(&s.without, "no-plugins", false, "start no plugin; tests that come to a stage which is one are skipped")
	cmd.Flags().DurationVar(&s.limit, "limit", 10*time.Second, "how long one test may take, a `DURATION`")
	return cmd
}

const testSuffix = "_test.yaml"

// testsOf names the tests of a configuration.
func testsOf(file string) string { return strings.TrimSuffix(file, filepath.Ext(file)) + testSuffix }

// A suite is what one call of the command runs.
type suite struct {
	*flags
	named   bool // by --config
	wanted  *regexp.Regexp
	verbose bool
	without bool
	limit   time.Duration

	out, errs io.Writer
}

// run runs the files of tests, those after one that is wrong included.
func (s *suite) run(ctx context.Context, files []string) error {
	matched, failed := false, false
	for _, name := range files {
		configuration, ok := strings.CutSuffix(name, testSuffix)
		if !ok && !s.named {
			return usageError{fmt.Errorf("%s is no file of tests, by its name; name one that ends in %s, or with --config the configuration that it tests", name, testSuffix)}
		}
		if !s.named {
			s.file = configuration + ".yaml"
		}
		ran, well, err := s.one(ctx, name)
		if err != nil {
			fmt.Fprintln(s.errs, err)
		}
		matched = matched || ran || err != nil
		failed = failed || !well
		if ctx.Err() != nil {
			return errSaid
		}
	}
	switch {
	case !matched:
		return fmt.Errorf("no test has a name that matches %q; `dragoman test -v` lists all", s.wanted)
	case failed:
		return errSaid
	}
	return nil
}

// one runs one file of tests. It says whether any was to be run, and whether all
// is well.
func (s *suite) one(ctx context.Context, name string) (ran, well bool, err error) {
	configuration, err := s.load(true)
	if err != nil {
		return false, false, err
	}
	var providers []string
	for _, p := range configuration.Providers {
		providers = append(providers, p.Name)
	}
	tests, err := spec.Load(name, providers)
	if err != nil {
		return false, false, err
	}
	runner := spec.Runner{Open: s.open, Limit: s.limit}
	var count [3]int
	for i, t := range tests.Tests {
		if !s.wanted.MatchString(t.Name) {
			continue
		}
		outcome := runner.Run(ctx, tests, i)
		if ctx.Err() != nil {
			return true, false, fmt.Errorf("%s: stopped during %q", name, t.Name)
		}
		outcome.Write(s.out, s.verbose)
		count[outcome.Grade]++
	}
	if ran = count != [3]int{}; ran {
		fmt.Fprintf(s.out, "%s: %d passed, %d failed, %d skipped\n", name, count[spec.Passed], count[spec.Failed], count[spec.Skipped])
	}
	return ran, count[spec.Failed] == 0, nil
}

// open starts the chain for one test, with set over the configuration and d in
// the place of its providers. All else is as serve has it.
func (s *suite) open(ctx context.Context, set []string, d *spec.Double) (*spec.Rig, error) {
	with := flags{program: s.program, file: s.file, set: slices.Concat(s.set, set)}
	file, err := with.load(true, func(kind core.Kind) core.Kind {
		switch {
		case kind.Role == core.RoleProvider:
			return d.Provider(kind)
		case s.without && kind.Name == "plugin":
			return d.Absent(kind)
		}
		return kind
	})
	if err != nil {
		return nil, err
	}
	if !s.verbose {
		logSection.Of(file.File).Level = "error" // a test that fails a provider is no news
	}
	g, err := build(file)
	if err != nil {
		return nil, err
	}
	if err := g.start(ctx); err != nil {
		g.close(0)
		return nil, err
	}
	return &spec.Rig{
		Translator: core.TranslatorFunc(door.New(*g.server, g.engine).Translate),
		Measure:    g.engine.Measure,
		Close:      func() { g.close(time.Second) },
	}, nil
}
