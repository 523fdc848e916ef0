package compress

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"

	"edgegateway/infer/model"
)

// prune removes the channels of m that weigh least, with all that depends on
// them. Where it was seen what they hold, that says which ones, and those that
// stay take over.
func (u *units) prune(m *model.Model, cfg PruneConfig, seen map[int]*moments) error {
	score, err := u.scores()
	if err == nil && seen != nil {
		score, err = u.order(seen, cfg.MACs > 0)
	}
	if err != nil {
		return err
	}
	keep, err := u.choose(score, cfg)
	if err != nil {
		return err
	}
	if err := u.fold(keep, seen); err != nil {
		return err
	}
	if err := u.cut(keep); err != nil {
		return err
	}
	m.Tidy()
	return nil
}

// scores says of each unit how much it weighs: the norms of the weights that
// make each of its channels, as parts of the root mean square of their layer,
// times those of the weights that take it; the mean of both sides' sources. A
// layer's scale, which the next one takes back, counts for nothing.
func (u *units) scores() ([]float64, error) {
	made, taken := newMeans(len(u.parent)), newMeans(len(u.parent))
	for i := range u.g.Ops {
		op := &u.g.Ops[i]
		if _, ok := linear(op.Code); !ok || !weighted(u.g, op) {
			continue
		}
		t := &u.g.Tensors[op.Inputs[1]]
		w, err := t.Floats()
		if err != nil {
			return nil, err
		}
		out, in := u.of[op.Outputs[0]], u.of[op.Inputs[0]]
		made.add(out, norms(w, len(out), channelOf(op, t.Shape, len(out), true)))
		if op.Code != "DEPTHWISE_CONV_2D" && len(in) > 0 && fits(u.g, op, len(in)) {
			taken.add(in, norms(w, len(in), channelOf(op, t.Shape, len(in), false)))
		}
	}
	score := make([]float64, len(u.parent))
	for unit := range score {
		score[unit] = made.of(unit) * taken.of(unit)
	}
	return score, nil
}

// norms are those of a layer's channels as parts of their root mean square.
func norms(w []float32, channels int, of func(int) int) []float64 {
	list := make([]float64, channels)
	sum := 0.0
	for i, v := range w {
		list[of(i)] += float64(v) * float64(v)
		sum += float64(v) * float64(v)
	}
	for c := range list {
		list[c] = math.Sqrt(list[c] / max(sum/float64(channels), math.SmallestNonzeroFloat64))
	}
	return list
}

// means gathers a number of each unit from several layers.
type means struct{ sum, n []float64 }

func newMeans(units int) means { return means{make([]float64, units), make([]float64, units)} }

func (m means) add(units []int, values []float64) {
	for c, unit := range units {
		m.sum[unit] += values[c]
		m.n[unit]++
	}
}

func (m means) of(unit int) float64 {
	if m.n[unit] == 0 {
		return 1
	}
	return m.sum[unit] / m.n[unit]
}

// family is units that the same layers begin: they stand for one another.
type family struct {
	units []int // the most important first
	left  int
}

// families are those whose units may go, in the order of the graph.
func (u *units) families(score []float64) (list []*family) {
	at := map[string]*family{}
	for unit, from := range u.sources {
		if len(from) == 0 || u.stays[unit] {
			continue
		}
		key := ""
		for _, s := range from {
			key += fmt.Sprint(s.op, " ")
		}
		if at[key] == nil {
			at[key] = &family{}
			list = append(list, at[key])
		}
		at[key].units = append(at[key].units, unit)
	}
	for _, f := range list {
		slices.SortStableFunc(f.units, func(a, b int) int { return cmp.Compare(score[b], score[a]) })
		f.left = len(f.units)
	}
	return list
}

// choose says which units are kept.
func (u *units) choose(score []float64, cfg PruneConfig) (keep []bool, err error) {
	all := u.families(score)
	count := 0
	var order []step
	for i, f := range all {
		count += len(f.units)
		for k, unit := range f.units {
			order = append(order, step{i, k, score[unit]})
		}
	}
	// The least important go first; by scope layer all families alike.
	slices.SortStableFunc(order, func(a, b step) int {
		if cfg.Scope == "layer" {
			return cmp.Compare(float64(b.rank)/float64(len(all[b.family].units)), float64(a.rank)/float64(len(all[a.family].units)))
		}
		return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(b.rank, a.rank))
	})
	kept := func(gone int) []bool {
		for _, f := range all {
			f.left = len(f.units)
		}
		for _, s := range order[:gone] {
			all[s.family].left--
		}
		var without []int
		for _, f := range all {
			f.left = min(max((f.left+cfg.Multiple-1)/cfg.Multiple*cfg.Multiple, cfg.Least, 1), len(f.units))
			without = append(without, f.units[f.left:]...)
		}
		return u.without(without)
	}
	if cfg.MACs == 0 {
		return kept(nearest(cfg.Sparsity, count)), nil
	}
	target := cfg.MACs * float64(macs(u.g))
	gone := sort.Search(count, func(gone int) bool { return float64(macs(u.shaped(kept(gone)))) <= target })
	keep = kept(gone)
	if left := macs(u.shaped(keep)); float64(left) > target {
		return nil, fmt.Errorf("%.1f %% of the multiply-adds are left where each layer keeps %d channels (rounded up to a multiple of %d), not %.1f %%; keep fewer", 100*float64(left)/float64(macs(u.g)), cfg.Least, cfg.Multiple, 100*cfg.MACs)
	}
	return keep, nil
}

// without keeps all units but some.
func (u *units) without(gone []int) []bool {
	keep := make([]bool, len(u.parent))
	for unit := range keep {
		keep[unit] = true
	}
	for _, unit := range gone {
		keep[unit] = false
	}
	return keep
}

// step is the removal of one unit: the rank-th of its family.
type step struct {
	family, rank int
	score        float64
}
