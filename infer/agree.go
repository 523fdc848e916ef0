package infer

import (
	"fmt"
	"math"
)

// The bounds within which two delegates agree: kernels round differently.
const (
	floatAgrees = 1e-3 // of the output's range
	stepsAgree  = 6
)

// span is the range of an output over the answers seen so far: of a single
// number one answer shows none.
type span struct{ low, high float64 }

// widen takes outputs into the spans seen so far, nil for none.
func widen(seen []span, outs []Tensor) []span {
	for len(seen) < len(outs) {
		seen = append(seen, span{math.Inf(1), math.Inf(-1)})
	}
	for k := range outs {
		s := &seen[k]
		for i := range outs[k].Len() {
			if v := outs[k].Float(i); finite(v) {
				s.low, s.high = min(s.low, v), max(s.high, v)
			}
		}
	}
	return seen
}

// disagree says how the second outputs differ from the first, "" where they
// agree: floats within a thousandth of the range, quantized ones within six
// steps, and the same best element, unless the first ones say that two are
// equally good. seen holds at least the first ones.
func disagree(ref, got []Tensor, seen []span) string {
	if len(ref) != len(got) {
		return fmt.Sprintf("%d outputs, not %d", len(got), len(ref))
	}
	for k := range ref {
		a, b := &ref[k], &got[k]
		if a.Type != b.Type || a.Len() != b.Len() {
			return fmt.Sprintf("output %d is %v of %d, not %v of %d", k, b.Type, b.Len(), a.Type, a.Len())
		}
		tolerance := stepsAgree * float64(max(a.Scale, 0))
		tie := float64(a.Scale)
		if a.Type == Float32 {
			low, high := seen[k].low, seen[k].high
			tolerance = floatAgrees * max(high-low, 1e-6, 1e-3*max(math.Abs(high), math.Abs(low)))
			tie = tolerance
		}
		bestA, bestB := 0, 0
		for i := range a.Len() {
			x, y := a.Float(i), b.Float(i)
			if d := math.Abs(x - y); !(d <= tolerance*1.0001) && (finite(x) || finite(y)) {
				return fmt.Sprintf("element %d of output %d is %v, not %v", i, k, y, x)
			}
			if x > a.Float(bestA) {
				bestA = i
			}
			if y > b.Float(bestB) {
				bestB = i
			}
		}
		if a.Len() > 0 && a.Float(bestA)-a.Float(bestB) > tie*1.0001 {
			return fmt.Sprintf("the best of output %d is element %d, not %d", k, bestB, bestA)
		}
	}
	return ""
}
