package drift

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if math.Abs(got-want) > within {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// The quantiles are those that tables give.
func TestTables(t *testing.T) {
	near(t, "Kolmogorov 5 %", kolmogorovAbove(0.05), 1.3581, 1e-4)
	near(t, "Kolmogorov 1 %", kolmogorovAbove(0.01), 1.6276, 1e-4)
	near(t, "chi-squared 5 %, 1", chiSquaredAbove(0.05, 1), 3.8415, 1e-4)
	near(t, "chi-squared 0.1 %, 9", chiSquaredAbove(0.001, 9), 27.877, 1e-3)
	near(t, "half normal 1 %", halfNormalAbove(0.01), 2.5758, 1e-4)
	// One new sample is above nine old ones once in ten times.
	near(t, "beyond", beyond(1, 1, 9), 0.1, 1e-12)
	near(t, "beyond", beyond(2, 3, 2), 3.0*2/(5*4), 1e-12)
	near(t, "share", beyondShare(0.1, 1, 9), 1, 1e-9)
	if s := beyondShare(0.05, 1, 9); !math.IsInf(s, 1) {
		t.Errorf("a single sample is never a wonder at 5 %%, got %v", s)
	}
}

// How often k of w new samples are above all of n old ones, counted.
func TestBeyondCounted(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const w, n, k, runs = 8, 12, 2, 40_000
	hits := 0
	for range runs {
		top := 0.0
		for range n {
			top = max(top, rng.Float64())
		}
		over := 0
		for range w {
			if rng.Float64() > top {
				over++
			}
		}
		if over >= k {
			hits++
		}
	}
	near(t, "share", float64(hits)/runs, beyond(k, w, n), 0.01)
}

// In bins the distance is at most that of the samples themselves, and the same
// where each value has a bin.
func TestKSOfSamples(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.IntRange(0, 20), 1, 60)
		a, b := values.Draw(t, "a"), values.Draw(t, "b")
		want := 0.0
		for x := range 21 {
			below := func(s []int) float64 {
				n := 0
				for _, v := range s {
					if v <= x {
						n++
					}
				}
				return float64(n) / float64(len(s))
			}
			want = max(want, math.Abs(below(a)-below(b)))
		}
		count := func(s []int, per int) []uint32 {
			c := make([]uint32, 21/per+1)
			for _, v := range s {
				c[v/per]++
			}
			return c
		}
		if got := KS(count(a, 1), count(b, 1)); math.Abs(got-want) > 1e-12 {
			t.Fatalf("%v, want %v", got, want)
		}
		if got := KS(count(a, 4), count(b, 4)); got > want+1e-12 {
			t.Fatalf("in coarse bins %v, over %v", got, want)
		}
		p, q := count(a, 4), count(b, 4)
		if KS(p, q) != KS(q, p) || math.Abs(PSI(p, q)-PSI(q, p)) > 1e-12 || PSI(p, q) < 0 || KS(p, p) != 0 || PSI(p, p) != 0 {
			t.Fatal("no distance")
		}
	})
}

// Outside and clusters, beside plain loops.
func TestOutside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		column := rapid.SliceOfN(rapid.Map(rapid.IntRange(-9, 9), func(i int) float64 { return float64(i) }), 8, 40).Draw(t, "column")
		w := rapid.IntRange(2, len(column)/2).Draw(t, "w")
		want := 0.0
		for from := 0; from+w <= len(column); from += max(1, w/2) {
			rest := slices.Concat(column[:from], column[from+w:])
			over, under := 0.0, 0.0
			for _, v := range column[from : from+w] {
				if v > slices.Max(rest) {
					over++
				}
				if v < slices.Min(rest) {
					under++
				}
			}
			want = max(want, over/float64(w), under/float64(w))
		}
		if got := outside(column, w); math.Abs(got-want) > 1e-12 {
			t.Fatalf("%v, want %v", got, want)
		}
	})
	// Five above come together in one of two windows.
	if c := clusters([]float64{1, 2, 1, 2, 1, 2, 1, 9, 9, 9, 9, 9, 2, 1}, 7); c != 2.5 {
		t.Errorf("together %v", c)
	}
}
