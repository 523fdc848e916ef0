package train

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"edgegateway/infer/model"
)

// Base is the front part of a .tflite model, whose answers are the features
// that a head is trained on. It is run elsewhere: this package runs no model.
type Base struct {
	// Model answers with the features alone: float32, [1] followed by Shape.
	Model *model.Model
	// Shape of one sample's features: [width], or [height, width, channels]
	// where the cut is before the pooling.
	Shape Shape
	// At is the tensor of the given model where it was cut.
	At string
}

// passing are operators between a classifier's last layer and its answer.
var passing = []string{"SOFTMAX", "LOGISTIC", "RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE"}

// Cut gives the part of a model that computes a tensor. Without a name it is
// what the last dense layer takes (or the last 1x1 convolution over a single
// pixel): the features of a classifier. m is not changed.
func Cut(m *model.Model, name string) (*Base, error) {
	if len(m.Subgraphs) != 1 {
		return nil, fmt.Errorf("the model has %d subgraphs; a head takes one of a single graph", len(m.Subgraphs))
	}
	c := m.Clone()
	g := c.Main()
	if len(g.Inputs) != 1 {
		return nil, fmt.Errorf("the model has %d inputs; a head takes one of a single input", len(g.Inputs))
	}
	at, err := features(g, name)
	if err != nil {
		return nil, err
	}
	b := &Base{Model: c, At: g.Tensors[at].Name}
	t := &g.Tensors[at]
	if n := t.Elements(); n < 1 || len(t.Shape) < 2 || t.Shape[0] != 1 {
		return nil, fmt.Errorf("tensor %q has the shape %v; features are those of one sample, [1, ...]", t.Name, t.Shape)
	}
	e := exporter{m: c, prefix: "features/"}
	shape := Shape(slices.Clone(t.Shape[1:]))
	switch {
	case t.Type == model.Float32:
	case slices.Contains([]model.Type{model.Uint8, model.Int8, model.Int16}, t.Type) && len(t.Quant.Scale) == 1:
		at = e.op("DEQUANTIZE", 2, &model.DequantizeOptions{}, "real", shape, at)
	default:
		return nil, fmt.Errorf("tensor %q is %s; features are float32 or quantized by one scale", t.Name, t.Type)
	}
	b.Shape = shape
	if wide := product(shape); len(shape) != 3 || shape[0]*shape[1] == 1 {
		if b.Shape = (Shape{wide}); len(shape) != 1 {
			at = e.reshape("flat", at, wide)
		}
	}
	g.Outputs = []int{at}
	// What names the old answer says nothing of the new one.
	c.Signatures = nil
	if err := c.SetLabels(nil); err != nil {
		return nil, err
	}
	c.Tidy()
	return b, nil
}

// features finds the tensor to cut at.
func features(g *model.Subgraph, name string) (int, error) {
	if name != "" {
		for i := range g.Tensors {
			if t := &g.Tensors[i]; t.Name == name && !t.Constant() && g.Producer(i) >= 0 {
				return i, nil
			}
		}
		// Converters name a tensor after all that was fused into it, joined by
		// semicolons; the first of them is its own.
		for i := range g.Tensors {
			if own, _, fused := strings.Cut(g.Tensors[i].Name, ";"); fused && own == name && !g.Tensors[i].Constant() && g.Producer(i) >= 0 {
				return i, nil
			}
		}
		return 0, fmt.Errorf("no operator computes a tensor %q; near the end there are %s", name, strings.Join(lastNames(g), ", "))
	}
	at := g.Outputs[0]
	for range len(g.Ops) {
		p := g.Producer(at)
		if p < 0 {
			break
		}
		op := &g.Ops[p]
		out := &g.Tensors[op.Outputs[0]]
		pixel := len(out.Shape) == 4 && out.Shape[1]*out.Shape[2] == 1
		switch {
		case op.Code == "FULLY_CONNECTED" || op.Code == "CONV_2D" && pixel:
			return op.Inputs[0], nil
		case slices.Contains(passing, op.Code):
			at = op.Inputs[0]
			continue
		}
		break
	}
	return 0, fmt.Errorf("the model does not end in a dense layer; name the tensor to cut at: near the end there are %s", strings.Join(lastNames(g), ", "))
}

// lastNames are the last values that a graph computes.
func lastNames(g *model.Subgraph) (names []string) {
	for i := max(0, len(g.Ops)-6); i < len(g.Ops); i++ {
		for _, o := range g.Ops[i].Outputs {
			names = append(names, fmt.Sprintf("%q", g.Tensors[o].Name))
		}
	}
	return names
}

// Extract gives the features of all samples, with their labels or targets.
// extract writes those of sample i into its second argument.
func (b *Base) Extract(ctx context.Context, d *Dataset, extract func(i int, features []float32) error, progress func(done, of int)) (*Dataset, error) {
	out := *d
	out.Shape, out.Pixels, out.Features, out.Row = b.Shape, nil, nil, 0
	width := product(b.Shape)
	out.Values = make([]float32, d.Len()*width)
	for i := range d.Len() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := extract(i, out.Values[i*width:(i+1)*width]); err != nil {
			return nil, fmt.Errorf("sample %d: %w", i, err)
		}
		if progress != nil {
			progress(i+1, d.Len())
		}
	}
	return &out, out.Check()
}

// Attach gives one model of the base and a head that was trained on its
// features, labels packed.
func (b *Base) Attach(head *Network, description string, labels []string) (*model.Model, error) {
	if !slices.Equal(head.In, b.Shape) {
		return nil, fmt.Errorf("the head takes %v, the features are %v", head.In, b.Shape)
	}
	c := b.Model.Clone()
	c.Description = description
	e := exporter{m: c, prefix: "head/", ranges: map[string]Range{}}
	if err := e.network(head, c.Main().Outputs[0]); err != nil {
		return nil, err
	}
	return c, e.labels(labels)
}
