package infer

import (
	"math"
	"testing"
)

// TestFloat: every element type as the real number that it stands for.
func TestFloat(t *testing.T) {
	for _, c := range []struct {
		t    Tensor
		want []float64
	}{
		{Tensor{Type: Float32, Data: []byte{0, 0, 0x20, 0xc1, 0, 0, 0x80, 0x3f}}, []float64{-10, 1}},
		{Tensor{Type: Int8, Scale: 0.5, ZeroPoint: -128, Data: []byte{0x80, 0x7f, 0}}, []float64{0, 127.5, 64}},
		{Tensor{Type: Uint8, Scale: 0.0078125, ZeroPoint: 128, Data: []byte{0, 128, 255}}, []float64{-1, 0, 0.9921875}},
		{Tensor{Type: Int16, Scale: 2, Data: []byte{0x00, 0x80, 0xff, 0x7f}}, []float64{-65536, 65534}},
		{Tensor{Type: Int32, Scale: 0.25, Data: []byte{0xfe, 0xff, 0xff, 0xff, 0, 0, 0, 0x80}}, []float64{-0.5, -math.Exp2(29)}},
		{Tensor{Type: Int64, Data: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}, []float64{-1}},
		{Tensor{Type: Uint8, Data: []byte{7, 255}}, []float64{7, 255}}, // not quantized
		{Tensor{Type: Bool, Scale: 3, Data: []byte{0, 1, 2}}, []float64{0, 1, 1}},
		{Tensor{Type: Int32, Data: []byte{1, 0, 0, 0, 9, 9}}, []float64{1}}, // cut
		{Tensor{Data: []byte{1, 2}}, nil}, // unknown
	} {
		got := c.t.Floats(nil)
		if len(got) != len(c.want) {
			t.Errorf("%v: %v, want %v", c.t.Type, got, c.want)
			continue
		}
		fast := make([]float64, len(got))
		read(&c.t, 0, fast)
		for i := range got {
			if got[i] != c.want[i] || fast[i] != c.want[i] || c.t.Float(i) != c.want[i] {
				t.Errorf("%v: element %d is %v and %v, want %v", c.t.Type, i, got[i], c.t.Float(i), c.want[i])
			}
		}
	}
}
