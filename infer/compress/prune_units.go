package compress

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"edgegateway/infer/model"
)

// A unit is what structured pruning removes whole: a channel of one layer with
// all that must go with it. units follows channels through the graph: each
// computed tensor has, for each element of its last dimension, the unit that it
// belongs to. A convolution and a dense layer begin new ones; what is added up
// becomes one; a flattening repeats them for each pixel; what is not understood
// keeps its channels for good.
type units struct {
	g       *model.Subgraph
	of      [][]int // by tensor; nil for a constant
	parent  []int   // of a unit that was joined to another
	stays   []bool  // by unit that is nobody's child
	sources [][]source
	kept    []int // operators that are not understood
}

// source is one layer's output channel, as the beginning or a part of a unit.
type source struct{ op, channel int }

// elementwise are operators of two inputs that pair channels up.
var elementwise = []string{"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"}

// alone are operators that compute each channel by itself, and leave it where
// it is.
var alone = []string{"RELU", "RELU6", "RELU_N1_TO_1", "TANH", "LOGISTIC", "LEAKY_RELU", "ELU", "HARD_SWISH", "ABS", "NEG",
	"EXP", "SQRT", "RSQRT", "SQUARE", "PRELU", "MAX_POOL_2D", "AVERAGE_POOL_2D", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"}

func followUnits(g *model.Subgraph) *units {
	u := &units{g: g, of: make([][]int, len(g.Tensors))}
	for _, in := range g.Inputs {
		u.of[in] = u.fresh(u.width(in), true)
	}
	for i := range g.Ops {
		if !u.follow(i) {
			u.keep(i)
		}
	}
	for _, out := range g.Outputs {
		u.hold(out)
	}
	u.gather()
	return u
}

// follow says whether it understands what the operator at i does to channels.
func (u *units) follow(i int) bool {
	op := &u.g.Ops[i]
	if op.Custom || len(op.Inputs) == 0 || len(op.Outputs) != 1 || op.Inputs[0] < 0 {
		return false
	}
	out := op.Outputs[0]
	in := u.of[op.Inputs[0]]
	if _, ok := linear(op.Code); ok {
		return u.followLinear(op, in)
	}
	switch {
	case slices.Contains(elementwise, op.Code):
		return u.followPair(op)
	case slices.Contains(alone, op.Code):
		return !slices.ContainsFunc(op.Inputs[1:], func(t int) bool { return !u.constant(t) }) && u.pass(in, out)
	case op.Code == "CONCATENATION":
		return u.followConcatenation(op)
	case op.Code == "RESHAPE":
		if len(op.Inputs) > 1 && !u.constant(op.Inputs[1]) {
			return false
		}
		return u.followReshape(in, out)
	case op.Code == "SQUEEZE", op.Code == "EXPAND_DIMS":
		return u.followReshape(in, out)
	case op.Code == "PAD", op.Code == "PADV2", op.Code == "MIRROR_PAD":
		by, ok := u.integers(op, 1)
		return ok && len(by) >= 2 && by[len(by)-1] == 0 && by[len(by)-2] == 0 && u.pass(in, out)
	case op.Code == "MEAN", op.Code == "SUM", op.Code == "REDUCE_MAX", op.Code == "REDUCE_MIN":
		axes, ok := u.integers(op, 1)
		last := len(u.g.Tensors[op.Inputs[0]].Shape) - 1
		return ok && !slices.Contains(axes, last) && !slices.Contains(axes, -1) && u.pass(in, out)
	}
	return false
}

func (u *units) followLinear(op *model.Op, in []int) bool {
	if !weighted(u.g, op) || in == nil {
		return false
	}
	shape, out := u.g.Tensors[op.Inputs[1]].Shape, op.Outputs[0]
	channels := u.width(out)
	if channels != outChannels(u.g, op) {
		return false
	}
	switch op.Code {
	case "CONV_2D":
		if shape[3] != len(in) { // of groups
			return false
		}
	case "FULLY_CONNECTED":
		if o, ok := op.Builtin.(*model.FullyConnectedOptions); !ok || o.WeightsFormat != 0 || len(in) == 0 || shape[1]%len(in) != 0 {
			return false
		}
	case "DEPTHWISE_CONV_2D":
		return channels == len(in) && u.pass(in, out)
	default:
		return false
	}
	u.of[out] = u.fresh(channels, false)
	return true
}

// followPair joins what is added, multiplied and so on. An input of a single
// channel, or a constant of one, stands beside each of the other's.
func (u *units) followPair(op *model.Op) bool {
	if len(op.Inputs) != 2 || op.Inputs[1] < 0 {
		return false
	}
	a, b := u.of[op.Inputs[0]], u.of[op.Inputs[1]]
	n := u.width(op.Outputs[0])
	switch {
	case a == nil && b == nil:
		return false
	case a == nil || b == nil:
		if a == nil {
			a = b
		}
		return u.pass(a, op.Outputs[0])
	case len(a) == n && len(b) == n:
		for c := range a {
			u.join(a[c], b[c])
		}
		return u.pass(a, op.Outputs[0])
	case len(a) == n && len(b) == 1:
		u.hold(op.Inputs[1])
		return u.pass(a, op.Outputs[0])
	case len(b) == n && len(a) == 1:
		u.hold(op.Inputs[0])
		return u.pass(b, op.Outputs[0])
	}
	return false
}

func (u *units) followConcatenation(op *model.Op) bool {
	o, ok := op.Builtin.(*model.ConcatenationOptions)
	rank := len(u.g.Tensors[op.Outputs[0]].Shape)
	if !ok || rank == 0 {
		return false
	}
	axis := int(o.Axis)
	if axis < 0 {
		axis += rank
	}
	var all []int
	for _, t := range op.Inputs {
		if t < 0 || u.of[t] == nil {
			return false
		}
		switch {
		case axis == rank-1:
			all = append(all, u.of[t]...)
		case all == nil:
			all = u.of[t]
		case len(all) != len(u.of[t]):
			return false
		default:
			for c := range all {
				u.join(all[c], u.of[t][c])
			}
		}
	}
	return u.pass(all, op.Outputs[0])
}

// followReshape follows channels that stay the fastest that change: repeated in
// a longer last dimension, or in a shorter one that they repeat in.
func (u *units) followReshape(in []int, out int) bool {
	n := u.width(out)
	switch {
	case len(in) == 0 || n == 0:
		return false
	case n%len(in) == 0:
		return u.pass(slices.Repeat(in, n/len(in)), out)
	case len(in)%n == 0:
		for c := range in {
			if in[c] != in[c%n] {
				return false
			}
		}
		return u.pass(slices.Clone(in[:n]), out)
	}
	return false
}

func (u *units) pass(in []int, out int) bool {
	if in == nil || len(in) != u.width(out) {
		return false
	}
	u.of[out] = in
	return true
}

// keep is for an operator that is not understood.
func (u *units) keep(i int) {
	u.kept = append(u.kept, i)
	for _, t := range u.g.Ops[i].Inputs {
		if t >= 0 {
			u.hold(t)
		}
	}
	for _, t := range u.g.Ops[i].Outputs {
		u.of[t] = u.fresh(u.width(t), true)
	}
}

// some says why no channel at all can go, by the operators that keep those of
// layers with weights.
func (u *units) some() error {
	for unit, from := range u.sources {
		if len(from) > 0 && !u.stays[unit] {
			return nil
		}
	}
	var codes []string
	first := -1
	for _, i := range u.kept {
		holds := slices.ContainsFunc(u.g.Ops[i].Inputs, func(t int) bool {
			return t >= 0 && slices.ContainsFunc(u.of[t], func(unit int) bool { return len(u.sources[unit]) > 0 })
		})
		if holds && first < 0 {
			first = i
		}
		if code := u.g.Ops[i].Code; holds && !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	if first < 0 {
		return errors.New("the model has no channels that can go: all of them are its inputs or outputs")
	}
	op := &u.g.Ops[first]
	return fmt.Errorf("the model has no channels that can go: what operators do to them that are not followed, here %s, keeps all of them; the first is op %d %s, which gives %q; the other patterns make weights 0 and leave channels", strings.Join(codes, ", "), first, op.Code, u.g.Tensors[op.Outputs[0]].Name)
}

func (u *units) hold(t int) {
	for _, c := range u.of[t] {
		u.stays[u.root(c)] = true
	}
}

func (u *units) fresh(n int, stays bool) []int {
	list := make([]int, n)
	for c := range list {
		list[c] = len(u.parent)
		u.parent = append(u.parent, len(u.parent))
		u.stays = append(u.stays, stays)
	}
	return list
}

func (u *units) root(c int) int {
	for u.parent[c] != c {
		u.parent[c] = u.parent[u.parent[c]]
		c = u.parent[c]
	}
	return c
}

func (u *units) join(a, b int) {
	if a, b = u.root(a), u.root(b); a != b {
		u.parent[b] = a
		u.stays[a] = u.stays[a] || u.stays[b]
	}
}

// width is how many elements the last dimension has; a scalar has one.
func (u *units) width(t int) int {
	if s := u.g.Tensors[t].Shape; len(s) > 0 {
		return max(s[len(s)-1], 0)
	}
	return 1
}

func (u *units) constant(t int) bool { return t >= 0 && u.g.Tensors[t].Constant() }

// integers are the values of a constant input.
func (u *units) integers(op *model.Op, n int) (list []int, ok bool) {
	if n >= len(op.Inputs) || !u.constant(op.Inputs[n]) {
		return nil, false
	}
	v, err := u.g.Tensors[op.Inputs[n]].Floats()
	for _, x := range v {
		list = append(list, int(x))
	}
	return list, err == nil
}

// gather names each tensor's units by their roots, and lists where they come
// from: the layers that begin them and the depthwise ones on the way.
func (u *units) gather() {
	u.sources = make([][]source, len(u.parent))
	for t := range u.of {
		u.of[t] = slices.Clone(u.of[t])
		for c := range u.of[t] {
			u.of[t][c] = u.root(u.of[t][c])
		}
	}
	for i := range u.g.Ops {
		op := &u.g.Ops[i]
		if _, ok := linear(op.Code); !ok || !weighted(u.g, op) {
			continue
		}
		for c, unit := range u.of[op.Outputs[0]] {
			u.sources[unit] = append(u.sources[unit], source{i, c})
		}
	}
}
