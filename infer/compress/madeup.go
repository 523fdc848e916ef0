package compress

import (
	"math"
	"slices"

	"edgegateway/infer/model"
)

// MadeUp are n inputs for a model without data. Where the model begins with the
// normalisation of its inputs, as networks of this program do, they lie as that
// says: about the mean that it takes away, by the deviation that it divides by.
func MadeUp(m *model.Model, n int, seed uint64) Structured {
	s := Structured{N: n, Seed: seed}
	for _, in := range m.Main().Inputs {
		mean, dev := normalised(m.Main(), in)
		s.mean, s.dev = append(s.mean, mean), append(s.dev, dev)
	}
	return s
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
// model's own normalisation looks for them.
func (s Structured) settle(input int, v []float64) {
	if input >= len(s.mean) || s.mean[input] == nil {
		return
	}
	mean, dev := s.mean[input], s.dev[input]
	for j := range v {
		v[j] = mean[j%len(mean)] + dev[j%len(dev)]*v[j]
	}
}
