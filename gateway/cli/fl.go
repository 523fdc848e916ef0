package cli

import "github.com/spf13/cobra"

func flCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "fl",
		Short:   "Federated learning: gateways train a common model, their data stays where it is",
		Example: `  edgegateway fl simulate configs/fl/digits.yaml --data train-images-idx3-ubyte`,
	}
	cmd.AddCommand(toTheEnd(flSimulateCommand())...)
	return cmd
}
