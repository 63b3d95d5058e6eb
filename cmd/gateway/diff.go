package gateway

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/engine"
	"github.com/dragoman-mt/dragoman/plugins/host"
)

// explainDiff prints what a gateway that serves was would do on a reload of is.
// It is the plan of a reload itself, made and not carried out: nothing is
// started.
func explainDiff(w io.Writer, was, is string, f *flags) error {
	plugins := host.New()
	load := func(name string) (loaded, error) {
		return f.program.load(config.Options{File: name, Set: f.set, Offline: true}, plugins)
	}
	before, err := load(was)
	if err != nil {
		return err
	}
	after, err := load(is)
	if err != nil {
		return err
	}
	g, err := build(before)
	if err != nil {
		return err
	}
	defer g.close(0)
	g.plugins.SetMode(host.Ignore)
	g.engine.Attach("server", door.NewServer(door.Options{Config: *g.server, Service: door.New(*g.server, g.engine), Log: g.log}))
	g.engine.Serve(g.first, 0)
	next, err := g.engine.Build(after.File, serverSection.Of(after.File).Deadline)
	if err != nil {
		fmt.Fprintf(w, "A running gateway would refuse this, and serve on as it does:\n")
		return err
	}
	defer next.Close()

	changes := next.Changes()
	if len(changes) == 0 {
		fmt.Fprintf(w, "%s and %s say the same: a reload would carry everything over\n", was, is)
		return nil
	}
	fmt.Fprintf(w, "CHANGES from %s to %s\n\n", was, is)
	for _, c := range changes {
		fmt.Fprintf(w, "  %s\n", c)
	}
	fmt.Fprintf(w, "\nA RELOAD would\n\n")
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, s := range next.Steps {
		fmt.Fprintf(table, "  %s\t%s\n", fate(s), strings.ReplaceAll(s.Place, "/", "."))
	}
	table.Flush()
	for _, line := range warnings(after.File) {
		fmt.Fprintf(w, "\nwarning: %s\n", line)
	}
	return nil
}

func fate(s engine.Step) string {
	switch s.Fate {
	case engine.Keep:
		return "carry over"
	case engine.Change:
		return "change in place"
	case engine.Rebuild:
		if s.Heir {
			return "rebuild, with what is known"
		}
		return "rebuild"
	case engine.Park:
		return "unlink, and keep what it holds"
	case engine.Remove:
		return "remove"
	case engine.Idle:
		return "leave idle"
	}
	return "start"
}
