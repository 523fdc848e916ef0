package aggregate

import "math"

// adaptive is what FedAdam, FedYogi and FedAdagrad have in common: Reddi,
// Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan, "Adaptive Federated
// Optimization", arXiv:2003.00295, algorithm 2. The mean of the updates is
// taken for a gradient:
//
//	m <- beta1*m + (1-beta1)*mean
//	the weights move by rate*m / (sqrt(v)+tau)
//
// with v, a running size of the mean's squares, as the kind has it, from tau²
// on. Theirs are beta1 0.9, beta2 0.99 and tau 0.001; they searched the rate
// for each task, 0.01 is ours.
type adaptive struct {
	rate, beta1, tau float64
	second           func(v, square float64) float64
	m, v             []float32
}

// fedadam is FedAdam: v <- beta2*v + (1-beta2)*mean².
func fedadam(c Config) *adaptive {
	return &adaptive{rate: c.Rate, beta1: c.Beta1, tau: c.Tau, second: func(v, square float64) float64 {
		return float64(c.Beta2*v) + float64((1-c.Beta2)*square)
	}}
}

func (a *adaptive) fits(n int) error { return sameSize(len(a.m), n) }

func (a *adaptive) step(mean []float64) {
	if a.m == nil {
		a.m, a.v = make([]float32, len(mean)), make([]float32, len(mean))
		for i := range a.v {
			a.v[i] = float32(a.tau * a.tau)
		}
	}
	for i, d := range mean {
		a.m[i] = float32(float64(a.beta1*float64(a.m[i])) + float64((1-a.beta1)*d))
		a.v[i] = float32(a.second(float64(a.v[i]), float64(d*d)))
		mean[i] = a.rate * float64(a.m[i]) / (math.Sqrt(float64(a.v[i])) + a.tau)
	}
}

func (a *adaptive) save(b []byte) []byte { return appendFloats(appendFloats(b, a.m), a.v) }

func (a *adaptive) load(r *reader) {
	a.m, a.v = r.floats(maxMoment), r.floats(maxWeight)
	if len(a.m) != len(a.v) {
		r.fail("its two moments are of two sizes")
	}
	for _, v := range a.v {
		if v < 0 {
			r.fail("a mean of squares is negative")
			break
		}
	}
}
