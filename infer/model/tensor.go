package model

import (
	"fmt"
	"math"

	"edgegateway/infer/model/internal/schema"
)

// Type is the type of a tensor's elements, as the format numbers them.
type Type int8

// The element types of the format.
const (
	Float32 Type = iota
	Float16
	Int32
	Uint8
	Int64
	String
	Bool
	Int16
	Complex64
	Int8
	Float64
	Complex128
	Uint64
	Resource
	Variant
	Uint32
	Uint16
	Int4
	BFloat16
)

// types holds name and bits of each Type; 0 bits where it has no fixed size.
var types = [...]struct {
	name string
	bits int
}{
	Float32: {"float32", 32}, Float16: {"float16", 16}, Int32: {"int32", 32},
	Uint8: {"uint8", 8}, Int64: {"int64", 64}, String: {"string", 0},
	Bool: {"bool", 8}, Int16: {"int16", 16}, Complex64: {"complex64", 64},
	Int8: {"int8", 8}, Float64: {"float64", 64}, Complex128: {"complex128", 128},
	Uint64: {"uint64", 64}, Resource: {"resource", 0}, Variant: {"variant", 0},
	Uint32: {"uint32", 32}, Uint16: {"uint16", 16}, Int4: {"int4", 4},
	BFloat16: {"bfloat16", 16},
}

// String is the type's usual name in lower case.
func (t Type) String() string {
	if t < 0 || int(t) >= len(types) {
		return fmt.Sprintf("type %d", int8(t))
	}
	return types[t].name
}

// Bits is the size of one element, 0 where it has no fixed size or the type
// is unknown.
func (t Type) Bits() int {
	if t < 0 || int(t) >= len(types) {
		return 0
	}
	return types[t].bits
}

// Tensor is a constant (with bytes) or a value computed at run time (without).
type Tensor struct {
	Name  string
	Type  Type
	Shape []int // empty for a scalar
	// ShapeSignature repeats Shape with -1 where the size is open; nil where
	// the file does not say.
	ShapeSignature []int
	Quant          Quantization
	Sparsity       *Sparsity // nil for a dense tensor
	Variable       bool      // keeps its value from one run to the next
	Buffer         []byte    // little endian; nil for a computed tensor
	BufferIndex    int       // of the file read: tensors with the same one share their bytes

	hasRank  bool
	variants []*schema.VariantSubTypeT
}

// Quantization says what the integers of a tensor stand for:
// real = Scale * (q - ZeroPoint), one pair for the whole tensor or one for
// each slice along Dim. Without scales a tensor is not quantized.
type Quantization struct {
	Scale     []float32
	ZeroPoint []int64
	Dim       int

	min, max []float32                    // what some converters note down beside it
	details  *schema.QuantizationDetailsT // of other schemes
}

// PerChannel says whether there is more than one scale.
func (q Quantization) PerChannel() bool { return len(q.Scale) > 1 }

// Sparsity is how a tensor that stores only some of its values is laid out.
// Dims follow Traversal: the tensor's dimensions, then those of its blocks,
// which BlockMap assigns to the dimensions they divide.
type Sparsity struct {
	Traversal []int
	BlockMap  []int
	Dims      []SparseDim
}

// SparseDim is a dense dimension of Size, or one in compressed sparse rows:
// Indices holds the positions present, Segments where each row begins.
type SparseDim struct {
	Sparse   bool
	Size     int
	Segments []int32
	Indices  []int32
}

// Constant says whether the tensor's values stand in the file.
func (t *Tensor) Constant() bool { return len(t.Buffer) > 0 }

// Elements is the number of elements of the dense tensor, -1 where a
// dimension is open or the product does not fit an int32.
func (t *Tensor) Elements() int {
	n := 1
	for _, d := range t.Shape {
		if d < 0 || d > 0 && n > math.MaxInt32/d {
			return -1
		}
		n *= d
	}
	return n
}

// Stored is the number of elements that the file holds bytes of: fewer than
// Elements for a sparse tensor.
func (t *Tensor) Stored() int {
	if b := t.Type.Bits(); b > 0 {
		return len(t.Buffer) * 8 / b
	}
	return 0
}
