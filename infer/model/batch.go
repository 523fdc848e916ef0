package model

import "slices"

// rowOps compute each row of their input by itself, whatever its neighbours
// are.
var rowOps = []string{"FULLY_CONNECTED", "RELU", "RELU6", "TANH", "LOGISTIC", "SOFTMAX", "QUANTIZE", "DEQUANTIZE", "ADD", "SUB", "MUL"}

// Batched gives the model for n samples at a time: the same operators over
// tensors of n rows. It gives nil where the model is not made of layers that
// keep rows apart, as dense ones do.
func (m *Model) Batched(n int) *Model {
	if len(m.Subgraphs) != 1 || m.Stateful() {
		return nil
	}
	c := m.Clone()
	c.Signatures = nil
	g := c.Main()
	for i := range g.Ops {
		op := &g.Ops[i]
		if op.Custom || !slices.Contains(rowOps, op.Code) || len(op.Inputs) == 0 || len(op.Outputs) != 1 {
			return nil
		}
		for k := range op.Inputs {
			// What is beside the rows is the same for all of them.
			if t := g.tensor(op, k); t != nil && t.Constant() && op.Code != "FULLY_CONNECTED" && len(t.Shape) > 1 && t.Shape[0] != 1 {
				return nil
			}
		}
		if first := g.tensor(op, 0); first == nil || first.Constant() {
			return nil
		}
	}
	for i := range g.Tensors {
		t := &g.Tensors[i]
		if t.Constant() {
			continue
		}
		if len(t.Shape) != 2 || t.Shape[0] != 1 {
			return nil
		}
		t.Shape[0], t.ShapeSignature = n, nil
	}
	return c
}
