package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// Flags that would do nothing are errors of usage, said before anything is read
// or written.
func TestIdleFlags(t *testing.T) {
	dir := t.TempDir()
	model, table, pictures := testkit.Shared(t, "models/ad01_fp32.tflite"), testkit.Shared(t, "data/occupancy_train.csv"), testkit.Shared(t, "data/cifar10")
	small := testkit.Shared(t, "models/hello_world_float.tflite")
	recipe := write(t, dir, "r.yaml", "steps:\n  - {do: prune, sparsity: 0.5}\n")
	packed := filepath.Join(dir, "m.pack")
	done(t, "", "pack", "--out", packed, small)
	for _, c := range []struct{ args, flag string }{
		{"prune " + model + " --pattern 2:4 --sparsity 0.3", "sparsity"},
		{"prune " + model + " --pattern 2:4 --scope layer", "scope"},
		{"prune " + model + " --pattern channels --macs 0.5 --sparsity 0.5", "sparsity"},
		{"prune " + model + " --pattern channels --last", "last"},
		{"prune " + model + " --least 8", "least"},
		{"prune " + model + " --multiple 8", "multiple"},
		{"prune " + model + " --rate 0.1", "rate"},
		{"prune " + model + " --seed 7", "seed"},
		{"prune " + model + " --pattern channels --parts 2", "parts"},
		{"prune " + model + " --test " + table, "test"},
		{"prune " + model + " --samples 9", "samples"},
		{"cluster " + model + " --batch 9", "batch"},
		{"cluster " + model + " --test " + table, "test"},
		{"cluster " + model + " --target x", "target"},
		{"compress --recipe " + recipe + " " + model + " --rate 0.1", "rate"},
		{"compress --recipe " + recipe + " " + model + " --data " + table + " --rate 0.1", "rate"},
		{"compress --recipe " + recipe + " " + model + " --data " + table + " --test " + table + " --split 0.1", "split"},
		{"optimize --max-size 9kB " + model + " --epochs 3", "epochs"},
		{"optimize --max-size 9kB " + model + " --seed 3", "seed"},
		{"optimize --max-size 9kB " + model + " --data " + table + " --epochs 0 --rate 1", "rate"},
		{"optimize --max-size 9kB " + model + " --data " + table + " --test " + table + " --val 0.3", "val"},
		{"distill --teacher " + model + " --data " + table + " --unlabelled --alpha 0.3", "alpha"},
		{"distill --teacher " + model + " --data " + table + " --unlabelled --class-weights balanced", "class-weights"},
		{"distill --teacher " + model + " --data " + table + " --beta 2", "beta"},
		{"distill --teacher " + small + " --data " + table + " --target CO2,Light --regression --temperature 2", "temperature"},
		{"distill --teacher " + model + " --data " + table + " --target Occupancy --pixels 0..1", "pixels"},
		{"train --data " + table + " --test " + table + " --split 0.3", "split"},
		{"train --data " + table + " --momentum 0.3", "momentum"},
		{"train --data " + table + " --val 0 --patience 3", "patience"},
		{"train --data " + pictures + " --size 8x8 --target Occupancy", "target"},
		{"train --data " + pictures + " --size 8x8 --window 3", "window"},
		{"evaluate " + model + " --task classes", "task"},
		{"evaluate " + model + " --pixels 0..1", "pixels"},
		{"evaluate " + small + " --data " + write(t, dir, "one.csv", "a,b\n1,2\n2,3\n3,5\n") + " --target b --pixels 0..1", "pixels"},
		{"sensitivity " + model + " --samples 4", "samples"},
		{"unpack --base " + small + " " + packed, "base"},
	} {
		out := filepath.Join(dir, "out.tflite")
		args := strings.Fields(c.args)
		if command := args[0]; command != "evaluate" && command != "sensitivity" {
			args = append(args, "--out", out)
		}
		r := run(t, "", args...)
		if want := "--" + c.flag + " does nothing here: "; r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: code %d, %s; want %q", c.args, r.code, r.stderr, want)
		}
		if left, err := filepath.Glob(out + "*"); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind %v, %v", c.args, left, err)
		}
	}
}

// A model of integers, and a model as a student, are refused with what to do
// instead before any data is read: the data is not even there.
func TestIntegerModelRefused(t *testing.T) {
	dir := t.TempDir()
	model := testkit.Shared(t, "models/detect.tflite")
	none, out := filepath.Join(dir, "none"), filepath.Join(dir, "out.tflite")
	recipe := write(t, dir, "r.yaml", "steps:\n  - {do: prune, sparsity: 0.5}\n")
	for _, args := range [][]string{
		{"prune", "--data", none, "--out", out, model}, {"prune", "--pattern", "channels", "--data", none, "--out", out, model},
		{"cluster", "--data", none, "--out", out, model}, {"quantize", "--data", none, "--out", out, model}, {"sensitivity", "--data", none, model},
		{"optimize", "--max-size", "1MB", "--data", none, "--out", out, model}, {"compress", "--recipe", recipe, "--data", none, "--out", out, model},
	} {
		r := run(t, "", args...)
		for _, want := range []string{"detect.tflite", "give the float model that it was quantized from", "pack takes it as it is"} {
			if r.code != 3 || !strings.Contains(r.stderr, want) {
				t.Errorf("%v: code %d, no %q in %s", args, r.code, want, r.stderr)
			}
		}
	}
	for _, command := range [][]string{{"distill", "--teacher", model}, {"train"}} {
		r := run(t, "", append(command, "--network", model, "--data", none, "--out", out)...)
		if r.code != 2 || !strings.Contains(r.stderr, "detect.tflite is a model") || !strings.Contains(r.stderr, "a YAML file with layers") {
			t.Errorf("%v: %+v", command, r)
		}
	}
	// Channels that cannot go are said as early, by the operators that keep them.
	r := run(t, "", "prune", "--pattern", "channels", "--data", none, "--out", out, testkit.Shared(t, "models/face_detection_front.tflite"))
	if r.code != 3 || !strings.Contains(r.stderr, `op 8 PAD, which gives "channel_padding"`) || !strings.Contains(r.stderr, "PAD, RESHAPE") {
		t.Errorf("%+v", r)
	}
	for _, args := range [][]string{{"compress", "--recipe", none + ".yaml", model}, {"distill", "--teacher", model, "--network", none + ".yaml", "--data", none}} {
		if r := run(t, "", args...); r.code != 3 || !strings.Contains(r.stderr, ": open "+none+".yaml: no such file") || strings.Contains(r.stderr, "configuration") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
