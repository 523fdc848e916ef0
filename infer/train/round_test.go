package train

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func setWeights(n *Network, w []float32) {
	at := 0
	for _, p := range n.Params() {
		at += copy(p.W, w[at:])
	}
}

// Two steps of gradient descent with a pull, against a step with it (which
// stands where it began, and feels none) and one without, moved by hand.
func TestPull(t *testing.T) {
	d := rings(200, 1)
	cfg := DefaultConfig()
	cfg.Optimizer = OptimizerConfig{Kind: "sgd", Rate: 0.1, Schedule: "constant"}
	cfg.Batch, cfg.Epochs = d.Len(), 2
	net := func() *Network {
		n, err := New(Spec{[]LayerSpec{{Type: "dense", Units: 16, Activation: "tanh"}, {Type: "dense", Activation: "softmax"}}}, d.Shape, 2, 3)
		if err != nil {
			t.Fatal(err)
		}
		n.Norm = d.LearnNorm()
		return n
	}
	const mu = 3
	pulled := net()
	start := weightsOf(pulled)
	run(t, &Trainer{Net: pulled, Config: cfg, Train: d, Pull: mu})

	free := net()
	cfg.Epochs = 1
	run(t, &Trainer{Net: free, Config: cfg, Train: d, Pull: mu})
	first := weightsOf(free)
	run(t, &Trainer{Net: free, Config: cfg, Train: d})
	moved := 0.0
	for i, w := range weightsOf(free) {
		want := w - 0.1*mu*(first[i]-start[i])
		if got := weightsOf(pulled)[i]; math.Abs(float64(got-want)) > 1e-5 {
			t.Fatalf("weight %d: %v, want %v", i, got, want)
		}
		moved = max(moved, math.Abs(float64(want-w)))
	}
	if moved < 1e-3 {
		t.Errorf("the pull moved no weight by more than %v", moved)
	}
	for _, bad := range []float64{-1, math.NaN(), math.Inf(1)} {
		if err := (&Trainer{Net: net(), Config: cfg, Train: d, Pull: bad}).Run(context.Background()); err == nil || !strings.Contains(err.Error(), "pull") {
			t.Errorf("a pull of %v: %v", bad, err)
		}
	}
}

// A network that was trained before gives the same as a new one, once it has
// the same weights and forgot.
func TestForget(t *testing.T) {
	d := rings(300, 1)
	for _, o := range []OptimizerConfig{{Kind: "adam", Rate: 0.01, Schedule: "constant"}, {Kind: "sgd", Rate: 0.1, Momentum: 0.9, Schedule: "constant"}} {
		cfg := DefaultConfig()
		cfg.Optimizer, cfg.Epochs, cfg.Batch = o, 2, 32
		fresh, used := ringNet(t, d, 1), ringNet(t, d, 1)
		start := weightsOf(fresh)
		run(t, &Trainer{Net: fresh, Config: cfg, Train: d})
		run(t, &Trainer{Net: used, Config: cfg, Train: rings(100, 7)})
		if slices.Equal(weightsOf(fresh), weightsOf(used)) {
			t.Fatal("other data gave the same weights")
		}
		setWeights(used, start)
		used.Forget()
		run(t, &Trainer{Net: used, Config: cfg, Train: d})
		if !slices.Equal(weightsOf(fresh), weightsOf(used)) {
			t.Errorf("%s remembers", o.Kind)
		}
	}
}

func TestNetworkEvaluate(t *testing.T) {
	d, val := rings(500, 1), rings(300, 2)
	cfg := DefaultConfig()
	cfg.Epochs = 3
	tr := run(t, &Trainer{Net: ringNet(t, d, 1), Config: cfg, Train: d, Val: val})
	loss, accuracy, err := tr.Net.Evaluate(val)
	if l, a := tr.evaluate(val); err != nil || loss != l || accuracy != a {
		t.Errorf("%v %v %v, the trainer says %v %v", loss, accuracy, err, l, a)
	}
	wide := &Dataset{Name: "wide", Shape: Shape{3}, Values: []float32{1, 2, 3}, Labels: []int32{0}, Classes: []string{"a"}}
	if _, _, err := tr.Net.Evaluate(wide); err == nil {
		t.Error("inputs of another shape are judged")
	}
}

// What is held out once stays so in a longer recording, is about the share,
// and shares neither group nor reading with the rest.
func TestHoldOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 400).Draw(t, "n")
		share := rapid.Float64Range(0, 0.9).Draw(t, "share")
		seed := rapid.Uint64().Draw(t, "seed")
		d := &Dataset{Shape: Shape{1}, Values: make([]float32, n)}
		kind := rapid.SampledFrom([]string{"places", "groups", "windows"}).Draw(t, "kind")
		for i := range n {
			switch kind {
			case "groups":
				d.Groups = append(d.Groups, int32(i/rapid.IntRange(1, 9).Draw(t, "group")))
			case "windows":
				d.Spans = append(d.Spans, Span{Source: int32(i % 2), From: int64(i * 5), To: int64(i*5 + 19)})
			}
		}
		rest, held, err := d.HoldOut(share, seed)
		if err != nil {
			t.Fatal(err)
		}
		if kind != "windows" && len(rest)+len(held) != n {
			t.Fatalf("%d and %d of %d", len(rest), len(held), n)
		}
		for _, h := range held {
			for _, r := range rest {
				if h == r || d.Groups != nil && d.Groups[h] == d.Groups[r] {
					t.Fatalf("%d and %d are in both", h, r)
				}
				if d.Spans != nil && d.Spans[h].Source == d.Spans[r].Source && d.Spans[h].From <= d.Spans[r].To && d.Spans[r].From <= d.Spans[h].To {
					t.Fatalf("windows %d and %d share readings", h, r)
				}
			}
		}
		m := rapid.IntRange(1, n).Draw(t, "shorter")
		short := *d
		short.Values = d.Values[:m]
		if d.Groups != nil {
			short.Groups = d.Groups[:m]
		}
		if d.Spans != nil {
			short.Spans = d.Spans[:m]
		}
		_, before, _ := short.HoldOut(share, seed)
		for _, h := range before {
			if !slices.Contains(held, h) {
				t.Fatalf("sample %d of %d is held out, of %d it is not", h, m, n)
			}
		}
	})
	d := &Dataset{Shape: Shape{1}, Values: make([]float32, 10000)}
	for seed := range uint64(20) {
		if _, held, _ := d.HoldOut(0.2, seed); len(held) < 1800 || len(held) > 2200 {
			t.Errorf("seed %d: %d of 10000 are a fifth", seed, len(held))
		}
	}
	for _, bad := range []float64{-0.1, 1, math.NaN()} {
		if _, _, err := d.HoldOut(bad, 1); err == nil {
			t.Errorf("a share of %v is taken", bad)
		}
	}
}
