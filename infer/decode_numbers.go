package infer

import (
	"fmt"
	"slices"
)

// maxValues bounds the numbers of a result.
const maxValues = 1 << 16

// numbers reads outputs as the numbers they are, one after the other: the
// first output of a regression, all of a raw model.
type numbers struct{ outputs int }

func newNumbers(outs []TensorInfo) (*numbers, error) {
	n := 0
	for _, o := range outs {
		n += elements(o.Shape)
	}
	if n > maxValues {
		return nil, fmt.Errorf("its outputs hold %d numbers, a result at most %d", n, maxValues)
	}
	return &numbers{outputs: len(outs)}, nil
}

func (d *numbers) decode(_, out []Tensor, r *Result) error {
	values := r.Values[:0]
	for i := range out[:d.outputs] {
		t := &out[i]
		if len(values)+t.Len() > maxValues {
			return fmt.Errorf("the outputs hold more than %d numbers", maxValues)
		}
		from := len(values)
		values = slices.Grow(values, t.Len())[:from+t.Len()]
		read(t, 0, values[from:])
		for j, v := range values[from:] {
			if !finite(v) {
				return errNotFinite(i, j, v)
			}
		}
	}
	r.Values = values
	return nil
}

// reconstruction reads an autoencoder's output: the result's score is the mean
// squared error between what went in and what came out, both as real numbers.
// A high one means that the model has not learnt such an input.
type reconstruction struct{ n int }

func newReconstruction(ins, outs []TensorInfo) (*reconstruction, error) {
	n := elements(outs[0].Shape)
	if len(ins) == 0 || n == 0 || elements(ins[0].Shape) != n {
		return nil, fmt.Errorf("a reconstruction needs an output as large as the input, here %v of %v", outs[0].Shape, shapes(ins))
	}
	return &reconstruction{n: n}, nil
}

func (d *reconstruction) decode(in, out []Tensor, r *Result) error {
	x, y := &in[0], &out[0]
	if err := sized(y, 0, d.n); err != nil {
		return err
	}
	if x.Len() < d.n {
		return fmt.Errorf("the input holds %d elements, the output %d", x.Len(), d.n)
	}
	sum := 0.0
	var given, made [block]float64
	for from := 0; from < d.n; from += block {
		n := min(block, d.n-from)
		read(x, from, given[:n])
		read(y, from, made[:n])
		for i, v := range made[:n] {
			if !finite(v) {
				return errNotFinite(0, from+i, v)
			}
			e := given[i] - v
			sum += e * e
		}
	}
	if r.Score = sum / float64(d.n); !finite(r.Score) {
		return fmt.Errorf("the reconstruction error is %v: the input holds no finite numbers", r.Score)
	}
	return nil
}

func shapes(list []TensorInfo) [][]int {
	var s [][]int
	for _, t := range list {
		s = append(s, t.Shape)
	}
	return s
}
