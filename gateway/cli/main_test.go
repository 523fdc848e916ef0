package cli_test

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"edgegateway/gateway/cli"
	"edgegateway/internal/testkit"
)

// TestMain lets the test binary be the program, as main.go would.
func TestMain(m *testing.M) {
	testkit.Main(m, func(args []string) int {
		if len(args) > 0 && args[0] == recorderCommand {
			return recorder(args[1:])
		}
		if len(args) > 0 && args[0] == cli.FLCrowdCommand {
			return cli.FLCrowd(args[1:])
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop) // as main does
		defer stop()
		return cli.Run(ctx, "v0-test", args)
	})
}

// ran is how a command ended.
type ran struct {
	code           int
	stdout, stderr string
}

// run runs the program to its end with its standard input from in.
func run(t *testing.T, in string, args ...string) ran {
	t.Helper()
	cmd := testkit.Command(t, args...)
	var stdout, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if _, ok := err.(*exec.ExitError); !ok {
			t.Fatal(err)
		}
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// start starts the program; it is ended with the test.
func start(t *testing.T, args ...string) *testkit.Process {
	t.Helper()
	return testkit.Start(t, testkit.Command(t, args...))
}

// write writes a file into a folder of the test.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// foreign starts somebody else's program; it is ended with the test.
func foreign(t *testing.T, name string, args ...string) *testkit.Process {
	t.Helper()
	return testkit.Start(t, exec.Command(testkit.Program(t, name), args...))
}
