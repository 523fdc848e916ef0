package infer

import (
	"bytes"
	"math"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrongEncodings shows the runtime each encoding that the check refuses:
// the answer is wrong or refused, and that of its neighbour is not. A runtime
// that has learnt one of them fails here, and the check can go.
func TestWrongEncodings(t *testing.T) {
	int8s := func(v ...int8) (b []byte) {
		for _, x := range v {
			b = append(b, byte(x))
		}
		return b
	}
	real4, int4 := floats32(nil, 1, 2, 3, 4).Data, int8s(20, 20, 20, 20)
	conv := bytes.Repeat(int8s(20), 8)
	for _, c := range []struct {
		file    string
		in      []byte
		want    []float64 // by arithmetic
		wrong   bool      // the runtime answers something else
		refused string    // or says so
	}{
		// 0.1*0.5*(20*sum) = 100, 260, 420 and the bias 0.05, 0.1, 0.15, in steps of 4.
		{file: "dense_int8", in: int4, want: []float64{100, 260, 420}},
		{file: "dense_int8_per_channel", in: int4, want: []float64{100, 508, 508}, wrong: true},
		{file: "dense_hybrid", in: real4, want: []float64{30, 70, 110}},
		{file: "dense_hybrid_per_channel", in: real4, want: []float64{30, 140, 330}, wrong: true},
		{file: "dense_int8_densify", in: int4, want: []float64{52, 60, 120}},
		{file: "dense_int8_sparse", in: int4, want: []float64{52, 60, 120}, wrong: true},
		{file: "dense_int4", in: real4, refused: "Unsupported data type 17"},
		{file: "dense_float16_dequantize", in: real4, want: []float64{7.5, 7.5, 7.5}},
		{file: "dense_float16", in: real4, refused: "FLOAT16 != FLOAT32"},
		{file: "conv_int8", in: conv, want: []float64{0, 300, 0, 300, 0, 300, 0, 300}},
		{file: "conv_int8_zero_scale", in: conv, want: []float64{0, 300, 0, 300, 0, 300, 0, 300}},
		{file: "conv_int8_dimension", in: conv, refused: "quantized_dimension must be in range"},
		{file: "conv_int8_sparse", in: conv, want: []float64{0, 300, 0, 300, 0, 300, 0, 300}, wrong: true},
		{file: "matmul_int8", in: int4, want: []float64{220, 260, 300}},
		{file: "matmul_int8_per_channel", in: int4, want: []float64{220, 508, 508}, wrong: true},
		{file: "mul_int8", in: int4, want: []float64{10, 20, 30, 40}},
		{file: "mul_int8_per_channel", in: int4, want: []float64{10, 40, 90, 160}, wrong: true},
		{file: "edgetpu", in: int4, refused: "edgetpu-custom-op"},
	} {
		t.Run(c.file, func(t *testing.T) {
			path := filepath.Join("model", "testdata", c.file+".tflite")
			m, _, _ := modelInfos(t, path)
			if refuses := m.Check() != nil; refuses != (c.wrong || c.refused != "") {
				t.Errorf("the check says %v", m.Check())
			}
			out, err := invoke(t, path, builtin, c.in)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("the runtime says %v, not %q", err, c.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			near := true
			got := out[0].Floats(nil)
			for i, v := range got {
				near = near && math.Abs(v-c.want[i]) <= max(float64(out[0].Scale), 0.02*c.want[i])
			}
			if near == c.wrong {
				t.Errorf("the runtime answers %v, arithmetic %v", got, c.want)
			}
			_, err = invoke(t, path, 3, c.in)
			if refuses := err != nil; refuses != (len(m.Notices()) > 0) {
				t.Errorf("XNNPACK says %v, the notices are %v", err, m.Notices())
			}
		})
	}
}
