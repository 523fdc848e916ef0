package compress

import (
	"encoding/binary"
	"fmt"
	"slices"

	"edgegateway/infer/model"
)

// shaped is the graph with the shapes that it has where only some units are
// kept. Its constants are those of the whole one.
func (u *units) shaped(keep []bool) *model.Subgraph {
	g := *u.g
	g.Tensors = slices.Clone(g.Tensors)
	for t := range g.Tensors {
		if u.of[t] != nil {
			narrow(&g.Tensors[t], len(g.Tensors[t].Shape)-1, len(kept(u.of[t], keep)))
		}
	}
	for i := range g.Ops {
		for _, c := range u.cuts(i, keep) {
			narrow(&g.Tensors[g.Ops[i].Inputs[c.input]], c.dim, len(c.at))
		}
	}
	return &g
}

// cut removes units from the graph. u knows it no longer then.
func (u *units) cut(keep []bool) error {
	g := u.g
	for i := range u.g.Ops {
		for _, c := range u.cuts(i, keep) {
			// A copy: who else takes the constant keeps it as it is.
			t := g.Tensors[g.Ops[i].Inputs[c.input]]
			if err := sliced(&t, c.dim, c.at); err != nil {
				return fmt.Errorf("op %d %s: %w", i, g.Ops[i].Code, err)
			}
			g.Ops[i].Inputs[c.input] = g.Add(t)
		}
		if g.Ops[i].Code == "RESHAPE" {
			reshapeTo(g, i, len(kept(u.of[g.Ops[i].Outputs[0]], keep)))
		}
	}
	for t := range u.of {
		if u.of[t] != nil {
			narrow(&g.Tensors[t], len(g.Tensors[t].Shape)-1, len(kept(u.of[t], keep)))
		}
	}
	return nil
}

// constantCut is what stays, along one dimension, of the constant that is an
// operator's n-th input.
type constantCut struct {
	input, dim int
	at         []int
}

// cuts says what the operator at i needs of its constants.
func (u *units) cuts(i int, keep []bool) (list []constantCut) {
	op := &u.g.Ops[i]
	add := func(n, dim int, at []int) {
		if s := u.g.Tensors[op.Inputs[n]].Shape; len(s) > dim && s[dim] != len(at) {
			list = append(list, constantCut{n, dim, at})
		}
	}
	if len(op.Outputs) != 1 {
		return nil
	}
	out := kept(u.of[op.Outputs[0]], keep)
	if _, ok := linear(op.Code); ok {
		if !weighted(u.g, op) {
			return nil
		}
		shape, in := u.g.Tensors[op.Inputs[1]].Shape, u.of[op.Inputs[0]]
		if op.Code == "DEPTHWISE_CONV_2D" {
			add(1, 3, out)
		} else {
			add(1, 0, out)
			last := len(shape) - 1
			if len(in) > 0 && shape[last]%len(in) == 0 {
				add(1, last, kept(slices.Repeat(in, shape[last]/len(in)), keep))
			}
		}
		if len(op.Inputs) > 2 && op.Inputs[2] >= 0 {
			add(2, 0, out)
		}
		return list
	}
	if slices.Contains(elementwise, op.Code) || op.Code == "PRELU" {
		for n, t := range op.Inputs {
			if u.constant(t) {
				if s := u.g.Tensors[t].Shape; len(s) > 0 && s[len(s)-1] == len(u.of[op.Outputs[0]]) {
					add(n, len(s)-1, out)
				}
			}
		}
	}
	return list
}

// kept are the places in a list of units that stay.
func kept(list []int, keep []bool) []int {
	at := make([]int, 0, len(list))
	for i, unit := range list {
		if keep[unit] {
			at = append(at, i)
		}
	}
	return at
}

// narrow makes a dimension n long.
func narrow(t *model.Tensor, dim, n int) {
	if dim < 0 || dim >= len(t.Shape) || t.Shape[dim] == n {
		return
	}
	t.Shape = slices.Clone(t.Shape)
	t.Shape[dim] = n
	if dim < len(t.ShapeSignature) && t.ShapeSignature[dim] >= 0 {
		t.ShapeSignature = slices.Clone(t.ShapeSignature)
		t.ShapeSignature[dim] = n
	}
}

// sliced keeps the elements of a constant at these places of a dimension.
func sliced(t *model.Tensor, dim int, at []int) error {
	size := t.Type.Bits() / 8
	n := t.Elements() * size
	if size == 0 || n != len(t.Buffer) || t.Sparsity != nil {
		return fmt.Errorf("constant %q of %v %s cannot be cut", t.Name, t.Shape, t.Type)
	}
	inner := size
	for _, d := range t.Shape[dim+1:] {
		inner *= d
	}
	outer := t.Shape[dim] * inner
	b := make([]byte, 0, n/max(t.Shape[dim], 1)*len(at))
	for o := 0; o < n; o += outer {
		for _, k := range at {
			b = append(b, t.Buffer[o+k*inner:o+(k+1)*inner]...)
		}
	}
	t.Buffer = b
	narrow(t, dim, len(at))
	return nil
}

// reshapeTo gives a RESHAPE a last dimension of n.
func reshapeTo(g *model.Subgraph, i, n int) {
	op := &g.Ops[i]
	if o, ok := op.Builtin.(*model.ReshapeOptions); ok && len(o.NewShape) > 0 && o.NewShape[len(o.NewShape)-1] >= 0 {
		c := *o
		c.NewShape = slices.Clone(o.NewShape)
		c.NewShape[len(c.NewShape)-1] = int32(n)
		op.Builtin = &c
	}
	if len(op.Inputs) < 2 || op.Inputs[1] < 0 || !g.Tensors[op.Inputs[1]].Constant() {
		return
	}
	t := g.Tensors[op.Inputs[1]]
	if len(t.Buffer) < 4 || t.Type != model.Int32 || int32(binary.LittleEndian.Uint32(t.Buffer[len(t.Buffer)-4:])) < 0 {
		return
	}
	t.Buffer = slices.Clone(t.Buffer)
	binary.LittleEndian.PutUint32(t.Buffer[len(t.Buffer)-4:], uint32(n))
	op.Inputs[1] = g.Add(t)
}
