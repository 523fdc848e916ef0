package train

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"edgegateway/infer/model"
)

// sketch draws small graphs of operators, with weights at random.
type sketch struct {
	exporter
	r *rand.Rand
}

func newSketch(in Shape, seed uint64) (s *sketch, at int) {
	s = &sketch{r: rand.New(rand.NewPCG(seed, 9))}
	s.m = &model.Model{Version: 3, Subgraphs: []model.Subgraph{{Name: "main"}}}
	at = s.value("input", in)
	s.graph().Inputs = []int{at}
	return s, at
}

func (s *sketch) shape(at int) Shape { return s.graph().Tensors[at].Shape[1:] }

func (s *sketch) random(name string, shape ...int) int {
	v := random(s.r, product(shape))
	for i := range v {
		v[i] *= 0.5
	}
	return s.constant(name, v, shape...)
}

func (s *sketch) conv(at, filters, kh, kw, sh, sw int, same bool, act model.Activation) int {
	in := s.shape(at)
	g := grid{kh: kh, kw: kw, sh: sh, sw: sw, same: same}
	if err := g.fit(in, "conv"); err != nil {
		return at
	}
	pad := model.Valid
	if same {
		pad = model.Same
	}
	return s.op("CONV_2D", 1, &model.Conv2DOptions{Padding: pad, StrideH: int32(sh), StrideW: int32(sw), DilationHFactor: 1, DilationWFactor: 1, FusedActivationFunction: act},
		"conv", Shape{g.oh, g.ow, filters}, at, s.random("weights", filters, kh, kw, in[2]), s.random("bias", filters))
}

func (s *sketch) depthwise(at, many, kernel, stride int, act model.Activation) int {
	in := s.shape(at)
	g := square(kernel, stride, true)
	if err := g.fit(in, "depthwise"); err != nil {
		return at
	}
	c := in[2] * many
	return s.op("DEPTHWISE_CONV_2D", 1, &model.DepthwiseConv2DOptions{Padding: model.Same, StrideH: int32(stride), StrideW: int32(stride), DepthMultiplier: int32(many), DilationHFactor: 1, DilationWFactor: 1, FusedActivationFunction: act},
		"depthwise", Shape{g.oh, g.ow, c}, at, s.random("weights", 1, kernel, kernel, c), s.random("bias", c))
}

func (s *sketch) dense(at, units int, keep bool) int {
	in := s.shape(at)
	wide, out := product(in), Shape{units}
	if keep {
		wide, out = in[len(in)-1], append(slices.Clone(in[:len(in)-1]), units)
	}
	return s.op("FULLY_CONNECTED", 1, &model.FullyConnectedOptions{KeepNumDims: keep}, "dense", out, at, s.random("weights", units, wide), s.random("bias", units))
}

func (s *sketch) binary(code string, a, b int, act model.Activation) int {
	from := a
	if s.graph().Tensors[a].Constant() {
		from = b
	}
	out := s.shape(from)
	options := map[string]any{"ADD": &model.AddOptions{FusedActivationFunction: act}, "SUB": &model.SubOptions{FusedActivationFunction: act}, "MUL": &model.MulOptions{FusedActivationFunction: act}}[code]
	return s.op(code, 1, options, code, out, a, b)
}

func (s *sketch) concat(axis int, in ...int) int {
	out := slices.Clone(s.shape(in[0]))
	for _, at := range in[1:] {
		out[axis-1] += s.shape(at)[axis-1]
	}
	return s.op("CONCATENATION", 1, &model.ConcatenationOptions{Axis: int32(axis)}, "concat", out, in...)
}

func (s *sketch) pad(at int, by ...int32) int {
	out := slices.Clone(s.shape(at))
	for d := range out {
		out[d] += int(by[2*d] + by[2*d+1])
	}
	all := append([]int32{0, 0}, by...)
	to := s.graph().Add(model.Tensor{Name: "by", Type: model.Int32, Shape: []int{len(all) / 2, 2}, Buffer: model.Int32Bytes(all...)})
	return s.op("PAD", 1, nil, "pad", out, at, to)
}

func (s *sketch) pool(code string, at, kh, kw, sh, sw int) int {
	g := grid{kh: kh, kw: kw, sh: sh, sw: sw}
	if err := g.fit(s.shape(at), "pool"); err != nil {
		return at
	}
	return s.op(code, 1, &model.Pool2DOptions{Padding: model.Valid, StrideH: int32(sh), StrideW: int32(sw), FilterHeight: int32(kh), FilterWidth: int32(kw)}, "pool", Shape{g.oh, g.ow, g.c}, at)
}

func (s *sketch) mean(at int) int {
	axes := s.graph().Add(model.Tensor{Name: "axes", Type: model.Int32, Shape: []int{2}, Buffer: model.Int32Bytes(1, 2)})
	return s.op("MEAN", 1, &model.ReducerOptions{}, "mean", Shape{s.shape(at)[2]}, at, axes)
}

func (s *sketch) tanh(at int) int { return s.op("TANH", 1, nil, "tanh", s.shape(at), at) }

// end makes these values the graph's outputs. Names are made one of each.
func (s *sketch) end(out ...int) *model.Model {
	s.graph().Outputs = out
	for i := range s.graph().Tensors {
		s.graph().Tensors[i].Name += string(rune('a'+i%26)) + string(rune('a'+i/26%26))
	}
	s.m.Tidy()
	return s.m
}

var none = model.NoActivation

// graphs are small models with all that a row of layers has not. The first
// layer of each learns, so that gradients by its weights have gone through all.
var graphs = []struct {
	name string
	in   Shape
	draw func(s *sketch, x int) *model.Model
}{
	{"residual", Shape{4, 5, 2}, func(s *sketch, x int) *model.Model {
		a := s.conv(x, 3, 3, 3, 1, 1, true, none)
		b := s.binary("ADD", a, s.conv(s.tanh(s.conv(a, 3, 3, 3, 1, 1, true, none)), 3, 1, 1, 1, 1, true, none), none)
		return s.end(s.dense(s.mean(s.tanh(b)), 2, false))
	}},
	{"residual around a block", Shape{6, 6, 2}, func(s *sketch, x int) *model.Model {
		a := s.tanh(s.conv(x, 3, 3, 3, 2, 2, true, none))
		b := s.binary("ADD", s.conv(a, 4, 1, 1, 1, 1, true, none), s.depthwise(s.conv(a, 4, 3, 3, 1, 1, true, none), 1, 3, 1, none), none)
		c := s.binary("ADD", b, s.conv(b, 4, 1, 1, 1, 1, true, none), none)
		return s.end(s.dense(s.reshape("flat", c, product(s.shape(c))), 2, false))
	}},
	{"concatenation of channels", Shape{3, 4, 2}, func(s *sketch, x int) *model.Model {
		a := s.conv(x, 2, 3, 3, 1, 1, true, none)
		b, c := s.conv(a, 3, 1, 1, 1, 1, true, none), s.depthwise(a, 2, 3, 1, none)
		return s.end(s.dense(s.mean(s.tanh(s.concat(3, b, a, c, a))), 2, false))
	}},
	{"concatenation of rows and columns", Shape{3, 4, 2}, func(s *sketch, x int) *model.Model {
		a := s.conv(x, 2, 3, 3, 1, 1, true, none)
		b := s.concat(2, s.concat(1, a, s.tanh(a)), s.concat(1, s.conv(a, 2, 1, 1, 1, 1, true, none), a))
		return s.end(s.dense(s.reshape("flat", b, product(s.shape(b))), 2, false))
	}},
	{"padding of rows, columns and channels", Shape{4, 3, 2}, func(s *sketch, x int) *model.Model {
		a := s.conv(x, 2, 3, 3, 1, 1, true, none)
		p := s.pad(a, 1, 0, 0, 2, 1, 2)
		return s.end(s.dense(s.mean(s.binary("ADD", s.tanh(s.conv(p, 5, 2, 2, 1, 1, false, none)), s.conv(p, 5, 2, 2, 1, 1, false, none), none)), 3, false))
	}},
	{"values subtracted, multiplied, doubled", Shape{6}, func(s *sketch, x int) *model.Model {
		a := s.dense(x, 5, false)
		b, c := s.tanh(s.dense(a, 5, false)), s.dense(a, 5, false)
		return s.end(s.binary("ADD", s.binary("MUL", s.binary("SUB", b, c, none), a, none), s.binary("ADD", a, a, none), none))
	}},
	{"constants", Shape{3, 2, 2}, func(s *sketch, x int) *model.Model {
		a := s.conv(x, 2, 1, 1, 1, 1, true, none)
		a = s.binary("ADD", a, s.random("channel", 2), none)
		a = s.binary("MUL", s.random("whole", 1, 3, 2, 2), a, none)
		a = s.binary("SUB", a, s.random("columns", 1, 2, 1), none)
		a = s.binary("SUB", s.random("one"), a, none)
		a = s.binary("MUL", a, s.random("rows", 3, 1, 1), none)
		return s.end(s.dense(s.reshape("flat", a, 12), 2, false))
	}},
	{"kernels and steps of two lengths", Shape{9, 5, 2}, func(s *sketch, x int) *model.Model {
		a := s.conv(x, 3, 4, 2, 2, 1, true, none)
		a = s.pool("AVERAGE_POOL_2D", a, 3, 2, 1, 2)
		a = s.conv(a, 2, 1, 2, 1, 1, false, none)
		return s.end(s.dense(s.reshape("flat", a, product(s.shape(a))), 2, false))
	}},
	{"kernels of one channel", Shape{6, 6, 1}, func(s *sketch, x int) *model.Model {
		a := s.depthwise(x, 4, 3, 2, none)
		return s.end(s.dense(s.mean(s.tanh(s.depthwise(a, 2, 2, 1, none))), 2, false))
	}},
	{"a pool over all", Shape{4, 3, 2}, func(s *sketch, x int) *model.Model {
		a := s.pool("AVERAGE_POOL_2D", s.tanh(s.conv(x, 3, 2, 2, 1, 1, true, none)), 4, 3, 4, 3)
		return s.end(s.dense(s.reshape("flat", a, 3), 2, false))
	}},
	{"dense along rows", Shape{3, 4}, func(s *sketch, x int) *model.Model {
		a := s.dense(x, 5, true)
		return s.end(s.dense(s.tanh(a), 2, true))
	}},
	{"two outputs", Shape{5}, func(s *sketch, x int) *model.Model {
		a := s.dense(x, 4, false)
		b := s.tanh(a)
		return s.end(s.dense(b, 3, false), b, s.dense(a, 2, false))
	}},
}

// Graphs answer as the runtime does, and all their gradients are those of the
// loss.
func TestGraphs(t *testing.T) {
	for _, c := range graphs {
		t.Run(c.name, func(t *testing.T) {
			s, x := newSketch(c.in, 4)
			m := c.draw(s, x)
			n := imported(t, m)
			r := rand.New(rand.NewPCG(7, 8))
			b := &batch{n: 4, x: random(r, 4*product(c.in))}
			near(t, n.Predict(b.x, 4), answers(t, m, b.x, 4), 1e-5)
			for range b.n * product(n.Out) {
				b.targets = append(b.targets, float32(r.NormFloat64()))
			}
			graphGradients(t, n, b)
		})
	}
}

// graphGradients holds gradients by parameters against numeric differences.
func graphGradients(t *testing.T, n *Network, b *batch) {
	t.Helper()
	upTo := len(n.layers)
	value := func() float64 {
		z := n.forward(b.x, b.n, upTo, true)
		return lossOf("mse", z, make([]float32, len(z)), b)
	}
	for range 2 { // the second time over buffers that are full
		z := n.forward(b.x, b.n, upTo, true)
		dz := make([]float32, len(z))
		lossOf("mse", z, dz, b)
		n.backward(dz, b.n, upTo)
	}
	r := rand.New(rand.NewPCG(5, 6))
	for _, p := range n.Params() {
		for range 30 {
			i := r.IntN(len(p.W))
			old, h := p.W[i], float32(1e-2)
			p.W[i] = old + h
			up := value()
			p.W[i] = old - h
			down := value()
			p.W[i] = old
			if want, got := (up-down)/(2*float64(h)), float64(p.G[i]); math.Abs(want-got) > 2e-3+0.02*math.Abs(want) {
				t.Fatalf("%s[%d]: gradient %v, numeric %v", p.Name, i, got, want)
			}
		}
	}
}

// The gradient of relu passes where it let its value pass, and nowhere else.
func TestKinks(t *testing.T) {
	for _, v := range []float32{0, 1e-45, 1e-38, 1, 5.9999995, 6} {
		for kind, want := range map[string]bool{"relu": v > 0, "relu6": v > 0 && v < 6} {
			l := &activation{kind: kind, width: 1}
			l.forward([]float32{v}, 1, true)
			if got := l.backward([]float32{-3}, 1, true)[0]; got != map[bool]float32{true: -3}[want] {
				t.Errorf("%s at %v: %v", kind, v, got)
			}
		}
	}
}
