package aggregate

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// grid is how values are rounded: to whole steps of a scale, which each block
// of values has for itself.
type grid struct {
	levels int // on either side of 0
	block  int // values that share a scale
	pack   int // values in a byte
}

var eight = grid{levels: 127, block: 256, pack: 1}

// scaleOf is the least float32 whose levels reach largest.
func (g grid) scaleOf(largest float32) float32 {
	s := largest / float32(g.levels)
	if float64(s)*float64(g.levels) < float64(largest) { // exact in 64 bits
		s = math.Nextafter32(s, math.MaxFloat32)
	}
	return s
}

// encodeRounded appends, for each block, its scale and its values as whole
// numbers of it, rounded up or down by lot so that the mean is right
// (Alistarh, Grubic, Li, Tomioka, Vojnovic, "QSGD", arXiv:1610.02132).
func encodeRounded(b []byte, x []float32, g grid, seed uint64) []byte {
	lots := rand.NewPCG(seed, uint64(g.levels))
	for ; len(x) > 0; x = x[min(g.block, len(x)):] {
		part := x[:min(g.block, len(x))]
		scale := g.scaleOf(math.Float32frombits(peak(part)))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(scale))
		var lot uint64
		for i, v := range part {
			if i%2 == 0 {
				lot = lots.Uint64()
			} else {
				lot >>= 32
			}
			q := 0
			if scale > 0 {
				// The scale's levels reach each value: with a lot in [0, 1) added
				// it stays below the next one.
				at := float64(float64(v) / float64(scale))
				q = int(math.Floor(at + float64(uint32(lot))/(1<<32)))
			}
			b = append(b, byte(int8(q)))
		}
	}
	return b
}

func decodeRounded(r *reader, n int, g grid) []float32 {
	blocks := (n + g.block - 1) / g.block
	if len(r.data) != 4*blocks+n {
		r.fail("its length is not that of so many weights")
		return nil
	}
	x := make([]float32, 0, n)
	for len(x) < n {
		scale := r.float32()
		for _, q := range r.bytes(min(g.block, n-len(x))) {
			if int8(q) == -128 {
				r.fail("a value is outside its levels")
				return nil
			}
			x = append(x, float32(int8(q))*scale)
		}
	}
	return x
}
