package compress

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"edgegateway/infer/model"
)

// Int8 models of which most weights are 0 are stored in fewer bytes, and both
// kinds of kernels answer to the last bit as before; what does not shrink stays
// as it was.
func TestSparse(t *testing.T) {
	stored := 0
	rapid.Check(t, func(t *rapid.T) {
		m := drawWide(t)
		cfg := DefaultPrune()
		cfg.Pattern = rapid.SampledFrom([]string{"unstructured", "1x4", "4x4"}).Draw(t, "pattern")
		cfg.Sparsity, cfg.Last = rapid.Float64Range(0, 0.99).Draw(t, "sparsity"), true
		pruned, _, err := Prune(m, cfg)
		if err != nil {
			t.Fatal(err)
		}
		data := Structured{N: 4, Seed: 1}
		stats, err := Calibrate(t.Context(), pruned, "", data, nil)
		if err != nil {
			t.Fatal(err)
		}
		q := DefaultConfig()
		q.Method, q.CorrectBias = "minmax", "no"
		out, err := Quantize(pruned, q, stats, nil)
		if err != nil {
			t.Fatal(err)
		}
		thin, n, err := Sparse(out.Model)
		if err != nil {
			t.Fatal(err)
		}
		a, b := write(t, out.Model), write(t, thin)
		if n == 0 && len(b) > len(a) || n > 0 && len(b) >= len(a) {
			t.Errorf("%d constants sparse: %d bytes, dense %d", n, len(b), len(a))
		}
		stored += n
		for _, on := range []string{"builtin", "xnnpack:3"} {
			agree, err := Compare(t.Context(), a, b, [2]string{on, on}, "", data)
			if err != nil {
				t.Fatal(on, err)
			}
			if agree.Largest != 0 {
				t.Errorf("%s: differs by %v", on, agree.Largest)
			}
		}
	})
	if stored == 0 {
		t.Error("nothing was stored sparse")
	}
}

// drawWide draws a convolution, a pointwise one and a dense layer, wide enough
// that zeros pay.
func drawWide(t *rapid.T) *model.Model {
	size := rapid.IntRange(3, 6).Draw(t, "size")
	d := newDrawing(t, false, 1, size, size, 3)
	x := d.conv(d.live[0], rapid.IntRange(8, 40).Draw(t, "filters"), rapid.IntRange(1, 3).Draw(t, "kernel"), 1, true)
	x = d.conv(x, 64, 1, 1, true)
	n := int32(size * size * 64)
	x = d.op("RESHAPE", &model.ReshapeOptions{NewShape: []int32{1, n}}, []int{1, int(n)}, x, d.ints(1, n))
	x = d.dense(x, rapid.IntRange(2, 20).Draw(t, "units"))
	d.g().Outputs = []int{x}
	return d.m
}

// quantize --sparse is the same int8 model in a smaller file, or says why not.
func TestShortenSparse(t *testing.T) {
	m, tune, _ := ringsModel(t)
	data := &Samples{Set: tune.Learn.Subset([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})}
	for _, c := range []struct {
		sparsity float64
		note     string
		thin     bool
	}{{0.95, "stored sparse", true}, {0, "stay dense", false}} {
		cfg := DefaultPrune()
		cfg.Sparsity = c.sparsity
		pruned, _, err := Prune(m, cfg)
		if err != nil {
			t.Fatal(err)
		}
		j := Job{File: written(t, pruned), Config: DefaultConfig(), Calibration: data}
		dense, err := Shorten(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		j.Config.Sparse = true
		thin, err := Shorten(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(thin.Notes, func(n string) bool { return strings.Contains(n, c.note) }) {
			t.Errorf("%q is not said: %q", c.note, thin.Notes)
		}
		if smaller := thin.Size < dense.Size; smaller != c.thin || thin.Size != len(thin.File) {
			t.Errorf("at %v: %d bytes, dense %d", c.sparsity, thin.Size, dense.Size)
		}
		if thin.XNNPACK == nil || thin.Builtin.Top1 != dense.Builtin.Top1 {
			t.Error(thin.Notes)
		}
	}
}
