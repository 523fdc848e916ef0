package cli

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/gateway/app"
)

func reloadCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make a running gateway read its configuration again",
		Long: `Make the gateway that runs with this configuration read it again. The file is
checked first; one that is not right, or that changes what a running gateway
cannot change, changes nothing and it is said why. SIGHUP does the same.`,
		Example: "  edgegateway reload --config /etc/edgegateway.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := app.LoadConfig(config)
			if err != nil {
				return invalid(err)
			}
			pid, err := app.Holder(cfg.Data)
			if err != nil {
				return err
			}
			if pid == 0 {
				return fmt.Errorf("no gateway runs on the data folder %s", cfg.Data)
			}
			url := "http://" + cfg.Dashboard.Listen
			before, askable := reloadsOf(cmd.Context(), url)
			if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
				return fmt.Errorf("process %d: %w", pid, err)
			}
			if !askable {
				fmt.Fprintf(cmd.OutOrStdout(), "gateway %s, process %d, was asked to reload; its log says whether it did\n", cfg.Gateway, pid)
				return nil
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			for {
				if now, ok := reloadsOf(ctx, url); ok && now.Count > before.Count {
					if now.Error != "" {
						return invalid(fmt.Errorf("not reloaded, the old configuration stays: %s", now.Error))
					}
					fmt.Fprintf(cmd.OutOrStdout(), "gateway %s, process %d, reloaded its configuration\n", cfg.Gateway, pid)
					return nil
				}
				select {
				case <-ctx.Done():
					return errors.New("the gateway does not say within 30 s that it reloaded; see its log")
				case <-time.After(20 * time.Millisecond):
				}
			}
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "edgegateway.yaml", "configuration file of the gateway")
	completeFiles(cmd, "config", "yaml", "yml")
	return cmd
}

// reloadsOf asks a gateway for its last reload; false where it does not say.
func reloadsOf(ctx context.Context, url string) (last app.ReloadStatus, ok bool) {
	s, err := readStatus(ctx, url)
	if err != nil {
		return last, false
	}
	if s.Reload != nil {
		last = *s.Reload
	}
	return last, true
}
