package compress

import (
	"errors"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"edgegateway/infer/train"
)

func TestShared(t *testing.T) {
	many := make([]float32, 1000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range many {
		many[i] = float32(r.NormFloat64())
	}
	few := make([]float32, 1000)
	for i := range few {
		few[i] = []float32{0, 0.5, -1, 2}[r.IntN(4)]
	}
	steps := make([]float32, 1000) // of int8
	for i := range steps {
		steps[i] = 0.0173 * float32(r.IntN(41)-20)
	}
	each := make([]float32, 1000) // of int8, a scale a channel
	for i := range each {
		each[i] = 0.0173 * float32(1+i/100) * float32(r.IntN(21)-10)
	}
	channels := make([]float32, 1000) // 10 rows, each of 20 values of its own
	last := make([]float32, 1000)
	for i := range channels {
		channels[i] = 0.7013*float32(1+i/100) + float32(i%20)/61
		last[i] = 0.7013*float32(1+i%10) + float32(i/10%20)/61
	}
	for _, c := range []struct {
		name   string
		w      []float32
		shape  []int
		most   int
		groups int
	}{
		{"all different", many, []int{10, 100}, 0, 0},
		{"all different, many allowed", many, []int{10, 100}, 4096, 0},
		{"three values and 0", few, []int{10, 100}, 0, 3},
		{"three values and 0, two allowed", few, []int{10, 100}, 2, 0},
		{"integers once", steps, []int{10, 100}, 0, 0},
		{"integers once, by channel", each, []int{10, 100}, 0, 0},
		{"integers once, forty allowed", steps, []int{10, 100}, 40, 40},
		{"nobody looks", few, []int{10, 100}, -1, 0},
		{"by channel", channels, []int{10, 100}, 20, 200},
		{"by channel, found", channels, []int{10, 100}, 0, 200},
		{"by last channel", last, []int{1, 10, 10, 10}, 20, 200},
		{"zeros", make([]float32, 10), []int{2, 5}, 0, 0},
		{"two that happen to be the same", []float32{1, 1, 2, 3, 4, 5}, []int{2, 3}, 0, 0},
		{"nothing", nil, nil, 0, 0},
	} {
		group := Shared(c.w, c.shape, c.most)
		seen := map[int32]float32{}
		for i, g := range group {
			if v, ok := seen[g]; ok && v != c.w[i] || (g < 0) != (c.w[i] == 0) {
				t.Fatalf("%s: weight %d is %v, of group %d", c.name, i, c.w[i], g)
			}
			seen[g] = c.w[i]
		}
		delete(seen, -1)
		if len(seen) != c.groups || (group == nil) != (c.groups == 0) {
			t.Errorf("%s: %d groups", c.name, len(seen))
		}
	}
}

// Whatever small network is pruned or shared and fine-tuned: it loads, its
// zeros and shared weights are there, and it answers numbers.
func TestRandomTune(t *testing.T) {
	tuned, misfits := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		s, d := randomNetwork(rt)
		outputs := d.Width
		if d.Labels != nil {
			outputs = len(d.Classes)
		}
		n, err := train.New(s, d.Shape, outputs, 1)
		if err != nil {
			misfits++
			return
		}
		n.Normalise(d)
		m, err := n.Export("random", d.Classes)
		if err != nil {
			rt.Fatal(err)
		}
		tune := DefaultTune()
		tune.Config.Epochs, tune.Config.Batch, tune.Learn, tune.Val = 2, 4, d, d
		tune.Config.Optimizer.Kind = rapid.SampledFrom([]string{"adam", "adamw", "sgd"}).Draw(rt, "optimizer")
		if tune.Config.Optimizer.Kind == "sgd" {
			tune.Config.Optimizer.Rate = 1e-7
		}
		if rapid.Bool().Draw(rt, "teacher") {
			file, err := m.Write()
			if err != nil {
				rt.Fatal(err)
			}
			tune.Teacher = file
		}
		c := DefaultPrune()
		c.Sparsity, c.Last = rapid.Float64Range(0, 0.9).Draw(rt, "sparsity"), true
		if small, _, err := Prune(m, c); err == nil {
			m = small
		}
		if rapid.Bool().Draw(rt, "shared") {
			tune.Shared = rapid.IntRange(2, 8).Draw(rt, "clusters")
			if m, _, err = Cluster(m, ClusterConfig{Clusters: tune.Shared, Method: "linear"}); err != nil {
				rt.Fatal(err)
			}
		}
		better, err := tune.Run(t.Context(), m)
		if errors.Is(err, train.ErrDiverged) {
			misfits++
			return
		} else if err != nil {
			rt.Fatal(err)
		}
		file, err := better.Write()
		if err != nil {
			rt.Fatal(err)
		}
		was, err := train.From(m)
		if err != nil {
			rt.Fatal(err)
		}
		is, err := train.From(better)
		if err != nil {
			rt.Fatal(err)
		}
		for i, p := range was.Params() {
			q := is.Params()[i]
			one := map[int32]float32{}
			group := Shared(p.W, p.Shape, tune.Shared)
			for j, w := range p.W {
				if w == 0 && p.Decay && q.W[j] != 0 {
					rt.Fatalf("%s[%d] was 0, is %v", p.Name, j, q.W[j])
				}
				if group == nil || group[j] < 0 || !p.Decay {
					continue
				}
				if v, ok := one[group[j]]; ok && v != q.W[j] {
					rt.Fatalf("%s[%d]: %v and %v of what was one weight", p.Name, j, v, q.W[j])
				}
				one[group[j]] = q.W[j]
			}
		}
		if _, err := Judge(t.Context(), file, "", "", map[bool]Task{true: Classes, false: Regression}[d.Labels != nil], &Samples{Set: d}, nil); err != nil {
			rt.Fatal(err)
		}
		if err := (Tune{Learn: d}).agrees(better, is); err != nil {
			rt.Fatal(err)
		}
		tuned++
	})
	t.Logf("%d fine-tuned, %d misfits", tuned, misfits)
	if tuned < misfits {
		t.Error("most networks that were drawn do not fit together")
	}
}
