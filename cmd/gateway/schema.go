package gateway

import (
	"github.com/spf13/cobra"

	"github.com/dragoman-mt/dragoman/cmd/gateway/internal/spec"
	"github.com/dragoman-mt/dragoman/plugins/host"
)

func (p program) schemaCommand() *cobra.Command {
	var tests bool
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of pipeline.yaml, or of its tests, for editors",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			write := p.schema(host.New()).JSONSchema
			if tests {
				write = spec.Document().JSONSchema
			}
			out, err := write()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	cmd.Flags().BoolVar(&tests, "tests", false, "that of pipeline_test.yaml")
	return cmd
}
