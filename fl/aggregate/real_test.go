package aggregate_test

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"edgegateway/fl/aggregate"
	"edgegateway/infer/train"
	"edgegateway/internal/testkit"
)

// realUpdate is what one participant of arXiv:1602.05629 learns in its first
// round: 600 digits, an epoch in batches of 10, plain gradient descent at 0.1.
func realUpdate(t *testing.T) []float32 {
	dir := testkit.Cached(t, "mnist/data")
	all, err := train.LoadIDX(filepath.Join(dir, "train-images-idx3-ubyte"), filepath.Join(dir, "train-labels-idx1-ubyte"))
	if err != nil {
		t.Fatal(err)
	}
	at := make([]int, 600)
	for i := range at {
		at[i] = i
	}
	some := all.Subset(at)
	dense := func(units int, activation string) train.LayerSpec {
		return train.LayerSpec{Type: "dense", Units: units, Activation: activation}
	}
	net, err := train.New(train.Spec{Layers: []train.LayerSpec{{Type: "flatten"}, dense(200, "relu"), dense(200, "relu"), dense(10, "softmax")}}, some.Shape, 10, 1)
	if err != nil {
		t.Fatal(err)
	}
	var before []float32
	for _, p := range net.Params() {
		before = append(before, p.W...)
	}
	cfg := train.DefaultConfig()
	cfg.Epochs, cfg.Batch = 1, 10
	cfg.Optimizer.Kind, cfg.Optimizer.Rate, cfg.Optimizer.Momentum = "sgd", 0.1, 0
	if err := (&train.Trainer{Net: net, Config: cfg, Train: some}).Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	i := 0
	for _, p := range net.Params() {
		for _, w := range p.W {
			before[i] = w - before[i]
			i++
		}
	}
	return before
}

// TestRealUpdate measures how long the update of a real network is in each
// encoding, as Encode gives it and behind zstd, with which messages travel, and
// how much of it arrives: -v prints the table of the documentation.
func TestRealUpdate(t *testing.T) {
	x := realUpdate(t)
	if len(x) != 199_210 {
		t.Fatal(len(x))
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%-18s%10s%10s%10s%14s", "", "bytes", "zstd", "smaller", "left out")
	for _, c := range []struct {
		aggregate.Compression
		most float64 // bytes a weight behind zstd
	}{
		{aggregate.Compression{Kind: "none"}, 4},
		{aggregate.Compression{Kind: "int8"}, 1},
		{aggregate.Compression{Kind: "int4"}, 0.5},
		{aggregate.Compression{Kind: "topk", Share: 0.1}, 0.5},
		{aggregate.Compression{Kind: "topk", Share: 0.01}, 0.055},
		{aggregate.Compression{Kind: "topk", Share: 0.001}, 0.007},
		{aggregate.Compression{Kind: "topk-int8", Share: 0.1}, 0.2},
		{aggregate.Compression{Kind: "topk-int8", Share: 0.03}, 0.07},
		{aggregate.Compression{Kind: "topk-int8", Share: 0.01}, 0.025},
		{aggregate.Compression{Kind: "topk-int8", Share: 0.003}, 0.01},
		{aggregate.Compression{Kind: "topk-int8", Share: 0.001}, 0.004},
	} {
		data, _, err := aggregate.Encode(c.Compression, x, nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := aggregate.Decode(data, len(x))
		if err != nil {
			t.Fatal(err)
		}
		var off, all float64
		for i, v := range x {
			off += math.Pow(float64(v-got[i]), 2)
			all += float64(v) * float64(v)
		}
		packed := len(z.EncodeAll(data, nil))
		name := c.Kind
		if c.Share > 0 {
			name = fmt.Sprint(name, " ", c.Share)
		}
		t.Logf("%-18s%10d%10d%10.1f%13.1f%%", name, len(data), packed, float64(4*len(x))/float64(packed), 100*math.Sqrt(off/all))
		if a := float64(packed) / float64(len(x)); a > c.most {
			t.Errorf("%s: %.4f bytes a weight", name, a)
		}
	}
}
