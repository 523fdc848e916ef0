package compress

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"pgregory.net/rapid"

	"edgegateway/infer/model"
)

// drawing builds a graph of random operators; weights come from a seed.
type drawing struct {
	t    *rapid.T
	r    *rand.Rand
	m    *model.Model
	live []int // tensors that may be taken
	// zeros says that a channel of zeros stays one on its way: no constant is
	// added, and no operator makes something of 0.
	zeros bool
}

func newDrawing(t *rapid.T, zeros bool, in ...int) *drawing {
	d := &drawing{t: t, r: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "weights"), 1)), zeros: zeros}
	d.m = &model.Model{Version: 3, Subgraphs: []model.Subgraph{{Name: "main"}}}
	x := d.value(in...)
	d.g().Inputs = []int{x}
	d.live = []int{x}
	return d
}

func (d *drawing) g() *model.Subgraph { return d.m.Main() }

func (d *drawing) value(shape ...int) int {
	return d.g().Add(model.Tensor{Name: fmt.Sprint("t", len(d.g().Tensors)), Type: model.Float32, Shape: shape})
}

func (d *drawing) floats(scale float64, shape ...int) int {
	v := make([]float32, elements(shape))
	for i := range v {
		v[i] = float32(scale * d.r.NormFloat64())
	}
	i := d.value(shape...)
	d.g().Tensors[i].Buffer = model.FloatBytes(v)
	return i
}

func (d *drawing) ints(v ...int32) int {
	return d.g().Add(model.Tensor{Name: fmt.Sprint("i", len(d.g().Tensors)), Type: model.Int32, Shape: []int{len(v)}, Buffer: model.Int32Bytes(v...)})
}

func (d *drawing) op(code string, options any, out []int, in ...int) int {
	o := d.value(out...)
	d.g().Ops = append(d.g().Ops, model.Op{Code: code, Version: 1, Inputs: in, Outputs: []int{o}, Builtin: options})
	d.live = append(d.live, o)
	return o
}

func (d *drawing) shape(t int) []int { return d.g().Tensors[t].Shape }

func (d *drawing) activation() model.Activation {
	return rapid.SampledFrom([]model.Activation{model.NoActivation, model.Relu, model.Relu6}).Draw(d.t, "fused")
}

// window is the size of what a kernel of k gives.
func window(size, k, stride int, same bool) int {
	if same {
		return (size + stride - 1) / stride
	}
	return (size-k)/stride + 1
}

func (d *drawing) conv(x, filters, k, stride int, same bool) int {
	s := d.shape(x)
	o := &model.Conv2DOptions{StrideW: int32(stride), StrideH: int32(stride), DilationWFactor: 1, DilationHFactor: 1, FusedActivationFunction: d.activation(), Padding: model.Valid}
	if same {
		o.Padding = model.Same
	}
	return d.op("CONV_2D", o, []int{1, window(s[1], k, stride, same), window(s[2], k, stride, same), filters},
		x, d.floats(0.5, filters, k, k, s[3]), d.floats(0.5, filters))
}

func (d *drawing) dense(x, units int) int {
	s := d.shape(x)
	return d.op("FULLY_CONNECTED", &model.FullyConnectedOptions{FusedActivationFunction: d.activation()}, []int{1, units},
		x, d.floats(0.5, units, elements(s)), d.floats(0.5, units))
}

// layer appends a random operator that takes a picture.
func (d *drawing) layer() {
	var pictures []int
	for _, t := range d.live {
		if len(d.shape(t)) == 4 {
			pictures = append(pictures, t)
		}
	}
	x := pictures[len(pictures)-1]
	if rapid.IntRange(0, 3).Draw(d.t, "from") == 0 {
		x = rapid.SampledFrom(pictures).Draw(d.t, "picture")
	}
	s := d.shape(x)
	k, stride, same := rapid.IntRange(1, min(3, s[1], s[2])).Draw(d.t, "kernel"), 1, rapid.Bool().Draw(d.t, "same")
	if k > 1 {
		stride = rapid.IntRange(1, 2).Draw(d.t, "stride")
	}
	pad := model.Valid
	if same {
		pad = model.Same
	}
	like := func(axes ...int) (list []int) { // others with the same sizes there
		for _, t := range pictures {
			if !slices.ContainsFunc(axes, func(a int) bool { return d.shape(t)[a] != s[a] }) {
				list = append(list, t)
			}
		}
		return list
	}
	out := func(k int) []int { return []int{1, window(s[1], k, stride, same), window(s[2], k, stride, same), s[3]} }
	kinds := []string{"conv", "conv", "depthwise", "add", "residual", "concat", "pool", "pad", "relu", "mul", "squeeze"}
	if !d.zeros {
		kinds = append(kinds, "shift", "logistic")
	}
	switch rapid.SampledFrom(kinds).Draw(d.t, "operator") {
	case "conv":
		d.conv(x, rapid.IntRange(1, 6).Draw(d.t, "filters"), k, stride, same)
	case "depthwise":
		o := &model.DepthwiseConv2DOptions{StrideW: int32(stride), StrideH: int32(stride), DilationWFactor: 1, DilationHFactor: 1, DepthMultiplier: 1, FusedActivationFunction: d.activation(), Padding: pad}
		d.op("DEPTHWISE_CONV_2D", o, out(k), x, d.floats(0.5, 1, k, k, s[3]), d.floats(0.5, s[3]))
	case "add":
		y := rapid.SampledFrom(like(1, 2, 3)).Draw(d.t, "other")
		d.op("ADD", &model.AddOptions{PotScaleInt16: true, FusedActivationFunction: d.activation()}, s, x, y)
	case "residual":
		y := d.conv(x, s[3], k, 1, true)
		d.op("ADD", &model.AddOptions{PotScaleInt16: true, FusedActivationFunction: d.activation()}, s, y, x)
	case "concat":
		y := rapid.SampledFrom(like(1, 2)).Draw(d.t, "other")
		if n := s[3] + d.shape(y)[3]; n <= 24 {
			d.op("CONCATENATION", &model.ConcatenationOptions{Axis: int32(rapid.SampledFrom([]int{3, -1}).Draw(d.t, "axis"))}, []int{1, s[1], s[2], n}, x, y)
		}
	case "pool":
		o := &model.Pool2DOptions{Padding: pad, StrideW: int32(stride), StrideH: int32(stride), FilterWidth: int32(k), FilterHeight: int32(k)}
		d.op(rapid.SampledFrom([]string{"MAX_POOL_2D", "AVERAGE_POOL_2D"}).Draw(d.t, "pool"), o, out(k), x)
	case "pad":
		if s[1] < 9 {
			by := d.ints(0, 0, 1, 0, 0, 1, 0, 0)
			d.g().Tensors[by].Shape = []int{4, 2}
			d.op("PAD", nil, []int{1, s[1] + 1, s[2] + 1, s[3]}, x, by)
		}
	case "relu":
		d.op("RELU", nil, s, x)
	case "mul":
		d.op("MUL", &model.MulOptions{}, s, x, d.floats(1, rapid.SampledFrom([]int{1, s[3]}).Draw(d.t, "factors")))
	case "squeeze": // and excite: one factor a channel, of what is computed
		y := d.op("MEAN", &model.ReducerOptions{KeepDims: true}, []int{1, 1, 1, s[3]}, x, d.ints(1, 2))
		d.op("MUL", &model.MulOptions{}, s, x, d.conv(y, s[3], 1, 1, true))
	case "shift":
		d.op("ADD", &model.AddOptions{PotScaleInt16: true}, s, x, d.floats(1, 1, 1, 1, s[3]))
	case "logistic":
		d.op("LOGISTIC", nil, s, x)
	}
}

// drawGraph draws a network of pictures, its end dense.
func drawGraph(t *rapid.T, zeros bool) *model.Model {
	size := rapid.IntRange(3, 8).Draw(t, "size")
	d := newDrawing(t, zeros, 1, size, size, rapid.IntRange(1, 3).Draw(t, "colours"))
	d.conv(d.live[0], rapid.IntRange(2, 6).Draw(t, "filters"), 3, 1, true)
	for range rapid.IntRange(0, 8).Draw(t, "layers") {
		d.layer()
	}
	x := d.live[len(d.live)-1]
	s := d.shape(x)
	switch rapid.SampledFrom([]string{"mean", "flatten", "straight", "pixels"}).Draw(t, "end") {
	case "mean":
		x = d.op("MEAN", &model.ReducerOptions{}, []int{1, s[3]}, x, d.ints(1, 2))
	case "flatten":
		n := int32(elements(s))
		x = d.op("RESHAPE", &model.ReshapeOptions{NewShape: []int32{1, n}}, []int{1, int(n)}, x, d.ints(1, n))
	case "pixels": // and back again
		n := s[1] * s[2]
		x = d.op("RESHAPE", &model.ReshapeOptions{}, []int{1, n * s[3]}, x, d.ints(-1, int32(n*s[3])))
		x = d.op("RESHAPE", &model.ReshapeOptions{}, []int{1, n, s[3]}, x, d.ints(1, int32(n), int32(s[3])))
		x = d.op("MEAN", &model.ReducerOptions{}, []int{1, s[3]}, x, d.ints(1))
	}
	for range rapid.IntRange(0, 2).Draw(t, "dense layers") {
		x = d.dense(x, rapid.IntRange(1, 8).Draw(t, "units"))
	}
	x = d.dense(x, rapid.IntRange(1, 4).Draw(t, "outputs"))
	d.g().Outputs = []int{x}
	d.m.Tidy()
	return d.m
}
