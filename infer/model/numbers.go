package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Floats gives the values of a constant as real numbers, dequantized and
// dense, in the order of its shape. Types: float32, float16, and int8, uint8,
// int16, int32 with or without quantization.
func (t *Tensor) Floats() ([]float32, error) {
	if !t.Constant() {
		return nil, fmt.Errorf("tensor %q holds no values", t.Name)
	}
	dense := t
	if t.Sparsity != nil {
		d, err := t.Dense()
		if err != nil {
			return nil, err
		}
		dense = &d
	}
	n := dense.Elements()
	size := dense.Type.Bits() / 8
	if n < 0 || size == 0 || n*size != len(dense.Buffer) {
		return nil, fmt.Errorf("tensor %q: %d bytes are not %v of %s", t.Name, len(dense.Buffer), dense.Shape, dense.Type)
	}
	out := make([]float32, n)
	b := dense.Buffer
	for i := range out {
		switch dense.Type {
		case Float32:
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		case Float16:
			out[i] = halfToFloat(binary.LittleEndian.Uint16(b[2*i:]))
		case Int8, Uint8, Int16, Int32:
			out[i] = float32(dense.integer(i))
		default:
			return nil, fmt.Errorf("tensor %q: %s are no real numbers", t.Name, dense.Type)
		}
	}
	if len(dense.Quant.Scale) > 0 && dense.Type != Float32 && dense.Type != Float16 {
		dense.dequantize(out)
	}
	return out, nil
}

// integer is the i-th stored integer.
func (t *Tensor) integer(i int) int {
	switch t.Type {
	case Int8:
		return int(int8(t.Buffer[i]))
	case Uint8:
		return int(t.Buffer[i])
	case Int16:
		return int(int16(binary.LittleEndian.Uint16(t.Buffer[2*i:])))
	}
	return int(int32(binary.LittleEndian.Uint32(t.Buffer[4*i:])))
}

// dequantize turns stored integers into reals: scale * (q - zero point).
func (t *Tensor) dequantize(v []float32) {
	slice := t.slices()
	for i := range v {
		c := slice(i)
		zero := int64(0)
		if c < len(t.Quant.ZeroPoint) {
			zero = t.Quant.ZeroPoint[c]
		}
		v[i] = t.Quant.Scale[c] * (v[i] - float32(zero))
	}
}

// slices gives a function from an element's index to that of its scale.
func (t *Tensor) slices() func(i int) int {
	n := len(t.Quant.Scale)
	if n <= 1 || t.Quant.Dim < 0 || t.Quant.Dim >= len(t.Shape) || t.Shape[t.Quant.Dim] != n {
		return func(int) int { return 0 }
	}
	inner := 1
	for _, d := range t.Shape[t.Quant.Dim+1:] {
		inner *= d
	}
	return func(i int) int { return i / inner % n }
}

// FloatBytes are float32 numbers as a Buffer holds them.
func FloatBytes(v []float32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

// HalfBytes are float32 numbers as float16, rounded to nearest even; what is
// too large becomes the largest float16.
func HalfBytes(v []float32) []byte {
	b := make([]byte, 0, 2*len(v))
	for _, f := range v {
		b = binary.LittleEndian.AppendUint16(b, floatToHalf(f))
	}
	return b
}

// Int32Bytes are integers as a Buffer holds them.
func Int32Bytes(v ...int32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, n := range v {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return b
}

// halfToFloat reads an IEEE 754 binary16.
func halfToFloat(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exp, frac := uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exp {
	case 0:
		f := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// floatToHalf writes an IEEE 754 binary16.
func floatToHalf(f float32) uint16 {
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	abs := bits & 0x7fff_ffff
	switch {
	case abs > 0x7f80_0000: // NaN
		return sign | 0x7e00
	case abs >= 0x477f_f000: // rounds beyond the largest
		return sign | 0x7bff
	case abs < 0x3880_0000: // subnormal: in steps of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(abs))*(1<<24)))
	}
	rounded := abs + 0xfff + abs>>13&1
	return sign | uint16(rounded>>13-112<<10)
}

// maxDense is the most that a sparse constant may unpack to, in bytes.
const maxDense = 1 << 28

// maxSparse is how many times its stored values a large sparse tensor may be
// long: a file of a few bytes could otherwise keep a gateway busy for minutes.
const maxSparse = 1000

// Dense unpacks a sparse constant: the same tensor without Sparsity.
func (t *Tensor) Dense() (Tensor, error) {
	out := *t
	s := t.Sparsity
	if s == nil {
		return out, nil
	}
	out.Sparsity = nil
	n, size := t.Elements(), t.Type.Bits()/8
	rank := len(t.Shape)
	if n > maxDense/max(size, 1) {
		return out, fmt.Errorf("tensor %q: %v of %s are more than %d bytes", t.Name, t.Shape, t.Type, maxDense)
	}
	if n > 1<<20 && n*size/maxSparse > len(t.Buffer) {
		return out, fmt.Errorf("tensor %q: %v of %s from %d bytes: fewer than one in %d is stored", t.Name, t.Shape, t.Type, len(t.Buffer), maxSparse)
	}
	if n < 0 || size == 0 || len(s.Dims) != rank+len(s.BlockMap) || len(s.Traversal) != len(s.Dims) {
		return out, fmt.Errorf("tensor %q: its sparsity does not fit its shape %v", t.Name, t.Shape)
	}
	for i, d := range s.Traversal {
		if d < 0 || d >= len(s.Dims) || i >= rank && d < rank {
			return out, fmt.Errorf("tensor %q: its sparsity names dimension %d", t.Name, d)
		}
	}
	for _, d := range s.BlockMap {
		if d < 0 || d >= rank {
			return out, fmt.Errorf("tensor %q: its sparsity names block dimension %d", t.Name, d)
		}
	}
	e := expander{t: t, out: make([]byte, n*size), size: size, at: make([]int, len(s.Dims)), steps: 2 * (n + 1) * len(s.Dims)}
	if err := e.walk(0, 0); err != nil {
		return out, fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	out.Buffer = e.out
	return out, nil
}

// expander walks the levels of a sparse tensor in the order of traversal and
// copies each stored element to its place.
type expander struct {
	t    *Tensor
	out  []byte
	size int
	at   []int // position in each level
	// steps is how often a level may still be entered: levels whose sizes do not
	// multiply to the tensor's could be walked for ever.
	steps int
}

func (e *expander) walk(level, parent int) error {
	s := e.t.Sparsity
	if e.steps--; e.steps < 0 {
		return errors.New("its levels hold more than its shape")
	}
	if level == len(s.Dims) {
		return e.put(parent)
	}
	d := &s.Dims[level]
	if !d.Sparse {
		for i := range d.Size {
			e.at[level] = i
			if err := e.walk(level+1, parent*d.Size+i); err != nil {
				return err
			}
		}
		return nil
	}
	if parent+1 >= len(d.Segments) {
		return fmt.Errorf("row %d of level %d is missing", parent, level)
	}
	for k := d.Segments[parent]; k < d.Segments[parent+1]; k++ {
		if k < 0 || int(k) >= len(d.Indices) {
			return fmt.Errorf("index %d of level %d is missing", k, level)
		}
		e.at[level] = int(d.Indices[k])
		if err := e.walk(level+1, int(k)); err != nil {
			return err
		}
	}
	return nil
}

// put copies the stored element at index from to where the levels stand.
func (e *expander) put(from int) error {
	s, rank := e.t.Sparsity, len(e.t.Shape)
	pos := make([]int, rank)
	block := make([]int, rank)
	size := make([]int, rank)
	for i := range size {
		size[i] = 1
	}
	for level, d := range s.Traversal {
		if d < rank {
			pos[d] = e.at[level]
			continue
		}
		m := s.BlockMap[d-rank]
		block[m] = e.at[level]
		size[m] = s.Dims[level].Size
	}
	flat := 0
	for i, n := range e.t.Shape {
		p := pos[i]*size[i] + block[i]
		if p < 0 || p >= n {
			return fmt.Errorf("position %d of dimension %d is outside", p, i)
		}
		flat = flat*n + p
	}
	if (from+1)*e.size > len(e.t.Buffer) {
		return fmt.Errorf("element %d is missing", from)
	}
	copy(e.out[flat*e.size:(flat+1)*e.size], e.t.Buffer[from*e.size:])
	return nil
}
