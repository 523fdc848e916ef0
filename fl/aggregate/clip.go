package aggregate

import "math"

// limit is the length to which longer updates are shortened: Sun, Kairouz,
// Suresh, McMahan, "Can You Really Backdoor Federated Learning?",
// arXiv:1911.07963, with a length that is given (Clip) or follows
// what is usual (ClipTimes): the median length of the round before, which
// attackers that are fewer than half cannot move out of what honest ones send.
// That a length is learned from round to round is from Andrew, Thakkar,
// McMahan, Ramaswamy, "Differentially Private Learning with Adaptive Clipping",
// arXiv:1905.03871. It is not this round's, since updates are summed as they
// come and are gone then; in the first round median is 0, for unknown.
func (c Config) limit(median float64) float64 {
	limit := math.Inf(1)
	if c.Clip > 0 {
		limit = c.Clip
	}
	if c.ClipTimes > 0 && median > 0 {
		limit = min(limit, c.ClipTimes*median)
	}
	return limit
}
