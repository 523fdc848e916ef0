package chart

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func figures() map[string]*Drawing {
	nan := math.NaN()
	return map[string]*Drawing{
		"lines": Lines{Title: "Loss & <accuracy> in °C", X: "epoch", Y: "loss", Series: []Series{
			{Name: "train", Y: []float64{1, 0.5, 0.3, 0.2, 0.15}}, {Name: "held out", Y: []float64{1.1, nan, 0.5, 0.45, math.Inf(1)}, Dash: true}}}.Draw(),
		"scatter": Scatter{Title: "Accuracy over size", X: "bytes", Y: "top-1", LogX: true, Points: []Point{
			{100000, 0.9, "float", "cpu"}, {27000, 0.895, "int8", "cpu"}, {27100, 0.895, "int8 equalised", "external"}, {50000, nan, "broken", "cpu"}}}.Draw(),
		"bounds": Scatter{X: "bytes", LogX: true, AtX: []Bound{{5000, "most bytes"}, {math.NaN(), "none"}}, AtY: []Bound{{0.85, "least that is right"}, {math.Inf(1), "never"}},
			Points: []Point{{10000, 0.9, "1", "tried"}, {27000, 0.895, "2", "tried"}}}.Draw(),
		"heat": Heat{Title: "Confusion", X: "answer", Y: "class", Rows: []string{"cat", "dog"}, Columns: []string{"cat", "a very long name of a class"},
			Values: [][]float64{{90, 10}, {3, 97}}, PerRow: true}.Draw(),
		"empty lines":   Lines{Title: "none"}.Draw(),
		"empty scatter": Scatter{LogX: true, LogY: true}.Draw(),
		"empty heat":    Heat{}.Draw(),
		"one point":     Lines{Series: []Series{{Y: []float64{0}}}}.Draw(),
		"control":       Lines{Title: "a\x00b\xffc"}.Draw(),
	}
}

// Every figure is well-formed SVG and a PNG of twice its size, with ink on it.
// CHART_DIR=folder keeps them to be looked at.
func TestBothForms(t *testing.T) {
	for name, d := range figures() {
		svg := d.SVG()
		dec := xml.NewDecoder(bytes.NewReader(svg))
		for {
			if _, err := dec.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, svg)
			}
		}
		if strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "Inf") {
			t.Errorf("%s: a coordinate is no number", name)
		}
		data, err := d.PNG()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		img, err := png.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if img.Bounds() != image.Rect(0, 0, 2*d.W, 2*d.H) {
			t.Errorf("%s: PNG of %v for a drawing of %d x %d", name, img.Bounds(), d.W, d.H)
		}
		if dir := os.Getenv("CHART_DIR"); dir != "" {
			file := filepath.Join(dir, strings.ReplaceAll(name, " ", "_"))
			if err := os.WriteFile(file+".svg", svg, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file+".png", data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The two forms show the same at the same place: the points of a scatter and
// the shades of a table are there in their colors.
func TestSamePlaces(t *testing.T) {
	d := Scatter{Points: []Point{{1, 1, "a", "x"}, {2, 3, "b", "y"}}}.Draw()
	img := decode(t, d)
	discs := 0
	for _, s := range d.shapes {
		if s.kind == 'd' {
			discs++
			if got := img.At(int(2*s.at[0].x), int(2*s.at[0].y)); color.RGBAModel.Convert(got) != s.color {
				t.Errorf("at %v: %v, want %v", s.at[0], got, s.color)
			}
		}
	}
	if discs != 4 { // two points, two entries of the legend
		t.Errorf("%d discs", discs)
	}
	h := Heat{Values: [][]float64{{0, 1}, {1, 0}}}.Draw()
	img = decode(t, h)
	for _, s := range h.shapes[1:] {
		if s.kind == 'r' {
			if got := img.At(int(2*s.at[0].x)+4, int(2*s.at[0].y)+4); color.RGBAModel.Convert(got) != s.color {
				t.Errorf("cell at %v: %v, want %v", s.at[0], got, s.color)
			}
		}
	}
}

// A bound is a line across the field at its value, also beyond all points, and is
// named; what is no number is none.
func TestBounds(t *testing.T) {
	d := Scatter{AtX: []Bound{{8, "most"}, {math.NaN(), "none"}}, AtY: []Bound{{-1, "least"}}, Points: []Point{{1, 1, "a", "x"}, {2, 3, "b", "x"}}}.Draw()
	svg := string(d.SVG())
	for text, want := range map[string]int{">most<": 1, ">least<": 1, ">none<": 0, "stroke-dasharray": 2} {
		if got := strings.Count(svg, text); got != want {
			t.Errorf("%s stands there %d times, not %d", text, got, want)
		}
	}
	var points []point
	var lines [][]point
	for _, s := range d.shapes {
		switch {
		case s.kind == 'd':
			points = append(points, s.at[0])
		case s.kind == 'l' && s.dash:
			lines = append(lines, s.at)
		}
	}
	if len(points) != 2 || len(lines) != 2 || len(lines[0]) != 2 || len(lines[1]) != 2 {
		t.Fatalf("%v, %v", points, lines)
	}
	// What lies from 1 to 2 lies six times as far from 2 to 8, and upwards from 1 to 3 as far as from 1 to -1.
	if step := points[1].x - points[0].x; lines[0][0].x != lines[0][1].x || math.Abs(lines[0][0].x-points[1].x-6*step) > 1e-6 {
		t.Errorf("most stands at %v, the points at %v", lines[0], points)
	}
	if step := points[1].y - points[0].y; lines[1][0].y != lines[1][1].y || math.Abs(lines[1][0].y-points[0].y+step) > 1e-6 {
		t.Errorf("least stands at %v, the points at %v", lines[1], points)
	}
}

func decode(t *testing.T, d *Drawing) image.Image {
	t.Helper()
	data, err := d.PNG()
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		log       bool
	}{{0, 1, false}, {-3, 7.3, false}, {1e-9, 2e-9, false}, {99.1, 99.3, false}, {1, 1e6, true}, {20000, 90000, true}, {5, 5, true}, {-1, 100, true}} {
		a := newAxis(c.log, true, []float64{c.low, c.high})
		list := a.ticks(6)
		if len(list) < 2 || len(list) > 14 {
			t.Errorf("%v: %d ticks %v", c, len(list), list)
		}
		for i, v := range list {
			if v < a.low-1e-9*math.Abs(v) || v > a.high+1e-9*math.Abs(v) {
				t.Errorf("%v: tick %v is outside %v..%v", c, v, a.low, a.high)
			}
			if i > 0 && number(v) == number(list[i-1]) {
				t.Errorf("%v: two ticks read %s", c, number(v))
			}
		}
	}
}

// Rounds and epochs are counted: there is no tick between two of them.
func TestTicksOfCounts(t *testing.T) {
	for rounds, want := range map[int]string{1: "[1]", 2: "[1 2]", 5: "[1 2 3 4 5]", 100: "[20 40 60 80 100]"} {
		var xs []float64
		for i := range rounds {
			xs = append(xs, float64(i+1))
		}
		a := newAxis(false, false, xs)
		if a.whole = whole(xs); fmt.Sprint(a.ticks(8)) != want {
			t.Errorf("%d rounds: %v, want %s", rounds, a.ticks(8), want)
		}
	}
	if whole([]float64{1, 1.5}) {
		t.Error("1.5 is whole")
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{3 * 0.2: "0.6", 0: "0", 1e-15: "0", 0.895: "0.895", 12345: "12345", 2.5e7: "2.5e+07", -0.25: "-0.25", 1.0 / 3: "0.3333", 1e-5: "1e-05"} {
		if got := number(v); got != want {
			t.Errorf("%v reads %s, want %s", v, got, want)
		}
	}
}

// Labels of points that lie close do not cover each other.
func TestLabelsKeepApart(t *testing.T) {
	var points []Point
	for i := range 5 {
		points = append(points, Point{X: 10 + float64(i)*0.05, Y: 10, Label: "a model of some name"})
	}
	points = append(points, Point{X: 0, Y: 0}, Point{X: 20, Y: 20})
	d := Scatter{Points: points}.Draw()
	var boxes []box
	for _, s := range d.shapes {
		if s.kind == 't' && s.text == "a model of some name" {
			w := width(s.text, s.size)
			boxes = append(boxes, box{s.at[0].x, s.at[0].y - 9, s.at[0].x + w, s.at[0].y})
		}
	}
	if len(boxes) != 5 {
		t.Fatalf("%d labels", len(boxes))
	}
	for i := range boxes {
		for j := range i {
			if boxes[i].overlap(boxes[j]) > 0 {
				t.Errorf("label %d covers label %d", i, j)
			}
		}
	}
}
