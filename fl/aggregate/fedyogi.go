package aggregate

// fedyogi is FedYogi (arXiv:2003.00295, algorithm 2): v <- v -
// (1-beta2)*mean²*sign(v-mean²). v follows as slowly down as up, where FedAdam
// forgets a large square quickly.
func fedyogi(c Config) *adaptive {
	return &adaptive{rate: c.Rate, beta1: c.Beta1, tau: c.Tau, second: func(v, square float64) float64 {
		by := float64((1 - c.Beta2) * square)
		switch {
		case v > square:
			return v - by
		case v < square:
			return v + by
		}
		return v
	}}
}
