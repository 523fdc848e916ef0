package cli

import (
	"github.com/spf13/cobra"

	"edgegateway/infer/model"
)

func modelDiffCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "diff A B",
		Short:   "Say how two models differ: operators, tensors, weights, metadata",
		Example: "  edgegateway model diff model.tflite model-int8.tflite",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, a, err := readModel(args[0])
			if err != nil {
				return err
			}
			_, b, err := readModel(args[1])
			if err != nil {
				return err
			}
			d := model.Diff(a, b)
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), d)
			} else {
				err = d.Describe(cmd.OutOrStdout())
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
