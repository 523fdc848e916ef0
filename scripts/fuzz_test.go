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

// The end of the time is no finding, though Go may call it one; whatever else
// is said beside it is. A program in the place of go says what go said.
func TestFuzzEndOfTime(t *testing.T) {
	for name, c := range map[string]struct {
		said string
		ok   bool
	}{
		"the end of the time": {"fuzz: elapsed: 1s, execs: 9 (0/sec)\n--- FAIL: FuzzA (1.08s)\n    context deadline exceeded\nFAIL\nexit status 1\nFAIL\tx\t1.1s", true},
		"a finding":           {"--- FAIL: FuzzA (1.08s)\n    a_test.go:9: wrong\n    Failing input written to testdata/fuzz/FuzzA/1\nFAIL", false},
		"both":                {"--- FAIL: FuzzA (1.08s)\n    context deadline exceeded\n    Failing input written to testdata/fuzz/FuzzA/1\nFAIL", false},
		"a panic":             {"panic: index out of range\nFAIL\tx\t0.1s", false},
		"nothing":             {"FAIL\tx [build failed]", false},
	} {
		dir := t.TempDir()
		said := filepath.Join(dir, "said")
		for file, text := range map[string]string{
			"a_test.go": "package a\n\nfunc FuzzA(f *testing.F) {}\n",
			"go":        "#!/bin/sh\ncat " + said + "\nexit 1\n",
			"said":      c.said + "\n",
		} {
			if err := os.MkdirAll(filepath.Join(dir, "a"), 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, file)
			if strings.HasSuffix(file, ".go") {
				path = filepath.Join(dir, "a", file)
			}
			if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("sh", filepath.Join(testkit.Root(t), "scripts", "fuzz.sh"), "1")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if (err == nil) != c.ok {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
