package cli_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// TestAudited writes into the audit log what commands add and remove, and what
// made room, and says the last.
func TestAudited(t *testing.T) {
	dir := t.TempDir()
	config := write(t, dir, "hall.yaml", fmt.Sprintf("data: %s\nstore: {keep: 3}\n", filepath.Join(dir, "data")))
	add := func(version string) string {
		t.Helper()
		got := run(t, "", "model", "add", "--config", config, "--name", "hello@"+version, testkit.Shared(t, "models/hello_world_int8.tflite"))
		if got.code != 0 {
			t.Fatalf("%+v", got)
		}
		return got.stderr
	}
	for _, version := range []string{"1", "2", "3", "3"} {
		if text := add(version); strings.Contains(text, "left the store") {
			t.Error(text)
		}
	}
	if text := add("4"); !strings.Contains(text, "hello@1 left the store to make room (store: keep 3, ") {
		t.Error(text)
	}
	done(t, "", "model", "rm", "--config", config, "hello@3")
	var got []string
	for line := range strings.Lines(read(t, filepath.Join(store.Dir(filepath.Join(dir, "data")), "audit.jsonl"))) {
		_, line, _ = strings.Cut(line, `"step":`)
		got = append(got, strings.TrimSpace(line))
	}
	const by = `,"by":"command"}`
	want := []string{
		`"added","model":"hello","version":"1"` + by, `"added","model":"hello","version":"2"` + by, `"added","model":"hello","version":"3"` + by,
		`"added","model":"hello","version":"4"` + by,
		`"removed","model":"hello","version":"1","why":"it made room for another one (store: keep, keep_bytes)"` + by,
		`"removed","model":"hello","version":"3","why":"removed by command"` + by,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the log holds\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
