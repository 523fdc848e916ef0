package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"edgegateway/infer/model"
	"edgegateway/infer/store"
)

func modelDiffCommand() *cobra.Command {
	var f dataFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Say how two models differ: operators, tensors, weights, metadata",
		Long: `Say how two models differ: operators, tensors, weights, metadata. A and B are
files, bundles too, or NAME@VERSION of a gateway's store.`,
		Example: `  edgegateway model diff model.tflite model-int8.tflite
  edgegateway model diff --config hall.yaml digits@1 digits@2`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := f.model(args[0])
			if err != nil {
				return err
			}
			b, err := f.model(args[1])
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
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// model reads a model file, or, where there is none of that name, NAME@VERSION
// of a store.
func (f *dataFlags) model(arg string) (*model.Model, error) {
	if _, err := os.Stat(arg); errors.Is(err, fs.ErrNotExist) && strings.Contains(arg, "@") {
		name, version, err := store.ParseRef(arg)
		if err != nil {
			return nil, &exitError{exitUsage, err}
		}
		s, err := f.versionsToRead()
		if err != nil {
			return nil, err
		}
		defer s.Close()
		files, err := s.Files(name, version)
		if err != nil {
			return nil, ofModel(err)
		}
		arg = files.Model
	}
	data, err := modelOf(arg)
	if err != nil {
		return nil, err
	}
	m, err := model.Read(data)
	if err != nil {
		return nil, invalid(fmt.Errorf("%s: %w", arg, err))
	}
	return m, nil
}
