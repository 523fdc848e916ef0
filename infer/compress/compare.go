package compress

import (
	"cmp"
	"context"
	"fmt"
	"math"

	"edgegateway/infer"
	"edgegateway/infer/model"
)

// Agreement is how two models answer the same inputs, by their first output.
type Agreement struct {
	Samples int     `json:"samples"`
	Top1    float64 `json:"top1"`            // share of samples whose largest output is the same; of one output: the same side of 0.5
	MeanAbs float64 `json:"mean_difference"` // of the outputs as real numbers
	Largest float64 `json:"largest_difference"`
	Range   float64 `json:"range"` // of the first model's outputs
	// Classes says that the outputs are classes, so that Top1 means something;
	// Answers is how many of them the first model answered with.
	Classes bool `json:"classes"`
	Answers int  `json:"answers,omitempty"`
	// Kappa is how much more often than by chance the first class is the same
	// (Cohen 1960): 1 always, 0 as often as two who answer each class as often
	// as these do, and know nothing of each other.
	Kappa float64 `json:"kappa,omitempty"`
	// MadeUp says that the inputs were no data.
	MadeUp bool `json:"made_up_inputs,omitempty"`
	// Assumed is how made up inputs lay, such as "pictures between -1 and 1".
	Assumed string `json:"assumed,omitempty"`
	// More are the other outputs, in their order; they have no Top1.
	More []Agreement `json:"more_outputs,omitempty"`
}

// Relative is the mean difference as a share of the first model's range, the
// largest of all outputs; 1 and more where a range is 0 and the answers differ.
func (a Agreement) Relative() float64 {
	r := 0.0
	switch {
	case a.Range > 0:
		r = a.MeanAbs / a.Range
	case a.MeanAbs > 0:
		r = 1
	}
	for _, m := range a.More {
		r = max(r, m.Relative())
	}
	return r
}

// Compare runs two models on the built-in kernels, or on the delegates given.
// An answer that is no number is an error.
func Compare(ctx context.Context, a, b []byte, delegates [2]string, library string, data Inputs) (Agreement, error) {
	return compare(ctx, a, b, delegates, library, data, nil)
}

func compare(ctx context.Context, a, b []byte, delegates [2]string, library string, data Inputs, progress func(done, of int)) (Agreement, error) {
	return compareEach(ctx, a, b, delegates, library, [2]Inputs{data, data}, progress)
}

// CompareEach is Compare for models that take the same samples in their own
// ways, such as pictures of their own sizes: data[0] is for a, data[1] for b.
func CompareEach(ctx context.Context, a, b []byte, library string, data [2]Inputs) (Agreement, error) {
	if n, m := data[0].Len(), data[1].Len(); n != m {
		return Agreement{}, fmt.Errorf("one model has %d samples, the other %d", n, m)
	}
	return compareEach(ctx, a, b, [2]string{}, library, data, nil)
}

func compareEach(ctx context.Context, a, b []byte, delegates [2]string, library string, each [2]Inputs, progress func(done, of int)) (Agreement, error) {
	data := each[0]
	var s [2]*infer.Session
	for k, file := range [][]byte{a, b} {
		var err error
		if s[k], err = infer.OpenSession(file, cmp.Or(delegates[k], "builtin"), library); err != nil {
			return Agreement{}, err
		}
		defer s[k].Close()
	}
	if n, m := len(s[0].Out), len(s[1].Out); n != m {
		return Agreement{}, fmt.Errorf("one model has %d outputs, the other %d", n, m)
	}
	sums := make([]outputSum, len(s[0].Out))
	for i := range sums {
		sums[i] = outputSum{low: math.Inf(1), high: math.Inf(-1), chosen: map[[2]int]int{}}
	}
	var v, w []float64
	for i := range data.Len() {
		if err := ctx.Err(); err != nil {
			return Agreement{}, err
		}
		for k, x := range s {
			if err := each[k].Fill(x.In, i); err != nil {
				return Agreement{}, fmt.Errorf("sample %d: %w", i, err)
			}
			if err := x.Invoke(); err != nil {
				return Agreement{}, fmt.Errorf("sample %d: %w", i, err)
			}
		}
		for k := range sums {
			v, w = s[0].Out[k].Floats(v[:0]), s[1].Out[k].Floats(w[:0])
			if err := sums[k].take(v, w); err != nil {
				return Agreement{}, fmt.Errorf("sample %d, output %d: %w", i, k, err)
			}
		}
		if progress != nil {
			progress(i+1, data.Len())
		}
	}
	var all []Agreement
	for k := range sums {
		all = append(all, sums[k].agreement(data.Len()))
		if k > 0 {
			all[k].Top1, all[k].Answers, all[k].Kappa = 0, 0, 0
		}
	}
	all[0].Classes = givesClasses(a, s[0].Out[0].Len(), data)
	if made, ok := structured(data); ok {
		all[0].MadeUp, all[0].Assumed = true, made.assumed()
	}
	all[0].More = all[1:]
	return all[0], nil
}

// outputSum gathers how one output differs.
type outputSum struct {
	low, high, abs, largest float64
	same, values            int
	chosen                  map[[2]int]int // how often the models chose which classes
}

func (o *outputSum) take(v, w []float64) error {
	if len(v) != len(w) {
		return fmt.Errorf("one model answers with %d values, the other with %d", len(v), len(w))
	}
	bestV, bestW := 0, 0
	for j := range v {
		d := math.Abs(v[j] - w[j])
		if d-d != 0 {
			return fmt.Errorf("value %d is %v by one model and %v by the other", j, v[j], w[j])
		}
		o.low, o.high = min(o.low, v[j]), max(o.high, v[j])
		o.abs += d
		o.largest = max(o.largest, d)
		if v[j] > v[bestV] {
			bestV = j
		}
		if w[j] > w[bestW] {
			bestW = j
		}
	}
	o.values += len(v)
	if len(v) == 1 { // the chance of the second of two classes
		bestV, bestW = above(v[0]), above(w[0])
	}
	o.chosen[[2]int{bestV, bestW}]++
	if bestV == bestW {
		o.same++
	}
	return nil
}

// structured are the made up inputs that data is, false where it is none.
func structured(data Inputs) (Structured, bool) {
	if s, ok := data.(sparse); ok {
		data = s.Inputs
	}
	made, ok := data.(Structured)
	return made, ok
}

func above(chance float64) int {
	if chance > 0.5 {
		return 1
	}
	return 0
}

// kappa is Cohen's, and how many classes the first model chose; 1 where both
// chose one alone.
func (o *outputSum) kappa(samples int) (k float64, answers int) {
	n := float64(max(samples, 1))
	first, second := map[int]float64{}, map[int]float64{}
	same := 0.0
	for c, times := range o.chosen {
		first[c[0]] += float64(times) / n
		second[c[1]] += float64(times) / n
		if c[0] == c[1] {
			same += float64(times) / n
		}
	}
	chance := 0.0
	for c, share := range first {
		chance += share * second[c]
	}
	if chance > 1-1e-9 {
		return 1, len(first)
	}
	return (same - chance) / (1 - chance), len(first)
}

// byChance says that two models of classes agree no more than those who guess:
// a tenth of the answers and more are others, by far, and the rest are the same
// because some classes are frequent.
func (a Agreement) byChance() bool {
	return a.Classes && a.Samples >= 20 && a.Top1 < 0.9 && a.Kappa < 0.2 && a.Largest > unlike*a.Range
}

// givesClasses says whether a model's first output, of so many values, are
// classes: it says so by labels or by its last operator, or the samples do.
func givesClasses(file []byte, width int, data Inputs) bool {
	if l, ok := data.(Labelled); ok {
		if d := l.Data(); d != nil && d.Labels != nil && len(d.Classes) == width && width > 1 {
			return true
		}
	}
	m, err := model.Read(file)
	if err != nil {
		return false
	}
	if labels, err := m.Labels(); err == nil && len(labels) > 1 && (len(labels) == width || len(labels) == 2 && width == 1) {
		return true
	}
	g := m.Main()
	for p := g.Producer(g.Outputs[0]); p >= 0; p = g.Producer(g.Ops[p].Inputs[0]) {
		switch op := &g.Ops[p]; op.Code {
		case "SOFTMAX", "LOG_SOFTMAX":
			return true
		case "LOGISTIC":
			return width == 1
		case "QUANTIZE", "DEQUANTIZE", "RESHAPE":
			if len(op.Inputs) == 0 || op.Inputs[0] < 0 {
				return false
			}
		default:
			return false
		}
	}
	return false
}

func (o *outputSum) agreement(samples int) Agreement {
	k, answers := o.kappa(samples)
	a := Agreement{Kappa: k, Answers: answers, Samples: samples, Top1: float64(o.same) / float64(max(samples, 1)), MeanAbs: o.abs / float64(max(o.values, 1)), Largest: o.largest}
	if o.values > 0 {
		a.Range = o.high - o.low
	}
	return a
}
