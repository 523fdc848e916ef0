package compress

import (
	"strings"
	"testing"

	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// ResNet8 takes 0..255. On made up pictures of the usual range it seems to keep
// every answer without a part of its channels; that others say otherwise is seen.
func TestDoubted(t *testing.T) {
	m, file := sharedModel(t, "pretrainedResnet.tflite")
	cfg := DefaultPrune()
	cfg.Pattern, cfg.MACs = "channels", 0.85
	small, _, err := PruneJob{Config: cfg}.Run(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	made, on := written(t, small), [2]string{"xnnpack:0", "xnnpack:0"}
	doubt := func(s Structured) (Agreement, *Doubt) {
		a, err := Compare(t.Context(), file, made, on, "", s)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Doubted(t.Context(), file, made, on, "", s, a)
		if err != nil {
			t.Fatal(err)
		}
		return a, d
	}
	s := MadeUp(m, 50, judges)
	a, d := doubt(s)
	if d == nil || a.Assumed != "pictures between -1 and 1" || d.Other.Assumed != "pictures between 0 and 255" || d.Other.Top1 > a.Top1-0.2 {
		t.Errorf("%v; %v", a, d)
	}
	if !strings.Contains(a.String(), a.Assumed) || !strings.Contains(d.String(), d.Other.Assumed) {
		t.Errorf("%v; %v", a, d)
	}
	s.High = 255
	if a, d := doubt(s); d != nil || a.Assumed != "pictures between 0 and 255" {
		t.Errorf("nothing is assumed, and doubted: %v; %v", a, d)
	}
	made = file
	if _, d := doubt(MadeUp(m, 10, judges)); d != nil {
		t.Errorf("of a model and itself: %v", d)
	}
}

// How large numbers are is not known either, unless the model says so.
func TestDoubtedNumbers(t *testing.T) {
	for name, says := range map[string]bool{"a network of this program": true, "no normalisation": false} {
		set := &train.Dataset{Name: "set", Shape: train.Shape{4}, Values: make([]float32, 400), Labels: make([]int32, 100), Classes: []string{"a", "b"}}
		for i := range set.Values {
			set.Values[i] = float32(i*i%17) / 4
			set.Labels[i/4] = int32(i / 4 % 2)
		}
		layers := []train.LayerSpec{{Type: "dense", Units: 16, Activation: "relu"}, {Type: "dense", Activation: "softmax"}}
		m := learned(t, set, 1, layers...)
		if !says {
			skip(m)
		}
		s := MadeUp(m, 20, judges)
		file := written(t, m)
		a, err := Compare(t.Context(), file, file, [2]string{}, "", s)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]string{true: "own normalisation", false: "deviation 1 "}[says]; !strings.Contains(a.Assumed, want) {
			t.Errorf("%s: %q", name, a.Assumed)
		}
		other := m.Clone() // answers otherwise where inputs are large alone
		g := other.Main()
		for i := range g.Ops {
			if op := &g.Ops[i]; op.Code == "FULLY_CONNECTED" {
				v, err := g.Tensors[op.Inputs[1]].Floats()
				if err != nil {
					t.Fatal(err)
				}
				for k := range v {
					v[k] = -v[k]
				}
				g.Tensors[op.Inputs[1]].Buffer = model.FloatBytes(v)
				break
			}
		}
		a.Top1, a.Classes = 1, true
		d, err := Doubted(t.Context(), file, written(t, other), [2]string{}, "", s, a)
		if err != nil {
			t.Fatal(err)
		}
		if says != (d == nil) {
			t.Errorf("%s: %v", name, d)
		}
	}
}

// skip takes the normalisation of its inputs out of a model.
func skip(m *model.Model) {
	g := m.Main()
	for g.Ops[0].Code != "FULLY_CONNECTED" {
		g.Ops = g.Ops[1:]
	}
	g.Ops[0].Inputs[0] = g.Inputs[0]
}

// What an input of bytes covers is what pictures are.
func TestPictureRange(t *testing.T) {
	m := &model.Model{Version: 3, Subgraphs: []model.Subgraph{{Name: "main", Inputs: []int{0}}}}
	g := m.Main()
	at := g.Add(model.Tensor{Name: "x", Type: model.Int8, Shape: []int{1, 16, 16, 3}, Quant: model.Quantization{Scale: []float32{0.5}, ZeroPoint: []int64{-128}}})
	g.Outputs = []int{at}
	if low, high, ok := PictureRange(m); !ok || low != 0 || high != 127.5 {
		t.Errorf("%v..%v, %v", low, high, ok)
	}
	g.Tensors[at].Type, g.Tensors[at].Quant = model.Float32, model.Quantization{}
	if low, high, ok := PictureRange(m); ok {
		t.Errorf("%v..%v of a model that does not say", low, high)
	}
}

// What chose does not judge: without data too.
func TestOthersJudge(t *testing.T) {
	m, file := sharedModel(t, "hello_world_float.tflite")
	j := Job{File: file, Config: DefaultConfig()}
	if _, _, _, err := j.prepared(t.Context()); err != nil {
		t.Fatal(err)
	}
	chose, _ := structured(j.Calibration)
	if judged, ok := structured(j.Judged); !ok || judged.Seed == chose.Seed {
		t.Errorf("inputs of seed %d chose, of %d judge", chose.Seed, judged.Seed)
	}
	s := Search{File: file, Budget: Budget{Drop: -1, Size: 1}, Trials: 2, Dir: t.TempDir()}
	if _, err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	int8, err := s.Model(s.Tried()[1])
	if err != nil {
		t.Fatal(err)
	}
	a, err := Compare(t.Context(), file, int8, [2]string{}, "", MadeUp(m, 100, chose.Seed+1))
	if err != nil {
		t.Fatal(err)
	}
	if q := s.Tried()[1].Quality; q != 1-a.Relative() {
		t.Errorf("a search says %v of int8, what its steps did not choose by %v", q, 1-a.Relative())
	}
}
