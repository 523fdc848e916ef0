package model

import (
	"encoding/binary"
	"math"
	"slices"

	flatbuffers "github.com/google/flatbuffers/go"

	"edgegateway/infer/model/internal/schema"
)

// net builds a .tflite file of one subgraph, step by step.
type net struct {
	model schema.ModelT
	graph *schema.SubGraphT
}

func newNet() *net {
	n := &net{graph: &schema.SubGraphT{Name: "main"}}
	n.model.Version = 3
	n.model.Buffers = []*schema.BufferT{{}}
	n.model.Subgraphs = []*schema.SubGraphT{n.graph}
	return n
}

// quant is per tensor for one scale and per channel on dim for several; zero
// points are 0.
func quant(dim int32, scales ...float32) *schema.QuantizationParametersT {
	return &schema.QuantizationParametersT{
		Scale: scales, ZeroPoint: make([]int64, len(scales)), QuantizedDimension: dim,
	}
}

// value adds a tensor that is computed.
func (n *net) value(name string, kind schema.TensorType, shape []int32, q *schema.QuantizationParametersT) int32 {
	n.graph.Tensors = append(n.graph.Tensors, &schema.TensorT{
		Name: name, Type: kind, Shape: shape, Quantization: q, HasRank: true,
	})
	return int32(len(n.graph.Tensors) - 1)
}

// constant adds a tensor with bytes.
func (n *net) constant(name string, kind schema.TensorType, shape []int32, q *schema.QuantizationParametersT, data []byte) int32 {
	i := n.value(name, kind, shape, q)
	n.model.Buffers = append(n.model.Buffers, &schema.BufferT{Data: data})
	n.graph.Tensors[i].Buffer = uint32(len(n.model.Buffers) - 1)
	return i
}

// op adds a step; custom is its name for CUSTOM.
func (n *net) op(code schema.BuiltinOperator, version int32, custom string, inputs, outputs []int32, options *schema.BuiltinOptionsT) {
	n.model.OperatorCodes = append(n.model.OperatorCodes, &schema.OperatorCodeT{
		DeprecatedBuiltinCode: int8(min(code, 127)), BuiltinCode: code,
		Version: version, CustomCode: custom,
	})
	n.graph.Operators = append(n.graph.Operators, &schema.OperatorT{
		OpcodeIndex: uint32(len(n.model.OperatorCodes) - 1),
		Inputs:      inputs, Outputs: outputs, BuiltinOptions: options,
		DebugMetadataIndex: -1,
	})
}

func (n *net) dense(version int32, inputs ...int32) {
	out := inputs[len(inputs)-1]
	n.op(schema.BuiltinOperatorFULLY_CONNECTED, version, "", inputs[:len(inputs)-1], []int32{out},
		&schema.BuiltinOptionsT{Type: schema.BuiltinOptionsFullyConnectedOptions, Value: &schema.FullyConnectedOptionsT{}})
}

// file is the finished file; in and out are the graph's.
func (n *net) file(in, out int32) []byte {
	n.graph.Inputs, n.graph.Outputs = []int32{in}, []int32{out}
	return pack(&n.model)
}

func pack(m *schema.ModelT) []byte {
	b := flatbuffers.NewBuilder(1024)
	b.FinishWithFileIdentifier(m.Pack(b), []byte("TFL3"))
	return slices.Clone(b.FinishedBytes())
}

func float32s(v ...float32) []byte {
	var b []byte
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

func int32s(v ...int32) []byte {
	var b []byte
	for _, i := range v {
		b = binary.LittleEndian.AppendUint32(b, uint32(i))
	}
	return b
}

// Weights of a layer of 4 inputs and 3 outputs, as int8 and as float16 of
// 0.5, 1, -1 and 2.
var (
	denseInt8    = []byte{10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120}
	denseFloat16 = []byte{
		0, 0x38, 0, 0x3c, 0, 0xbc, 0, 0x40, 0, 0x38, 0, 0x3c, 0, 0xbc, 0, 0x40,
		0, 0x38, 0, 0x3c, 0, 0xbc, 0, 0x40,
	}
)

const (
	float32T = schema.TensorTypeFLOAT32
	float16T = schema.TensorTypeFLOAT16
	int8T    = schema.TensorTypeINT8
	int32T   = schema.TensorTypeINT32
)

// int8Dense is a quantized dense layer with the given scales of its weights.
func int8Dense(scales ...float32) []byte {
	n := newNet()
	in := n.value("in", int8T, []int32{1, 4}, quant(0, 0.5))
	w := n.constant("dense/weights", int8T, []int32{3, 4}, quant(0, scales...), denseInt8)
	bias := make([]float32, len(scales))
	for i, s := range scales {
		bias[i] = s * 0.5
	}
	b := n.constant("dense/bias", int32T, []int32{3}, quant(0, bias...), int32s(1, 2, 3))
	out := n.value("out", int8T, []int32{1, 3}, quant(0, 4))
	n.dense(4, in, w, b, out)
	return n.file(in, out)
}

// hybridDense has a float input and int8 weights with the given scales.
func hybridDense(scales ...float32) []byte {
	n := newNet()
	in := n.value("in", float32T, []int32{1, 4}, nil)
	w := n.constant("dense/weights", int8T, []int32{3, 4}, quant(0, scales...), denseInt8)
	b := n.constant("dense/bias", float32T, []int32{3}, nil, float32s(0, 0, 0))
	out := n.value("out", float32T, []int32{1, 3}, nil)
	n.dense(3, in, w, b, out)
	return n.file(in, out)
}

// sparseDense stores the weights in compressed sparse rows; with densify a
// DENSIFY stands before the layer.
func sparseDense(densify bool) []byte {
	n := newNet()
	in := n.value("in", int8T, []int32{1, 4}, quant(0, 0.5))
	w := n.constant("dense/weights", int8T, []int32{3, 4}, quant(0, 0.1), []byte{10, 40, 60, 120})
	n.graph.Tensors[w].Sparsity = &schema.SparsityParametersT{
		TraversalOrder: []int32{0, 1},
		DimMetadata: []*schema.DimensionMetadataT{
			{Format: schema.DimensionTypeDENSE, DenseSize: 3},
			{Format: schema.DimensionTypeSPARSE_CSR, ArraySegments: index8(0, 2, 3, 4), ArrayIndices: index8(0, 3, 1, 3)},
		},
	}
	b := n.constant("dense/bias", int32T, []int32{3}, quant(0, 0.05), int32s(1, 2, 3))
	out := n.value("out", int8T, []int32{1, 3}, quant(0, 4))
	if densify {
		whole := n.value("dense/whole", int8T, []int32{3, 4}, quant(0, 0.1))
		n.op(schema.BuiltinOperatorDENSIFY, 1, "", []int32{w}, []int32{whole},
			&schema.BuiltinOptionsT{Type: schema.BuiltinOptionsDensifyOptions, Value: &schema.DensifyOptionsT{}})
		w = whole
	}
	n.dense(4, in, w, b, out)
	return n.file(in, out)
}

// int4Dense has two weights in each byte.
func int4Dense() []byte {
	n := newNet()
	in := n.value("in", float32T, []int32{1, 4}, nil)
	w := n.constant("dense/weights", schema.TensorTypeINT4, []int32{3, 4}, quant(0, 0.1), denseInt8[:6])
	b := n.constant("dense/bias", float32T, []int32{3}, nil, float32s(0, 0, 0))
	out := n.value("out", float32T, []int32{1, 3}, nil)
	n.dense(3, in, w, b, out)
	return n.file(in, out)
}

// float16Dense has float16 weights, with or without DEQUANTIZE before the
// layer.
func float16Dense(dequantize bool) []byte {
	n := newNet()
	in := n.value("in", float32T, []int32{1, 4}, nil)
	w := n.constant("dense/weights", float16T, []int32{3, 4}, nil, denseFloat16)
	b := n.constant("dense/bias", float32T, []int32{3}, nil, float32s(0, 0, 0))
	out := n.value("out", float32T, []int32{1, 3}, nil)
	if dequantize {
		wide := n.value("dense/wide", float32T, []int32{3, 4}, nil)
		n.op(schema.BuiltinOperatorDEQUANTIZE, 3, "", []int32{w}, []int32{wide},
			&schema.BuiltinOptionsT{Type: schema.BuiltinOptionsDequantizeOptions, Value: &schema.DequantizeOptionsT{}})
		w = wide
	}
	n.dense(1, in, w, b, out)
	return n.file(in, out)
}

// int8Conv is a 1x1 convolution of 2 channels to 2, each with its scale;
// biasDim is the bias's quantized_dimension.
func int8Conv(scale0, scale1 float32, biasDim int32) []byte {
	n := newNet()
	in := n.value("in", int8T, []int32{1, 2, 2, 2}, quant(0, 0.5))
	w := n.constant("conv/weights", int8T, []int32{2, 1, 1, 2}, quant(0, scale0, scale1), []byte{0, 0, 100, 50})
	b := n.constant("conv/bias", int32T, []int32{2}, quant(biasDim, scale0/2, scale1/2), int32s(0, 3))
	out := n.value("out", int8T, []int32{1, 2, 2, 2}, quant(0, 4))
	n.op(schema.BuiltinOperatorCONV_2D, 3, "", []int32{in, w, b}, []int32{out},
		&schema.BuiltinOptionsT{Type: schema.BuiltinOptionsConv2DOptions, Value: &schema.Conv2DOptionsT{
			Padding: schema.PaddingVALID, StrideW: 1, StrideH: 1, DilationWFactor: 1, DilationHFactor: 1,
		}})
	return n.file(in, out)
}

// edgeTPUModel is what the Edge TPU's compiler leaves of int8Dense: one custom
// operator.
func edgeTPUModel() []byte {
	n := newNet()
	in := n.value("in", int8T, []int32{1, 4}, quant(0, 0.5))
	out := n.value("out", int8T, []int32{1, 3}, quant(0, 4))
	n.op(schema.BuiltinOperatorCUSTOM, 1, edgeTPUOp, []int32{in}, []int32{out}, nil)
	return n.file(in, out)
}

// int8Pair is an operator of two int8 tensors, the second a constant with
// scales on its last dimension.
func int8Pair(code schema.BuiltinOperator, version int32, options *schema.BuiltinOptionsT, shape []int32, scales ...float32) []byte {
	n := newNet()
	in := n.value("in", int8T, []int32{1, 4}, quant(0, 0.5))
	w := n.constant("pair/weights", int8T, shape, quant(int32(len(shape)-1), scales...), denseInt8[:shape[0]*shape[1]])
	out := n.value("out", int8T, []int32{1, shape[1]}, quant(0, 4))
	n.op(code, version, "", []int32{in, w}, []int32{out}, options)
	return n.file(in, out)
}

func int8MatMul(scales ...float32) []byte {
	return int8Pair(schema.BuiltinOperatorBATCH_MATMUL, 2, &schema.BuiltinOptionsT{
		Type: schema.BuiltinOptionsBatchMatMulOptions, Value: &schema.BatchMatMulOptionsT{},
	}, []int32{4, 3}, scales...)
}

func int8Mul(scales ...float32) []byte {
	return int8Pair(schema.BuiltinOperatorMUL, 2, &schema.BuiltinOptionsT{
		Type: schema.BuiltinOptionsMulOptions, Value: &schema.MulOptionsT{},
	}, []int32{1, 4}, scales...)
}

// sparseConv is int8Conv with its weights in compressed sparse rows.
func sparseConv() []byte {
	m := schema.GetRootAsModel(int8Conv(0.1, 0.2, 0), 0).UnPack()
	w := m.Subgraphs[0].Tensors[1]
	w.Sparsity = &schema.SparsityParametersT{TraversalOrder: []int32{0, 1, 2, 3}}
	for _, size := range []int32{2, 1, 1} {
		w.Sparsity.DimMetadata = append(w.Sparsity.DimMetadata, &schema.DimensionMetadataT{DenseSize: size})
	}
	w.Sparsity.DimMetadata = append(w.Sparsity.DimMetadata, &schema.DimensionMetadataT{
		Format: schema.DimensionTypeSPARSE_CSR, ArraySegments: index8(0, 0, 2), ArrayIndices: index8(0, 1),
	})
	m.Buffers[w.Buffer].Data = []byte{100, 50}
	return pack(m)
}

// index8 is a sparse index of bytes.
func index8(v ...byte) *schema.SparseIndexVectorT {
	return &schema.SparseIndexVectorT{Type: schema.SparseIndexVectorUint8Vector, Value: &schema.Uint8VectorT{Values: v}}
}
