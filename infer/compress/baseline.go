package compress

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"edgegateway/infer/train"
)

// Baseline is what one feature says of two classes without a model: what a
// model must beat to be worth its place.
type Baseline struct {
	Rule string  `json:"rule"` // such as "Light above 365.1"
	Top1 float64 `json:"top1"`
	// Hindsight says that the rule was chosen on the samples that it is judged
	// by, which flatters it.
	Hindsight bool `json:"hindsight"`
	// AUC is that of the feature whose order alone separates the classes best.
	AUC   float64 `json:"auc"`
	Order string  `json:"order"` // that feature, such as "Torque"
}

// maxBaseline bounds the work: values that are sorted.
const maxBaseline = 1 << 25

// OneThreshold chooses the rule "feature above (or below) a value is the second
// class" that is right most often on learned, and judges it by judged; the
// order of a feature is chosen on learned too. It is nil where there are not
// two classes, or no features with names.
func OneThreshold(learned, judged *train.Dataset) *Baseline {
	w := len(learned.Features)
	if w == 0 || len(learned.Classes) != 2 || len(learned.Labels) == 0 || len(learned.Values) != w*len(learned.Labels) || len(judged.Values) != w*len(judged.Labels) || len(learned.Values) > maxBaseline {
		return nil
	}
	best, right, order, up, far := threshold{}, -1, 0, true, -1.0
	for k := range w {
		t, n := bestThreshold(column(learned, k), learned.Labels)
		if n > right {
			best, right = t, n
			best.feature = k
		}
		if auc, _ := ranked(column(learned, k), learned.Labels); math.Abs(auc-0.5) > far {
			order, up, far = k, auc >= 0.5, math.Abs(auc-0.5)
		}
	}
	b := &Baseline{Rule: best.text(learned.Features), Hindsight: learned == judged, Order: learned.Features[order]}
	for i, x := range column(judged, best.feature) {
		if best.says(x) == (judged.Labels[i] == 1) {
			b.Top1 += 1 / float64(len(judged.Labels))
		}
	}
	scores := column(judged, order)
	if !up {
		for i := range scores {
			scores[i] = -scores[i]
		}
	}
	if b.AUC, _ = ranked(scores, judged.Labels); b.AUC != b.AUC {
		b.AUC = 0 // one class alone
	}
	return b
}

func column(d *train.Dataset, k int) []float64 {
	w := len(d.Features)
	v := make([]float64, len(d.Labels))
	for i := range v {
		v[i] = float64(d.Values[i*w+k])
	}
	return v
}

// threshold says yes above (or below) at.
type threshold struct {
	feature int
	at      float64
	below   bool
}

func (t threshold) says(x float64) bool { return x > t.at != t.below }

func (t threshold) text(features []string) string {
	switch {
	case math.IsInf(t.at, 0) && t.says(0):
		return "always the second class"
	case math.IsInf(t.at, 0):
		return "always the first class"
	case t.below:
		return fmt.Sprintf("%s below %.4g", features[t.feature], t.at)
	}
	return fmt.Sprintf("%s above %.4g", features[t.feature], t.at)
}

// bestThreshold is the one that is right most often, halfway between two
// values, and how often.
func bestThreshold(x []float64, labels []int32) (best threshold, right int) {
	at := make([]int, len(x))
	yes := 0
	for i, l := range labels {
		at[i] = i
		yes += int(l)
	}
	slices.SortFunc(at, func(a, b int) int { return cmp.Compare(x[a], x[b]) })
	best, right = threshold{at: math.Inf(-1)}, yes
	if no := len(x) - yes; no > right {
		best, right = threshold{at: math.Inf(1)}, no
	}
	above := yes // right answers of "above" with the threshold behind sample i
	for i, s := range at {
		above += 1 - 2*int(labels[s])
		if i+1 == len(at) || x[at[i+1]] == x[s] {
			continue
		}
		middle := (x[s] + x[at[i+1]]) / 2
		if above > right {
			best, right = threshold{at: middle}, above
		}
		if below := len(x) - above; below > right {
			best, right = threshold{at: middle, below: true}, below
		}
	}
	return best, right
}
