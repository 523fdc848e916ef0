package train

import (
	"errors"
	"fmt"
	"math"
)

// Teacher is another model that a network learns from, beside the labels or in
// their place (Hinton, Vinyals and Dean, arXiv:1503.02531). It is asked what it
// makes of each input as the network sees it, augmented where it is; where
// nothing is augmented its answers are kept from the first epoch on.
//
// Classes are learned by the loss
//
//	Alpha T² CE(softmax(teacher / T), softmax(z / T)) + (1 - Alpha) CE(labels)
//
// with T the Temperature and z the logits (for sigmoids likewise), values by the
// squared error from the teacher's, mixed in the same way. With Hints the mean
// squared errors of Beta each are added. Losses of validation leave them out.
type Teacher struct {
	Name string // what a checkpoint knows it by
	// Answer writes what the teacher says of n inputs, one after the other in x,
	// into out: for each as many values as the network has outputs. They are
	// logits, before softmax or sigmoid, where the loss is a cross-entropy, and
	// values in the targets' units where it is mse. Where inner is not
	// empty it writes the tensors of Hints there, in their order.
	Answer      func(x []float32, n int, out []float32, inner [][]float32) error
	Temperature float64
	Alpha       float64 // the teacher's share; 1: labels and targets need not be there
	Hints       []Hint
	Beta        float64
}

// Hint makes a layer learn what a tensor inside the teacher holds, through a
// linear map that is learned with it and not exported (FitNets, arXiv:1412.6550;
// TinyBERT, arXiv:1909.10351). Pictures of the same height and width are mapped
// pixel by pixel, all else as a whole.
type Hint struct {
	Layer int   // of the network's Spec, with its batch norm and activation
	Shape Shape // of the teacher's tensor, one sample
}

// Validate says what is wrong.
func (c *Teacher) Validate() error {
	switch {
	case c.Answer == nil:
		return errors.New("teacher: it does not answer")
	case !(c.Temperature > 0 && c.Temperature <= 1000):
		return fmt.Errorf("temperature: %v is outside 0..1000", c.Temperature)
	case !(c.Alpha >= 0 && c.Alpha <= 1):
		return fmt.Errorf("alpha: %v is outside 0..1", c.Alpha)
	case !(c.Beta >= 0 && c.Beta < math.Inf(1)):
		return fmt.Errorf("beta: %v is no weight from 0 on", c.Beta)
	case len(c.Hints) > 0 && c.Beta == 0:
		return errors.New("beta: hints of weight 0 teach nothing")
	case c.Alpha == 0 && len(c.Hints) == 0:
		return errors.New("alpha: a teacher of weight 0 teaches nothing")
	}
	return nil
}

// Outside is the teacher without its hints, for a network whose layers are
// other ones, as those of quantization-aware training; nil where nothing is
// left of it.
func (c *Teacher) Outside() *Teacher {
	if c == nil || c.Alpha == 0 {
		return nil
	}
	out := *c
	out.Hints, out.Beta = nil, 0
	return &out
}

// loss adds the teacher's part to the gradient dz of outputs z, and gives its
// loss, times its share.
func (p *pupil) loss(kind string, z, dz []float32, b *batch) (total float64) {
	width := len(z) / b.n
	t, share := p.Temperature, p.Alpha/float64(b.all().n)
	// Gradients of soft targets are 1/T² as large; T² keeps the mixture.
	pt, qt, zt, vt := make([]float32, width), make([]float32, width), make([]float32, width), make([]float32, width)
	for i := range b.n {
		row, grad, soft := z[i*width:(i+1)*width], dz[i*width:(i+1)*width], b.soft[i*width:(i+1)*width]
		switch kind {
		case "cross_entropy", "soft_cross_entropy":
			for j := range row {
				zt[j], vt[j] = float32(float64(row[j])/t), float32(float64(soft[j])/t)
			}
			softmax(pt, vt)
			softmax(qt, zt)
			lse := logSumExp(zt)
			for j := range row {
				total += share * t * t * float64(pt[j]) * (lse - float64(zt[j]))
				grad[j] += float32(share * t * (float64(qt[j]) - float64(pt[j])))
			}
		case "binary_cross_entropy":
			for j := range row {
				x, y := float64(row[j])/t, sigmoid(float64(soft[j])/t)
				total += share / float64(width) * t * t * (max(x, 0) - x*y + math.Log1p(math.Exp(-math.Abs(x))))
				grad[j] += float32(share / float64(width) * t * (sigmoid(x) - y))
			}
		default:
			for j := range row {
				d := float64(row[j]) - float64(soft[j])
				total += share / float64(width) * d * d
				grad[j] += float32(2 * share / float64(width) * d)
			}
		}
	}
	return total
}

// lossOf is the loss of a batch with the teacher's part.
func (t *Trainer) lossOf(z, dz []float32, b *batch) float64 {
	p := t.pupil
	if p == nil {
		return lossOf(t.loss, z, dz, b)
	}
	total := 0.0
	if clear(dz); p.Alpha < 1 {
		total = (1 - p.Alpha) * lossOf(t.loss, z, dz, b)
		for i := range dz {
			dz[i] *= float32(1 - p.Alpha)
		}
	}
	return total + p.loss(t.loss, z, dz, b)
}
