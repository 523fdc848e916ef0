package compress

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"
)

// However far apart the sizes of channels are, whichever are constant and
// whichever say the same, their covariance is inverted, and what goes is told by
// a twin that stays.
func TestMomentsOfAnySize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n, rows = 12, 300
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		size, mean, kind := make([]float64, n), make([]float64, n), make([]int, n)
		for c := range n {
			size[c] = math.Pow(10, rapid.Float64Range(-6, 8).Draw(t, "size"))
			mean[c] = size[c] * rapid.SampledFrom([]float64{0, 1, -30}).Draw(t, "mean")
			kind[c] = rapid.IntRange(0, 3).Draw(t, "free, constant, none, as the first")
		}
		kind[0], kind[1] = 0, 3
		m := &moments{mean: make([]float64, n), cov: mat.NewSymDense(n, nil)}
		for range rows {
			row := make([]float64, n)
			first := r.NormFloat64()
			for c := range row {
				switch kind[c] {
				case 0:
					x := r.NormFloat64()
					if c == 0 {
						x = first
					}
					row[c] = mean[c] + size[c]*x
				case 1:
					row[c] = float64(float32(mean[c] + size[c]))
				case 3:
					row[c] = mean[c] + size[c]*first
				}
			}
			if err := m.take(row, r); err != nil {
				t.Fatal(err)
			}
		}
		m.centre()
		inv, err := m.inverse()
		if err != nil {
			t.Fatal(err)
		}
		for a := range n {
			// 1/(C⁻¹)aa is the variance that the others leave.
			if v := 1 / inv.At(a, a); !(v > 0) || v > m.cov.At(a, a)*(1+1e-6) {
				t.Fatalf("channel %d varies by %v, and by %v beside the others", a, m.cov.At(a, a), v)
			}
		}
		var stay, gone []int
		for c := range n {
			if c > 0 && kind[c] > 0 {
				gone = append(gone, c)
			} else {
				stay = append(stay, c)
			}
		}
		w, b, err := m.line(stay, gone)
		if err != nil {
			t.Fatal(err)
		}
		for k, c := range gone {
			if kind[c] != 3 { // it is its mean
				for i, s := range stay {
					if off := math.Abs(w.At(i, k)) * size[s]; off > 1e-3*size[c] {
						t.Errorf("constant channel %d is told by channel %d: %v of its size", c, s, off/size[c])
					}
				}
				if want := m.mean[c]; math.Abs(b[k]-want) > 1e-3*math.Abs(want)+1e-9 {
					t.Errorf("channel %d is %v, told as %v", c, want, b[k])
				}
				continue
			}
			if is := w.At(0, k) * size[0] / size[c]; math.Abs(is-1) > 0.05 {
				t.Errorf("channel %d is told by %v of its twin", c, is)
			}
		}
	})
}

// Pictures of 0..255 make channels of the visual wake words network as large as
// they are not meant to be, beside such as are constant.
func TestPrunedThoughChannelsAreFarApart(t *testing.T) {
	m, file := sharedModel(t, "vww_96_float.tflite")
	cfg := DefaultPrune()
	cfg.Pattern, cfg.MACs = "channels", 0.9
	data := MadeUp(m, 48, chooses)
	data.High = 255
	small, _, err := PruneJob{Config: cfg, Samples: data}.Run(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	data.N, data.Seed = 20, judges
	a, err := Compare(t.Context(), file, written(t, small), [2]string{"xnnpack:0", "xnnpack:0"}, "", data)
	if err != nil || a.Top1 < 0.9 {
		t.Errorf("%v, %v", a, err)
	}
}
