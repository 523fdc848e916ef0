package model

import (
	"errors"
	"fmt"
	"slices"

	"edgegateway/infer/model/internal/schema"
)

// needed is how many inputs an operator must have, none of them left out. The
// runtime looks at the number of some, and reads address 0 for others.
var needed = map[string]int{
	"CONV_2D": 2, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 3, "CONV_3D": 2, "CONV_3D_TRANSPOSE": 3, "FULLY_CONNECTED": 2,
	"RESHAPE": 1, "SQUEEZE": 1, "ADD": 2, "SUB": 2, "MUL": 2, "DIV": 2, "MAXIMUM": 2, "MINIMUM": 2, "POW": 2,
	"SQUARED_DIFFERENCE": 2, "FLOOR_DIV": 2, "FLOOR_MOD": 2, "BATCH_MATMUL": 2, "PRELU": 2,
	"AVERAGE_POOL_2D": 1, "MAX_POOL_2D": 1, "L2_POOL_2D": 1, "SOFTMAX": 1, "LOG_SOFTMAX": 1, "LOGISTIC": 1, "TANH": 1,
	"RELU": 1, "RELU6": 1, "RELU_N1_TO_1": 1, "LEAKY_RELU": 1, "HARD_SWISH": 1, "ELU": 1, "GELU": 1,
	"MEAN": 2, "SUM": 2, "REDUCE_MAX": 2, "REDUCE_MIN": 2, "REDUCE_PROD": 2, "ARG_MAX": 2, "ARG_MIN": 2,
	"PAD": 2, "MIRROR_PAD": 2, "PADV2": 3, "TRANSPOSE": 2, "EXPAND_DIMS": 2, "TILE": 2, "FILL": 2, "SLICE": 3, "STRIDED_SLICE": 4,
	"SPLIT": 2, "SPLIT_V": 3, "GATHER": 2, "GATHER_ND": 2, "CONCATENATION": 1, "PACK": 1, "UNPACK": 1, "TOPK_V2": 2,
	"RESIZE_BILINEAR": 2, "RESIZE_NEAREST_NEIGHBOR": 2, "SPACE_TO_BATCH_ND": 3, "BATCH_TO_SPACE_ND": 3,
	"SPACE_TO_DEPTH": 1, "DEPTH_TO_SPACE": 1, "QUANTIZE": 1, "DEQUANTIZE": 1, "DENSIFY": 1, "CAST": 1,
	"EMBEDDING_LOOKUP": 2, "SELECT": 3, "SELECT_V2": 3, "ONE_HOT": 4, "RANGE": 3,
	"UNIDIRECTIONAL_SEQUENCE_LSTM": 20, "LSTM": 5, "SVDF": 3, "UNIDIRECTIONAL_SEQUENCE_RNN": 5, "RNN": 5,
	"BIDIRECTIONAL_SEQUENCE_LSTM": 2, "BIDIRECTIONAL_SEQUENCE_RNN": 2,
}

// mayLack are operators of which some inputs may be left out among those that
// they need: the gates of a recurrent cell.
var mayLack = []string{"UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM", "SVDF", "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "UNIDIRECTIONAL_SEQUENCE_RNN", "RNN"}

// checkOrder holds each operator against those before it: what it takes must be
// there by then, and nobody else may have written what it gives. The runtime
// looks for neither, and follows addresses that lead nowhere.
func (g *Subgraph) checkOrder(name func(op int) string) (problems []error) {
	there := make([]bool, len(g.Tensors))
	for i := range g.Tensors {
		t := &g.Tensors[i]
		there[i] = t.Constant() || t.Variable || t.Elements() == 0 && !g.computed(i)
	}
	for _, i := range g.Inputs {
		if g.Tensors[i].Constant() {
			problems = append(problems, fmt.Errorf("the input %q is a constant; convert the model again", g.Tensors[i].Name))
		}
		there[i] = true
	}
	for i := range g.Ops {
		op := &g.Ops[i]
		if err := g.checkTakes(op, there); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name(i), err))
		}
		for _, o := range op.Outputs {
			if there[o] && !g.Tensors[o].Variable {
				problems = append(problems, fmt.Errorf("%s: it writes over %q, which is there before it; convert the model again", name(i), g.Tensors[o].Name))
			}
			there[o] = true
		}
	}
	for _, i := range g.Outputs {
		if !there[i] {
			problems = append(problems, fmt.Errorf("nothing computes the output %q; convert the model again", g.Tensors[i].Name))
		}
	}
	return problems
}

// computed says whether an operator gives tensor i.
func (g *Subgraph) computed(i int) bool { return g.Producer(i) >= 0 }

// checkTakes judges what an operator takes, when there is what came before it.
func (g *Subgraph) checkTakes(op *Op, there []bool) error {
	for _, i := range op.Inputs {
		if i >= 0 && !there[i] {
			return fmt.Errorf("nothing before it computes %q, and the file holds no values of it; convert the model again", g.Tensors[i].Name)
		}
	}
	if op.Custom {
		return nil
	}
	need, known := needed[op.Code]
	if !known {
		return nil
	}
	if len(op.Inputs) < need {
		return fmt.Errorf("it has %d inputs and needs %d; convert the model again", len(op.Inputs), need)
	}
	if len(op.Outputs) == 0 {
		return errors.New("it has no output; convert the model again")
	}
	if !slices.Contains(mayLack, op.Code) {
		for k, i := range op.Inputs {
			if bias, ok := linearOps[op.Code]; i < 0 && (k < need || !ok || k != bias) {
				return fmt.Errorf("its input %d is left out; convert the model again", k)
			}
		}
	}
	return nil
}

// farthest is the longest step of a window: the kernels keep it in 16 bits.
const farthest = 1<<15 - 1

// checkWindow judges how an operator's window moves over a picture: the kernels
// divide by these numbers.
func (op *Op) checkWindow() error {
	var padding schema.Padding
	var steps []int32
	var fused Activation
	switch o := op.Builtin.(type) {
	case *Conv2DOptions:
		padding, fused, steps = o.Padding, o.FusedActivationFunction, []int32{o.StrideH, o.StrideW, o.DilationHFactor, o.DilationWFactor}
	case *DepthwiseConv2DOptions:
		padding, fused, steps = o.Padding, o.FusedActivationFunction, []int32{o.StrideH, o.StrideW, o.DilationHFactor, o.DilationWFactor}
	case *schema.TransposeConvOptionsT:
		padding, fused, steps = o.Padding, o.FusedActivationFunction, []int32{o.StrideH, o.StrideW}
	case *schema.Conv3DOptionsT:
		padding, fused = o.Padding, o.FusedActivationFunction
		steps = []int32{o.StrideD, o.StrideH, o.StrideW, o.DilationDFactor, o.DilationHFactor, o.DilationWFactor}
	case *Pool2DOptions:
		padding, fused, steps = o.Padding, o.FusedActivationFunction, []int32{o.StrideH, o.StrideW, o.FilterHeight, o.FilterWidth}
	default:
		return nil
	}
	if padding != Same && padding != Valid {
		return fmt.Errorf("padding %d: the format knows 0 (SAME) and 1 (VALID); the file is damaged, or convert it again", padding)
	}
	if fused < NoActivation || fused > schema.ActivationFunctionTypeSIGN_BIT {
		return fmt.Errorf("activation %d: the format has none of this number; the file is damaged, or convert it again", fused)
	}
	for _, n := range steps {
		if n < 1 || n > farthest {
			return fmt.Errorf("a stride, dilation or window of %d: the runtime takes 1 to %d and divides by it; the file is damaged, or convert it again", n, farthest)
		}
	}
	return nil
}
