package infer

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// TestSetFloats: numbers are rounded, clamped, and read back as what they became.
func TestSetFloats(t *testing.T) {
	for _, c := range []struct {
		t        Tensor
		in, want []float64
	}{
		{Tensor{Type: Float32}, []float64{-1.5, 3}, []float64{-1.5, 3}},
		{Tensor{Type: Int8, Scale: 0.5, ZeroPoint: -128}, []float64{-9, 1.2, 1e9, math.Inf(1)}, []float64{0, 1, 127.5, 127.5}},
		{Tensor{Type: Uint8}, []float64{-1, 7.4, 300}, []float64{0, 7, 255}},
		{Tensor{Type: Int16, Scale: 2}, []float64{-1e9, 5.9}, []float64{-65536, 6}},
		{Tensor{Type: Int32}, []float64{-1e12, 1e12}, []float64{math.MinInt32, math.MaxInt32}},
		{Tensor{Type: Int64}, []float64{-1e30, 1e30, -3}, []float64{math.MinInt64, math.MaxInt64, -3}},
		{Tensor{Type: Bool}, []float64{0, 0.2, -1}, []float64{0, 1, 1}},
	} {
		c.t.Data = make([]byte, len(c.in)*c.t.Type.Size())
		if err := c.t.SetFloats(c.in); err != nil {
			t.Errorf("%v: %v", c.t.Type, err)
		}
		if got := c.t.Floats(nil); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v became %v, want %v", c.t.Type, c.in, got, c.want)
		}
	}
}

// TestSetRefuses: what does not fit is refused with both sizes.
func TestSetRefuses(t *testing.T) {
	x := Tensor{Type: Float32, Shape: []int{1, 2}, Data: make([]byte, 8)}
	for _, c := range []struct {
		err  error
		want string
	}{
		{x.SetFloats([]float64{1}), "2 numbers; 1 are given"},
		{x.SetFloats([]float64{1, math.NaN()}), "number 1 for the input is NaN"},
		{x.SetBytes([]byte{1}), "8 bytes; 1 bytes are given"},
		{(&Tensor{}).SetFloats(nil), "unknown"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%v, want %q in it", c.err, c.want)
		}
	}
}

func BenchmarkSetFloats(b *testing.B) {
	x := Tensor{Type: Int8, Scale: 0.5, Data: make([]byte, 640)}
	in := make([]float64, 640)
	for b.Loop() {
		if err := x.SetFloats(in); err != nil {
			b.Fatal(err)
		}
	}
}
