package model

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrEdgeTPU is wrapped by Check's error where a model was compiled for the
// Edge TPU.
var ErrEdgeTPU = errors.New("compiled for the Edge TPU, which no CPU can run")

// Notice is something about a model that is no reason to refuse it.
type Notice struct {
	Text string
	// BuiltinOnly: XNNPACK would refuse the model, so only the built-in
	// kernels are worth a try.
	BuiltinOnly bool
}

// Check refuses by name what the runtime would compute wrongly, in most cases
// as zeros without an error, or would refuse in words that help nobody. It
// judges for the CPU: the error wraps ErrEdgeTPU where only that stands in the
// way, and CheckAccelerated leaves that out.
func (m *Model) Check() error {
	if m.EdgeTPU() {
		return fmt.Errorf("it holds the operator %s: %w; use the file that it was compiled from, or give it an Edge TPU", edgeTPUOp, ErrEdgeTPU)
	}
	return m.CheckAccelerated()
}

// CheckAccelerated is Check for a model that an Edge TPU is to run.
func (m *Model) CheckAccelerated() error {
	if m.Version != 3 {
		return fmt.Errorf("format version %d: the runtime reads version 3; convert the model again", m.Version)
	}
	var problems []error
	for gi := range m.Subgraphs {
		g := &m.Subgraphs[gi]
		for i := range g.Tensors {
			if err := g.Tensors[i].check(); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", m.tensorName(gi, i), err))
			}
		}
		for i := range g.Ops {
			if err := g.checkOp(&g.Ops[i]); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", m.opName(gi, i), err))
			}
		}
		problems = append(problems, g.checkOrder(func(op int) string { return m.opName(gi, op) })...)
	}
	return firstFew(append(problems, m.checkCalls()...))
}

// Notices are what is worth saying of a model that Check takes.
func (m *Model) Notices() []Notice {
	var list []Notice
	for gi := range m.Subgraphs {
		g := &m.Subgraphs[gi]
		for i := range g.Tensors {
			t := &g.Tensors[i]
			zeros := 0
			for _, s := range t.Quant.Scale {
				if s == 0 {
					zeros++
				}
			}
			if zeros > 0 && t.Constant() && (t.Type == Int8 || t.Type == Uint8) {
				list = append(list, Notice{
					Text: fmt.Sprintf("%s has %d of %d channel scales at 0 (all weights pruned): XNNPACK refuses it, the built-in kernels run it; write scale 1 for a channel of zeros",
						m.tensorName(gi, i), zeros, len(t.Quant.Scale)),
					BuiltinOnly: true,
				})
			}
		}
		for i := range g.Ops {
			if why := g.misshapen(&g.Ops[i]); why != "" {
				list = append(list, Notice{
					Text:        fmt.Sprintf("%s: %s: XNNPACK would write over other memory, the built-in kernels work the shape out; convert the model again", m.opName(gi, i), why),
					BuiltinOnly: true,
				})
			}
		}
		for _, i := range g.dead() {
			list = append(list, Notice{
				Text:        fmt.Sprintf("%s: nobody takes its answer: XNNPACK would end the process, the built-in kernels run it; convert the model again", m.opName(gi, i)),
				BuiltinOnly: true,
			})
		}
	}
	return list
}

// BuiltinOnly says why XNNPACK must not have the model, "" where it may.
func (m *Model) BuiltinOnly() string {
	for _, n := range m.Notices() {
		if n.BuiltinOnly {
			return n.Text
		}
	}
	return ""
}

// check judges a tensor by itself.
func (t *Tensor) check() error {
	switch {
	case t.Type == Int4:
		return errors.New("int4 values: this runtime has no kernels for them; convert with int8 weights")
	case t.Type.Bits() == 0 && t.Type != String && t.Type != Resource && t.Type != Variant, t.Type == BFloat16:
		return fmt.Errorf("%s values: unknown to this runtime; convert with float32 or int8", t.Type)
	}
	if err := t.checkSize(); err != nil {
		return err
	}
	if err := t.checkQuant(); err != nil {
		return err
	}
	if t.Constant() && t.Sparsity != nil {
		if _, err := t.Dense(); err != nil {
			return fmt.Errorf("its sparse values cannot be unpacked: %w; convert the model again", err)
		}
	}
	if t.Constant() && t.Sparsity == nil && t.Type.Bits() > 0 {
		n := t.Elements()
		if want := n * t.Type.Bits() / 8; n < 0 || want != len(t.Buffer) {
			return fmt.Errorf("its shape %v of %s takes %d bytes, the file holds %d; convert the model again", t.Shape, t.Type, want, len(t.Buffer))
		}
	}
	return nil
}

// checkQuant judges scales, zero points and the dimension they follow.
func (t *Tensor) checkQuant() error {
	q := t.Quant
	if len(q.Scale) == 0 {
		return nil
	}
	if len(q.ZeroPoint) != len(q.Scale) {
		return fmt.Errorf("%d scales but %d zero points: this runtime refuses that; convert the model again", len(q.Scale), len(q.ZeroPoint))
	}
	for _, s := range q.Scale {
		if s < 0 || math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
			return fmt.Errorf("a quantization scale of %v: no value can be read by it; convert the model again", s)
		}
	}
	if len(t.Shape) > 0 && (q.Dim < 0 || q.Dim >= len(t.Shape)) {
		return fmt.Errorf("quantized_dimension is %d but its shape %v has dimensions 0 to %d only: this runtime refuses that; convert the model again with a newer converter, which writes 0 here", q.Dim, t.Shape, len(t.Shape)-1)
	}
	if q.PerChannel() && len(t.Shape) > 0 && t.Shape[q.Dim] != len(q.Scale) {
		return fmt.Errorf("%d scales for the %d slices of dimension %d; convert the model again", len(q.Scale), t.Shape[q.Dim], q.Dim)
	}
	return nil
}

// perChannelOps are the operators for which this runtime knows more than one
// scale, and those that only move or unpack bytes. All others compute with the
// single scale of a tensor, which is 0 where there are several: they answer
// zeros, and no error.
var perChannelOps = []string{
	"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "CONV_3D_TRANSPOSE",
	"DEQUANTIZE", "DENSIFY", "RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS",
	"GATHER", "GATHER_ND", "SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "PACK", "UNPACK", "SHAPE",
}

// checkOp judges a builtin operator with the tensors it takes.
func (g *Subgraph) checkOp(op *Op) error {
	if op.Custom {
		return nil
	}
	for i := range op.Inputs {
		t := g.tensor(op, i)
		if t == nil {
			continue
		}
		if t.Type == Float16 && t.Constant() && !slices.Contains([]string{"DEQUANTIZE", "DENSIFY", "RESHAPE"}, op.Code) {
			return fmt.Errorf("float16 weights %q without a DEQUANTIZE between: this runtime refuses them; convert with float16 as a post-training quantization, which writes DEQUANTIZE, or with float32", t.Name)
		}
		if t.Sparsity != nil && op.Code != "DENSIFY" && (op.Code != "FULLY_CONNECTED" || t.Type != Float32) {
			return fmt.Errorf("sparse %s weights %q directly on it: this runtime reads them as if they were dense, and answers zeros or crashes; put a DENSIFY between, or store them dense", t.Type, t.Name)
		}
		if t.Quant.PerChannel() && t.Type.Bits() <= 16 && !slices.Contains(perChannelOps, op.Code) {
			return g.perChannelError(op, t)
		}
	}
	if err := op.checkWindow(); err != nil {
		return err
	}
	for _, check := range []func(*Op) error{g.checkTypes, g.checkShape, g.checkWeights, g.checkMultipliers} {
		if err := check(op); err != nil {
			return err
		}
	}
	return nil
}

func (g *Subgraph) perChannelError(op *Op, t *Tensor) error {
	hybrid, way := "", "convert with one scale for the tensor"
	if in := g.tensor(op, 0); in != nil && in.Type == Float32 {
		hybrid = " under a float32 input (hybrid)"
	}
	if op.Code == "FULLY_CONNECTED" {
		way = "convert with _experimental_disable_per_channel_quantization_for_dense_layers = True"
	}
	return fmt.Errorf("per-channel %s weights %q (%d scales)%s: this runtime answers zeros; %s, or with float32 or float16 weights", t.Type, t.Name, len(t.Quant.Scale), hybrid, way)
}

// firstFew is one error of the first problems, and counts the others.
func firstFew(problems []error) error {
	const few = 2
	switch n := len(problems); {
	case n == 0:
		return nil
	case n == 1:
		return problems[0]
	case n <= few:
		return fmt.Errorf("%w; %w", problems[0], problems[1])
	default:
		return fmt.Errorf("%w; %w; and %d more", problems[0], problems[1], n-few)
	}
}

// tensorName is `tensor 7 "conv/weights"`, with the subgraph behind the first.
func (m *Model) tensorName(g, i int) string {
	return fmt.Sprintf("tensor %d %q%s", i, m.Subgraphs[g].Tensors[i].Name, behindFirst(g))
}

// opName is `op 3 FULLY_CONNECTED`, with the subgraph behind the first.
func (m *Model) opName(g, i int) string {
	return fmt.Sprintf("op %d %s%s", i, m.Subgraphs[g].Ops[i].Code, behindFirst(g))
}

func behindFirst(g int) string {
	if g == 0 {
		return ""
	}
	return fmt.Sprintf(" of subgraph %d", g)
}
