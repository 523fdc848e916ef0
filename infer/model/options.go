package model

import "edgegateway/infer/model/internal/schema"

// Options of the operators that are made and changed here, as Op.Builtin holds
// them, by pointer. All others are kept as they were read.
type (
	Conv2DOptions          = schema.Conv2DOptionsT
	DepthwiseConv2DOptions = schema.DepthwiseConv2DOptionsT
	Pool2DOptions          = schema.Pool2DOptionsT
	FullyConnectedOptions  = schema.FullyConnectedOptionsT
	SoftmaxOptions         = schema.SoftmaxOptionsT
	ReshapeOptions         = schema.ReshapeOptionsT
	AddOptions             = schema.AddOptionsT
	SubOptions             = schema.SubOptionsT
	MulOptions             = schema.MulOptionsT
	ConcatenationOptions   = schema.ConcatenationOptionsT
	ReducerOptions         = schema.ReducerOptionsT
	QuantizeOptions        = schema.QuantizeOptionsT
	DequantizeOptions      = schema.DequantizeOptionsT
	DensifyOptions         = schema.DensifyOptionsT
)

// Padding of a convolution or a pool.
const (
	Same  = schema.PaddingSAME
	Valid = schema.PaddingVALID
)

// Activations that an operator applies to its own output.
const (
	NoActivation = schema.ActivationFunctionTypeNONE
	Relu         = schema.ActivationFunctionTypeRELU
	ReluN1To1    = schema.ActivationFunctionTypeRELU_N1_TO_1
	Relu6        = schema.ActivationFunctionTypeRELU6
	Tanh         = schema.ActivationFunctionTypeTANH
)

// Activation is the type of those constants.
type Activation = schema.ActivationFunctionType
