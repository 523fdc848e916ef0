package infer

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"edgegateway/infer/model"
)

// The bounds within which two delegates agree: kernels round differently.
const (
	floatAgrees = 1e-3 // of the output's range
	stepsAgree  = 6
)

// judge says whether two delegates agree on the outputs of one model.
type judge struct {
	seen  []span    // of each output
	steps []float64 // of each output: what one step of the numbers behind it is worth, 0 for floats
	odds  []float64 // of each output that is probabilities: one step of the numbers that they were made of, else 0
	boxes *detection
}

// span is the range of an output over the answers seen so far: of a single
// number one answer shows none.
type span struct{ low, high float64 }

// newJudge reads in the model's file what its outputs are.
func newJudge(m *model.Model) *judge {
	j := &judge{}
	g := m.Main()
	for _, o := range g.Outputs {
		j.steps = append(j.steps, floatStep(g, o))
		j.odds = append(j.odds, oddsStep(g, o))
	}
	if postProcess(m) != nil {
		none := math.Inf(-1)
		// An error is a graph whose outputs are not the operator's.
		j.boxes, _ = newDetection(ModelConfig{Threshold: &none}, make([]TensorInfo, len(g.Outputs)), nil, m)
	}
	return j
}

// floatStep is the step of the quantized tensor that a float output was made
// of, 0 where there is none.
func floatStep(g *model.Subgraph, output int) float64 {
	for i := range g.Ops {
		op := &g.Ops[i]
		if op.Code == "DEQUANTIZE" && slices.Contains(op.Outputs, output) && len(op.Inputs) > 0 && op.Inputs[0] >= 0 {
			if q := g.Tensors[op.Inputs[0]].Quant; len(q.Scale) == 1 {
				return float64(q.Scale[0])
			}
		}
	}
	return 0
}

// oddsStep is the step of the quantized numbers that a SOFTMAX or a LOGISTIC
// made an output of, 0 where there are none.
func oddsStep(g *model.Subgraph, output int) float64 {
	for at := output; ; {
		p := g.Producer(at)
		if p < 0 || len(g.Ops[p].Inputs) == 0 || g.Ops[p].Inputs[0] < 0 {
			return 0
		}
		op := &g.Ops[p]
		at = op.Inputs[0]
		switch op.Code {
		case "DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE":
			continue
		case "SOFTMAX", "LOGISTIC":
			beta := 1.0
			if o, ok := op.Builtin.(*model.SoftmaxOptions); ok {
				beta = float64(o.Beta)
			}
			if q := g.Tensors[at].Quant; g.Tensors[at].Type != model.Float32 && len(q.Scale) == 1 {
				return beta * float64(q.Scale[0])
			}
			return beta * floatStep(g, at)
		}
		return 0
	}
}

// oddsAgree is how far a probability may be from p when the number that it was
// made of is off by so much: kernels give probabilities in steps of 1/256
// however coarse that number is, and the middle of the curve makes a dozen such
// steps of one of it.
func oddsAgree(p, off float64) (below, above float64) {
	if !(p > 0 && p < 1) {
		return 0, 0
	}
	odds := p / (1 - p)
	by := math.Exp(off)
	return p - odds/by/(1+odds/by), odds*by/(1+odds*by) - p
}

// see takes outputs into the spans.
func (j *judge) see(outs []Tensor) {
	for len(j.seen) < len(outs) {
		j.seen = append(j.seen, span{math.Inf(1), math.Inf(-1)})
	}
	for k := range outs {
		s := &j.seen[k]
		for i := range outs[k].Len() {
			if v := outs[k].Float(i); finite(v) {
				s.low, s.high = min(s.low, v), max(s.high, v)
			}
		}
	}
}

// disagree says how the second outputs differ from the first, "" where they
// agree: floats within a thousandth of the range, quantized ones and what was
// made of them within six steps, probabilities within what six steps of the
// quantized number before them make, and of a list the same best element,
// unless the first ones say that two are equally good. Of a detection the objects
// count. The first ones were seen before.
func (j *judge) disagree(ref, got []Tensor) string {
	if len(ref) != len(got) {
		return fmt.Sprintf("%d outputs, not %d", len(got), len(ref))
	}
	for k := range ref {
		a, b := &ref[k], &got[k]
		if a.Type != b.Type || a.Len() != b.Len() {
			return fmt.Sprintf("output %d is %v of %d, not %v of %d", k, b.Type, b.Len(), a.Type, a.Len())
		}
	}
	if j.boxes != nil {
		return j.boxes.disagree(ref, got)
	}
	for k := range ref {
		a, b := &ref[k], &got[k]
		tie := float64(max(a.Scale, 0))
		if a.Type == Float32 && k < len(j.steps) {
			tie = j.steps[k]
		}
		tolerance := stepsAgree * tie
		if a.Type == Float32 && tie == 0 {
			low, high := j.seen[k].low, j.seen[k].high
			tolerance = floatAgrees * max(high-low, 1e-6, 1e-3*max(math.Abs(high), math.Abs(low)))
			tie = tolerance
		}
		bestA, bestB := 0, 0
		for i := range a.Len() {
			x, y := a.Float(i), b.Float(i)
			below, above := tolerance, tolerance
			if k < len(j.odds) && j.odds[k] > 0 {
				l, h := oddsAgree(x, stepsAgree*j.odds[k])
				below, above = max(below, l), max(above, h)
			}
			if !(y-x <= above*1.0001 && x-y <= below*1.0001) && (finite(x) || finite(y)) {
				return fmt.Sprintf("element %d of output %d is %v, not %v", i, k, y, x)
			}
			if x > a.Float(bestA) {
				bestA = i
			}
			if y > b.Float(bestB) {
				bestB = i
			}
		}
		if isList(a.Shape) && a.Len() > 0 && a.Float(bestA)-a.Float(bestB) > tie*1.0001 {
			return fmt.Sprintf("the best of output %d is element %d, not %d", k, bestB, bestA)
		}
	}
	return ""
}

// isList says whether a shape has one dimension that counts, as scores have;
// of a table no element is the best.
func isList(shape []int) bool {
	n := 0
	for _, d := range shape {
		if d != 1 {
			n++
		}
	}
	return n <= 1
}

// What two delegates may say differently of the same picture: the numbers
// behind a detection are quantized, and objects that are hardly seen come and
// go, or change places.
const (
	scoreAgrees, boxAgrees = 0.1, 0.1
	surely                 = 0.6 // the score of an object that both must find
)

// disagree says how the second objects differ from the first, "" where they
// agree: the scores in order, and each object that one of them is sure of.
func (d *detection) disagree(ref, got []Tensor) string {
	var a, b Result
	if d.decode(nil, ref, &a) != nil {
		return "" // nothing to hold it against
	}
	if err := d.decode(nil, got, &b); err != nil {
		return err.Error()
	}
	best := func(x, y Object) int { return cmp.Compare(y.Score, x.Score) }
	slices.SortFunc(a.Objects, best)
	slices.SortFunc(b.Objects, best)
	score := func(r *Result, i int) float64 {
		if i < len(r.Objects) {
			return r.Objects[i].Score
		}
		return 0
	}
	for i := range max(len(a.Objects), len(b.Objects)) {
		if x, y := score(&a, i), score(&b, i); math.Abs(x-y) > scoreAgrees {
			return fmt.Sprintf("the score of object %d is %.2f, not %.2f", i, y, x)
		}
	}
	if o := missing(a.Objects, b.Objects); o != nil {
		return fmt.Sprintf("there is no %s of %.2f at %.2f", o.Label, o.Score, o.Box)
	}
	if o := missing(b.Objects, a.Objects); o != nil {
		return fmt.Sprintf("a %s of %.2f at %.2f is nothing", o.Label, o.Score, o.Box)
	}
	return ""
}

// missing is an object that is sure and has no like among the others.
func missing(objects, others []Object) *Object {
	for i := range objects {
		o := &objects[i]
		if o.Score < surely {
			return nil // the rest is less
		}
		if !slices.ContainsFunc(others, func(p Object) bool {
			far := math.Abs(o.Score - p.Score)
			for k := range o.Box {
				far = max(far, math.Abs(o.Box[k]-p.Box[k]))
			}
			return o.Label == p.Label && far <= boxAgrees
		}) {
			return o
		}
	}
	return nil
}
