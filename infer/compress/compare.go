package compress

import (
	"context"
	"fmt"
	"math"

	"edgegateway/infer"
)

// Agreement is how two models answer the same inputs, by their first output.
type Agreement struct {
	Samples int     `json:"samples"`
	Top1    float64 `json:"top1"`            // share of samples whose largest output is the same
	MeanAbs float64 `json:"mean_difference"` // of the outputs as real numbers
	Largest float64 `json:"largest_difference"`
	Range   float64 `json:"range"` // of the first model's outputs
}

// Compare runs two models on the built-in kernels, or on the delegates given.
func Compare(ctx context.Context, a, b []byte, delegates [2]string, library string, data Inputs) (Agreement, error) {
	var s [2]*infer.Session
	for k, file := range [][]byte{a, b} {
		d := delegates[k]
		if d == "" {
			d = "builtin"
		}
		var err error
		if s[k], err = infer.OpenSession(file, d, library); err != nil {
			return Agreement{}, err
		}
		defer s[k].Close()
	}
	r := Agreement{Samples: data.Len()}
	low, high := math.Inf(1), math.Inf(-1)
	n := 0
	for i := range data.Len() {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		for _, x := range s {
			if err := data.Fill(x.In, i); err != nil {
				return r, fmt.Errorf("sample %d: %w", i, err)
			}
			if err := x.Invoke(); err != nil {
				return r, fmt.Errorf("sample %d: %w", i, err)
			}
		}
		x, y := &s[0].Out[0], &s[1].Out[0]
		if x.Len() != y.Len() {
			return r, fmt.Errorf("one model answers with %d values, the other with %d", x.Len(), y.Len())
		}
		bestX, bestY := 0, 0
		for j := range x.Len() {
			v, w := x.Float(j), y.Float(j)
			low, high = min(low, v), max(high, v)
			d := math.Abs(v - w)
			r.MeanAbs += d
			r.Largest = max(r.Largest, d)
			n++
			if v > x.Float(bestX) {
				bestX = j
			}
			if w > y.Float(bestY) {
				bestY = j
			}
		}
		if bestX == bestY {
			r.Top1++
		}
	}
	r.Top1 /= float64(max(r.Samples, 1))
	r.MeanAbs /= float64(max(n, 1))
	r.Range = high - low
	return r, nil
}
