package aggregate

import "math"

// newTrimmed is the coordinate-wise trimmed mean (arXiv:1803.01498, definition
// 2): of each weight the share trim of the largest and of the smallest values
// are left out, and the others averaged. It bears attackers up to that share;
// samples do not count.
func newTrimmed(trim float64) *ranked {
	return &ranked{
		name: "this trimmed mean", least: int(math.Ceil(1/trim - 1e-9)),
		cut: func(m int) int { return min(int(float64(trim*float64(m))+1e-9), (m-1)/2) },
		center: func(sorted []int32, cut int) float64 {
			sum := 0.0
			for _, k := range sorted[cut : len(sorted)-cut] {
				sum += value(k)
			}
			return sum / float64(len(sorted)-2*cut)
		},
	}
}
