package aggregate

import (
	"cmp"
	"fmt"
	"slices"
)

// krum is Krum and Multi-Krum: Blanchard, El Mhamdi, Guerraoui, Stainer,
// "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
// NeurIPS 2017. Each of m updates is scored by the sum of the squared distances
// to its m-f-2 nearest others, f being the attackers it has to bear. Krum takes
// the one with the lowest score, Multi-Krum the mean of the lowest, m-f or
// fewer. It needs m >= 2f+3. Samples do not count. It compares each with each:
// m²/2 distances.
type krum struct {
	kept
	attackers int
	keep      int // 0: all but the attackers
}

func (k *krum) mean(r *Report, members []member) []float64 {
	f := k.attackers
	if tooFew(r, members, 2*f+3, fmt.Sprintf("Krum with %d attackers", f)) {
		return nil
	}
	scores := k.scores(members)
	order := make([]int, len(members)) // by score; equal ones by name
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[a], scores[b]) })
	keep := len(members) - f
	if k.keep > 0 {
		keep = min(k.keep, keep)
	}
	sum := make(fixed, len(k.list[0]))
	for _, i := range order[:keep] {
		sum.add(k.list[members[i].at], 1)
	}
	for place, i := range order[keep:] {
		m := members[i]
		r.SetAside = append(r.SetAside, Aside{m.from, fmt.Sprintf("place %d of %d by its distance to the nearest others, %d are taken", keep+place+1, len(order), keep), scores[i], false})
		r.Samples -= m.samples
	}
	r.Counted = keep
	k.list = nil
	return sum.over(float64(keep))
}

// scores are those of members, in their order.
func (k *krum) scores(members []member) []float64 {
	m := len(members)
	squares := make([][]float64, m)
	for i := range squares {
		squares[i] = make([]float64, m)
	}
	inParts(m, 1, func(i, _ int) {
		for j := range i {
			d := distance(k.list[members[i].at], k.list[members[j].at])
			squares[i][j], squares[j][i] = d, d
		}
	})
	scores := make([]float64, m)
	for i, row := range squares {
		slices.Sort(row) // the first is 0, of i to itself
		for _, d := range row[1 : m-k.attackers-1] {
			scores[i] += d
		}
	}
	return scores
}

// distance is the squared one, in four lanes as norm.
func distance(x, y []float32) float64 {
	var s [4]float64
	y = y[:len(x)]
	i := 0
	for ; i+4 <= len(x); i += 4 {
		a, b := float64(x[i])-float64(y[i]), float64(x[i+1])-float64(y[i+1])
		c, d := float64(x[i+2])-float64(y[i+2]), float64(x[i+3])-float64(y[i+3])
		s[0] += float64(a * a)
		s[1] += float64(b * b)
		s[2] += float64(c * c)
		s[3] += float64(d * d)
	}
	for ; i < len(x); i++ {
		d := float64(x[i]) - float64(y[i])
		s[0] += float64(d * d)
	}
	return (s[0] + s[1]) + (s[2] + s[3])
}
