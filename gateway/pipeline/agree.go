package pipeline

import (
	"math"

	"edgegateway/infer"
)

// agreement says whether two versions of a model say the same of one input. It
// remembers the span of the numbers seen so far and is for one goroutine.
type agreement struct {
	tolerance float64 // of that span, 0..1
	low, high []float64
}

const (
	sureObject   = 0.5 // the score of an object that both must find
	sameBox      = 0.5 // the overlap of two boxes, as intersection over union, that are around one object
	differPlaces = 1e-6
)

// agree compares what the live version said with what the other one said:
//   - of classes, the best one;
//   - of objects, each that one of them gives a score of at least 0.5, and its
//     best one: the other has one of the same label whose box overlaps by half;
//   - of numbers, and of the error of a reconstruction: each within the
//     tolerance times the span of that number so far or, where that is more,
//     times its own size.
func (a *agreement) agree(live, other *infer.Result) bool {
	switch {
	case live.Objects != nil || other.Objects != nil:
		return found(live.Objects, other.Objects) && found(other.Objects, live.Objects)
	case live.Label != "" || other.Label != "" || len(live.Top) > 0 || len(other.Top) > 0:
		return live.Label == other.Label
	case len(live.Values) == 0 && len(other.Values) == 0:
		return a.near(0, live.Score, other.Score)
	}
	if len(live.Values) != len(other.Values) {
		return false
	}
	same := true
	for i, v := range live.Values {
		same = a.near(i, v, other.Values[i]) && same // each is seen
	}
	return same
}

// near compares the i-th number, and takes it into the span.
func (a *agreement) near(i int, live, other float64) bool {
	for len(a.low) <= i {
		a.low, a.high = append(a.low, math.Inf(1)), append(a.high, math.Inf(-1))
	}
	a.low[i], a.high[i] = min(a.low[i], live), max(a.high[i], live)
	within := a.tolerance * max(a.high[i]-a.low[i], math.Abs(live))
	return math.Abs(live-other) <= max(within, differPlaces*math.Abs(live))
}

// found says whether each object of which there is no doubt, and the best one,
// is among the others too.
func found(objects, others []infer.Object) bool {
	best := 0
	for i := range objects {
		if objects[i].Score > objects[best].Score {
			best = i
		}
	}
	for i := range objects {
		if o := &objects[i]; (o.Score >= sureObject || i == best) && !among(o, others) {
			return false
		}
	}
	return true
}

func among(o *infer.Object, others []infer.Object) bool {
	for i := range others {
		if p := &others[i]; p.Label == o.Label && overlap(o.Box, p.Box) >= sameBox {
			return true
		}
	}
	return false
}

// overlap is the intersection of two boxes over their union, 0..1.
func overlap(a, b [4]float64) float64 {
	area := func(b [4]float64) float64 { return max(b[2]-b[0], 0) * max(b[3]-b[1], 0) }
	both := area([4]float64{max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])})
	if all := area(a) + area(b) - both; all > 0 {
		return both / all
	}
	return 0
}
