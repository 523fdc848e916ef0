package train

import "math/rand/v2"

// oneToOne is what layers without weights and with a shape of their own have in
// common: they are made with their shapes known.
type oneToOne struct{ out Shape }

func (l oneToOne) build(Shape, *rand.Rand) (Shape, error) { return l.out, nil }
func (oneToOne) params() []*Param                         { return nil }

// manyToOne are the passes that a join has no use for.
type manyToOne struct{ oneToOne }

func (manyToOne) forward(x []float32, _ int, _ bool) []float32   { return x }
func (manyToOne) backward(dy []float32, _ int, _ bool) []float32 { return dy }

// combine adds, subtracts or multiplies two values of one shape, number by
// number.
type combine struct {
	manyToOne
	kind string // add, sub, mul
	x    [2][]float32
	y    []float32
	dx   [2][]float32
}

func (l *combine) forwardAll(x [][]float32, _ int) []float32 {
	a, b := x[0], x[1]
	l.x = [2][]float32{a, b}
	l.y = grow(l.y, len(a))
	b = b[:len(a)]
	switch l.kind {
	case "add":
		for i, v := range a {
			l.y[i] = v + b[i]
		}
	case "sub":
		for i, v := range a {
			l.y[i] = v - b[i]
		}
	case "mul":
		for i, v := range a {
			l.y[i] = v * b[i]
		}
	}
	return l.y
}

func (l *combine) backwardAll(dy []float32, _ int) [][]float32 {
	if l.kind == "add" {
		return [][]float32{dy, dy}
	}
	l.dx[1] = grow(l.dx[1], len(dy))
	if l.kind == "sub" {
		for i, d := range dy {
			l.dx[1][i] = -d
		}
		return [][]float32{dy, l.dx[1]}
	}
	l.dx[0] = grow(l.dx[0], len(dy))
	for i, d := range dy {
		l.dx[0][i], l.dx[1][i] = d*l.x[1][i], d*l.x[0][i]
	}
	return l.dx[:]
}

// concat puts values one behind the other along a dimension: of each, a sample
// is rows of so many numbers as parts says.
type concat struct {
	manyToOne
	rows  int
	parts []int
	y     []float32
	dx    [][]float32
}

func (l *concat) forwardAll(x [][]float32, n int) []float32 {
	wide := 0
	for _, p := range l.parts {
		wide += p
	}
	l.y = grow(l.y, n*l.rows*wide)
	at := 0
	for k, p := range l.parts {
		for r := range n * l.rows {
			copy(l.y[r*wide+at:r*wide+at+p], x[k][r*p:])
		}
		at += p
	}
	return l.y
}

func (l *concat) backwardAll(dy []float32, n int) [][]float32 {
	wide := len(dy) / (n * l.rows)
	if l.dx == nil {
		l.dx = make([][]float32, len(l.parts))
	}
	at := 0
	for k, p := range l.parts {
		l.dx[k] = grow(l.dx[k], n*l.rows*p)
		for r := range n * l.rows {
			copy(l.dx[k][r*p:(r+1)*p], dy[r*wide+at:])
		}
		at += p
	}
	return l.dx
}

// arithmetic adds, subtracts, multiplies or divides by constants: those of a
// sample, or again and again those of its last dimensions.
type arithmetic struct {
	oneToOne
	kind  string // add, sub, from (the constant minus the value), mul, div
	with  []float32
	y, dx []float32
}

func (l *arithmetic) forward(x []float32, _ int, _ bool) []float32 {
	l.y = grow(l.y, len(x))
	for at := 0; at < len(x); at += len(l.with) {
		x, y := x[at:at+len(l.with)], l.y[at:at+len(l.with)]
		switch l.kind {
		case "add":
			for i, c := range l.with {
				y[i] = x[i] + c
			}
		case "sub":
			for i, c := range l.with {
				y[i] = x[i] - c
			}
		case "from":
			for i, c := range l.with {
				y[i] = c - x[i]
			}
		case "mul":
			for i, c := range l.with {
				y[i] = x[i] * c
			}
		case "div":
			for i, c := range l.with {
				y[i] = x[i] / c
			}
		}
	}
	return l.y
}

func (l *arithmetic) backward(dy []float32, _ int, _ bool) []float32 {
	if l.kind == "add" || l.kind == "sub" {
		return dy
	}
	l.dx = grow(l.dx, len(dy))
	for at := 0; at < len(dy); at += len(l.with) {
		for i, c := range l.with {
			switch d := dy[at+i]; l.kind {
			case "from":
				l.dx[at+i] = -d
			case "mul":
				l.dx[at+i] = d * c
			case "div":
				l.dx[at+i] = d / c
			}
		}
	}
	return l.dx
}

// padding puts zeros around a picture, in front of and behind its rows, columns
// and channels.
type padding struct {
	oneToOne
	in            [3]int
	before, after [3]int
	y, dx         []float32
}

// each calls f for each run of numbers that is in both: where it stands in the
// larger and in the smaller picture, and its length.
func (l *padding) each(n int, f func(large, small, run int)) {
	var size [3]int
	for d := range size {
		size[d] = l.before[d] + l.in[d] + l.after[d]
	}
	for s := range n {
		for y := range l.in[0] {
			for x := range l.in[1] {
				f((((s*size[0]+l.before[0]+y)*size[1])+l.before[1]+x)*size[2]+l.before[2], ((s*l.in[0]+y)*l.in[1]+x)*l.in[2], l.in[2])
			}
		}
	}
}

func (l *padding) forward(x []float32, n int, _ bool) []float32 {
	l.y = grow(l.y, n*product(l.out))
	clear(l.y)
	l.each(n, func(large, small, run int) { copy(l.y[large:large+run], x[small:]) })
	return l.y
}

func (l *padding) backward(dy []float32, n int, _ bool) []float32 {
	l.dx = grow(l.dx, n*product(l.in[:]))
	l.each(n, func(large, small, run int) { copy(l.dx[small:small+run], dy[large:]) })
	return l.dx
}
