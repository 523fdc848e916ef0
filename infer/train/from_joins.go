package train

import (
	"fmt"
	"slices"
	"strings"

	"edgegateway/infer/model"
)

// arithmetic is ADD, SUB or MUL of two values, or of one and a constant.
func (im *importer) arithmetic(op *model.Op) (value, error) {
	if len(op.Inputs) != 2 {
		return value{}, fmt.Errorf("it takes %d inputs", len(op.Inputs))
	}
	act := model.NoActivation
	switch o := op.Builtin.(type) {
	case *model.AddOptions:
		act = o.FusedActivationFunction
	case *model.SubOptions:
		act = o.FusedActivationFunction
	case *model.MulOptions:
		act = o.FusedActivationFunction
	}
	kind := strings.ToLower(op.Code)
	first, second := im.constant(op, 0), im.constant(op, 1)
	if first == nil && second == nil {
		a, err := im.input(op, 0)
		if err != nil {
			return a, err
		}
		b, err := im.input(op, 1)
		if err != nil {
			return b, err
		}
		if !slices.Equal(a.shape, b.shape) {
			return a, fmt.Errorf("it joins %v and %v; trained are values of one shape", a.shape, b.shape)
		}
		return im.fuse(op, im.layer(im.name(op), &combine{kind: kind}, a.shape, a, b), act)
	}
	k, c := 0, second
	if first != nil {
		k, c = 1, first
		if kind == "sub" {
			kind = "from"
		}
	}
	v, err := im.input(op, k)
	if err != nil {
		return v, err
	}
	with, err := spread(c, v.shape)
	if err != nil {
		return v, err
	}
	return im.fuse(op, im.layer(im.name(op), &arithmetic{kind: kind, with: with}, v.shape, v), act)
}

// spread repeats a constant over the last dimensions of a shape, as many as it
// differs over: over all dimensions before these it is the same.
func spread(c *model.Tensor, shape Shape) ([]float32, error) {
	if c.Type != model.Float32 {
		return nil, fmt.Errorf("its constant %q is %s; trained are float32 models", c.Name, c.Type)
	}
	values, err := c.Floats()
	if err != nil {
		return nil, err
	}
	own := c.Shape
	for len(own) > 0 && own[0] == 1 {
		own = own[1:]
	}
	if len(own) > len(shape) {
		return nil, fmt.Errorf("its constant %q of %v is larger than a sample of %v", c.Name, c.Shape, shape)
	}
	over := shape[min(len(shape)-len(own), len(shape)-1):]
	if len(own) < len(over) {
		own = []int{1}
	}
	for d := range own {
		if own[d] != over[d] && own[d] != 1 {
			return nil, fmt.Errorf("its constant %q of %v does not fit a sample of %v", c.Name, c.Shape, shape)
		}
	}
	out := make([]float32, product(over))
	for i := range out {
		at, step, rest := 0, 1, i
		for d := len(over) - 1; d >= 0; d-- {
			if own[d] > 1 {
				at += rest % over[d] * step
			}
			step *= own[d]
			rest /= over[d]
		}
		out[i] = values[at]
	}
	return out, nil
}

func (im *importer) concat(op *model.Op) (value, error) {
	o, ok := op.Builtin.(*model.ConcatenationOptions)
	if !ok {
		return value{}, errOptions
	}
	var in []value
	var parts []int
	var out Shape
	axis := int(o.Axis)
	for k := range op.Inputs {
		v, err := im.input(op, k)
		if err != nil {
			return v, err
		}
		if k == 0 {
			out = slices.Clone(v.shape)
			if axis < 0 {
				axis += len(out) + 1
			}
			if axis--; axis < 0 || axis >= len(out) {
				return v, fmt.Errorf("values of %v are not joined along dimension %d", v.shape, o.Axis)
			}
		} else {
			like := slices.Clone(v.shape)
			if len(like) == len(out) {
				out[axis] += like[axis]
				like[axis] = out[axis]
			}
			if !slices.Equal(like, out) {
				return v, fmt.Errorf("values of %v and %v are not joined along dimension %d", in[0].shape, v.shape, o.Axis)
			}
		}
		if product(out) > maxValues {
			return v, fmt.Errorf("its output is more than %d values a sample", maxValues)
		}
		in = append(in, v)
		parts = append(parts, product(v.shape[axis:]))
	}
	if len(in) == 0 {
		return value{}, fmt.Errorf("it joins nothing")
	}
	return im.fuse(op, im.layer(im.name(op), &concat{rows: product(out[:axis]), parts: parts}, out, in...), o.FusedActivationFunction)
}

func (im *importer) pad(op *model.Op) (value, error) {
	in, err := im.input(op, 0)
	if err != nil {
		return in, err
	}
	by, err := im.ints(op, 1)
	if err != nil {
		return in, err
	}
	rank := len(in.shape)
	if rank > 3 || len(by) != 2*(rank+1) || by[0] != 0 || by[1] != 0 {
		return in, fmt.Errorf("a sample of %v is not padded by %v", in.shape, by)
	}
	l, out := &padding{in: [3]int{1, 1, 1}}, slices.Clone(in.shape)
	for d := range rank {
		before, after := by[2*d+2], by[2*d+3]
		if min(before, after) < 0 || max(before, after) > maxValues {
			return in, fmt.Errorf("a sample of %v is not padded by %v", in.shape, by)
		}
		to := d + 3 - rank
		l.in[to], l.before[to], l.after[to] = in.shape[d], before, after
		out[d] += before + after
	}
	l.out = out
	return im.layer(im.name(op), l, out, in), nil
}
