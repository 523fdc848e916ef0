package train

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"edgegateway/infer/model"
)

// drawGraph draws a small graph: every step takes values that are there, so
// that some are taken often and some go around others.
func drawGraph(t *rapid.T) *model.Model {
	shape := Shape{rapid.IntRange(1, 9).Draw(t, "features")}
	if rapid.Bool().Draw(t, "picture") {
		shape = Shape{rapid.IntRange(1, 7).Draw(t, "height"), rapid.IntRange(1, 7).Draw(t, "width"), rapid.IntRange(1, 3).Draw(t, "channels")}
	}
	s, x := newSketch(shape, rapid.Uint64().Draw(t, "weights"))
	all := []int{x}
	any := func(what string, ok func(Shape) bool) int {
		var fit []int
		for _, v := range all {
			if ok(s.shape(v)) {
				fit = append(fit, v)
			}
		}
		return rapid.SampledFrom(fit).Draw(t, what)
	}
	number := func(what string, from, to int) int { return rapid.IntRange(from, to).Draw(t, what) }
	fused := func() model.Activation {
		return rapid.SampledFrom([]model.Activation{model.NoActivation, model.Relu, model.Relu6}).Draw(t, "fused")
	}
	for range number("steps", 1, 9) {
		v := any("value", func(Shape) bool { return true })
		sh := s.shape(v)
		same := func(o Shape) bool {
			return len(o) == len(sh) && product(o) == product(sh) && o[len(o)-1] == sh[len(sh)-1] && o[0] == sh[0]
		}
		kinds := []string{"dense", "binary", "constant", "function", "concat", "residual"}
		if len(sh) == 3 {
			kinds = append(kinds, "conv", "conv", "depthwise", "depthwise", "pool", "pad", "mean")
		}
		switch rapid.SampledFrom(kinds).Draw(t, "kind") {
		case "dense":
			v = s.dense(v, number("units", 1, 6), rapid.Bool().Draw(t, "keep"))
		case "binary":
			v = s.binary(rapid.SampledFrom([]string{"ADD", "SUB", "MUL"}).Draw(t, "code"), v, any("other", same), fused())
		case "constant":
			c := s.random("constant", [][]int{{}, {sh[len(sh)-1]}, sh, append([]int{1}, sh...)}[number("spread", 0, 3)]...)
			if code := rapid.SampledFrom([]string{"ADD", "SUB", "MUL"}).Draw(t, "code"); rapid.Bool().Draw(t, "first") {
				v = s.binary(code, c, v, fused())
			} else {
				v = s.binary(code, v, c, fused())
			}
		case "function":
			v = s.op(rapid.SampledFrom([]string{"RELU", "RELU6", "TANH", "LOGISTIC"}).Draw(t, "function"), 1, nil, "function", sh, v)
		case "concat":
			axis := number("axis", 1, len(sh))
			other := any("other", func(o Shape) bool {
				ok := len(o) == len(sh)
				for d := range o {
					ok = ok && (d == axis-1 || o[d] == sh[d])
				}
				return ok
			})
			if product(sh)+product(s.shape(other)) < 600 {
				v = s.concat(axis, v, other, v)
			}
		case "residual":
			if len(sh) == 3 {
				v = s.binary("ADD", s.depthwise(v, 1, number("kernel", 1, 3), 1, fused()), v, fused())
			} else {
				v = s.binary("ADD", v, s.dense(v, sh[len(sh)-1], true), fused())
			}
		case "conv":
			v = s.conv(v, number("filters", 1, 4), number("kernel height", 1, 3), number("kernel width", 1, 3), number("down", 1, 3), number("across", 1, 3), rapid.Bool().Draw(t, "same"), fused())
		case "depthwise":
			v = s.depthwise(v, number("many", 1, 2), number("kernel", 1, 3), number("step", 1, 3), fused())
		case "pool":
			v = s.pool(rapid.SampledFrom([]string{"MAX_POOL_2D", "AVERAGE_POOL_2D"}).Draw(t, "pool"), v, number("kernel height", 1, 3), number("kernel width", 1, 3), number("down", 1, 3), number("across", 1, 3))
		case "pad":
			by := make([]int32, 6)
			for i := range by {
				by[i] = int32(number("by", 0, 2))
			}
			if product(sh) < 200 {
				v = s.pad(v, by...)
			}
		case "mean":
			v = s.mean(v)
		}
		all = append(all, v)
	}
	last := all[len(all)-1]
	if n := product(s.shape(last)); len(s.shape(last)) > 1 {
		last = s.reshape("flat", last, n)
	}
	out := s.dense(last, number("answers", 1, 4), false)
	switch rapid.SampledFrom([]string{"", "", "softmax", "two"}).Draw(t, "end") {
	case "softmax":
		out = s.op("SOFTMAX", 1, &model.SoftmaxOptions{Beta: 1}, "softmax", s.shape(out), out)
	case "two":
		return s.end(out, all[number("second", 1, len(all)-1)])
	}
	return s.end(out)
}

// Whatever graph is taken, a step of training changes it, and what Model gives
// answers in the runtime as the network does; weights of 0 are held.
func TestRandomGraphs(t *testing.T) {
	const wanted = 200
	trained, diverged := 0, 0
	for trained < wanted {
		rapid.Check(t, func(rt *rapid.T) {
			m := drawGraph(rt)
			if in := m.Main().Inputs[0]; len(m.Main().Consumers(in)) == 0 || m.Main().Producer(m.Main().Outputs[len(m.Main().Outputs)-1]) < 0 {
				return // a constant, or the input itself
			}
			n := imported(rt, m)
			d := &Dataset{Name: "random", Shape: n.In, Width: product(n.Out)}
			r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "data"), 1))
			d.Values = random(r, 6*product(n.In))
			soft := n.Final() == "softmax"
			for range 6 {
				for k := range d.Width {
					v := float32(r.NormFloat64())
					if soft {
						v = float32(2*(k+1)) / float32(d.Width*(d.Width+1))
					}
					d.Targets = append(d.Targets, v)
				}
			}
			want := answers(rt, m, d.Values, 6)
			near(rt, n.Predict(d.Values, 6), want, graphTolerance(want))
			for _, p := range n.Params() {
				if p.Decay && rapid.Bool().Draw(rt, "zeros") {
					p.prune(0.5)
					p.KeepZeros()
				}
			}
			zeros := countZeros(n)
			cfg := DefaultConfig()
			cfg.Epochs, cfg.Batch, cfg.Optimizer.Rate = 1, 3, 1e-3
			cfg.Optimizer.Kind = rapid.SampledFrom([]string{"adam", "adamw", "sgd"}).Draw(rt, "optimizer")
			if cfg.Optimizer.Kind == "sgd" {
				cfg.Optimizer.Rate = 1e-9
			}
			tr := &Trainer{Net: n, Config: cfg, Train: d, Relative: rapid.Bool().Draw(rt, "relative")}
			if err := tr.Run(t.Context()); errors.Is(err, ErrDiverged) {
				diverged++
				return
			} else if err != nil {
				rt.Fatal(err)
			}
			back, err := n.Model()
			if err != nil {
				rt.Fatal(err)
			}
			now := answers(rt, back, d.Values, 6)
			near(rt, n.Predict(d.Values, 6), now, graphTolerance(now))
			if countZeros(n) < zeros {
				rt.Fatalf("%d zeros, then %d", zeros, countZeros(n))
			}
			trained++
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d trained and run, %d diverged", trained, diverged)
	if diverged > trained/10 {
		t.Error("too many diverge")
	}
}

// graphTolerance is 1e-5 of the range, and wider for answers between 0 and 1,
// where a softmax makes much of the last digits of what it takes.
func graphTolerance(y []float32) float64 {
	for _, v := range y {
		if v < 0 || v > 1 {
			return 1e-5
		}
	}
	return 1e-3
}

func countZeros(n *Network) (zeros int) {
	for _, p := range n.Params() {
		for _, w := range p.W {
			if w == 0 && p.Decay && !math.Signbit(float64(w)) {
				zeros++
			}
		}
	}
	return zeros
}
