package train

import (
	"errors"
)

// Kept says whether it stays as it was read, whatever is trained: no weight that
// others would have to be told of.
func (p *Param) Kept() bool { return p.kept }

// KeepBody has a network that From made keep all but its last layer with weights
// as they are: a trainer moves the head alone.
func (n *Network) KeepBody() error {
	if n.origin == nil {
		return errors.New("the network was made of layers that know nothing yet: only one made from a model can keep its body")
	}
	last := -1
	for i, l := range n.layers {
		if learns(l) {
			last = i
		}
	}
	if last < 0 {
		return errors.New("the model has no layer that learns")
	}
	for i, l := range n.layers {
		if i == last {
			continue
		}
		for _, p := range l.params() {
			p.frozen, p.kept = true, true
		}
	}
	return nil
}
