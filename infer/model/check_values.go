package model

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// largestTensor is the most bytes that one tensor may take: more is a damaged
// shape, and the runtime ends the process where it gets no memory.
const largestTensor = 1 << 30

// largestWeight is beyond every weight that a training ends with: with values
// of a few hundred millions its products leave the range of float32.
const largestWeight = 1e30

// linearOps are those whose second input are weights that values are multiplied
// by, and where their bias is.
var linearOps = map[string]int{"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3, "CONV_3D": 2}

// checkSize judges how much memory the tensor takes. Elements is -1 where a
// dimension is open, which the runtime settles, and where there are too many.
func (t *Tensor) checkSize() error {
	bytes := max(t.Type.Bits()/8, 1)
	for _, d := range t.Shape {
		if d < 0 {
			if d < -1 {
				return fmt.Errorf("its shape %v: a dimension cannot be negative; the file is damaged, or convert it again", t.Shape)
			}
			return nil
		}
	}
	if n := t.Elements(); n < 0 || n > largestTensor/bytes {
		return fmt.Errorf("its shape %v of %s takes more than %d MB; the file is damaged, or convert it again", t.Shape, t.Type, largestTensor>>20)
	}
	return nil
}

// checkWeights refuses float weights by which no answer is a number.
func (g *Subgraph) checkWeights(op *Op) error {
	bias, ok := linearOps[op.Code]
	if !ok {
		return nil
	}
	if w := g.tensor(op, 1); w != nil {
		if i, v := w.find(func(v float64) bool { return !(math.Abs(v) < largestWeight) }); i >= 0 {
			return fmt.Errorf("weight %d of %q is %.4g: its answers would be no numbers; the file is damaged, or the training that made it diverged", i, w.Name, v)
		}
	}
	if b := g.tensor(op, bias); b != nil {
		if i, v := b.find(math.IsNaN); i >= 0 {
			return fmt.Errorf("bias %d of %q is %v: its answers would be no numbers; the file is damaged, or the training that made it diverged", i, b.Name, v)
		}
	}
	return nil
}

// find gives the first float constant that is odd, -1 where there is none.
func (t *Tensor) find(odd func(v float64) bool) (int, float64) {
	switch t.Type {
	case Float32:
		for i := 0; i+4 <= len(t.Buffer); i += 4 {
			if v := float64(math.Float32frombits(binary.LittleEndian.Uint32(t.Buffer[i:]))); odd(v) {
				return i / 4, v
			}
		}
	case Float16:
		for i := 0; i+2 <= len(t.Buffer); i += 2 {
			if v := float64(halfToFloat(binary.LittleEndian.Uint16(t.Buffer[i:]))); odd(v) {
				return i / 2, v
			}
		}
	}
	return -1, 0
}

// checkMultipliers judges the numbers by which quantized kernels rescale: they
// are made of the scales of what goes in and comes out, and where one leaves
// its bounds the runtime ends the process without a word.
func (g *Subgraph) checkMultipliers(op *Op) error {
	if len(op.Outputs) == 0 {
		return nil
	}
	out := &g.Tensors[op.Outputs[0]]
	in, second := g.tensor(op, 0), g.tensor(op, 1)
	if op.Code == "TRANSPOSE_CONV" {
		in, second = g.tensor(op, 2), g.tensor(op, 1)
	}
	if !in.quantized() || !out.quantized() {
		return nil
	}
	a, o := float64(in.Quant.Scale[0]), float64(out.Quant.Scale[0])
	if a == 0 || o == 0 {
		return fmt.Errorf("a scale of 0 of %q or %q: no value can be written by it; the file is damaged, or convert it again", in.Name, out.Name)
	}
	switch _, weighs := linearOps[op.Code]; {
	case (op.Code == "ADD" || op.Code == "SUB") && second.quantized():
		// Both terms are lifted by 20 bits (15 where they are int16) and brought
		// down again by a number that must be below 1.
		up := 20
		if out.Type == Int16 {
			up = 15
		}
		if m := 2 * max(a, float64(second.Quant.Scale[0])) / (math.Ldexp(o, up)); !(m < 1) {
			return tooFar(m, in, second, out)
		}
	case op.Code == "MUL" && second.quantized(), weighs && second.quantized():
		if m := a * float64(slices.Max(second.Quant.Scale)) / o; !(m < largestMultiplier) {
			return tooFar(m, in, second, out)
		}
	case op.Code == "SOFTMAX":
		if s, ok := op.Builtin.(*SoftmaxOptions); ok && !(float64(s.Beta)*a*(1<<26) > 1) {
			return fmt.Errorf("beta %g with the scale %g of %q: this runtime takes no product below 2^-26; the file is damaged, or convert it again", s.Beta, a, in.Name)
		}
	case !slices.Contains(wordly, op.Code): // those only move values
		if m := a / o; !(m < largestMultiplier) {
			return tooFar(m, in, nil, out)
		}
	}
	return nil
}

// largestMultiplier is what a multiplier of 31 bits with a shift of 30 holds.
const largestMultiplier = 1 << 30

func tooFar(m float64, in, second, out *Tensor) error {
	text := fmt.Sprintf("%g of %q", in.Quant.Scale[0], short(in.Name))
	if second != nil {
		text += fmt.Sprintf(", %g of %q", slices.Max(second.Quant.Scale), short(second.Name))
	}
	return fmt.Errorf("the scales %s and %g of %q give a multiplier of %.3g: this runtime would end the process; the file is damaged, or its weights or values are far beyond those of a network", text, out.Quant.Scale[0], short(out.Name), m)
}

// quantized says whether a tensor holds small integers with a scale.
func (t *Tensor) quantized() bool {
	return t != nil && len(t.Quant.Scale) > 0 && (t.Type == Int8 || t.Type == Uint8 || t.Type == Int16)
}
