package model

import "fmt"

// Fold computes what depends on constants alone and stores it instead:
// DEQUANTIZE of a constant becomes float32, DENSIFY a dense one. It gives the
// number of operators that went.
func (m *Model) Fold() (int, error) {
	g := m.Main()
	n := 0
	for i := 0; i < len(g.Ops); {
		op := &g.Ops[i]
		in := g.tensor(op, 0)
		if op.Custom || in == nil || len(op.Outputs) != 1 || !in.Constant() || op.Code != "DEQUANTIZE" && op.Code != "DENSIFY" {
			i++
			continue
		}
		out := &g.Tensors[op.Outputs[0]]
		folded, err := in.Dense()
		if err != nil {
			return n, err
		}
		if op.Code == "DEQUANTIZE" {
			v, err := folded.Floats()
			if err != nil {
				return n, fmt.Errorf("%s: %w", m.opName(0, i), err)
			}
			folded.Buffer = FloatBytes(v)
		}
		out.Buffer, out.BufferIndex = folded.Buffer, 0
		g.Ops = append(g.Ops[:i], g.Ops[i+1:]...)
		n++
	}
	if n > 0 {
		m.Tidy()
	}
	return n, nil
}
