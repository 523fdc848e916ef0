package train

// What a round of federated learning needs of a network that trains for one
// participant after the other.

// Forget drops what optimizers remember of earlier steps: the next Trainer of
// the network begins as with a new one of the same weights.
func (n *Network) Forget() {
	for _, p := range n.Params() {
		clear(p.m)
		clear(p.v)
	}
}

// Evaluate gives mean loss and accuracy on labelled data; accuracy is NaN
// without classes. The loss is the one that a Trainer chooses by itself.
func (n *Network) Evaluate(d *Dataset) (loss, accuracy float64, err error) {
	t := Trainer{Net: n, Config: DefaultConfig(), Train: d}
	if err := t.begin(); err != nil {
		return 0, 0, err
	}
	loss, accuracy = t.evaluate(d)
	return loss, accuracy, nil
}

// keepStart keeps the weights that a pull goes back to.
func (t *Trainer) keepStart() {
	if t.Pull == 0 {
		return
	}
	for _, p := range t.Net.Params() {
		t.start = append(t.start, append([]float32(nil), p.W...))
	}
}

// pull adds the gradient of half the pull times the squared distance to the
// weights at the start.
func (t *Trainer) pull() {
	mu := float32(t.Pull)
	for k, p := range t.Net.Params() {
		if p.frozen {
			continue
		}
		for i, w := range t.start[k] {
			p.G[i] += mu * (p.W[i] - w)
		}
	}
}
