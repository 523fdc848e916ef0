package aggregate

import (
	"encoding/binary"
	"math"
)

// defaultShare is what topk sends where its share is 0: Aji and Heafield,
// "Sparse Communication for Distributed Gradient Descent", arXiv:1704.05021,
// send the largest hundredth.
const defaultShare = 0.01

func (c Compression) share() float64 {
	if c.Share == 0 {
		return defaultShare
	}
	return c.Share
}

// count is how many of n weights travel.
func (c Compression) count(n int) int {
	return min(max(int(math.Round(c.share()*float64(n))), 1), n)
}

// largest are the places of the k values of x with the largest absolute values,
// in order; of equals the first. Zeros are not among them.
func largest(x []float32, k int) []int {
	// The least that is taken is found by counting: first by the upper 16 bits
	// of the absolute values' 31, then by the lower 15 of those that share them.
	const low = 15
	counts := make([]int32, 1<<16)
	for _, v := range x {
		counts[math.Float32bits(v)<<1>>(low+1)]++
	}
	above, upper := find(counts, k)
	counts = counts[:1<<low]
	clear(counts)
	for _, v := range x {
		if bits := math.Float32bits(v) << 1 >> 1; bits>>low == upper {
			counts[bits&(1<<low-1)]++
		}
	}
	same, lower := find(counts, k-above)
	least := upper<<low | lower
	ties := k - above - same
	places := make([]int, 0, k)
	for i, v := range x {
		switch bits := math.Float32bits(v) << 1 >> 1; {
		case bits == 0 || bits < least:
		case bits > least:
			places = append(places, i)
		case ties > 0:
			ties--
			places = append(places, i)
		}
	}
	return places
}

// find is where the k-th from the top falls, and how many are above.
func find(counts []int32, k int) (above int, at uint32) {
	for i := len(counts) - 1; i > 0; i-- {
		if above+int(counts[i]) >= k {
			return above, uint32(i)
		}
		above += int(counts[i])
	}
	return above, 0
}

// encodeTopK appends how many values travel, the gaps between their places, and
// the values: whole, or rounded to a grid. What does not travel is left over,
// and with it what rounding took (error feedback: Karimireddy, Rebjock, Stich,
// Jaggi, "Error Feedback Fixes SignSGD", arXiv:1901.09847). So rounding is to
// the nearest here: nothing is lost that lots would have to make good on the
// mean.
func encodeTopK(b []byte, wanted []float32, k int, rounded bool) (data []byte, left []float32) {
	places := largest(wanted, k)
	b = appendGaps(binary.AppendUvarint(b, uint64(len(places))), places)
	sent := make([]float32, len(places))
	for i, at := range places {
		sent[i] = wanted[at]
	}
	if rounded {
		from := len(b)
		b = encodeRounded(b, sent, eight, nearest)
		sent = decodeRounded(&reader{data: b[from:]}, len(sent), eight)
	} else {
		b = appendValues(b, sent)
	}
	left = append([]float32(nil), wanted...)
	for i, at := range places {
		left[at] -= sent[i]
	}
	return b, left
}

func decodeTopK(r *reader, n int, rounded bool) []float32 {
	k := r.uvarint()
	places := r.gaps(int(min(k, math.MaxInt32)), n)
	if r.err != nil {
		return nil
	}
	var sent []float32
	if rounded {
		sent = decodeRounded(r, len(places), eight)
	} else {
		sent = r.values(len(places))
	}
	if r.err != nil {
		return nil
	}
	x := make([]float32, n)
	for i, at := range places {
		x[at] = sent[i]
	}
	return x
}
