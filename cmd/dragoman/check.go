package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/engine"
	"github.com/dragoman-mt/dragoman/plugins/host"
)

func checkCommand() *cobra.Command {
	var (
		f       flags
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

With --live one short text is sent through every provider that the chain may
call, each fallback included: it costs what such a call costs.

Exit status: 0 when the gateway would serve this file, 1 when not.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if live && (offline || without) {
				return usageError{errors.New("--live asks every provider, so it goes with neither --offline nor --no-plugins")}
			}
			file, err := f.load(offline)
			if err != nil {
				return err
			}
			g, err := build(file)
			if err != nil {
				return err
			}
			defer g.close(0)
			if err := g.server.Check(); err != nil {
				return file.Place(err)
			}
			for _, w := range warnings(file) {
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
			if !offline {
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
				return drill(cmd.Context(), cmd.OutOrStdout(), func() (*config.File, error) { return f.load(false) })
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&offline, "offline", false, "ask nobody, and need no keys: variables that are missing count as empty")
	cmd.Flags().BoolVar(&live, "live", false, "send one text through every provider and fallback")
	cmd.Flags().BoolVar(&without, "no-plugins", false, "start no plugin, not even to hear what keys it has")
	return cmd
}
