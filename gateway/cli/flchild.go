package cli

import (
	"os"

	"github.com/spf13/cobra"

	"edgegateway/gateway/learn"
)

// flChild are the arguments with which this program trains as a child.
var flChild = []string{"fl", "child"}

func flChildCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "child",
		Hidden:  true,
		Short:   "Train a round, or make a model; the gateway and fl join start it by themselves",
		Example: "  edgegateway fl child < request",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return learn.RunChild(cmd.Context(), os.Stdin, os.Stdout)
		},
	}
}
