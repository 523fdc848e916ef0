package compress

import (
	"path/filepath"
	"testing"

	"edgegateway/infer/train"
	"edgegateway/internal/testkit"
)

// digits are n samples of MNIST to learn from and m that judge.
func digits(t testing.TB, n, m int) (learn, judge *train.Dataset) {
	t.Helper()
	dir := testkit.Cached(t, "mnist/data")
	part := func(name string, n int) *train.Dataset {
		d, err := train.LoadIDX(filepath.Join(dir, name+"-images-idx3-ubyte"), filepath.Join(dir, name+"-labels-idx1-ubyte"))
		if err != nil {
			t.Fatal(err)
		}
		at := make([]int, n)
		for i := range at {
			at[i] = i
		}
		return d.Subset(at)
	}
	return part("train", n), part("t10k", m)
}

// Quantization-aware training beside int8 after training, of one network on
// MNIST. As it is trained int8 loses nothing, so there is nothing to gain. With
// channels of very unlike size in its first layer, which has one scale for all
// (the network computes the same), int8 after training loses a third; two
// epochs with the rounding in sight get most of it back, more than two without
// do. Equalising needs no training for it.
func TestAwareBesideAfterTraining(t *testing.T) {
	learn, judge := digits(t, 6000, 2000)
	j := &Samples{Set: judge}
	cal := &Samples{Set: learn.Subset(seq(300))}
	spec := train.Spec{Layers: []train.LayerSpec{{Type: "flatten"}, {Type: "dense", Units: 64, Activation: "relu"}, {Type: "dense", Activation: "softmax"}}}
	cfg := train.DefaultConfig()
	run := func(n *train.Network, epochs int, rate float64) *train.Network {
		t.Helper()
		cfg := cfg
		cfg.Epochs, cfg.Batch, cfg.Optimizer.Rate = epochs, 32, rate
		if err := (&train.Trainer{Config: cfg, Net: n, Train: learn}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		return n
	}
	right := func(file []byte) float64 {
		t.Helper()
		q, err := Judge(t.Context(), file, "xnnpack:3", "", Classes, j, nil)
		if err != nil {
			t.Fatal(err)
		}
		return q.Top1
	}
	// int8 gives the share that is right of a network's float file and of the
	// int8 file made of it.
	int8 := func(n *train.Network, equalise bool) (float, int8 float64) {
		t.Helper()
		m, ranges, err := n.ExportAware("digits", learn.Classes)
		if err != nil {
			t.Fatal(err)
		}
		file, err := m.Write()
		if err != nil {
			t.Fatal(err)
		}
		c := DefaultConfig()
		c.Equalise = equalise
		fixed := map[string][2]float64{}
		for name, r := range ranges {
			fixed[name] = [2]float64{float64(r.Low), float64(r.High)}
			c.CorrectBias = "no"
		}
		made, err := Shorten(t.Context(), Job{File: file, Config: c, Calibration: cal, Judged: j, Fixed: fixed})
		if err != nil {
			t.Fatal(err)
		}
		return right(file), right(made.File)
	}
	for _, unlike := range []bool{false, true} {
		n, err := train.New(spec, learn.Shape, 10, 1)
		if err != nil {
			t.Fatal(err)
		}
		n.Normalise(learn)
		run(n, 3, 0.001)
		if unlike {
			skew(t, n, 64)
		}
		float, after := int8(n, false)
		_, equalised := int8(n, true)
		_, aware := int8(run(n.Aware(), 2, 0.0005), false)
		_, without := int8(run(n, 2, 0.0005), false)
		t.Logf("channels unlike %v: float %.2f %%; int8 after training %.2f %%, equalised %.2f %%, of two epochs more %.2f %%, of two aware ones %.2f %%",
			unlike, 100*float, 100*after, 100*equalised, 100*without, 100*aware)
		if !unlike && (after < float-0.01 || aware < float-0.01) {
			t.Errorf("int8 loses: %v in float, %v after training, %v aware", float, after, aware)
		}
		if unlike && (after > float-0.2 || aware < after+0.2 || aware < without+0.02 || equalised < float-0.01) {
			t.Errorf("%v in float, int8 %v after training, %v equalised, %v of more epochs, %v aware", float, after, equalised, without, aware)
		}
	}
}

// skew multiplies what comes out of the first dense layer, channel by channel,
// and divides what the second takes.
func skew(t *testing.T, n *train.Network, hidden int) {
	t.Helper()
	size := func(c int) float32 { return []float32{1, 0.03, 0.01, 0.003}[c%4] }
	p := n.Params()
	for i := range p[0].W {
		p[0].W[i] *= size(i / (len(p[0].W) / hidden))
	}
	for c := range p[1].W {
		p[1].W[c] *= size(c)
	}
	for i := range p[2].W {
		p[2].W[i] /= size(i % hidden)
	}
}

func seq(n int) []int {
	at := make([]int, n)
	for i := range at {
		at[i] = i
	}
	return at
}

// A network of two million weights, trained a little on MNIST: int8 makes the
// file a quarter and loses next to nothing on digits that nobody has seen.
func TestTwoMillionWeights(t *testing.T) {
	learn, judge := digits(t, 2500, 1000)
	spec := train.Spec{Layers: []train.LayerSpec{
		{Type: "flatten"}, {Type: "dense", Units: 1024, Activation: "relu"}, {Type: "dense", Units: 1024, Activation: "relu"},
		{Type: "dense", Units: 128, Activation: "relu"}, {Type: "dense", Activation: "softmax"}}}
	n, err := train.New(spec, learn.Shape, 10, 1)
	if err != nil {
		t.Fatal(err)
	}
	n.Normalise(learn)
	cfg := train.DefaultConfig()
	cfg.Epochs = 1
	if err := (&train.Trainer{Config: cfg, Net: n, Train: learn}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, err := n.Export("two million", learn.Classes)
	if err != nil {
		t.Fatal(err)
	}
	file, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	made, err := Shorten(t.Context(), Job{File: file, Config: DefaultConfig(), Calibration: &Samples{Set: learn.Subset(seq(200))}})
	if err != nil {
		t.Fatal(err)
	}
	right := func(file []byte) float64 {
		q, err := Judge(t.Context(), file, "xnnpack:3", "", Classes, &Samples{Set: judge}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return q.Top1
	}
	float, int8 := right(file), right(made.File)
	t.Logf("%d weights: %.2f %% right, int8 %.2f %%; %d of %d bytes", n.Weights(), 100*float, 100*int8, made.Size, made.Was)
	if n.Weights() < 1_900_000 || float < 0.7 || int8 < float-0.005 || 100*made.Size > 27*made.Was {
		t.Errorf("int8 loses too much, or is too large")
	}
}
