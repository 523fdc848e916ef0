package aggregate

import "math"

// fixed is a sum of updates in 64-bit fixed point.
type fixed []int64

// add adds weight times each value of x. The product is rounded to a float64
// and then, half to even, to an integer: the conversions keep a compiler from
// making one rounding of the two, as it would on arm64.
func (s fixed) add(x []float32, weight float64) {
	// What is added to 1.5 times 2^52 has its integer in the low bits; terms
	// are at most 2^48.
	const magic = 3 << 51
	base := math.Float64bits(magic)
	weight = math.Ldexp(weight, fraction)
	s = s[:len(x)]
	for i, v := range x {
		s[i] += int64(math.Float64bits(float64(float64(v)*weight)+magic) - base)
	}
}

// over is the sum divided by by.
func (s fixed) over(by float64) []float64 {
	by = math.Ldexp(by, fraction)
	mean := make([]float64, len(s))
	for i, v := range s {
		mean[i] = float64(v) / by
	}
	return mean
}

// averaged gathers the mean of updates, each weighted by its samples.
type averaged struct {
	stateless
	sum     fixed
	samples int64
}

func (a *averaged) begin(n int) {
	if len(a.sum) == n {
		clear(a.sum)
	} else {
		a.sum = make(fixed, n)
	}
	a.samples = 0
}

func (a *averaged) keeps() bool { return false }

func (a *averaged) weight(u *Update) float64 { return float64(u.Samples) }

func (a *averaged) add(u *Update, scale float64) error {
	a.sum.add(u.Delta, float64(u.Samples)*scale)
	a.samples += u.Samples
	return nil
}

func (a *averaged) mean(*Report, []member) []float64 {
	if a.samples == 0 {
		return nil
	}
	return a.sum.over(float64(a.samples))
}
