package infer

import (
	"encoding/binary"
	"fmt"
	"math"
)

// SetBytes copies data, elements as they lie in the tensor's memory.
func (t *Tensor) SetBytes(data []byte) error {
	if len(data) != len(t.Data) {
		return fmt.Errorf("input is %v %v, %d bytes; %d bytes are given", t.Shape, t.Type, len(t.Data), len(data))
	}
	copy(t.Data, data)
	return nil
}

// SetFloats writes one real number an element. A quantized or whole-number
// tensor gets the nearest value that it can hold, of two the one away from its
// zero point, as the runtime's QUANTIZE does it. A number that is NaN is an
// error, and what the tensor holds then is undefined.
func (t *Tensor) SetFloats(values []float64) error {
	if t.Type.Size() == 0 {
		return fmt.Errorf("input has the type %v, which takes no numbers", t.Type)
	}
	if n := t.Len(); len(values) != n {
		return fmt.Errorf("input is %v %v, %d numbers; %d are given", t.Shape, t.Type, n, len(values))
	}
	scale, zero := float64(t.Scale), float64(t.ZeroPoint)
	if scale == 0 {
		scale, zero = 1, 0
	}
	for i, v := range values {
		if v != v {
			return fmt.Errorf("number %d for the input is NaN", i)
		}
		if t.Type == Float32 {
			binary.LittleEndian.PutUint32(t.Data[4*i:], math.Float32bits(float32(v)))
			continue
		}
		t.setWhole(i, v, math.Round(v/scale)+zero)
	}
	return nil
}

// setWhole writes q into element i, clamped to its type; a Bool is whether the
// real number v is not 0.
func (t *Tensor) setWhole(i int, v, q float64) {
	switch t.Type {
	case Int8:
		t.Data[i] = byte(int8(clamp(q, math.MinInt8, math.MaxInt8)))
	case Uint8:
		t.Data[i] = byte(clamp(q, 0, math.MaxUint8))
	case Int16:
		binary.LittleEndian.PutUint16(t.Data[2*i:], uint16(int16(clamp(q, math.MinInt16, math.MaxInt16))))
	case Int32:
		binary.LittleEndian.PutUint32(t.Data[4*i:], uint32(int32(clamp(q, math.MinInt32, math.MaxInt32))))
	case Int64:
		whole := int64(math.MaxInt64)
		if q < math.MaxInt64 { // the constant rounds up to 1<<63 as a float64
			whole = int64(max(q, math.MinInt64))
		}
		binary.LittleEndian.PutUint64(t.Data[8*i:], uint64(whole))
	case Bool:
		t.Data[i] = 0
		if v != 0 {
			t.Data[i] = 1
		}
	}
}

// clamp is v, brought into low..high.
func clamp(v, low, high float64) int64 { return int64(min(max(v, low), high)) }
