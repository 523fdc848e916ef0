package compress

import (
	"math"
	"testing"

	"edgegateway/infer/train"
)

// Biases share few values, weights stay as they are, and the answers hardly
// change.
func TestShareBiases(t *testing.T) {
	learn, judge := digits(t, 1500, 300)
	was := learned(t, learn, 2, train.LayerSpec{Type: "conv2d", Filters: 6, Kernel: 5, Stride: 2, Activation: "relu"},
		train.LayerSpec{Type: "flatten"}, train.LayerSpec{Type: "dense", Units: 60, Activation: "relu"}, train.LayerSpec{Type: "dense", Activation: "softmax"})
	cfg := DefaultCluster()
	cfg.Clusters = 8
	now, r, err := ShareBiases(was, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Biases != 6+60+10 || r.Values > 6+8+8 || r.Values >= r.Before || r.RMS <= 0 {
		t.Errorf("%+v", r)
	}
	after := weightsIn(t, now)
	for name, p := range weightsIn(t, was) {
		for i, w := range p.W {
			if after[name].W[i] != w {
				t.Fatalf("weight %d of %s was %v and is %v", i, name, w, after[name].W[i])
			}
		}
	}
	s := &Samples{Set: judge}
	a, err := Compare(t.Context(), written(t, was), written(t, now), [2]string{}, "", s)
	if err != nil || a.Top1 < 0.98 {
		t.Errorf("%+v, %v", a, err)
	}
	if again, r2, err := ShareBiases(now, cfg); err != nil || r2.RMS != 0 || r2.Before != r2.Values || again == nil {
		t.Errorf("shared twice: %+v, %v", r2, err)
	}
	for _, o := range now.Main().Ops {
		if len(o.Inputs) < 3 || o.Inputs[2] < 0 {
			continue
		}
		b, err := now.Main().Tensors[o.Inputs[2]].Floats()
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range b {
			if math.Float32bits(x)&0xffff != 0 {
				t.Errorf("a bias is %v, which 16 bits do not hold", x)
			}
		}
	}
	if cfg.Clusters = 1; cfg.Validate() == nil {
		t.Error("one cluster is taken")
	}
	if _, _, err := ShareBiases(was, cfg); err == nil {
		t.Error("biases share one value")
	}
}

func TestShort(t *testing.T) {
	for x, want := range map[float32]float32{
		0: 0, 1: 1, -1.0078125: -1.0078125,
		1.00390625:      1,        // half-way, the even one
		1.01171875:      1.015625, // half-way, the even one
		-0.1:            -0.10009765625,
		math.MaxFloat32: math.Float32frombits(0x7f7f0000), // not infinite
	} {
		if got := short(x); got != want {
			t.Errorf("%v is %v, want %v", x, got, want)
		}
	}
}
