package main

import (
	"github.com/spf13/cobra"
)

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of pipeline.yaml, for editors",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := schema().JSONSchema()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
}
