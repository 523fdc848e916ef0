package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// table is a small table of two classes.
func table(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "table.csv")
	if err := os.WriteFile(path, []byte("a,b,class\n"+strings.Repeat("1,2,x\n2,3,y\n4,1,x\n", 40)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Judging that is stopped says what was judged until then. The second model
// comes through a pipe, so that the stop is between both.
func TestEvaluateStopped(t *testing.T) {
	dir := t.TempDir()
	data, model, pipe := table(t, dir), filepath.Join(dir, "m.tflite"), filepath.Join(dir, "second.tflite")
	if code := Run(t.Context(), "test", []string{"train", "--data", data, "--target", "class", "--epochs", "1", "--out", model}); code != exitOK {
		t.Fatal(code)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]string{"text": "m", "json": `"name": "m"`} {
		e := evaluation{task: "auto", format: format, quick: true, asBytes: true}
		e.data.path, e.data.pixels, e.data.csv.Target = data, "-1..1", []string{"class"}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() {
			f, err := os.OpenFile(pipe, os.O_WRONLY, 0)
			if err != nil {
				t.Error(err)
				return
			}
			stop()
			f.Close()
		}()
		var out bytes.Buffer
		err := e.run(ctx, []string{model, pipe}, &out, io.Discard)
		if err == nil || err.Error() != "stopped: 1 of 2 models were judged" || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v\n%s", format, err, out.String())
		}
		if format == "json" && !json.Valid(out.Bytes()) {
			t.Error(out.String())
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, args := range [][]string{
		{"evaluate", "--no-latency", "--data", data, "--target", "class", model},
		{"dataset", "import", "--data", dir, "--target", "class", "room", data},
		{"train", "--data", data, "--target", "class", "--out", filepath.Join(dir, "other.tflite")},
	} {
		if code := Run(ctx, "test", args); code != exitFailed {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
	for _, name := range []string{"other.tflite", "datasets/room"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}
