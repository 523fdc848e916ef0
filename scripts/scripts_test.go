// Package scripts_test runs the scripts behind make as make runs them.
package scripts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// output runs a command in the top folder and returns all that it said.
func output(t *testing.T, in string, args ...string) (text string, code int) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = testkit.Root(t)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// Who is not root is told the one line that installs what the tests need, and
// nothing is run. The package is one that no Debian has.
func TestAptLine(t *testing.T) {
	testkit.Program(t, "apt-get")
	testkit.Program(t, "dpkg-query")
	// A copy, since nobody may not look into the top folder.
	dir, err := os.MkdirTemp("", "edgegateway-scripts-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	script, err := os.ReadFile("test.sh")
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "test.sh")
	if err := os.WriteFile(copied, script, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{copied, "dpkg edgegateway-no-such-package"}
	if os.Getuid() == 0 {
		args = append([]string{testkit.Program(t, "setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"}, args...)
	}
	got, code := output(t, "", args...)
	const want = "the tests need: sudo apt-get install -y --no-install-recommends edgegateway-no-such-package\n"
	if got != want || code != 1 {
		t.Errorf("%d %q, want %q", code, got, want)
	}
}

// make help lists every target that a person may want.
func TestHelp(t *testing.T) {
	got, code := output(t, "", testkit.Program(t, "make"), "--no-print-directory", "help")
	if code != 0 {
		t.Fatal(got)
	}
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	phony := regexp.MustCompile(`(?m)^\.PHONY: (.*)$`).FindSubmatch(makefile)
	if phony == nil {
		t.Fatal("no .PHONY")
	}
	for _, target := range strings.Fields(string(phony[1])) {
		if target == "setup" {
			continue // the others call it
		}
		if !regexp.MustCompile(`(?m)^  make ` + target + ` +\S`).MatchString(got) {
			t.Errorf("make help does not list %s:\n%s", target, got)
		}
	}
}

// The summary of a test run: what failed with its output, what was skipped and
// why, and one closing line.
func TestSummary(t *testing.T) {
	const pass = `{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":1}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:7: no shared models\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    b_test.go:9: no shared models\n"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"pass","Package":"p","Elapsed":1.5}
`
	got, code := output(t, pass, "go", "run", "scripts/summary.go")
	if want := "pass  p 1.5s\nskipped:\n  2: no shared models\n1 passed, 0 failed, 2 skipped\n"; got != want || code != 0 {
		t.Errorf("%d %q, want %q", code, got, want)
	}
	const fail = `{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: it is wrong\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p","Elapsed":2}
`
	got, code = output(t, fail, "go", "run", "scripts/summary.go")
	if !strings.Contains(got, "a_test.go:1: it is wrong") || !strings.HasSuffix(got, "0 passed, 1 failed, 0 skipped\nexit status 1\n") || code != 1 {
		t.Errorf("%d %q", code, got)
	}
}

// Every module that is linked, on any platform, is in THIRD_PARTY_NOTICES
// with a licence that the project accepts.
func TestNotices(t *testing.T) {
	if got, code := output(t, "", "go", "run", "scripts/notices.go", "-check"); code != 0 {
		t.Error(got)
	}
	// Without one of them the check fails.
	root := testkit.Root(t)
	whole, err := os.ReadFile(filepath.Join(root, "THIRD_PARTY_NOTICES"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"github.com/spf13/cobra", "XNNPACK, within", "TensorFlow Lite, libtensorflowlite_c", "Eigen, within"} {
		less := write(t, strings.ReplaceAll(string(whole), "  "+name, "  another"))
		if got, code := output(t, "", "go", "run", "scripts/notices.go", "-check", "-file", less); code != 1 || !strings.Contains(got, "lacks "+name) {
			t.Errorf("without %s: %d %s", name, code, got)
		}
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What the set-up fetches is named by an exact version and a sha256, and what
// it has already it does not fetch again: it works without npm or a network.
func TestSetup(t *testing.T) {
	script, err := os.ReadFile("setup.sh")
	if err != nil {
		t.Fatal(err)
	}
	calls := regexp.MustCompile(`(?m)^\s*fetch (\S+) (\S+) \\\n\s*([0-9a-f]{64}) `).FindAllSubmatch(script, -1)
	if n := len(regexp.MustCompile(`(?m)^\s*fetch @?[a-z]\S* \S+ \\$`).FindAll(script, -1)); len(calls) != n || n < 4 {
		t.Errorf("%d of %d packages are fetched by version and sha256", len(calls), n)
	}
	for _, c := range calls {
		if !regexp.MustCompile(`^\d+\.\d+\.\d+[\w.-]*$`).Match(c[2]) {
			t.Errorf("%s has no exact version: %s", c[1], c[2])
		}
	}
	testkit.Cached(t, "demo/sample1.jpg")
	testkit.Cached(t, "tfjs-tflite-node/cc_deps")
	cmd := exec.Command("sh", "scripts/setup.sh", "all")
	cmd.Dir = testkit.Root(t)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "EDGEGATEWAY_CACHE=" + testkit.CacheDir(), "npm_config_offline=true", "https_proxy=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1"}
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != testkit.CacheDir() {
		t.Errorf("%v %s", err, out)
	}
}
