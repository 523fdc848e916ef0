package compress

import (
	"cmp"
	"math"
	"slices"
)

// matrix is the weights of a layer as outputs x inputs: of a convolution the
// inputs are height x width x channels, as the file has them.
type matrix struct {
	rows, cols int
	w          []float32
}

// matrixOf takes weights [out, in], OHWI, or those of a depthwise convolution,
// which are one row.
func matrixOf(shape []int, w []float32) matrix {
	rows := max(shape[0], 1)
	return matrix{rows, len(w) / rows, w}
}

// block is a part of a matrix that becomes 0 together.
type block struct {
	of         int // matrix
	row, col   int
	rows, cols int
	score      float64
}

func (m *matrix) each(b *block, f func(w *float32)) {
	for r := b.row; r < b.row+b.rows; r++ {
		for c := b.col; c < b.col+b.cols; c++ {
			f(&m.w[r*m.cols+c])
		}
	}
}

// zeroSmallest makes the share of blocks 0 whose weights are smallest, to the
// nearest whole block; what is 0 already goes first. Blocks at the edge of a
// matrix may be smaller; those of pattern 2:4 lose half of theirs, rounded down.
//
// By scope layer the mean square of a block's weights is compared within each
// matrix. By scope global it is divided by the sum of all that are not smaller
// in its matrix, as LAMP does (arXiv:2010.07611): what a layer loses is then
// counted against what it has left, and none loses all.
func zeroSmallest(list []matrix, pattern, scope string, share float64) {
	if pattern == "2:4" {
		for i := range list {
			zeroTwoOfFour(&list[i])
		}
		return
	}
	size := map[string][2]int{"unstructured": {1, 1}, "1x4": {1, 4}, "4x4": {4, 4}}[pattern]
	var all []block
	for i := range list {
		blocks := list[i].blocks(i, size[0], size[1])
		bySize(blocks)
		if scope == "layer" {
			zero(list, blocks[:nearest(share, len(blocks))])
			continue
		}
		lamp(blocks)
		all = append(all, blocks...)
	}
	bySize(all)
	zero(list, all[:nearest(share, len(all))])
}

// bySize sorts; among equals the first in the file goes first.
func bySize(blocks []block) {
	slices.SortStableFunc(blocks, func(a, b block) int { return cmp.Compare(a.score, b.score) })
}

func zero(list []matrix, blocks []block) {
	for i := range blocks {
		list[blocks[i].of].each(&blocks[i], func(w *float32) { *w = 0 })
	}
}

func nearest(share float64, n int) int { return int(math.Round(share * float64(n))) }

// blocks cuts a matrix; score is the mean square of a block's weights.
func (m *matrix) blocks(of, rows, cols int) []block {
	list := make([]block, 0, ((m.rows+rows-1)/rows)*((m.cols+cols-1)/cols))
	for r := 0; r < m.rows; r += rows {
		for c := 0; c < m.cols; c += cols {
			b := block{of: of, row: r, col: c, rows: min(rows, m.rows-r), cols: min(cols, m.cols-c)}
			m.each(&b, func(w *float32) { b.score += float64(*w) * float64(*w) })
			b.score /= float64(b.rows * b.cols)
			list = append(list, b)
		}
	}
	return list
}

// lamp divides scores, smallest first, by the sum of those from them on.
func lamp(blocks []block) {
	sum := 0.0
	for i := len(blocks) - 1; i >= 0; i-- {
		if sum += blocks[i].score; sum > 0 {
			blocks[i].score /= sum
		}
	}
}

// zeroTwoOfFour leaves the larger two of each four weights of a row.
func zeroTwoOfFour(m *matrix) {
	for r := range m.rows {
		row := m.w[r*m.cols : (r+1)*m.cols]
		for four := range slices.Chunk(row, 4) {
			at := []int{0, 1, 2, 3}[:len(four)]
			slices.SortStableFunc(at, func(a, b int) int {
				return cmp.Compare(math.Abs(float64(four[a])), math.Abs(float64(four[b])))
			})
			for _, i := range at[:len(four)/2] {
				four[i] = 0
			}
		}
	}
}
