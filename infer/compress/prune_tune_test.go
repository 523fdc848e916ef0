package compress

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// rings are points in 8 dimensions of which the length, a little blurred, says
// the class: no layer of few units tells them apart at once.
func rings(seed uint64, n int) *train.Dataset {
	r := rand.New(rand.NewPCG(seed, 1))
	d := &train.Dataset{Name: "rings", Shape: train.Shape{8}, Classes: []string{"in", "between", "out"}}
	for i := range n {
		v, sum := make([]float64, 8), 0.0
		for k := range v {
			v[k] = r.NormFloat64()
			sum += v[k] * v[k]
		}
		class := i % 3
		for _, x := range v {
			d.Values = append(d.Values, float32(x/math.Sqrt(sum)*(1+float64(class)+0.1*r.NormFloat64())))
		}
		d.Labels = append(d.Labels, int32(class))
	}
	return d
}

func ringsModel(t *testing.T) (*model.Model, Tune, *Samples) {
	t.Helper()
	d := rings(1, 1500)
	m := learned(t, d, 12, train.LayerSpec{Type: "dense", Units: 48, Activation: "relu"}, train.LayerSpec{Type: "dense", Units: 32, Activation: "relu"},
		train.LayerSpec{Type: "dense", Units: 3, Activation: "softmax"})
	tune := DefaultTune()
	tune.Learn, tune.Config.Epochs, tune.Config.Optimizer.Rate = d, 15, 0.003
	return m, tune, &Samples{Set: rings(2, 600)}
}

// Trained on while weights go, a model keeps what it loses where they go at
// once; what was asked for is 0 to the weight, block by block.
func TestPruneWhileTraining(t *testing.T) {
	m, tune, judge := ringsModel(t)
	before := judged(t, m, Classes, judge)
	if before.Top1 < 0.9 {
		t.Fatalf("the model that is pruned has %v right", before.Top1)
	}
	for _, c := range []struct {
		pattern  string
		sparsity float64
	}{{"unstructured", 0.9}, {"1x4", 0.75}, {"4x4", 0.75}, {"2:4", 0.5}} {
		t.Run(c.pattern, func(t *testing.T) {
			cfg := DefaultPrune()
			cfg.Pattern, cfg.Sparsity = c.pattern, c.sparsity
			at, _, err := Prune(m, cfg)
			if err != nil {
				t.Fatal(err)
			}
			once := judged(t, at, Classes, judge)
			trained, report, err := PruneJob{Config: cfg, Tune: &tune}.Run(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			after := judged(t, trained, Classes, judge)
			t.Logf("%.3f before, %.3f pruned at once, %.3f while training", before.Top1, once.Top1, after.Top1)
			if after.Top1 < before.Top1-0.03 || c.pattern != "2:4" && after.Top1 < once.Top1+0.05 {
				t.Error("training did not bring it back")
			}
			want := int(math.Round(c.sparsity * (8*48 + 48*32)))
			if got := report.Layers[0].Zeros + report.Layers[1].Zeros; got != want || report.Layers[2].Zeros != 0 {
				t.Errorf("%d weights are 0, want %d; of the last layer %d", got, want, report.Layers[2].Zeros)
			}
			blocks := map[string]int{"1x4": 4, "4x4": 4, "2:4": 2}[c.pattern]
			for name, p := range weightsIn(t, trained) {
				if p.Shape[0] == 3 || blocks == 0 {
					continue
				}
				for i := 0; i < len(p.W); i += 4 {
					zeros := 0
					for _, w := range p.W[i : i+4] {
						if w == 0 {
							zeros++
						}
					}
					if zeros != blocks && (zeros != 0 || c.pattern == "2:4") {
						t.Fatalf("%s: %d of the four weights at %d are 0", name, zeros, i)
					}
				}
			}
		})
	}
}

// Channels go in parts, and training brings back what they took along.
func TestPruneChannelsWhileTraining(t *testing.T) {
	m, tune, judge := ringsModel(t)
	before := judged(t, m, Classes, judge)
	cfg := DefaultPrune()
	cfg.Pattern, cfg.Multiple = "channels", 1
	for _, c := range []struct{ macs, sparsity float64 }{{0.2, 0}, {0, 0.6}} {
		cfg.MACs, cfg.Sparsity = c.macs, c.sparsity
		once, _, err := PruneJob{Config: cfg, Samples: &Samples{Set: tune.Learn}}.Run(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		small, report, err := PruneJob{Config: cfg, Samples: &Samples{Set: tune.Learn}, Tune: &tune}.Run(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		a, b := judged(t, once, Classes, judge), judged(t, small, Classes, judge)
		t.Logf("%.3f before, %.3f at once, %.3f in parts; %d multiply-adds of %d", before.Top1, a.Top1, b.Top1, report.MACs[1], report.MACs[0])
		if b.Top1 < before.Top1-0.03 || b.Top1 < a.Top1 {
			t.Error("training did not bring it back")
		}
		if c.macs > 0 && float64(report.MACs[1]) > c.macs*float64(report.MACs[0]) {
			t.Errorf("%d multiply-adds of %d are left", report.MACs[1], report.MACs[0])
		}
		if left := report.Layers[0].Channels[1] + report.Layers[1].Channels[1]; c.sparsity > 0 && (left < 31 || left > 33) {
			t.Errorf("%d of 80 channels are left", left)
		}
	}
}

// What is stopped comes pruned to the end, as far as it was trained; nothing
// comes that is pruned and was not trained at all.
func TestPruneStopped(t *testing.T) {
	m, tune, _ := ringsModel(t)
	for i, pattern := range []string{"unstructured", "channels", "unstructured", "channels"} {
		ctx, stop := context.WithCancel(t.Context())
		at := []string{"epoch 1 of", "epoch 2 of"}[i/2]
		tune.Progress = func(what string, _, _ int) {
			if strings.HasPrefix(what, at) {
				stop()
			}
		}
		cfg := DefaultPrune()
		cfg.Pattern, cfg.Multiple, cfg.Sparsity = pattern, 1, 0.75
		small, report, err := PruneJob{Config: cfg, Tune: &tune}.Run(ctx, m)
		stop()
		if !errors.Is(err, context.Canceled) || (small != nil) != (i/2 > 0) {
			t.Fatalf("%s, stopped in %s: %v, model %v", pattern, at, err, small != nil)
		}
		if small == nil {
			continue
		}
		written(t, small)
		if pattern == "channels" {
			if left := report.Layers[0].Channels[1] + report.Layers[1].Channels[1]; left < 19 || left > 21 {
				t.Errorf("%d of 80 channels are left", left)
			}
		} else if got := report.Layers[0].Zeros + report.Layers[1].Zeros; got != (8*48+48*32)*3/4 {
			t.Errorf("%d weights are 0", got)
		}
	}
}
