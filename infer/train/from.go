package train

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"edgegateway/infer/model"
)

// Bounds of a model that is trained on a small computer, beside those of a
// Spec.
const (
	maxOps     = 4000
	maxWork    = 1 << 34 // multiply-adds of one sample
	maxPatches = 1 << 26 // numbers that a convolution gathers of one sample
)

// origin is the model that a network was made from.
type origin struct {
	m     *model.Model
	bound []bound
	sum   [sha256.Size]byte // of the file
	work  int               // steps of one sample: multiply-adds, and values computed
	size  int               // values that layers hold of one sample, about
}

// bound is a trained array and the constant it came from.
type bound struct {
	p      *Param
	tensor int
}

// From makes a network of a float model, to be trained further: what it answers
// is what the runtime answers, and Model gives the model with the weights as
// they have become. Trained are weights and biases of CONV_2D,
// DEPTHWISE_CONV_2D and FULLY_CONNECTED, as Params with the names of their
// tensors; other constants stay. Taken are further ADD, SUB and MUL (of two
// values of one shape, or with constants), PAD, MAX_POOL_2D, AVERAGE_POOL_2D,
// MEAN over height and width, CONCATENATION, RESHAPE, SQUEEZE, EXPAND_DIMS, RELU
// and RELU6 (fused too), TANH, LOGISTIC and SOFTMAX; DEQUANTIZE and DENSIFY of
// constants are folded. Anything else is an error that names the operator, as
// are more than one input, and samples that are not apart in the first
// dimension. A model of several outputs becomes a network that answers with all
// their values, one output behind the other.
//
// Such a network takes inputs as the model does: it has no Norm of its own, and
// cannot be exported but by Model. m is not changed; the network reads its
// bytes.
func From(m *model.Model) (*Network, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	c := m.Clone()
	if _, err := c.Fold(); err != nil {
		return nil, err
	}
	im := &importer{g: c.Main(), n: &Network{origin: &origin{m: c}}, at: map[int]value{}}
	if err := im.read(); err != nil {
		return nil, err
	}
	file, err := c.Encode()
	if err != nil {
		return nil, err
	}
	im.n.origin.sum = sha256.Sum256(file)
	im.n.origin.work, im.n.origin.size = im.work, im.size
	im.n.wires = newWiring(im.n.layers, im.takes)
	return im.n, nil
}

// Model gives the model that From took, with the weights as they are now: the
// same operators, names, metadata and labels. Constants that were folded are
// float32 in it, and one that several operators took is one for each.
func (n *Network) Model() (*model.Model, error) {
	if n.origin == nil {
		return nil, errors.New("the network was made of layers, not of a model: Export writes it")
	}
	if n.Norm != nil || n.OutNorm != nil {
		return nil, errNorm
	}
	c := n.origin.m.Clone()
	for _, b := range n.origin.bound {
		c.Main().Tensors[b.tensor].Buffer = model.FloatBytes(b.p.W)
	}
	return c, nil
}

var errNorm = errors.New("a network made from a model takes and gives values as the model does: it can have no normalisation beside it")

// value is what an operator computes: the output of a layer, -1 for the
// network's input, seen in a shape.
type value struct {
	layer int
	shape Shape // of one sample
}

// importer makes layers of operators.
type importer struct {
	g       *model.Subgraph
	n       *Network
	takes   [][]int
	at      map[int]value // of tensors that were computed
	refs    []int         // of each tensor: how many take it
	weights int
	work    int
	size    int
}

func (im *importer) read() error {
	g := im.g
	if len(g.Inputs) != 1 || len(g.Outputs) < 1 {
		return fmt.Errorf("the model has %d inputs and %d outputs; trained is one of a single input", len(g.Inputs), len(g.Outputs))
	}
	if len(g.Ops) > maxOps {
		return fmt.Errorf("the model has %d operators, more than %d", len(g.Ops), maxOps)
	}
	in := &g.Tensors[g.Inputs[0]]
	if in.Type != model.Float32 || len(in.Shape) < 2 || in.Shape[0] != 1 || in.Elements() < 1 || in.Elements() > maxValues || in.Constant() {
		return fmt.Errorf("the input %q is %s of shape %v; trained are models whose input is float32 of one sample, [1, ...]", in.Name, in.Type, in.Shape)
	}
	im.n.In = Shape(slices.Clone(in.Shape[1:]))
	im.at[g.Inputs[0]] = value{-1, im.n.In}
	needed := im.needed()
	for i := range g.Ops {
		if !needed[i] {
			continue
		}
		op := &g.Ops[i]
		v, err := im.op(op)
		if _, twice := im.at[op.Outputs[0]]; err == nil && twice {
			err = fmt.Errorf("it computes %q a second time", im.g.Tensors[op.Outputs[0]].Name)
		}
		if err == nil {
			err = im.fits(v, op.Outputs[0])
		}
		if err != nil {
			return fmt.Errorf("op %d %s: %w", i, op.Code, err)
		}
		im.at[op.Outputs[0]] = v
	}
	return im.end()
}

// needed says which operators the outputs come from, and counts who takes what.
func (im *importer) needed() []bool {
	g := im.g
	im.refs = make([]int, len(g.Tensors))
	wanted := make([]bool, len(g.Tensors))
	for _, o := range g.Outputs {
		im.refs[o]++
		wanted[o] = true
	}
	needed := make([]bool, len(g.Ops))
	for i := len(g.Ops) - 1; i >= 0; i-- {
		for _, o := range g.Ops[i].Outputs {
			needed[i] = needed[i] || wanted[o]
		}
		for _, t := range g.Ops[i].Inputs {
			if t >= 0 {
				im.refs[t]++
				wanted[t] = wanted[t] || needed[i]
			}
		}
	}
	return needed
}

// fits holds a computed shape against the one in the file and the bounds.
func (im *importer) fits(v value, tensor int) error {
	t := &im.g.Tensors[tensor]
	if t.Type != model.Float32 || t.Constant() {
		return fmt.Errorf("its output %q is %s; trained are float32 models", t.Name, t.Type)
	}
	size := 1
	for _, d := range v.shape {
		if d < 1 || size > maxValues/d {
			return fmt.Errorf("its output %v is empty or more than %d values a sample", v.shape, maxValues)
		}
		size *= d
	}
	if n := t.Elements(); len(t.Shape) > 0 && n != size {
		return fmt.Errorf("its output is %v by what it takes, %v in the file", v.shape, t.Shape)
	}
	im.size += 2 * size // an activation may follow
	if im.work += size; im.work > maxWork {
		return fmt.Errorf("one sample takes more than %d multiply-adds", maxWork)
	}
	return nil
}

// end makes the outputs the network's.
func (im *importer) end() error {
	var outs []value
	width, parts := 0, []int(nil)
	for _, o := range im.g.Outputs {
		v, ok := im.at[o]
		if !ok {
			return fmt.Errorf("no operator computes the output %q", im.g.Tensors[o].Name)
		}
		outs = append(outs, v)
		parts = append(parts, product(v.shape))
		width += product(v.shape)
	}
	im.n.Out = outs[0].shape
	if len(outs) > 1 {
		if width > maxValues {
			return fmt.Errorf("the outputs are more than %d values a sample", maxValues)
		}
		im.n.Out = Shape{width}
		im.layer("outputs", &concat{rows: 1, parts: parts}, im.n.Out, outs...)
	}
	if len(im.n.layers) == 0 {
		return errors.New("the model computes nothing that could be trained")
	}
	return nil
}

// layer appends one, and gives its output.
func (im *importer) layer(name string, l layer, out Shape, in ...value) value {
	from := make([]int, len(in))
	for i, v := range in {
		from[i] = v.layer
	}
	im.n.layers, im.n.names, im.takes = append(im.n.layers, l), append(im.n.names, name), append(im.takes, from)
	return value{len(im.n.layers) - 1, out}
}

// input is the k-th value that an operator takes.
func (im *importer) input(op *model.Op, k int) (value, error) {
	if k >= len(op.Inputs) || op.Inputs[k] < 0 {
		return value{}, fmt.Errorf("input %d is missing", k)
	}
	v, ok := im.at[op.Inputs[k]]
	if !ok {
		t := &im.g.Tensors[op.Inputs[k]]
		if t.Constant() {
			return v, fmt.Errorf("its input %q is a constant", t.Name)
		}
		return v, fmt.Errorf("nothing before it computes its input %q", t.Name)
	}
	return v, nil
}

// constant is the k-th tensor that an operator takes, where its values stand in
// the file; nil where there is none.
func (im *importer) constant(op *model.Op, k int) *model.Tensor {
	if k >= len(op.Inputs) || op.Inputs[k] < 0 || !im.g.Tensors[op.Inputs[k]].Constant() {
		return nil
	}
	return &im.g.Tensors[op.Inputs[k]]
}

// ints are the values of a constant of whole numbers.
func (im *importer) ints(op *model.Op, k int) ([]int, error) {
	t := im.constant(op, k)
	if t == nil || t.Type != model.Int32 || len(t.Quant.Scale) > 0 {
		return nil, fmt.Errorf("input %d is no constant of int32", k)
	}
	v, err := t.Floats()
	if err != nil {
		return nil, err
	}
	list := make([]int, len(v))
	for i, x := range v {
		list[i] = int(x) // exact up to maxValues, which bounds all of them
	}
	return list, nil
}

// param takes the k-th tensor of an operator as weights of a shape. One that
// others take too is copied first.
func (im *importer) param(op *model.Op, k int, shape []int, decay bool) (*Param, error) {
	t := im.constant(op, k)
	if t == nil {
		return nil, fmt.Errorf("its weights, input %d, are no constant", k)
	}
	if t.Type != model.Float32 {
		return nil, fmt.Errorf("its weights %q are %s; trained are float32 models", t.Name, t.Type)
	}
	if !slices.Equal(t.Shape, shape) {
		return nil, fmt.Errorf("its weights %q are %v, not %v", t.Name, t.Shape, shape)
	}
	n := product(shape)
	if im.weights += n; im.weights > maxWeights {
		return nil, fmt.Errorf("more than %d weights", maxWeights)
	}
	w, err := t.Floats()
	if err != nil {
		return nil, err
	}
	at := op.Inputs[k]
	if im.refs[at] > 1 {
		im.refs[at]--
		at = im.g.Add(*t)
		own := &im.g.Tensors[at]
		own.Name = fmt.Sprintf("%s of %d", own.Name, at)
		im.refs, op.Inputs[k] = append(im.refs, 1), at
	}
	own := &im.g.Tensors[at]
	own.Sparsity = nil
	own.Buffer = model.FloatBytes(w)
	p := &Param{Name: own.Name, Shape: slices.Clone(shape), W: w, G: make([]float32, n), Decay: decay}
	im.n.origin.bound = append(im.n.origin.bound, bound{p, at})
	return p, nil
}

// bias is that of an operator, or zeros that stay.
func (im *importer) bias(op *model.Op, units int) (*Param, error) {
	if len(op.Inputs) < 3 || op.Inputs[2] < 0 {
		p := newParam("no bias", []int{units}, false)
		p.frozen, p.kept = true, true
		return p, nil
	}
	return im.param(op, 2, []int{units}, false)
}
