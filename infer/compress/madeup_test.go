package compress

import (
	"math"
	"strings"
	"testing"

	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/infer/train"
	"edgegateway/internal/testkit"
)

// Made up inputs lie where the model's own normalisation looks for them, in
// whichever order it takes its steps.
func TestMadeUpFitsTheModel(t *testing.T) {
	mean, dev := []float32{20, 1000, -3}, []float32{2, 300, 0.01}
	minus, inverse, last := make([]float32, 3), make([]float32, 3), make([]float32, 3)
	for i := range mean {
		minus[i], inverse[i] = -mean[i], 1/dev[i]
		last[i] = -mean[i] / dev[i]
	}
	type step struct {
		code string
		by   []float32
	}
	for name, steps := range map[string][]step{
		"minus the mean, divided": {{"SUB", mean}, {"DIV", dev}},
		"as this program has it":  {{"ADD", minus}, {"MUL", inverse}},
		"multiplied first":        {{"MUL", inverse}, {"ADD", last}},
	} {
		m := &model.Model{Version: 3, Subgraphs: []model.Subgraph{{Name: "main", Inputs: []int{0}}}}
		g := m.Main()
		value := func() int { return g.Add(model.Tensor{Name: "x", Type: model.Float32, Shape: []int{1, 3}}) }
		at := value()
		for _, s := range steps {
			c := g.Add(model.Tensor{Name: "c", Type: model.Float32, Shape: []int{3}, Buffer: model.FloatBytes(s.by)})
			out := value()
			g.Ops = append(g.Ops, model.Op{Code: s.code, Version: 1, Inputs: []int{at, c}, Outputs: []int{out}})
			at = out
		}
		g.Outputs = []int{at}
		in := []infer.Tensor{{Type: infer.Float32, Shape: []int{1, 3}, Data: make([]byte, 12)}}
		made := MadeUp(m, 2000, 7)
		var sum, square [3]float64
		for i := range made.Len() {
			if err := made.Fill(in, i); err != nil {
				t.Fatal(err)
			}
			for k, v := range in[0].Floats(nil) {
				z := (v - float64(mean[k])) / float64(dev[k])
				sum[k] += z / float64(made.N)
				square[k] += z * z / float64(made.N)
			}
		}
		for k := range sum {
			if math.Abs(sum[k]) > 0.2 || square[k] < 0.5 || square[k] > 2 {
				t.Errorf("%s: input %d: mean %.2f deviations off, variance %.2f of what it should be", name, k, sum[k], square[k])
			}
		}
	}
}

// Without data a network of this program keeps its classes: the inputs that are
// made up fit what it learned.
func TestWithoutDataAsWithData(t *testing.T) {
	load := func(file string) *train.Dataset {
		d, _, err := train.LoadCSV(testkit.Shared(t, "data/"+file), train.CSVConfig{Target: []string{"Occupancy"}})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	m := learned(t, load("occupancy_train.csv"), 2, train.LayerSpec{Type: "dense", Units: 64, Activation: "relu"}, train.LayerSpec{Type: "dense", Activation: "softmax"})
	data := &Samples{Set: load("occupancy_test.csv")}
	for _, equalise := range []bool{false, true} {
		cfg := DefaultConfig()
		cfg.Equalise = equalise
		file := written(t, m)
		made, err := Shorten(t.Context(), Job{File: file, Config: cfg})
		if err != nil {
			t.Fatal(err)
		}
		if !made.Builtin.Classes || made.Builtin.Answers < 2 || !strings.Contains(made.Calibrated, "made up") {
			t.Errorf("equalise %v: %+v, %s", equalise, made.Builtin, made.Calibrated)
		}
		a, err := Compare(t.Context(), file, made.File, [2]string{}, "", data)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("equalise %v: %.4f on made up inputs, %.4f on real ones", equalise, made.Builtin.Top1, a.Top1)
		if a.Top1 < 0.97 {
			t.Errorf("equalise %v: same class in %.4f of real samples", equalise, a.Top1)
		}
	}
}
