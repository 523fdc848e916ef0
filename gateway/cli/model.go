package cli

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
)

func modelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "model", Short: "Look at, try and run models, and change their versions",
		Example: "  edgegateway model inspect model.tflite",
	}
	cmd.AddCommand(modelInspectCommand(), modelTryCommand(), modelPreflightCommand(), modelRunCommand(), modelDiffCommand(),
		modelListCommand(), modelShowCommand(), modelActivateCommand(), modelPromoteCommand(), modelWithdrawCommand(), modelRollbackCommand(),
		modelRemoveCommand(), modelPushCommand())
	for _, c := range cmd.Commands() {
		completeWords(c, "output", "auto", "classes", "blazeface", "detection", "regression", "reconstruction", "raw")
		completeWords(c, "delegate", "auto", "builtin", "xnnpack:0", "external")
		completeWords(c, "fit", "stretch", "letterbox", "crop")
	}
	cmd.AddCommand(toTheEnd(modelBundleCommand(), modelSignCommand(), modelVerifyCommand(), modelAddCommand(), modelReferenceCommand())...)
	return cmd
}

// completeWords lets the shell complete a flag, where the command has it.
func completeWords(cmd *cobra.Command, flag string, words ...string) {
	if cmd.Flags().Lookup(flag) == nil {
		return
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // it is registered twice
	}
}

func modelInspectCommand() *cobra.Command {
	var asJSON, packed bool
	cmd := &cobra.Command{
		Use:     "inspect FILE",
		Short:   "Say what a .tflite file is made of, and what this runtime would make of it",
		Example: "  edgegateway model inspect face_detection_short_range.tflite\n  edgegateway model inspect --json model.tflite | jq .bytes",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, m, err := readModel(args[0])
			if err != nil {
				return err
			}
			small := 0
			if packed || len(data) <= quickPack {
				done := waiting("packing " + filepath.Base(args[0]))
				p, err := pack.Pack(data, nil)
				if done(); err != nil {
					return invalid(fmt.Errorf("%s: %w", args[0], err))
				}
				small = len(p)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					model.Report
					Small int `json:"packed_bytes,omitempty"`
				}{m.Inspect(), small})
			}
			if err := m.Describe(cmd.OutOrStdout()); err != nil {
				return err
			}
			if small > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "\nby the command pack it has %d bytes, 1/%.1f of %d\n", small, float64(len(data))/float64(small), len(data))
			}
			if _, _, _, err := m.Adapted(data); err != nil {
				fmt.Fprintf(cmd.OutOrStdout(), "\nThis runtime would refuse or misread it: %v\n", err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&packed, "packed", false, "pack a model of more than 2 MB too, to say how large it is then; smaller ones always are")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
