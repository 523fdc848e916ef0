package compress

import (
	"bytes"
	"testing"

	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// A network whose channels were made very unlike one another, which changes
// nothing of what it computes: int8 loses much of it, and equalising gets it
// back. The equalised float model answers as before.
func TestEqualise(t *testing.T) {
	file, _, d := trained(t, "mlp")
	m, err := model.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	m = m.Clone()
	g := m.Main()
	var dense []int
	for i := range g.Ops {
		if g.Ops[i].Code == "FULLY_CONNECTED" {
			dense = append(dense, i)
		}
	}
	a, b := &g.Ops[dense[0]], &g.Ops[dense[1]]
	scale := func(c int) float32 { return []float32{0.01, 0.1, 1, 10, 100}[c%5] }
	change := func(tensor int, by func(i int) float32) {
		v, err := g.Tensors[tensor].Floats()
		if err != nil {
			t.Fatal(err)
		}
		for i := range v {
			v[i] *= by(i)
		}
		g.Tensors[tensor].Buffer = model.FloatBytes(v)
	}
	hidden := g.Tensors[a.Inputs[1]].Shape[0]
	per := g.Tensors[a.Inputs[1]].Shape[1]
	change(a.Inputs[1], func(i int) float32 { return scale(i / per) })
	change(a.Inputs[2], func(i int) float32 { return scale(i) })
	change(b.Inputs[1], func(i int) float32 { return 1 / scale(i%hidden) })
	skewed, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	data := &Samples{Set: d}
	even, notes := Equalise(m, nil)
	evened, err := even.Write()
	if err != nil {
		t.Fatal(err)
	}
	same, err := Compare(t.Context(), file, evened, [2]string{}, "", data)
	if err != nil {
		t.Fatal(err)
	}
	if same.Relative() > 1e-5 {
		t.Errorf("equalised, the float model differs by %.2g of its range; %v", same.Relative(), notes)
	}
	lost := func(equalise bool) float64 {
		cfg := DefaultConfig()
		cfg.Equalise = equalise
		j := Job{File: skewed, Config: cfg, Calibration: data}
		m, stats, fixed, err := j.prepared(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out, err := Quantize(m, cfg, stats, fixed)
		if err != nil {
			t.Fatal(err)
		}
		f, err := out.Model.Write()
		if err != nil {
			t.Fatal(err)
		}
		r, err := Compare(t.Context(), file, f, [2]string{}, "", data)
		if err != nil {
			t.Fatal(err)
		}
		return r.Relative()
	}
	plain, eq := lost(false), lost(true)
	t.Logf("int8 loses %.4f of the range as it is, %.4f equalised", plain, eq)
	if eq > plain/3 {
		t.Errorf("equalising helps little: %.4f, without %.4f", eq, plain)
	}
}

// The ranges that quantization-aware training learned go before what
// calibration sees.
func TestAwareRanges(t *testing.T) {
	_, n, d := trained(t, "lenet5")
	aware := n.Aware()
	aware.Predict(make([]float32, 256), 1)
	m, ranges, err := aware.ExportAware("aware", d.Classes)
	if err != nil {
		t.Fatal(err)
	}
	file, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	fixed := map[string][2]float64{"output": {-3, 5}}
	for name, r := range ranges {
		fixed[name] = [2]float64{float64(r.Low), float64(r.High)}
	}
	first := m.Main().Ops[0].Outputs[0]
	name := m.Main().Tensors[first].Name
	fixed[name] = [2]float64{0, 12.75}
	made, err := Shorten(t.Context(), Job{File: file, Config: DefaultConfig(), Calibration: &Samples{Set: d}, Fixed: fixed})
	if err != nil {
		t.Fatal(err)
	}
	for i := range made.Model.Main().Tensors {
		if q := &made.Model.Main().Tensors[i]; q.Name == name && (q.Quant.Scale[0] != 0.05 || q.Quant.ZeroPoint[0] != -128) {
			t.Errorf("scale %v, zero point %v", q.Quant.Scale, q.Quant.ZeroPoint)
		}
	}
}

// What has no data is told so, and refuses nothing that runs.
func TestWithoutData(t *testing.T) {
	_, file := sharedModel(t, "vww_96_float.tflite")
	made, err := Shorten(t.Context(), Job{File: file, Config: DefaultConfig()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %+v", made.Calibrated, made.Builtin)
	if len(made.Calibrated) < 40 {
		t.Errorf("says only %q", made.Calibrated)
	}
}

// Multiply-adds and peak of a model that is known: ResNet8 has 12.5 million,
// and its first convolution's output and shortcut of 32 x 32 x 16 floats are
// three values at once.
func TestCost(t *testing.T) {
	_, file := sharedModel(t, "pretrainedResnet.tflite")
	c, err := CostOf(file)
	if err != nil {
		t.Fatal(err)
	}
	if c.MACs != 12501632 || c.Peak != 3*32*32*16*4 || c.Zipped >= c.Bytes || c.Parts.Weights != 310832 {
		t.Errorf("%+v", c)
	}
}

// Convolutions that are cut at 6: without data they are left as they are; with
// it the channels that stay below take part, the network answers as before,
// and int8 loses less of one whose channels are unlike.
func TestEqualiseCut(t *testing.T) {
	_, _, d := trained(t, "lenet5")
	spec := train.Spec{Layers: []train.LayerSpec{
		{Type: "conv2d", Filters: 8, Kernel: 3, Activation: "relu6"}, {Type: "max_pool"}, {Type: "conv2d", Filters: 8, Kernel: 3, Activation: "relu6"},
		{Type: "depthwise", Kernel: 3, Activation: "relu6"}, {Type: "flatten"}, {Type: "dense", Activation: "softmax"}}}
	n, err := train.New(spec, d.Shape, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	n.Normalise(d)
	cfg := train.DefaultConfig()
	cfg.Epochs, cfg.Batch = 3, 32
	if err := (&train.Trainer{Config: cfg, Net: n, Train: d}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The depthwise convolution's channels get unlike, smaller so that none is cut
	// that was not; its dense layer evens it out.
	m, err := n.Export("cut", d.Classes)
	if err != nil {
		t.Fatal(err)
	}
	g := m.Main()
	data := &Samples{Set: d}
	stats, err := Calibrate(t.Context(), m, "", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	var at, dense int
	for i, op := range g.Ops {
		switch op.Code {
		case "DEPTHWISE_CONV_2D":
			at = i
		case "FULLY_CONNECTED":
			dense = i
		}
	}
	size := func(c int) float32 {
		if stats[g.Ops[at].Outputs[0]].Top[c] > 5.9 {
			return 1
		}
		return []float32{1, 0.1, 0.01, 0.003}[c%4]
	}
	skewed := 0
	for c := range 8 {
		if size(c) < 1 {
			skewed++
		}
	}
	if skewed < 3 {
		t.Fatalf("only %d channels stay below 6", skewed)
	}
	change := func(tensor int, by func(i int) float32) {
		v, err := g.Tensors[tensor].Floats()
		if err != nil {
			t.Fatal(err)
		}
		for i := range v {
			v[i] *= by(i % 8)
		}
		g.Tensors[tensor].Buffer = model.FloatBytes(v)
	}
	change(g.Ops[at].Inputs[1], size)
	change(g.Ops[at].Inputs[2], size)
	change(g.Ops[dense].Inputs[1], func(i int) float32 { return 1 / size(i) })
	file, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	blind, notes := Equalise(m, nil)
	if b, err := blind.Write(); err != nil || !bytes.Equal(b, file) {
		t.Errorf("equalised without data though it cuts at 6: %v, %v", notes, err)
	}
	if stats, err = Calibrate(t.Context(), m, "", data, nil); err != nil {
		t.Fatal(err)
	}
	even, notes := Equalise(m, stats)
	evened, err := even.Write()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(evened, file) {
		t.Error("nothing was equalised")
	}
	same, err := Compare(t.Context(), file, evened, [2]string{}, "", data)
	if err != nil {
		t.Fatal(err)
	}
	if same.Relative() > 1e-4 {
		t.Errorf("equalised, the float model differs by %.2g of its range; %v", same.Relative(), notes)
	}
	var lost [2]float64
	for k, equalise := range []bool{false, true} {
		cfg := DefaultConfig()
		cfg.Equalise = equalise
		made, err := Shorten(t.Context(), Job{File: file, Config: cfg, Calibration: data})
		if err != nil {
			t.Fatal(err)
		}
		lost[k] = made.Builtin.Relative()
	}
	t.Logf("int8 loses %.4f of the range as it is, %.4f equalised; %v", lost[0], lost[1], notes)
	if lost[1] > lost[0]/2 {
		t.Errorf("equalising helps little: %.4f, without %.4f", lost[1], lost[0])
	}
}
