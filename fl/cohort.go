package fl

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// candidate is a participant that may be drawn.
type candidate struct {
	name    string
	samples int
	heard   int64 // Unix milliseconds
}

// lot is the source of a draw. One round has one; in an asynchronous task each
// draw within a round has its own.
func lot(seed uint64, round, draw int) *rand.Rand {
	b := []byte("cohort")
	for _, v := range []uint64{seed, uint64(round), uint64(draw)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return rand.New(rand.NewChaCha8(sha256.Sum256(b)))
}

// drawn gives the names of size of those who are there, sorted; all where size
// is 0 or there are no more. The same lot gives the same, whatever their order.
func drawn(how string, size int, from *rand.Rand, there []candidate) []string {
	there = slices.Clone(there)
	slices.SortFunc(there, func(a, b candidate) int { return cmp.Compare(a.name, b.name) })
	if size > 0 && size < len(there) {
		switch how {
		case "data":
			byData(size, from, there)
		case "present":
			slices.SortStableFunc(there, func(a, b candidate) int { return cmp.Compare(b.heard, a.heard) })
		default:
			for i := range size {
				j := i + from.IntN(len(there)-i)
				there[i], there[j] = there[j], there[i]
			}
		}
		there = there[:size]
	}
	var names []string
	for _, c := range there {
		names = append(names, c.name)
	}
	slices.Sort(names)
	return names
}

// byData brings size of them to the front, each drawn from those that are left
// with a chance that is its share of their samples. It reckons in whole numbers,
// so that all machines draw alike.
func byData(size int, from *rand.Rand, there []candidate) {
	var total uint64
	for _, c := range there {
		total += uint64(max(c.samples, 1))
	}
	for i := range size {
		at, j := from.Uint64N(total), i
		for ; at >= uint64(max(there[j].samples, 1)); j++ {
			at -= uint64(max(there[j].samples, 1))
		}
		total -= uint64(max(there[j].samples, 1))
		there[i], there[j] = there[j], there[i]
	}
}
