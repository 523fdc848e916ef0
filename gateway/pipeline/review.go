package pipeline

import (
	"cmp"
	"slices"
	"time"
)

// notable is a sample that is worth a person's look.
type notable struct {
	rank     float64 // the higher the more
	source   string
	id       string
	time     time.Time
	begin    time.Time
	received time.Time
	picture  []byte    // as it came
	input    []float64 // before it is normalised
}

// review is the most uncertain and the most unusual samples of a window.
type review struct {
	most    int // of both together
	unsure  []notable
	unusual []notable
}

// add offers a sample: half of the room is for the uncertain ones, the rest
// for the unusual.
func (v *review) add(at *slot, uncertain, unusual float64) {
	half := v.most / 2
	if uncertain > 0 {
		v.unsure = offer(v.unsure, half, uncertain, at)
	}
	v.unusual = offer(v.unusual, v.most-half, unusual, at)
}

// offer takes a sample in the place of the least one, where it is more.
func offer(list []notable, most int, rank float64, at *slot) []notable {
	if len(list) < most {
		list = append(list, notable{})
		return put(list, len(list)-1, rank, at)
	}
	least := -1
	for i := range list {
		if rank > list[i].rank && (least < 0 || list[i].rank < list[least].rank) {
			least = i
		}
	}
	if least < 0 {
		return list
	}
	return put(list, least, rank, at)
}

func put(list []notable, i int, rank float64, at *slot) []notable {
	r := &at.result
	list[i] = notable{
		rank: rank, source: r.Source, id: r.ID, time: r.Time, begin: r.Begin, received: r.Received,
		picture: r.Picture, input: append(list[i].input[:0], at.kept...),
	}
	return list
}

// take gives what is there, each once, in the order in which it came, and
// begins anew.
func (v *review) take() []notable {
	list := append(v.unsure, v.unusual...)
	v.unsure, v.unusual = nil, nil
	slices.SortStableFunc(list, func(a, b notable) int {
		return cmp.Or(a.received.Compare(b.received), cmp.Compare(a.id, b.id))
	})
	return slices.CompactFunc(list, func(a, b notable) bool { return a.id == b.id })
}
