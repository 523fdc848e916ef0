package train

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rings are two classes that no line divides: points inside and outside a
// circle.
func rings(n int, seed uint64) *Dataset {
	r := rand.New(rand.NewPCG(seed, 1))
	d := &Dataset{Name: "rings", Shape: Shape{2}, Classes: []string{"inside", "outside"}}
	for range n {
		x, y := r.NormFloat64(), r.NormFloat64()
		d.Values = append(d.Values, float32(x), float32(100+50*y))
		label := int32(0)
		if x*x+y*y > 1.4 {
			label = 1
		}
		d.Labels = append(d.Labels, label)
	}
	return d
}

func ringNet(t testing.TB, d *Dataset, seed uint64) *Network {
	t.Helper()
	n, err := New(Spec{[]LayerSpec{{Type: "dense", Units: 16, BatchNorm: true, Activation: "relu"}, {Type: "dropout", Rate: 0.1}, {Type: "dense", Activation: "softmax"}}}, d.Shape, 2, seed)
	if err != nil {
		t.Fatal(err)
	}
	n.Norm = d.LearnNorm()
	return n
}

func run(t testing.TB, tr *Trainer) *Trainer {
	t.Helper()
	if err := tr.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return tr
}

func weightsOf(n *Network) (all []float32) {
	for _, p := range n.Params() {
		all = append(all, p.W...)
	}
	return all
}

func TestEveryOptimizerLearns(t *testing.T) {
	d, val := rings(2000, 1), rings(500, 2)
	for _, o := range []OptimizerConfig{
		{Kind: "adam", Rate: 0.01, Schedule: "constant"},
		{Kind: "adamw", Rate: 0.01, Decay: 0.01, Schedule: "cosine"},
		{Kind: "sgd", Rate: 0.1, Momentum: 0.9, Schedule: "step", Warmup: 1},
		{Kind: "sgd", Rate: 0.2, Schedule: "constant"},
	} {
		cfg := DefaultConfig()
		cfg.Optimizer, cfg.Epochs, cfg.Batch, cfg.L2 = o, 12, 32, 1e-5
		tr := run(t, &Trainer{Net: ringNet(t, d, 1), Config: cfg, Train: d, Val: val})
		if _, a := tr.evaluate(val); a < 0.93 {
			t.Errorf("%+v: accuracy %v", o, a)
		}
		agree(t, tr.Net, val)
	}
}

// The same seed gives the same weights, another seed others; a training that
// was cut and resumed gives those of one that ran through.
func TestReproducibleAndResumable(t *testing.T) {
	d, val := rings(600, 1), rings(200, 2)
	cfg := DefaultConfig()
	cfg.Epochs, cfg.Batch = 6, 32
	cfg.Augment.Noise = 0.1
	whole := run(t, &Trainer{Net: ringNet(t, d, 1), Config: cfg, Train: d, Val: val})
	again := run(t, &Trainer{Net: ringNet(t, d, 1), Config: cfg, Train: d, Val: val})
	if !slices.Equal(weightsOf(whole.Net), weightsOf(again.Net)) {
		t.Error("the same seed gives other weights")
	}
	other := cfg
	other.Seed = 2
	if w := run(t, &Trainer{Net: ringNet(t, d, 1), Config: other, Train: d, Val: val}); slices.Equal(weightsOf(whole.Net), weightsOf(w.Net)) {
		t.Error("another seed gives the same weights")
	}
	cut := cfg
	cut.Checkpoint = filepath.Join(t.TempDir(), "state")
	ctx, stop := context.WithCancel(t.Context())
	first := &Trainer{Net: ringNet(t, d, 1), Config: cut, Train: d, Val: val, Done: func(e Epoch) {
		if e.Epoch == 3 {
			stop()
		}
	}}
	if err := first.Run(ctx); !errors.Is(err, context.Canceled) || len(first.History) != 3 {
		t.Fatalf("%d epochs, %v", len(first.History), err)
	}
	second := run(t, &Trainer{Net: ringNet(t, d, 7), Config: cut, Train: d, Val: val})
	if !slices.Equal(weightsOf(whole.Net), weightsOf(second.Net)) || second.Best != whole.Best || len(second.History) != 6 {
		t.Errorf("resumed: best %d of %d epochs, not %d of %d, or other weights", second.Best, len(second.History), whole.Best, len(whole.History))
	}
	// A checkpoint of something else is refused, a damaged one too.
	cut.Batch = 16
	if err := (&Trainer{Net: ringNet(t, d, 1), Config: cut, Train: d, Val: val}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another network, configuration or data") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(cut.Checkpoint, []byte("no checkpoint"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&Trainer{Net: ringNet(t, d, 1), Config: cut, Train: d, Val: val}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v", err)
	}
}

// The network ends with the weights of its best epoch, and stops when there is
// none better for a while.
func TestPatience(t *testing.T) {
	d, val := rings(60, 1), rings(500, 2)
	cfg := DefaultConfig()
	cfg.Epochs, cfg.Patience, cfg.Batch = 400, 10, 16
	cfg.Optimizer.Rate = 0.05
	tr := run(t, &Trainer{Net: ringNet(t, d, 1), Config: cfg, Train: d, Val: val})
	if n := len(tr.History); n == 400 || n != tr.Best+10 {
		t.Errorf("%d epochs, best %d", n, tr.Best)
	}
	if loss, _ := tr.evaluate(val); math.Abs(loss-tr.History[tr.Best-1].ValLoss) > 1e-6 {
		t.Errorf("loss %v at the end, the best was %v", loss, tr.History[tr.Best-1].ValLoss)
	}
}

func TestDivergenceIsSaid(t *testing.T) {
	d := rings(200, 1)
	d.Classes, d.Labels = nil, nil
	for i := range d.Len() {
		d.Targets = append(d.Targets, d.Values[2*i+1])
	}
	d.Width = 1
	n, err := New(Spec{[]LayerSpec{{Type: "dense", Units: 8, Activation: "relu"}, {Type: "dense"}}}, d.Shape, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Optimizer = OptimizerConfig{Kind: "sgd", Rate: 10, Schedule: "constant"}
	if err := (&Trainer{Net: n, Config: cfg, Train: d}).Run(t.Context()); !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "optimizer.rate") {
		t.Errorf("%v", err)
	}
}

// Data, network and loss that do not fit are refused by name.
func TestMisfits(t *testing.T) {
	d := rings(100, 1)
	for _, c := range []struct {
		name   string
		change func(*Trainer)
		words  string
	}{
		{"another shape", func(tr *Trainer) {
			x := *d
			x.Shape, x.Values = Shape{4}, slices.Concat(d.Values, d.Values)
			tr.Train = &x
		}, "the network takes [2]"},
		{"too many classes", func(tr *Trainer) { x := *d; x.Classes = []string{"a", "b", "c"}; tr.Train = &x }, "3 classes"},
		{"no labels", func(tr *Trainer) { x := *d; x.Labels = nil; tr.Train = &x }, "neither labels nor targets"},
		{"a label too many", func(tr *Trainer) { x := *d; x.Labels = append([]int32{9}, d.Labels[1:]...); tr.Train = &x }, "label 9 of sample 0"},
		{"no number", func(tr *Trainer) {
			x := *d
			x.Values = append([]float32{float32(math.NaN())}, d.Values[1:]...)
			tr.Train = &x
		}, "no number"},
		{"another loss", func(tr *Trainer) { tr.Config.Loss = "binary_cross_entropy" }, "sigmoid"},
		{"an unknown loss", func(tr *Trainer) { tr.Config.Loss = "hinge" }, "hinge"},
		{"shifts of numbers", func(tr *Trainer) { tr.Config.Augment.Shift = 2 }, "for pictures"},
		{"no epochs", func(tr *Trainer) { tr.Config.Epochs = 0 }, "epochs"},
		{"no rate", func(tr *Trainer) { tr.Config.Optimizer.Rate = 0 }, "optimizer.rate"},
	} {
		tr := &Trainer{Net: ringNet(t, d, 1), Config: DefaultConfig(), Train: d}
		c.change(tr)
		if err := tr.Run(t.Context()); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestSpecRefuses(t *testing.T) {
	for words, s := range map[string]Spec{
		"there is none":    {},
		"layers[0].type":   {[]LayerSpec{{Type: "lstm"}}},
		"layers[0].units":  {[]LayerSpec{{Type: "dense"}, {Type: "dense", Units: 2}}},
		"put flatten":      {[]LayerSpec{{Type: "dense", Units: 3}}},
		"does not fit":     {[]LayerSpec{{Type: "conv2d", Filters: 3, Kernel: 9, Padding: "valid"}}},
		"layers[0].rate":   {[]LayerSpec{{Type: "dropout", Rate: 1}}},
		"layers[0].kernel": {[]LayerSpec{{Type: "max_pool", Kernel: -1}}},
		"weights":          {[]LayerSpec{{Type: "flatten"}, {Type: "dense", Units: 60000}, {Type: "dense", Units: 60000}}},
	} {
		if _, err := New(s, Shape{6, 6, 3}, 2, 1); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", words, err)
		}
	}
	for _, name := range Presets {
		in := Shape{32, 32, 3}
		s, err := Preset(name, in, 4)
		if err != nil {
			t.Fatal(err)
		}
		n, err := New(s, in, 4, 1)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if out := n.Predict(make([]float32, product(in)), 1); name != "autoencoder" && len(out) != 4 {
			t.Errorf("%s answers with %d values", name, len(out))
		}
	}
	if _, err := Preset("resnet", Shape{4}, 2); err == nil || !strings.Contains(err.Error(), "mlp, lenet5") {
		t.Errorf("%v", err)
	}
}

func TestSplit(t *testing.T) {
	d := rings(1000, 3)
	for i := range d.Len() {
		d.Groups = append(d.Groups, int32(i/5))
	}
	a, b, err := d.Split(0.3, false, 1)
	if err != nil || a.Len()+b.Len() != 1000 || b.Len() < 250 || b.Len() > 350 {
		t.Fatalf("%d and %d, %v", a.Len(), b.Len(), err)
	}
	in := map[int32]bool{}
	for _, g := range a.Groups {
		in[g] = true
	}
	for _, g := range b.Groups {
		if in[g] {
			t.Fatalf("group %d is on both sides", g)
		}
	}
	d.Groups = nil
	share := func(d *Dataset) float64 {
		n := 0
		for _, l := range d.Labels {
			n += int(l)
		}
		return float64(n) / float64(d.Len())
	}
	a, b, _ = d.Split(0.3, false, 1)
	if math.Abs(share(a)-share(b)) > 0.01 {
		t.Errorf("%v and %v of class 1", share(a), share(b))
	}
	_, c, _ := d.Split(0.3, false, 1)
	if !slices.Equal(b.Values, c.Values) {
		t.Error("the same seed splits otherwise")
	}
	_, late, _ := d.Split(0.1, true, 0)
	if !slices.Equal(late.Values, d.Values[2*900:]) {
		t.Error("by time the last tenth is not the second part")
	}
	if _, _, err := d.Split(1, false, 1); err == nil {
		t.Error("a split of 1 is taken")
	}
}

func TestAugment(t *testing.T) {
	d := &Dataset{Shape: Shape{4, 4, 1}, Pixels: make([]byte, 16), Labels: []int32{0}, Classes: []string{"a"}}
	for i := range d.Pixels {
		d.Pixels[i] = byte(16 * i)
	}
	one := func(cfg AugmentConfig, seed uint64) []float32 {
		a, err := newAugmenter(cfg, d)
		if err != nil {
			t.Fatal(err)
		}
		var b batch
		d.load(&b, []int{0})
		a.apply(&b, rand.New(rand.NewPCG(seed, 0)))
		return slices.Clone(b.x)
	}
	plain := one(AugmentConfig{}, 1)
	flipped, same := 0, 0
	for seed := range uint64(40) {
		x := one(AugmentConfig{Flip: true}, seed)
		switch {
		case slices.Equal(x, plain):
			same++
		case x[0] == plain[3] && x[3] == plain[0] && x[12] == plain[15]:
			flipped++
		default:
			t.Fatalf("neither flipped nor the same: %v", x)
		}
	}
	if flipped < 10 || same < 10 {
		t.Errorf("%d flipped, %d not", flipped, same)
	}
	moved := 0
	for seed := range uint64(20) {
		x := one(AugmentConfig{Shift: 1}, seed)
		for _, v := range x {
			if !slices.Contains(plain, v) {
				t.Fatalf("a shift makes %v", v)
			}
		}
		if !slices.Equal(x, plain) {
			moved++
		}
		for name, cfg := range map[string]AugmentConfig{"crop": {Crop: 0.5}, "brightness": {Brightness: 0.3}, "noise": {Noise: 0.1}} {
			if a, b := one(cfg, seed), one(cfg, seed); !slices.Equal(a, b) {
				t.Errorf("%s is not the seed's", name)
			}
		}
	}
	if moved < 10 {
		t.Errorf("%d of 20 moved", moved)
	}
}

// Pictures whose bytes are other numbers are changed as much as those from -1
// to 1.
func TestAugmentLimits(t *testing.T) {
	d := &Dataset{Shape: Shape{4, 4, 1}, Labels: []int32{0}, Classes: []string{"a"}}
	for i := range 16 {
		d.Pixels = append(d.Pixels, byte(16*i))
	}
	bytes := *d
	bytes.Low, bytes.High = 0, 255
	for seed := range uint64(20) {
		var seen [2][]float32
		for k, d := range []*Dataset{d, &bytes} {
			a, err := newAugmenter(AugmentConfig{Shift: 1, Flip: true, Brightness: 0.4, Noise: 0.1}, d)
			if err != nil {
				t.Fatal(err)
			}
			var b batch
			d.load(&b, []int{0})
			a.apply(&b, rand.New(rand.NewPCG(seed, 0)))
			seen[k] = b.x
		}
		for i, v := range seen[0] {
			if want := (v + 1) * 127.5; math.Abs(float64(seen[1][i]-want)) > 1e-3 {
				t.Fatalf("%v, want %v", seen[1], want)
			}
		}
	}
	if bytes.High = 0; bytes.Check() != nil {
		t.Error("0 and 0 are -1 and 1")
	}
	if bytes.Low = 3; bytes.Check() == nil {
		t.Error("from 3 to 0 is no range")
	}
}

// Quantization-aware training keeps what the float network learned.
func TestAware(t *testing.T) {
	d, val := rings(2000, 1), rings(500, 2)
	cfg := DefaultConfig()
	cfg.Epochs, cfg.Batch, cfg.Optimizer.Rate = 10, 32, 0.01
	tr := run(t, &Trainer{Net: ringNet(t, d, 1), Config: cfg, Train: d, Val: val})
	_, float := tr.evaluate(val)
	cfg.Epochs, cfg.Optimizer.Rate = 3, 0.001
	aware := run(t, &Trainer{Net: tr.Net.Aware(), Config: cfg, Train: d, Val: val})
	_, int8 := aware.evaluate(val)
	if int8 < float-0.03 {
		t.Errorf("%v in float, %v rounded", float, int8)
	}
	m, ranges, err := aware.Net.ExportAware("aware", d.Classes)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range m.Main().Ops {
		if op.Code == "FULLY_CONNECTED" {
			out := m.Main().Tensors[op.Outputs[0]].Name
			if r, ok := ranges[out]; !ok || r.High <= r.Low {
				t.Errorf("no range of %s: %v", out, ranges)
			}
		}
	}
}
