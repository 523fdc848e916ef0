package train

import (
	"fmt"
	"math/rand/v2"
)

// grid is how a kernel moves over a picture: the output's size and the padding
// at the top and at the left, as TensorFlow computes them. SAME pads more at
// the bottom and right where it is uneven.
type grid struct {
	kh, kw    int // the kernel's height and width
	sh, sw    int // its steps down and across
	same      bool
	h, w, c   int // input
	oh, ow    int // output
	top, left int
}

// square is a kernel as high as wide, with the same step both ways.
func square(kernel, stride int, same bool) grid {
	return grid{kh: kernel, kw: kernel, sh: stride, sw: stride, same: same}
}

func (g *grid) fit(in Shape, what string) error {
	if len(in) != 3 {
		return fmt.Errorf("%s takes [height, width, channels], not %v", what, in)
	}
	g.h, g.w, g.c = in[0], in[1], in[2]
	if min(g.kh, g.kw, g.sh, g.sw) < 1 {
		return fmt.Errorf("%s: kernel %d x %d and stride %d x %d must be at least 1", what, g.kh, g.kw, g.sh, g.sw)
	}
	along := func(n, kernel, stride int) (out, before int) {
		if g.same {
			out = (n + stride - 1) / stride
			return out, max((out-1)*stride+kernel-n, 0) / 2
		}
		return (n - kernel + stride) / stride, 0
	}
	g.oh, g.top = along(g.h, g.kh, g.sh)
	g.ow, g.left = along(g.w, g.kw, g.sw)
	if g.oh < 1 || g.ow < 1 {
		return fmt.Errorf("%s: a kernel of %d x %d does not fit into %v", what, g.kh, g.kw, in)
	}
	return nil
}

// taps gives the kernel rows or columns [from, to) that lie inside a picture
// of size n, and where in it the first of all would be.
func taps(out, stride, before, kernel, n int) (first, from, to int) {
	first = out*stride - before
	return first, max(0, -first), min(kernel, n-first)
}

// conv2d is a convolution with weights [out, height, width, in] and a bias.
// It multiplies matrices of patches, so many samples at a time that these stay
// in the cache.
type conv2d struct {
	grid
	filters int
	wt, b   *Param
	x       []float32
	patches []float32
	y, dx   []float32
	dp      []float32
}

func (l *conv2d) build(in Shape, r *rand.Rand) (Shape, error) {
	if err := l.fit(in, "conv2d"); err != nil {
		return nil, err
	}
	area := l.kh * l.kw
	if l.filters > maxWeights/(area*l.c) {
		return nil, fmt.Errorf("%d x %d x %d weights are more than %d", l.filters, area, l.c, maxWeights)
	}
	l.wt = newParam("weights", []int{l.filters, l.kh, l.kw, l.c}, true)
	l.b = newParam("bias", []int{l.filters}, false)
	glorot(l.wt.W, area*l.c, area*l.filters, r)
	return Shape{l.oh, l.ow, l.filters}, nil
}

// patchFloats is how many numbers of patches are made at a time.
const patchFloats = 1 << 18

// each calls f for groups of samples: from, their number.
func (l *conv2d) each(n int, f func(from, n int)) {
	one := l.oh * l.ow * l.kh * l.kw * l.c
	step := max(1, patchFloats/one)
	for from := 0; from < n; from += step {
		f(from, min(step, n-from))
	}
}

// pointwise says whether a patch is a pixel: the picture is its own matrix.
func (l *conv2d) pointwise() bool { return l.kh*l.kw*l.sh*l.sw == 1 }

// gather copies the patches of n samples, one row an output pixel.
func (l *conv2d) gather(x []float32, n int) []float32 {
	if l.pointwise() {
		return x[:n*l.h*l.w*l.c]
	}
	row := l.kh * l.kw * l.c
	l.patches = grow(l.patches, n*l.oh*l.ow*row)
	at := 0
	for s := range n {
		img := x[s*l.h*l.w*l.c:]
		for oy := range l.oh {
			y0, ky0, ky1 := taps(oy, l.sh, l.top, l.kh, l.h)
			for ox := range l.ow {
				x0, kx0, kx1 := taps(ox, l.sw, l.left, l.kw, l.w)
				p := l.patches[at : at+row]
				at += row
				if ky0 > 0 || kx0 > 0 || ky1 < l.kh || kx1 < l.kw {
					clear(p)
				}
				for ky := ky0; ky < ky1; ky++ {
					from := ((y0+ky)*l.w + x0 + kx0) * l.c
					copy(p[(ky*l.kw+kx0)*l.c:(ky*l.kw+kx1)*l.c], img[from:])
				}
			}
		}
	}
	return l.patches
}

// scatter adds the gradients of patches to those of the pixels they are of.
func (l *conv2d) scatter(dx, dp []float32, n int) {
	row := l.kh * l.kw * l.c
	at := 0
	for s := range n {
		img := dx[s*l.h*l.w*l.c:]
		for oy := range l.oh {
			y0, ky0, ky1 := taps(oy, l.sh, l.top, l.kh, l.h)
			for ox := range l.ow {
				x0, kx0, kx1 := taps(ox, l.sw, l.left, l.kw, l.w)
				p := dp[at : at+row]
				at += row
				for ky := ky0; ky < ky1; ky++ {
					from := ((y0+ky)*l.w + x0 + kx0) * l.c
					src := p[(ky*l.kw+kx0)*l.c : (ky*l.kw+kx1)*l.c]
					dst := img[from : from+len(src)]
					for i, v := range src {
						dst[i] += v
					}
				}
			}
		}
	}
}

func (l *conv2d) forward(x []float32, n int, _ bool) []float32 {
	l.x = x
	pixels, row := l.oh*l.ow, l.kh*l.kw*l.c
	l.y = grow(l.y, n*pixels*l.filters)
	for i := 0; i < len(l.y); i += l.filters {
		copy(l.y[i:i+l.filters], l.b.W)
	}
	w := l.wt.use()
	l.each(n, func(from, n int) {
		p := l.gather(x[from*l.h*l.w*l.c:], n)
		mulNT(l.y[from*pixels*l.filters:], p, w, n*pixels, l.filters, row, true)
	})
	return l.y
}

func (l *conv2d) backward(dy []float32, n int, further bool) []float32 {
	pixels, row, size := l.oh*l.ow, l.kh*l.kw*l.c, l.h*l.w*l.c
	sumRows(l.b.G, dy, n*pixels)
	clear(l.wt.G)
	if further {
		l.dx = grow(l.dx, n*size)
		clear(l.dx)
	}
	w := l.wt.use()
	l.each(n, func(from, n int) {
		d := dy[from*pixels*l.filters : (from+n)*pixels*l.filters]
		p := l.gather(l.x[from*size:], n)
		mulTN(l.wt.G, d, p, l.filters, row, n*pixels, true)
		if !further {
			return
		}
		if l.pointwise() {
			mulNN(l.dx[from*size:], d, w, n*pixels, row, l.filters, false)
			return
		}
		l.dp = grow(l.dp, n*pixels*row)
		mulNN(l.dp, d, w, n*pixels, row, l.filters, false)
		l.scatter(l.dx[from*size:], l.dp, n)
	})
	if !further {
		return nil
	}
	return l.dx
}

func (l *conv2d) params() []*Param { return []*Param{l.wt, l.b} }

// depthwise is a convolution of each channel by itself, with weights
// [1, height, width, channels] and a bias. In models of others a channel may
// have several kernels, each with a channel of its own in the output.
type depthwise struct {
	grid
	many  int // kernels a channel; 0: one
	wt, b *Param
	x     []float32
	y, dx []float32
}

func (l *depthwise) build(in Shape, r *rand.Rand) (Shape, error) {
	if err := l.fit(in, "depthwise"); err != nil {
		return nil, err
	}
	l.wt = newParam("weights", []int{1, l.kh, l.kw, l.c}, true)
	l.b = newParam("bias", []int{l.c}, false)
	area := l.kh * l.kw
	glorot(l.wt.W, area, area, r)
	return Shape{l.oh, l.ow, l.c}, nil
}

func (l *depthwise) filters() int { return l.c * max(l.many, 1) }

// each calls f for each output pixel and tap that lies inside: where the pixel
// stands in the output, the tap in the input and in the weights.
func (l *depthwise) each(n int, f func(out, in, w int)) {
	filters := l.filters()
	for s := range n {
		for oy := range l.oh {
			y0, ky0, ky1 := taps(oy, l.sh, l.top, l.kh, l.h)
			for ox := range l.ow {
				x0, kx0, kx1 := taps(ox, l.sw, l.left, l.kw, l.w)
				out := ((s*l.oh+oy)*l.ow + ox) * filters
				for ky := ky0; ky < ky1; ky++ {
					for kx := kx0; kx < kx1; kx++ {
						f(out, ((s*l.h+y0+ky)*l.w+x0+kx)*l.c, (ky*l.kw+kx)*filters)
					}
				}
			}
		}
	}
}

func (l *depthwise) forward(x []float32, n int, _ bool) []float32 {
	l.x = x
	filters := l.filters()
	l.y = grow(l.y, n*l.oh*l.ow*filters)
	for i := 0; i < len(l.y); i += filters {
		copy(l.y[i:i+filters], l.b.W)
	}
	weights := l.wt.use()
	if l.many > 1 {
		l.each(n, func(out, in, w int) {
			for i := range filters {
				l.y[out+i] += x[in+i/l.many] * weights[w+i]
			}
		})
		return l.y
	}
	l.each(n, func(out, in, w int) { fma(l.y[out:out+l.c], x[in:in+l.c], weights[w:w+l.c]) })
	return l.y
}

func (l *depthwise) backward(dy []float32, n int, further bool) []float32 {
	sumRows(l.b.G, dy, n*l.oh*l.ow)
	clear(l.wt.G)
	l.dx = grow(l.dx, n*l.h*l.w*l.c)
	clear(l.dx)
	weights := l.wt.use()
	if l.many > 1 {
		l.each(n, func(out, in, w int) {
			for i := range l.filters() {
				c, d := in+i/l.many, dy[out+i]
				l.wt.G[w+i] += l.x[c] * d
				l.dx[c] += weights[w+i] * d
			}
		})
		return l.dx
	}
	l.each(n, func(out, in, w int) {
		d := dy[out : out+l.c]
		fma(l.wt.G[w:w+l.c], l.x[in:in+l.c], d)
		fma(l.dx[in:in+l.c], weights[w:w+l.c], d)
	})
	return l.dx
}

func (l *depthwise) params() []*Param { return []*Param{l.wt, l.b} }
