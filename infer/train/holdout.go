package train

import (
	"fmt"
	"math/rand/v2"
)

// HoldOut keeps a share of the samples apart to judge by. Which they are hangs
// on each sample alone (on its time where it has one, else its place) and on
// the seed: a sample that was held out once is so in every longer recording.
// Samples of a group stay together. Windows are held out in stretches, and
// those of the rest that share readings with them are in neither. Indexes into
// d; either may be empty.
func (d *Dataset) HoldOut(share float64, seed uint64) (rest, held []int, err error) {
	if !(share >= 0 && share < 1) {
		return nil, nil, fmt.Errorf("a share of %v held out: it is from 0 to below 1", share)
	}
	var p rand.PCG
	for i := range d.Len() {
		p.Seed(seed, d.lot(i))
		if float64(p.Uint64()>>11)/(1<<53) < share {
			held = append(held, i)
		} else {
			rest = append(rest, i)
		}
	}
	if len(held) > 0 {
		rest = d.apart(rest, held)
	}
	return rest, held, nil
}

// lot is the number that sample i is drawn by.
func (d *Dataset) lot(i int) uint64 {
	switch {
	case d.Groups != nil:
		return uint64(d.Groups[i])
	case d.Spans != nil:
		// Some windows long, so that few are lost at the ends of a stretch.
		s, first := d.Spans[i], d.Spans[0]
		return uint64(s.Source)<<48 ^ uint64(s.From/(8*(first.To-first.From+1)))
	case d.Times != nil:
		return uint64(d.Times[i].UnixNano())
	}
	return uint64(i)
}
