package gateway

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/door"
)

// drillText is what every provider is asked to translate.
const drillText = "Good morning. The new car is very fast."

// drill sends one text through the chain of the file once for each provider that
// it may call, fallbacks included, each alone and without retries: the day on
// which a fallback is needed is late to learn that its key has expired. load
// returns the file anew.
func drill(ctx context.Context, w io.Writer, load func() (loaded, error)) error {
	file, err := load()
	if err != nil {
		return err
	}
	c := choose(file.File)
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	failed := 0
	for _, name := range c.provider.Names() {
		said, took, err := ask(ctx, load, name)
		took = took.Round(time.Millisecond)
		if err != nil {
			failed++
			fmt.Fprintf(table, "  %s\tFAILED\t%v\t%v\n", name, took, err)
			continue
		}
		fmt.Fprintf(table, "  %s\tok\t%v\t%s\n", name, took, said)
	}
	table.Flush()
	if failed > 0 {
		fmt.Fprintf(w, "providers that do not translate: %d\n", failed)
		return errSaid
	}
	return nil
}

// ask sends the text through the provider name alone.
func ask(ctx context.Context, load func() (loaded, error), name string) (said string, took time.Duration, err error) {
	file, err := load()
	if err != nil {
		return "", 0, err
	}
	c := choose(file.File)
	c.provider.Use, c.provider.Fallback, c.provider.Routes, c.provider.Retries = core.Names{name}, nil, nil, 0
	g, err := build(file)
	if err != nil {
		return "", 0, err
	}
	defer g.close(time.Second)
	if err := g.start(ctx); err != nil {
		return "", 0, err
	}
	source, target := pair(g.engine.Languages())
	began := time.Now()
	res, err := door.New(*g.server, g.engine).Translate(ctx, &core.Request{Text: drillText, Source: source, Target: target, NoCache: true, Lane: core.LaneFinal})
	if err != nil {
		return "", time.Since(began), err
	}
	return fmt.Sprintf("%s -> %s: %s", source, target, res.Text), time.Since(began), nil
}

// pair returns languages to ask for: from English to Spanish where that is
// offered, else the first pair that is.
func pair(offered []core.LanguageInfo) (source, target core.Language) {
	source, target = "en", "es"
	for _, l := range offered {
		if l.Source == source && slices.Contains(l.Targets, target) {
			return source, target
		}
	}
	for _, l := range offered {
		if len(l.Targets) > 0 {
			return l.Source, l.Targets[0]
		}
	}
	return source, target
}
