package compress

import (
	"math"

	"edgegateway/infer/model"
)

// Only weights of so many elements are stored shorter by dynamic and float16:
// below it the tables cost more than the numbers.
const worthIt = 256

// quantizeWeights stores float weights as int8 from -127 to 127, zero point 0:
// one scale for each slice along dim, or one for all where dim is below 0. A
// slice of zeros has scale 1, which every kernel takes.
func quantizeWeights(t *model.Tensor, v []float32, dim int) {
	channels, inner := 1, len(v)
	if dim >= 0 {
		channels, inner = t.Shape[dim], 1
		for _, d := range t.Shape[dim+1:] {
			inner *= d
		}
	}
	channel := func(i int) int {
		if dim < 0 {
			return 0
		}
		return i / inner % channels
	}
	top := make([]float64, channels)
	for i, x := range v {
		top[channel(i)] = max(top[channel(i)], math.Abs(float64(x)))
	}
	q := model.Quantization{Scale: make([]float32, channels), ZeroPoint: make([]int64, channels), Dim: max(dim, 0)}
	for c, m := range top {
		q.Scale[c] = float32(m / 127)
		if q.Scale[c] == 0 || q.Scale[c]-q.Scale[c] != 0 {
			q.Scale[c] = 1
		}
	}
	b := make([]byte, len(v))
	for i, x := range v {
		b[i] = byte(int8(min(max(math.RoundToEven(float64(x)/float64(q.Scale[channel(i)])), -127), 127)))
	}
	t.Type, t.Quant, t.Buffer = model.Int8, q, b
}

// quantizeBias stores a bias with the scale that the sums of its layer have:
// that of the input times that of the weights. It is int32, and int64 where
// the values are int16. It says whether a value did not fit.
func quantizeBias(t *model.Tensor, v []float32, in float32, w []float32, wide bool) (cut bool) {
	q := model.Quantization{Scale: make([]float32, len(w)), ZeroPoint: make([]int64, len(w))}
	for c := range w {
		q.Scale[c] = in * w[c]
	}
	limit := float64(math.MaxInt32)
	var ints []int32
	var longs []byte
	if wide {
		limit = math.MaxInt32 << 8 // of 40 bits, as TensorFlow has it
	}
	for i, x := range v {
		s := float64(q.Scale[min(i, len(w)-1)])
		r := math.RoundToEven(float64(x) / s)
		if r > limit || r < -limit {
			cut = true
			r = min(max(r, -limit), limit)
		}
		if wide {
			n := int64(r)
			for k := range 8 {
				longs = append(longs, byte(n>>(8*k)))
			}
		} else {
			ints = append(ints, int32(r))
		}
	}
	t.Quant = q
	t.Type, t.Buffer = model.Int32, model.Int32Bytes(ints...)
	if wide {
		t.Type, t.Buffer = model.Int64, longs
	}
	return cut
}

// scaleOf gives scale and zero point for a range that holds 0, as int8 or, one
// scale for both signs, as int16.
func scaleOf(low, high float64, wide bool) model.Quantization {
	low, high = min(low, 0), max(high, 0)
	one := func(scale float64, zero int64) model.Quantization {
		if scale == 0 || scale-scale != 0 {
			scale = 1
		}
		return model.Quantization{Scale: []float32{float32(scale)}, ZeroPoint: []int64{zero}}
	}
	if wide {
		return one(max(-low, high)/32767, 0)
	}
	scale := (high - low) / 255
	if scale == 0 {
		return one(1.0/128, 0) // a scale of biases as well: not too coarse
	}
	zero := math.RoundToEven(-128 - low/scale)
	return one(scale, int64(min(max(zero, -128), 127)))
}

func roundEven(v float64) float64 { return math.RoundToEven(v) }

func roundInt8(v float64) int8 { return int8(min(max(math.RoundToEven(v), -128), 127)) }
