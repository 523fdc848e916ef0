package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"edgegateway/configs"
	"edgegateway/gateway/app"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE...",
		Short: "Check configurations without starting anything",
		Long: `Check configurations, and the models, labels and keys that they name, without
starting anything. A model that is not there is told and is no error here, for it may be
there where the gateway runs; run refuses it.`,
		Example: "  edgegateway check configs/demo.yaml",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var errs []error
			for _, path := range args {
				cfg, err := app.LoadConfig(path)
				var warning, absent error
				if err == nil {
					warning, absent, err = cfg.CheckFiles()
				}
				if err != nil {
					errs = append(errs, err)
					continue
				}
				if warning != nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "served, and perhaps not meant:\n%v\n", warning)
				}
				if absent != nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "not looked at, and run refuses it:\n%v\n", absent)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: right: gateway %s, %s, %s, %s, %s up\n", path, cfg.Gateway,
					count(len(cfg.Streams), "stream"), count(len(cfg.Models), "model"), count(len(cfg.Alerts), "alert"), count(len(cfg.Upstream), "link"))
			}
			return invalid(errors.Join(errs...))
		},
	}
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON Schema of the configuration, for editors",
		Example: "  edgegateway schema > edgegateway.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b, err := configs.Schema(app.DefaultConfig(), "urn:edgegateway:configuration", "Edge Gateway configuration")
			if err != nil {
				return err
			}
			_, err = os.Stdout.Write(append(b, '\n'))
			return err
		},
	}
}

func versionCommand(version string) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  edgegateway version",
		Args:    cobra.NoArgs,
		Run:     func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "edgegateway", version) },
	}
}
