package drift

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// KS is the Kolmogorov-Smirnov distance of two samples that were counted in
// the same bins: the largest difference between their cumulative shares, in
// 0..1. On bins it is at most that of the samples themselves. Both must hold
// something.
func KS(a, b []uint32) float64 {
	na, nb := float64(total(a)), float64(total(b))
	var ca, cb uint64
	worst := 0.0
	for i := range a {
		ca += uint64(a[i])
		cb += uint64(b[i])
		worst = max(worst, math.Abs(float64(ca)/na-float64(cb)/nb))
	}
	return worst
}

// PSI is the population stability index of two samples that were counted in
// the same bins: the sum of (p-q) ln(p/q). A bin that is empty counts as half a
// sample. Between samples of n and m that are alike, PSI*n*m/(n+m) is spread
// about as chi-squared with a degree less than there are bins (B. Yurdakul,
// Statistical Properties of Population Stability Index, 2018).
func PSI(a, b []uint32) float64 {
	k := float64(len(a))
	na, nb := float64(total(a))+k/2, float64(total(b))+k/2
	sum := 0.0
	for i := range a {
		p, q := (float64(a[i])+0.5)/na, (float64(b[i])+0.5)/nb
		sum += (p - q) * math.Log(p/q)
	}
	return sum
}

func total(counts []uint32) (n uint64) {
	for _, c := range counts {
		n += uint64(c)
	}
	return n
}

// effective is the size of one sample that is as sure as two of n and m.
func effective(n, m float64) float64 { return n * m / (n + m) }

// kolmogorov is the chance that sqrt(n) times the distance of unchanged data
// is over z: 2 sum (-1)^(k-1) exp(-2 k^2 z^2).
func kolmogorov(z float64) float64 {
	if z < 0.2 {
		return 1
	}
	sum, sign := 0.0, 1.0
	for k := 1.0; k <= 100; k++ {
		term := math.Exp(-2 * k * k * z * z)
		sum += sign * term
		if term < 1e-17 {
			break
		}
		sign = -sign
	}
	return min(max(2*sum, 0), 1)
}

// kolmogorovAbove is the z that unchanged data is over with this chance.
func kolmogorovAbove(chance float64) float64 {
	low, high := 0.2, 10.0
	for range 60 {
		mid := (low + high) / 2
		if kolmogorov(mid) > chance {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// chiSquaredAbove is the value that chi-squared with so many degrees of
// freedom is over with this chance.
func chiSquaredAbove(chance float64, degrees int) float64 {
	d := distuv.ChiSquared{K: float64(degrees)}
	low, high := 0.0, 10.0*float64(degrees)+200
	for range 60 {
		mid := (low + high) / 2
		if d.Survival(mid) > chance {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// beyond is the chance that k of w new samples are all above the largest of n
// that are alike: w!/(w-k)! (n+w-k)!/(n+w)!, whatever their distribution. The
// sizes may be those that samples which depend on each other are worth, and no
// whole numbers.
func beyond(k, w, n float64) float64 {
	ln := func(v float64) float64 { g, _ := math.Lgamma(v + 1); return g }
	return math.Exp(ln(w) - ln(w-k) - ln(n+w) + ln(n+w-k))
}

// beyondShare is the share of w new samples that unchanged data has above the
// largest of n with this chance; over 1 where even all of them are no wonder.
func beyondShare(chance, w, n float64) float64 {
	if beyond(w, w, n) > chance {
		return math.Inf(1)
	}
	low, high := 0.0, w
	for range 60 {
		mid := (low + high) / 2
		if beyond(mid, w, n) > chance {
			low = mid
		} else {
			high = mid
		}
	}
	return high / w
}

// halfNormalAbove is the value that the amount of a standard normal number is
// over with this chance.
func halfNormalAbove(chance float64) float64 { return math.Sqrt2 * math.Erfcinv(chance) }

// halfNormalMean is the mean of that amount; its standard deviation is 0.756
// of it.
var halfNormalMean = math.Sqrt(2 / math.Pi)

// shift is by how many standard deviations two normal distributions lie apart
// whose KS distance is d: what is far apart stays comparable, though no
// distance is over 1. For small ones it is d sqrt(2 pi). Against a sample of n
// no distance tells more than that all is outside of it.
func shift(d, n float64) float64 { return 2 * math.Sqrt2 * math.Erfinv(min(d, 1-1/(2*n))) }

// distance is the KS distance of two that lie so far apart.
func distance(shift float64) float64 { return math.Erf(shift / (2 * math.Sqrt2)) }
