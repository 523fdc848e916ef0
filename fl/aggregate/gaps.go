package aggregate

import "math/bits"

// Gaps between places chosen by lot with share p are about as often short as a
// coin is tossed: for those a Golomb code is the shortest there is (Golomb,
// "Run-Length Encodings", 1966), and with a power of two, as Rice has it, it
// is within some hundredths of it. Each gapBlock of gaps has a power of its own,
// since the layers of a network move in unequal parts. A gap is its upper part
// as so many zeros and a one, then its low bits; the bits fill bytes from below.
const (
	gapBlock = 256
	gapPower = 5 // bits of the power
)

// riceBits is what gaps take with a power.
func riceBits(gaps []uint32, power int) (n int) {
	for _, g := range gaps {
		n += int(g>>power) + 1 + power
	}
	return n
}

// appendGaps appends the gaps before each of places, which ascend.
func appendGaps(b []byte, places []int) []byte {
	w := bitWriter{b: b}
	next := 0
	var gaps [gapBlock]uint32
	for len(places) > 0 {
		part := gaps[:min(gapBlock, len(places))]
		for i := range part {
			part[i] = uint32(places[i] - next)
			next = places[i] + 1
		}
		places = places[len(part):]
		power := 0
		for p := range 1 << gapPower {
			if riceBits(part, p) < riceBits(part, power) {
				power = p
			}
		}
		w.write(uint64(power), gapPower)
		for _, g := range part {
			for range g >> power {
				w.write(0, 1)
			}
			w.write(1, 1)
			w.write(uint64(g)&(1<<power-1), power)
		}
	}
	return w.end()
}

// maxGapBytes bounds what appendGaps makes of k places below n: with a power of
// the bits of n each gap takes one more.
func maxGapBytes(k, n int) int {
	blocks := (k + gapBlock - 1) / gapBlock
	return (k*(bits.Len(uint(n))+1)+gapPower*blocks)/8 + 1
}

// gaps reads k places below n.
func (r *reader) gaps(k, n int) []int {
	// A place takes a bit or more.
	if k > n || k > 8*len(r.data) {
		r.fail("it has more values than there are weights or bits")
		return nil
	}
	places := make([]int, k)
	next, power := 0, 0
	from := bitReader{r: r}
	for i := range places {
		if i%gapBlock == 0 {
			power = int(from.read(gapPower))
		}
		upper := uint64(0)
		for from.read(1) == 0 && r.err == nil {
			upper++
		}
		gap := upper<<power | from.read(power)
		if r.err != nil {
			return nil
		}
		if gap >= uint64(n-next) || upper > uint64(n) {
			r.fail("a place is outside the weights")
			return nil
		}
		places[i] = next + int(gap)
		next = places[i] + 1
	}
	if from.kept != 0 {
		r.fail("bits after its places are not empty")
	}
	return places
}

// bitWriter appends bits to bytes, from the lowest on.
type bitWriter struct {
	b    []byte
	kept uint64
	n    int
}

func (w *bitWriter) write(v uint64, n int) {
	w.kept |= v << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.b = append(w.b, byte(w.kept))
		w.kept >>= 8
	}
}

func (w *bitWriter) end() []byte {
	if w.n > 0 {
		w.b = append(w.b, byte(w.kept))
	}
	return w.b
}

// bitReader reads what bitWriter wrote, byte by byte.
type bitReader struct {
	r    *reader
	kept uint64
	n    int
}

func (r *bitReader) read(n int) uint64 {
	for r.n < n {
		b := r.r.bytes(1)
		if b == nil {
			return 0
		}
		r.kept |= uint64(b[0]) << r.n
		r.n += 8
	}
	v := r.kept & (1<<n - 1)
	r.kept >>= n
	r.n -= n
	return v
}
