package drift

import (
	"math/rand/v2"
	"testing"
)

// What a sample costs that is looked at: of five numbers and a label with its
// part of the judgements, and of a picture of 96x96 in colours.
func BenchmarkMonitor(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	n := rng.NormFloat64
	m, err := NewMonitor(learned(b, 4096, nil, func(i int) string { return "ab"[i%2:][:1] }, n, n, n, n, n), Config{512, 0.001})
	if err != nil {
		b.Fatal(err)
	}
	row := []float64{1, 0.5, 0, -0.5, -1}
	b.Run("numbers", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Add(row, "a")
			if m.Due() {
				m.Judge(true)
			}
		}
	})
	pix := make([]byte, 96*96*3)
	for i := range pix {
		pix[i] = byte(rng.IntN(256))
	}
	var look Look
	b.Run("picture", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			look.From(96, 96, 3, func(i int) float64 { return float64(pix[i]) })
		}
	})
}
