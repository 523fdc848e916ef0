package scripts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// What a fuzz target finds fails the script, with the words of the finding;
// where none finds anything it ends well.
func TestFuzzFails(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const target = "package p\n\nimport \"testing\"\n\nfunc FuzzP(f *testing.F) {\n\tf.Add(7)\n\tf.Fuzz(func(t *testing.T, n int) {\n\t\tif n == n+% {\n\t\t\tt.Fatal(\"found it\")\n\t\t}\n\t})\n}\n"
	write("go.mod", "module p\n\ngo 1.24\n")
	for more, fails := range map[string]bool{"0": true, "1": false} {
		write("p/p_test.go", strings.Replace(target, "%", more, 1))
		cmd := exec.Command("sh", filepath.Join(testkit.Root(t), "scripts", "fuzz.sh"), "1")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if (err != nil) != fails || strings.Contains(string(out), "found it") != fails || !strings.Contains(string(out), "fuzz p FuzzP 1s") {
			t.Errorf("fails %v: %v\n%s", fails, err, out)
		}
	}
}
