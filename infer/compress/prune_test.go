package compress

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"edgegateway/infer/model"
)

// weightsOf are the weights of the operator at i as [out, all inputs].
func weightsOf(t *rapid.T, m *model.Model, i int) (w []float32, rows, cols int) {
	c := &m.Main().Tensors[m.Main().Ops[i].Inputs[1]]
	w, err := c.Floats()
	if err != nil {
		t.Fatal(err)
	}
	return w, c.Shape[0], len(w) / c.Shape[0]
}

// Exactly the share of blocks that was asked for is 0, each whole, and they are
// the smallest; nothing else has changed, and the runtime takes it.
func TestPrunedWeights(t *testing.T) {
	sizes := map[string][2]int{"unstructured": {1, 1}, "1x4": {1, 4}, "4x4": {4, 4}}
	rapid.Check(t, func(t *rapid.T) {
		m := drawGraph(t, false)
		cfg := DefaultPrune()
		cfg.Pattern = rapid.SampledFrom([]string{"unstructured", "1x4", "4x4"}).Draw(t, "pattern")
		cfg.Scope = rapid.SampledFrom(Scopes).Draw(t, "scope")
		cfg.Sparsity = rapid.Float64Range(0, 0.99).Draw(t, "sparsity")
		cfg.Last = rapid.Bool().Draw(t, "last")
		cfg.Depthwise = cfg.Pattern == "unstructured" && rapid.Bool().Draw(t, "depthwise")
		takes := false
		for i := range m.Main().Ops {
			takes = takes || whole(m.Main(), i, cfg) == ""
		}
		pruned, report, err := Prune(m, cfg)
		if err != nil && !takes {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		size := sizes[cfg.Pattern]
		blocks, zeros, layers, empty := 0, 0, 0, 0
		for _, l := range report.Layers {
			was, rows, cols := weightsOf(t, m, l.Op)
			now, _, _ := weightsOf(t, pruned, l.Op)
			if l.Whole != "" {
				if !slices.Equal(was, now) {
					t.Errorf("op %d is left whole (%s) and changed", l.Op, l.Whole)
				}
				continue
			}
			layer, gone := 0, 0
			most, least := 0.0, math.Inf(1) // of blocks that went and that stayed
			for r := 0; r < rows; r += size[0] {
				for c := 0; c < cols; c += size[1] {
					n, zero, same, sum := 0, 0, 0, 0.0
					for y := r; y < min(r+size[0], rows); y++ {
						for x := c; x < min(c+size[1], cols); x++ {
							v, p := was[y*cols+x], now[y*cols+x]
							n++
							sum += float64(v) * float64(v)
							if p == 0 {
								zero++
							}
							if p == v {
								same++
							}
						}
					}
					layer++
					sum /= float64(n)
					switch {
					case zero == n:
						gone++
						most = max(most, sum)
					case same == n:
						least = min(least, sum)
					default:
						t.Fatalf("op %d: of the block at %d, %d there are %d of %d weights 0 and %d as they were", l.Op, r, c, zero, n, same)
					}
				}
			}
			if most > least {
				t.Errorf("op %d: a block of mean square %v went, and one of %v stayed", l.Op, most, least)
			}
			if cfg.Scope == "layer" && gone != int(math.Round(cfg.Sparsity*float64(layer))) {
				t.Errorf("op %d: %d of %d blocks are 0 at %v", l.Op, gone, layer, cfg.Sparsity)
			}
			layers++
			if gone == layer {
				empty++
			}
			blocks, zeros = blocks+layer, zeros+gone
		}
		if cfg.Scope == "global" && empty > 0 && zeros <= blocks-layers {
			t.Errorf("%d of %d layers have lost all, with %d of %d blocks gone", empty, layers, zeros, blocks)
		}
		if cfg.Scope == "global" && zeros != int(math.Round(cfg.Sparsity*float64(blocks))) {
			t.Errorf("%d of %d blocks are 0 at %v", zeros, blocks, cfg.Sparsity)
		}
		file := write(t, pruned)
		if _, err := Compare(t.Context(), file, file, [2]string{"builtin", "xnnpack:0"}, "", Structured{N: 1, Seed: 1}); err != nil {
			t.Fatal(err)
		}
	})
}

// Two of each four are left, the larger ones.
func TestTwoOfFour(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawGraph(t, false)
		cfg := DefaultPrune()
		cfg.Pattern, cfg.Last = "2:4", true
		pruned, report, err := Prune(m, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range report.Layers {
			if l.Whole != "" {
				continue
			}
			was, rows, cols := weightsOf(t, m, l.Op)
			now, _, _ := weightsOf(t, pruned, l.Op)
			for r := range rows {
				for c := 0; c < cols; c += 4 {
					end := min(c+4, cols)
					a, b := was[r*cols+c:r*cols+end], now[r*cols+c:r*cols+end]
					size := slices.Clone(a)
					slices.SortFunc(size, func(a, b float32) int { return cmp.Compare(math.Abs(float64(a)), math.Abs(float64(b))) })
					zeros := 0
					for i := range b {
						if b[i] == 0 {
							zeros++
						} else if b[i] != a[i] || math.Abs(float64(a[i])) < math.Abs(float64(size[len(a)/2])) {
							t.Fatalf("op %d: %v became %v", l.Op, a, b)
						}
					}
					if zeros != len(a)/2 {
						t.Fatalf("op %d: %v became %v", l.Op, a, b)
					}
				}
			}
		}
	})
}

// A pruned model answers, bit by bit, as the same model with weights made 0 by
// hand.
func TestPruneByHand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawGraph(t, false)
		cfg := DefaultPrune()
		cfg.Scope, cfg.Last = "layer", true
		cfg.Sparsity = rapid.Float64Range(0, 0.99).Draw(t, "sparsity")
		pruned, _, err := Prune(m, cfg)
		if err != nil {
			t.Fatal(err)
		}
		hand := m.Clone()
		for i := range hand.Main().Ops {
			if code := hand.Main().Ops[i].Code; code != "CONV_2D" && code != "FULLY_CONNECTED" {
				continue
			}
			w, _, _ := weightsOf(t, hand, i)
			size := make([]float64, len(w))
			for k, v := range w {
				size[k] = math.Abs(float64(v))
			}
			slices.Sort(size)
			for k, v := range w {
				if n := int(math.Round(cfg.Sparsity * float64(len(w)))); n > 0 && math.Abs(float64(v)) <= size[n-1] {
					w[k] = 0
				}
			}
			hand.Main().Tensors[hand.Main().Ops[i].Inputs[1]].Buffer = model.FloatBytes(w)
		}
		a, err := Compare(t.Context(), write(t, pruned), write(t, hand), [2]string{}, "", Structured{N: 2, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if a.Largest != 0 {
			t.Errorf("differs by %v", a.Largest)
		}
	})
}

func TestPruneRefuses(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(*PruneConfig)
	}{
		{"pattern", `pattern "5x5" is none of`, func(c *PruneConfig) { c.Pattern = "5x5" }},
		{"scope", `scope "all" is none of`, func(c *PruneConfig) { c.Scope = "all" }},
		{"sparsity", "a sparsity of 1 is outside 0..1", func(c *PruneConfig) { c.Sparsity = 1 }},
		{"no number", "a sparsity of NaN", func(c *PruneConfig) { c.Sparsity = math.NaN() }},
		{"multiply-adds", "goes with pattern channels", func(c *PruneConfig) { c.MACs = 0.5 }},
		{"depthwise", "in pattern unstructured alone", func(c *PruneConfig) { c.Pattern, c.Depthwise = "1x4", true }},
		{"multiple", "in multiples of 0", func(c *PruneConfig) { c.Multiple = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultPrune()
			c.change(&cfg)
			if _, _, err := Prune(&model.Model{Subgraphs: make([]model.Subgraph, 1)}, cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	m, _ := sharedModel(t, "vww_96_int8.tflite")
	if _, _, err := Prune(m, DefaultPrune()); err == nil || !strings.Contains(err.Error(), "give the float model") {
		t.Error(err)
	}
	empty := &model.Model{Version: 3, Subgraphs: make([]model.Subgraph, 1)}
	for _, p := range Patterns {
		cfg := DefaultPrune()
		cfg.Pattern = p
		if _, _, err := Prune(empty, cfg); err == nil {
			t.Errorf("%s: a model without layers was pruned", p)
		}
	}
}

// The sparsity rises from the first to the last, steeply at the beginning.
func TestGradual(t *testing.T) {
	for _, c := range []struct {
		step int
		want float64
	}{{0, 0.5}, {10, 0.5}, {60, 0.85}, {110, 0.9}, {500, 0.9}} {
		if got := Gradual(0.5, 0.9, c.step, 10, 110); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("at step %d: %v, want %v", c.step, got, c.want)
		}
	}
}
