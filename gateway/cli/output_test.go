package cli_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// closed is a folder in which nobody who runs the tests can make a file.
func closed(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	if runtime.GOOS != "linux" {
		t.Skip("nothing is closed to root here")
	}
	return "/proc/self"
}

// A folder that takes no file is found before the work, which would be lost, and
// is named; so is a name that says of what is written what it is not.
func TestOutputIsRefusedEarly(t *testing.T) {
	dir := t.TempDir()
	copied, err := os.ReadFile(testkit.Shared(t, "models/hello_world_float.tflite"))
	if err != nil {
		t.Fatal(err)
	}
	model := write(t, dir, "sine.tflite", string(copied))
	recipe := write(t, dir, "r.yaml", "steps:\n  - {do: quantize}\n")
	done(t, "", "pack", model)
	data := testkit.Shared(t, "data/occupancy_train.csv")
	shut := closed(t)
	named := []string{"quantize", "prune", "cluster", "compress", "unpack", "train", "distill"}
	for _, args := range [][]string{
		{"quantize", model}, {"prune", model}, {"cluster", model}, {"compress", "--recipe", recipe, model}, {"pack", model}, {"unpack", filepath.Join(dir, "sine.pack")},
		{"optimize", "--max-size", "1kB", model}, {"train", "--data", data, "--target", "Occupancy"},
		{"distill", "--teacher", model, "--data", data, "--target", "Occupancy"},
	} {
		name := "x.tflite"
		if args[0] == "pack" {
			name = "x.pack"
		}
		if got := run(t, "", append(args, "--out", filepath.Join(shut, name))...); got.code != 2 || !strings.Contains(got.stderr, "folder "+shut+" takes no file") || got.stdout != "" {
			t.Errorf("%s into a closed folder: %+v", args[0], got)
		}
		if got := run(t, "", append(args, "--out", dir)...); got.code != 2 || args[0] != "optimize" && !strings.Contains(got.stderr, dir+" is there and no regular file") {
			t.Errorf("%s to a folder: %+v", args[0], got)
		}
		for _, n := range named {
			if n != args[0] {
				continue
			}
			if got := run(t, "", append(args, "--out", filepath.Join(dir, "x.pack"))...); got.code != 2 || !strings.Contains(got.stderr, ".pack is for packed models") {
				t.Errorf("%s to x.pack: %+v", args[0], got)
			}
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What unpack would write over unasked is not another model.
func TestUnpackSparesOthers(t *testing.T) {
	dir := t.TempDir()
	read2 := func(name string) string { return read(t, testkit.Shared(t, "models/"+name)) }
	sine, other := read2("hello_world_float.tflite"), read2("hello_world_int8.tflite")
	model := write(t, dir, "sine.tflite", sine)
	packed := filepath.Join(dir, "sine.pack")
	done(t, "", "pack", model)
	done(t, "", "unpack", packed) // the same bytes again
	write(t, dir, "sine.tflite", other)
	if got := run(t, "", "unpack", packed); got.code != 2 || !strings.Contains(got.stderr, "--force writes over it") || read(t, model) != other {
		t.Errorf("%+v; the other model is there: %v", got, read(t, model) == other)
	}
	for _, args := range [][]string{{"--force"}, {"--out", model}} {
		write(t, dir, "sine.tflite", other)
		if done(t, "", append([]string{"unpack", packed}, args...)...); read(t, model) != sine {
			t.Errorf("unpack %v wrote nothing", args)
		}
	}
}
