package train

import (
	"fmt"
	"math"
	"time"
)

// Dataset is labelled samples in memory. Pictures stay bytes until a batch of
// them is used; the network sees byte/127.5 - 1, as the gateway gives pictures
// to a float model, where Low and High do not say otherwise.
type Dataset struct {
	Name  string
	Shape Shape // of one input

	Pixels []byte    // pictures, one after the other, or
	Values []float32 // numbers
	// Low and High are what the bytes 0 and 255 of pictures are for the network;
	// both 0: -1 and 1.
	Low, High float64

	// Labels are class numbers, with Classes their names; or Targets are Width
	// values a sample.
	Labels  []int32
	Classes []string
	Targets []float32
	Width   int
	// Positive is the one of two classes that is looked for, in the area under
	// the ROC curve and in precision and recall; "" for the second.
	Positive string

	Features []string    // names of the inputs, where they have any
	Row      int         // of windows: values a row; 0 elsewhere
	Times    []time.Time // of the samples, where they have any
	Groups   []int32     // samples of one group stay on one side of a split; nil: each its own
	Spans    []Span      // of windows: the readings that each is made of; nil elsewhere
}

// Len is the number of samples.
func (d *Dataset) Len() int {
	size := max(product(d.Shape), 1)
	if d.Pixels != nil {
		return len(d.Pixels) / size
	}
	return len(d.Values) / size
}

// Check says whether its parts fit together.
func (d *Dataset) Check() error {
	n, size := d.Len(), product(d.Shape)
	switch {
	case size < 1:
		return fmt.Errorf("data %s: inputs of shape %v", d.Name, d.Shape)
	case n == 0:
		return fmt.Errorf("data %s: there is no sample", d.Name)
	case d.Pixels != nil && len(d.Pixels)%size != 0 || d.Pixels == nil && len(d.Values)%size != 0:
		return fmt.Errorf("data %s: not a whole number of samples of %v", d.Name, d.Shape)
	case (d.Low != 0 || d.High != 0) && !(d.Low < d.High):
		return fmt.Errorf("data %s: bytes from %v to %v are no range", d.Name, d.Low, d.High)
	case d.Labels != nil && len(d.Labels) != n:
		return fmt.Errorf("data %s: %d labels for %d samples", d.Name, len(d.Labels), n)
	case d.Labels == nil && d.Targets != nil && len(d.Targets) != n*d.Width:
		return fmt.Errorf("data %s: %d targets for %d samples of %d", d.Name, len(d.Targets), n, d.Width)
	case d.Times != nil && len(d.Times) != n || d.Groups != nil && len(d.Groups) != n || d.Spans != nil && len(d.Spans) != n:
		return fmt.Errorf("data %s: times, groups or spans do not fit %d samples", d.Name, n)
	}
	for i, l := range d.Labels {
		if l < 0 || int(l) >= len(d.Classes) {
			return fmt.Errorf("data %s: label %d of sample %d, there are %d classes", d.Name, l, i, len(d.Classes))
		}
	}
	for i, v := range d.Values {
		if v-v != 0 {
			return fmt.Errorf("data %s: sample %d holds a value that is no number", d.Name, i/size)
		}
	}
	for i, v := range d.Targets {
		if v-v != 0 {
			return fmt.Errorf("data %s: a target of sample %d is no number", d.Name, i/max(d.Width, 1))
		}
	}
	return nil
}

// Input writes sample i into x, which has room for one.
func (d *Dataset) Input(x []float32, i int) {
	size := len(x)
	if d.Pixels == nil {
		copy(x, d.Values[i*size:])
		return
	}
	table, own := &pixel, [256]float32{}
	if d.Low != 0 || d.High != 0 {
		table = &own
		for b := range table {
			table[b] = float32(d.Low + (d.High-d.Low)*float64(b)/255)
		}
	}
	for j, b := range d.Pixels[i*size : (i+1)*size] {
		x[j] = table[b]
	}
}

// limits are what black and white are for the network.
func (d *Dataset) limits() (low, high float32) {
	if d.Pixels == nil || d.Low == 0 && d.High == 0 {
		return -1, 1
	}
	return float32(d.Low), float32(d.High)
}

// pixel is what a network sees of a byte where nobody says otherwise.
var pixel = func() (t [256]float32) {
	for i := range t {
		t[i] = float32(i)/127.5 - 1
	}
	return t
}()

// load fills b with the samples at these indexes.
func (d *Dataset) load(b *batch, at []int) {
	size := product(d.Shape)
	b.n = len(at)
	b.x = grow(b.x, len(at)*size)
	for k, i := range at {
		d.Input(b.x[k*size:(k+1)*size], i)
	}
	b.labels, b.targets = b.labels[:0], b.targets[:0]
	for _, i := range at {
		if d.Labels != nil {
			b.labels = append(b.labels, d.Labels[i])
		} else {
			b.targets = append(b.targets, d.Targets[i*d.Width:(i+1)*d.Width]...)
		}
	}
	if d.Labels == nil {
		b.labels = nil
	}
}

// Subset gives the samples at these indexes, copied.
func (d *Dataset) Subset(at []int) *Dataset {
	size := product(d.Shape)
	out := *d
	out.Pixels, out.Values, out.Labels, out.Targets, out.Times, out.Groups, out.Spans = nil, nil, nil, nil, nil, nil, nil
	for _, i := range at {
		if d.Pixels != nil {
			out.Pixels = append(out.Pixels, d.Pixels[i*size:(i+1)*size]...)
		} else {
			out.Values = append(out.Values, d.Values[i*size:(i+1)*size]...)
		}
		if d.Labels != nil {
			out.Labels = append(out.Labels, d.Labels[i])
		}
		if d.Targets != nil {
			out.Targets = append(out.Targets, d.Targets[i*d.Width:(i+1)*d.Width]...)
		}
		if d.Times != nil {
			out.Times = append(out.Times, d.Times[i])
		}
		if d.Groups != nil {
			out.Groups = append(out.Groups, d.Groups[i])
		}
		if d.Spans != nil {
			out.Spans = append(out.Spans, d.Spans[i])
		}
	}
	return &out
}

// Append adds the samples of o, which is made as d is.
func (d *Dataset) Append(o *Dataset) {
	d.Pixels, d.Values = append(d.Pixels, o.Pixels...), append(d.Values, o.Values...)
	d.Labels, d.Targets = append(d.Labels, o.Labels...), append(d.Targets, o.Targets...)
	d.Times, d.Groups, d.Spans = append(d.Times, o.Times...), append(d.Groups, o.Groups...), append(d.Spans, o.Spans...)
}

// LearnNorm gives mean and standard deviation of each feature; a feature that
// never changes keeps its scale. It is nil for pictures.
func (d *Dataset) LearnNorm() *Norm {
	if d.Pixels != nil {
		return nil
	}
	w := product(d.Shape)
	if len(d.Shape) == 3 {
		w = d.Shape[2]
	}
	return learnNorm(d.Values, w)
}

// LearnOutNorm gives mean and standard deviation of each target; nil for
// classes.
func (d *Dataset) LearnOutNorm() *Norm {
	if d.Labels != nil || len(d.Targets) == 0 {
		return nil
	}
	return learnNorm(d.Targets, d.Width)
}

func learnNorm(values []float32, w int) *Norm {
	n := &Norm{Mean: make([]float32, w), Std: make([]float32, w)}
	mean, sq := make([]float64, w), make([]float64, w)
	rows := float64(len(values) / w)
	for i, v := range values {
		mean[i%w] += float64(v) / rows
	}
	for i, v := range values {
		x := float64(v) - mean[i%w]
		sq[i%w] += x * x / rows
	}
	for j := range mean {
		n.Mean[j], n.Std[j] = float32(mean[j]), float32(math.Sqrt(sq[j]))
		if n.Std[j] < 1e-6*max(1e-12, float32(math.Abs(mean[j]))) || n.Std[j] == 0 {
			n.Std[j] = 1
		}
	}
	return n
}

// ClassWeights are such that all classes count alike, whatever their number
// of samples: N / (classes * n_c), as scikit-learn's "balanced".
func (d *Dataset) ClassWeights() []float32 {
	counts := make([]int, len(d.Classes))
	for _, l := range d.Labels {
		counts[l]++
	}
	w := make([]float32, len(counts))
	for c, n := range counts {
		if n > 0 {
			w[c] = float32(len(d.Labels)) / float32(len(counts)*n)
		}
	}
	return w
}
