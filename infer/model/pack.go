package model

import (
	"encoding/binary"
	"slices"

	flatbuffers "github.com/google/flatbuffers/go"

	"edgegateway/infer/model/internal/schema"
)

// packer writes subgraphs as the generated code does, but for the zero points:
// channels have many, nearly all of them 0, and tensors whose zero points are
// the same share one vector. Of a small int8 model's file that is a quarter.
type packer struct {
	b     *flatbuffers.Builder
	zeros map[string]flatbuffers.UOffsetT
}

func (p *packer) graph(g *schema.SubGraphT) flatbuffers.UOffsetT {
	tensors := make([]flatbuffers.UOffsetT, len(g.Tensors))
	for i, t := range g.Tensors {
		tensors[i] = p.tensor(t)
	}
	offTensors := vector(p.b, tensors)
	inputs, outputs := p.int32s(g.Inputs), p.int32s(g.Outputs)
	ops := tables(p.b, g.Operators)
	name := p.b.CreateString(g.Name)
	schema.SubGraphStart(p.b)
	schema.SubGraphAddTensors(p.b, offTensors)
	schema.SubGraphAddInputs(p.b, inputs)
	schema.SubGraphAddOutputs(p.b, outputs)
	schema.SubGraphAddOperators(p.b, ops)
	schema.SubGraphAddName(p.b, name)
	return schema.SubGraphEnd(p.b)
}

func (p *packer) tensor(t *schema.TensorT) flatbuffers.UOffsetT {
	shape, name := p.int32s(t.Shape), p.b.CreateString(t.Name)
	quantization, sparsity := p.quantization(t.Quantization), t.Sparsity.Pack(p.b)
	signature, variants := p.int32s(t.ShapeSignature), flatbuffers.UOffsetT(0)
	if t.VariantTensors != nil {
		variants = tables(p.b, t.VariantTensors)
	}
	schema.TensorStart(p.b)
	schema.TensorAddShape(p.b, shape)
	schema.TensorAddType(p.b, t.Type)
	schema.TensorAddBuffer(p.b, t.Buffer)
	schema.TensorAddName(p.b, name)
	schema.TensorAddQuantization(p.b, quantization)
	schema.TensorAddIsVariable(p.b, t.IsVariable)
	schema.TensorAddSparsity(p.b, sparsity)
	schema.TensorAddShapeSignature(p.b, signature)
	schema.TensorAddHasRank(p.b, t.HasRank)
	schema.TensorAddVariantTensors(p.b, variants)
	return schema.TensorEnd(p.b)
}

func (p *packer) quantization(q *schema.QuantizationParametersT) flatbuffers.UOffsetT {
	if q == nil {
		return 0
	}
	low, high, scale := p.floats(q.Min), p.floats(q.Max), p.floats(q.Scale)
	zeros := p.int64s(q.ZeroPoint)
	details := q.Details.Pack(p.b)
	schema.QuantizationParametersStart(p.b)
	schema.QuantizationParametersAddMin(p.b, low)
	schema.QuantizationParametersAddMax(p.b, high)
	schema.QuantizationParametersAddScale(p.b, scale)
	schema.QuantizationParametersAddZeroPoint(p.b, zeros)
	if q.Details != nil {
		schema.QuantizationParametersAddDetailsType(p.b, q.Details.Type)
	}
	schema.QuantizationParametersAddDetails(p.b, details)
	schema.QuantizationParametersAddQuantizedDimension(p.b, q.QuantizedDimension)
	return schema.QuantizationParametersEnd(p.b)
}

func (p *packer) int32s(v []int32) flatbuffers.UOffsetT { return vectorOf(p.b, v, 4, p.b.PrependInt32) }
func (p *packer) floats(v []float32) flatbuffers.UOffsetT {
	return vectorOf(p.b, v, 4, p.b.PrependFloat32)
}

// vectorOf writes a vector, the last first; nil gives 0, which is no vector.
func vectorOf[T any](b *flatbuffers.Builder, v []T, size int, prepend func(T)) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	b.StartVector(size, len(v), size)
	for _, n := range slices.Backward(v) {
		prepend(n)
	}
	return b.EndVector(len(v))
}

// int64s gives the vector that holds the same already, where there is one.
func (p *packer) int64s(v []int64) flatbuffers.UOffsetT {
	if v == nil {
		return 0
	}
	key := make([]byte, 0, 8*len(v))
	for _, n := range v {
		key = binary.LittleEndian.AppendUint64(key, uint64(n))
	}
	if at, ok := p.zeros[string(key)]; ok {
		return at
	}
	at := vectorOf(p.b, v, 8, p.b.PrependInt64)
	p.zeros[string(key)] = at
	return at
}
