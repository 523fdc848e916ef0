package aggregate

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Whoever comes first, the weights and the report are the same to the last bit,
// over several rounds and through a restart in the midst of them.
func TestOrder(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				n := rapid.IntRange(1, 70).Draw(t, "weights")
				cfg := configOf(kind)
				if rapid.Bool().Draw(t, "clip") {
					cfg.ClipTimes = 1.5
				}
				one, _ := New(cfg)
				other, _ := New(cfg)
				a := make([]float32, n)
				b := slices.Clone(a)
				for range 3 {
					updates := drawn(t, n)
					begin(t, one, n)
					for _, u := range updates {
						add(t, one, u)
					}
					r1, err1 := one.Finish(a)

					// fedbuff's order says what is in which buffer.
					if kind != "fedbuff" {
						shuffle := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 2))
						shuffle.Shuffle(len(updates), func(i, j int) { updates[i], updates[j] = updates[j], updates[i] })
					}
					begin(t, other, n)
					for _, u := range updates[:len(updates)/2] {
						add(t, other, u)
					}
					// It is killed here: another one goes on from what was kept.
					kept, err := other.MarshalBinary()
					if err != nil {
						t.Fatal(err)
					}
					other, _ = New(cfg)
					if err := other.UnmarshalBinary(kept); err != nil {
						t.Fatal(err)
					}
					begin(t, other, n)
					for _, u := range updates {
						add(t, other, u)
					}
					r2, err2 := other.Finish(b)
					if err1 != nil || err2 != nil {
						t.Fatal(err1, err2)
					}
					if !slices.Equal(a, b) {
						t.Fatalf("weights differ:\n%v\n%v", a, b)
					}
					if d := cmp.Diff(r1, r2); d != "" {
						t.Fatal(d)
					}
				}
			})
		})
	}
}

func begin(t *rapid.T, s Strategy, n int) {
	if err := s.Begin(n); err != nil {
		t.Fatal(err)
	}
}

func add(t *rapid.T, s Strategy, u Update) {
	if err := s.Add(u); err != nil {
		t.Fatal(err)
	}
}

func TestFedAvg(t *testing.T) {
	w := []float32{1, 2, 3}
	r := finish(t, make1(t, Config{Kind: "fedavg"}), w, []Update{
		{From: "a", Samples: 1, Delta: []float32{1, 0, 4}},
		{From: "b", Samples: 3, Delta: []float32{-1, 2, 0}},
	})
	if want := []float32{0.5, 3.5, 4}; !slices.Equal(w, want) {
		t.Errorf("%v, want %v", w, want)
	}
	if r.Counted != 2 || r.Samples != 4 || r.SetAside != nil {
		t.Errorf("%+v", r)
	}
}
