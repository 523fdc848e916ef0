package train

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Shape is that of one sample: [features] or [height, width, channels].
// Samples of a batch follow one another, channels last, as in TFLite.
type Shape []int

// Size is how many numbers a sample has.
func (s Shape) Size() int { return product(s) }

// layer is one step of a network. It keeps what its backward pass needs of the
// last forward pass; the slices that it returns are its own, and valid until
// it runs again.
type layer interface {
	// build fixes the shapes and draws the first weights.
	build(in Shape, r *rand.Rand) (out Shape, err error)
	// forward takes n samples of the input shape and gives n of the output's.
	forward(x []float32, n int, training bool) []float32
	// backward takes the gradient of the loss by the last forward pass's output
	// and gives that by its input; the parameters' gradients are replaced. Where
	// it goes no further, as in the first layer that learns, nobody reads what
	// it gives, and it may give nil.
	backward(dy []float32, n int, further bool) []float32
	params() []*Param
}

// grow gives a slice of n, in s where it is large enough; what is in it is
// anything.
func grow(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}

// dense is y = x Wᵀ + b with W [out, in], as TFLite stores it.
type dense struct {
	units int
	in    int
	rows  int // of a sample, each answered by itself; 0: one
	w, b  *Param
	x     []float32
	y, dx []float32
}

func (l *dense) build(in Shape, r *rand.Rand) (Shape, error) {
	if len(in) != 1 {
		return nil, fmt.Errorf("dense takes [features], not %v; put flatten or global_pool before it", in)
	}
	l.in = in[0]
	if l.units > maxWeights/l.in {
		return nil, fmt.Errorf("%d x %d weights are more than %d", l.units, l.in, maxWeights)
	}
	l.w, l.b = newParam("weights", []int{l.units, l.in}, true), newParam("bias", []int{l.units}, false)
	glorot(l.w.W, l.in, l.units, r)
	return Shape{l.units}, nil
}

// glorot draws uniformly from ± sqrt(6 / (in + out)), by Glorot and Bengio
// (2010), as Keras does.
func glorot(w []float32, in, out int, r *rand.Rand) {
	limit := math.Sqrt(6 / float64(in+out))
	for i := range w {
		w[i] = float32((2*r.Float64() - 1) * limit)
	}
}

func (l *dense) forward(x []float32, n int, _ bool) []float32 {
	l.x = x
	n *= max(l.rows, 1)
	l.y = grow(l.y, n*l.units)
	for i := range n {
		copy(l.y[i*l.units:(i+1)*l.units], l.b.W)
	}
	mulNT(l.y, x, l.w.use(), n, l.units, l.in, true)
	return l.y
}

func (l *dense) backward(dy []float32, n int, further bool) []float32 {
	n *= max(l.rows, 1)
	mulTN(l.w.G, dy, l.x, l.units, l.in, n, false)
	sumRows(l.b.G, dy, n)
	if !further {
		return nil
	}
	l.dx = grow(l.dx, n*l.in)
	mulNN(l.dx, dy, l.w.use(), n, l.in, l.units, false)
	return l.dx
}

// sumRows adds n rows up.
func sumRows(sum, rows []float32, n int) {
	clear(sum)
	w := len(sum)
	for i := range n {
		for j, v := range rows[i*w : (i+1)*w] {
			sum[j] += v
		}
	}
}

func (l *dense) params() []*Param { return []*Param{l.w, l.b} }

// use is the weights that the passes compute with: the fake-quantized ones in
// quantization-aware training, else W.
func (p *Param) use() []float32 {
	if p.fake != nil {
		return p.fake
	}
	return p.W
}

// flatten makes one row of a picture; the values stay where they are.
type flatten struct{}

func (flatten) build(in Shape, _ *rand.Rand) (Shape, error)    { return Shape{product(in)}, nil }
func (flatten) forward(x []float32, _ int, _ bool) []float32   { return x }
func (flatten) backward(dy []float32, _ int, _ bool) []float32 { return dy }
func (flatten) params() []*Param                               { return nil }

// dropout sets a share of the values to 0 while training and scales the rest,
// so that nothing is left to do afterwards.
type dropout struct {
	rate  float64
	r     *rand.Rand
	keep  []float32 // 0 or 1/(1-rate)
	y, dx []float32
	on    bool
}

func (l *dropout) build(in Shape, r *rand.Rand) (Shape, error) {
	if !(l.rate >= 0 && l.rate < 1) {
		return nil, fmt.Errorf("dropout rate %v is outside 0..1", l.rate)
	}
	l.r = rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
	return in, nil
}

func (l *dropout) forward(x []float32, _ int, training bool) []float32 {
	if l.on = training && l.rate > 0; !l.on {
		return x
	}
	l.keep, l.y = grow(l.keep, len(x)), grow(l.y, len(x))
	scale := float32(1 / (1 - l.rate))
	for i := range x {
		l.keep[i] = 0
		if l.r.Float64() >= l.rate {
			l.keep[i] = scale
		}
		l.y[i] = x[i] * l.keep[i]
	}
	return l.y
}

func (l *dropout) backward(dy []float32, _ int, _ bool) []float32 {
	if !l.on {
		return dy
	}
	l.dx = grow(l.dx, len(dy))
	for i := range dy {
		l.dx[i] = dy[i] * l.keep[i]
	}
	return l.dx
}

func (l *dropout) params() []*Param { return nil }
