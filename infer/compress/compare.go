package compress

import (
	"cmp"
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
	// More are the other outputs, in their order; they have no Top1.
	More []Agreement `json:"more_outputs,omitempty"`
}

// Relative is the mean difference as a share of the first model's range, the
// largest of all outputs; 1 and more where a range is 0 and the answers differ.
func (a Agreement) Relative() float64 {
	r := 0.0
	switch {
	case a.Range > 0:
		r = a.MeanAbs / a.Range
	case a.MeanAbs > 0:
		r = 1
	}
	for _, m := range a.More {
		r = max(r, m.Relative())
	}
	return r
}

// Compare runs two models on the built-in kernels, or on the delegates given.
// An answer that is no number is an error.
func Compare(ctx context.Context, a, b []byte, delegates [2]string, library string, data Inputs) (Agreement, error) {
	return compare(ctx, a, b, delegates, library, data, nil)
}

func compare(ctx context.Context, a, b []byte, delegates [2]string, library string, data Inputs, progress func(done, of int)) (Agreement, error) {
	var s [2]*infer.Session
	for k, file := range [][]byte{a, b} {
		var err error
		if s[k], err = infer.OpenSession(file, cmp.Or(delegates[k], "builtin"), library); err != nil {
			return Agreement{}, err
		}
		defer s[k].Close()
	}
	if n, m := len(s[0].Out), len(s[1].Out); n != m {
		return Agreement{}, fmt.Errorf("one model has %d outputs, the other %d", n, m)
	}
	sums := make([]outputSum, len(s[0].Out))
	for i := range sums {
		sums[i] = outputSum{low: math.Inf(1), high: math.Inf(-1)}
	}
	var v, w []float64
	for i := range data.Len() {
		if err := ctx.Err(); err != nil {
			return Agreement{}, err
		}
		for _, x := range s {
			if err := data.Fill(x.In, i); err != nil {
				return Agreement{}, fmt.Errorf("sample %d: %w", i, err)
			}
			if err := x.Invoke(); err != nil {
				return Agreement{}, fmt.Errorf("sample %d: %w", i, err)
			}
		}
		for k := range sums {
			v, w = s[0].Out[k].Floats(v[:0]), s[1].Out[k].Floats(w[:0])
			if err := sums[k].take(v, w); err != nil {
				return Agreement{}, fmt.Errorf("sample %d, output %d: %w", i, k, err)
			}
		}
		if progress != nil {
			progress(i+1, data.Len())
		}
	}
	var all []Agreement
	for k := range sums {
		all = append(all, sums[k].agreement(data.Len()))
		if k > 0 {
			all[k].Top1 = 0
		}
	}
	all[0].More = all[1:]
	return all[0], nil
}

// outputSum gathers how one output differs.
type outputSum struct {
	low, high, abs, largest float64
	same, values            int
}

func (o *outputSum) take(v, w []float64) error {
	if len(v) != len(w) {
		return fmt.Errorf("one model answers with %d values, the other with %d", len(v), len(w))
	}
	bestV, bestW := 0, 0
	for j := range v {
		d := math.Abs(v[j] - w[j])
		if d-d != 0 {
			return fmt.Errorf("value %d is %v by one model and %v by the other", j, v[j], w[j])
		}
		o.low, o.high = min(o.low, v[j]), max(o.high, v[j])
		o.abs += d
		o.largest = max(o.largest, d)
		if v[j] > v[bestV] {
			bestV = j
		}
		if w[j] > w[bestW] {
			bestW = j
		}
	}
	o.values += len(v)
	if bestV == bestW {
		o.same++
	}
	return nil
}

func (o *outputSum) agreement(samples int) Agreement {
	a := Agreement{Samples: samples, Top1: float64(o.same) / float64(max(samples, 1)), MeanAbs: o.abs / float64(max(o.values, 1)), Largest: o.largest}
	if o.values > 0 {
		a.Range = o.high - o.low
	}
	return a
}
