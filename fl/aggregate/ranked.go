package aggregate

import (
	"fmt"
	"math"
	"slices"
	"sync"
)

// ranked looks at each weight alone: it sorts what the updates say of it and
// takes the middle. No update is set aside as a whole; the report names those
// that were outside the middle at nearly all weights.
type ranked struct {
	kept
	name   string
	least  int                                   // updates that it needs
	cut    func(m int) int                       // of m updates, so many at each end are outside
	center func(sorted []int32, cut int) float64 // of keys
}

// key is an integer in the order of v; 0 and -0 are one.
func key(v float32) int32 {
	if v == 0 {
		return 0
	}
	k := int32(math.Float32bits(v))
	return k ^ k>>31&math.MaxInt32
}

// value is what key was made of.
func value(k int32) float64 { return float64(math.Float32frombits(uint32(k ^ k>>31&math.MaxInt32))) }

func (k *ranked) mean(r *Report, members []member) []float64 {
	if tooFew(r, members, k.least, k.name) {
		return nil
	}
	m, n := len(members), len(k.list[0])
	cut := k.cut(m)
	mean := make([]float64, n)
	outside := make([]int, m) // weights at which each update was
	var mu sync.Mutex
	inParts(n, 1024, func(from, to int) {
		keys, sorted, out := make([]int32, m), make([]int32, m), make([]int, m)
		for i := from; i < to; i++ {
			for j, x := range k.list {
				keys[j] = key(x[i])
			}
			copy(sorted, keys)
			slices.Sort(sorted)
			mean[i] = k.center(sorted, cut)
			lo, hi := sorted[cut], sorted[m-1-cut]
			for j, v := range keys {
				if v < lo || v > hi {
					out[j]++
				}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for j, v := range out {
			outside[j] += v
		}
	})
	k.list = nil
	// Of equals each is outside at 2*cut of m weights.
	usual := 2 * float64(cut) / float64(m)
	for _, u := range members {
		if share := float64(outside[u.at]) / float64(n); cut > 0 && share > (1+usual)/2 {
			r.SetAside = append(r.SetAside, Aside{u.from, fmt.Sprintf("outside the middle at %.0f %% of the weights, %.0f %% are usual", 100*share, 100*usual), share, true})
		}
	}
	return mean
}
