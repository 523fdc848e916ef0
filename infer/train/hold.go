package train

import (
	"fmt"
	"slices"
)

// holds is what the weights of a Param are held to while they are trained.
type holds struct {
	zero  []bool  // weights that stay 0; nil: none
	group []int32 // 0, 1, 2 ... for weights that are one weight, -1 for free ones; nil: all are free
	first []int32 // of each group: where its first weight stands
	sum   []float64
	// changes counts how often the holds became others: weights that were the
	// best under other holds are not to come back.
	changes int
}

// KeepZeros makes what is 0 now stay 0, whatever optimizer takes steps and
// whatever it remembers of the weights before. Called again it takes what is 0
// then: weights that have become 0 are added, those that have not are free
// again.
func (p *Param) KeepZeros() {
	var zero []bool
	for i, w := range p.W {
		if w == 0 {
			if zero == nil {
				zero = make([]bool, len(p.W))
			}
			zero[i] = true
		}
	}
	p.setHolds(zero, p.hold.group)
}

// Share makes weights with the same group, one number a weight, a single one:
// they become their mean, and then move together, by the sum of their
// gradients, which is the gradient by a centroid of Deep Compression
// (arXiv:1510.00149). Weights with a negative group are free. Zeros that are
// kept belong to no group. It panics where there are not as many groups as
// weights.
func (p *Param) Share(group []int32) {
	if len(group) != len(p.W) {
		panic(fmt.Sprintf("train: %d groups for the %d weights of %s", len(group), len(p.W), p.Name))
	}
	p.setHolds(p.hold.zero, group)
}

// Free ends what KeepZeros and Share began.
func (p *Param) Free() { p.setHolds(nil, nil) }

// setHolds numbers the groups anew and makes weights and moments fit.
func (p *Param) setHolds(zero []bool, group []int32) {
	var mine, first []int32
	number := map[int32]int32{}
	for i, g := range group {
		if mine == nil {
			mine = make([]int32, len(group))
		}
		if mine[i] = -1; g < 0 || zero != nil && zero[i] {
			continue
		}
		n, ok := number[g]
		if !ok {
			n = int32(len(first))
			number[g], first = n, append(first, int32(i))
		}
		mine[i] = n
	}
	if len(first) == 0 {
		mine = nil
	}
	h := &p.hold
	if !slices.Equal(h.zero, zero) || !slices.Equal(h.group, mine) {
		h.changes++
	}
	h.zero, h.group, h.first, h.sum = zero, mine, first, make([]float64, len(first))
	count := make([]float64, len(first))
	for _, g := range mine {
		if g >= 0 {
			count[g]++
		}
	}
	for _, v := range [][]float32{p.W, p.m, p.v} {
		if v == nil {
			continue
		}
		// The mean of numbers that are the same is that number, to the last bit.
		h.add(v)
		for i, g := range mine {
			if g >= 0 {
				v[i] = float32(h.sum[g] / count[g])
			}
		}
	}
	p.settle()
}

// add sums v by groups.
func (h *holds) add(v []float32) {
	clear(h.sum)
	for i, g := range h.group {
		if g >= 0 {
			h.sum[g] += float64(v[i])
		}
	}
}

// bind makes gradients those of what is free to move: 0 for a kept zero, for
// the weights of a group the sum over it.
func (p *Param) bind() {
	h := &p.hold
	h.add(p.G)
	for i, g := range h.group {
		if g >= 0 {
			p.G[i] = float32(h.sum[g])
		}
	}
	for i, z := range h.zero {
		if z {
			p.G[i] = 0
		}
	}
}

// settle makes weights and moments the same within a group after a step, which
// rounds the last few of an array otherwise than the others, and forgets what
// moved weights before they became zeros to keep.
func (p *Param) settle() {
	h := &p.hold
	for _, v := range [][]float32{p.W, p.m, p.v} {
		if v == nil {
			continue
		}
		for i, g := range h.group {
			if g >= 0 {
				v[i] = v[h.first[g]]
			}
		}
		for i, z := range h.zero {
			if z {
				v[i] = 0
			}
		}
	}
}

// changes counts the changes of holds of all parameters.
func changes(params []*Param) (n int) {
	for _, p := range params {
		n += p.hold.changes
	}
	return n
}

// sameHolds says whether weights are held as in a checkpoint.
func (p *Param) sameHolds(s savedParam) bool {
	return slices.Equal(p.hold.zero, s.Zero) && slices.Equal(p.hold.group, s.Group)
}
