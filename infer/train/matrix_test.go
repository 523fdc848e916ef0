package train

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func random(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// All three products against sums in float64, at sizes around every tile.
func TestProducts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	sizes := [][3]int{{1, 1, 1}, {3, 5, 7}, {4, 32, 16}, {5, 33, 257}, {64, 128, 300}, {130, 70, 9}, {67, 520, 40}, {300, 10, 64}, {1, 600, 300}}
	for _, s := range sizes {
		m, n, k := s[0], s[1], s[2]
		a, b := random(r, m*k), random(r, k*n)
		at, bt := make([]float32, m*k), make([]float32, k*n)
		for i := range m {
			for l := range k {
				at[l*m+i] = a[i*k+l]
			}
		}
		for l := range k {
			for j := range n {
				bt[j*k+l] = b[l*n+j]
			}
		}
		for _, add := range []bool{false, true} {
			start := random(r, m*n)
			want := make([]float64, m*n)
			for i := range m {
				for j := range n {
					if add {
						want[i*n+j] = float64(start[i*n+j])
					}
					for l := range k {
						want[i*n+j] += float64(a[i*k+l]) * float64(b[l*n+j])
					}
				}
			}
			for name, run := range map[string]func(c []float32){
				"NT": func(c []float32) { mulNT(c, a, bt, m, n, k, add) },
				"NN": func(c []float32) { mulNN(c, a, b, m, n, k, add) },
				"TN": func(c []float32) { mulTN(c, at, b, m, n, k, add) },
			} {
				c := append([]float32(nil), start...)
				run(c)
				for i := range c {
					if d := math.Abs(float64(c[i]) - want[i]); d > 1e-5*float64(k)+1e-4 {
						t.Fatalf("%s %v add %v, %s: element %d is %v, want %v", name, s, add, Kernel(), i, c[i], want[i])
					}
				}
			}
		}
	}
}

func TestElementwise(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 70 {
		dst, a, b := random(r, n), random(r, n), random(r, n)
		want := make([]float32, n)
		for i := range want {
			want[i] = dst[i] + a[i]*b[i]
		}
		fma(dst, a, b)
		for i := range dst {
			if math.Abs(float64(dst[i]-want[i])) > 1e-5 {
				t.Fatalf("fma of %d: %v, want %v", n, dst, want)
			}
		}
		w, g, m, v := random(r, n), random(r, n), random(r, n), random(r, n)
		for i := range v {
			v[i] *= v[i]
		}
		clone := func(s []float32) []float32 { return append([]float32(nil), s...) }
		w2, m2, v2 := clone(w), clone(m), clone(v)
		s := adamStep{rate: 0.01, beta1: beta1, beta2: beta2, epsilon: epsilon, decay: 0.001}
		adam(w, g, m, v, s)
		adamPlain(w2, g, m2, v2, s)
		for i := range w {
			if math.Abs(float64(w[i]-w2[i])) > 1e-5 || math.Abs(float64(m[i]-m2[i])) > 1e-5 || math.Abs(float64(v[i]-v2[i])) > 1e-5 {
				t.Fatalf("adam of %d: element %d is %v, want %v", n, i, w[i], w2[i])
			}
		}
	}
}

// BenchmarkProducts gives GFLOP/s of the layer 784-128 with 64 inputs.
func BenchmarkProducts(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	const batch, in, out = 64, 784, 128
	x, w, y := random(r, batch*in), random(r, out*in), random(r, batch*out)
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"NT", func() { mulNT(y, x, w, batch, out, in, false) }},
		{"NN", func() { mulNN(x, y, w, batch, in, out, false) }},
		{"TN", func() { mulTN(w, y, x, out, in, batch, false) }},
	} {
		b.Run(fmt.Sprintf("%s/%s", c.name, Kernel()), func(b *testing.B) {
			for b.Loop() {
				c.run()
			}
			b.ReportMetric(2*batch*in*out/float64(b.Elapsed().Nanoseconds())*float64(b.N), "GFLOP/s")
		})
	}
}
