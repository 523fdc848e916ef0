package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// What a coordinator and its folder of gateways do not take: another key than the
// one that led a task, a file twice, one key under two names, flags that are missing.
func TestFLGiven(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	exits := func(code int, says string, args ...string) {
		t.Helper()
		cmd := testkit.Command(t, args...)
		out, _ := cmd.CombinedOutput() // the code says more than the error
		if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), says) {
			t.Fatalf("%v: exit code %d, want %d with %q:\n%s", args, got, code, says, out)
		}
	}
	for _, name := range []string{"boss", "thief", "lab"} {
		exits(0, "", "keys", "new", path(name))
	}
	enroll := func(name, key string) []string {
		return []string{"fl", "enroll", "--enrolled", path("enrolled"), name, path(key)}
	}
	exits(0, "enrolled", enroll("lab", "lab.pub")...)
	exits(0, "enrolled already", enroll("lab", "lab.pub")...)
	exits(exitUsage, "is that of gateway lab already", enroll("shop", "lab.pub")...)
	exits(exitUsage, "nobody.pub", enroll("shop", "nobody.pub")...)
	exits(exitUsage, `"enrolled" not set; see: edgegateway fl enroll --help`, "fl", "enroll", "lab", path("lab.pub"))
	task := path("task.yaml")
	if err := os.WriteFile(task, []byte("name: clouds\nmodel: {preset: mlp, input: [2], classes: [high, low]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lead := func(key string, tasks ...string) []string {
		return append([]string{"fl", "coordinator", "--broker", "127.0.0.1:1", "--key", path(key), "--enrolled", path("enrolled"), "--data", path("tasks")}, tasks...)
	}
	exits(exitUsage, "task.yaml is given twice", lead("boss.pem", task, task)...)
	boss := testkit.Start(t, testkit.Command(t, lead("boss.pem", task)...))
	boss.Line("task clouds-.*: 642 weights")
	boss.Kill()
	exits(exitInvalid, "this folder was led with key ", lead("thief.pem", task)...)
}
