package train

import (
	"errors"
	"fmt"
	"math"

	"edgegateway/infer/model"
)

// Export gives the trained network as a float .tflite model: batch norm folded
// into the layer before it, dropout gone, the normalisation of inputs as the
// first operators, labels in the metadata. Its outputs agree with Predict
// within 1e-5 of their range.
func (n *Network) Export(description string, labels []string) (*model.Model, error) {
	m, _, err := n.export(description, labels)
	return m, err
}

// ExportAware is Export for a network of quantization-aware training, with the
// ranges of its values by the names of their tensors.
func (n *Network) ExportAware(description string, labels []string) (*model.Model, map[string]Range, error) {
	return n.export(description, labels)
}

func (n *Network) export(description string, labels []string) (*model.Model, map[string]Range, error) {
	e := exporter{ranges: map[string]Range{}, m: &model.Model{Version: 3, Description: description, Subgraphs: []model.Subgraph{{Name: "main"}}}}
	at := e.value("input", n.In)
	e.graph().Inputs = []int{at}
	if err := e.network(n, at); err != nil {
		return nil, nil, err
	}
	e.m.Adapt() // what a runtime may compute wrongly is written in another way
	return e.m, e.ranges, e.labels(labels)
}

// network appends all of n to the tensor at, and makes its answer the model's.
func (e *exporter) network(n *Network, at int) error {
	g, first := e.graph(), at
	if n.origin != nil {
		return errors.New("the network was made from a model: Model gives it, with its own operators, not Export")
	}
	if !n.fromBlack() {
		at = e.normalise(at, n.In, n.Norm)
	}
	for i := 0; i < len(n.layers); i++ {
		var err error
		if at, i, err = e.layer(n, i, at); err != nil {
			return err
		}
	}
	if at == first {
		return errors.New("the network computes nothing: there is nothing to export")
	}
	if r, ok := e.ranges[g.Tensors[at].Name]; ok {
		e.ranges["output"] = r
	}
	g.Tensors[at].Name = "output"
	g.Outputs = []int{at}
	return nil
}

func (e *exporter) labels(labels []string) error {
	if len(labels) == 0 {
		return nil
	}
	return e.m.SetLabels(labels)
}

// exporter appends operators to a graph.
type exporter struct {
	m      *model.Model
	prefix string // of the names of its tensors
	count  int
	ranges map[string]Range
}

func (e *exporter) graph() *model.Subgraph { return e.m.Main() }

// value adds a computed tensor for one sample.
func (e *exporter) value(name string, shape Shape) int {
	return e.graph().Add(model.Tensor{Name: e.prefix + name, Type: model.Float32, Shape: append([]int{1}, shape...)})
}

func (e *exporter) constant(name string, v []float32, shape ...int) int {
	return e.graph().Add(model.Tensor{Name: e.prefix + name, Type: model.Float32, Shape: shape, Buffer: model.FloatBytes(v)})
}

// op adds a step with one output.
func (e *exporter) op(code string, version int, options any, name string, out Shape, in ...int) int {
	at := e.value(name, out)
	g := e.graph()
	g.Ops = append(g.Ops, model.Op{Code: code, Version: version, Inputs: in, Outputs: []int{at}, Builtin: options})
	return at
}

// normalise is x * (1/std) + (-mean/std), which both kernels compute in two
// steps.
func (e *exporter) normalise(at int, in Shape, n *Norm) int {
	if n == nil {
		return at
	}
	scale, shift := make([]float32, len(n.Mean)), make([]float32, len(n.Mean))
	for i := range scale {
		scale[i] = float32(1 / float64(n.Std[i]))
		shift[i] = float32(-float64(n.Mean[i]))
	}
	// Minus the mean first: what is near it keeps its digits.
	at = e.op("ADD", 1, &model.AddOptions{PotScaleInt16: true}, "normalise/shift", in, at, e.constant("normalise/mean", shift, len(shift)))
	return e.op("MUL", 1, &model.MulOptions{}, "normalise", in, at, e.constant("normalise/scale", scale, len(scale)))
}

// reshape makes one row of a sample.
func (e *exporter) reshape(name string, at, size int) int {
	to := e.graph().Add(model.Tensor{Name: e.prefix + name + "/shape", Type: model.Int32, Shape: []int{2}, Buffer: model.Int32Bytes(1, int32(size))})
	return e.op("RESHAPE", 1, &model.ReshapeOptions{NewShape: []int32{1, int32(size)}}, name, Shape{size}, at, to)
}

// fused gives the activation that an operator can apply itself, and whether
// the layer at i is one.
func (n *Network) fused(i int) (model.Activation, bool) {
	if i < len(n.layers) {
		if a, ok := n.layers[i].(*activation); ok {
			switch a.kind {
			case "relu":
				return model.Relu, true
			case "relu6":
				return model.Relu6, true
			}
		}
	}
	return model.NoActivation, false
}

// linear is a layer's weights and bias with the batch norm behind it folded
// in, the activation behind that, and the index of the last layer consumed.
// channels is how far apart weights of one channel lie: 0 for [out, ...].
func (n *Network) linear(i int, w, b *Param, depthwise bool) (wt, bias []float32, act model.Activation, last int) {
	wt, bias = append([]float32(nil), w.W...), append([]float32(nil), b.W...)
	last = i
	if last+1 < len(n.layers) {
		if bn, ok := n.layers[last+1].(*batchNorm); ok {
			fold(wt, bias, bn, depthwise)
			last++
		}
	}
	act, ok := n.fused(last + 1)
	if ok {
		last++
	}
	return wt, bias, act, last
}

// fold multiplies batch norm into weights: w' = w gamma/sigma,
// b' = (b - mean) gamma/sigma + beta.
func fold(w, b []float32, bn *batchNorm, depthwise bool) {
	per := len(w) / len(b)
	for c := range b {
		a := float64(bn.gamma.W[c]) / math.Sqrt(float64(bn.vari.W[c])+normEpsilon)
		b[c] = float32((float64(b[c])-float64(bn.mean.W[c]))*a + float64(bn.beta.W[c]))
		for k := range per {
			i := c*per + k
			if depthwise {
				i = k*len(b) + c
			}
			w[i] = float32(float64(w[i]) * a)
		}
	}
}

// layer writes the layer at i, with those behind it that it takes in.
func (e *exporter) layer(n *Network, i, at int) (next, last int, err error) {
	name := fmt.Sprintf("%s_%d", n.names[i], e.count)
	e.count++
	pad := model.Valid
	switch l := n.layers[i].(type) {
	case *dense:
		w, b, act, last := n.linear(i, l.w, l.b, false)
		if i == n.takes() && n.fromBlack() { // (x+1)/2, which is how it learned
			for o := range b {
				sum := 0.0
				for j := range l.in {
					w[o*l.in+j] /= 2
					sum += float64(w[o*l.in+j])
				}
				b[o] += float32(sum)
			}
		}
		if n.OutNorm != nil && n.lastDense() == i {
			unscale(w, b, n.OutNorm)
		}
		at = e.op("FULLY_CONNECTED", 1, &model.FullyConnectedOptions{FusedActivationFunction: act}, name, Shape{l.units},
			at, e.constant(name+"/weights", w, l.units, l.in), e.constant(name+"/bias", b, l.units))
		return at, last, nil
	case *conv2d:
		w, b, act, last := n.linear(i, l.wt, l.b, false)
		if l.same {
			pad = model.Same
		}
		at = e.op("CONV_2D", 1, &model.Conv2DOptions{Padding: pad, StrideW: int32(l.sw), StrideH: int32(l.sh), DilationWFactor: 1, DilationHFactor: 1, FusedActivationFunction: act},
			name, Shape{l.oh, l.ow, l.filters}, at, e.constant(name+"/weights", w, l.wt.Shape...), e.constant(name+"/bias", b, l.filters))
		return at, last, nil
	case *depthwise:
		w, b, act, last := n.linear(i, l.wt, l.b, true)
		if l.same {
			pad = model.Same
		}
		at = e.op("DEPTHWISE_CONV_2D", 1, &model.DepthwiseConv2DOptions{Padding: pad, StrideW: int32(l.sw), StrideH: int32(l.sh), DepthMultiplier: 1, DilationWFactor: 1, DilationHFactor: 1, FusedActivationFunction: act},
			name, Shape{l.oh, l.ow, l.c}, at, e.constant(name+"/weights", w, l.wt.Shape...), e.constant(name+"/bias", b, l.c))
		return at, last, nil
	case *pool:
		if l.same {
			pad = model.Same
		}
		code := "AVERAGE_POOL_2D"
		if l.max {
			code = "MAX_POOL_2D"
		}
		return e.op(code, 1, &model.Pool2DOptions{Padding: pad, StrideW: int32(l.sw), StrideH: int32(l.sh), FilterWidth: int32(l.kw), FilterHeight: int32(l.kh)}, name, Shape{l.oh, l.ow, l.c}, at), i, nil
	case *globalPool:
		axes := e.graph().Add(model.Tensor{Name: e.prefix + name + "/axes", Type: model.Int32, Shape: []int{2}, Buffer: model.Int32Bytes(1, 2)})
		return e.op("MEAN", 1, &model.ReducerOptions{}, name, Shape{l.c}, at, axes), i, nil
	case *batchNorm: // with nothing before it to fold into
		a, b := make([]float32, l.c), make([]float32, l.c)
		for c := range a {
			a[c] = 1
		}
		fold(a, b, l, false)
		shape := Shape(e.graph().Tensors[at].Shape[1:])
		at = e.op("MUL", 1, &model.MulOptions{}, name+"/scale", shape, at, e.constant(name+"/gamma", a, l.c))
		return e.op("ADD", 1, &model.AddOptions{PotScaleInt16: true}, name, shape, at, e.constant(name+"/beta", b, l.c)), i, nil
	case flatten:
		shape := e.graph().Tensors[at].Shape
		if len(shape) == 2 {
			return at, i, nil
		}
		return e.reshape(name, at, product(shape)), i, nil
	case *observer:
		if l.seen() {
			r := Range{l.r.W[0], l.r.W[1]}
			if i < n.takes() && n.fromBlack() {
				r = Range{2*r.Low - 1, 2*r.High - 1}
			}
			if n.OutNorm != nil && n.lastDense() < i && n.lastDense() >= 0 {
				r = r.unscale(n.OutNorm)
			}
			e.ranges[e.graph().Tensors[at].Name] = r
		}
		return at, i, nil
	case *dropout:
		return at, i, nil
	case *activation:
		shape := Shape(e.graph().Tensors[at].Shape[1:])
		switch l.kind {
		case "softmax":
			return e.op("SOFTMAX", 1, &model.SoftmaxOptions{Beta: 1}, name, shape, at), i, nil
		case "sigmoid":
			return e.op("LOGISTIC", 1, nil, name, shape, at), i, nil
		case "tanh":
			return e.op("TANH", 1, nil, name, shape, at), i, nil
		case "relu":
			return e.op("RELU", 1, nil, name, shape, at), i, nil
		case "relu6":
			return e.op("RELU6", 1, nil, name, shape, at), i, nil
		}
	}
	return 0, i, fmt.Errorf("layer %s cannot be exported", name)
}

// lastDense is the index of the dense layer that gives normalised targets, -1
// without one.
func (n *Network) lastDense() int {
	for i := len(n.layers) - 1; i >= 0; i-- {
		if _, ok := n.layers[i].(*dense); ok && n.linearEnd() {
			return i
		}
	}
	return -1
}

// unscale makes a layer answer in the targets' units.
func unscale(w, b []float32, n *Norm) {
	per := len(w) / len(b)
	for i := range b {
		j := i % len(n.Mean)
		for k := range per {
			w[i*per+k] *= n.Std[j]
		}
		b[i] = b[i]*n.Std[j] + n.Mean[j]
	}
}

// unscale is the range of all targets that a normalised one stands for.
func (r Range) unscale(n *Norm) Range {
	out := Range{float32(math.Inf(1)), float32(math.Inf(-1))}
	for j, mean := range n.Mean {
		out.Low, out.High = min(out.Low, r.Low*n.Std[j]+mean), max(out.High, r.High*n.Std[j]+mean)
	}
	return out
}
