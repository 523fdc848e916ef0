package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// flFolder is a folder of its own for a test: path names a file in it, file writes
// one, and exits runs the program and holds its exit code, and words that it says.
func flFolder(t *testing.T) (path func(name string) string, file func(name, text string) string, exits func(code int, says string, args ...string)) {
	t.Helper()
	dir := t.TempDir()
	path = func(name string) string { return filepath.Join(dir, name) }
	file = func(name, text string) string {
		t.Helper()
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	exits = func(code int, says string, args ...string) {
		t.Helper()
		cmd := testkit.Command(t, args...)
		out, _ := cmd.CombinedOutput() // the code says more than the error
		if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), says) {
			t.Fatalf("%v: exit code %d, want %d with %q:\n%s", args, got, code, says, out)
		}
	}
	return path, file, exits
}
