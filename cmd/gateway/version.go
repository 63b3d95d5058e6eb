package gateway

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// A built is what the program was built from, as version --json prints it.
type built struct {
	// Version is that of the module; (devel) for one that was built in a folder
	// without history.
	Version string `json:"version"`
	// Revision is the commit; empty when it is not known.
	Revision string `json:"revision"`
	// Dirty says that the folder held changes which no commit has.
	Dirty          bool   `json:"dirty"`
	Go             string `json:"go"`
	OS             string `json:"os"`
	Arch           string `json:"arch"`
	PluginProtocol int    `json:"plugin_protocol"`
	// Linked are the kinds beside the shipped ones.
	Linked []string `json:"linked,omitempty"`
}

func builtFrom() built {
	b := built{Version: "(devel)", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, PluginProtocol: wire.Protocol}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	// One that was built with further kinds is a module of its own.
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path == self && m.Version != "" && m.Replace == nil {
			b.Version = m.Version
		}
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Dirty = s.Value == "true"
		}
	}
	return b
}

func (p program) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which version this is, what it was built from, and which plugins it can start",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, out := builtFrom(), cmd.OutOrStdout()
			for _, k := range p.kinds {
				b.Linked = append(b.Linked, k.Name)
			}
			if asJSON {
				return json.NewEncoder(out).Encode(b)
			}
			revision := b.Revision
			if revision == "" {
				revision = "unknown revision"
			}
			if b.Dirty {
				revision += ", with changes that are in no commit"
			}
			linked := ""
			if len(b.Linked) > 0 {
				linked = "linked besides: " + strings.Join(b.Linked, ", ") + "\n"
			}
			_, err := fmt.Fprintf(out, "dragoman %s (%s)\nbuilt with %s for %s/%s, plugin protocol %d\n%s", b.Version, revision, b.Go, b.OS, b.Arch, b.PluginProtocol, linked)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}
