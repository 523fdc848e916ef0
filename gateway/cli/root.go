package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// Exit codes of the program.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitInvalid = 3 // a configuration or a model that is not right
)

// exitError carries an exit code; its text was said already where it is nil.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func invalid(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitInvalid, err}
}

// Run runs the command line and returns the exit code.
func Run(ctx context.Context, version string, args []string) int {
	root := &cobra.Command{
		Use:   "edgegateway",
		Short: "An AI gateway for things: MQTT in, TensorFlow Lite on the box, results and alerts up",
		Long: `An AI gateway for things. Sensors and cameras publish to the MQTT broker inside;
TensorFlow Lite models classify what arrives on this box; results and alerts go
back out over MQTT and up to a cloud broker.`,
		Example:       "  edgegateway run --config configs/demo.yaml",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitUsage, err} })
	root.AddCommand(
		runCommand(version), checkCommand(), schemaCommand(), subCommand(), publishCommand(), replayCommand(),
		watchCommand(), modelCommand(), benchCommand(version), versionCommand(version), demoCommand(), trialCommand(),
	)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	// Ctrl-C is a wish, not a failure.
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitOK
	}
	fmt.Fprintf(os.Stderr, "edgegateway: %v\n", err)
	var coded *exitError
	if errors.As(err, &coded) {
		return coded.code
	}
	return exitFailed
}
