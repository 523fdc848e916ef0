package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

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

func usage(cmd *cobra.Command, err error) error {
	return &exitError{exitUsage, fmt.Errorf("%w; see: %s --help", err, cmd.CommandPath())}
}

// Run runs the command line and returns the exit code.
func Run(ctx context.Context, version string, args []string) int {
	root := newRoot(version)
	root.SetArgs(args)
	err := misnamed(root, args)
	if err == nil {
		var cmd *cobra.Command
		cmd, err = root.ExecuteContextC(ctx)
		if err != nil && strings.HasPrefix(err.Error(), "required flag(s)") { // cobra has no type for it
			err = usage(cmd, err)
		}
	}
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

// newRoot is the tree of commands.
func newRoot(version string) *cobra.Command {
	root := &cobra.Command{
		Use:   "edgegateway",
		Short: "An AI gateway for things: MQTT in, TensorFlow Lite on the box, results and alerts up",
		Long: `An AI gateway for things. Sensors and cameras publish to the MQTT broker inside;
TensorFlow Lite models classify what arrives on this box; results and alerts go
back out over MQTT and up to a cloud broker.

Exit codes: 0 done, 1 failed or cut short, 2 a command line that is not right, 3 a
configuration or a model that is missing or not right.`,
		Example: `  edgegateway run --config configs/demo.yaml
  edgegateway sub 'results/#' 'alerts/#'`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.SetFlagErrorFunc(usage)
	root.AddCommand(
		runCommand(version), reloadCommand(), checkCommand(), schemaCommand(), subCommand(), publishCommand(), replayCommand(),
		watchCommand(), modelCommand(), keysCommand(), benchCommand(version), versionCommand(version), demoCommand(), trialCommand(), preflightCommand(), flCommand(version),
	)
	root.AddCommand(toTheEnd(
		datasetCommand(), trainCommand(), quantizeCommand(), evaluateCommand(), sensitivityCommand(), pruneCommand(), clusterCommand(),
		distillCommand(), packCommand(), unpackCommand(), compressCommand(), optimizeCommand(),
	)...)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	refine(root)
	return root
}

// toTheEnd are commands that work towards an end. Ctrl-C before it is no success
// as it is of those that run until then: each says what it kept, or here that it
// kept nothing.
func toTheEnd(list ...*cobra.Command) []*cobra.Command {
	for _, c := range list {
		toTheEnd(c.Commands()...)
		if run := c.RunE; run != nil {
			c.RunE = func(cmd *cobra.Command, args []string) error {
				err := run(cmd, args)
				if cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
					return errors.New("stopped before there was anything to keep: nothing was written")
				}
				return err
			}
		}
	}
	return list
}

// refine makes wrong arguments an error of usage in every command; one that
// only holds others shows its help, and refuses a name it does not hold.
func refine(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		refine(c)
	}
	if cmd.Name() == "help" {
		return
	}
	check := cmd.Args
	if cmd.HasSubCommands() && !cmd.Runnable() {
		check = unknownCommand
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	if check == nil {
		check = cobra.ArbitraryArgs
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usage(cmd, plainArgs(cmd, args, err))
		}
		return nil
	}
}

// plainArgs says which arguments a command takes, with an example, in place of
// what cobra says when their number is not right.
func plainArgs(cmd *cobra.Command, args []string, err error) error {
	text := err.Error()
	if !strings.Contains(text, "arg(s)") && !strings.HasPrefix(text, "unknown command ") {
		return err
	}
	_, takes, ok := strings.Cut(cmd.Use, " ")
	if !ok {
		hint := ""
		if cmd.Flags().Lookup("config") != nil {
			hint = "; a configuration is named by --config"
		}
		return fmt.Errorf("%s takes no argument, %q is given%s", cmd.CommandPath(), args[0], hint)
	}
	are := "are"
	if len(args) == 1 {
		are = "is"
	}
	example, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n")
	return fmt.Errorf("%s takes %s, %s %s given; for example: %s", cmd.CommandPath(), takes, count(len(args), "argument"), are, example)
}

// misnamed refuses a command that is not there before cobra, asked for its help,
// shows that of what holds it.
func misnamed(root *cobra.Command, args []string) error {
	if !slices.Contains(args, "--help") && !slices.Contains(args, "-h") {
		return nil
	}
	cmd, rest, err := root.Find(args)
	if err != nil || !cmd.HasSubCommands() {
		return nil // cobra says it
	}
	for _, a := range rest {
		if !strings.HasPrefix(a, "-") {
			return usage(cmd, unknownCommand(cmd, []string{a}))
		}
	}
	return nil
}

func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("there is no command %q; did you mean %q?", args[0], near[0])
	}
	return fmt.Errorf("there is no command %q", args[0])
}
