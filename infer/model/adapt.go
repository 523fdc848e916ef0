package model

import (
	"fmt"
	"slices"
)

// Adapt rewrites what this runtime would answer wrongly, where another form of
// the same computation is right: a FULLY_CONNECTED with per-channel int8
// weights, as today's converters write it, becomes a CONV_2D of 1x1 between
// RESHAPEs, which the runtime computes per channel; a convolution whose SAME
// padding leaves the last pixels out, which XNNPACK reads in another place, is
// padded by a PAD, where there is anything to pad. It says what it rewrote, nil
// where there was nothing.
func (m *Model) Adapt() (rewritten []string) {
	g := m.Main()
	for i := 0; i < len(g.Ops); i++ {
		if pad, ok := g.leavesPixelsOut(&g.Ops[i]); ok {
			rewritten = append(rewritten, fmt.Sprintf("%s with SAME padding leaves pixels out, which XNNPACK computes wrongly: it is padded before", m.opName(0, i)))
			i += g.padBefore(i, pad)
			continue
		}
		if !g.perChannelDense(&g.Ops[i]) {
			continue
		}
		name := m.opName(0, i)
		i += g.denseToConv(i)
		rewritten = append(rewritten, fmt.Sprintf("%s with per-channel weights is run as a 1x1 CONV_2D, which this runtime computes per channel", name))
	}
	if rewritten != nil {
		m.Tidy()
	}
	return rewritten
}

// Adapted is the model as this runtime takes it: the file as it is, or written
// again by Adapt, checked either way. data is the file that m was read from.
func (m *Model) Adapted(data []byte) (*Model, []byte, []string, error) {
	c := m.Clone()
	rewritten := c.Adapt()
	if rewritten == nil {
		return m, data, nil, m.Check()
	}
	written, err := c.Write()
	if err != nil {
		return nil, nil, nil, err
	}
	again, err := Read(written)
	return again, written, rewritten, err
}

// leavesPixelsOut says whether op is a convolution with SAME padding whose
// last step ends before the last row or column, as it may where the stride is
// larger than the kernel, and how many pixels are padded at the top, the bottom,
// the left and the right.
func (g *Subgraph) leavesPixelsOut(op *Op) (pad [4]int, ok bool) {
	var same bool
	var stride, dilation [2]int
	switch o := op.Builtin.(type) {
	case *Conv2DOptions:
		same, stride, dilation = o.Padding == Same, [2]int{int(o.StrideH), int(o.StrideW)}, [2]int{int(o.DilationHFactor), int(o.DilationWFactor)}
	case *DepthwiseConv2DOptions:
		same, stride, dilation = o.Padding == Same, [2]int{int(o.StrideH), int(o.StrideW)}, [2]int{int(o.DilationHFactor), int(o.DilationWFactor)}
	}
	if !same || op.Custom || len(op.Inputs) < 2 || len(op.Outputs) != 1 {
		return pad, false
	}
	in, w := g.tensor(op, 0), g.tensor(op, 1)
	if in == nil || w == nil || len(in.Shape) != 4 || len(w.Shape) != 4 || slices.Contains(in.ShapeSignature[min(1, len(in.ShapeSignature)):], -1) {
		return pad, false
	}
	for d := range 2 {
		size, kernel := in.Shape[1+d], max(dilation[d], 1)*(w.Shape[1+d]-1)+1
		if size < 1 || stride[d] < 1 || kernel < 1 {
			return pad, false
		}
		over := ((size+stride[d]-1)/stride[d]-1)*stride[d] + kernel - size
		ok = ok || over < 0 && kernel > 1
		pad[2*d], pad[2*d+1] = max(over, 0)/2, max(over, 0)-max(over, 0)/2
	}
	return pad, ok
}

// padBefore makes the padding of the convolution at index at VALID, after a PAD
// where there is something to pad, and gives how many more operators there are.
func (g *Subgraph) padBefore(at int, pad [4]int) int {
	op := &g.Ops[at]
	switch o := op.Builtin.(type) {
	case *Conv2DOptions:
		c := *o
		c.Padding, op.Builtin = Valid, &c
	case *DepthwiseConv2DOptions:
		c := *o
		c.Padding, op.Builtin = Valid, &c
	}
	if pad == [4]int{} {
		return 0
	}
	in := g.Tensors[op.Inputs[0]]
	by := []int32{0, 0, int32(pad[0]), int32(pad[1]), int32(pad[2]), int32(pad[3]), 0, 0}
	version := 1
	if in.Type != Float32 {
		version = 2
	}
	padded := g.Add(Tensor{
		Name: in.Name + "/padded", Type: in.Type, Quant: in.Quant,
		Shape: []int{in.Shape[0], in.Shape[1] + pad[0] + pad[1], in.Shape[2] + pad[2] + pad[3], in.Shape[3]},
	})
	before := Op{
		Code: "PAD", Version: version, Outputs: []int{padded},
		Inputs: []int{op.Inputs[0], g.Add(Tensor{Name: in.Name + "/padding", Type: Int32, Shape: []int{4, 2}, Buffer: Int32Bytes(by...)})},
	}
	op.Inputs = slices.Clone(op.Inputs)
	op.Inputs[0] = padded
	g.Insert(at, before)
	return 1
}

// perChannelDense says whether op is a dense layer that Check would refuse and
// denseToConv can rewrite.
func (g *Subgraph) perChannelDense(op *Op) bool {
	if op.Custom || op.Code != "FULLY_CONNECTED" || len(op.Inputs) < 2 || len(op.Outputs) != 1 {
		return false
	}
	in, w, out := g.tensor(op, 0), g.tensor(op, 1), &g.Tensors[op.Outputs[0]]
	if in == nil || w == nil || !w.Constant() || w.Type != Int8 || !w.Quant.PerChannel() || w.Sparsity != nil {
		return false
	}
	o, ok := op.Builtin.(*FullyConnectedOptions)
	rows := 0
	if len(w.Shape) == 2 && w.Shape[1] > 0 && in.Elements() > 0 && in.Elements()%w.Shape[1] == 0 {
		rows = in.Elements() / w.Shape[1]
	}
	return ok && o.WeightsFormat == 0 && rows > 0 && w.Quant.Dim == 0 && out.Elements() == rows*w.Shape[0] &&
		(in.Type == Int8 && out.Type == Int8 || in.Type == Float32 && out.Type == Float32)
}

// denseToConv rewrites the operator at index at and gives how many more there
// are now.
func (g *Subgraph) denseToConv(at int) int {
	op := g.Ops[at]
	o := op.Builtin.(*FullyConnectedOptions)
	in, w, out := g.Tensors[op.Inputs[0]], g.Tensors[op.Inputs[1]], g.Tensors[op.Outputs[0]]
	rows, inner, outer := in.Elements()/w.Shape[1], w.Shape[1], w.Shape[0]

	weights := w
	weights.Name, weights.Shape, weights.ShapeSignature = w.Name+"/conv", []int{outer, 1, 1, inner}, nil
	value := func(of Tensor, name string, shape ...int) int {
		return g.Add(Tensor{Name: of.Name + name, Type: of.Type, Shape: shape, Quant: of.Quant})
	}
	shape := func(name string, v ...int32) int {
		return g.Add(Tensor{Name: name, Type: Int32, Shape: []int{len(v)}, Buffer: Int32Bytes(v...)})
	}
	wide := value(in, "/4d", rows, 1, 1, inner)
	narrow := value(out, "/4d", rows, 1, 1, outer)
	to := make([]int32, len(out.Shape))
	for i, d := range out.Shape {
		to[i] = int32(d)
	}
	before := Op{
		Code: "RESHAPE", Version: 1, Inputs: []int{op.Inputs[0], shape(in.Name+"/4d/shape", int32(rows), 1, 1, int32(inner))}, Outputs: []int{wide},
		Builtin: &ReshapeOptions{NewShape: []int32{int32(rows), 1, 1, int32(inner)}},
	}
	conv := Op{
		Code: "CONV_2D", Version: 3, Inputs: slices.Clone(op.Inputs), Outputs: []int{narrow},
		Builtin: &Conv2DOptions{
			Padding: Valid, StrideW: 1, StrideH: 1, DilationWFactor: 1, DilationHFactor: 1,
			FusedActivationFunction: o.FusedActivationFunction,
		},
	}
	conv.Inputs[0], conv.Inputs[1] = wide, g.Add(weights)
	if len(conv.Inputs) < 3 || conv.Inputs[2] < 0 { // its kernel wants a bias
		b := Tensor{Name: w.Name + "/bias", Type: Float32, Shape: []int{outer}, Buffer: make([]byte, 4*outer)}
		if in.Type == Int8 {
			b.Type = Int32
			for _, s := range w.Quant.Scale {
				b.Quant.Scale = append(b.Quant.Scale, s*in.Quant.Scale[0])
			}
			b.Quant.ZeroPoint = make([]int64, outer)
		}
		conv.Inputs = append(conv.Inputs[:2], g.Add(b))
	}
	after := Op{
		Code: "RESHAPE", Version: 1, Inputs: []int{narrow, shape(out.Name+"/shape", to...)}, Outputs: op.Outputs,
		Builtin: &ReshapeOptions{NewShape: to},
	}
	g.Ops[at] = before
	g.Insert(at+1, conv, after)
	return 2
}
