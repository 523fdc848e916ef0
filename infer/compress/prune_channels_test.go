package compress

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"edgegateway/infer/model"
)

// setZero makes those elements of a constant 0 that lie at these places of a
// dimension.
func setZero(t *rapid.T, c *model.Tensor, dim int, at []int) {
	v, err := c.Floats()
	if err != nil {
		t.Fatal(err)
	}
	inner := 1
	for _, d := range c.Shape[dim+1:] {
		inner *= d
	}
	for i := range v {
		if slices.Contains(at, i/inner%c.Shape[dim]) {
			v[i] = 0
		}
	}
	c.Buffer = model.FloatBytes(v)
}

// someUnits draws channels that may go, at least one of each family staying.
func someUnits(t *rapid.T, u *units) (gone []int, of int) {
	score, err := u.scores()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range u.families(score) {
		of += len(f.units)
		n := rapid.IntRange(0, len(f.units)-1).Draw(t, "gone of a family")
		units := slices.Clone(f.units)
		slices.Sort(units)
		gone = append(gone, rapid.Permutation(units).Draw(t, "which")[:n]...)
	}
	return gone, of
}

// Channels that are 0, or that nobody listens to, change nothing when they go:
// whatever was added, concatenated, flattened or multiplied behind them.
func TestChannelsOfZeroGo(t *testing.T) {
	removed := 0
	rapid.Check(t, func(t *rapid.T) {
		made := rapid.Bool().Draw(t, "zero where they are made")
		m := drawGraph(t, made)
		g := m.Main()
		u := followUnits(g)
		gone, of := someUnits(t, u)
		if len(gone) == 0 {
			return
		}
		expect := map[int]int{}
		for i := range g.Ops {
			op := &g.Ops[i]
			if !weighted(g, op) {
				continue
			}
			w, out, in := &g.Tensors[op.Inputs[1]], u.of[op.Outputs[0]], u.of[op.Inputs[0]]
			var outs, ins []int
			for c, unit := range out {
				if slices.Contains(gone, unit) {
					outs = append(outs, c)
				}
			}
			last := len(w.Shape) - 1
			for c := range w.Shape[last] {
				if slices.Contains(gone, in[c%len(in)]) {
					ins = append(ins, c)
				}
			}
			expect[i] = len(out) - len(outs)
			switch {
			case made && op.Code == "DEPTHWISE_CONV_2D":
				setZero(t, w, 3, outs)
				setZero(t, &g.Tensors[op.Inputs[2]], 0, outs)
			case made:
				setZero(t, w, 0, outs)
				setZero(t, &g.Tensors[op.Inputs[2]], 0, outs)
			case op.Code != "DEPTHWISE_CONV_2D":
				setZero(t, w, last, ins)
			}
		}
		cfg := DefaultPrune()
		cfg.Pattern, cfg.Least, cfg.Sparsity = "channels", 1, float64(len(gone))/float64(of)
		small, report, err := Prune(m, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range report.Layers {
			if l.Channels[1] != expect[l.Op] {
				t.Errorf("op %d %s has %d channels of %d, want %d", l.Op, l.Code, l.Channels[1], l.Channels[0], expect[l.Op])
			}
		}
		removed += len(gone)
		a, b := write(t, m), write(t, small)
		if was, now := parameters(t, a), parameters(t, b); now >= was {
			t.Errorf("%d parameters, before %d", now, was)
		}
		for _, on := range []string{"builtin", "xnnpack:0"} {
			agree, err := Compare(t.Context(), a, b, [2]string{on, on}, "", Structured{N: 2, Seed: 1})
			if err != nil {
				t.Fatal(on, err)
			}
			if agree.Largest > 1e-5*max(agree.Range, 1) {
				t.Errorf("%s: differs by %v of a range of %v", on, agree.Largest, agree.Range)
			}
		}
	})
	if removed == 0 {
		t.Error("no channel was removed")
	}
}

func parameters(t *rapid.T, file []byte) int {
	m, err := model.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return m.Inspect().Parameters
}

func write(t interface{ Fatal(...any) }, m *model.Model) []byte {
	file, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Whatever is asked for, what comes out loads, and has no more multiply-adds
// than were asked for.
func TestChannelsToATarget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawGraph(t, false)
		cfg := DefaultPrune()
		cfg.Pattern, cfg.Least = "channels", 1
		cfg.Scope = rapid.SampledFrom(Scopes).Draw(t, "scope")
		cfg.Multiple = rapid.IntRange(1, 3).Draw(t, "multiple")
		if rapid.Bool().Draw(t, "multiply-adds") {
			cfg.MACs = rapid.Float64Range(0.01, 0.99).Draw(t, "share")
		} else {
			cfg.Sparsity = rapid.Float64Range(0, 0.99).Draw(t, "share")
		}
		small, report, err := Prune(m, cfg)
		if err != nil {
			return // it says that so few are out of reach
		}
		if cfg.MACs > 0 && float64(report.MACs[1]) > cfg.MACs*float64(report.MACs[0]) {
			t.Errorf("%d multiply-adds of %d are left, not %v", report.MACs[1], report.MACs[0], cfg.MACs)
		}
		if again := macs(small.Main()); again != report.MACs[1] {
			t.Errorf("the model has %d multiply-adds, the report %d", again, report.MACs[1])
		}
		file := write(t, small)
		for _, on := range []string{"builtin", "xnnpack:0"} {
			if _, err := Compare(t.Context(), file, file, [2]string{"builtin", on}, "", Structured{N: 1, Seed: 1}); err != nil {
				t.Fatal(on, err)
			}
		}
	})
}
