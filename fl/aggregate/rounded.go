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

var (
	eight = grid{levels: 127, block: 256, pack: 1}
	four  = grid{levels: 7, block: 64, pack: 2}
)

// bytes is what n values take.
func (g grid) bytes(n int) int {
	return 4*((n+g.block-1)/g.block) + (n+g.pack-1)/g.pack
}

// scaleOf is a scale whose levels just reach largest.
func (g grid) scaleOf(largest float32) float32 {
	s := largest / float32(g.levels)
	if float64(s)*float64(g.levels) < float64(largest) { // exact in 64 bits
		s = math.Nextafter32(s, math.MaxFloat32)
	}
	return s
}

// byLot gives numbers in [0, 1), two of 32 bits from each of its generator's.
func byLot(seed uint64) func() float64 {
	from, kept, odd := rand.NewPCG(seed, 0), uint64(0), false
	return func() float64 {
		if odd = !odd; odd {
			kept = from.Uint64()
		} else {
			kept >>= 32
		}
		return float64(uint32(kept)) / (1 << 32)
	}
}

func nearest() float64 { return 0.5 }

// encodeRounded appends for each block its scale and its values as whole
// numbers of it: at plus lot rounded down. With lots from [0, 1) the mean is
// right (Alistarh, Grubic, Li, Tomioka, Vojnovic, "QSGD", arXiv:1610.02132).
func encodeRounded(b []byte, x []float32, g grid, lot func() float64) []byte {
	for len(x) > 0 {
		part := x[:min(g.block, len(x))]
		x = x[len(part):]
		scale := g.scaleOf(math.Float32frombits(peak(part)))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(scale))
		for i, v := range part {
			q := int8(0)
			if scale > 0 {
				// The levels reach v: with less than 1 added it stays below
				// the next one.
				q = int8(math.Floor(float64(v)/float64(scale) + lot()))
			}
			switch {
			case g.pack == 1:
				b = append(b, byte(q))
			case i%2 == 0:
				b = append(b, byte(q)&15)
			default:
				b[len(b)-1] |= byte(q) << 4
			}
		}
	}
	return b
}

// decodeRounded reads n values: one multiplication each, which is the same
// everywhere.
func decodeRounded(r *reader, n int, g grid) []float32 {
	if len(r.data) != g.bytes(n) {
		r.fail("its length is not that of so many weights")
		return nil
	}
	x := make([]float32, 0, n)
	for len(x) < n {
		scale := r.float32()
		size := min(g.block, n-len(x))
		packed := r.bytes((size + g.pack - 1) / g.pack)
		for i := range size {
			q := int8(packed[i/g.pack])
			if g.pack == 2 {
				q = q << (4 * (1 - i%2)) >> 4
			}
			if int(q) < -g.levels {
				r.fail("a value is outside its levels")
				return nil
			}
			x = append(x, float32(q)*scale)
		}
		if size%g.pack != 0 && packed[size/g.pack]>>4 != 0 {
			r.fail("half a byte after its end is not empty")
			return nil
		}
	}
	return x
}
