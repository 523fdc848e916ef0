package compress

import (
	"bytes"
	"testing"

	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/train"
)

// A new version of a pruned and clustered 1 MB model goes over a thin link as
// what changed: the values that weights share where it was trained further with
// those shared, the indexes too where it was trained freely and clustered anew.
func TestThinLink(t *testing.T) {
	all, judge := digits(t, 2000, 500)
	var half [2][]int
	for i := range all.Len() {
		half[i%2] = append(half[i%2], i)
	}
	first, second := all.Subset(half[0]), all.Subset(half[1])
	m := pruned(t, learned(t, first, 2, train.LayerSpec{Type: "flatten"},
		train.LayerSpec{Type: "dense", Units: 300, Activation: "relu"}, train.LayerSpec{Type: "dense", Units: 100, Activation: "relu"},
		train.LayerSpec{Type: "dense", Activation: "softmax"}), 0.9)
	tuned := func(m *model.Model, d *train.Dataset, shared int) *model.Model {
		c := DefaultTune()
		c.Learn, c.Shared, c.Config.Epochs, c.Config.Optimizer.Warmup = d, shared, 1, 0
		out, err := c.Run(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	clustered := func(m *model.Model) *model.Model {
		c := DefaultCluster()
		c.Clusters = 32
		out, _, err := Cluster(m, c)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	was := clustered(tuned(m, first, -1))
	base := written(t, was)
	if len(base) < 1_000_000 {
		t.Fatalf("the model has %d bytes", len(base))
	}
	packed, err := pack.Pack(base, nil)
	if err != nil {
		t.Fatal(err)
	}
	samples := &Samples{Set: judge}
	before := judged(t, was, Classes, samples).Top1
	for _, c := range []struct {
		name       string
		now        *model.Model
		file, pack float64 // the most that it may be of both
	}{
		{"with its zeros and values shared as they were", tuned(was, second, 0), 0.005, 0.2},
		{"freely, but for its zeros, and clustered anew", clustered(tuned(was, second, -1)), 0.03, 0.7},
	} {
		now := written(t, c.now)
		if bytes.Equal(now, base) {
			t.Fatalf("trained %s: nothing changed", c.name)
		}
		delta, err := pack.Pack(now, base)
		if err != nil {
			t.Fatal(err)
		}
		back, err := pack.Unpack(delta, func([32]byte) ([]byte, error) { return base, nil })
		if err != nil || !bytes.Equal(back, now) {
			t.Fatalf("it does not come back: %v", err)
		}
		after := judged(t, c.now, Classes, samples).Top1
		ofFile, ofPack := float64(len(delta))/float64(len(now)), float64(len(delta))/float64(len(packed))
		t.Logf("trained %s: %d bytes, %.2f %% of the .tflite and %.1f %% of the %d bytes of it packed; %.2f %% right, before %.2f %%", c.name, len(delta), 100*ofFile, 100*ofPack, len(packed), 100*after, 100*before)
		if ofFile > c.file || ofPack > c.pack {
			t.Errorf("trained %s: %d bytes of %d, and packed of %d", c.name, len(delta), len(now), len(packed))
		}
		if after < before-0.04 {
			t.Errorf("trained %s: %.4f right, before %.4f", c.name, after, before)
		}
	}
}
