package train

import (
	"fmt"
	"slices"

	"edgegateway/infer/model"
)

// op makes layers of one operator.
func (im *importer) op(op *model.Op) (value, error) {
	if op.Custom {
		return value{}, fmt.Errorf("custom operators are not trained")
	}
	if len(op.Outputs) != 1 {
		return value{}, fmt.Errorf("it has %d outputs", len(op.Outputs))
	}
	switch op.Code {
	case "CONV_2D":
		return im.conv(op)
	case "DEPTHWISE_CONV_2D":
		return im.depthwise(op)
	case "FULLY_CONNECTED":
		return im.dense(op)
	case "ADD", "SUB", "MUL":
		return im.arithmetic(op)
	case "CONCATENATION":
		return im.concat(op)
	case "PAD":
		return im.pad(op)
	case "MAX_POOL_2D", "AVERAGE_POOL_2D":
		return im.pool(op)
	case "MEAN":
		return im.mean(op)
	case "RESHAPE", "SQUEEZE", "EXPAND_DIMS":
		return im.reshape(op)
	case "RELU", "RELU6", "TANH", "LOGISTIC", "SOFTMAX":
		return im.activation(op)
	}
	return value{}, fmt.Errorf("this operator is not trained")
}

// name is that of what an operator computes.
func (im *importer) name(op *model.Op) string { return im.g.Tensors[op.Outputs[0]].Name }

// fuse appends the activation that an operator applies itself.
func (im *importer) fuse(op *model.Op, v value, a model.Activation) (value, error) {
	switch a {
	case model.NoActivation:
		return v, nil
	case model.Relu:
		return im.activate(op, v, "relu"), nil
	case model.Relu6:
		return im.activate(op, v, "relu6"), nil
	}
	// The runtime passes over a fused TANH without a word.
	return v, fmt.Errorf("its activation %v is not trained", a)
}

func (im *importer) activate(op *model.Op, v value, kind string) value {
	return im.layer(im.name(op), &activation{kind: kind, width: v.shape[len(v.shape)-1]}, v.shape, v)
}

func (im *importer) activation(op *model.Op) (value, error) {
	v, err := im.input(op, 0)
	if err != nil {
		return v, err
	}
	if op.Code == "SOFTMAX" {
		if o, ok := op.Builtin.(*model.SoftmaxOptions); !ok || o.Beta != 1 {
			return v, fmt.Errorf("its beta is not 1")
		}
	}
	kind := map[string]string{"RELU": "relu", "RELU6": "relu6", "TANH": "tanh", "LOGISTIC": "sigmoid", "SOFTMAX": "softmax"}[op.Code]
	return im.activate(op, v, kind), nil
}

// picture is the first input of an operator, as [height, width, channels].
func (im *importer) picture(op *model.Op) (value, error) {
	v, err := im.input(op, 0)
	if err == nil && len(v.shape) != 3 {
		err = fmt.Errorf("it takes [height, width, channels], not %v", v.shape)
	}
	return v, err
}

// fitTo moves a kernel over a picture, and bounds what comes out.
func (g *grid) fitTo(in Shape, same bool, sh, sw int32, kh, kw int) error {
	*g = grid{kh: kh, kw: kw, sh: int(sh), sw: int(sw), same: same}
	if err := g.fit(in, "kernel"); err != nil {
		return err
	}
	if g.oh > maxValues/g.ow {
		return fmt.Errorf("its output of %d x %d is more than %d values", g.oh, g.ow, maxValues)
	}
	return nil
}

func (im *importer) conv(op *model.Op) (value, error) {
	in, err := im.picture(op)
	o, ok := op.Builtin.(*model.Conv2DOptions)
	w := im.constant(op, 1)
	switch {
	case err != nil:
		return in, err
	case !ok:
		return in, errOptions
	case o.DilationHFactor > 1 || o.DilationWFactor > 1:
		return in, fmt.Errorf("a dilation of %d x %d is not trained", o.DilationHFactor, o.DilationWFactor)
	case w == nil || len(w.Shape) != 4:
		return in, errWeights
	case w.Shape[3] != in.shape[2]:
		return in, fmt.Errorf("weights of %v for %d channels: convolutions of groups are not trained", w.Shape, in.shape[2])
	}
	l := &conv2d{filters: w.Shape[0]}
	if err := l.fitTo(in.shape, o.Padding == model.Same, o.StrideH, o.StrideW, w.Shape[1], w.Shape[2]); err != nil {
		return in, err
	}
	if row := l.kh * l.kw * l.c; row > maxPatches/(l.oh*l.ow) {
		return in, fmt.Errorf("it gathers more than %d numbers of a sample", maxPatches)
	}
	if l.wt, err = im.param(op, 1, w.Shape, true); err != nil {
		return in, err
	}
	if l.b, err = im.bias(op, l.filters); err != nil {
		return in, err
	}
	im.work += l.oh * l.ow * len(l.wt.W)
	v := im.layer(im.name(op), l, Shape{l.oh, l.ow, l.filters}, in)
	return im.fuse(op, v, o.FusedActivationFunction)
}

var (
	errOptions = fmt.Errorf("its options are missing")
	errWeights = fmt.Errorf("its weights are no constant of the right rank")
)

func (im *importer) depthwise(op *model.Op) (value, error) {
	in, err := im.picture(op)
	o, ok := op.Builtin.(*model.DepthwiseConv2DOptions)
	w := im.constant(op, 1)
	switch {
	case err != nil:
		return in, err
	case !ok:
		return in, errOptions
	case o.DilationHFactor > 1 || o.DilationWFactor > 1:
		return in, fmt.Errorf("a dilation of %d x %d is not trained", o.DilationHFactor, o.DilationWFactor)
	case w == nil || len(w.Shape) != 4 || w.Shape[0] != 1:
		return in, errWeights
	case w.Shape[3] < 1 || w.Shape[3]%in.shape[2] != 0:
		return in, fmt.Errorf("weights of %v for %d channels", w.Shape, in.shape[2])
	}
	l := &depthwise{many: w.Shape[3] / in.shape[2]}
	if err := l.fitTo(in.shape, o.Padding == model.Same, o.StrideH, o.StrideW, w.Shape[1], w.Shape[2]); err != nil {
		return in, err
	}
	if l.wt, err = im.param(op, 1, w.Shape, true); err != nil {
		return in, err
	}
	if l.b, err = im.bias(op, l.filters()); err != nil {
		return in, err
	}
	im.work += l.oh * l.ow * len(l.wt.W)
	v := im.layer(im.name(op), l, Shape{l.oh, l.ow, l.filters()}, in)
	return im.fuse(op, v, o.FusedActivationFunction)
}

func (im *importer) dense(op *model.Op) (value, error) {
	in, err := im.input(op, 0)
	o, ok := op.Builtin.(*model.FullyConnectedOptions)
	w := im.constant(op, 1)
	switch {
	case err != nil:
		return in, err
	case !ok:
		return in, errOptions
	case o.WeightsFormat != 0:
		return in, fmt.Errorf("its weights are in the format %v", o.WeightsFormat)
	case w == nil || len(w.Shape) != 2 || w.Shape[0] < 1 || w.Shape[1] < 1:
		return in, errWeights
	}
	l := &dense{units: w.Shape[0], in: w.Shape[1]}
	size := product(in.shape)
	if l.rows = size / l.in; size%l.in != 0 || !o.KeepNumDims && l.rows != 1 {
		return in, fmt.Errorf("weights of %v for a sample of %v", w.Shape, in.shape)
	}
	out := Shape{l.units}
	if o.KeepNumDims {
		last := len(in.shape) - 1
		if in.shape[last] != l.in {
			return in, fmt.Errorf("weights of %v for a sample of %v", w.Shape, in.shape)
		}
		out = append(slices.Clone(in.shape[:last]), l.units)
	}
	if l.w, err = im.param(op, 1, w.Shape, true); err != nil {
		return in, err
	}
	if l.b, err = im.bias(op, l.units); err != nil {
		return in, err
	}
	im.work += l.rows * len(l.w.W)
	return im.fuse(op, im.layer(im.name(op), l, out, in), o.FusedActivationFunction)
}

func (im *importer) pool(op *model.Op) (value, error) {
	in, err := im.picture(op)
	o, ok := op.Builtin.(*model.Pool2DOptions)
	if err != nil {
		return in, err
	}
	if !ok {
		return in, errOptions
	}
	l := &pool{max: op.Code == "MAX_POOL_2D"}
	if err := l.fitTo(in.shape, o.Padding == model.Same, o.StrideH, o.StrideW, int(o.FilterHeight), int(o.FilterWidth)); err != nil {
		return in, err
	}
	out := Shape{l.oh, l.ow, l.c}
	im.work += l.oh * l.ow * min(l.kh, l.h) * min(l.kw, l.w) * l.c
	var made layer = l
	if !l.max && l.oh*l.ow == 1 && l.top == 0 && l.left == 0 && l.kh >= l.h && l.kw >= l.w {
		made = &globalPool{pixels: l.h * l.w, c: l.c}
	}
	return im.fuse(op, im.layer(im.name(op), made, out, in), o.FusedActivationFunction)
}

func (im *importer) mean(op *model.Op) (value, error) {
	in, err := im.picture(op)
	if err != nil {
		return in, err
	}
	axes, err := im.ints(op, 1)
	if err != nil {
		return in, err
	}
	var over [4]bool
	for _, a := range axes {
		if a < 0 {
			a += 4
		}
		if a < 0 || a > 3 {
			return in, fmt.Errorf("there is no dimension %d", a)
		}
		over[a] = true
	}
	if over != [4]bool{1: true, 2: true} {
		return in, fmt.Errorf("a mean over dimensions other than height and width is not trained")
	}
	h, w, c := in.shape[0], in.shape[1], in.shape[2]
	out := Shape{c}
	if o, ok := op.Builtin.(*model.ReducerOptions); ok && o.KeepDims {
		out = Shape{1, 1, c}
	}
	im.work += h * w * c
	return im.layer(im.name(op), &globalPool{pixels: h * w, c: c}, out, in), nil
}

// reshape gives the same value in another shape: no layer does anything.
func (im *importer) reshape(op *model.Op) (value, error) {
	in, err := im.input(op, 0)
	if err != nil {
		return in, err
	}
	size := product(in.shape)
	shape := slices.Clone(im.g.Tensors[op.Outputs[0]].Shape)
	if op.Code == "RESHAPE" && im.constant(op, 1) != nil {
		if shape, err = im.ints(op, 1); err != nil {
			return in, err
		}
	}
	known, open := 1, -1
	for i, d := range shape {
		switch {
		case d == -1 && open < 0:
			open = i
		case d < 1 || known > size/d:
			return in, fmt.Errorf("a sample of %v does not become %v", in.shape, shape)
		default:
			known *= d
		}
	}
	if open >= 0 {
		shape[open] = size / known
		known *= shape[open]
	}
	if known != size || len(shape) < 2 || shape[0] != 1 {
		return in, fmt.Errorf("a sample of %v does not become %v", in.shape, shape)
	}
	return value{in.layer, Shape(shape[1:])}, nil
}
