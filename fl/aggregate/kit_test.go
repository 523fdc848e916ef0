package aggregate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// configOf is a configuration of each kind that its suite runs with.
func configOf(kind string) Config {
	c := Config{Kind: kind}
	switch kind {
	case "krum", "multi-krum":
		c.Attackers = 1
	case "trimmed-mean":
		c.Trim = 0.3
	case "fedbuff":
		c.Buffer = 3
	}
	return c
}

func mustNew(t testing.TB, c Config) Strategy {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// finish runs a round.
func finish(t testing.TB, s Strategy, weights []float32, updates []Update) *Report {
	t.Helper()
	if err := s.Begin(len(weights)); err != nil {
		t.Fatal(err)
	}
	for _, u := range updates {
		if err := s.Add(u); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.Finish(weights)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func normals(r *rand.Rand, n int, mean, deviation float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(mean + deviation*r.NormFloat64())
	}
	return x
}

// drawn are updates of all sizes, also with values that are far apart.
func drawn(t *rapid.T, n int) []Update {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	list := make([]Update, rapid.IntRange(1, 12).Draw(t, "updates"))
	for i := range list {
		list[i] = Update{
			From: fmt.Sprintf("g%02d", i), Samples: 1 + r.Int64N(1000), Age: r.IntN(3),
			Delta: normals(r, n, 0, math.Pow(10, float64(r.IntN(6)-5))),
		}
	}
	return list
}
