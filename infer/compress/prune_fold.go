package compress

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"edgegateway/infer"
	"edgegateway/infer/model"
)

// Where channels go, those that stay say something of what they said: over
// samples, a channel that goes is, as nearly as a straight line has it,
// b + sum of a_k x_k over those that stay. What takes the channel takes that in
// its place: a_k goes into the weights for x_k, b into the bias. For a dense
// layer and a convolution with VALID padding the mean of what a layer gives is
// then what it was, exactly; with SAME padding b is missing in the padding.

// moments are mean and covariance of a tensor's channels over samples and
// pixels.
type moments struct {
	n    float64
	mean []float64
	cov  *mat.SymDense // until centred: the sum of squares
}

// pixels is how many places of a tensor are looked at, of one sample; of more
// channels than widest the covariance would take too long.
const (
	pixels = 64
	widest = 2048
)

// seen runs m on samples and gives the moments of what its convolutions and
// dense layers take, by tensor. progress may be nil.
func (u *units) seen(ctx context.Context, m *model.Model, library string, data Inputs, progress func(done, of int)) (map[int]*moments, error) {
	look := m.Clone()
	look.Signatures = nil
	all := map[int]*moments{}
	var watched []int
	for i := range u.g.Ops {
		op := &u.g.Ops[i]
		if !u.mixes(op) || all[op.Inputs[0]] != nil || slices.Contains(u.g.Inputs, op.Inputs[0]) {
			continue
		}
		n := u.period(op.Inputs[0])
		if n > widest {
			continue
		}
		all[op.Inputs[0]] = &moments{mean: make([]float64, n), cov: mat.NewSymDense(n, nil)}
		watched = append(watched, op.Inputs[0])
	}
	if len(watched) == 0 {
		return all, nil
	}
	look.Main().Outputs = watched
	file, err := look.Encode()
	if err != nil {
		return nil, err
	}
	s, err := infer.OpenSession(file, "builtin", library)
	if err != nil {
		return nil, fmt.Errorf("looking at what channels hold: %w", err)
	}
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 0x7365656e))
	var v []float64
	for i := range data.Len() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := data.Fill(s.In, i); err != nil {
			return nil, fmt.Errorf("sample %d: %w", i, err)
		}
		if err := s.Invoke(); err != nil {
			return nil, fmt.Errorf("sample %d: %w", i, err)
		}
		for k, t := range watched {
			v = s.Out[k].Floats(v[:0])
			if err := all[t].take(v, r); err != nil {
				return nil, fmt.Errorf("sample %d, tensor %q: %w", i, u.g.Tensors[t].Name, err)
			}
		}
		if progress != nil {
			progress(i+1, data.Len())
		}
	}
	for _, x := range all {
		x.centre()
	}
	return all, nil
}

// mixes says whether an operator computes channels out of all of its input's.
func (u *units) mixes(op *model.Op) bool {
	if op.Code != "CONV_2D" && op.Code != "FULLY_CONNECTED" || !weighted(u.g, op) {
		return false
	}
	in := u.of[op.Inputs[0]]
	return len(in) > 0 && fits(u.g, op, len(in))
}

// period is after how many elements a tensor's units begin again: the channels
// of a flattened picture repeat for each pixel.
func (u *units) period(t int) int {
	in := u.of[t]
	for n := 1; n < len(in); n++ {
		if len(in)%n == 0 && in[n] == in[0] && slices.Equal(in[n:], in[:len(in)-n]) {
			return n
		}
	}
	return len(in)
}

func (m *moments) take(v []float64, r *rand.Rand) error {
	n := len(m.mean)
	rows := len(v) / n
	some := make([]float64, 0, min(rows, pixels)*n)
	for k := range min(rows, pixels) {
		row := k
		if rows > pixels {
			row = r.IntN(rows) // a fixed step would see a few columns of a picture
		}
		for c, x := range v[row*n : (row+1)*n] {
			if x-x != 0 {
				return fmt.Errorf("a value is %v", x)
			}
			m.mean[c] += x
		}
		some = append(some, v[row*n:(row+1)*n]...)
		m.n++
	}
	blas64.Syrk(blas.Trans, 1, blas64.General{Rows: len(some) / n, Cols: n, Stride: n, Data: some}, 1, m.cov.RawSymmetric())
	return nil
}

// centre makes mean and covariance of the sums. Its diagonal is made a little
// larger, the more so the fewer samples there are: what they show by chance is
// not built upon. A channel that is constant but for rounding goes with no other.
func (m *moments) centre() {
	n := len(m.mean)
	for c := range m.mean {
		m.mean[c] /= m.n
	}
	for a := range n {
		for b := a; b < n; b++ {
			m.cov.SetSym(a, b, m.cov.At(a, b)/m.n-m.mean[a]*m.mean[b])
		}
	}
	ridge := 1 + 1e-3 + 0.1*min(float64(n)/m.n, 1)
	for a := range n {
		v := m.cov.At(a, a)
		// Sums of squares that nearly cancel leave this much by chance.
		if floor := 1e-10 * m.mean[a] * m.mean[a]; v <= floor {
			for b := range n {
				m.cov.SetSym(a, b, 0)
			}
			v = floor
		}
		m.cov.SetSym(a, a, v*ridge+1e-30)
	}
}

// factored gives the Cholesky factors of the covariance of some channels, all
// scaled to a variance of 1, and what each was multiplied by. However far apart
// their variances are, with the ridge of centre its condition is bounded, by some
// thousand times their number; its eigenvalues are at least a thousandth.
func (m *moments) factored(of []int) (*mat.Cholesky, []float64, error) {
	scale := make([]float64, len(of))
	for i, c := range of {
		scale[i] = 1 / math.Sqrt(m.cov.At(c, c))
	}
	r := mat.NewSymDense(len(of), nil)
	for i, c := range of {
		for j := i; j < len(of); j++ {
			r.SetSym(i, j, m.cov.At(c, of[j])*scale[i]*scale[j])
		}
	}
	var chol mat.Cholesky
	if !chol.Factorize(r) {
		return nil, nil, fmt.Errorf("the covariance of %d channels cannot be inverted", len(of))
	}
	return &chol, scale, nil
}

// inverse is that of the whole covariance.
func (m *moments) inverse() (*mat.SymDense, error) {
	n := len(m.mean)
	all := make([]int, n)
	for c := range all {
		all[c] = c
	}
	chol, scale, err := m.factored(all)
	if err != nil {
		return nil, err
	}
	inv := mat.NewSymDense(n, nil)
	if err := chol.InverseTo(inv); err != nil {
		return nil, err
	}
	for a := range n {
		for b := a; b < n; b++ {
			inv.SetSym(a, b, inv.At(a, b)*scale[a]*scale[b])
		}
	}
	return inv, nil
}

// line is what the channels that go are by those that stay.
func (m *moments) line(stay, gone []int) (a *mat.Dense, b []float64, err error) {
	b = make([]float64, len(gone))
	for r, c := range gone {
		b[r] = m.mean[c]
	}
	a = mat.NewDense(max(len(stay), 1), len(gone), nil)
	if len(stay) == 0 {
		return a, b, nil
	}
	chol, scale, err := m.factored(stay)
	if err != nil {
		return nil, nil, err
	}
	kr := mat.NewDense(len(stay), len(gone), nil)
	for i, c := range stay {
		for r, d := range gone {
			kr.Set(i, r, m.cov.At(c, d)*scale[i])
		}
	}
	if err := chol.SolveTo(a, kr); err != nil {
		return nil, nil, err
	}
	for i := range stay {
		for r := range gone {
			a.Set(i, r, a.At(i, r)*scale[i])
		}
	}
	for r := range gone {
		for i, c := range stay {
			b[r] -= a.At(i, r) * m.mean[c]
		}
	}
	return a, b, nil
}

// fold writes into weights what channels that go said by those that stay.
func (u *units) fold(keep []bool, seen map[int]*moments) error {
	g := u.g
	for i := range u.g.Ops {
		op := &g.Ops[i]
		if !u.mixes(op) || seen[op.Inputs[0]] == nil {
			continue
		}
		m := seen[op.Inputs[0]]
		n := len(m.mean)
		var stay, gone []int
		for c, unit := range u.of[op.Inputs[0]][:n] {
			if keep[unit] {
				stay = append(stay, c)
			} else {
				gone = append(gone, c)
			}
		}
		if len(gone) == 0 {
			continue
		}
		a, b, err := m.line(stay, gone)
		if err != nil {
			return fmt.Errorf("op %d %s: %w", i, op.Code, err)
		}
		w, err := g.Tensors[op.Inputs[1]].Floats()
		if err != nil {
			return err
		}
		outs := g.Tensors[op.Inputs[1]].Shape[0]
		bias := make([]float32, outs)
		if len(op.Inputs) > 2 && op.Inputs[2] >= 0 {
			if bias, err = g.Tensors[op.Inputs[2]].Floats(); err != nil {
				return err
			}
		}
		per := len(w) / outs
		for at := 0; at < len(w); at += n {
			row := w[at : at+n]
			more := 0.0
			for r, c := range gone {
				v := float64(row[c])
				more += v * b[r]
				for k, s := range stay {
					row[s] += float32(v * a.At(k, r))
				}
			}
			bias[at/per] += float32(more)
		}
		g.Tensors[op.Inputs[1]].Buffer = model.FloatBytes(w)
		setBias(g, i, bias)
	}
	return nil
}

// setBias gives a layer a bias, its own or a new one.
func setBias(g *model.Subgraph, i int, bias []float32) {
	op := &g.Ops[i]
	if len(op.Inputs) > 2 && op.Inputs[2] >= 0 {
		g.Tensors[op.Inputs[2]].Buffer = model.FloatBytes(bias)
		return
	}
	t := g.Add(model.Tensor{Name: g.Tensors[op.Inputs[1]].Name + "/bias", Type: model.Float32, Shape: []int{len(bias)}, Buffer: model.FloatBytes(bias)})
	op.Inputs = append(op.Inputs[:2:2], t)
}
