package compress

import (
	"fmt"
	"slices"

	"edgegateway/infer/model"
)

// Widen gives the float model that an integer one stands for: constants as the
// real numbers that they mean, float32 between all operators, no QUANTIZE or
// DEQUANTIZE. What is learned and cut is float, so this is how a model that is
// to be had as integers alone comes to it. changed says whether there was
// anything to widen; m itself is not changed, and is what comes back where there
// was not. The answers differ from m's by what rounding did.
func Widen(m *model.Model) (wide *model.Model, changed bool, err error) {
	c := m.Clone()
	if len(c.Subgraphs) != 1 {
		return nil, false, fmt.Errorf("the model has %d subgraphs; one of a single graph is widened", len(c.Subgraphs))
	}
	g := c.Main()
	for i := range g.Tensors {
		t := &g.Tensors[i]
		halves := t.Type == model.Float16 && t.Constant()
		if len(t.Quant.Scale) == 0 && !halves || t.Type == model.Float32 {
			continue
		}
		if t.Constant() {
			v, err := t.Floats()
			if err != nil {
				return nil, false, err
			}
			t.Buffer, t.Sparsity = model.FloatBytes(v), nil
		}
		t.Type, t.Quant = model.Float32, model.Quantization{}
		changed = true
	}
	for i := len(g.Ops) - 1; i >= 0; i-- {
		op := &g.Ops[i]
		if op.Code != "QUANTIZE" && op.Code != "DEQUANTIZE" {
			continue
		}
		changed = true
		in, out := op.Inputs[0], op.Outputs[0]
		if g.Producer(in) < 0 && !g.Tensors[in].Constant() && slices.Contains(g.Outputs, out) {
			return nil, false, fmt.Errorf("the model gives its input %q back as it is", g.Tensors[in].Name)
		}
		name := g.Tensors[out].Name
		answers := slices.Contains(g.Outputs, out)
		g.Remove(i)
		if answers { // what is asked for by name keeps its name
			g.Tensors[in].Name = name
		}
		for _, s := range c.Signatures {
			for k := range s.Outputs {
				if s.Subgraph == 0 && s.Outputs[k].Tensor == out {
					s.Outputs[k].Tensor = in
				}
			}
		}
	}
	if !changed {
		return m, false, nil
	}
	c.Tidy()
	if err := c.Check(); err != nil {
		return nil, false, fmt.Errorf("widened: %w", err)
	}
	return c, true, nil
}
