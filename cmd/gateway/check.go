package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/engine"
	"github.com/dragoman-mt/dragoman/core/shared"
	"github.com/dragoman-mt/dragoman/plugins/host"
	"github.com/dragoman-mt/dragoman/stages/provider"
)

func (p program) checkCommand() *cobra.Command {
	var (
		f       = p.flags()
		offline bool
		without bool
		live    bool
	)
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration, and ask its providers whether they would serve it",
		Long: `Check a configuration. Every mistake is printed with its file, line and column.

Unless --offline is given, the providers in use are asked as well: a refused key
or an unknown model is a mistake, a provider that cannot be reached is a warning.

Every plugin is started once, to hear what keys it has and whether it takes its
configuration, and ended at once. With --offline, and when it is not in use, it
gets no environment and is not configured. --no-plugins starts none and leaves
their keys unchecked.

With --offline a variable that is not set, or a file that ${file:PATH} names and
that cannot be read here, is unknown: what it would decide is neither right nor
wrong. All that the gateway would refuse whatever it holds is
refused, phrase tables that are missing or broken among it.

With --live one short text is sent through every provider that the chain may
call, each fallback included: it costs what such a call costs. The store that
"shared" names is asked how it is; one that nothing can be shared over is a mistake.

Exit status: 0 when the gateway would serve this file, 1 when not.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if live && (offline || without) {
				return usageError{errors.New("--live asks every provider, so it goes with neither --offline nor --no-plugins")}
			}
			var file loaded
			var err error
			if offline {
				file, err = f.assume()
			} else {
				file, err = f.load(false)
			}
			if err != nil {
				return err
			}
			g, err := build(file)
			if err != nil {
				return err
			}
			defer g.close(0)
			if err := g.server.Check(); err != nil {
				if err := file.Place(err); err != nil {
					return err
				}
			}
			for _, w := range warnings(file.File) {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
			}
			g.plugins.SetMode(host.Ignore)
			asked := ""
			if !without {
				n, err := g.ask(cmd.Context(), offline, func(w string) { fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w) })
				if err != nil {
					return err
				}
				if n > 0 {
					asked = fmt.Sprintf(", plugins started and asked: %d", n)
				}
			}
			if offline {
				if err := g.startStages(cmd.Context()); err != nil {
					return err
				}
			} else {
				if err := g.start(cmd.Context()); err != nil {
					return err
				}
				warned, err := engine.Unwell(g.first.Probe(cmd.Context()))
				for _, w := range warned {
					fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
				}
				if err != nil {
					return err
				}
			}
			linked := 0
			for _, s := range file.Stages {
				if s.Enabled {
					linked++
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is fine; stages: %d, providers: %d%s\n", file.Path, linked, len(file.Providers), asked)
			if live {
				if err := lookAtShared(cmd.Context(), file, func(w string) { fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w) }); err != nil {
					return err
				}
				return drill(cmd.Context(), cmd.OutOrStdout(), func() (loaded, error) { return f.load(false) })
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&offline, "offline", false, "ask nobody, and need no keys: variables that are missing are unknown")
	cmd.Flags().BoolVar(&live, "live", false, "send one text through every provider and fallback")
	cmd.Flags().BoolVar(&without, "no-plugins", false, "start no plugin, not even to hear what keys it has")
	return cmd
}

// lookAtShared asks the store that file names how it is.
func lookAtShared(ctx context.Context, file loaded, warn func(string)) error {
	c := sharedSection.Of(file.File)
	if !c.On() {
		return nil
	}
	warnings, err := shared.Look(ctx, *c)
	for _, w := range warnings {
		warn(w)
	}
	if err != nil {
		return file.Place(err)
	}
	return nil
}

// assume loads the file with something that works in the place of what depends on
// variables that are not set, so that everything else can be checked.
func (f *flags) assume() (loaded, error) {
	var file loaded
	unknown := func(role core.Role, name string) bool {
		items := file.Stages
		if role == core.RoleProvider {
			items = file.Providers
		}
		return slices.ContainsFunc(items, func(i config.Item) bool { return i.Name == name && file.Unknown(i.Path) })
	}
	file, err := f.load(true, func(kind core.Kind) core.Kind {
		build := kind.Build
		kind.Build = func(env core.Env, config any) (any, error) {
			built, err := build(env, config)
			switch {
			case err == nil || !unknown(kind.Role, env.Name):
				return built, err
			case kind.Role == core.RoleProvider:
				return core.TranslatorFunc(func(context.Context, *core.Request) (*core.Result, error) {
					return nil, errors.New("its configuration is not known")
				}), nil
			}
			return passing{}, nil
		}
		return kind
	})
	if err != nil {
		return loaded{}, err
	}
	for _, s := range file.Stages {
		if c, ok := s.Config.(*provider.Config); ok && len(c.Use) == 0 && len(file.Providers) > 0 {
			c.Use = core.Names{file.Providers[0].Name} // the loader refuses an empty one that is known
		}
	}
	return file, nil
}

// passing is a stage that does nothing.
type passing struct{}

func (passing) Wrap(next core.Translator) core.Translator { return next }

// startStages does what serving needs of this machine alone: it starts each stage
// that is no plugin by itself, and ends it.
func (g *gateway) startStages(ctx context.Context) error {
	for _, item := range g.file.Stages {
		if !item.Enabled || item.Kind.Name == "plugin" {
			continue
		}
		built, err := item.Kind.Build(core.Env{Name: item.Name, Log: g.log.Named(item.Name), Upstream: g.pool, Deadline: g.server.Deadline, Origin: item.Origin}, item.Config)
		if err != nil {
			return item.Origin.Complain("", err.Error())
		}
		if s, ok := built.(core.Starter); ok {
			err = s.Start(ctx)
		}
		if c, ok := built.(core.Closer); ok {
			err = errors.Join(err, c.Close())
		}
		if err != nil {
			return item.Origin.Complain("", err.Error())
		}
	}
	return nil
}
