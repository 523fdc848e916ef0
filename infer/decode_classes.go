package infer

import "fmt"

// defaultTop is how many classes a result names without a configured number.
const defaultTop = 5

// classes reads the first output as one score for each class, as it stands:
// probabilities stay probabilities and logits logits.
type classes struct {
	labels    []string // one for each class
	top       int
	threshold *float64 // classes below it are left out
	warning   string   // of labels that name a part of them
}

func newClasses(cfg ModelConfig, outs []TensorInfo, labels []string) (*classes, error) {
	n := elements(outs[0].Shape)
	if n == 0 {
		return nil, fmt.Errorf("output %q has the open shape %v; classes need a fixed one", outs[0].Name, outs[0].Shape)
	}
	if !isVector(outs[0].Shape) {
		return nil, fmt.Errorf("classes need an output with one number a class, output %q is %v; auto or raw takes it", outs[0].Name, outs[0].Shape)
	}
	if len(labels) > n {
		err := fmt.Errorf("%d labels, and output %q has %d classes", len(labels), outs[0].Name, n)
		switch {
		case len(cfg.Classes) > 0:
			return nil, &keyError{"label_list", err}
		case cfg.Labels != "":
			return nil, &keyError{"labels", fmt.Errorf("%s: %w", cfg.Labels, err)}
		}
		return nil, err
	}
	top := cfg.Top
	if top <= 0 {
		top = defaultTop
	}
	return &classes{labels: labelTexts(labels, n), top: min(top, n), threshold: cfg.Threshold, warning: unnamed(cfg, labels, n)}, nil
}

// isVector says whether all dimensions but one are 1.
func isVector(shape []int) bool {
	long := 0
	for _, d := range shape {
		if d != 1 {
			long++
		}
	}
	return long <= 1
}

// warningOf is what somebody should know of a decoder that works, "" mostly.
func warningOf(d decoder) string {
	if c, ok := d.(*classes); ok {
		return c.warning
	}
	return ""
}

// decode keeps the best classes in order while it reads the scores once; equal
// scores keep the order of their indexes.
func (c *classes) decode(_, out []Tensor, r *Result) error {
	scores := &out[0]
	if err := sized(scores, 0, len(c.labels)); err != nil {
		return err
	}
	best := r.Top[:0]
	var buf [block]float64
	for i := range c.labels {
		if i%block == 0 {
			read(scores, i, buf[:min(block, len(c.labels)-i)])
		}
		s := buf[i%block]
		if !finite(s) {
			return errNotFinite(0, i, s)
		}
		if len(best) == c.top && s <= best[len(best)-1].Score || c.threshold != nil && s < *c.threshold {
			continue
		}
		if len(best) < c.top {
			best = append(best, Class{})
		}
		at := len(best) - 1
		for at > 0 && best[at-1].Score < s {
			best[at] = best[at-1]
			at--
		}
		best[at] = Class{Label: c.labels[i], Index: i, Score: s}
	}
	r.Top = best
	if len(best) > 0 {
		r.Label, r.Score = best[0].Label, best[0].Score
	}
	return nil
}
