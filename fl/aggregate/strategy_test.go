package aggregate

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
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

// What is wrong is refused by its name, and nothing of it is counted.
func TestRefused(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for _, kind := range kinds() {
		s := mustNew(t, configOf(kind))
		if err := s.Add(Update{From: "a", Samples: 1, Delta: []float32{1}}); err == nil {
			t.Errorf("%s: an update outside of a round", kind)
		}
		if err := s.Begin(0); err == nil {
			t.Errorf("%s: a round over nothing", kind)
		}
		w := []float32{1, 2}
		good := same(9, []float32{0.5, -0.5})
		if err := s.Begin(2); err != nil {
			t.Fatal(err)
		}
		for _, u := range good {
			if err := s.Add(u); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			u    Update
			want error
		}{
			{Update{From: "x", Samples: 1, Delta: []float32{1}}, ErrShape},
			{Update{From: "x", Samples: 1}, ErrShape},
			{Update{From: "x", Samples: 1, Delta: []float32{1, nan}}, ErrNotFinite},
			{Update{From: "x", Samples: 1, Delta: []float32{inf, 1}}, ErrNotFinite},
			{Update{From: "x", Samples: 1, Delta: []float32{0, -2e6}}, ErrHuge},
			{Update{From: "x", Samples: 1, Delta: []float32{math.MaxFloat32, 0}}, ErrHuge},
			{Update{From: "x", Samples: 0, Delta: []float32{1, 1}}, ErrSamples},
			{Update{From: "x", Samples: -5, Delta: []float32{1, 1}}, ErrSamples},
			{Update{From: "x", Samples: math.MaxInt64, Delta: []float32{1, 1}}, ErrSamples},
			{Update{From: "x", Samples: 1, Delta: []float32{1, 1}, Age: -1}, ErrAge},
			{Update{Samples: 1, Delta: []float32{1, 1}}, ErrNameless},
		} {
			if err := s.Add(c.u); !errors.Is(err, c.want) {
				t.Errorf("%s: %+v: %v, want %v", kind, c.u, err, c.want)
			}
		}
		if err := s.Add(good[3]); kind != "fedbuff" && !errors.Is(err, ErrTwice) {
			t.Errorf("%s: the same again: %v", kind, err)
		} else if kind == "fedbuff" && err != nil {
			t.Errorf("fedbuff: the same again: %v", err)
		}
		if _, err := s.Finish(w[:1]); err == nil {
			t.Errorf("%s: too few weights", kind)
		}
		if _, err := s.Finish([]float32{1, nan}); err == nil {
			t.Errorf("%s: a model that is not finite", kind)
		}
		r, err := s.Finish(w)
		if err != nil {
			t.Fatal(err)
		}
		other := []float32{1, 2}
		if want := finish(t, mustNew(t, configOf(kind)), other, good); !slices.Equal(w, other) || r.Samples != want.Samples {
			t.Errorf("%s: what was refused left a trace: %v %v", kind, w, other)
		}
		if _, err := s.Finish(w); err == nil {
			t.Errorf("%s: a second end of a round", kind)
		}
	}
}

// Weighted by its samples an update may be huge that is not alone.
func TestHugeBySamples(t *testing.T) {
	s := mustNew(t, DefaultConfig())
	if err := s.Begin(1); err != nil {
		t.Fatal(err)
	}
	u := Update{From: "a", Samples: 1 << 20, Delta: []float32{1.01}}
	if err := s.Add(u); !errors.Is(err, ErrHuge) {
		t.Error(err)
	}
	if u.Delta[0] = 1; s.Add(u) != nil {
		t.Error("at the bound it is refused")
	}
}

// The bound of a term and the number of updates keep the sum below its
// overflow: a full round of the largest moves has the right mean.
func TestFullRound(t *testing.T) {
	for _, sign := range []float32{1, -1} {
		s := mustNew(t, DefaultConfig())
		if err := s.Begin(1); err != nil {
			t.Fatal(err)
		}
		u := Update{Samples: 1, Delta: []float32{sign * maxTerm}}
		for i := range maxUpdates {
			if u.From = strconv.Itoa(i); s.Add(u) != nil {
				t.Fatal(i)
			}
		}
		if u.From = "more"; !errors.Is(s.Add(u), ErrFull) {
			t.Error("one more is let in")
		}
		w := []float32{0}
		if r, err := s.Finish(w); err != nil || w[0] != sign*maxTerm || r.Counted != maxUpdates {
			t.Error(w, err)
		}
	}
}

// Without updates, or with fewer than a method needs, the weights stay.
func TestTooFew(t *testing.T) {
	for _, kind := range kinds() {
		cfg := configOf(kind)
		for m := range cfg.Minimum() {
			s := mustNew(t, cfg)
			w := []float32{1, 2, 3}
			r := finish(t, s, w, same(m, []float32{1, 1, 1}))
			if !slices.Equal(w, []float32{1, 2, 3}) || r.Counted != 0 || r.Samples != 0 || r.Norm != 0 {
				t.Errorf("%s, %d updates: %v %+v", kind, m, w, r)
			}
			if len(r.SetAside)+r.Waiting != m {
				t.Errorf("%s, %d updates: the report has %+v", kind, m, r)
			}
		}
		w := []float32{1, 2, 3}
		if r := finish(t, mustNew(t, cfg), w, same(cfg.Minimum(), []float32{1, 1, 1})); w[0] <= 1 || r.Counted == 0 {
			t.Errorf("%s with its minimum: %v %+v", kind, w, r)
		}
	}
}

// A model of another size is refused by those that remember one.
func TestOtherModel(t *testing.T) {
	for _, kind := range []string{"fedavgm", "fedadam", "fedyogi", "fedadagrad", "fedbuff"} {
		cfg := configOf(kind)
		s := mustNew(t, cfg)
		finish(t, s, []float32{0, 0}, same(4, []float32{1, 2}))
		if err := s.Begin(3); err == nil {
			t.Errorf("%s goes on with 3 weights after 2", kind)
		}
		finish(t, s, []float32{0, 0}, same(4, []float32{1, 2}))
	}
}

func TestLateAndClipped(t *testing.T) {
	s := mustNew(t, Config{Kind: "fedavg", Clip: 2})
	w := []float32{0, 0}
	r := finish(t, s, w, []Update{
		{From: "c", Samples: 1, Delta: []float32{6, 8}}, // length 10: shortened to a fifth
		{From: "b", Samples: 1, Delta: []float32{1, 0}, Age: 3},
		{From: "a", Samples: 2, Delta: []float32{0, 1}},
	})
	if want := []float32{(1.2 + 0.5) / 4, (1.6 + 2) / 4}; math.Abs(float64(w[0]-want[0])) > 1e-6 || math.Abs(float64(w[1]-want[1])) > 1e-6 {
		t.Errorf("%v, want %v", w, want)
	}
	want := []Aside{{"b", "late by 3: counts for 0.50", 1, true}, {"c", "shortened from 10 to 2", 10, true}}
	if d := cmp.Diff(want, r.SetAside); d != "" || r.Counted != 3 {
		t.Error(d)
	}
}

// The median length of a round is the measure of the next one's, also through a
// restart.
func TestClipTimes(t *testing.T) {
	cfg := Config{Kind: "fedavg", ClipTimes: 2}
	s := mustNew(t, cfg)
	w := []float32{0}
	finish(t, s, w, []Update{{From: "a", Samples: 1, Delta: []float32{1}}, {From: "b", Samples: 1, Delta: []float32{-1}}, {From: "c", Samples: 1, Delta: []float32{600}}})
	if w[0] != 200 {
		t.Fatal(w)
	}
	kept, _ := s.MarshalBinary()
	s = mustNew(t, cfg)
	if err := s.UnmarshalBinary(kept); err != nil {
		t.Fatal(err)
	}
	w[0] = 0
	if r := finish(t, s, w, []Update{{From: "a", Samples: 1, Delta: []float32{1}}, {From: "c", Samples: 1, Delta: []float32{600}}}); w[0] != 1.5 || len(r.SetAside) != 1 {
		t.Fatal(w, r)
	}
}
