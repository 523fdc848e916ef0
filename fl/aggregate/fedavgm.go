package aggregate

// fedavgm is FedAvgM: Hsu, Qi, Brown, "Measuring the Effects of Non-Identical
// Data Distribution for Federated Visual Classification", arXiv:1909.06335:
// v <- momentum*v + mean, and the weights move by v. In the long run that is
// 1/(1-momentum) times as far as FedAvg: lower the rate or the participants'
// own with it.
type fedavgm struct {
	rate, momentum float64
	v              []float32
}

func (f *fedavgm) fits(n int) error { return sameSize(len(f.v), n) }

func (f *fedavgm) step(mean []float64) {
	if f.v == nil {
		f.v = make([]float32, len(mean))
	}
	for i, d := range mean {
		f.v[i] = float32(float64(f.momentum*float64(f.v[i])) + d)
		mean[i] = f.rate * float64(f.v[i])
	}
}

func (f *fedavgm) save(b []byte) []byte { return appendFloats(b, f.v) }

func (f *fedavgm) load(r *reader) { f.v = r.floats(maxMoment) }
