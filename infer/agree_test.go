package infer

import (
	"math"
	"strings"
	"testing"
)

// TestDisagree: the bounds are shares of the range, steps, and the same best.
func TestDisagree(t *testing.T) {
	differ := func(ref, got []Tensor) string { return disagree(ref, got, widen(nil, ref)) }
	nan := math.NaN()
	for _, c := range []struct {
		ref, got []float64
		want     string
	}{
		{[]float64{0, 1, 0.5}, []float64{0, 1.0009, 0.5}, ""},
		{[]float64{0, 1, 0.5}, []float64{0, 1.01, 0.5}, "element 1"},
		{[]float64{0, 1, 0.5}, []float64{0, nan, 0.5}, "element 1"},
		{[]float64{0, nan, 0.5}, []float64{0, 1, 0.5}, "element 1"},
		{[]float64{0, nan, 0.5}, []float64{0, nan, 0.5}, ""}, // no fault of the device
		{[]float64{0, 1, 0.9995}, []float64{0, 0.9999, 1}, ""},
		{[]float64{0, 1}, []float64{0, 1, 2}, "output 0"},
		{[]float64{1e30}, []float64{1.1e30}, "element 0"},
	} {
		got := differ([]Tensor{floats32(nil, c.ref...)}, []Tensor{floats32(nil, c.got...)})
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%v and %v: %q, want %q", c.ref, c.got, got, c.want)
		}
	}
	q := func(b ...byte) []Tensor { return []Tensor{{Type: Uint8, Shape: []int{3}, Scale: 0.1, Data: b}} }
	if got := differ(q(10, 30, 29), q(10, 29, 30)); got != "" {
		t.Errorf("a tie: %q", got)
	}
	if got := differ(q(10, 30, 27), q(10, 28, 29)); !strings.Contains(got, "the best") {
		t.Errorf("another best: %q", got)
	}
	if got := differ(q(10, 30, 27), q(16, 30, 27)); got != "" {
		t.Errorf("six steps: %q", got)
	}
	if got := differ(q(10, 30, 27), q(17, 30, 27)); !strings.Contains(got, "element 0") {
		t.Errorf("seven steps: %q", got)
	}
	if got := differ(q(1), nil); got == "" {
		t.Error("no outputs agree with one")
	}
}

// TestDisagreeOfOneNumber: the range of a single number is that of the answers
// seen so far, not nothing.
func TestDisagreeOfOneNumber(t *testing.T) {
	one := func(v float64) []Tensor { return []Tensor{floats32(nil, v)} }
	seen := widen(widen(nil, one(-1)), one(1))
	if got := disagree(one(0.0001), one(0.0019), seen); got != "" {
		t.Errorf("within a thousandth of the range: %q", got)
	}
	if got := disagree(one(0.0001), one(0.0029), seen); got == "" {
		t.Error("beyond it: agrees")
	}
}
