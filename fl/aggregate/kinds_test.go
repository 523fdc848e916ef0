package aggregate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestFedAvg(t *testing.T) {
	w := []float32{1, 2, 3}
	r := finish(t, mustNew(t, Config{Kind: "fedavg"}), w, []Update{
		{From: "a", Samples: 1, Delta: []float32{1, 0, 4}},
		{From: "b", Samples: 3, Delta: []float32{-1, 2, 0}},
	})
	if want := []float32{0.5, 3.5, 4}; !slices.Equal(w, want) {
		t.Errorf("%v, want %v", w, want)
	}
	if r.Counted != 2 || r.Samples != 4 || r.SetAside != nil || math.Abs(r.Norm-math.Sqrt(0.25+2.25+1)) > 1e-12 {
		t.Errorf("%+v", r)
	}
}

// Each server's steps over some rounds are those of its paper's formulas,
// written down here once more for one weight in plain 64-bit arithmetic.
func TestServers(t *testing.T) {
	type state struct{ m, v float64 }
	adaptive := func(second func(v, g float64) float64, beta1 float64) func(*state, float64) float64 {
		return func(s *state, g float64) float64 {
			if s.v == 0 {
				s.v = 1e-6
			}
			s.m = beta1*s.m + (1-beta1)*g
			s.v = second(s.v, g*g)
			return 0.01 * s.m / (math.Sqrt(s.v) + 1e-3)
		}
	}
	for kind, step := range map[string]func(*state, float64) float64{
		"fedavg":     func(_ *state, g float64) float64 { return g },
		"fedavgm":    func(s *state, g float64) float64 { s.m = 0.9*s.m + g; return s.m },
		"fedadam":    adaptive(func(v, q float64) float64 { return 0.99*v + 0.01*q }, 0.9),
		"fedyogi":    adaptive(func(v, q float64) float64 { return v - 0.01*q*math.Copysign(1, v-q) }, 0.9),
		"fedadagrad": adaptive(func(v, q float64) float64 { return v + q }, 0),
	} {
		t.Run(kind, func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, 7))
			s := mustNew(t, Config{Kind: kind})
			got, want, st := []float32{0}, 0.0, state{}
			for round := range 30 {
				a, b := normals(r, 1, 0.02, 0.02), normals(r, 1, 0.02, 0.02)
				finish(t, s, got, []Update{{From: "a", Samples: 30, Delta: a}, {From: "b", Samples: 10, Delta: b}})
				want += step(&st, 0.75*float64(a[0])+0.25*float64(b[0]))
				if math.Abs(float64(got[0])-want) > 1e-5*(1+math.Abs(want)) {
					t.Fatalf("round %d: %v, want %v", round, got[0], want)
				}
			}
		})
	}
}

func TestRateScalesTheStep(t *testing.T) {
	for _, kind := range kinds() {
		var moved [2]float32
		for i := range moved {
			cfg := configOf(kind)
			cfg.Rate = float64(i+1) * 0.25
			w := []float32{0}
			finish(t, mustNew(t, cfg), w, same(6, []float32{0.5}))
			moved[i] = w[0]
		}
		if moved[0] <= 0 || math.Abs(float64(moved[1]/moved[0])-2) > 1e-6 {
			t.Errorf("%s: %v", kind, moved)
		}
	}
}

// same are updates of m participants who all say delta.
func same(m int, delta []float32) (list []Update) {
	for i := range m {
		list = append(list, Update{From: fmt.Sprintf("g%02d", i), Samples: 5, Delta: delta})
	}
	return list
}

// The median and the trimmed mean are those of each weight's sorted values.
func TestRanked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, n := rapid.IntRange(4, 15).Draw(t, "updates"), rapid.IntRange(1, 20).Draw(t, "weights")
		value := rapid.OneOf(rapid.Float32Range(-1, 1), rapid.SampledFrom([]float32{0, float32(math.Copysign(0, -1)), 1000, -1000, 1e-40}))
		updates := same(m, nil)
		for i := range updates {
			updates[i].Delta = rapid.SliceOfN(value, n, n).Draw(t, "delta")
		}
		for _, c := range []Config{{Kind: "median"}, {Kind: "trimmed-mean", Trim: 0.25}} {
			s, _ := New(c)
			begin(t, s, n)
			for _, u := range updates {
				add(t, s, u)
			}
			w := make([]float32, n)
			if _, err := s.Finish(w); err != nil {
				t.Fatal(err)
			}
			for i := range w {
				var x []float64
				for _, u := range updates {
					x = append(x, float64(u.Delta[i]))
				}
				slices.Sort(x)
				want := (x[(m-1)/2] + x[m/2]) / 2
				if c.Kind != "median" {
					x = x[m/4 : m-m/4]
					want = 0
					for _, v := range x {
						want += v / float64(len(x))
					}
				}
				if math.Abs(float64(w[i])-want) > 1e-6*(math.Abs(want)+1e-3) {
					t.Fatalf("%s, weight %d: %v, want %v", c.Kind, i, w[i], want)
				}
			}
		}
	})
}

// Krum's choice is that of its definition, and Multi-Krum's mean.
func TestKrum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.IntRange(1, 3).Draw(t, "attackers")
		m, n := rapid.IntRange(2*f+3, 2*f+8).Draw(t, "updates"), rapid.IntRange(1, 9).Draw(t, "weights")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
		updates := same(m, nil)
		for i := range updates {
			updates[i].Delta = normals(r, n, 0, 1)
		}
		scores := make([]float64, m)
		for i := range updates {
			var all []float64
			for j := range updates {
				d := 0.0
				for k := range n {
					d += math.Pow(float64(updates[i].Delta[k])-float64(updates[j].Delta[k]), 2)
				}
				if i != j {
					all = append(all, d)
				}
			}
			slices.Sort(all)
			for _, d := range all[:m-f-2] {
				scores[i] += d
			}
		}
		order := make([]int, m)
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int { return cmpFloat(scores[a], scores[b]) })
		for _, c := range []struct {
			Config
			taken int
		}{{Config{Kind: "krum", Attackers: f}, 1}, {Config{Kind: "multi-krum", Attackers: f}, m - f}, {Config{Kind: "multi-krum", Attackers: f, Keep: 2}, 2}} {
			s, _ := New(c.Config)
			begin(t, s, n)
			for _, u := range updates {
				add(t, s, u)
			}
			w := make([]float32, n)
			report, err := s.Finish(w)
			if err != nil {
				t.Fatal(err)
			}
			if report.Counted != c.taken || len(report.SetAside) != m-c.taken || report.Samples != 5*int64(c.taken) {
				t.Fatalf("%+v: %+v", c, report)
			}
			for i := range w {
				want := 0.0
				for _, j := range order[:c.taken] {
					want += float64(updates[j].Delta[i]) / float64(c.taken)
				}
				if math.Abs(float64(w[i])-want) > 1e-6 {
					t.Fatalf("%+v, weight %d: %v, want %v", c, i, w[i], want)
				}
			}
		}
	})
}

func cmpFloat(a, b float64) int {
	if a < b {
		return -1
	}
	return 1
}

// FedBuff makes a step of each full buffer and keeps what is left over, also
// through a restart.
func TestFedBuff(t *testing.T) {
	s := mustNew(t, Config{Kind: "fedbuff", Buffer: 2})
	w := []float32{0}
	r := finish(t, s, w, []Update{
		{From: "a", Samples: 1, Delta: []float32{1}},
		{From: "b", Samples: 100, Delta: []float32{2}, Age: 3}, // counts for a half
		{From: "a", Samples: 7, Delta: []float32{8}},
	})
	if w[0] != 1 || r.Counted != 2 || r.Samples != 101 || r.Waiting != 1 || r.SetAside != nil {
		t.Fatalf("%v %+v", w, r)
	}
	kept, _ := s.MarshalBinary()
	s = mustNew(t, Config{Kind: "fedbuff", Buffer: 2})
	if err := s.UnmarshalBinary(kept); err != nil {
		t.Fatal(err)
	}
	if r = finish(t, s, w, nil); w[0] != 1 || r.Counted != 0 || r.Waiting != 1 {
		t.Fatalf("%v %+v", w, r)
	}
	r = finish(t, s, w, []Update{{From: "c", Samples: 3, Delta: []float32{2}}})
	if w[0] != 6 || r.Counted != 2 || r.Samples != 10 || r.Waiting != 0 {
		t.Fatalf("%v %+v", w, r)
	}
}
