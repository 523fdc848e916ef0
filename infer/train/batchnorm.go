package train

import (
	"math"
	"math/rand/v2"
)

// batchNorm normalises each channel by the batch's mean and variance while
// training, and by their running averages afterwards (arXiv:1502.03167). At
// export it is folded into the layer before it.
type batchNorm struct {
	c           int
	gamma, beta *Param
	mean, vari  *Param // running; trained by no gradient
	xhat        []float32
	scale       []float64 // 1/sqrt(variance + epsilon) of the batch
	y, dx       []float32
	training    bool
	settling    int // batches that the averages are the mean of, while they are settled; 0: running
}

const (
	normEpsilon  = 1e-3
	normMomentum = 0.95 // of the running averages
)

func (l *batchNorm) build(in Shape, _ *rand.Rand) (Shape, error) {
	l.c = in[len(in)-1]
	l.gamma, l.beta = newParam("gamma", []int{l.c}, false), newParam("beta", []int{l.c}, false)
	l.mean, l.vari = newParam("mean", []int{l.c}, false), newParam("variance", []int{l.c}, false)
	l.mean.frozen, l.vari.frozen = true, true
	for i := range l.c {
		l.gamma.W[i], l.vari.W[i] = 1, 1
	}
	l.scale = make([]float64, l.c)
	return in, nil
}

func (l *batchNorm) forward(x []float32, _ int, training bool) []float32 {
	l.training = training
	l.y = grow(l.y, len(x))
	if !training {
		for c := range l.c {
			a := float64(l.gamma.W[c]) / math.Sqrt(float64(l.vari.W[c])+normEpsilon)
			b := float64(l.beta.W[c]) - a*float64(l.mean.W[c])
			for i := c; i < len(x); i += l.c {
				l.y[i] = float32(a*float64(x[i]) + b)
			}
		}
		return l.y
	}
	mean, sq := make([]float64, l.c), make([]float64, l.c)
	rows := len(x) / l.c
	for i := 0; i < len(x); i += l.c {
		for c, v := range x[i : i+l.c] {
			mean[c] += float64(v)
		}
	}
	for c := range mean {
		mean[c] /= float64(rows)
	}
	for i := 0; i < len(x); i += l.c {
		for c, v := range x[i : i+l.c] {
			d := float64(v) - mean[c]
			sq[c] += d * d
		}
	}
	keep := normMomentum
	if l.settling > 0 {
		keep = float64(l.settling-1) / float64(l.settling)
		l.settling++
	}
	for c := range sq {
		v := sq[c] / float64(rows)
		l.scale[c] = 1 / math.Sqrt(v+normEpsilon)
		if l.settling > 0 { // of all that was seen, between the batches too
			d := mean[c] - float64(l.mean.W[c])
			v += keep * d * d
		}
		l.mean.W[c] = float32(keep*float64(l.mean.W[c]) + (1-keep)*mean[c])
		l.vari.W[c] = float32(keep*float64(l.vari.W[c]) + (1-keep)*v)
	}
	l.xhat = grow(l.xhat, len(x))
	for i := 0; i < len(x); i += l.c {
		for c, v := range x[i : i+l.c] {
			h := float32((float64(v) - mean[c]) * l.scale[c])
			l.xhat[i+c] = h
			l.y[i+c] = l.gamma.W[c]*h + l.beta.W[c]
		}
	}
	return l.y
}

// backward is the gradient through the batch's own mean and variance:
// dx = gamma/(N sigma) (N dy - sum dy - xhat sum(dy xhat)).
func (l *batchNorm) backward(dy []float32, _ int, _ bool) []float32 {
	l.dx = grow(l.dx, len(dy))
	if !l.training {
		for i, d := range dy {
			c := i % l.c
			l.dx[i] = d * l.gamma.W[c] / float32(math.Sqrt(float64(l.vari.W[c])+normEpsilon))
		}
		return l.dx
	}
	sum, dot := make([]float64, l.c), make([]float64, l.c)
	for i := 0; i < len(dy); i += l.c {
		for c, d := range dy[i : i+l.c] {
			sum[c] += float64(d)
			dot[c] += float64(d) * float64(l.xhat[i+c])
		}
	}
	n := float64(len(dy) / l.c)
	for c := range sum {
		l.beta.G[c], l.gamma.G[c] = float32(sum[c]), float32(dot[c])
	}
	for i := 0; i < len(dy); i += l.c {
		for c, d := range dy[i : i+l.c] {
			g := float64(d) - sum[c]/n - float64(l.xhat[i+c])*dot[c]/n
			l.dx[i+c] = float32(float64(l.gamma.W[c]) * l.scale[c] * g)
		}
	}
	return l.dx
}

func (l *batchNorm) params() []*Param { return []*Param{l.gamma, l.beta, l.mean, l.vari} }
