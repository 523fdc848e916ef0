package compress

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// Data says better than weights alone which channels can go: one that others
// give as well costs nothing, however large its weights are. What it costs to
// take channel c from a layer's inputs, where the weights of the others are then
// chosen anew, is |w_c|² / (C⁻¹)_cc with the covariance C of the inputs and the
// weights w_c for it: the optimal brain surgeon's rule (Hassibi and Stork,
// 1993), for a column in place of one weight. Channels go one after the other,
// the cheapest first, and what is left is looked at anew each time.

// taker is a layer that takes channels, while they go.
type taker struct {
	units  []int // of its input, for each channel
	w      []float64
	inv    *mat.SymDense // C⁻¹ of the channels that are left
	square []float64     // |w_c|²
	total  float64       // what its outputs vary by, all channels there
}

func (u *units) takers(seen map[int]*moments) (list []*taker, err error) {
	for i := range u.g.Ops {
		op := &u.g.Ops[i]
		m := seen[op.Inputs[0]]
		if m == nil || !u.mixes(op) {
			continue
		}
		n := len(m.mean)
		inv, err := m.inverse()
		if err != nil {
			return nil, fmt.Errorf("op %d %s: %w", i, op.Code, err)
		}
		t := &taker{units: slices.Clone(u.of[op.Inputs[0]][:n]), inv: inv, square: make([]float64, n)}
		w, err := u.g.Tensors[op.Inputs[1]].Floats()
		if err != nil {
			return nil, err
		}
		t.w = make([]float64, len(w))
		for k, v := range w {
			t.w[k] = float64(v)
		}
		rows := mat.NewDense(len(w)/n, n, t.w)
		var spread mat.Dense
		spread.Mul(rows, m.cov)
		for r := range len(w) / n {
			t.total += mat.Dot(rows.RowView(r), spread.RowView(r))
		}
		t.total = max(t.total, math.SmallestNonzeroFloat64)
		t.measure()
		list = append(list, t)
	}
	return list, nil
}

func (t *taker) measure() {
	n := len(t.units)
	clear(t.square)
	for i, v := range t.w {
		t.square[i%n] += v * v
	}
}

// cost is what the layer's outputs lose with a channel, as a part of all that
// they vary by.
func (t *taker) cost(c int) float64 {
	return t.square[c] / max(t.inv.At(c, c), math.SmallestNonzeroFloat64) / t.total
}

// remove takes a channel away: the others' weights take over, and the inverse
// becomes that of the covariance without it.
func (t *taker) remove(c int) {
	n := len(t.units)
	row := make([]float64, n)
	for k := range row {
		row[k] = t.inv.At(c, k)
	}
	for at := 0; at < len(t.w); at += n {
		v := t.w[at+c] / row[c]
		if v == 0 {
			continue
		}
		for k := range row {
			t.w[at+k] -= v * row[k]
		}
		t.w[at+c] = 0
	}
	for a := range n {
		if row[a] == 0 {
			continue
		}
		for b := a; b < n; b++ {
			t.inv.SetSym(a, b, t.inv.At(a, b)-row[a]*row[b]/row[c])
		}
	}
	t.units[c] = -1
	for k := range n {
		if t.units[k] < 0 { // keep what rounding leaves out of the way
			t.inv.SetSym(k, c, 0)
		}
	}
	t.measure()
}

// order gives scores that say in which order units go: the least cost by
// multiply-add, or by channel, first.
func (u *units) order(seen map[int]*moments, byMACs bool) ([]float64, error) {
	takers, err := u.takers(seen)
	if err != nil {
		return nil, err
	}
	score, worth := make([]float64, len(u.parent)), make([]float64, len(u.parent))
	var left []int
	all := macs(u.g)
	for _, f := range u.families(score) {
		saved := 1
		if byMACs {
			saved = max(all-macs(u.shaped(u.without(f.units[:1]))), 1)
		}
		for _, unit := range f.units {
			worth[unit] = float64(saved)
		}
		left = append(left, f.units...)
	}
	type place struct {
		t *taker
		c int
	}
	places := make([][]place, len(u.parent))
	for _, t := range takers {
		for c, unit := range t.units {
			places[unit] = append(places[unit], place{t, c})
		}
	}
	for n := 1; len(left) > 0; n++ {
		best, least := 0, math.Inf(1)
		for i, unit := range left {
			cost := 0.0
			for _, p := range places[unit] {
				cost += p.t.cost(p.c)
			}
			if cost /= worth[unit]; cost < least {
				best, least = i, cost
			}
		}
		unit := left[best]
		left = slices.Delete(left, best, best+1)
		for _, p := range places[unit] {
			p.t.remove(p.c)
		}
		score[unit] = float64(n)
	}
	return score, nil
}
