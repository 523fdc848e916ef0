package infer

import (
	"fmt"
	"slices"

	"edgegateway/infer/model"
)

const (
	postProcessOp    = "TFLite_Detection_PostProcess"
	defaultThreshold = 0.5
	// maxObjects bounds the objects of a result, and maxClassID the classes
	// whose texts are made beforehand.
	maxObjects, maxClassID = 100, 1000
)

// detection reads the four outputs of TFLite_Detection_PostProcess: boxes as
// y0, x0, y1, x1 in fractions of the input, classes, scores, and how many of
// them count. The operator has sorted them and dropped the overlapping ones.
type detection struct {
	boxes, classes, scores, count int // which output is which
	labels                        []string
	threshold                     float64
}

// postProcess is the detection operator of the model, nil where it has none.
func postProcess(m *model.Model) *model.Op {
	if m == nil {
		return nil
	}
	for i := range m.Main().Ops {
		if op := &m.Main().Ops[i]; op.Custom && op.Code == postProcessOp && len(op.Outputs) == 4 {
			return op
		}
	}
	return nil
}

func newDetection(cfg ModelConfig, outs []TensorInfo, labels []string, m *model.Model) (*detection, error) {
	if len(outs) != 4 {
		return nil, fmt.Errorf("a detection needs 4 outputs (boxes, classes, scores, count), the model has %d", len(outs))
	}
	d := &detection{0, 1, 2, 3, labelTexts(labels, maxClassID), defaultThreshold}
	if cfg.Threshold != nil {
		d.threshold = *cfg.Threshold
	}
	// The graph may give them out in another order than the operator's.
	if op := postProcess(m); op != nil {
		for k, role := range []*int{&d.boxes, &d.classes, &d.scores, &d.count} {
			if *role = slices.Index(m.Main().Outputs, op.Outputs[k]); *role < 0 {
				return nil, fmt.Errorf("output %d of %s is no output of the model", k, postProcessOp)
			}
		}
	}
	return d, nil
}

func (d *detection) decode(_, out []Tensor, r *Result) error {
	if len(out) != 4 {
		return fmt.Errorf("there are %d outputs, 4 are expected", len(out))
	}
	boxes, classes, scores := &out[d.boxes], &out[d.classes], &out[d.scores]
	if err := sized(&out[d.count], d.count, 1); err != nil {
		return err
	}
	count := out[d.count].Float(0)
	if !finite(count) {
		return errNotFinite(d.count, 0, count)
	}
	n := min(int(min(max(count, 0), maxObjects)), scores.Len(), classes.Len(), boxes.Len()/4)
	r.Objects = r.Objects[:0]
	for i := range n {
		score, class := scores.Float(i), classes.Float(i)
		if !finite(score) {
			return errNotFinite(d.scores, i, score)
		}
		if !finite(class) || class < 0 {
			return errNotFinite(d.classes, i, class)
		}
		if score < d.threshold {
			continue
		}
		var b [4]float64
		for k, from := range [4]int{1, 0, 3, 2} {
			v := boxes.Float(4*i + from)
			if !finite(v) {
				return errNotFinite(d.boxes, 4*i+from, v)
			}
			b[k] = min(max(v, 0), 1)
		}
		if b[2] <= b[0] || b[3] <= b[1] {
			continue // outside the picture
		}
		o := nextObject(r)
		o.Label, o.Score, o.Box = d.label(class), score, b
	}
	bestObject(r)
	return nil
}

func (d *detection) label(class float64) string {
	if class < float64(len(d.labels)) {
		return d.labels[int(class)]
	}
	return fmt.Sprint(int(min(class, 1<<31)))
}

// nextObject appends an object to r and returns it, with the memory of the
// points that an earlier result left there.
func nextObject(r *Result) *Object {
	n := len(r.Objects)
	if n < cap(r.Objects) {
		r.Objects = r.Objects[:n+1]
	} else {
		r.Objects = append(r.Objects, Object{})
	}
	o := &r.Objects[n]
	*o = Object{Points: o.Points[:0]}
	return o
}

// bestObject gives r the label and score of its best object.
func bestObject(r *Result) {
	for i := range r.Objects {
		if o := &r.Objects[i]; i == 0 || o.Score > r.Score {
			r.Label, r.Score = o.Label, o.Score
		}
	}
}
