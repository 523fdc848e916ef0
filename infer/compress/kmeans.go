package compress

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// line is numbers in their order, with sums from the first on, so that mean
// and squared error of any stretch are known without looking at it.
type line struct {
	v       []float32
	sum, sq []float64 // of v[:i]
}

// newLine sorts v in place.
func newLine(v []float32) *line {
	slices.Sort(v)
	l := &line{v: v, sum: make([]float64, len(v)+1), sq: make([]float64, len(v)+1)}
	for i, x := range v {
		l.sum[i+1] = l.sum[i] + float64(x)
		l.sq[i+1] = l.sq[i] + float64(x)*float64(x)
	}
	return l
}

// mean is that of v[a:b], which is not empty.
func (l *line) mean(a, b int) float64 { return (l.sum[b] - l.sum[a]) / float64(b-a) }

// cost is the squared error of v[a:b] about its mean.
func (l *line) cost(a, b int) float64 {
	s := l.sum[b] - l.sum[a]
	return max(l.sq[b]-l.sq[a]-s*s/float64(b-a), 0)
}

// maxRounds bounds Lloyd's rounds; each makes the error smaller, and on lines of
// weights some dozens are enough.
const maxRounds = 500

// lloyd is k-means from k centres at even distances from the least to the
// largest value, which serves the few large weights better than a draw or a
// density would (arXiv:1510.00149, section 3.2). Centres that end without a
// value divide the clusters with the largest error. It gives the bounds of the
// clusters: cluster i is v[cuts[i]:cuts[i+1]], never empty.
func (l *line) lloyd(k int) (cuts []int) {
	low, high := float64(l.v[0]), float64(l.v[len(l.v)-1])
	centres := make([]float64, k)
	for i := range centres {
		centres[i] = low + (high-low)*float64(i)/float64(max(k-1, 1))
	}
	cuts = l.rest(centres)
	for len(cuts)-1 < k {
		next := l.rest(l.divide(cuts, k))
		if l.errorOf(next) >= l.errorOf(cuts) { // fewer values than centres
			break
		}
		cuts = next
	}
	return cuts
}

// divide gives k centres: those of the clusters, of which the ones with the
// largest errors are divided at their means; fewer where clusters run out.
func (l *line) divide(cuts []int, k int) (centres []float64) {
	n := len(cuts) - 1
	worst := make([]int, n)
	for i := range worst {
		worst[i] = i
	}
	slices.SortStableFunc(worst, func(i, j int) int {
		return cmp.Compare(l.cost(cuts[j], cuts[j+1]), l.cost(cuts[i], cuts[i+1]))
	})
	worst = worst[:min(k-n, n)]
	for i := range n {
		a, b := cuts[i], cuts[i+1]
		if m := l.first(a, b, l.mean(a, b)); m > a && m < b && slices.Contains(worst, i) {
			centres = append(centres, l.mean(a, m), l.mean(m, b))
		} else {
			centres = append(centres, l.mean(a, b))
		}
	}
	return centres
}

// first is the first of v[a:b] above x, b without one.
func (l *line) first(a, b int, x float64) int {
	return a + sort.Search(b-a, func(j int) bool { return float64(l.v[a+j]) > x })
}

// errorOf is the squared error of a division.
func (l *line) errorOf(cuts []int) (sum float64) {
	for i := 1; i < len(cuts); i++ {
		sum += l.cost(cuts[i-1], cuts[i])
	}
	return sum
}

// rest moves centres, which it changes, to the means of what is nearest to them
// until nothing moves; those without a value are left out.
func (l *line) rest(centres []float64) []int {
	k, n := len(centres), len(l.v)
	cuts, before := make([]int, k+1), []int(nil)
	for range maxRounds {
		cuts[k] = n
		for i := 1; i < k; i++ {
			cuts[i] = l.first(0, n, (centres[i-1]+centres[i])/2)
		}
		if slices.Equal(cuts, before) {
			break
		}
		before = append(before[:0], cuts...)
		for i := range centres {
			if cuts[i] < cuts[i+1] { // an empty one waits where it is
				centres[i] = l.mean(cuts[i], cuts[i+1])
			}
		}
	}
	return slices.Compact(cuts)
}

// maxTable is the most entries of the table that optimal makes.
const maxTable = 1 << 25

// optimal is the division of the line into k stretches with the least squared
// error there is, by dynamic programming over k: where the last stretch of the
// best division begins moves to the right with its end, so each row is found
// by halves in n log n steps. It gives nil where the table would be too large.
func (l *line) optimal(k int) (cuts []int) {
	n := len(l.v)
	k = min(k, n)
	if n > maxTable/k {
		return nil
	}
	// best[j] is the error of v[:j] in the stretches of the row.
	best, next := make([]float64, n+1), make([]float64, n+1)
	for j := 1; j <= n; j++ {
		best[j] = l.cost(0, j)
	}
	starts := make([][]int32, k) // of the last stretch
	for row := 1; row < k; row++ {
		start := make([]int32, n+1)
		var fill func(a, b, low, high int)
		fill = func(a, b, low, high int) {
			if a > b {
				return
			}
			j := (a + b) / 2
			least, at := math.Inf(1), low
			for i := low; i <= min(high, j-1); i++ {
				if e := best[i] + l.cost(i, j); e < least {
					least, at = e, i
				}
			}
			next[j], start[j] = least, int32(at)
			fill(a, j-1, low, at)
			fill(j+1, b, at, high)
		}
		fill(row+1, n, row, n-1)
		starts[row] = start
		best, next = next, best
		clear(best[:row+1])
	}
	cuts = []int{n}
	for row, j := k-1, n; row > 0; row-- {
		j = int(starts[row][j])
		cuts = append(cuts, j)
	}
	cuts = append(cuts, 0)
	slices.Reverse(cuts)
	return cuts
}

// whole moves bounds that stand between equal values behind them: a value is of
// one cluster.
func (l *line) whole(cuts []int) []int {
	for i := 1; i < len(cuts)-1; i++ {
		for cuts[i] < len(l.v) && l.v[cuts[i]] == l.v[cuts[i]-1] {
			cuts[i]++
		}
	}
	return slices.Compact(cuts)
}
