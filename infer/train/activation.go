package train

import (
	"math"
	"math/rand/v2"
)

// activation is an elementwise function, or softmax over the last dimension.
type activation struct {
	kind  string // relu, relu6, sigmoid, tanh, softmax
	width int    // of the last dimension
	y, dx []float32
}

func (l *activation) build(in Shape, _ *rand.Rand) (Shape, error) {
	l.width = in[len(in)-1]
	return in, nil
}

func (l *activation) forward(x []float32, _ int, _ bool) []float32 {
	l.y = grow(l.y, len(x))
	switch l.kind {
	case "relu":
		for i, v := range x {
			l.y[i] = max(v, 0)
		}
	case "relu6":
		for i, v := range x {
			l.y[i] = min(max(v, 0), 6)
		}
	case "sigmoid":
		for i, v := range x {
			l.y[i] = float32(sigmoid(float64(v)))
		}
	case "tanh":
		for i, v := range x {
			l.y[i] = float32(math.Tanh(float64(v)))
		}
	case "softmax":
		for at := 0; at < len(x); at += l.width {
			softmax(l.y[at:at+l.width], x[at:at+l.width])
		}
	}
	return l.y
}

func (l *activation) backward(dy []float32, _ int, _ bool) []float32 {
	l.dx = grow(l.dx, len(dy))
	switch l.kind {
	case "relu":
		y, dx := l.y[:len(dy)], l.dx[:len(dy)]
		for i, d := range dy {
			dx[i] = math.Float32frombits(math.Float32bits(d) & above0(y[i]))
		}
	case "relu6":
		y, dx := l.y[:len(dy)], l.dx[:len(dy)]
		for i, d := range dy {
			dx[i] = math.Float32frombits(math.Float32bits(d) & above0(y[i]) & below6(y[i]))
		}
	case "sigmoid":
		for i, d := range dy {
			l.dx[i] = d * l.y[i] * (1 - l.y[i])
		}
	case "tanh":
		for i, d := range dy {
			l.dx[i] = d * (1 - l.y[i]*l.y[i])
		}
	case "softmax":
		for at := 0; at < len(dy); at += l.width {
			y, d := l.y[at:at+l.width], dy[at:at+l.width]
			dot := float32(0)
			for i := range y {
				dot += y[i] * d[i]
			}
			for i := range y {
				l.dx[at+i] = y[i] * (d[i] - dot)
			}
		}
	}
	return l.dx
}

// above0 and below6 are all ones where a value that is not negative is above 0,
// or below 6, and 0 elsewhere. Which it is no processor can guess, and a wrong
// guess takes it as long as twenty of these.
func above0(v float32) uint32 { return ^uint32(int32(math.Float32bits(v)-1) >> 31) }
func below6(v float32) uint32 {
	return uint32(int32(math.Float32bits(v)-math.Float32bits(6)) >> 31)
}

func (l *activation) params() []*Param { return nil }

func sigmoid(v float64) float64 {
	if v < 0 {
		e := math.Exp(v)
		return e / (1 + e)
	}
	return 1 / (1 + math.Exp(-v))
}

// softmax is exp(x - max) over its sum.
func softmax(y, x []float32) {
	top := x[0]
	for _, v := range x {
		top = max(top, v)
	}
	sum := 0.0
	for i, v := range x {
		e := math.Exp(float64(v - top))
		y[i] = float32(e)
		sum += e
	}
	for i := range y {
		y[i] = float32(float64(y[i]) / sum)
	}
}
