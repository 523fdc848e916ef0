package model

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestFloats(t *testing.T) {
	for _, c := range []struct {
		name string
		t    Tensor
		want []float32
	}{
		{"float32", Tensor{Type: Float32, Shape: []int{2}, Buffer: FloatBytes([]float32{1.5, -2})}, []float32{1.5, -2}},
		{"float16", Tensor{Type: Float16, Shape: []int{2}, Buffer: []byte{0, 0x38, 0, 0xbc}}, []float32{0.5, -1}},
		{"int8", Tensor{Type: Int8, Shape: []int{2}, Buffer: []byte{0xfe, 3}, Quant: Quantization{Scale: []float32{0.5}, ZeroPoint: []int64{1}}}, []float32{-1.5, 1}},
		{"uint8", Tensor{Type: Uint8, Shape: []int{2}, Buffer: []byte{0xfe, 3}, Quant: Quantization{Scale: []float32{2}, ZeroPoint: []int64{4}}}, []float32{500, -2}},
		{"int16", Tensor{Type: Int16, Shape: []int{1}, Buffer: []byte{0xff, 0xff}}, []float32{-1}},
		{"int32", Tensor{Type: Int32, Shape: []int{1}, Buffer: Int32Bytes(-70000)}, []float32{-70000}},
		{"per channel on 0", Tensor{Type: Int8, Shape: []int{2, 2}, Buffer: []byte{1, 2, 3, 4}, Quant: Quantization{Scale: []float32{1, 10}, ZeroPoint: []int64{0, 0}}}, []float32{1, 2, 30, 40}},
		{"per channel on 1", Tensor{Type: Int8, Shape: []int{2, 2}, Buffer: []byte{1, 2, 3, 4}, Quant: Quantization{Scale: []float32{1, 10}, ZeroPoint: []int64{0, 0}, Dim: 1}}, []float32{1, 20, 3, 40}},
	} {
		got, err := c.t.Floats()
		if err != nil || len(got) != len(c.want) {
			t.Errorf("%s: %v, %v", c.name, got, err)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
		}
	}
	for _, bad := range []Tensor{
		{Name: "empty", Type: Float32, Shape: []int{2}},
		{Name: "short", Type: Float32, Shape: []int{2}, Buffer: make([]byte, 4)},
		{Name: "text", Type: String, Shape: []int{2}, Buffer: make([]byte, 4)},
	} {
		if v, err := bad.Floats(); err == nil {
			t.Errorf("%s: %v", bad.Name, v)
		}
	}
}

// float16 holds every one of its own values, and rounds all others to one of
// the two nearest.
func TestHalf(t *testing.T) {
	for h := range 1 << 16 {
		f := halfToFloat(uint16(h))
		if f != f || math.IsInf(float64(f), 0) {
			continue
		}
		if back := floatToHalf(f); back != uint16(h) {
			t.Fatalf("%#04x is %v is %#04x", h, f, back)
		}
	}
	for f, want := range map[float32]uint16{1: 0x3c00, 65504: 0x7bff, 1e9: 0x7bff, float32(math.Inf(-1)): 0xfbff, 0.1: 0x2e66, 2049: 0x6800, 2051: 0x6802, 5.9604645e-8: 1, 1e-9: 0} {
		if got := floatToHalf(f); got != want {
			t.Errorf("%v is %#04x, want %#04x", f, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float32Range(-65000, 65000).Draw(t, "f")
		h := binary.LittleEndian.Uint16(HalfBytes([]float32{f}))
		err := math.Abs(float64(halfToFloat(h) - f))
		for _, d := range []uint16{h - 1, h + 1} {
			if n := halfToFloat(d); math.Abs(float64(n-f)) < err {
				t.Fatalf("%v is %v, %v is nearer", f, halfToFloat(h), n)
			}
		}
	})
}

func TestDense(t *testing.T) {
	block := Tensor{
		Name: "blocks", Type: Int8, Shape: []int{4, 4}, Buffer: []byte{1, 2, 3, 4, 5, 6, 7, 8},
		Sparsity: &Sparsity{
			Traversal: []int{0, 1, 2, 3}, BlockMap: []int{0, 1},
			Dims: []SparseDim{{Size: 2}, {Sparse: true, Segments: []int32{0, 1, 2}, Indices: []int32{1, 0}}, {Size: 2}, {Size: 2}},
		},
	}
	d, err := block.Dense()
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{0, 0, 1, 2, 0, 0, 3, 4, 5, 6, 0, 0, 7, 8, 0, 0}
	if string(d.Buffer) != string(want) || d.Sparsity != nil {
		t.Errorf("% d, want % d", d.Buffer, want)
	}
	for name, damage := range map[string]func(*Sparsity){
		"a position outside": func(s *Sparsity) { s.Dims[1].Indices = []int32{9, 0} },
		"a row missing":      func(s *Sparsity) { s.Dims[1].Segments = []int32{0} },
		"an index missing":   func(s *Sparsity) { s.Dims[1].Segments = []int32{0, 1, 9} },
		"too few levels":     func(s *Sparsity) { s.Dims = s.Dims[:3] },
		"levels for ever":    func(s *Sparsity) { s.Dims[0].Size = 1 << 30; s.Dims[1] = SparseDim{Size: 1 << 30} },
		"an odd traversal":   func(s *Sparsity) { s.Traversal = []int{0, 1, 2, 9} },
		"an odd block map":   func(s *Sparsity) { s.BlockMap = []int{0, -1} },
	} {
		s := *block.Sparsity
		s.Dims = append([]SparseDim(nil), s.Dims...)
		damage(&s)
		bad := block
		bad.Sparsity = &s
		if _, err := bad.Dense(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A few bytes that claim a quarter of a gigabyte would be walked for long.
	bomb := Tensor{
		Name: "bomb", Type: Int8, Shape: []int{1 << 14, 1 << 14}, Buffer: []byte{1},
		Sparsity: &Sparsity{Traversal: []int{0, 1}, Dims: []SparseDim{{Size: 1 << 14}, {Sparse: true, Segments: make([]int32, 1<<14+1), Indices: []int32{0}}}},
	}
	if _, err := bomb.Dense(); err == nil || !strings.Contains(err.Error(), "fewer than one in 1000") {
		t.Errorf("a bomb: %v", err)
	}
}
