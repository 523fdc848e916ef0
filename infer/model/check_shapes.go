package model

import (
	"errors"
	"fmt"
	"slices"

	"edgegateway/infer/model/internal/schema"
)

// shapely are operators whose output has as many elements as their first input.
var shapely = []string{"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "TANH", "RELU", "RELU6", "RELU_N1_TO_1",
	"LEAKY_RELU", "PRELU", "ELU", "GELU", "HARD_SWISH", "ABS", "NEG", "EXP", "LOG", "SIN", "COS", "SQRT", "RSQRT", "SQUARE", "FLOOR", "CEIL", "ROUND",
	"QUANTIZE", "DEQUANTIZE", "CAST", "L2_NORMALIZATION", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "DENSIFY"}

// broadcast are those of two inputs whose output is as large as the larger one.
var broadcast = []string{"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW"}

// misshapen says by which shape an operator and its output in the file do not
// fit, "" where they do, or a size is open. The built-in kernels work shapes out
// anew; XNNPACK believes the file, and writes over memory of others.
func (g *Subgraph) misshapen(op *Op) string {
	if op.Custom || len(op.Outputs) == 0 || len(op.Inputs) == 0 {
		return ""
	}
	out := &g.Tensors[op.Outputs[0]]
	in, second := g.tensor(op, 0), g.tensor(op, 1)
	if !out.settled() || !in.settled() {
		return ""
	}
	unfit := func() string {
		return fmt.Sprintf("its output %q is %v in the file, which does not fit its input %v", out.Name, out.Shape, in.Shape)
	}
	switch {
	case slices.Contains(shapely, op.Code):
		if in.Elements() != out.Elements() {
			return unfit()
		}
	case slices.Contains(broadcast, op.Code):
		if second.settled() && !slices.Equal(unpadded(broadcasted(in.Shape, second.Shape)), unpadded(out.Shape)) {
			return fmt.Sprintf("its output %q is %v in the file, its inputs %v and %v", out.Name, out.Shape, in.Shape, second.Shape)
		}
	case op.Code == "FULLY_CONNECTED" && second.settled() && len(second.Shape) == 2:
		if inner := second.Shape[1]; inner < 1 || in.Elements()%inner != 0 || in.Elements()/inner*second.Shape[0] != out.Elements() {
			return unfit()
		}
	case len(in.Shape) == 4 && len(out.Shape) == 4:
		window, ok := op.window(second)
		if !ok {
			return ""
		}
		for d := range 2 {
			if in.Shape[0] != out.Shape[0] || window.size(in.Shape[1+d], d) != out.Shape[1+d] {
				return unfit()
			}
		}
		if second != nil && len(second.Shape) == 4 && out.Shape[3] != second.Shape[window.channels] || window.channels < 0 && out.Shape[3] != in.Shape[3] {
			return unfit()
		}
	}
	return ""
}

// settled says whether the file gives a tensor's shape for good, but for the
// number of samples.
func (t *Tensor) settled() bool {
	return t != nil && len(t.Shape) > 0 && t.Elements() >= 0 && !slices.Contains(t.ShapeSignature[min(1, len(t.ShapeSignature)):], -1)
}

// unpadded is a shape without leading dimensions of 1.
func unpadded(shape []int) []int {
	for len(shape) > 0 && shape[0] == 1 {
		shape = shape[1:]
	}
	return shape
}

// broadcasted is the shape of two shapes joined from their ends.
func broadcasted(a, b []int) []int {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	for i := range b {
		if k := len(a) - len(b) + i; out[k] == 1 {
			out[k] = b[i]
		}
	}
	return out
}

// window is what a convolution or a pool moves over a picture.
type window struct {
	same     bool
	stride   [2]int // rows, columns
	reach    [2]int // of the window, with its dilation
	channels int    // dimension of the weights along which the outputs are; -1: there are no weights
}

func (op *Op) window(weights *Tensor) (w window, ok bool) {
	var dilation [2]int
	switch o := op.Builtin.(type) {
	case *Conv2DOptions:
		w = window{same: o.Padding == Same, stride: [2]int{int(o.StrideH), int(o.StrideW)}}
		dilation = [2]int{int(o.DilationHFactor), int(o.DilationWFactor)}
	case *DepthwiseConv2DOptions:
		w = window{same: o.Padding == Same, stride: [2]int{int(o.StrideH), int(o.StrideW)}, channels: 3}
		dilation = [2]int{int(o.DilationHFactor), int(o.DilationWFactor)}
	case *schema.Pool2DOptionsT:
		return window{same: o.Padding == Same, stride: [2]int{int(o.StrideH), int(o.StrideW)}, reach: [2]int{int(o.FilterHeight), int(o.FilterWidth)}, channels: -1}, true
	default:
		return w, false
	}
	if weights == nil || len(weights.Shape) != 4 {
		return w, false
	}
	for d := range 2 {
		w.reach[d] = (weights.Shape[1+d]-1)*dilation[d] + 1
	}
	return w, true
}

// size is how many steps fit into n rows (d 0) or columns (d 1).
func (w window) size(n, d int) int {
	s := max(w.stride[d], 1)
	if w.same {
		return (n + s - 1) / s
	}
	return (n - w.reach[d] + s) / s
}

// dead gives the operators whose answer nobody takes.
func (g *Subgraph) dead() (list []int) {
	taken := make([]bool, len(g.Tensors))
	take := func(tensors []int) {
		for _, i := range tensors {
			if i >= 0 {
				taken[i] = true
			}
		}
	}
	take(g.Outputs)
	for i := range g.Ops {
		take(g.Ops[i].Inputs)
	}
	for i := range g.Ops {
		if op := &g.Ops[i]; len(op.Outputs) > 0 && !slices.ContainsFunc(op.Outputs, func(o int) bool { return taken[o] || g.Tensors[o].Variable }) {
			list = append(list, i)
		}
	}
	return list
}

// source follows a tensor back through operators that keep its shape.
func (g *Subgraph) source(t int) int {
	for range g.Ops {
		p := g.Producer(t)
		if p < 0 || len(g.Ops[p].Inputs) == 0 || g.Ops[p].Inputs[0] < 0 || !slices.Contains([]string{"QUANTIZE", "DEQUANTIZE", "CAST"}, g.Ops[p].Code) {
			return t
		}
		t = g.Ops[p].Inputs[0]
	}
	return t
}

// lstmGates are the inputs that an LSTM has whatever its form: of the forget,
// cell and output gates, and its two states.
var lstmGates = []int{0, 2, 3, 4, 6, 7, 8, 13, 14, 15, 18, 19}

// checkShape refuses inputs by whose shape, or number, a kernel ends the
// process.
func (g *Subgraph) checkShape(op *Op) error {
	in := g.tensor(op, 0)
	if _, ok := op.window(g.tensor(op, 1)); ok && in != nil {
		for _, i := range append([]int{op.Inputs[0]}, g.Inputs...) {
			if t := &g.Tensors[i]; len(t.Shape) > 0 && t.Elements() == 0 {
				return fmt.Errorf("its input %q is %v, which holds nothing; convert the model again", t.Name, t.Shape)
			}
		}
	}
	if to := g.tensor(op, 1); op.Code == "RESHAPE" && to != nil && to.Type != Int32 {
		return fmt.Errorf("its shape %q is %s: this runtime takes int32; convert the model again", to.Name, to.Type)
	}
	if op.Code != "UNIDIRECTIONAL_SEQUENCE_LSTM" || op.Custom {
		return nil
	}
	for _, i := range lstmGates {
		if g.tensor(op, i) == nil {
			return fmt.Errorf("its input %d is left out, and no LSTM is without it; convert the model again", i)
		}
	}
	if a, b := g.tensor(op, 1) != nil, g.tensor(op, 12) != nil; a != b || a != (g.tensor(op, 5) != nil) {
		return errors.New("its input gate is there in part; convert the model again")
	}
	if t := &g.Tensors[g.source(op.Inputs[0])]; len(t.Shape) > 0 && (len(t.Shape) < 2 || len(t.Shape) > 3) {
		return fmt.Errorf("its input %q is %v: this runtime takes samples of steps of values; convert the model again", t.Name, t.Shape)
	}
	if out, state := &g.Tensors[op.Outputs[0]], g.tensor(op, 18); in.Type != out.Type || in.Type != state.Type {
		return fmt.Errorf("its input is %s, its output %s and its state %s: this runtime takes one type; convert the model again", in.Type, out.Type, state.Type)
	}
	return nil
}

// wordly are operators that also take texts; all others compute numbers.
var wordly = []string{"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "GATHER", "GATHER_ND", "SLICE", "STRIDED_SLICE", "PACK", "UNPACK", "CONCATENATION", "SHAPE",
	"SPLIT", "TILE", "SELECT", "SELECT_V2", "FILL", "TRANSPOSE", "EQUAL", "NOT_EQUAL", "DYNAMIC_UPDATE_SLICE", "BROADCAST_TO", "LSH_PROJECTION"}

// checkTypes refuses tensors that are no numbers, or float16, where neither can
// be computed with.
func (g *Subgraph) checkTypes(op *Op) error {
	if _, known := needed[op.Code]; !known || len(op.Outputs) == 0 {
		return nil
	}
	words := slices.Contains(wordly, op.Code)
	for _, i := range slices.Concat(op.Inputs, op.Outputs) {
		if i >= 0 && g.Tensors[i].Type.Bits() == 0 && !words {
			return fmt.Errorf("%q is %s: it computes numbers; convert the model again", g.Tensors[i].Name, g.Tensors[i].Type)
		}
		if i >= 0 && g.Tensors[i].Type == Float16 && !words && !slices.Contains([]string{"DEQUANTIZE", "DENSIFY", "CAST"}, op.Code) {
			return fmt.Errorf("%q is float16: this runtime computes with float32; convert the model again", g.Tensors[i].Name)
		}
	}
	in, out := g.tensor(op, 0), &g.Tensors[op.Outputs[0]]
	if op.Code == "TRANSPOSE_CONV" {
		in = g.tensor(op, 2)
	}
	if in == nil {
		return nil
	}
	_, weighs := linearOps[op.Code]
	weighs = weighs || op.Code == "BATCH_MATMUL"
	changes := slices.Contains([]string{"QUANTIZE", "DEQUANTIZE", "CAST", "DENSIFY", "SOFTMAX"}, op.Code) || !slices.Contains(shapely, op.Code)
	if op.Code == "SOFTMAX" && in.Type != out.Type && ((in.Type != Int8 && in.Type != Uint8) || out.Type != Int16) || weighs && (in.Type == Float32) != (out.Type == Float32) || weighs && out.Type.Bits() == 64 || weighs && out.Type == Bool || !changes && in.Type != out.Type {
		return fmt.Errorf("it gives %q of %s from %q of %s, which it cannot; convert the model again", out.Name, out.Type, in.Name, in.Type)
	}
	return nil
}
