package train

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// prune sets a share of a parameter to 0, the smallest weights.
func (p *Param) prune(share float64) {
	size := make([]float64, len(p.W))
	for i, w := range p.W {
		size[i] = math.Abs(float64(w))
	}
	slices.Sort(size)
	at := size[int(share*float64(len(size)-1))]
	for i, w := range p.W {
		if math.Abs(float64(w)) <= at {
			p.W[i] = 0
		}
	}
}

// Whatever network is trained by whatever optimizer, from the start or with
// moments of steps before: zeros that are kept are 0 afterwards, and weights of
// one group the same to the last bit.
func TestHeldWeightsStay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := rings(40, 1)
		layers := []LayerSpec{{Type: "dense", Units: rapid.IntRange(1, 37).Draw(rt, "units"), BatchNorm: rapid.Bool().Draw(rt, "norm"), Activation: "tanh"}, {Type: "dense", Activation: "softmax"}}
		if rapid.Bool().Draw(rt, "picture") {
			d.Shape, d.Labels = Shape{2, 2, 1}, d.Labels[:20]
			layers = append([]LayerSpec{{Type: "conv2d", Filters: 7}, {Type: "depthwise"}, {Type: "flatten"}}, layers...)
		}
		n, err := New(Spec{layers}, d.Shape, 2, rapid.Uint64().Draw(rt, "seed"))
		if err != nil {
			rt.Fatal(err)
		}
		n.Norm = d.LearnNorm()
		cfg := DefaultConfig()
		cfg.Epochs, cfg.Batch, cfg.L2 = 1, 8, rapid.SampledFrom([]float64{0, 0.01}).Draw(rt, "l2")
		cfg.Optimizer = OptimizerConfig{Kind: rapid.SampledFrom([]string{"adam", "adamw", "sgd"}).Draw(rt, "optimizer"), Rate: 0.01, Decay: 0.1, Schedule: "constant", Momentum: rapid.SampledFrom([]float64{0, 0.9}).Draw(rt, "momentum")}
		if rapid.Bool().Draw(rt, "moments") {
			run(t, &Trainer{Net: n, Config: cfg, Train: d})
		}
		if rapid.Bool().Draw(rt, "aware") {
			n = n.Aware()
		}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "groups"), 1))
		var held []*Param
		zeros, groups := map[*Param][]bool{}, map[*Param][]int32{}
		for _, p := range n.Params() {
			if !p.Decay || p.frozen {
				continue
			}
			held = append(held, p)
			// In either order: zeros that are kept belong to no group.
			share := func() {
				groups[p] = make([]int32, len(p.W))
				for i := range p.W {
					groups[p][i] = []int32{-1, -1, 5, 1 << 30, 0}[r.IntN(5)]
				}
				p.Share(groups[p])
			}
			first := r.IntN(2) == 0
			if first {
				share()
			}
			for i := range p.W {
				if r.IntN(3) == 0 && (!first || groups[p][i] < 0) {
					p.W[i] = 0
				}
			}
			p.KeepZeros()
			if !first {
				share()
			}
			for _, w := range p.W {
				zeros[p] = append(zeros[p], w == 0)
			}
		}
		before := map[*Param][]float32{}
		for _, p := range held {
			before[p] = slices.Clone(p.W)
		}
		cfg.Seed = 2
		all := weightsOf(n)
		run(t, &Trainer{Net: n, Config: cfg, Train: d, Val: d})
		if slices.Equal(all, weightsOf(n)) {
			rt.Fatal("nothing has moved")
		}
		for _, p := range held {
			one := map[int32]float32{}
			for i, w := range p.W {
				if zeros[p][i] != (w == 0) {
					rt.Fatalf("%s[%d] was %v, is %v", p.Name, i, before[p][i], w)
				}
				g := groups[p][i]
				if zeros[p][i] || g < 0 {
					continue
				}
				if v, ok := one[g]; ok && math.Float32bits(v) != math.Float32bits(w) {
					rt.Fatalf("%s[%d] of group %d: %v and %v", p.Name, i, g, w, v)
				}
				one[g] = w
			}
		}
	})
}

// The step of a group is that of the sum of its gradients, by definition.
func TestSharedGradient(t *testing.T) {
	d := rings(64, 1)
	cfg := DefaultConfig()
	cfg.Epochs, cfg.Batch = 1, 64 // one step
	cfg.Optimizer = OptimizerConfig{Kind: "sgd", Rate: 0.1, Schedule: "constant"}
	free, shared := ringNet(t, d, 1), ringNet(t, d, 1)
	p, q := free.Params()[0], shared.Params()[0]
	group := make([]int32, len(p.W))
	for i := range group {
		group[i] = int32(i % 5)
		p.W[i] = []float32{0.5, -0.25, 0.125, 1, -2}[i%5]
	}
	copy(q.W, p.W)
	q.Share(group)
	if !slices.Equal(p.W, q.W) {
		t.Fatal("sharing what is the same changes it")
	}
	was := slices.Clone(p.W)
	run(t, &Trainer{Net: free, Config: cfg, Train: d})
	run(t, &Trainer{Net: shared, Config: cfg, Train: d})
	for g := range 5 {
		want := float64(was[g])
		for i := g; i < len(group); i += 5 {
			want += float64(p.W[i] - was[i])
		}
		if got := float64(q.W[g]); math.Abs(got-want) > 1e-5 || got == float64(was[g]) {
			t.Errorf("group %d: %v, want %v", g, got, want)
		}
	}
	q.Free()
	run(t, &Trainer{Net: shared, Config: cfg, Train: d})
	if slices.Equal(q.W[:5], q.W[5:10]) {
		t.Error("freed weights still move together")
	}
}

// gradual prunes the first layer step by step, in the first two thirds.
func gradual(n *Network) func(step, of int) {
	return func(step, of int) {
		if at := 3 * step; at < 2*of && step%7 == 0 {
			p := n.Params()[0]
			p.prune(0.8 * float64(at) / float64(2*of))
			p.KeepZeros()
		}
	}
}

// A schedule that prunes on the way goes on from a checkpoint as if it had run
// through, zeros and all; the best epoch is one of those after the last change.
func TestHoldsAreResumed(t *testing.T) {
	d, val := rings(600, 1), rings(200, 2)
	cfg := DefaultConfig()
	cfg.Epochs, cfg.Batch, cfg.Optimizer.Rate = 6, 32, 0.02
	zeros := func(n *Network) (c int) {
		for _, w := range n.Params()[0].W {
			if w == 0 {
				c++
			}
		}
		return c
	}
	trainer := func(cfg Config) *Trainer {
		n := ringNet(t, d, 1)
		return &Trainer{Net: n, Config: cfg, Train: d, Val: val, Before: gradual(n)}
	}
	whole := run(t, trainer(cfg))
	if z := zeros(whole.Net); z < 15 || whole.Best < 4 {
		t.Errorf("%d zeros, best epoch %d", z, whole.Best)
	}
	for _, at := range []int{2, 5} {
		cut := cfg
		cut.Checkpoint = filepath.Join(t.TempDir(), "state")
		ctx, stop := context.WithCancel(t.Context())
		first := trainer(cut)
		first.Done = func(e Epoch) {
			if e.Epoch == at {
				stop()
			}
		}
		if err := first.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		second := run(t, trainer(cut))
		if !slices.Equal(weightsOf(whole.Net), weightsOf(second.Net)) || second.Best != whole.Best {
			t.Errorf("cut after %d: best %d, not %d, or other weights", at, second.Best, whole.Best)
		}
		// Nobody who prunes nothing goes on from there.
		plain := trainer(cut)
		plain.Before = nil
		if err := plain.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "other zeros or groups") {
			t.Errorf("%v", err)
		}
	}
}

// A training that is cut between two changes has the zeros of the last one.
func TestCutKeepsZeros(t *testing.T) {
	d := rings(600, 1)
	cfg := DefaultConfig()
	cfg.Epochs, cfg.Batch = 6, 32
	n := ringNet(t, d, 1)
	ctx, stop := context.WithCancel(t.Context())
	var steps []int
	tr := &Trainer{Net: n, Config: cfg, Train: d, Val: d, Before: func(step, of int) {
		steps = append(steps, step)
		if step == 30 {
			if of != 6*19 {
				t.Errorf("%d steps", of)
			}
			n.Params()[0].prune(0.5)
			n.Params()[0].KeepZeros()
			stop()
		}
	}}
	if err := tr.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if len(steps) != 31 || steps[0] != 0 || steps[30] != 30 {
		t.Errorf("steps %v", steps)
	}
	c := 0
	for _, w := range n.Params()[0].W {
		if w == 0 {
			c++
		}
	}
	if c != 16 {
		t.Errorf("%d zeros of 32", c)
	}
}
