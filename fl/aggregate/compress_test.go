package aggregate

import (
	"math"
	"math/rand/v2"
	"testing"
)

// What is rounded lies within a step of its scale, and right on the mean.
func TestRounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	x := normals(r, 1000, 0, 0.01)
	sum := make([]float64, len(x))
	const times = 400
	for seed := range uint64(times) {
		data, left, err := Encode(Compression{Kind: "int8"}, x, nil, seed)
		if err != nil || left != nil {
			t.Fatal(err, left)
		}
		got, err := Decode(data, len(x))
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			if math.Abs(float64(v-x[i])) > 0.05/127 {
				t.Fatalf("%d: %v of %v", i, v, x[i])
			}
			sum[i] += float64(v)
		}
	}
	for i, s := range sum {
		if off := math.Abs(s/times - float64(x[i])); off > 6*0.05/127/math.Sqrt(times) {
			t.Fatalf("%d: mean %v of %v", i, s/times, x[i])
		}
	}
}
