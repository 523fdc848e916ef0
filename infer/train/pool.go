package train

import (
	"fmt"
	"math/rand/v2"
)

// pool takes the maximum or the average under a kernel, channel by channel.
// What lies outside the picture counts for neither.
type pool struct {
	grid
	max   bool
	from  []int32 // of the maximum: where it stood
	y, dx []float32
}

func (l *pool) build(in Shape, _ *rand.Rand) (Shape, error) {
	if err := l.fit(in, "pool"); err != nil {
		return nil, err
	}
	return Shape{l.oh, l.ow, l.c}, nil
}

func (l *pool) forward(x []float32, n int, _ bool) []float32 {
	l.y = grow(l.y, n*l.oh*l.ow*l.c)
	if cap(l.from) < len(l.y) {
		l.from = make([]int32, len(l.y))
	}
	l.from = l.from[:len(l.y)]
	l.each(n, func(out int, inputs []int) {
		for c := range l.c {
			best, sum := inputs[0]+c, float32(0)
			for _, at := range inputs {
				v := x[at+c]
				sum += v
				if v > x[best] {
					best = at + c
				}
			}
			if l.max {
				l.y[out+c], l.from[out+c] = x[best], int32(best)
			} else {
				l.y[out+c] = sum / float32(len(inputs))
			}
		}
	})
	return l.y
}

// each calls f for each output pixel with the input pixels under the kernel.
func (l *pool) each(n int, f func(out int, inputs []int)) {
	var inputs []int
	for s := range n {
		for oy := range l.oh {
			y0, ky0, ky1 := taps(oy, l.sh, l.top, l.kh, l.h)
			for ox := range l.ow {
				x0, kx0, kx1 := taps(ox, l.sw, l.left, l.kw, l.w)
				inputs = inputs[:0]
				for ky := ky0; ky < ky1; ky++ {
					for kx := kx0; kx < kx1; kx++ {
						inputs = append(inputs, ((s*l.h+y0+ky)*l.w+x0+kx)*l.c)
					}
				}
				f(((s*l.oh+oy)*l.ow+ox)*l.c, inputs)
			}
		}
	}
}

func (l *pool) backward(dy []float32, n int, further bool) []float32 {
	l.dx = grow(l.dx, n*l.h*l.w*l.c)
	clear(l.dx)
	if l.max {
		for i, at := range l.from {
			l.dx[at] += dy[i]
		}
		return l.dx
	}
	l.each(n, func(out int, inputs []int) {
		for c := range l.c {
			d := dy[out+c] / float32(len(inputs))
			for _, at := range inputs {
				l.dx[at+c] += d
			}
		}
	})
	return l.dx
}

func (l *pool) params() []*Param { return nil }

// globalPool is the average of each channel over the picture.
type globalPool struct {
	pixels, c int
	y, dx     []float32
}

func (l *globalPool) build(in Shape, _ *rand.Rand) (Shape, error) {
	if len(in) != 3 {
		return nil, fmt.Errorf("global_pool takes [height, width, channels], not %v", in)
	}
	l.pixels, l.c = in[0]*in[1], in[2]
	return Shape{l.c}, nil
}

func (l *globalPool) forward(x []float32, n int, _ bool) []float32 {
	l.y = grow(l.y, n*l.c)
	for s := range n {
		y := l.y[s*l.c : (s+1)*l.c]
		sumRows(y, x[s*l.pixels*l.c:], l.pixels)
		for c := range y {
			y[c] /= float32(l.pixels)
		}
	}
	return l.y
}

func (l *globalPool) backward(dy []float32, n int, further bool) []float32 {
	l.dx = grow(l.dx, n*l.pixels*l.c)
	for i := range l.dx {
		s, c := i/(l.pixels*l.c), i%l.c
		l.dx[i] = dy[s*l.c+c] / float32(l.pixels)
	}
	return l.dx
}

func (l *globalPool) params() []*Param { return nil }
