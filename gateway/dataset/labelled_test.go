package dataset

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"edgegateway/infer/train"
	"edgegateway/sensors"
)

// Whatever is recorded behind them, and whatever does not fit between them, the
// first samples stay the same; those that are counted can be loaded.
func TestLabelledKeepsItsFirst(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "set")
		if err != nil {
			t.Fatal(err)
		}
		var want []float32
		var labels []int32
		var list []Sample
		classes := []string{"worn", "ok"}
		for i := range rapid.IntRange(1, 30).Draw(r, "samples") {
			s := values(i)
			s.Label = rapid.SampledFrom([]string{"ok", "worn", "", "else"}).Draw(r, "label")
			if rapid.Bool().Draw(r, "short") {
				s.Values = s.Values[:1]
			}
			list = append(list, s)
			if k := slices.Index(classes, s.Label); k >= 0 && len(s.Values) == 2 {
				want = append(want, (float32(i)-1)/2, float32((0.1-1)/2))
				labels = append(labels, int32(k))
			}
		}
		cut := rapid.IntRange(0, len(list)).Draw(r, "cut")
		l := &Labelled{Dir: dir, Input: train.Shape{2}, Classes: classes, Normalise: sensors.NormaliseConfig{Mean: []float64{1}, Std: []float64{2}}}
		c := NewCounter(*l)
		if n, err := c.Count(t.Context()); err != nil || n != 0 {
			r.Fatalf("an empty folder: %d, %v", n, err)
		}
		write(t, dir, pair, plenty, list[:cut]...)
		first, err := c.Count(t.Context())
		if err != nil {
			r.Fatal(err)
		}
		var before *train.Dataset
		if first > 0 {
			if before, err = l.Load(t.Context(), first); err != nil {
				r.Fatal(err)
			}
		}
		write(t, dir, Header{Features: []string{"x", "y", "z"}}, plenty, Sample{Time: noon, Label: "ok", Values: []float64{1, 2, 3}})
		write(t, dir, pair, plenty, list[cut:]...)
		n, err := c.Count(t.Context())
		if err != nil || n != len(labels) {
			r.Fatalf("%d samples, %v; want %d", n, err, len(labels))
		}
		if n == 0 {
			return
		}
		d, err := l.Load(t.Context(), n)
		if err != nil || !slices.Equal(d.Values, want) || !slices.Equal(d.Labels, labels) || len(d.Times) != n {
			r.Fatalf("%+v, %v; want %v %v", d, err, want, labels)
		}
		if first > 0 {
			again, err := l.Load(t.Context(), first)
			if err != nil || !slices.Equal(again.Values, before.Values) || !slices.Equal(again.Labels, before.Labels) {
				r.Fatalf("the first %d are others now: %v", first, err)
			}
		}
		if _, err := l.Load(t.Context(), n+1); err == nil {
			r.Fatal("more than there are are loaded")
		}
	})
}

func TestLabelledKinds(t *testing.T) {
	dir := t.TempDir()
	numbers := filepath.Join(dir, "numbers")
	s := func(label string, v ...float64) Sample { return Sample{Time: noon, Label: label, Values: v} }
	write(t, numbers, pair, plenty, s("1.5", 1, 2), s("", 3, 4), s("warm", 5, 6), s("-2", 7, 8))
	pictures := filepath.Join(dir, "pictures")
	var list []Sample
	for i, c := range []color.Color{color.White, color.Black} {
		list = append(list, Sample{Time: noon, Label: fmt.Sprint(i), Picture: jpegOf(t, 8, 8, c)})
	}
	write(t, pictures, Header{Pictures: true}, plenty, list...)
	for name, tt := range map[string]struct {
		l       Labelled
		n       int
		targets []float32
		labels  []int32
		other   string
	}{
		"values":       {Labelled{Dir: numbers, Input: train.Shape{2}, Values: 1}, 2, []float32{1.5, -2}, nil, "2 it has no label"},
		"themselves":   {Labelled{Dir: numbers, Input: train.Shape{2}, Values: 2}, 4, []float32{1, 2, 3, 4, 5, 6, 7, 8}, nil, "0 "},
		"pictures":     {Labelled{Dir: pictures, Input: train.Shape{4, 4, 1}, Classes: []string{"1", "0"}, Picture: sensors.DefaultImageConfig()}, 2, nil, []int32{1, 0}, "0 "},
		"wrong kind":   {Labelled{Dir: pictures, Input: train.Shape{2}, Classes: []string{"1"}}, 0, nil, nil, "2 it is a picture"},
		"not there":    {Labelled{Dir: filepath.Join(dir, "none"), Input: train.Shape{2}, Values: 1}, 0, nil, nil, "0 "},
		"other widths": {Labelled{Dir: numbers, Input: train.Shape{3}, Values: 1}, 0, nil, nil, "4 it has 2 values, and not 3"},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewCounter(tt.l)
			n, err := c.Count(t.Context())
			if err != nil || n != tt.n {
				t.Fatalf("%d, %v", n, err)
			}
			if other, why := c.Other(); fmt.Sprint(other, " ", why) != tt.other {
				t.Errorf("%d do not fit: %s", other, why)
			}
			if n == 0 {
				return
			}
			d, err := tt.l.Load(t.Context(), n)
			if err != nil || !slices.Equal(d.Targets, tt.targets) || !slices.Equal(d.Labels, tt.labels) {
				t.Fatalf("%+v, %v", d, err)
			}
			if d.Pixels != nil && (d.Pixels[0] != 255 || d.Pixels[16] != 0) {
				t.Errorf("%v", d.Pixels)
			}
		})
	}
	for name, l := range map[string]Labelled{
		"two targets": {Input: train.Shape{3}, Values: 2},
		"nothing":     {Input: train.Shape{3}},
		"no shape":    {Values: 1, Input: train.Shape{0}},
		"mean":        {Input: train.Shape{4, 4, 1}, Classes: []string{"a"}, Picture: sensors.ImageConfig{Mean: []float64{1}}},
	} {
		if _, err := NewCounter(l).Count(t.Context()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
