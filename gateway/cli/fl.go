package cli

import "github.com/spf13/cobra"

func flCommand(version string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fl",
		Short: "Federated learning: gateways train a common model, their data stays where it is",
		Example: "  edgegateway fl simulate configs/fl/digits.yaml --data train-images-idx3-ubyte --holdout t10k-images-idx3-ubyte\n" +
			"  edgegateway fl coordinator --key coordinator.pem --enrolled enrolled --data tasks configs/fl/digits.yaml\n" +
			"  edgegateway fl join --name lab --key lab.pem --trust coordinator.pub --data samples.csv --target class",
	}
	cmd.AddCommand(flCoordinatorCommand(), flEnrollCommand(), flStatusCommand(), flJoinCommand(version))
	cmd.AddCommand(toTheEnd(flSimulateCommand())...)
	cmd.AddCommand(flChildCommand())
	return cmd
}
