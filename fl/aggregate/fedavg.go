package aggregate

// fedavg is FedAvg: McMahan, Moore, Ramage, Hampson, Agüera y Arcas,
// "Communication-Efficient Learning of Deep Networks from Decentralized Data",
// arXiv:1602.05629, algorithm 1: the weights move by the mean of the updates,
// weighted by their samples (rate 1 gives the paper's mean of weights).
//
// FedProx (arXiv:1812.06127) is the same at the server: its pull back to the
// round's weights is a term of each participant's training, fl's
// local.proximal.
type fedavg struct {
	stateless
	rate float64
}

func (f *fedavg) step(mean []float64) {
	for i, v := range mean {
		mean[i] = f.rate * v
	}
}
