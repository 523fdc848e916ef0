package aggregate

// newMedian is the coordinate-wise median: Yin, Chen, Ramchandran, Bartlett,
// "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
// arXiv:1803.01498, definition 1. It bears attackers that are fewer than half;
// samples do not count. For the report the middle is the middle half.
func newMedian() *ranked {
	return &ranked{
		name: "the median", least: 3,
		cut: func(m int) int { return m / 4 },
		center: func(sorted []int32, _ int) float64 {
			m := len(sorted)
			return (value(sorted[(m-1)/2]) + value(sorted[m/2])) / 2
		},
	}
}
