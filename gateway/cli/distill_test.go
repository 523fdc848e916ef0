package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// Pictures of bars: a student learns from a convolutional teacher and labels,
// from its int8 form alone, and from a layer inside it.
func TestDistill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	learn, test := idx(t, dir, "train", 300, 0, false), idx(t, dir, "t10k", 150, 0, false)
	net := write(t, dir, "teacher.yaml", `layers:
  - {type: conv2d, filters: 8, kernel: 3, activation: relu}
  - {type: max_pool}
  - {type: flatten}
  - {type: dense, units: 16, activation: relu}
  - {type: dense, activation: softmax}
`)
	small := write(t, dir, "small.yaml", `layers:
  - {type: flatten}
  - {type: dense, units: 24, activation: relu}
  - {type: dense, activation: softmax}
`)
	teacher, int8s := filepath.Join(dir, "teacher.tflite"), filepath.Join(dir, "teacher-int8.tflite")
	done(t, "", "train", "--data", learn, "--test", test, "--network", net, "--epochs", "8", "--rate", "0.008", "--out", teacher)
	done(t, "", "quantize", "--method", "minmax", "--correct-bias", "no", "--data", learn, "--samples", "60", "--out", int8s, teacher)
	type distilled struct {
		Distillation struct {
			Teachers    []string
			Alpha       float64
			Same        float64 `json:"same_class"`
			Unlabelled  bool
			Hints       []string
			Temperature float64
		}
		History []map[string]*float64
	}
	distill := func(out string, more ...string) (said string, d distilled) {
		out = filepath.Join(dir, out)
		said = done(t, "", append([]string{"distill", "--data", learn, "--test", test, "--network", small, "--epochs", "8", "--rate", "0.008", "--out", out}, more...)...)
		b, err := os.ReadFile(strings.TrimSuffix(out, ".tflite") + ".metrics.json")
		if err == nil {
			err = json.Unmarshal(b, &d)
		}
		if err != nil {
			t.Fatal(err)
		}
		return said, d
	}
	said, d := distill("a.tflite", "--teacher", teacher)
	if m := readFigures(t, filepath.Join(dir, "a.tflite")); m.Test.Top1 < 0.9 || m.Test.Samples != 150 {
		t.Errorf("%+v", m.Test)
	}
	if d.Distillation.Same < 0.9 || d.Distillation.Alpha != 0.7 || d.Distillation.Temperature != 4 || !strings.Contains(said, "the class that its teacher says in ") {
		t.Errorf("%+v\n%s", d.Distillation, said)
	}
	figure(t, filepath.Join(dir, "a.curves"))
	// As JSON it says the same, and all else beside it.
	machine := run(t, "", "distill", "--data", learn, "--network", small, "--epochs", "2", "--json", "--teacher", teacher, "--out", filepath.Join(dir, "j.tflite"))
	var doc struct {
		Out     string
		Bytes   int64
		History []map[string]any
		Test    struct{ Top1 float64 }
		Distil  struct{ Temperature float64 } `json:"distillation"`
	}
	info, err := os.Stat(filepath.Join(dir, "j.tflite"))
	if bad := json.Unmarshal([]byte(machine.stdout), &doc); err != nil || bad != nil || doc.Bytes != info.Size() || len(doc.History) != 2 || doc.Test.Top1 == 0 || doc.Distil.Temperature != 4 || !strings.Contains(machine.stderr, "epoch 2 of 2") {
		t.Errorf("%v %v %+v: %+v", err, bad, doc, machine)
	}
	// Two teachers, one of them int8, and no label.
	_, d = distill("b.tflite", "--teacher", int8s, "--teacher", teacher, "--unlabelled")
	if m := readFigures(t, filepath.Join(dir, "b.tflite")); m.Test.Top1 < 0.9 || d.Distillation.Alpha != 1 || len(d.Distillation.Teachers) != 2 || d.History[0]["accuracy"] != nil {
		t.Errorf("%+v %+v", m.Test, d.Distillation)
	}
	// Pictures that nobody has sorted; the answer has the teacher's names.
	r := rand.New(rand.NewPCG(5, 5))
	loose := filepath.Join(dir, "loose")
	for i := range 60 {
		var b bytes.Buffer
		if err := errors.Join(os.MkdirAll(loose, 0o700), png.Encode(&b, bars(r, i%3, 12, 12)), os.WriteFile(filepath.Join(loose, fmt.Sprint(i, ".png")), b.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	said = done(t, "", "distill", "--data", loose, "--teacher", teacher, "--unlabelled", "--network", small, "--epochs", "4", "--out", filepath.Join(dir, "d.tflite"))
	if !strings.Contains(said, "run on 12 samples it was not trained on: the class that its teacher says in ") {
		t.Error(said)
	}
	if said := done(t, "", "model", "inspect", filepath.Join(dir, "d.tflite")); !strings.Contains(said, "[1 3]") && !strings.Contains(said, "1x3") {
		t.Error(said)
	}
	// Pictures whose classes are not the teacher's: they judge nothing.
	for i, class := range []string{"left", "right"} {
		var b bytes.Buffer
		if err := errors.Join(png.Encode(&b, bars(r, i, 12, 12)), os.MkdirAll(filepath.Join(dir, "sides", class), 0o700)); err != nil {
			t.Fatal(err)
		}
		for k := range 10 {
			write(t, dir, fmt.Sprintf("sides/%s/%d.png", class, k), b.String())
		}
	}
	said = done(t, "", "distill", "--data", filepath.Join(dir, "sides"), "--teacher", teacher, "--unlabelled", "--network", small, "--epochs", "1", "--out", filepath.Join(dir, "e.tflite"))
	if !strings.Contains(said, "are not those of the teacher") || strings.Contains(said, "% right") {
		t.Error(said)
	}
	// A tensor inside.
	no := run(t, "", "distill", "--teacher", teacher, "--data", learn, "--network", small, "--hint", "1=gone", "--out", filepath.Join(dir, "c.tflite"))
	_, names, ok := strings.Cut(no.stderr, `there are "`)
	parts := strings.Split(names, `", "`)
	if no.code != 3 || !ok || len(parts) < 4 {
		t.Fatalf("%+v", no)
	}
	_, d = distill("c.tflite", "--teacher", teacher, "--shift", "1", "--hint", "1="+parts[3], "--beta", "0.1")
	if d.Distillation.Same < 0.85 || len(d.Distillation.Hints) != 1 {
		t.Errorf("%+v", d.Distillation)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "--teacher is missing"},
		{[]string{"--teacher", teacher, "--alpha", "2"}, 2, "alpha: 2 is outside"},
		{[]string{"--teacher", teacher, "--hint", "first"}, 2, "is not LAYER=TENSOR"},
		{[]string{"--teacher", teacher, "--hint", "9=" + parts[3]}, 2, "layer 9 is none of the network's 3"},
		{[]string{"--teacher", teacher, "--size", "9x9x1"}, 2, "the teacher takes [12 12 1]"},
		{[]string{"--teacher", testkit.Shared(t, "models/detect.tflite")}, 3, "gives 4 outputs"},
		{[]string{"--teacher", teacher, "--pixels", "1..0"}, 2, "is no range"},
		{[]string{"--teacher", testkit.Shared(t, "models/vww_96_float.tflite")}, 3, "the teacher tells 2 classes apart"},
	} {
		args := append([]string{"distill", "--data", learn, "--network", small, "--samples", "60", "--epochs", "1", "--out", filepath.Join(dir, "x.tflite")}, c.args...)
		if r := run(t, "", args...); r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: code %d, %s", c.args, r.code, r.stderr)
		}
	}
}

// Values: a table's forecast, from a teacher and from the targets, and from the
// teacher alone; stopped by Ctrl-C and gone on with, to the same file.
func TestDistillValues(t *testing.T) {
	dir := t.TempDir()
	data := testkit.Shared(t, "data/occupancy_train.csv")
	teacher := filepath.Join(dir, "teacher.tflite")
	with := func(command string, more ...string) []string {
		return append([]string{command, "--data", data, "--target", "CO2", "--regression", "--drop", "Occupancy", "--samples", "600"}, more...)
	}
	done(t, "", with("train", "--network", "forecast", "--epochs", "25", "--rate", "0.003", "--out", teacher)...)
	small := write(t, dir, "small.yaml", "layers:\n  - {type: dense, units: 12, activation: relu}\n  - {type: dense}\n")
	for _, more := range [][]string{nil, {"--unlabelled"}} {
		out := filepath.Join(dir, "a.tflite")
		said := done(t, "", append(with("distill", "--teacher", teacher, "--network", small, "--epochs", "25", "--rate", "0.01", "--out", out), more...)...)
		if !strings.Contains(said, " away from its teacher on average") {
			t.Error(said)
		}
		b, err := os.ReadFile(strings.TrimSuffix(out, ".tflite") + ".metrics.json")
		var doc struct {
			Test         struct{ R2 float64 }
			Distillation struct {
				Away float64 `json:"mean_difference"`
			}
		}
		if err == nil {
			err = json.Unmarshal(b, &doc)
		}
		if err != nil || doc.Test.R2 < 0.6 || doc.Distillation.Away <= 0 || doc.Distillation.Away > 150 {
			t.Errorf("%v: %v %+v", more, err, doc)
		}
	}
	command := func(out, epochs string, more ...string) []string {
		return append(with("distill", "--teacher", teacher, "--network", small, "--epochs", epochs, "--out", filepath.Join(dir, out)), more...)
	}
	p := start(t, command("r.tflite", "1000000")...)
	p.Line(`epoch 2 of`)
	cut(t, p, "with --resume goes on from")
	ran := len(readFigures(t, filepath.Join(dir, "r.tflite")).History)
	all := fmt.Sprint(ran + 2)
	if r := run(t, "", command("r.tflite", all, "--resume", "--alpha", "0.2")...); r.code != 3 || !strings.Contains(r.stderr, "another network, configuration or data") {
		t.Errorf("at another alpha: %+v", r)
	}
	done(t, "", command("r.tflite", all, "--resume")...)
	done(t, "", command("s.tflite", all)...)
	a, errA := os.ReadFile(filepath.Join(dir, "r.tflite"))
	b, errB := os.ReadFile(filepath.Join(dir, "s.tflite"))
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("%d and %d bytes, the same: %v; %v %v", len(a), len(b), bytes.Equal(a, b), errA, errB)
	}
}
