package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// A room's model is fitted into a third of its bytes: what is written fits, was
// judged on samples that took no part, and its recipe makes the same file again.
func TestOptimize(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, test := testkit.Shared(t, "data/occupancy_train.csv"), testkit.Shared(t, "data/occupancy_test.csv")
	float, out := filepath.Join(dir, "room.tflite"), filepath.Join(dir, "small.tflite")
	done(t, "", "train", "--data", data, "--target", "Occupancy", "--samples", "1000", "--epochs", "3", "--out", float)
	args := []string{"--data", data, "--test", test, "--target", "Occupancy", "--samples", "1000"}
	var said struct {
		Fits   bool
		Best   struct{ Bytes int }
		Front  []json.RawMessage
		Tried  []json.RawMessage
		Before struct{ Samples int }
		After  struct{ Top1 float64 }
	}
	search := append([]string{"optimize", "--max-size", "2900B", "--max-drop", "2%", "--trials", "9", "--epochs", "1", "--json", "--out", out}, args...)
	if err := json.Unmarshal([]byte(done(t, "", append(search, float)...)), &said); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !said.Fits || len(file) > 2900 || len(file) != said.Best.Bytes || len(said.Tried) != 9 || len(said.Front) == 0 || said.After.Top1 < 0.9 || said.Before.Samples < 1000 {
		t.Errorf("%d bytes, %+v", len(file), said)
	}
	for _, name := range []string{"small.recipe.yaml", "small.report.json", "small-size.svg", "small-size.png", "small-time.svg", "small-time.png"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	again := filepath.Join(dir, "again.tflite")
	text := done(t, "", append([]string{"compress", "--recipe", filepath.Join(dir, "small.recipe.yaml"), "--out", again}, append(args, float)...)...)
	if b, err := os.ReadFile(again); err != nil || string(b) != string(file) {
		t.Errorf("the recipe makes %d other bytes, %v", len(b), err)
	}
	if !strings.Contains(text, "before") || !strings.Contains(text, "TOP1") {
		t.Error(text)
	}
	// With fewer trials, and other epochs, the model that fits stays.
	few := append([]string{"optimize", "--max-size", "2900B", "--max-drop", "2%", "--trials", "2", "--epochs", "2", "--out", out}, args...)
	if said := done(t, "", append(few, float)...); !strings.Contains(said, "found; ") {
		t.Error(said)
	}
	if b, err := os.ReadFile(out); err != nil || len(b) > 2900 {
		t.Errorf("%d bytes are left of what fitted, %v", len(b), err)
	}
	// The same command again has nothing left to try.
	twice := run(t, "", append(append([]string{"optimize", "--max-size", "500B", "--trials", "9", "--epochs", "1", "--out", out}, args...), float)...)
	if twice.code != 1 || !strings.Contains(twice.stdout, "over --max-size:") || !strings.Contains(twice.stderr, "none of 9 recipes fits") {
		t.Errorf("%+v", twice)
	}
}

// Without data it says what its figures are from, and what is written is what
// the text is about.
func TestOptimizeMadeUp(t *testing.T) {
	out := filepath.Join(t.TempDir(), "sine.tflite")
	args := []string{"optimize", "--max-size", "60kB", "--trials", "2", "--out", out, testkit.Shared(t, "models/hello_world_float.tflite")}
	if said := done(t, "", args...); !strings.Contains(said, "the model fits as it is") || !strings.Contains(said, "made up inputs") {
		t.Error(said)
	}
	if said := done(t, "", append(args, "--json")...); !strings.Contains(said, `"made_up": true`) || strings.Contains(said, "max_drop") {
		t.Error(said)
	}
}

func TestOptimizeRefuses(t *testing.T) {
	dir := t.TempDir()
	model := testkit.Shared(t, "models/ad01_fp32.tflite")
	recipe := filepath.Join(dir, "r.yaml")
	for text, want := range map[string]string{
		"steps:\n  - {do: melt}\n":                               "r.yaml:2",
		"steps:\n  - {do: quantize}\n  - {do: prune}\n":          "the last step",
		"steps:\n  - {do: prune, sparsty: 1}\n":                  "sparsty",
		"steps: []\n":                                            "there is none",
		"steps:\n  - {do: prune, clusters: 3}\n":                 "says nothing to prune",
		"steps:\n  - {do: tune, epochs: 2}\n":                    "needs --data",
		"steps:\n  - {do: prune, pattern: round, sparsity: 1}\n": "round",
	} {
		if err := os.WriteFile(recipe, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := run(t, "", "compress", "--recipe", recipe, "--out", filepath.Join(dir, "x.tflite"), model); got.code == 0 || !strings.Contains(got.stderr, want) {
			t.Errorf("%q: %+v, want %q", text, got, want)
		}
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"there is no bound", []string{model}},
		{"--max-size", []string{"--max-size", "big", model}},
		{"--max-drop", []string{"--max-drop", "x", model}},
		{"--max-drop 2: all is lost by 100%; a drop is below that, such as 1% or 0.01\n", []string{"--max-drop", "2", model}},
		{"a bound is above 0", []string{"--max-latency", "-1us", model}},
		{"1 or more", []string{"--trials", "0", "--max-size", "1kB", model}},
		{"no such file", []string{"--max-size", "1kB", filepath.Join(dir, "none.tflite")}},
		{"takes MODEL", []string{"--max-size", "1kB"}},
		{"is named .pack", []string{"--packed", "--max-size", "1kB", "--out", filepath.Join(dir, "x.tflite"), model}},
		{"there is no folder", []string{"--max-size", "1kB", "--out", filepath.Join(dir, "none/x.tflite"), model}},
	} {
		if got := run(t, "", append([]string{"optimize"}, c.args...)...); got.code == 0 || !strings.Contains(got.stderr, c.want) {
			t.Errorf("%q: %+v", c, got)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.tflite*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// No command writes over a file that it reads, by whatever name.
func TestSparesItsInput(t *testing.T) {
	dir := t.TempDir()
	file, err := os.ReadFile(testkit.Shared(t, "models/hello_world_float.tflite"))
	if err != nil {
		t.Fatal(err)
	}
	model, link := filepath.Join(dir, "sine.tflite"), filepath.Join(dir, "link.tflite")
	recipe := filepath.Join(dir, "r.yaml")
	for path, data := range map[string][]byte{model: file, recipe: []byte("steps:\n  - {do: quantize}\n")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("sine.tflite", link); err != nil {
		t.Fatal(err)
	}
	data := testkit.Shared(t, "data/occupancy_train.csv")
	for _, args := range [][]string{
		{"optimize", "--max-size", "1kB", model}, {"compress", "--recipe", recipe, model}, {"prune", model}, {"cluster", model}, {"quantize", model},
		{"distill", "--teacher", model, "--data", data, "--target", "Occupancy"}, {"train", "--head", model, "--data", data, "--target", "Occupancy"},
	} {
		for _, out := range []string{model, link} {
			if got := run(t, "", append(args, "--out", out)...); got.code != 2 || !strings.Contains(got.stderr, "--out is the model itself") {
				t.Errorf("%v to %s: %+v", args, filepath.Base(out), got)
			}
		}
	}
	if now, err := os.ReadFile(model); err != nil || string(now) != string(file) {
		t.Errorf("the model is another now: %v", err)
	}
}

// Without data a search says on what it judged.
func TestOptimizeWithoutData(t *testing.T) {
	out := filepath.Join(t.TempDir(), "small.tflite")
	said := done(t, "", "optimize", testkit.Shared(t, "models/hello_world_float.tflite"), "--max-size", "2900B", "--trials", "2", "--out", out)
	if !strings.Contains(said, "made up inputs (numbers of deviation 1 about 0)") {
		t.Error(said)
	}
}

// A recipe without data says how the answers are those from before, and where
// weights that were to stand in sparse rows do not.
func TestCompressWithoutData(t *testing.T) {
	dir := t.TempDir()
	recipe := filepath.Join(dir, "r.yaml")
	if err := os.WriteFile(recipe, []byte("steps: [{do: quantize, scheme: int8, sparse: true}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(t, "", "compress", "--recipe", recipe, "--out", filepath.Join(dir, "a.tflite"), testkit.Shared(t, "models/hello_world_float.tflite"))
	if r.code != 0 || !strings.Contains(r.stdout, "of 100 made up inputs (numbers of deviation 1 about 0)") || !strings.Contains(r.stderr, "no weights stand in sparse rows") {
		t.Errorf("code %d: %s%s", r.code, r.stdout, r.stderr)
	}
}
