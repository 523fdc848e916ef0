package infer

import (
	"encoding/binary"
	"fmt"
	"math"
)

// ElemType is the type of a tensor's elements.
type ElemType uint8

// The element types that models take and answer with.
const (
	Unknown ElemType = iota
	Float32
	Int8
	Uint8
	Int16
	Int32
	Int64
	Bool
)

// elemTypes holds name and bytes of each ElemType.
var elemTypes = [...]struct {
	name string
	size int
}{
	Unknown: {"unknown", 0}, Float32: {"float32", 4}, Int8: {"int8", 1}, Uint8: {"uint8", 1},
	Int16: {"int16", 2}, Int32: {"int32", 4}, Int64: {"int64", 8}, Bool: {"bool", 1},
}

// String is the usual name in lower case.
func (t ElemType) String() string {
	if int(t) >= len(elemTypes) {
		return fmt.Sprintf("type %d", uint8(t))
	}
	return elemTypes[t].name
}

// Size is the bytes of one element, 0 where they are unknown.
func (t ElemType) Size() int {
	if int(t) >= len(elemTypes) {
		return 0
	}
	return elemTypes[t].size
}

// TensorInfo describes an input or an output of a model.
type TensorInfo struct {
	Name      string
	Type      ElemType
	Shape     []int
	Scale     float32 // 0: not quantized
	ZeroPoint int32
}

// Tensor is an input or an output in place: Data is the runtime's own memory
// and may be used only until the call that handed it out returns. A quantized
// element q stands for Scale * (q - ZeroPoint); Scale 0 means not quantized.
type Tensor struct {
	Type      ElemType
	Shape     []int
	Scale     float32
	ZeroPoint int32
	Data      []byte
	Picture   *PictureInput // of an input: what its version says of pictures; nil: nothing
}

// Len is the number of elements.
func (t *Tensor) Len() int {
	if s := t.Type.Size(); s > 0 {
		return len(t.Data) / s
	}
	return 0
}

// Float is element i as the real number that it stands for.
func (t *Tensor) Float(i int) float64 {
	var q int64
	switch t.Type {
	case Float32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:])))
	case Int8:
		q = int64(int8(t.Data[i]))
	case Uint8:
		q = int64(t.Data[i])
	case Int16:
		q = int64(int16(binary.LittleEndian.Uint16(t.Data[2*i:])))
	case Int32:
		q = int64(int32(binary.LittleEndian.Uint32(t.Data[4*i:])))
	case Int64:
		q = int64(binary.LittleEndian.Uint64(t.Data[8*i:]))
	case Bool:
		if t.Data[i] != 0 {
			return 1
		}
		return 0
	default:
		return math.NaN()
	}
	if t.Scale == 0 {
		return float64(q)
	}
	return float64(t.Scale) * float64(q-int64(t.ZeroPoint))
}

// Floats appends all elements to dst, as Float gives them.
func (t *Tensor) Floats(dst []float64) []float64 {
	for i := range t.Len() {
		dst = append(dst, t.Float(i))
	}
	return dst
}
