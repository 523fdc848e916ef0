package model

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	flatbuffers "github.com/google/flatbuffers/go"

	"edgegateway/infer/model/internal/schema"
)

// Write gives the model as a .tflite file. It refuses what Check refuses: what
// the runtime would get wrong is never written.
func (m *Model) Write() ([]byte, error) {
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("not written: %w", err)
	}
	return m.Encode()
}

// Encode gives the model as a .tflite file without judging it. Buffers stand
// on multiples of 16 bytes, the one of index 0 is empty, and constants that
// share their bytes share a buffer. What was packed behind the tables follows.
func (m *Model) Encode() ([]byte, error) {
	w := writer{b: flatbuffers.NewBuilder(1 << 16), buffers: [][]byte{nil}, places: map[place]uint32{}, codes: map[opCode]uint32{}}
	root, err := w.model(m)
	if err != nil {
		return nil, fmt.Errorf("the model cannot be written: %w", err)
	}
	w.b.FinishWithFileIdentifier(root, []byte("TFL3"))
	out := w.b.FinishedBytes()
	if len(out) > math.MaxInt32-len(m.tail) {
		return nil, errors.New("the model cannot be written: it takes more than 2 GB")
	}
	return slices.Concat(out, m.tail), nil
}

// writer turns Go values into tables, the last first.
type writer struct {
	b       *flatbuffers.Builder
	buffers [][]byte
	places  map[place]uint32
	codes   map[opCode]uint32 // index by kind
	list    []opCode
	err     error // the first
}

// place tells shared bytes by where they are in memory.
type place struct {
	first *byte
	n     int
}

func (w *writer) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

func (w *writer) model(m *Model) (flatbuffers.UOffsetT, error) {
	var graphs []*schema.SubGraphT
	for i := range m.Subgraphs {
		graphs = append(graphs, w.subgraph(&m.Subgraphs[i]))
	}
	var meta []*schema.MetadataT
	for _, md := range m.Metadata {
		meta = append(meta, &schema.MetadataT{Name: md.Name, Buffer: w.buffer(md.Data)})
	}
	var signatures []*schema.SignatureDefT
	for _, s := range m.Signatures {
		signatures = append(signatures, &schema.SignatureDefT{
			SignatureKey: s.Key, SubgraphIndex: uint32(s.Subgraph), Inputs: aliases(s.Inputs), Outputs: aliases(s.Outputs),
		})
	}
	var codes []*schema.OperatorCodeT
	for _, c := range w.list {
		codes = append(codes, w.code(c))
	}
	if w.err != nil {
		return 0, w.err
	}
	b := w.b
	offCodes := tables(b, codes)
	p := packer{b: b, zeros: map[string]flatbuffers.UOffsetT{}}
	offsets := make([]flatbuffers.UOffsetT, len(graphs))
	for i, g := range graphs {
		offsets[i] = p.graph(g)
	}
	offGraphs := vector(b, offsets)
	description := b.CreateString(m.Description)
	var data []flatbuffers.UOffsetT
	for _, d := range w.buffers {
		var at flatbuffers.UOffsetT
		if d != nil {
			at = aligned(b, d)
		}
		schema.BufferStart(b)
		if d != nil {
			schema.BufferAddData(b, at)
		}
		data = append(data, schema.BufferEnd(b))
	}
	offBuffers := vector(b, data)
	offMeta := tables(b, meta)
	offSignatures := tables(b, signatures)
	schema.ModelStart(b)
	schema.ModelAddVersion(b, uint32(m.Version))
	schema.ModelAddOperatorCodes(b, offCodes)
	schema.ModelAddSubgraphs(b, offGraphs)
	schema.ModelAddDescription(b, description)
	schema.ModelAddBuffers(b, offBuffers)
	if len(meta) > 0 {
		schema.ModelAddMetadata(b, offMeta)
	}
	if len(signatures) > 0 {
		schema.ModelAddSignatureDefs(b, offSignatures)
	}
	return schema.ModelEnd(b), nil
}

// tables writes a vector of tables.
func tables[T interface {
	Pack(*flatbuffers.Builder) flatbuffers.UOffsetT
}](b *flatbuffers.Builder, list []T) flatbuffers.UOffsetT {
	offsets := make([]flatbuffers.UOffsetT, len(list))
	for i, t := range list {
		offsets[i] = t.Pack(b)
	}
	return vector(b, offsets)
}

func vector(b *flatbuffers.Builder, offsets []flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	b.StartVector(4, len(offsets), 4)
	for _, o := range slices.Backward(offsets) {
		b.PrependUOffsetT(o)
	}
	return b.EndVector(len(offsets))
}

// aligned writes bytes on a multiple of 16, where kernels read them in place.
func aligned(b *flatbuffers.Builder, data []byte) flatbuffers.UOffsetT {
	b.StartVector(1, len(data), 16)
	for _, d := range slices.Backward(data) {
		b.PlaceByte(d)
	}
	return b.EndVector(len(data))
}

// buffer gives the index of a constant's bytes; nil has index 0.
func (w *writer) buffer(data []byte) uint32 {
	if data == nil {
		return 0
	}
	var p place
	if len(data) > 0 {
		p = place{&data[0], len(data)}
		if i, ok := w.places[p]; ok {
			return i
		}
	}
	w.buffers = append(w.buffers, data)
	i := uint32(len(w.buffers) - 1)
	if len(data) > 0 {
		w.places[p] = i
	}
	return i
}

// code is an operator kind in both fields that readers look at.
func (w *writer) code(c opCode) *schema.OperatorCodeT {
	t := &schema.OperatorCodeT{Version: int32(c.version)}
	if c.custom {
		t.CustomCode, t.BuiltinCode = c.name, schema.BuiltinOperatorCUSTOM
	} else if n, ok := schema.EnumValuesBuiltinOperator[c.name]; ok {
		t.BuiltinCode = n
	} else if n, err := strconv.Atoi(strings.TrimPrefix(c.name, "BUILTIN_")); err == nil {
		t.BuiltinCode = schema.BuiltinOperator(n)
	} else {
		w.fail("there is no operator %q", c.name)
	}
	t.DeprecatedBuiltinCode = int8(min(t.BuiltinCode, 127))
	return t
}

func (w *writer) subgraph(g *Subgraph) *schema.SubGraphT {
	t := &schema.SubGraphT{Name: g.Name, Inputs: indexes(g.Inputs), Outputs: indexes(g.Outputs)}
	for _, list := range [][]int{g.Inputs, g.Outputs} {
		w.exist(g, list, 0)
	}
	for i := range g.Tensors {
		t.Tensors = append(t.Tensors, w.tensor(&g.Tensors[i]))
	}
	for i := range g.Ops {
		t.Operators = append(t.Operators, w.op(g, &g.Ops[i]))
	}
	return t
}

// exist refuses an index that leads to no tensor.
func (w *writer) exist(g *Subgraph, list []int, low int) {
	for _, i := range list {
		if i < low || i >= len(g.Tensors) {
			w.fail("subgraph %q names tensor %d of %d", g.Name, i, len(g.Tensors))
		}
	}
}

func (w *writer) op(g *Subgraph, op *Op) *schema.OperatorT {
	w.exist(g, op.Inputs, -1)
	w.exist(g, op.Outputs, 0)
	w.exist(g, op.Intermediates, -1)
	key := opCode{op.Code, op.Custom, op.Version}
	k, ok := w.codes[key]
	if !ok {
		k = uint32(len(w.list))
		w.codes[key] = k
		w.list = append(w.list, key)
	}
	t := &schema.OperatorT{
		OpcodeIndex: k, Inputs: indexes(op.Inputs), Outputs: indexes(op.Outputs),
		CustomOptions: op.Options, MutatingVariableInputs: op.Mutating, Intermediates: indexes(op.Intermediates),
		BuiltinOptions2: op.more, DebugMetadataIndex: -1,
	}
	if op.Builtin != nil {
		name := strings.TrimSuffix(reflect.Indirect(reflect.ValueOf(op.Builtin)).Type().Name(), "T")
		kind, ok := schema.EnumValuesBuiltinOptions[name]
		if !ok {
			w.fail("operator %s: its options are a %T", op.Code, op.Builtin)
			return t
		}
		t.BuiltinOptions = &schema.BuiltinOptionsT{Type: kind, Value: op.Builtin}
	}
	return t
}

func (w *writer) tensor(t *Tensor) *schema.TensorT {
	out := &schema.TensorT{
		Name: t.Name, Type: schema.TensorType(t.Type), Shape: indexes(t.Shape), ShapeSignature: indexes(t.ShapeSignature),
		Buffer: w.buffer(t.Buffer), IsVariable: t.Variable, HasRank: t.hasRank, VariantTensors: t.variants,
	}
	if out.Shape == nil {
		out.Shape = []int32{} // a scalar
	}
	if q := &t.Quant; len(q.Scale) > 0 || len(q.min) > 0 || len(q.max) > 0 || len(q.ZeroPoint) > 0 || q.details != nil || q.Dim != 0 {
		out.Quantization = &schema.QuantizationParametersT{
			Min: q.min, Max: q.max, Scale: q.Scale, ZeroPoint: q.ZeroPoint, Details: q.details, QuantizedDimension: int32(q.Dim),
		}
	}
	if s := t.Sparsity; s != nil {
		out.Sparsity = &schema.SparsityParametersT{TraversalOrder: indexes(s.Traversal), BlockMap: indexes(s.BlockMap)}
		for _, d := range s.Dims {
			m := &schema.DimensionMetadataT{DenseSize: int32(d.Size)}
			if d.Sparse {
				m.Format = schema.DimensionTypeSPARSE_CSR
				m.ArraySegments, m.ArrayIndices = sparseIndex(d.Segments), sparseIndex(d.Indices)
			}
			out.Sparsity.DimMetadata = append(out.Sparsity.DimMetadata, m)
		}
	}
	return out
}

// sparseIndex takes the narrowest vector that holds the numbers.
func sparseIndex(v []int32) *schema.SparseIndexVectorT {
	top := int32(0)
	for _, n := range v {
		top = max(top, n)
	}
	switch {
	case top <= math.MaxUint8:
		return &schema.SparseIndexVectorT{Type: schema.SparseIndexVectorUint8Vector, Value: &schema.Uint8VectorT{Values: numbers[byte](v)}}
	case top <= math.MaxUint16:
		return &schema.SparseIndexVectorT{Type: schema.SparseIndexVectorUint16Vector, Value: &schema.Uint16VectorT{Values: numbers[uint16](v)}}
	}
	return &schema.SparseIndexVectorT{Type: schema.SparseIndexVectorInt32Vector, Value: &schema.Int32VectorT{Values: v}}
}

func numbers[T byte | uint16 | int32, F int | int32](v []F) []T {
	out := make([]T, len(v))
	for i, n := range v {
		out[i] = T(n)
	}
	return out
}

// indexes keeps nil apart from empty: an absent vector is not an empty one.
func indexes(v []int) []int32 {
	if v == nil {
		return nil
	}
	return numbers[int32](v)
}

func aliases(list []Alias) []*schema.TensorMapT {
	var out []*schema.TensorMapT
	for _, a := range list {
		out = append(out, &schema.TensorMapT{Name: a.Name, TensorIndex: uint32(a.Tensor)})
	}
	return out
}
