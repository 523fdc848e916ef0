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
		cfg.Pattern, cfg.Least, cfg.Multiple, cfg.Sparsity = "channels", 1, 1, float64(len(gone))/float64(of)
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

// reachable says of a model whether it can be pruned at all, and so far.
func reachable(t *rapid.T, m *model.Model, cfg PruneConfig) bool {
	u := followUnits(m.Main())
	score, err := u.scores()
	if err != nil {
		t.Fatal(err)
	}
	var gone []int
	for _, f := range u.families(score) {
		least := min(max((1+cfg.Multiple-1)/cfg.Multiple*cfg.Multiple, cfg.Least), len(f.units))
		gone = append(gone, f.units[least:]...)
	}
	return float64(macs(u.shaped(u.without(gone)))) <= cfg.MACs*float64(macs(m.Main()))
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
		job := PruneJob{Config: cfg, Samples: Structured{N: 3, Seed: 1}}
		small, report, err := job.Run(t.Context(), m)
		if rapid.Bool().Draw(t, "by weights alone") {
			small, report, err = Prune(m, cfg)
		}
		if err != nil {
			if none := followUnits(m.Main()).families(make([]float64, 1<<16)); len(none) == 0 {
				return
			}
			if cfg.MACs == 0 || reachable(t, m, cfg) {
				t.Fatal(err)
			}
			return
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

// valid is a network of two convolutions with VALID padding and two dense
// layers, of 8 channels and units each.
func valid(t *rapid.T) *drawing {
	d := newDrawing(t, false, 1, 9, 9, 2)
	x := d.conv(d.live[0], 8, 3, 1, false)
	x = d.op("MAX_POOL_2D", &model.Pool2DOptions{Padding: model.Valid, StrideW: 2, StrideH: 2, FilterWidth: 2, FilterHeight: 2}, []int{1, 3, 3, 8}, x)
	x = d.conv(x, 8, 2, 1, false)
	x = d.op("RESHAPE", &model.ReshapeOptions{NewShape: []int32{1, 32}}, []int{1, 32}, x, d.ints(1, 32))
	x = d.dense(d.dense(x, 8), 3)
	d.g().Outputs = []int{x}
	return d
}

// What is constant goes into a bias, and what another channel says as well goes
// into that one's weights: the answers stay.
func TestOthersTakeOver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := valid(t)
		g := d.g()
		twins := rapid.Bool().Draw(t, "twins, not constants")
		for i := range g.Ops {
			op := &g.Ops[i]
			if !weighted(g, op) || isLast(g, i) {
				continue
			}
			w, _, per := weightsOf(t, d.m, i)
			b, err := g.Tensors[op.Inputs[2]].Floats()
			if err != nil {
				t.Fatal(err)
			}
			for c := range 2 { // of 8
				if twins {
					copy(w[c*per:(c+1)*per], w[(c+2)*per:])
					b[c] = b[c+2]
				} else {
					clear(w[c*per : (c+1)*per])
				}
			}
			g.Tensors[op.Inputs[1]].Buffer, g.Tensors[op.Inputs[2]].Buffer = model.FloatBytes(w), model.FloatBytes(b)
		}
		cfg := DefaultPrune()
		cfg.Pattern, cfg.Scope, cfg.Multiple, cfg.Sparsity = "channels", "layer", 1, 0.25
		data := Structured{N: 400, Seed: 2}
		small, report, err := PruneJob{Config: cfg, Samples: data}.Run(t.Context(), d.m)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range report.Layers[:3] {
			if l.Channels != [2]int{8, 6} {
				t.Errorf("op %d has %v channels", l.Op, l.Channels)
			}
		}
		a, err := Compare(t.Context(), write(t, d.m), write(t, small), [2]string{}, "", data)
		if err != nil {
			t.Fatal(err)
		}
		if a.MeanAbs > 0.01*a.Range+1e-5 {
			t.Errorf("differs by %v of a range of %v", a.MeanAbs, a.Range)
		}
	})
}
