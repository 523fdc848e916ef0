package train

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// checkGradients holds every gradient of a network, by parameters and by inputs,
// against numeric differences of the loss.
func checkGradients(t *testing.T, n *Network, loss string, b *batch, upTo int, exact bool) {
	t.Helper()
	params := n.Params()
	value := func() float64 {
		z := n.forward(b.x, b.n, upTo, true)
		return lossOf(loss, z, make([]float32, len(z)), b)
	}
	z := n.forward(b.x, b.n, upTo, true)
	dz := make([]float32, len(z))
	lossOf(loss, z, dz, b)
	dy := append([]float32(nil), dz...)
	for i := upTo - 1; i >= 0; i-- {
		dy = n.layers[i].backward(dy, b.n, true)
	}
	dx := append([]float32(nil), dy...)
	grads := map[string][]float32{"input": dx}
	arrays := map[string][]float32{"input": b.x}
	for _, p := range params {
		if !p.frozen {
			grads[p.Name], arrays[p.Name] = append([]float32(nil), p.G...), p.W
		}
	}
	// Training itself goes back no further than the first layer that learns.
	lossOf(loss, n.forward(b.x, b.n, upTo, true), dz, b)
	n.backward(dz, b.n, upTo)
	for _, p := range params {
		if !p.frozen && !slices.Equal(p.G, grads[p.Name]) {
			t.Errorf("%s: another gradient when going back no further than needed", p.Name)
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	steps := []float32{1e-2}
	if !exact { // the other maximum may lie within a step, but not within all
		steps = []float32{1e-2, 3e-3, 1e-3}
	}
	for name, w := range arrays {
		for range 30 {
			i := r.IntN(len(w))
			got, ok := float64(grads[name][i]), false
			var seen []float64
			for _, h := range steps {
				old := w[i]
				w[i] = old + h
				up := value()
				w[i] = old - h
				down := value()
				w[i] = old
				want := (up - down) / (2 * float64(h))
				seen = append(seen, want)
				ok = ok || math.Abs(want-got) < 2e-3+0.02*math.Abs(want)
			}
			if !ok {
				t.Errorf("%s[%d]: gradient %v, numeric %v", name, i, got, seen)
				return
			}
		}
	}
}

func TestGradients(t *testing.T) {
	for _, c := range []struct {
		name   string
		in     Shape
		layers []LayerSpec
		loss   string
		smooth bool // no kinks
	}{
		{"dense", Shape{7}, []LayerSpec{{Type: "dense", Units: 5}}, "mse", true},
		{"two dense", Shape{7}, []LayerSpec{{Type: "dense", Units: 5, Activation: "tanh"}, {Type: "dense", Units: 3}}, "mse", true},
		{"relu", Shape{7}, []LayerSpec{{Type: "dense", Units: 9, Activation: "relu"}, {Type: "dense", Units: 3}}, "mse", false},
		{"relu6", Shape{7}, []LayerSpec{{Type: "dense", Units: 9, Activation: "relu6"}, {Type: "dense", Units: 3}}, "mse", false},
		{"sigmoid", Shape{6}, []LayerSpec{{Type: "dense", Units: 4, Activation: "sigmoid"}}, "mse", true},
		{"tanh", Shape{6}, []LayerSpec{{Type: "dense", Units: 4, Activation: "tanh"}}, "mse", true},
		{"softmax", Shape{6}, []LayerSpec{{Type: "dense", Units: 4, Activation: "softmax"}}, "mse", true},
		{"conv2d same", Shape{5, 6, 3}, []LayerSpec{{Type: "conv2d", Filters: 4, Kernel: 3}, {Type: "flatten"}}, "mse", true},
		{"conv2d valid stride 2", Shape{7, 6, 2}, []LayerSpec{{Type: "conv2d", Filters: 3, Kernel: 3, Stride: 2, Padding: "valid"}, {Type: "flatten"}}, "mse", true},
		{"conv2d same stride 2", Shape{6, 5, 2}, []LayerSpec{{Type: "conv2d", Filters: 3, Kernel: 3, Stride: 2}, {Type: "flatten"}}, "mse", true},
		{"conv2d 1x1", Shape{3, 4, 5}, []LayerSpec{{Type: "conv2d", Filters: 3, Kernel: 1}, {Type: "flatten"}}, "mse", true},
		{"depthwise", Shape{5, 5, 3}, []LayerSpec{{Type: "depthwise", Kernel: 3}, {Type: "flatten"}}, "mse", true},
		{"depthwise stride 2", Shape{6, 5, 3}, []LayerSpec{{Type: "depthwise", Kernel: 3, Stride: 2}, {Type: "flatten"}}, "mse", true},
		{"max_pool", Shape{6, 6, 2}, []LayerSpec{{Type: "max_pool"}, {Type: "flatten"}}, "mse", false},
		{"max_pool same", Shape{5, 5, 2}, []LayerSpec{{Type: "max_pool", Kernel: 3, Stride: 2, Padding: "same"}, {Type: "flatten"}}, "mse", false},
		{"avg_pool", Shape{6, 6, 2}, []LayerSpec{{Type: "avg_pool"}, {Type: "flatten"}}, "mse", true},
		{"avg_pool same", Shape{5, 5, 2}, []LayerSpec{{Type: "avg_pool", Kernel: 3, Stride: 2, Padding: "same"}, {Type: "flatten"}}, "mse", true},
		{"global_pool", Shape{4, 3, 5}, []LayerSpec{{Type: "global_pool"}}, "mse", true},
		{"batch_norm", Shape{6}, []LayerSpec{{Type: "dense", Units: 5, BatchNorm: true}, {Type: "dense", Units: 3}}, "mse", true},
		{"batch_norm of channels", Shape{4, 4, 3}, []LayerSpec{{Type: "conv2d", Filters: 4, BatchNorm: true, Activation: "tanh"}, {Type: "global_pool"}}, "mse", true},
		{"cross_entropy", Shape{6}, []LayerSpec{{Type: "dense", Units: 4, Activation: "softmax"}}, "cross_entropy", true},
		{"soft_cross_entropy", Shape{6}, []LayerSpec{{Type: "dense", Units: 4, Activation: "softmax"}}, "soft_cross_entropy", true},
		{"binary_cross_entropy", Shape{6}, []LayerSpec{{Type: "dense", Units: 1, Activation: "sigmoid"}}, "binary_cross_entropy", true},
		{"binary_cross_entropy of several", Shape{6}, []LayerSpec{{Type: "dense", Units: 3, Activation: "sigmoid"}}, "binary_cross_entropy targets", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := New(Spec{c.layers}, c.in, 0, 3)
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(7, 8))
			for _, p := range n.Params() {
				for i := range p.W {
					p.W[i] += 0.1 * float32(r.NormFloat64())
				}
			}
			b := &batch{n: 6, x: random(r, 6*product(c.in))}
			for nearKink(n, b) {
				b.x = random(r, len(b.x))
			}
			width := product(n.Out)
			loss := c.loss
			switch {
			case c.loss == "cross_entropy":
				b.weights = []float32{1, 2, 0.5, 3}
				for range b.n {
					b.labels = append(b.labels, int32(r.IntN(width)))
				}
			case c.loss == "binary_cross_entropy":
				b.weights = []float32{1, 3}
				for range b.n {
					b.labels = append(b.labels, int32(r.IntN(2)))
				}
			default:
				if c.loss == "binary_cross_entropy targets" {
					loss = "binary_cross_entropy"
				}
				for range b.n * width {
					b.targets = append(b.targets, float32(r.Float64()))
				}
			}
			upTo := len(n.layers)
			if fromLogits(loss, n.Final()) {
				upTo--
			}
			checkGradients(t, n, loss, b, upTo, c.smooth)
		})
	}
}

// nearKink says whether a value stands where relu has no gradient.
func nearKink(n *Network, b *batch) bool {
	for i, l := range n.layers {
		if a, ok := l.(*activation); ok && (a.kind == "relu" || a.kind == "relu6") {
			for _, v := range n.forward(b.x, b.n, i, true) {
				if math.Abs(float64(v)) < 0.03 || math.Abs(float64(v)-6) < 0.03 {
					return true
				}
			}
		}
	}
	return false
}

// Losses at logits where a probability would be 0 or 1.
func TestLossesAreStable(t *testing.T) {
	for _, c := range []struct {
		loss string
		z    []float32
		b    batch
		want float64
	}{
		{"cross_entropy", []float32{1000, -1000, 0}, batch{n: 1, labels: []int32{1}}, 2000},
		{"cross_entropy", []float32{1000, -1000, 0}, batch{n: 1, labels: []int32{0}}, 0},
		{"binary_cross_entropy", []float32{-500}, batch{n: 1, labels: []int32{1}}, 500},
		{"binary_cross_entropy", []float32{500}, batch{n: 1, labels: []int32{1}}, 0},
		{"soft_cross_entropy", []float32{0, 0}, batch{n: 1, targets: []float32{0.5, 0.5}}, math.Ln2},
		{"mse", []float32{3, 5}, batch{n: 1, targets: []float32{1, 5}}, 2},
	} {
		dz := make([]float32, len(c.z))
		got := lossOf(c.loss, c.z, dz, &c.b)
		if math.Abs(got-c.want) > 1e-6*max(1, c.want) {
			t.Errorf("%s of %v: %v, want %v", c.loss, c.z, got, c.want)
		}
		for _, g := range dz {
			if g-g != 0 {
				t.Errorf("%s of %v: gradient %v", c.loss, c.z, dz)
			}
		}
	}
}

// An unweighted loss is that of equal weights, and a class of weight 0 does
// not count.
func TestClassWeights(t *testing.T) {
	z := []float32{1, 2, 0.5, -1, 3, 0}
	b := batch{n: 3, labels: []int32{0, 1, 0}}
	dz, dw := make([]float32, 6), make([]float32, 6)
	plain := lossOf("cross_entropy", z, dz, &b)
	b.weights = []float32{2, 2}
	if w := lossOf("cross_entropy", z, dw, &b); math.Abs(w-plain) > 1e-9 || fmt.Sprint(dz) != fmt.Sprint(dw) {
		t.Errorf("%v and %v", plain, w)
	}
	b.weights = []float32{1, 0}
	lossOf("cross_entropy", z, dw, &b)
	if dw[2] != 0 || dw[3] != 0 || dw[0] == 0 {
		t.Errorf("%v", dw)
	}
	d := &Dataset{Labels: []int32{0, 0, 0, 1}, Classes: []string{"a", "b"}}
	if w := d.ClassWeights(); math.Abs(float64(w[0])-2.0/3) > 1e-6 || w[1] != 2 {
		t.Errorf("%v", w)
	}
}
