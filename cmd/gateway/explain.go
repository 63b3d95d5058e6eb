package gateway

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/config"
	"github.com/dragoman-mt/dragoman/core/door/admin"
	"github.com/dragoman-mt/dragoman/plugins/host"
	"github.com/dragoman-mt/dragoman/stages/provider"
)

func (p program) explainCommand() *cobra.Command {
	f := p.flags()
	var diff bool
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Show the linked chain, each value that holds and where it came from, and the worst case",
		Long: `Show the linked chain, each value that holds and where it came from, and the
worst case. Nothing is started, and no key is needed.

With --diff OLD NEW: show what a gateway that serves OLD would do on a reload of
NEW: what it would carry over, change in place, rebuild or refuse.`,
		Example: "  dragoman explain\n  dragoman explain --diff pipeline.yaml new.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if !diff {
				return noArgs(cmd, args)
			}
			if len(args) != 2 {
				return usageError{fmt.Errorf("--diff takes two files, OLD and NEW; got %d", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if diff {
				return explainDiff(cmd.OutOrStdout(), args[0], args[1], f)
			}
			file, err := f.load(true)
			if err != nil {
				return err
			}
			explain(cmd.OutOrStdout(), file.File)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&diff, "diff", false, "show what a reload would do, from one file to another")
	return cmd
}

func explain(w io.Writer, file *config.File) {
	fmt.Fprintf(w, "CHAIN of %s: a request walks down, its answer walks back up\n\n", file.Path)
	explainChain(w, file)

	explainChats(w, file)

	fmt.Fprintf(w, "\nVALUES\n\n")
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, v := range file.Values {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", v.Path, v.Text, v.From)
	}
	table.Flush()

	c := choose(file)
	total, _, how := c.worst()
	fmt.Fprintf(w, "\nWORST CASE against the deadline\n\n")
	fmt.Fprintf(w, "  deadline      %v\n", c.server.Deadline)
	fmt.Fprintf(w, "  attempts      %v = %s\n", total, how)
	if c.queue != nil && c.queue.MinInterval > 0 {
		burst := c.queue.MaxConcurrent
		fmt.Fprintf(w, "  paced         the last of %d requests that come at once starts %v after the first\n", burst, time.Duration(burst-1)*c.queue.MinInterval)
	}
	if total > c.server.Deadline {
		fmt.Fprintf(w, "  so            the deadline cuts the last of them short by %v\n", total-c.server.Deadline)
	} else {
		fmt.Fprintf(w, "  so            %v are left for waiting\n", c.server.Deadline-total)
	}
	if warned := warnings(file); len(warned) > 0 {
		fmt.Fprintf(w, "\nWARNINGS\n\n")
		for _, line := range warned {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
}

// explainChain draws the chain as it is linked: what wraps, what guards, and
// what stands round each attempt.
func explainChain(w io.Writer, file *config.File) {
	var gates, after []config.Item
	indent := "  "
	caller := false
	for _, s := range file.Stages {
		switch {
		case !s.Enabled:
			continue
		case s.Kind.Role == core.RoleGate:
			gates = append(gates, s)
		case s.Kind.Role == core.RoleCaller:
			caller = true
			line(w, indent, s)
			indent += "  "
			for _, g := range gates {
				line(w, indent+"turn: ", g)
			}
		case caller:
			after = append(after, s)
		default:
			line(w, indent, s)
			indent += "  "
		}
	}
	for i := len(after) - 1; i >= 0; i-- {
		line(w, indent, after[i])
		indent += "  "
	}
	c := choose(file)
	if c.provider == nil {
		return
	}
	called := func(names []string) string { return called(file, names) }
	for _, r := range routesOf(file, c.provider) {
		fmt.Fprintf(w, "%s%s: %s\n", indent, r.Name, r.To)
	}
	fmt.Fprintf(w, "%scalls %s\n", indent, called(c.provider.Use))
	for _, name := range c.provider.Fallback {
		fmt.Fprintf(w, "%sfalls back to %s\n", indent, called([]string{name}))
	}
	var off []string
	for _, s := range file.Stages {
		if !s.Enabled {
			off = append(off, s.Name)
		}
	}
	if len(off) > 0 {
		fmt.Fprintf(w, "  not linked: %s\n", strings.Join(off, ", "))
	}
}

// called names providers with their kinds.
func called(file *config.File, names []string) string {
	var all []string
	for _, name := range names {
		for _, p := range file.Providers {
			if p.Name == name {
				all = append(all, fmt.Sprintf("%s (%s)", name, p.Kind.Name))
			}
		}
	}
	return strings.Join(all, " or ")
}

// routesOf says which requests the routes of c take, and who translates them.
func routesOf(file *config.File, c *provider.Config) (all []admin.Route) {
	for i := range c.Routes {
		r := &c.Routes[i]
		alone := ""
		if r.Private {
			alone = ", and nobody else"
		}
		all = append(all, admin.Route{Name: fmt.Sprintf("routes[%d]", i), To: fmt.Sprintf("%s: calls %s%s", routed(r), called(file, r.Use), alone)})
	}
	return all
}

// explainChats says which way a chat goes: round every stage that knows nothing of
// chats.
func explainChats(w io.Writer, file *config.File) {
	doors := doorsSection.Of(file)
	if !doors.OpenAI.Enabled {
		return
	}
	var to []string
	add := func(name string) {
		for _, p := range file.Providers {
			if p.Name == name && p.Kind.Chats && !slices.Contains(to, name) {
				to = append(to, name)
			}
		}
	}
	if c := choose(file); c.provider != nil {
		for _, name := range c.provider.Names() {
			add(name)
		}
	}
	doors.ChatProviders(func(_, name string) { add(name) })
	if len(to) == 0 {
		return
	}
	var through, past []string
	for _, s := range file.Stages {
		switch {
		case !s.Enabled:
		case s.Kind.Chats || s.Kind.Role == core.RoleGate:
			through = append(through, s.Name)
		default:
			past = append(past, s.Name)
		}
	}
	fmt.Fprintf(w, "\n  chats go through %s to %s\n", strings.Join(through, ", "), strings.Join(to, ", "))
	if len(past) > 0 {
		fmt.Fprintf(w, "  chats pass by %s\n", strings.Join(past, ", "))
	}
}

// routed says which requests a route takes.
func routed(r *provider.Route) string {
	var all []string
	if len(r.Sources) > 0 {
		all = append(all, "from "+strings.Join(r.Sources, ", "))
	}
	if len(r.Targets) > 0 {
		all = append(all, "to "+strings.Join(r.Targets, ", "))
	}
	if r.Lane != "" {
		all = append(all, "lane "+r.Lane)
	}
	if r.Client != "" {
		all = append(all, "client "+r.Client)
	}
	if len(all) == 0 {
		return "everything else"
	}
	return strings.Join(all, ", ")
}

func line(w io.Writer, indent string, s config.Item) {
	name := s.Name
	if s.Name != s.Kind.Name {
		name += " (" + s.Kind.Name + ")"
	}
	width := max(30-len(indent), len(name))
	doc := s.Kind.Doc
	if _, plugin := s.Config.(*host.StageConfig); plugin {
		// What the program is, nobody asks here; the chain treats all alike.
		doc += " It holds deltas back: an answer leaves it whole."
	}
	fmt.Fprintf(w, "%s%-*s  %s\n", indent, width, name, doc)
}
