package model

import (
	"slices"

	"edgegateway/infer/model/internal/schema"
)

// IndexLimits says for each input of the first subgraph how many rows it picks
// from, 0 where it holds no indexes: word ids into a table of vectors. The
// runtime looks for negative ones only; an index beyond the table reads memory
// of others, or ends the process.
func (m *Model) IndexLimits() []int {
	g := m.Main()
	limits := make([]int, len(g.Inputs))
	for k, in := range g.Inputs {
		same := []int{in} // the input under the names that passing operators give it
		for i := range g.Ops {
			op := &g.Ops[i]
			if op.Custom {
				continue
			}
			if slices.Contains([]string{"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CAST", "QUANTIZE", "DEQUANTIZE"}, op.Code) && len(op.Inputs) > 0 && slices.Contains(same, op.Inputs[0]) {
				same = append(same, op.Outputs...)
			}
			if n := g.picksFrom(op, same); n > 0 && (limits[k] == 0 || n < limits[k]) {
				limits[k] = n
			}
		}
	}
	return limits
}

// picksFrom is how many rows op can pick by one of these tensors, 0 where it
// picks by none of them.
func (g *Subgraph) picksFrom(op *Op, by []int) int {
	table, ids := 0, 1
	switch op.Code {
	case "GATHER":
	case "EMBEDDING_LOOKUP":
		table, ids = 1, 0
	default:
		return 0
	}
	if len(op.Inputs) < 2 || !slices.Contains(by, op.Inputs[ids]) {
		return 0
	}
	t := g.tensor(op, table)
	if t == nil || len(t.Shape) == 0 {
		return 0
	}
	axis := 0
	if o, ok := op.Builtin.(*schema.GatherOptionsT); ok {
		axis = int(o.Axis)
	}
	if axis < 0 {
		axis += len(t.Shape)
	}
	if axis < 0 || axis >= len(t.Shape) {
		return 0
	}
	return t.Shape[axis]
}
