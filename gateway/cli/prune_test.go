package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/model"
	"edgegateway/internal/testkit"
)

// Half of the multiply-adds of a model of a room's occupancy go: what is written
// is as the report says, and both are judged on samples that did not choose.
func TestPrune(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := testkit.Shared(t, "data/occupancy_train.csv")
	float, out := filepath.Join(dir, "room.tflite"), filepath.Join(dir, "room-pruned.tflite")
	done(t, "", "train", "--data", data, "--target", "Occupancy", "--samples", "1000", "--epochs", "3", "--out", float)
	said := done(t, "", "prune", float, "--pattern", "channels", "--macs", "0.5", "--data", data, "--target", "Occupancy", "--samples", "400")
	for _, want := range []string{"FULLY_CONNECTED  1_dense_1 ", "packed ", "room-pruned", "TOP1", "BEST TIME", "xnnpack:0", out + ": ", "times smaller", "times as fast"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said:\n%s", want, said)
		}
	}
	file, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	var units []int
	for _, op := range m.Main().Ops {
		if op.Code == "FULLY_CONNECTED" {
			units = append(units, m.Main().Tensors[op.Inputs[1]].Shape[0])
		}
	}
	if len(units) != 2 || units[0] >= 128 || units[0] < 60 || units[1] != 2 {
		t.Errorf("units of the dense layers: %v", units)
	}
	var doc struct {
		Weights, Zeros int
		MadeUp         bool `json:"made_up"`
		Notes          []string
		Models         []struct {
			Name, File string
			Cost       struct{ Bytes int }
			Agreement  *struct{ Top1 float64 }
		}
	}
	text := done(t, "", "prune", float, "--sparsity", "0.5", "--no-latency", "--json", "--out", filepath.Join(dir, "b.tflite"))
	if err := json.Unmarshal([]byte(text), &doc); err != nil || !doc.MadeUp || len(doc.Models) != 2 || doc.Models[1].Agreement == nil || doc.Models[1].Name != "b" {
		t.Fatalf("%v: %s", err, text)
	}
	if doc.Zeros != (doc.Weights-2*128)/2 { // of the layer that does not give the answers
		t.Errorf("%d of %d weights are 0", doc.Zeros, doc.Weights)
	}
	// Trained on the way, by labels or by what the model said before.
	for _, more := range [][]string{{"--sparsity", "0.9"}, {"--sparsity", "0.9", "--unlabelled"}, {"--pattern", "channels", "--macs", "0.25", "--parts", "2"}} {
		r := run(t, "", append([]string{"prune", float, "--data", data, "--target", "Occupancy", "--samples", "1000", "--epochs", "2", "--no-latency", "--json", "--out", filepath.Join(dir, "c.tflite")}, more...)...)
		var doc struct {
			Models []struct{ Quality struct{ Top1 float64 } }
		}
		if err := json.Unmarshal([]byte(r.stdout), &doc); r.code != 0 || err != nil || doc.Models[1].Quality.Top1 < 0.9 || !strings.Contains(r.stderr, "validation loss") {
			t.Errorf("%s: code %d, %v: %s%s", more, r.code, err, r.stdout, r.stderr)
		}
	}
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"prune " + float + " --epochs 3", "trains on --data", 2},
		{"prune", "takes MODEL", 2},
		{"prune " + float + " --sparsity 1.5", "a sparsity of 1.5 is outside", 2},
		{"prune " + float + " --pattern channels --data " + data + " --epochs 2 --parts 3", "no more parts than there are epochs, 2", 2},
		{"prune " + float + " --pattern half", `"half" is none of`, 2},
		{"prune " + float + " --pattern channels --macs 0", "--macs 0: a share of the multiply-adds", 2},
		{"prune " + float + " --macs 0", "--macs 0: a share of the multiply-adds", 2},
		{"prune " + float + " --macs 0.5", "goes with pattern channels", 2},
		{"prune " + float + " --pixels 1..0", "is no range", 2},
		{"prune " + float + " --out " + float, "is the model itself", 2},
		{"prune " + float + " --pattern channels --macs 0.001", "of the multiply-adds are left", 3},
		{"prune " + dir + "/gone.tflite", "no such file", 3},
		{"prune " + testkit.Shared(t, "models/vww_96_int8.tflite") + " --out " + dir + "/c.tflite", "give the float model", 3},
	} {
		if r := run(t, "", strings.Fields(c.args)...); r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: code %d, %s", c.args, r.code, r.stderr)
		}
	}
}

// Without data it is said how inputs were made up, and where other inputs would
// say otherwise: ResNet8 takes pictures of 0..255.
func TestPruneWithoutData(t *testing.T) {
	t.Parallel()
	float, out := testkit.Shared(t, "models/pretrainedResnet.tflite"), filepath.Join(t.TempDir(), "small.tflite")
	args := []string{"prune", float, "--pattern", "channels", "--macs", "0.85", "--no-latency", "--out", out}
	for _, c := range []struct {
		more []string
		said string
		warn bool
	}{
		{nil, "pictures between -1 and 1)", true},
		{[]string{"--pixels", "0..255"}, "pictures between 0 and 255)", false},
		{[]string{"--pixels", "-1..1"}, "pictures between -1 and 1)", false},
	} {
		said := done(t, "", append(args, c.more...)...)
		if !strings.Contains(said, c.said) || c.warn != strings.Contains(said, "warning: that inputs are pictures between -1 and 1 is assumed; where they are pictures between 0 and 255") {
			t.Errorf("%s: want %q, a warning %v:\n%s", c.more, c.said, c.warn, said)
		}
	}
	said := done(t, "", "cluster", testkit.Shared(t, "models/vww_96_float.tflite"), "--clusters", "64", "--out", out)
	if !strings.Contains(said, "50 made up inputs (pictures between -1 and 1)") {
		t.Error(said)
	}
}

// Data of other classes than the model's is said to be such.
func TestDataOfOtherClasses(t *testing.T) {
	dir := t.TempDir()
	float := filepath.Join(dir, "room.tflite")
	done(t, "", "train", "--data", testkit.Shared(t, "data/occupancy_train.csv"), "--target", "Occupancy", "--samples", "300", "--epochs", "1", "--out", float)
	other := filepath.Join(dir, "other.csv")
	text := "Temperature,Humidity,Light,CO2,HumidityRatio,kind\n"
	for i := range 30 {
		text += fmt.Sprintf("%d,%d,%d,%d,0.%d,%s\n", 20+i%3, 30+i%5, i*10, 400+i, i%7, []string{"red", "green", "blue"}[i%3])
	}
	if err := os.WriteFile(other, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, what := range [][]string{{"evaluate", "--no-latency"}, {"prune", "--no-latency", "--out", dir + "/a.tflite"}, {"cluster", "--out", dir + "/b.tflite"}} {
		r := run(t, "", append(what, "--data", other, "--target", "kind", float)...)
		if !strings.Contains(r.stderr, "warning: "+other+": its 3 classes are not the model's 2") {
			t.Errorf("%s: code %d: %s%s", what, r.code, r.stdout, r.stderr)
		}
	}
	r := run(t, "", "evaluate", "--no-latency", "--data", testkit.Shared(t, "data/occupancy_test.csv"), "--target", "Occupancy", "--samples", "50", float)
	if r.code != 0 || strings.Contains(r.stderr, "warning") {
		t.Errorf("code %d: %s", r.code, r.stderr)
	}
}
