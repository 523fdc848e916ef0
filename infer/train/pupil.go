package train

import (
	"errors"
	"fmt"
	"math/rand/v2"
)

// pupil is what a trainer keeps of its teacher.
type pupil struct {
	*Teacher
	width int      // of an answer
	maps  []*dense // of the hints
	at    []int    // the network's layers that they tap
	sizes []int    // of one sample of the teacher's tensor
	kept  *heard   // to the training data, as far as they are known; nil: never kept
	val   *heard   // to the validation data, without inner tensors
}

// heard is what a teacher answered to the samples of a data set, in its order.
type heard struct {
	known []bool
	list  [][]float32 // the outputs, then the tensors of hints
	sizes []int       // of one sample of each
}

func newHeard(n int, sizes ...int) *heard {
	a := &heard{known: make([]bool, n), sizes: sizes}
	for _, size := range sizes {
		a.list = append(a.list, make([]float32, n*size))
	}
	return a
}

// recall fills in what is known of the samples at these places, and says
// whether all of it is.
func (a *heard) recall(b *batch, at []int) bool {
	for _, i := range at {
		if !a.known[i] {
			return false
		}
	}
	for k, now := range b.room(len(at), a.sizes) {
		for j, i := range at {
			copy(now[j*a.sizes[k]:], a.list[k][i*a.sizes[k]:(i+1)*a.sizes[k]])
		}
	}
	return true
}

// keep learns what b says of the samples at these places.
func (a *heard) keep(b *batch, at []int) {
	for k, now := range append([][]float32{b.soft}, b.inner...) {
		for j, i := range at {
			copy(a.list[k][i*a.sizes[k]:(i+1)*a.sizes[k]], now[j*a.sizes[k]:])
			a.known[i] = true
		}
	}
}

// room makes room for the answers to n samples: the first are b.soft, the
// others b.inner.
func (b *batch) room(n int, sizes []int) [][]float32 {
	for len(b.answers) < len(sizes) {
		b.answers = append(b.answers, nil)
	}
	for k, size := range sizes {
		b.answers[k] = grow(b.answers[k], n*size)
	}
	b.soft, b.inner = b.answers[0], b.answers[1:len(sizes)]
	return b.answers[:len(sizes)]
}

// maxKept is the most values of a teacher that are kept; beyond it is asked
// again in each epoch.
const maxKept = 1 << 26

// maxMap is the most weights of the linear map of a hint.
const maxMap = 1 << 22

// newPupil builds the maps and taps the network's layers.
func newPupil(t *Teacher, n *Network, upTo int, seed uint64) (*pupil, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	p := &pupil{Teacher: t, width: product(n.Out)}
	n.taps = map[int]*tap{}
	for i, h := range t.Hints {
		at, shape, err := n.layerOf(h.Layer, upTo)
		if err != nil {
			return nil, fmt.Errorf("hint %d: %w", i+1, err)
		}
		m, err := newMap(shape, h.Shape)
		if err != nil {
			return nil, fmt.Errorf("hint %d: %w", i+1, err)
		}
		if _, err := m.build(Shape{m.in}, rand.New(rand.NewPCG(seed, uint64(i)^0x68696e74))); err != nil {
			return nil, fmt.Errorf("hint %d: %w", i+1, err)
		}
		for _, w := range m.params() {
			w.Name = fmt.Sprintf("hint_%d/%s", i, w.Name)
		}
		p.maps, p.at, p.sizes = append(p.maps, m), append(p.at, at), append(p.sizes, product(h.Shape))
		n.taps[at] = &tap{}
	}
	return p, nil
}

// newMap is the linear map from a layer's outputs to the teacher's tensor.
func newMap(from, to Shape) (*dense, error) {
	if product(to) < 1 {
		return nil, fmt.Errorf("the teacher's tensor has the shape %v", []int(to))
	}
	a, b := product(from), product(to)
	if len(from) == 3 && len(to) == 3 && from[0] == to[0] && from[1] == to[1] {
		a, b = from[2], to[2]
	}
	if a > maxMap/b {
		return nil, fmt.Errorf("a map from %v to %v has more than %d weights; pictures of the same height and width are mapped pixel by pixel", []int(from), []int(to), maxMap)
	}
	return &dense{units: b, in: a}, nil
}

// layerOf gives the last of the layers that line i of the Spec stands for, and
// the shape of its outputs.
func (n *Network) layerOf(i, upTo int) (at int, shape Shape, err error) {
	if i < 0 || i >= len(n.Spec.Layers) {
		return 0, nil, fmt.Errorf("layer %d is none of the network's %d", i, len(n.Spec.Layers))
	}
	if len(n.shapes) != len(n.layers) {
		return 0, nil, errors.New("the network does not know its layers' shapes: it was not made of a Spec")
	}
	at = -1
	for k, name := range n.names {
		if name == fmt.Sprintf("%d_%s", i, n.Spec.Layers[i].Type) && k < upTo {
			at = k
		}
	}
	if at < 0 {
		return 0, nil, fmt.Errorf("layer %d is the answer itself, or nothing", i)
	}
	for k := 0; k <= at; k++ {
		if learns(n.layers[k]) {
			return at, n.shapes[at], nil
		}
	}
	return 0, nil, fmt.Errorf("layer %d has nothing before it that learns", i)
}

// params are those of the linear maps.
func (p *pupil) params() (list []*Param) {
	if p == nil {
		return nil
	}
	for _, m := range p.maps {
		list = append(list, m.params()...)
	}
	return list
}

// meet makes room for the answers to the training data, and has those to the
// validation data given, which is never augmented.
func (p *pupil) meet(d, val *Dataset) error {
	values := p.width
	for _, size := range p.sizes {
		values += size
	}
	if d.Len() <= maxKept/values {
		p.kept = newHeard(d.Len(), append([]int{p.width}, p.sizes...)...)
	}
	if val == nil {
		return nil
	}
	p.val = newHeard(val.Len(), p.width)
	var b batch
	for from := 0; from < val.Len(); {
		var at []int
		for ; from < val.Len() && len(at) < 256; from++ {
			at = append(at, from)
		}
		val.load(&b, at)
		b.room(b.n, p.val.sizes)
		if err := p.answer(&b); err != nil {
			return err
		}
		p.val.keep(&b, at)
	}
	return nil
}

// ask fills in what the teacher says of a batch of the training data: of the
// samples at these places, as they are or changed.
func (p *pupil) ask(b *batch, at []int, changed bool) error {
	keep := p.kept != nil && !changed
	if keep && p.kept.recall(b, at) {
		return nil
	}
	b.room(b.n, append([]int{p.width}, p.sizes...))
	if err := p.answer(b); err != nil {
		return err
	}
	if keep {
		p.kept.keep(b, at)
	}
	return nil
}

// answer asks, and takes numbers alone for an answer.
func (p *pupil) answer(b *batch) error {
	if err := p.Answer(b.x, b.n, b.soft, b.inner); err != nil {
		return fmt.Errorf("teacher: %w", err)
	}
	for _, list := range append([][]float32{b.soft}, b.inner...) {
		for _, v := range list {
			if v-v != 0 {
				return fmt.Errorf("teacher: it answers %v", v)
			}
		}
	}
	return nil
}

// hint gives the loss of the tapped layers, leaves the gradients by their
// outputs in the taps and those of the maps in their parameters.
func (p *pupil) hint(n *Network, b *batch) (total float64) {
	for i, m := range p.maps {
		tap := n.taps[p.at[i]]
		rows := len(tap.y) / m.in
		y := m.forward(tap.y, rows, true)
		want := b.inner[i]
		dy := grow(tap.want, len(y))
		tap.want = dy
		for j, v := range y {
			d := float64(v) - float64(want[j])
			total += p.Beta / float64(len(y)) * d * d
			dy[j] = float32(2 * p.Beta / float64(len(y)) * d)
		}
		d := m.backward(dy, rows, true)
		if tap.dy = grow(tap.dy, len(d)); tap.used {
			for j, v := range d {
				tap.dy[j] += v
			}
			continue
		}
		copy(tap.dy, d)
		tap.used = true
	}
	return total
}

// tap is a layer whose outputs a loss of its own looks at.
type tap struct {
	y    []float32 // of the last forward pass
	dy   []float32 // gradient of that loss by y, added on the way back
	want []float32
	used bool // dy is that of this step
}
