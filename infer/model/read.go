package model

import (
	"errors"
	"fmt"
	"math"
	"reflect"

	flatbuffers "github.com/google/flatbuffers/go"

	"edgegateway/infer/model/internal/schema"
)

// ErrFormat is wrapped by every error of Read.
var ErrFormat = errors.New("not a valid .tflite file")

// Read reads a .tflite file. It never panics, whatever the bytes, and takes
// memory in proportion to their number. All indexes of the returned Model lead
// somewhere; whether the runtime computes it rightly, Check says.
func Read(data []byte) (m *Model, err error) {
	if len(data) < 8 || string(data[4:8]) != "TFL3" {
		return nil, fmt.Errorf("%w: its bytes 4 to 7 are not TFL3", ErrFormat)
	}
	if len(data) > math.MaxInt32 {
		return nil, fmt.Errorf("%w: %d bytes are more than 2 GB", ErrFormat, len(data))
	}
	data = data[:len(data):len(data)] // a slice of bytes may else be taken from what lies behind
	r := reader{data: data, budget: 1<<20 + 16*len(data)}
	// The accessors index the slice with the file's own offsets, and an offset
	// that leads outside panics; what they yield is copied before Read returns.
	defer func() {
		if recover() != nil {
			m, err = nil, fmt.Errorf("%w: the file is cut or damaged", ErrFormat)
		}
	}()
	m = r.model(schema.GetRootAsModel(data, 0))
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, r.err)
	}
	return m, nil
}

// reader copies tables into Go values. Tables may share their parts, so that a
// small file can describe a large tree: budget is what may still be taken.
type reader struct {
	data    []byte
	budget  int
	buffers [][]byte
	codes   []opCode
	err     error // the first
}

// opCode is an entry of the model's table of operator kinds.
type opCode struct {
	name    string
	custom  bool
	version int
}

// Rough sizes of what a list element costs in memory.
const (
	bufferCost, codeCost, graphCost = 40, 64, 256
	tensorCost, opCost, nameCost    = 320, 192, 64
)

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// take says how many of n elements may be read: n, or 0 where the budget does
// not allow them.
func (r *reader) take(n, cost int, what string) int {
	if r.err != nil {
		return 0
	}
	if n < 0 || n > r.budget/cost {
		r.fail("%d %s are more than the file can hold", n, what)
		return 0
	}
	r.budget -= n * cost
	return n
}

func (r *reader) text(b []byte) string {
	return string(b[:r.take(len(b), 1, "bytes of text")])
}

// ints copies a vector of n numbers.
func ints[T, E int32 | int64 | float32 | uint8 | uint16 | int](r *reader, n int, at func(int) E) []T {
	if n = r.take(n, 8, "numbers"); n == 0 {
		return nil
	}
	out := make([]T, n)
	for i := range out {
		out[i] = T(at(i))
	}
	return out
}

func (r *reader) model(f *schema.Model) *Model {
	m := &Model{
		Description: r.text(f.Description()),
		Version:     int(f.Version()),
		Size:        len(r.data),
		data:        r.data,
	}
	var b schema.Buffer
	r.buffers = make([][]byte, r.take(f.BuffersLength(), bufferCost, "buffers"))
	m.places = make([]int, len(r.buffers))
	for i := range r.buffers {
		f.Buffers(&b, i)
		r.buffers[i], m.places[i] = r.bytes(&b, i)
	}
	m.buffers = r.buffers
	m.tail = tail(r.data)
	var c schema.OperatorCode
	r.codes = make([]opCode, r.take(f.OperatorCodesLength(), codeCost, "operator codes"))
	for i := range r.codes {
		f.OperatorCodes(&c, i)
		r.codes[i] = r.code(&c)
	}
	var g schema.SubGraph
	m.Subgraphs = make([]Subgraph, r.take(f.SubgraphsLength(), graphCost, "subgraphs"))
	if len(m.Subgraphs) == 0 {
		r.fail("there is no subgraph")
	}
	for i := range m.Subgraphs {
		f.Subgraphs(&g, i)
		m.Subgraphs[i] = r.subgraph(&g, i)
	}
	var md schema.Metadata
	m.Metadata = make([]Metadata, r.take(f.MetadataLength(), nameCost, "metadata entries"))
	for i := range m.Metadata {
		f.Metadata(&md, i)
		m.Metadata[i] = Metadata{r.text(md.Name()), r.buffer(md.Buffer(), "metadata", i)}
	}
	var s schema.SignatureDef
	m.Signatures = make([]Signature, r.take(f.SignatureDefsLength(), nameCost, "signatures"))
	for i := range m.Signatures {
		f.SignatureDefs(&s, i)
		m.Signatures[i] = r.signature(&s, m)
	}
	return m
}

// bytes are a buffer's, and where they stand: in the table, or further behind
// for large files.
func (r *reader) bytes(b *schema.Buffer, i int) ([]byte, int) {
	if off := b.Offset(); off > 1 {
		if size := b.Size(); off <= uint64(len(r.data)) && size <= uint64(len(r.data))-off {
			return r.data[off : off+size : off+size], int(off)
		}
		r.fail("buffer %d stands outside the file", i)
		return nil, 0
	}
	d, at := b.DataBytes(), 0
	if t := b.Table(); len(d) > 0 {
		at = int(t.Vector(flatbuffers.UOffsetT(t.Offset(4)))) // of the field data, the first
	}
	return d[:len(d):len(d)], at
}

func (r *reader) buffer(i uint32, what string, of int) []byte {
	if uint64(i) >= uint64(len(r.buffers)) {
		r.fail("%s %d names buffer %d of %d", what, of, i, len(r.buffers))
		return nil
	}
	return r.buffers[i]
}

func (r *reader) code(c *schema.OperatorCode) opCode {
	code := max(schema.BuiltinOperator(c.DeprecatedBuiltinCode()), c.BuiltinCode())
	if code == schema.BuiltinOperatorCUSTOM {
		return opCode{r.text(c.CustomCode()), true, int(c.Version())}
	}
	name, ok := schema.EnumNamesBuiltinOperator[code]
	if !ok {
		name = fmt.Sprintf("BUILTIN_%d", code)
	}
	return opCode{name, false, int(c.Version())}
}

func (r *reader) subgraph(f *schema.SubGraph, index int) Subgraph {
	g := Subgraph{Name: r.text(f.Name())}
	var t schema.Tensor
	g.Tensors = make([]Tensor, r.take(f.TensorsLength(), tensorCost, "tensors"))
	for i := range g.Tensors {
		f.Tensors(&t, i)
		g.Tensors[i] = r.tensor(&t, i)
	}
	g.Inputs = r.indexes(f.InputsLength(), f.Inputs, len(g.Tensors), 0)
	g.Outputs = r.indexes(f.OutputsLength(), f.Outputs, len(g.Tensors), 0)
	var o schema.Operator
	g.Ops = make([]Op, r.take(f.OperatorsLength(), opCost, "operators"))
	for i := range g.Ops {
		f.Operators(&o, i)
		g.Ops[i] = r.op(&o, len(g.Tensors))
		if r.err != nil {
			r.err = fmt.Errorf("subgraph %d, op %d: %w", index, i, r.err)
			break
		}
	}
	return g
}

// indexes copies a vector of tensor indexes, each from low to n-1.
func (r *reader) indexes(count int, at func(int) int32, n, low int) []int {
	list := ints[int](r, count, at)
	for _, i := range list {
		if i < low || i >= n {
			r.fail("it names tensor %d of %d", i, n)
		}
	}
	return list
}

func (r *reader) op(f *schema.Operator, tensors int) Op {
	k := f.OpcodeIndex()
	if uint64(k) >= uint64(len(r.codes)) {
		r.fail("it names operator code %d of %d", k, len(r.codes))
		return Op{}
	}
	options := f.CustomOptionsBytes()
	builtin, more := r.options(f)
	return Op{
		Code:          r.codes[k].name,
		Custom:        r.codes[k].custom,
		Version:       r.codes[k].version,
		Inputs:        r.indexes(f.InputsLength(), f.Inputs, tensors, -1),
		Outputs:       r.indexes(f.OutputsLength(), f.Outputs, tensors, 0),
		Builtin:       builtin,
		Options:       options[:len(options):len(options)],
		Mutating:      bools(r, f.MutatingVariableInputsLength(), f.MutatingVariableInputs),
		Intermediates: r.indexes(f.IntermediatesLength(), f.Intermediates, tensors, -1),

		more: more,
	}
}

// options unpacks what the generated code knows of an operator's options. One
// table may serve many operators: what each takes counts.
func (r *reader) options(f *schema.Operator) (builtin any, more *schema.BuiltinOptions2T) {
	var t flatbuffers.Table
	if r.err == nil && f.BuiltinOptions(&t) && r.vectors(t, f.BuiltinOptionsType().UnPack(noFields)) {
		if o := f.BuiltinOptionsType().UnPack(t); o != nil {
			builtin = o.Value
			r.take(weight(builtin), 1, "bytes of options")
		}
	}
	if r.err == nil && f.BuiltinOptions2(&t) && r.vectors(t, f.BuiltinOptions2Type().UnPack(noFields)) {
		if more = f.BuiltinOptions2Type().UnPack(t); more != nil {
			r.take(weight(more.Value), 1, "bytes of options")
		}
	}
	return builtin, more
}

// noFields is a table without any.
var noFields = flatbuffers.Table{Bytes: []byte{4, 0, 4, 0, 4, 0, 0, 0}, Pos: 4}

// vectors reports whether the vectors of a table are within the file: the
// generated code makes room for as many elements as they claim before it reads
// one. like is a union with such a table, unpacked: its fields stand in the
// order of the table's.
func (r *reader) vectors(t flatbuffers.Table, like any) bool {
	u := reflect.Indirect(reflect.ValueOf(like))
	if !u.IsValid() {
		return true // of a kind that the schema does not know, which is not unpacked
	}
	v := reflect.Indirect(u.FieldByName("Value").Elem())
	for i := 0; v.Kind() == reflect.Struct && i < v.NumField(); i++ {
		if v.Field(i).Kind() != reflect.Slice {
			continue
		}
		if o := t.Offset(flatbuffers.VOffsetT(4 + 2*i)); o != 0 && t.VectorLen(flatbuffers.UOffsetT(o)) > len(r.data) {
			r.fail("%d %s are more than the file can hold", t.VectorLen(flatbuffers.UOffsetT(o)), v.Type().Field(i).Name)
			return false
		}
	}
	return true
}

// weight is about how much memory an unpacked options table takes.
func weight(options any) int {
	n := 64
	if v := reflect.Indirect(reflect.ValueOf(options)); v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			switch f := v.Field(i); f.Kind() {
			case reflect.Slice, reflect.String:
				n += 8 * f.Len()
			default:
				n += 8
			}
		}
	}
	return n
}

func bools(r *reader, n int, at func(int) bool) []bool {
	if n = r.take(n, 1, "flags"); n == 0 {
		return nil
	}
	out := make([]bool, n)
	for i := range out {
		out[i] = at(i)
	}
	return out
}

func (r *reader) tensor(f *schema.Tensor, index int) Tensor {
	t := Tensor{
		Name:           r.text(f.Name()),
		Type:           Type(f.Type()),
		Shape:          ints[int](r, f.ShapeLength(), f.Shape),
		ShapeSignature: ints[int](r, f.ShapeSignatureLength(), f.ShapeSignature),
		Variable:       f.IsVariable(),
		hasRank:        f.HasRank(),
		Buffer:         r.buffer(f.Buffer(), "tensor", index),
		BufferIndex:    int(f.Buffer()),
	}
	if q := f.Quantization(nil); q != nil {
		t.Quant = Quantization{
			Scale:     ints[float32](r, q.ScaleLength(), q.Scale),
			ZeroPoint: ints[int64](r, q.ZeroPointLength(), q.ZeroPoint),
			Dim:       int(q.QuantizedDimension()),
			min:       ints[float32](r, q.MinLength(), q.Min),
			max:       ints[float32](r, q.MaxLength(), q.Max),
		}
		var d flatbuffers.Table
		if r.err == nil && q.Details(&d) && r.vectors(d, q.DetailsType().UnPack(noFields)) {
			t.Quant.details = q.DetailsType().UnPack(d)
			r.take(weight(t.Quant.details.Value), 1, "bytes of quantization")
		}
	}
	var v schema.VariantSubType
	for i := range r.take(f.VariantTensorsLength(), nameCost, "variants") {
		f.VariantTensors(&v, i)
		r.take(v.ShapeLength(), 8, "numbers")
		if r.err == nil {
			t.variants = append(t.variants, v.UnPack())
		}
	}
	if s := f.Sparsity(nil); s != nil {
		t.Sparsity = r.sparsity(s)
	}
	return t
}

func (r *reader) sparsity(f *schema.SparsityParameters) *Sparsity {
	s := &Sparsity{
		Traversal: ints[int](r, f.TraversalOrderLength(), f.TraversalOrder),
		BlockMap:  ints[int](r, f.BlockMapLength(), f.BlockMap),
	}
	var d schema.DimensionMetadata
	s.Dims = make([]SparseDim, r.take(f.DimMetadataLength(), nameCost, "sparse dimensions"))
	for i := range s.Dims {
		f.DimMetadata(&d, i)
		s.Dims[i] = SparseDim{Sparse: d.Format() == schema.DimensionTypeSPARSE_CSR, Size: int(d.DenseSize())}
		if s.Dims[i].Sparse { // a dense level has no indexes
			s.Dims[i].Segments = r.sparseIndexes(d.ArraySegmentsType(), d.ArraySegments)
			s.Dims[i].Indices = r.sparseIndexes(d.ArrayIndicesType(), d.ArrayIndices)
		}
	}
	return s
}

// sparseIndexes copies the numbers of a union of three vector widths.
func (r *reader) sparseIndexes(kind schema.SparseIndexVector, union func(*flatbuffers.Table) bool) []int32 {
	var t flatbuffers.Table
	if kind == schema.SparseIndexVectorNONE || !union(&t) {
		return nil
	}
	switch kind {
	case schema.SparseIndexVectorInt32Vector:
		var v schema.Int32Vector
		v.Init(t.Bytes, t.Pos)
		return ints[int32](r, v.ValuesLength(), v.Values)
	case schema.SparseIndexVectorUint16Vector:
		var v schema.Uint16Vector
		v.Init(t.Bytes, t.Pos)
		return ints[int32](r, v.ValuesLength(), v.Values)
	case schema.SparseIndexVectorUint8Vector:
		var v schema.Uint8Vector
		v.Init(t.Bytes, t.Pos)
		return ints[int32](r, v.ValuesLength(), v.Values)
	}
	r.fail("a sparse index of unknown width %d", kind)
	return nil
}

func (r *reader) signature(f *schema.SignatureDef, m *Model) Signature {
	s := Signature{Key: r.text(f.SignatureKey()), Subgraph: int(f.SubgraphIndex())}
	if uint64(f.SubgraphIndex()) >= uint64(len(m.Subgraphs)) {
		r.fail("signature %q names subgraph %d of %d", s.Key, f.SubgraphIndex(), len(m.Subgraphs))
		return s
	}
	tensors := len(m.Subgraphs[s.Subgraph].Tensors)
	s.Inputs = r.aliases(f.InputsLength(), f.Inputs, tensors)
	s.Outputs = r.aliases(f.OutputsLength(), f.Outputs, tensors)
	return s
}

func (r *reader) aliases(n int, at func(*schema.TensorMap, int) bool, tensors int) []Alias {
	var t schema.TensorMap
	list := make([]Alias, r.take(n, nameCost, "signature tensors"))
	for i := range list {
		at(&t, i)
		list[i] = Alias{r.text(t.Name()), int(t.TensorIndex())}
		if uint64(t.TensorIndex()) >= uint64(tensors) {
			r.fail("it names tensor %d of %d", t.TensorIndex(), tensors)
		}
	}
	return list
}
