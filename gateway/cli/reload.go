package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/configs"
	"edgegateway/gateway/app"
)

func reloadCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make a running gateway read its configuration again",
		Long: `Make the gateway that runs with this configuration read it again. One that is
not right, or that changes what a running gateway cannot change, changes nothing;
why is said here, in the gateway's log and by watch. SIGHUP does the same.`,
		Example: "  edgegateway reload --config /etc/edgegateway.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, wrong := app.LoadConfig(config)
			if wrong != nil {
				cfg.Data = dataOf(config)
			}
			g, err := app.Holder(cfg.Data)
			if wrong != nil && (err != nil || g == nil || !sameFile(g.Config, config)) {
				return invalid(wrong) // and no gateway need know of it
			}
			if err != nil {
				return err
			}
			if g == nil {
				return noGateway(cfg.Data)
			}
			if g.Config != "" && !sameFile(g.Config, config) {
				return &exitError{exitUsage, fmt.Errorf("gateway %s, process %d, runs with %s, and reads no other file; put the change there, or restart it with run --config %s",
					g.Gateway, g.Process, g.Config, config)}
			}
			before, askable := reloadsOf(cmd.Context(), g)
			if err := syscall.Kill(g.Process, syscall.SIGHUP); err != nil {
				return fmt.Errorf("process %d: %w", g.Process, err)
			}
			if wrong != nil {
				return invalid(wrong) // the gateway says so too
			}
			if !askable {
				fmt.Fprintf(cmd.OutOrStdout(), "gateway %s, process %d, was asked to reload; its log says whether it did\n", g.Gateway, g.Process)
				return nil
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			for {
				if now, ok := reloadsOf(ctx, g); ok && now.Count > before.Count {
					if now.Error != "" {
						return invalid(fmt.Errorf("not reloaded, the old configuration stays: %s", now.Error))
					}
					fmt.Fprintf(cmd.OutOrStdout(), "gateway %s, process %d, reloaded its configuration\n", g.Gateway, g.Process)
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

func noGateway(data string) error {
	if dir, err := filepath.Abs(data); err == nil && dir != data {
		return fmt.Errorf("no gateway runs on the data folder %s; data: %s counts from the folder that a command runs in", dir, data)
	}
	return fmt.Errorf("no gateway runs on the data folder %s", data)
}

// reloadsOf asks a gateway for its last reload; false where it does not say.
func reloadsOf(ctx context.Context, g *app.Running) (last app.ReloadStatus, ok bool) {
	if g.Dashboard == "" {
		return last, false
	}
	s, err := readStatus(ctx, "http://"+g.Dashboard)
	if err != nil || s.Process != g.Process {
		return last, false
	}
	if s.Reload != nil {
		last = *s.Reload
	}
	return last, true
}

// sameFile says whether two paths lead to one file, or would.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return a == b || err == nil && err2 == nil && os.SameFile(x, y)
}

// dataOf is the data folder that a configuration names which is not right
// otherwise, so that the gateway that runs with it hears of that.
func dataOf(config string) string {
	cfg := struct {
		Data string `yaml:"data"`
	}{app.DefaultConfig().Data}
	b, _ := os.ReadFile(config) // that it cannot be read was said already
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "data:") {
			if _, err := configs.Parse(config, []byte(line), &cfg); err != nil {
				break
			}
		}
	}
	return cfg.Data
}
