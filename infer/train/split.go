package train

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Span is the readings that a window is made of: from the first to the last of
// one source, counted or in nanoseconds. Windows whose spans meet share some.
type Span struct {
	Source   int32
	From, To int64
}

// Split divides the samples, part of them into the second set: stratified by
// class where there are classes, by the seed, or (by time) the latest. Windows
// that follow each other go in blocks, and those of the first set that share
// readings with one of the second are left out: a model that has seen half of a
// window is not judged by it.
func (d *Dataset) Split(part float64, byTime bool, seed uint64) (first, second *Dataset, err error) {
	if !(part > 0 && part < 1) {
		return nil, nil, fmt.Errorf("a split of %v: it is a part between 0 and 1", part)
	}
	n := d.Len()
	var a, b []int
	if byTime {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		if d.Times != nil {
			slices.SortStableFunc(order, func(i, j int) int { return d.Times[i].Compare(d.Times[j]) })
		}
		cut := n - int(math.Round(part*float64(n)))
		a, b = order[:cut], order[cut:]
	} else {
		in := *d
		if d.Groups == nil {
			in.Groups = d.blocks()
		}
		a, b = in.stratify(part, rand.New(rand.NewPCG(seed, 0x73706c)))
	}
	a = d.apart(a, b)
	if len(a) == 0 || len(b) == 0 {
		why := ""
		if d.Spans != nil {
			why = "; they are windows, and none is left that shares no reading with those that judge: name other data to judge by"
		}
		return nil, nil, fmt.Errorf("data %s: %d samples cannot be split at %v%s", d.Name, n, part, why)
	}
	return d.Subset(a), d.Subset(b), nil
}

// stratify takes the same part of each class, group by group.
func (d *Dataset) stratify(part float64, r *rand.Rand) (a, b []int) {
	type group struct{ at []int }
	byClass := map[int32][]*group{}
	groups := map[int32]*group{}
	for i := range d.Len() {
		class := int32(0)
		if d.Labels != nil {
			class = d.Labels[i]
		}
		if d.Groups != nil {
			if g := groups[d.Groups[i]]; g != nil {
				g.at = append(g.at, i)
				continue
			}
		}
		g := &group{[]int{i}}
		if d.Groups != nil {
			groups[d.Groups[i]] = g
		}
		byClass[class] = append(byClass[class], g)
	}
	var classes []int32
	for c := range byClass {
		classes = append(classes, c)
	}
	slices.Sort(classes)
	for _, c := range classes {
		list := byClass[c]
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		cut := int(math.Round(part * float64(len(list))))
		for i, g := range list {
			if i < cut {
				b = append(b, g.at...)
			} else {
				a = append(a, g.at...)
			}
		}
	}
	slices.Sort(a)
	slices.Sort(b)
	return a, b
}

// blocks are groups of windows that follow each other and have one class, some
// windows long; nil where no two windows meet.
func (d *Dataset) blocks() []int32 {
	if d.Spans == nil {
		return nil
	}
	order := d.inTime()
	meets := func(a, b int) bool {
		return d.Spans[a].Source == d.Spans[b].Source && d.Spans[b].From <= d.Spans[a].To
	}
	// How many of those behind it a window meets, at most places.
	var counts []int
	for at := 0; at < len(order); at += max(1, len(order)/100) {
		k := 0
		for at+k+1 < len(order) && meets(order[at], order[at+k+1]) {
			k++
		}
		counts = append(counts, k)
	}
	slices.Sort(counts)
	overlap := counts[len(counts)/2]
	if overlap == 0 {
		return nil
	}
	// At a border some are left out: long blocks lose few, short ones mix better.
	length := max(overlap+1, min(4*(overlap+1), len(order)/10))
	groups := make([]int32, len(order))
	group := int32(0)
	for from := 0; from < len(order); {
		to := from + 1
		for to < len(order) && d.Spans[order[to]].Source == d.Spans[order[from]].Source && (d.Labels == nil || d.Labels[order[to]] == d.Labels[order[from]]) {
			to++
		}
		// A run of one class, in blocks of one size.
		n := max(1, (to-from+length/2)/length)
		for k := range to - from {
			groups[order[from+k]] = group + int32(k*n/(to-from))
		}
		group += int32(n)
		from = to
	}
	return groups
}

// inTime is the order of the windows, source by source.
func (d *Dataset) inTime() []int {
	order := make([]int, len(d.Spans))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := d.Spans[i], d.Spans[j]
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return order
}

// apart are those of a that share no reading with any of b.
func (d *Dataset) apart(a, b []int) []int {
	if d.Spans == nil {
		return a
	}
	// What b covers, as spans that do not meet, in order.
	var covered []Span
	for _, i := range d.Subset(b).inTime() {
		s := d.Spans[b[i]]
		if n := len(covered); n > 0 && covered[n-1].Source == s.Source && s.From <= covered[n-1].To {
			covered[n-1].To = max(covered[n-1].To, s.To)
			continue
		}
		covered = append(covered, s)
	}
	return slices.DeleteFunc(a, func(i int) bool {
		s := d.Spans[i]
		// The first that does not end before s begins.
		at, _ := slices.BinarySearchFunc(covered, s, func(c, s Span) int {
			if c.Source != s.Source {
				return cmp.Compare(c.Source, s.Source)
			}
			if c.To < s.From {
				return -1
			}
			return 1
		})
		return at < len(covered) && covered[at].Source == s.Source && covered[at].From <= s.To
	})
}

// Between gives the samples from a time on and before another; a zero time is
// no bound.
func (d *Dataset) Between(from, before time.Time) (*Dataset, error) {
	if from.IsZero() && before.IsZero() {
		return d, nil
	}
	if d.Times == nil {
		return nil, errors.New("the samples have no times to choose by")
	}
	var at []int
	for i, t := range d.Times {
		if !t.Before(from) && (before.IsZero() || t.Before(before)) {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		first, last := slices.MinFunc(d.Times, time.Time.Compare), slices.MaxFunc(d.Times, time.Time.Compare)
		return nil, fmt.Errorf("no sample is in that time; they are of %s to %s", first.Format(time.DateTime), last.Format(time.DateTime))
	}
	return d.Subset(at), nil
}
