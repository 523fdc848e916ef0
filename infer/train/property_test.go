package train

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// randomNetwork draws a small network, its data and how it is trained. Some
// draws do not fit together: those must be refused with an error.
func randomNetwork(t *rapid.T) (Spec, *Dataset, Config) {
	d := &Dataset{Name: "random"}
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	n := rapid.IntRange(2, 9).Draw(t, "samples")
	if rapid.Bool().Draw(t, "pictures") {
		d.Shape = Shape{rapid.IntRange(1, 9).Draw(t, "height"), rapid.IntRange(1, 9).Draw(t, "width"), rapid.IntRange(1, 3).Draw(t, "channels")}
	} else {
		d.Shape = Shape{rapid.IntRange(1, 12).Draw(t, "features")}
	}
	size := n * product(d.Shape)
	if len(d.Shape) == 3 && rapid.Bool().Draw(t, "bytes") {
		for range size {
			d.Pixels = append(d.Pixels, byte(r.IntN(256)))
		}
	} else {
		scale, shift := []float64{1, 1e-3, 1e4}[r.IntN(3)], []float64{0, 1, 1e3}[r.IntN(3)]
		for range size {
			d.Values = append(d.Values, float32(scale*r.NormFloat64()+shift))
		}
	}
	var s Spec
	activation := func() string { return rapid.SampledFrom(activations).Draw(t, "activation") }
	for range rapid.IntRange(0, 4).Draw(t, "layers") {
		l := LayerSpec{Type: rapid.SampledFrom(layerTypes).Draw(t, "type"), Activation: activation(), BatchNorm: rapid.IntRange(0, 2).Draw(t, "norm") == 0}
		switch l.Type {
		case "dense":
			l.Units = rapid.IntRange(1, 9).Draw(t, "units")
		case "conv2d":
			l.Filters = rapid.IntRange(1, 5).Draw(t, "filters")
			fallthrough
		case "depthwise", "max_pool", "avg_pool":
			l.Kernel, l.Stride = rapid.IntRange(1, 4).Draw(t, "kernel"), rapid.IntRange(0, 3).Draw(t, "stride")
			l.Padding = rapid.SampledFrom([]string{"", "same", "valid"}).Draw(t, "padding")
		case "dropout":
			l.Rate = 0.3
		}
		s.Layers = append(s.Layers, l)
	}
	if rapid.IntRange(0, 3).Draw(t, "flat") > 0 {
		s.Layers = append(s.Layers, LayerSpec{Type: "flatten"})
	}
	s.Layers = append(s.Layers, LayerSpec{Type: "dense", Activation: activation()})
	width := rapid.IntRange(1, 4).Draw(t, "outputs")
	if rapid.Bool().Draw(t, "classes") {
		for c := range max(width, 2) {
			d.Classes = append(d.Classes, fmt.Sprint("class ", c))
		}
		for range n {
			d.Labels = append(d.Labels, int32(r.IntN(len(d.Classes))))
		}
	} else {
		d.Width = width
		for range n * width {
			d.Targets = append(d.Targets, float32(50+100*r.NormFloat64()))
		}
	}
	cfg := DefaultConfig()
	cfg.Epochs, cfg.Batch = 1, rapid.IntRange(1, 5).Draw(t, "batch")
	cfg.Optimizer.Kind = rapid.SampledFrom([]string{"adam", "adamw", "sgd"}).Draw(t, "optimizer")
	if cfg.Optimizer.Kind == "sgd" {
		cfg.Optimizer.Rate = 1e-6
	}
	return s, d, cfg
}

// Whatever small network is trained, what is exported loads in the runtime and
// answers the same; what does not fit is refused, and nothing panics.
func TestRandomNetworks(t *testing.T) {
	const wanted = 500
	trained, refused := 0, map[string]int{}
	for trained < wanted {
		rapid.Check(t, func(rt *rapid.T) {
			s, d, cfg := randomNetwork(rt)
			width := d.Width
			if d.Labels != nil {
				if width = len(d.Classes); width == 2 && rapid.Bool().Draw(rt, "one output") {
					width = 1
				}
			}
			n, err := New(s, d.Shape, width, 1)
			if err != nil {
				refused[err.Error()]++
				return
			}
			n.Normalise(d)
			if n.linearEnd() {
				n.OutNorm = d.LearnOutNorm()
			}
			tr := &Trainer{Net: n, Config: cfg, Train: d, Val: d}
			if err := tr.Run(t.Context()); err != nil {
				refused[err.Error()]++
				return
			}
			trained++
			agree(rt, n.TwoClasses(), d)
		})
		if t.Failed() {
			return
		}
	}
	for text := range refused {
		if !strings.Contains(text, "layers[") && !strings.Contains(text, "loss ") && !strings.Contains(text, "classes") && !strings.Contains(text, "diverged") {
			t.Errorf("refused without a place: %s", text)
		}
	}
	t.Logf("%d trained, exported and run, %d kinds of misfits refused", trained, len(refused))
}

// A checkpoint with any byte changed, cut anywhere or grown is refused; the
// network then is as it was.
func TestDamagedCheckpoint(t *testing.T) {
	d, val := rings(100, 1), rings(50, 2)
	cfg := DefaultConfig()
	cfg.Epochs, cfg.Batch, cfg.Checkpoint = 1, 32, filepath.Join(t.TempDir(), "state")
	run(t, &Trainer{Net: ringNet(t, d, 1), Config: cfg, Train: d, Val: val})
	good, err := os.ReadFile(cfg.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(cfg.Checkpoint, data, 0o600); err != nil {
			t.Fatal(err)
		}
		err := (&Trainer{Net: ringNet(t, d, 1), Config: cfg, Train: d, Val: val}).Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: %v", what, err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		b := append([]byte(nil), good...)
		at := r.IntN(len(b))
		b[at] ^= byte(1 + r.IntN(255))
		try(fmt.Sprintf("byte %d changed", at), b)
		cut := r.IntN(len(good))
		try(fmt.Sprintf("cut at %d", cut), good[:cut])
	}
	try("grown", append(append([]byte(nil), good...), 0))
	// The same data with one label changed is other data.
	if err := os.WriteFile(cfg.Checkpoint, good, 0o600); err != nil {
		t.Fatal(err)
	}
	other := rings(100, 1)
	other.Labels[99] ^= 1
	if err := (&Trainer{Net: ringNet(t, d, 1), Config: cfg, Train: other, Val: val}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "or data") {
		t.Errorf("%v", err)
	}
}

// Targets in units of their own are learned as well as targets near 0, and the
// exported model answers in those units.
func TestTargetUnits(t *testing.T) {
	d := rings(1000, 1)
	d.Classes, d.Labels, d.Width = nil, nil, 2
	for i := range d.Len() {
		x, y := d.Values[2*i], d.Values[2*i+1]
		d.Targets = append(d.Targets, 1e5+1e4*x, 1e-3*y)
	}
	n, err := New(Spec{[]LayerSpec{{Type: "dense", Units: 16, Activation: "relu"}, {Type: "dense"}}}, d.Shape, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	n.Norm, n.OutNorm = d.LearnNorm(), d.LearnOutNorm()
	cfg := DefaultConfig()
	cfg.Epochs, cfg.Optimizer.Rate = 30, 0.01
	tr := run(t, &Trainer{Net: n, Config: cfg, Train: d})
	if loss, _ := tr.evaluate(d); loss > 0.01 {
		t.Errorf("%v of the variance is not explained", loss)
	}
	agree(t, n, d)
}
