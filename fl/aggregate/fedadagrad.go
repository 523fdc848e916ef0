package aggregate

// fedadagrad is FedAdagrad (arXiv:2003.00295, algorithm 2): v <- v + mean², so
// that steps get smaller where the mean was ever large. As in the paper's
// experiments beta1 is 0.
func fedadagrad(c Config) *adaptive {
	return &adaptive{rate: c.Rate, tau: c.Tau, second: func(v, square float64) float64 { return v + square }}
}
