package compress

import (
	"strings"
	"testing"
)

// A layer loses more the more of its weights go; a row is there for each layer
// and way, and all agree with the model made smaller by hand.
func TestSensitivityWays(t *testing.T) {
	m, _, judge := ringsModel(t)
	file := written(t, m)
	job := Job{File: file, Config: DefaultConfig(), Calibration: judge, Judged: judge}
	before, rows, err := Sensitivity(t.Context(), job, Classes, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 3*len(Ways) {
		t.Fatalf("%d rows", len(rows))
	}
	by := map[string]map[int]Layer{}
	for i, l := range rows {
		if l.Way != Ways[i/3] {
			t.Errorf("row %d is by %s", i, l.Way)
		}
		if by[l.Way] == nil {
			by[l.Way] = map[int]Layer{}
		}
		by[l.Way][l.Op] = l
	}
	for op := range by["int8"] {
		if a, b, c := by["pruned-50"][op], by["pruned-80"][op], by["pruned-90"][op]; !(a.Difference < b.Difference && b.Difference < c.Difference) {
			t.Errorf("op %d loses %v, %v, %v", op, a.Difference, b.Difference, c.Difference)
		}
		if l := by["16-values"][op]; l.Difference == 0 || l.Difference > by["pruned-90"][op].Difference {
			t.Errorf("op %d with 16 values: %v", op, l.Difference)
		}
	}
	// The last layer at 80 %, by hand.
	cfg := DefaultPrune()
	cfg.Scope, cfg.Sparsity, cfg.Last = "layer", 0.8, true
	all, _, err := Prune(m, cfg)
	if err != nil {
		t.Fatal(err)
	}
	hand, g := m.Clone(), m.Main()
	last := len(g.Ops) - 1
	for g.Ops[last].Code != "FULLY_CONNECTED" {
		last--
	}
	hand.Main().Tensors[g.Ops[last].Inputs[1]].Buffer = all.Main().Tensors[all.Main().Ops[last].Inputs[1]].Buffer
	after := judged(t, hand, Classes, judge)
	if want := before.Top1 - after.Top1; by["pruned-80"][last].Lost != want {
		t.Errorf("the last layer loses %v, by hand %v", by["pruned-80"][last].Lost, want)
	}
	if _, _, err := Sensitivity(t.Context(), job, Classes, []string{"half"}); err == nil || !strings.Contains(err.Error(), "is none of int8") {
		t.Error(err)
	}
}

// What is added in another order loses nothing.
func TestLost(t *testing.T) {
	sum := func(list ...float64) (s float64) {
		for _, v := range list {
			s += v
		}
		return s
	}
	a, b := &Quality{Task: Classes, Top1: sum(0.1, 0.2, 0.3)}, &Quality{Task: Classes, Top1: sum(0.3, 0.2, 0.1)}
	if a.Top1 == b.Top1 || lost(a, b) != 0 || lost(b, a) != 0 {
		t.Errorf("%v and %v: %v is lost", a.Top1, b.Top1, lost(a, b))
	}
	if got := lost(a, &Quality{Task: Classes, Top1: 0.5}); got < 0.099 || got > 0.101 {
		t.Errorf("%v is lost of 0.1", got)
	}
}
