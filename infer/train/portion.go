package train

// maxHeld is how many values the layers of a network made from a model hold at
// a time: of larger ones fewer samples go through at once.
const maxHeld = 1 << 24

// portion is how many of n samples go through a network at a time. Those of a
// row go all at once, as batch norms want them; in a graph there are none.
func (n *Network) portion(samples int) int {
	if n.origin == nil {
		return samples
	}
	return min(samples, max(1, maxHeld/max(n.origin.size, 1)))
}

// all is the batch that losses are the mean over.
func (b *batch) all() *batch {
	if b.of != nil {
		return b.of
	}
	return b
}

// part is some samples of a batch; its loss is what they give to that of all.
func (b *batch) part(from, to int) batch {
	cut := func(v []float32) []float32 {
		if v == nil {
			return nil
		}
		size := len(v) / b.n
		return v[from*size : to*size]
	}
	p := batch{n: to - from, of: b, x: cut(b.x), targets: cut(b.targets), soft: cut(b.soft), weights: b.weights}
	if b.labels != nil {
		p.labels = b.labels[from:to]
	}
	return p
}

// gradients go through the network in as many portions as it takes.
func (t *Trainer) gradients(b *batch) (loss float64, right int) {
	k := t.Net.portion(b.n)
	if k == b.n {
		return t.pass(b)
	}
	params := t.Net.Params()
	for i := len(t.sum); i < len(params); i++ {
		t.sum = append(t.sum, make([]float32, len(params[i].G)))
	}
	for from := 0; from < b.n; from += k {
		part := b.part(from, min(from+k, b.n))
		l, r := t.pass(&part)
		if loss, right = loss+l, right+r; loss-loss != 0 {
			return loss, right
		}
		for i, p := range params {
			if from == 0 {
				copy(t.sum[i], p.G)
				continue
			}
			for j, g := range p.G {
				t.sum[i][j] += g
			}
		}
	}
	for i, p := range params {
		copy(p.G, t.sum[i])
	}
	return loss, right
}

// pass goes through the network and back, and leaves gradients in its
// parameters.
func (t *Trainer) pass(b *batch) (loss float64, right int) {
	z := t.Net.forward(b.x, b.n, t.upTo, true)
	t.dz = grow(t.dz, len(z))
	loss = t.lossOf(z, t.dz, b)
	right = hits(z, b, t.yes)
	if t.pupil != nil {
		loss += t.pupil.hint(t.Net, b)
	}
	if loss-loss == 0 {
		t.Net.backward(t.dz, b.n, t.upTo)
	}
	return loss, right
}
