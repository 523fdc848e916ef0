package model

import (
	"maps"
	"slices"
)

// Clone gives a copy that can be edited without touching m. Bytes of constants
// are shared until a Buffer is replaced: replace it, never write into it.
func (m *Model) Clone() *Model {
	c := *m
	c.Subgraphs = slices.Clone(m.Subgraphs)
	for i := range c.Subgraphs {
		g := &c.Subgraphs[i]
		g.Tensors = slices.Clone(g.Tensors)
		for j := range g.Tensors {
			t := &g.Tensors[j]
			t.Shape, t.ShapeSignature = slices.Clone(t.Shape), slices.Clone(t.ShapeSignature)
			t.Quant.Scale, t.Quant.ZeroPoint = slices.Clone(t.Quant.Scale), slices.Clone(t.Quant.ZeroPoint)
		}
		g.Inputs, g.Outputs = slices.Clone(g.Inputs), slices.Clone(g.Outputs)
		g.Ops = slices.Clone(g.Ops)
		for j := range g.Ops {
			op := &g.Ops[j]
			op.Inputs, op.Outputs = slices.Clone(op.Inputs), slices.Clone(op.Outputs)
			op.Builtin = cloneOptions(op.Builtin)
		}
	}
	c.Signatures = slices.Clone(m.Signatures)
	for i := range c.Signatures {
		s := &c.Signatures[i]
		s.Inputs, s.Outputs = slices.Clone(s.Inputs), slices.Clone(s.Outputs)
	}
	c.Metadata = slices.Clone(m.Metadata)
	return &c
}

// cloneOptions copies the options that edits change; others are never written
// to, so they may be shared.
func cloneOptions(options any) any {
	switch o := options.(type) {
	case *Conv2DOptions:
		return clone(o)
	case *DepthwiseConv2DOptions:
		return clone(o)
	case *FullyConnectedOptions:
		return clone(o)
	case *AddOptions:
		return clone(o)
	}
	return options
}

func clone[T any](p *T) *T {
	c := *p
	return &c
}

// Add appends a tensor and gives its index.
func (g *Subgraph) Add(t Tensor) int {
	t.BufferIndex = 0
	g.Tensors = append(g.Tensors, t)
	return len(g.Tensors) - 1
}

// Insert puts operators in front of the one at index at.
func (g *Subgraph) Insert(at int, ops ...Op) { g.Ops = slices.Insert(g.Ops, at, ops...) }

// Rewire makes all operators from index from on, and the graph's outputs, take
// tensor now where they took tensor old.
func (g *Subgraph) Rewire(from, old, now int) {
	for i := from; i < len(g.Ops); i++ {
		replace(g.Ops[i].Inputs, old, now)
	}
	replace(g.Outputs, old, now)
}

func replace(list []int, old, now int) {
	for i := range list {
		if list[i] == old {
			list[i] = now
		}
	}
}

// Producer is the index of the operator that computes a tensor, -1 for inputs
// and constants.
func (g *Subgraph) Producer(tensor int) int {
	for i := range g.Ops {
		if slices.Contains(g.Ops[i].Outputs, tensor) {
			return i
		}
	}
	return -1
}

// Consumers are the indexes of the operators that take a tensor.
func (g *Subgraph) Consumers(tensor int) []int {
	var list []int
	for i := range g.Ops {
		if slices.Contains(g.Ops[i].Inputs, tensor) {
			list = append(list, i)
		}
	}
	return list
}

// Remove takes out an operator that gives what it takes: what took its output
// takes its first input. The graph's output stays the same tensor where it can.
func (g *Subgraph) Remove(op int) {
	in, out := g.Ops[op].Inputs[0], g.Ops[op].Outputs[0]
	g.Ops = slices.Delete(g.Ops, op, op+1)
	g.Rewire(0, out, in)
}

// Tidy leaves out the operators whose outputs nothing takes and the tensors
// that nothing names, in the first subgraph.
func (m *Model) Tidy() {
	g := m.Main()
	used := map[int]bool{}
	mark := func(list []int) {
		for _, i := range list {
			used[i] = true
		}
	}
	mark(g.Inputs)
	mark(g.Outputs)
	for _, s := range m.Signatures {
		if s.Subgraph != 0 {
			continue
		}
		for _, a := range slices.Concat(s.Inputs, s.Outputs) {
			used[a.Tensor] = true
		}
	}
	keep := make([]bool, len(g.Ops))
	for i := len(g.Ops) - 1; i >= 0; i-- {
		op := &g.Ops[i]
		needed := len(op.Outputs) == 0 || slices.Contains(op.Mutating, true)
		for _, o := range op.Outputs {
			needed = needed || used[o]
		}
		if keep[i] = needed; needed {
			mark(op.Inputs)
			mark(op.Outputs)
			mark(op.Intermediates)
		}
	}
	delete(used, -1)
	i := -1
	g.Ops = slices.DeleteFunc(g.Ops, func(Op) bool { i++; return !keep[i] })
	m.renumber(slices.Sorted(maps.Keys(used)))
}

// renumber keeps the tensors at these indexes of the first subgraph.
func (m *Model) renumber(keep []int) {
	g := m.Main()
	to := map[int]int{-1: -1}
	tensors := make([]Tensor, len(keep))
	for now, old := range keep {
		to[old] = now
		tensors[now] = g.Tensors[old]
	}
	g.Tensors = tensors
	list := func(v []int) {
		for i := range v {
			v[i] = to[v[i]]
		}
	}
	list(g.Inputs)
	list(g.Outputs)
	for i := range g.Ops {
		op := &g.Ops[i]
		op.Intermediates = slices.Clone(op.Intermediates)
		list(op.Inputs)
		list(op.Outputs)
		list(op.Intermediates)
	}
	for _, s := range m.Signatures {
		if s.Subgraph == 0 {
			for i := range s.Inputs {
				s.Inputs[i].Tensor = to[s.Inputs[i].Tensor]
			}
			for i := range s.Outputs {
				s.Outputs[i].Tensor = to[s.Outputs[i].Tensor]
			}
		}
	}
}

// SetMeta replaces a metadata entry, or adds it; nil data removes it.
func (m *Model) SetMeta(name string, data []byte) {
	m.Metadata = slices.DeleteFunc(slices.Clone(m.Metadata), func(md Metadata) bool { return md.Name == name })
	if data != nil {
		m.Metadata = append(m.Metadata, Metadata{name, data})
	}
}
