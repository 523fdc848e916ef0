package train

import (
	"errors"
	"math"
	"math/rand/v2"
)

// Quantization-aware training: while it trains, the network computes with
// weights and values as int8 would hold them, and gradients pass through the
// rounding as if it were not there (arXiv:1712.05877).

// fakeQuant holds a network's rounding.
type fakeQuant struct {
	params []quantized
}

// quantized is a parameter that is rounded: each channel by a scale of its
// own, or all by one.
type quantized struct {
	p        *Param
	channels int  // 1: one scale
	last     bool // channels are the last dimension, else the first
}

// observer is a layer that keeps the range of what passes, and rounds it.
type observer struct {
	r     *Param // low and high; trained by no gradient
	pass  []bool // values inside the range: gradients pass
	y, dx []float32
}

func newObserver() *observer {
	o := &observer{r: newParam("observer/range", []int{2}, false)}
	o.r.frozen = true
	return o
}

func (l *observer) seen() bool { return l.r.W[1] > l.r.W[0] }

func (l *observer) build(in Shape, _ *rand.Rand) (Shape, error) { return in, nil }

// rangeMomentum is how slowly ranges follow the batches.
const rangeMomentum = 0.99

func (l *observer) forward(x []float32, _ int, training bool) []float32 {
	if training {
		low, high := float32(0), float32(0)
		for _, v := range x {
			low, high = min(low, v), max(high, v)
		}
		if w := l.r.W; !l.seen() {
			w[0], w[1] = low, high
		} else {
			w[0] = rangeMomentum*w[0] + (1-rangeMomentum)*low
			w[1] = rangeMomentum*w[1] + (1-rangeMomentum)*high
		}
	}
	if !l.seen() {
		l.pass = nil
		return x
	}
	scale, zero := rangeToScale(l.r.W[0], l.r.W[1])
	l.y = grow(l.y, len(x))
	if cap(l.pass) < len(x) {
		l.pass = make([]bool, len(x))
	}
	l.pass = l.pass[:len(x)]
	for i, v := range x {
		q := math.RoundToEven(float64(v/scale)) + float64(zero)
		l.pass[i] = q >= -128 && q <= 127
		l.y[i] = scale * float32(min(max(q, -128), 127)-float64(zero))
	}
	return l.y
}

func (l *observer) backward(dy []float32, _ int, _ bool) []float32 {
	if l.pass == nil {
		return dy
	}
	l.dx = grow(l.dx, len(dy))
	for i, d := range dy {
		l.dx[i] = 0
		if l.pass[i] {
			l.dx[i] = d
		}
	}
	return l.dx
}

func (l *observer) params() []*Param { return []*Param{l.r} }

// rangeToScale gives scale and zero point of int8 for a range that holds 0:
// 255 steps, and 0 is one of them.
func rangeToScale(low, high float32) (scale float32, zero int) {
	low, high = min(low, 0), max(high, 0)
	scale = (high - low) / 255
	if scale == 0 {
		return 1, 0
	}
	return scale, int(min(max(math.RoundToEven(float64(-128-low/scale)), -128), 127))
}

// Range is what a value was seen to reach.
type Range struct{ Low, High float32 }

// weights rounds all parameters as the quantizer will.
func (f *fakeQuant) weights() {
	for _, q := range f.params {
		p := q.p
		if p.fake == nil {
			p.fake = make([]float32, len(p.W))
		}
		per := len(p.W) / q.channels
		for c := range q.channels {
			index := func(k int) int {
				if q.last {
					return k*q.channels + c
				}
				return c*per + k
			}
			top := float32(0)
			for k := range per {
				top = max(top, float32(math.Abs(float64(p.W[index(k)]))))
			}
			scale := top / 127
			for k := range per {
				i := index(k)
				p.fake[i] = p.W[i]
				if scale > 0 {
					p.fake[i] = scale * float32(math.RoundToEven(float64(p.W[i]/scale)))
				}
			}
		}
	}
}

// Aware gives a network like n for quantization-aware training: batch norms
// folded into the layers before them, and everything that int8 would round
// rounded. Its weights are n's; a trainer takes it from there, best with a
// tenth of the rate. Zeros that n keeps it keeps, and weights that n shares it
// shares, but where a folded batch norm has made them others.
// A network made from a model cannot be that: what is given for it is refused
// by a trainer.
func (n *Network) Aware() *Network {
	if n.origin != nil {
		c := *n
		c.cannot = errors.New("quantization-aware training is for networks made of layers, not for one made from a model; quantize the model after training")
		return &c
	}
	out := &Network{Spec: n.Spec, In: n.In, Out: n.Out, Norm: n.Norm, OutNorm: n.OutNorm, fake: &fakeQuant{}}
	add := func(name string, l layer) {
		out.layers, out.names = append(out.layers, l), append(out.names, name)
	}
	observe := func() {
		o := newObserver()
		add("observer", o)
	}
	observe()
	for i := 0; i < len(n.layers); i++ {
		l, name := n.layers[i], n.names[i]
		switch l := l.(type) {
		case *dense:
			c := *l
			c.y, c.dx, c.w, c.b = nil, nil, l.w.copy(), l.b.copy()
			i = out.foldNorm(n, i, c.w, c.b, false)
			out.fake.params = append(out.fake.params, quantized{p: c.w, channels: 1})
			add(name, &c)
		case *conv2d:
			c := *l
			c.y, c.dx, c.dp, c.patches, c.wt, c.b = nil, nil, nil, nil, l.wt.copy(), l.b.copy()
			i = out.foldNorm(n, i, c.wt, c.b, false)
			out.fake.params = append(out.fake.params, quantized{p: c.wt, channels: c.filters})
			add(name, &c)
		case *depthwise:
			c := *l
			c.y, c.dx, c.wt, c.b = nil, nil, l.wt.copy(), l.b.copy()
			i = out.foldNorm(n, i, c.wt, c.b, true)
			out.fake.params = append(out.fake.params, quantized{p: c.wt, channels: c.c, last: true})
			add(name, &c)
		default:
			add(name, l.(interface{ twin() layer }).twin())
			if a, ok := l.(*activation); ok && (a.kind == "relu" || a.kind == "relu6") {
				observe()
			}
			continue
		}
		if _, fused := n.fused(i + 1); !fused {
			observe()
		}
	}
	return out
}

// foldNorm folds the batch norm behind layer i, where there is one, and gives
// the index of what was consumed.
func (n *Network) foldNorm(from *Network, i int, w, b *Param, depthwise bool) int {
	if i+1 < len(from.layers) {
		if bn, ok := from.layers[i+1].(*batchNorm); ok {
			w.setHolds(w.hold.zero, nil)
			b.Free()
			fold(w.W, b.W, bn, depthwise)
			return i + 1
		}
	}
	return i
}

func (p *Param) copy() *Param {
	c := newParam(p.Name, p.Shape, p.Decay)
	copy(c.W, p.W)
	c.setHolds(p.hold.zero, p.hold.group)
	return c
}

func (l *pool) twin() layer       { return &pool{grid: l.grid, max: l.max} }
func (l *globalPool) twin() layer { return &globalPool{pixels: l.pixels, c: l.c} }
func (l flatten) twin() layer     { return l }
func (l *dropout) twin() layer    { return &dropout{rate: l.rate, r: l.r} }
func (l *activation) twin() layer { return &activation{kind: l.kind, width: l.width} }

func (l *batchNorm) twin() layer {
	c := &batchNorm{c: l.c, gamma: l.gamma.copy(), beta: l.beta.copy(), mean: l.mean.copy(), vari: l.vari.copy(), scale: make([]float64, l.c)}
	c.mean.frozen, c.vari.frozen = true, true
	return c
}
