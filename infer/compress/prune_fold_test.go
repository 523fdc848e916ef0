package compress

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"edgegateway/infer/model"
	"edgegateway/infer/train"
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

// Zeros and shared values do not outlive channels that go after them, and it is
// said; where channels go first there is nothing to say.
func TestChannelsGoFirst(t *testing.T) {
	set := digitsLike(200)
	m := learned(t, set, 2, train.LayerSpec{Type: "dense", Units: 48, Activation: "relu"}, train.LayerSpec{Type: "dense", Units: 32, Activation: "relu"}, train.LayerSpec{Type: "dense", Activation: "softmax"})
	cut := func(m *model.Model) (*model.Model, string) {
		cfg := DefaultPrune()
		cfg.Pattern, cfg.MACs = "channels", 0.7
		small, report, err := PruneJob{Config: cfg, Samples: &Samples{Set: set}}.Run(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		return small, strings.Join(report.Notes, "\n")
	}
	cfg := DefaultPrune()
	cfg.Sparsity = 0.95
	thin, _, err := Prune(m, cfg)
	if err != nil {
		t.Fatal(err)
	}
	few, _, err := Cluster(m, DefaultCluster())
	if err != nil {
		t.Fatal(err)
	}
	const first = "take channels out first"
	if _, notes := cut(thin); !strings.Contains(notes, "of the weights were 0") || !strings.Contains(notes, first) {
		t.Errorf("of zeros: %q", notes)
	}
	if _, notes := cut(few); !strings.Contains(notes, "shared values") || !strings.Contains(notes, first) {
		t.Errorf("of shared values: %q", notes)
	}
	if _, notes := cut(m); strings.Contains(notes, first) {
		t.Errorf("of a model that has neither: %q", notes)
	}
}

// digitsLike are numbers of two classes, and of many features that go together.
func digitsLike(n int) *train.Dataset {
	r := rand.New(rand.NewPCG(1, 2))
	d := &train.Dataset{Name: "set", Shape: train.Shape{20}, Classes: []string{"a", "b"}}
	for i := range n {
		d.Labels = append(d.Labels, int32(i%2))
		for k := range 20 {
			d.Values = append(d.Values, float32(r.NormFloat64())+float32(i%2*(k%3)))
		}
	}
	return d
}
