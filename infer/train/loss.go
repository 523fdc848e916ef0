package train

import (
	"fmt"
	"math"
	"slices"
)

// A loss compares outputs with what they should be. Those of classes are
// computed from logits, the values before softmax or sigmoid, which stays
// right where a probability would round to 0.
//
//	cross_entropy         softmax, targets are class numbers
//	binary_cross_entropy  sigmoid, targets are 0 or 1
//	soft_cross_entropy    softmax, targets are probabilities
//	mse                   mean squared error of the outputs themselves

// lossFor chooses by the network's last activation and the data, where the
// configuration says auto.
func lossFor(name string, n *Network, d *Dataset) (string, error) {
	final := n.Final()
	if name == "" || name == "auto" {
		switch {
		case d.Labels != nil && (final == "softmax" || final == "none" && product(n.Out) == max(len(d.Classes), 2)):
			name = "cross_entropy" // without a softmax the network learns logits
		case final == "softmax":
			name = "soft_cross_entropy"
		case final == "sigmoid" && product(n.Out) == 1:
			name = "binary_cross_entropy"
		default:
			name = "mse"
		}
	}
	width := product(n.Out)
	classes := len(d.Classes)
	if known := []string{"cross_entropy", "binary_cross_entropy", "soft_cross_entropy", "mse"}; d.Labels == nil && d.Targets == nil && slices.Contains(known, name) {
		return name, nil // a teacher says all there is to learn
	}
	switch name {
	case "cross_entropy":
		if final != "softmax" && final != "none" || d.Labels == nil {
			return "", fmt.Errorf("loss cross_entropy takes class labels and a last layer with softmax, not %s", final)
		}
		if classes > width {
			return "", fmt.Errorf("the data has %d classes, the network answers with %d values", classes, width)
		}
	case "binary_cross_entropy":
		if final != "sigmoid" && final != "none" {
			return "", fmt.Errorf("loss binary_cross_entropy takes a last layer with sigmoid, not %s", final)
		}
		if d.Labels != nil && (classes > 2 || width != 1) {
			return "", fmt.Errorf("loss binary_cross_entropy takes two classes and one output; there are %d and %d", classes, width)
		}
	case "soft_cross_entropy", "mse":
		if d.Labels != nil && name != "mse" {
			return "", fmt.Errorf("loss %s takes target values, the data has class labels", name)
		}
		if d.Labels != nil && classes > max(width, 2) {
			return "", fmt.Errorf("the data has %d classes, the network answers with %d values", classes, width)
		}
	default:
		return "", fmt.Errorf("there is no loss %q; there are auto, cross_entropy, binary_cross_entropy, soft_cross_entropy, mse", name)
	}
	if d.Labels == nil && d.Width != width {
		return "", fmt.Errorf("the data has %d targets a sample, the network answers with %d values", d.Width, width)
	}
	return name, nil
}

// fromLogits says whether a loss takes the place of the last activation.
func fromLogits(loss, final string) bool { return loss != "mse" && final != "none" }

// batch is some samples.
type batch struct {
	n       int
	x       []float32
	labels  []int32     // class numbers, or
	targets []float32   // width values a sample
	weights []float32   // one a class; nil: all count alike
	soft    []float32   // what a teacher answers, width values a sample
	inner   [][]float32 // of a teacher's tensors, one for each hint
	answers [][]float32 // what both lie in
	of      *batch      // the batch that this is a part of; nil: it is a whole one
}

// target is what output j of sample i should be.
func (b *batch) target(i, j, width int) float64 {
	if b.labels == nil {
		return float64(b.targets[i*width+j])
	}
	if width == 1 {
		return float64(b.labels[i])
	}
	if int(b.labels[i]) == j {
		return 1
	}
	return 0
}

func (b *batch) weight(i int) float64 {
	if b.weights == nil || b.labels == nil {
		return 1
	}
	return float64(b.weights[b.labels[i]])
}

// loss gives the mean over the samples, or the share of a part in it, and writes its gradient by z into dz.
func lossOf(name string, z, dz []float32, b *batch) float64 {
	width := len(z) / b.n
	total, weights := 0.0, 0.0
	for i := range b.all().n {
		weights += b.all().weight(i)
	}
	if weights == 0 {
		clear(dz)
		return 0
	}
	for i := range b.n {
		w := b.weight(i) / weights
		row, grad := z[i*width:(i+1)*width], dz[i*width:(i+1)*width]
		switch name {
		case "cross_entropy", "soft_cross_entropy":
			// -sum t log softmax(z) = sum t (log sum exp z - z)
			softmax(grad, row)
			lse, sum := logSumExp(row), 0.0
			for j := range row {
				t := b.target(i, j, width)
				sum += t
				total += w * t * (lse - float64(row[j]))
			}
			for j := range grad {
				grad[j] = float32(w * (sum*float64(grad[j]) - b.target(i, j, width)))
			}
		case "binary_cross_entropy":
			// max(z, 0) - z t + log(1 + exp(-|z|))
			for j, v := range row {
				t, x := b.target(i, j, width), float64(v)
				total += w / float64(width) * (max(x, 0) - x*t + math.Log1p(math.Exp(-math.Abs(x))))
				grad[j] = float32(w / float64(width) * (sigmoid(x) - t))
			}
		case "mse":
			for j, v := range row {
				d := float64(v) - b.target(i, j, width)
				total += w / float64(width) * d * d
				grad[j] = float32(2 * w / float64(width) * d)
			}
		}
	}
	return total
}

func logSumExp(z []float32) float64 {
	top := float64(z[0])
	for _, v := range z {
		top = max(top, float64(v))
	}
	sum := 0.0
	for _, v := range z {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}
