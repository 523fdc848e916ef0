package train

// wiring makes layers a graph: what each takes, and the values and gradients
// between them. Layers stand in an order in which each comes after those whose
// outputs it takes; the last one answers.
type wiring struct {
	takes [][]int // of each layer: indexes of layers, -1 for the input
	uses  []int   // of each layer: how often others take its output
	deep  []bool  // of each layer: whether it, or one that it comes from, learns

	y   [][]float32 // outputs of the last forward pass, of each layer
	dy  [][]float32 // gradients by them
	sum [][]float32 // room for gradients of what several take
	in  [][]float32
}

// join is a layer that takes several values. forward and backward are those of
// a layer that takes one; they are not called.
type join interface {
	layer
	forwardAll(x [][]float32, n int) []float32
	// backwardAll gives the gradients by each of the values; they may share
	// memory with each other and with dy, so nobody writes to them.
	backwardAll(dy []float32, n int) [][]float32
}

// newWiring counts uses and finds what learns.
func newWiring(layers []layer, takes [][]int) *wiring {
	n := len(layers)
	w := &wiring{takes: takes, uses: make([]int, n), deep: make([]bool, n), y: make([][]float32, n), dy: make([][]float32, n), sum: make([][]float32, n)}
	for i, l := range layers {
		w.deep[i] = learns(l)
		for _, from := range takes[i] {
			if from >= 0 {
				w.uses[from]++
				w.deep[i] = w.deep[i] || w.deep[from]
			}
		}
	}
	return w
}

// forward runs the first layers of n samples each.
func (w *wiring) forward(layers []layer, x []float32, n int, training bool) []float32 {
	out := x
	for i, l := range layers {
		w.in = w.in[:0]
		for _, from := range w.takes[i] {
			if from < 0 {
				w.in = append(w.in, x)
			} else {
				w.in = append(w.in, w.y[from])
			}
		}
		if j, ok := l.(join); ok {
			out = j.forwardAll(w.in, n)
		} else {
			out = l.forward(w.in[0], n, training)
		}
		w.y[i] = out
	}
	return out
}

// backward takes the gradient by the last of these layers' output back to all
// that learn. A value that several layers take gets the sum of what they give.
func (w *wiring) backward(layers []layer, dy []float32, n int) {
	clear(w.dy)
	w.dy[len(layers)-1] = dy
	for i := len(layers) - 1; i >= 0; i-- {
		if w.dy[i] == nil || !w.deep[i] {
			continue
		}
		if j, ok := layers[i].(join); ok {
			for k, d := range j.backwardAll(w.dy[i], n) {
				w.add(w.takes[i][k], d)
			}
			continue
		}
		from := w.takes[i][0]
		further := from >= 0 && w.deep[from]
		if dx := layers[i].backward(w.dy[i], n, further); further {
			w.add(from, dx)
		}
	}
}

// add counts d to the gradient by the output of layer i.
func (w *wiring) add(i int, d []float32) {
	switch {
	case i < 0 || !w.deep[i]:
	case w.uses[i] == 1:
		w.dy[i] = d
	case w.dy[i] == nil:
		w.sum[i] = append(w.sum[i][:0], d...)
		w.dy[i] = w.sum[i]
	default:
		to := w.dy[i]
		for k, v := range d {
			to[k] += v
		}
	}
}
