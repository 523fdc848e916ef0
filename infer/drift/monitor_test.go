package drift

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// learned is a reference of n samples of these series, and of labels where
// there are some.
func learned(t testing.TB, n int, windows []int, label func(i int) string, series ...func() float64) *Reference {
	t.Helper()
	var names []string
	for i := range series {
		names = append(names, fmt.Sprint("x", i))
	}
	l, err := NewLearner(names, len(names), label != nil, n)
	if err != nil {
		t.Fatal(err)
	}
	row := make([]float64, len(series))
	for i := range n {
		for k, s := range series {
			row[k] = s()
		}
		text := ""
		if label != nil {
			text = label(i)
		}
		l.Add(row, text)
	}
	r, err := l.Reference(windows...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The counts of a monitor are those of its last samples, whatever came before,
// and what was written reads back the same.
func TestMonitorCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		steps := rapid.IntRange(2, 50).Draw(t, "values")
		l, err := NewLearner([]string{"a", "b"}, 1, true, 400)
		if err != nil {
			t.Fatal(err)
		}
		row := func() ([]float64, string) {
			v := float64(rng.IntN(steps))
			return []float64{v, rng.NormFloat64()}, fmt.Sprint(int(v) % 3)
		}
		for !l.Full() {
			v, label := row()
			l.Add(v, label)
		}
		ref, err := l.Reference()
		if err != nil {
			t.Fatal(err)
		}
		var file bytes.Buffer
		if err := ref.Write(&file); err != nil {
			t.Fatal(err)
		}
		again, err := Read(&file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(ref, again); d != "" {
			t.Fatal(d)
		}
		window := rapid.IntRange(32, 128).Draw(t, "window")
		m, err := NewMonitor(again, Config{window, 0.01})
		if err != nil {
			t.Fatal(err)
		}
		var rows [][]float64
		var labels []string
		for range rapid.IntRange(1, 300).Draw(t, "n") {
			v, label := row()
			if rng.IntN(20) == 0 {
				v[0], v[1], label = 1000, math.NaN(), "never seen"
			}
			rows, labels = append(rows, v), append(labels, label)
			if _, ok := m.Add(v, label); !ok {
				t.Fatal("refused")
			}
		}
		from := max(0, len(rows)-window)
		for k := range m.counts {
			want := make([]uint32, len(m.counts[k]))
			for i := from; i < len(rows); i++ {
				f := &again.Features[k]
				if bin := slices.Index(f.Classes, labels[i]); f.class() && bin >= 0 {
					want[bin]++
				} else if f.class() {
					want[len(f.Classes)]++
				} else {
					want[f.bin(rows[i][k])]++
				}
			}
			if !slices.Equal(m.counts[k], want) {
				t.Fatalf("feature %d: %v, want %v", k, m.counts[k], want)
			}
		}
		if m.Due() != (len(rows) >= window && len(rows) >= window/4) {
			t.Fatal("due")
		}
		v := m.Judge(true)
		for _, s := range v.Features {
			if !(s.Drift >= 0) || s.Drift > v.Drift || len(v.Features) != 3 {
				t.Fatalf("%+v", v)
			}
		}
		if v := m.Judge(false); len(v.Features) != 1 || v.Features[0].Name != "a" {
			t.Fatalf("without answers %+v", v)
		}
	})
}

// What changed is named: a number that moves, one that stays where it was but
// is spread wider, one outside of all that was seen, and the shares of classes.
func TestNames(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(v []float64, rng *rand.Rand) string
	}{
		{"", func([]float64, *rand.Rand) string { return "" }},
		{"x0", func(v []float64, _ *rand.Rand) string { v[0] += 0.7; return "" }},
		{"x1", func(v []float64, _ *rand.Rand) string { v[1] *= 2; return "" }},
		{"x1", func(v []float64, rng *rand.Rand) string {
			if rng.IntN(12) == 0 {
				v[1] = 50
			}
			return ""
		}},
		{"label", func(_ []float64, rng *rand.Rand) string {
			if rng.IntN(4) == 0 {
				return "cat"
			}
			return ""
		}},
		{"label", func(_ []float64, rng *rand.Rand) string {
			if rng.IntN(12) == 0 {
				return "something new"
			}
			return ""
		}},
	} {
		rng := rand.New(rand.NewPCG(5, 6))
		label := func(int) string { return []string{"cat", "dog", "dog", "none"}[rng.IntN(4)] }
		m, err := NewMonitor(learned(t, 4000, nil, label, rng.NormFloat64, rng.NormFloat64), Config{256, 0.001})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 256 {
			v := []float64{rng.NormFloat64(), rng.NormFloat64()}
			text := label(i)
			if other := c.change(v, rng); other != "" {
				text = other
			}
			m.Add(v, text)
		}
		v := m.Judge(true)
		if over := v.Drift > 1; over != (c.want != "") || over && v.Feature != c.want {
			t.Errorf("want %q: %.2f %s", c.want, v.Drift, v.Feature)
		}
	}
}

// A feature of which windows tell nothing is said to be blind: windows of an
// hour, of a day that is learned.
func TestBlind(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	i := 0.0
	slow := func() float64 { i++; return math.Sin(2*math.Pi*i/1440) + 0.001*rng.NormFloat64() }
	m, err := NewMonitor(learned(t, 1440*8, []int{32}, nil, slow, rng.NormFloat64), Config{32, 1e-6})
	if err != nil {
		t.Fatal(err)
	}
	if b := m.Blind(); !slices.Equal(b, []string{"x0"}) {
		t.Errorf("blind %v", b)
	}
}

func TestUnusual(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	m, err := NewMonitor(learned(t, 1000, nil, nil, rng.NormFloat64, func() float64 { return 4 }), Config{64, 0.001})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ a, b, low, high float64 }{{0, 4, 0, 0.2}, {3, 4, 2.5, 3.5}, {0, 5, 1e3, 1e6}, {math.NaN(), 4, 1e6, 1e6}, {math.Inf(1), 4, 1e6, 1e6}} {
		if u, ok := m.Add([]float64{c.a, c.b}, ""); !ok || u < c.low || u > c.high {
			t.Errorf("%v is %v", c, u)
		}
	}
	if _, ok := m.Add([]float64{1}, ""); ok {
		t.Error("a sample of one number")
	}
	if n := testing.AllocsPerRun(100, func() { m.Add([]float64{1, 2}, "x") }); n != 0 {
		t.Errorf("%v allocations a sample", n)
	}
}

func TestRefused(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	good := func() *Reference {
		return learned(t, 400, nil, func(i int) string { return fmt.Sprint(i % 3) }, rng.NormFloat64)
	}
	for want, spoil := range map[string]func(r *Reference){
		"format is 2":      func(r *Reference) { r.Format = 2 },
		"0 features":       func(r *Reference) { r.Features = nil },
		"3 inputs":         func(r *Reference) { r.Inputs = 3 },
		"too few":          func(r *Reference) { r.Samples = 3 },
		"sizes of windows": func(r *Reference) { r.Windows = nil },
		"do not ascend":    func(r *Reference) { r.Features[0].Edges[3] = r.Features[0].Edges[2] },
		"out of range":     func(r *Reference) { r.Features[0].Scale = 0 },
		"of 400 samples":   func(r *Reference) { r.Features[0].Counts[3]++ },
		"counts in":        func(r *Reference) { r.Features[1].Counts = r.Features[1].Counts[:2] },
		"do not fit":       func(r *Reference) { r.Windows[0].Inflate = nil },
		"feature 0 is out": func(r *Reference) { r.Windows[0].Inflate[0] = 0.5 },
		"picture":          func(r *Reference) { r.Picture = &Picture{} },
		"last one":         func(r *Reference) { r.Features[0], r.Features[1] = r.Features[1], r.Features[0] },
	} {
		r := good()
		spoil(r)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	if _, err := Read(strings.NewReader(strings.Repeat(" ", MaxBytes+1))); err == nil {
		t.Error("a long one is read")
	}
	l, _ := NewLearner([]string{"x"}, 1, false, 100)
	if _, err := l.Reference(); err == nil || !strings.Contains(err.Error(), "too few") {
		t.Errorf("of nothing: %v", err)
	}
	if _, err := NewLearner(make([]string, MaxFeatures+1), 0, false, 100); err == nil {
		t.Error("too many numbers")
	}
}

// Whatever reads is safe to hold samples against.
func FuzzRead(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	var file bytes.Buffer
	if err := learned(f, 100, nil, func(i int) string { return fmt.Sprint(i % 3) }, rng.NormFloat64).Write(&file); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		m, err := NewMonitor(r, Config{64, 0.01})
		if err != nil {
			t.Fatal(err)
		}
		row := make([]float64, m.Numbers())
		for i := range 130 {
			for k := range row {
				row[k] = float64(i * (k + 1))
			}
			if _, ok := m.Add(row, "1"); !ok {
				t.Fatal("refused")
			}
			if v := m.Judge(true); math.IsNaN(v.Drift) {
				t.Fatalf("%+v", v)
			}
		}
		if r.Picture != nil && m.Numbers() >= len(PictureNames) {
			m.AddPicture(&Look{Bright: 3}, row[len(PictureNames):], "")
		}
		m.Blind()
	})
}
