package compress

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"edgegateway/infer/model"
)

// MadeUp are n inputs for a model without data. Where the model begins with the
// normalisation of its inputs, as networks of this program do, they lie as that
// says: about the mean that it takes away, by the deviation that it divides by.
// Pictures for an input of bytes cover what its scale and zero point do.
func MadeUp(m *model.Model, n int, seed uint64) Structured {
	s := Structured{N: n, Seed: seed}
	for _, in := range m.Main().Inputs {
		t := &m.Main().Tensors[in]
		mean, dev := normalised(m.Main(), in)
		s.pictured = append(s.pictured, pictured(t.Shape))
		if low, high, ok := byteRange(t); ok && pictured(t.Shape) {
			mean, dev = []float64{(low + high) / 2}, []float64{(high - low) / 2}
		}
		s.mean, s.dev = append(s.mean, mean), append(s.dev, dev)
	}
	return s
}

// byteRange is what the bytes of a quantized tensor can stand for.
func byteRange(t *model.Tensor) (low, high float64, ok bool) {
	q := t.Quant
	if len(q.Scale) != 1 || len(q.ZeroPoint) != 1 || !(q.Scale[0] > 0) {
		return 0, 0, false
	}
	least, most := 0, 255
	switch t.Type {
	case model.Int8:
		least, most = -128, 127
	case model.Uint8:
	default:
		return 0, 0, false
	}
	of := func(b int) float64 { return float64(q.Scale[0]) * float64(int64(b)-q.ZeroPoint[0]) }
	return of(least), of(most), true
}

// PictureRange is what the darkest and the brightest pixel are for m, where it
// says so: by the normalisation that it begins with, or by the scale of an input
// of bytes.
func PictureRange(m *model.Model) (low, high float64, ok bool) {
	s := MadeUp(m, 1, 1)
	for k, is := range s.pictured {
		if is && s.mean[k] != nil {
			low, high = s.levels(k)
			return low, high, true
		}
	}
	return 0, 0, false
}

// assumed is how the inputs lie, "" of those that MadeUp did not make.
func (s Structured) assumed() string {
	var list []string
	for k, is := range s.pictured {
		low, high := s.levels(k)
		text := "numbers of deviation 1 about 0"
		switch {
		case is:
			text = fmt.Sprintf("pictures between %.4g and %.4g", low, high)
		case s.mean[k] != nil:
			text = "numbers as the model's own normalisation takes them"
		case s.Times > 1:
			text = fmt.Sprintf("numbers of deviation %g about 0", s.Times)
		}
		if !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return strings.Join(list, ", ")
}

// normalised follows an input through what is added to it and what it is
// multiplied by: y = a x + b has mean 0 and deviation 1 for x of mean -b/a and
// deviation 1/|a|. Both are nil where the model does not begin so.
func normalised(g *model.Subgraph, in int) (mean, dev []float64) {
	a, b := []float64{1}, []float64{0}
	found := false
	for range g.Ops {
		takers := g.Consumers(in)
		if len(takers) != 1 {
			break
		}
		op := &g.Ops[takers[0]]
		if len(op.Inputs) != 2 || !slices.Contains([]string{"ADD", "SUB", "MUL", "DIV"}, op.Code) {
			break
		}
		other := op.Inputs[0]
		if first := other == in; first {
			other = op.Inputs[1]
		} else if op.Code == "SUB" || op.Code == "DIV" {
			break
		}
		if other < 0 || !g.Tensors[other].Constant() {
			break
		}
		c, err := g.Tensors[other].Floats()
		if err != nil || len(c) == 0 || len(c) > 1 && len(a) > 1 && len(c) != len(a) {
			break
		}
		a, b = affine(op.Code, a, b, c)
		found, in = true, op.Outputs[0]
	}
	if !found {
		return nil, nil
	}
	for i := range a {
		mu, d := -b[i]/a[i], 1/math.Abs(a[i])
		if mu-mu != 0 || d-d != 0 {
			return nil, nil
		}
		mean, dev = append(mean, mu), append(dev, d)
	}
	return mean, dev
}

// affine applies one step with a constant to y = a x + b.
func affine(code string, a, b []float64, c []float32) (na, nb []float64) {
	for i := range max(len(a), len(c)) {
		x, y, k := a[i%len(a)], b[i%len(b)], float64(c[i%len(c)])
		switch code {
		case "ADD":
			y += k
		case "SUB":
			y -= k
		case "MUL":
			x, y = x*k, y*k
		case "DIV":
			x, y = x/k, y/k
		}
		na, nb = append(na, x), append(nb, y)
	}
	return na, nb
}

// levels are the darkest and the brightest value of made up pictures.
func (s Structured) levels(input int) (low, high float64) {
	if s.Low != 0 || s.High != 0 {
		return s.Low, s.High
	}
	if input >= len(s.mean) || s.mean[input] == nil {
		return -1, 1
	}
	// One number for all colours maps a range, such as 0..255; several are the
	// means and deviations of pictures, which reach about twice as far.
	mean, dev, reach := s.mean[input], s.dev[input], 1.0
	if slices.Min(mean) != slices.Max(mean) {
		reach = 2
	}
	return slices.Min(mean) - reach*slices.Max(dev), slices.Max(mean) + reach*slices.Max(dev)
}

// settle moves numbers of mean 0 and a deviation of about 1 to where the
// model's own normalisation looks for them, else makes them Times as large.
func (s Structured) settle(input int, v []float64) {
	if input >= len(s.mean) || s.mean[input] == nil {
		for j := range v {
			v[j] *= max(s.Times, 1)
		}
		return
	}
	mean, dev := s.mean[input], s.dev[input]
	for j := range v {
		v[j] = mean[j%len(mean)] + dev[j%len(dev)]*v[j]
	}
}
