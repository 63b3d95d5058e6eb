package gateway

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manualCommand is for whoever makes packages: `make release` calls it.
func (p program) manualCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "manual FOLDER",
		Short: "Write the pages of the manual into a folder, one for each command",
		Long: `Write the pages of the manual, as man(1) shows them, into a folder that exists, one
for each command. SOURCE_DATE_EPOCH says which day they bear; without it they bear none.`,
		Hidden: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("dragoman manual takes one folder; see `dragoman manual --help`")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			day := ""
			if at := os.Getenv("SOURCE_DATE_EPOCH"); at != "" {
				seconds, err := strconv.ParseInt(at, 10, 64)
				if err != nil {
					return fmt.Errorf("SOURCE_DATE_EPOCH is %q; it is a number of seconds since 1970", at)
				}
				day = time.Unix(seconds, 0).UTC().Format(time.DateOnly)
			}
			return eachPage(cmd.Root(), func(c *cobra.Command) error {
				return os.WriteFile(filepath.Join(args[0], pageOf(c)+".1"), manualPage(c, day), 0o644)
			})
		},
	}
}

// eachPage visits every command that has a page.
func eachPage(c *cobra.Command, visit func(*cobra.Command) error) error {
	if err := visit(c); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		if err := eachPage(sub, visit); err != nil {
			return err
		}
	}
	return nil
}

// pageOf is the name of the page of c.
func pageOf(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manualPage is the page of c in the language of man(7).
func manualPage(c *cobra.Command, day string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH %q 1 %q \"Dragoman\" \"Dragoman's manual\"\n", strings.ToUpper(pageOf(c)), day)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(pageOf(c)), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(c.UseLine()))
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s", asWritten(cmp.Or(c.Long, c.Short+".")))
	options := func(title string, flags *pflag.FlagSet) {
		if !flags.HasAvailableFlags() {
			return
		}
		fmt.Fprintf(&b, ".SH %s\n", title)
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			name, usage := pflag.UnquoteUsage(f)
			term := "--" + f.Name
			if f.Shorthand != "" {
				term = "-" + f.Shorthand + ", " + term
			}
			if name != "" {
				term += " " + name
			}
			if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" && f.DefValue != "0s" {
				usage += " (default " + f.DefValue + ")"
			}
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(term), roff(usage))
		})
	}
	options("OPTIONS", c.LocalFlags())
	if c.HasExample() {
		fmt.Fprintf(&b, ".SH EXAMPLES\n%s", asWritten(c.Example))
	}
	var also []string
	if c.HasParent() {
		also = append(also, c.Parent().CommandPath())
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			also = append(also, sub.CommandPath())
		}
	}
	if len(also) > 0 {
		b.WriteString(".SH SEE ALSO\n")
		for i, name := range also {
			end := ","
			if i == len(also)-1 {
				end = ""
			}
			fmt.Fprintf(&b, ".BR %s (1)%s\n", roff(strings.ReplaceAll(name, " ", "-")), end)
		}
	}
	return b.Bytes()
}

// asWritten keeps the lines of a help text.
func asWritten(text string) string {
	var b strings.Builder
	b.WriteString(".nf\n")
	for line := range strings.Lines(text) {
		b.WriteString(roff(strings.TrimRight(line, "\n")) + "\n")
	}
	b.WriteString(".fi\n")
	return b.String()
}

// roff writes text so that none of it is taken for a request or an escape.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "~", `\(ti`, "^", `\(ha`, "\n", " ").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
