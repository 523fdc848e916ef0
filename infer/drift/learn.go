package drift

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
)

// MinSamples is the least that a reference is made of.
const MinSamples = 64

// Learner gathers samples in their order and makes a Reference of them. It is
// for one goroutine.
type Learner struct {
	names  []string
	inputs int
	most   int
	rows   []float32 // sample by sample
	labels []uint8   // of the samples; nil: no label is learned
	class  []string  // by index
	known  map[string]uint8
	n      int
	looks  []Look // of pictures
}

// NewLearner is one for at most so many samples of these numbers, of which the
// first inputs are of what a model takes. classes says that each has a label.
func NewLearner(names []string, inputs int, classes bool, most int) (*Learner, error) {
	if len(names) > MaxFeatures || len(names) == 0 && !classes {
		return nil, fmt.Errorf("%d numbers are not in 1..%d", len(names), MaxFeatures)
	}
	if most < MinSamples {
		return nil, fmt.Errorf("%d samples are below %d, the fewest that tell how data is spread", most, MinSamples)
	}
	l := &Learner{names: slices.Clone(names), inputs: inputs, most: most, rows: make([]float32, 0, len(names)*most)}
	if classes {
		l.labels, l.known = make([]uint8, 0, most), map[string]uint8{}
	}
	return l, nil
}

// Len is the number of samples so far.
func (l *Learner) Len() int { return l.n }

// Full says that it has all that it wants.
func (l *Learner) Full() bool { return l.n == l.most }

// Add takes one sample: its numbers, and its label where labels are learned.
// What comes when it is full is left out, and so is a sample of other numbers,
// or with one that is not finite as a float32.
func (l *Learner) Add(values []float64, label string) {
	if l.Full() || len(values) != len(l.names) {
		return
	}
	for _, v := range values {
		if f := float32(v); f-f != 0 {
			return
		}
	}
	l.n++
	for _, v := range values {
		l.rows = append(l.rows, float32(v))
	}
	if l.labels == nil {
		return
	}
	at, ok := l.known[label]
	if !ok {
		if at = uint8(len(l.class)); len(l.class) < MaxClasses && len(label) <= maxName {
			label = string(append([]byte(nil), label...)) // it may be a part of a message
			l.class, l.known[label] = append(l.class, label), at
		} else {
			at = MaxClasses
		}
	}
	l.labels = append(l.labels, at)
}

// AddPicture takes one sample of pictures: the first names are PictureNames,
// values are of the others.
func (l *Learner) AddPicture(look *Look, values []float64, label string) {
	if l.Full() || len(PictureNames)+len(values) != len(l.names) {
		return
	}
	row := make([]float64, len(PictureNames), MaxFeatures)
	look.numbers(row, nil)
	n := l.n
	if l.Add(append(row, values...), label); l.n > n {
		l.looks = append(l.looks, *look)
	}
}

// Reference makes one that is sure of windows of these sizes, or, without any,
// of a row of sizes. Windows that are over a quarter of the samples are left
// out: too few of them were seen.
func (l *Learner) Reference(windows ...int) (*Reference, error) {
	if l.n < MinSamples {
		return nil, fmt.Errorf("%d samples are too few to tell how data is spread; %d are the least", l.n, MinSamples)
	}
	r := &Reference{Format: format, Samples: l.n, Inputs: l.inputs}
	if l.looks != nil {
		r.Picture = l.pictures()
	}
	width := len(l.names)
	var columns [][]float64
	var bins [][]uint8
	for k, name := range l.names {
		column := make([]float64, l.n)
		for i := range column {
			column[i] = float64(l.rows[i*width+k])
		}
		f := newFeature(name, column)
		at := make([]uint8, l.n)
		for i, v := range column {
			at[i] = f.bin(v)
			f.Counts[at[i]]++
		}
		r.Features, bins, columns = append(r.Features, f), append(bins, at), append(columns, column)
	}
	if l.labels != nil {
		f := Feature{Name: "label", Classes: l.class, Counts: make([]uint32, len(l.class)+1)}
		at := make([]uint8, l.n)
		for i, c := range l.labels {
			at[i] = min(c, uint8(len(l.class)))
			f.Counts[at[i]]++
		}
		r.Features, bins = append(r.Features, f), append(bins, at)
	}
	if len(windows) == 0 {
		for w := 64; w <= l.n/4 && len(windows) < maxWindows-2; w *= 2 {
			windows = append(windows, w, w*3/2)
		}
	}
	windows = slices.DeleteFunc(windows, func(w int) bool { return w < 2 || w > l.n/4 })
	if len(windows) == 0 {
		windows = []int{l.n / 4}
	}
	slices.Sort(windows)
	for _, w := range slices.Compact(windows) {
		r.Windows = append(r.Windows, r.measure(columns, bins, w))
	}
	if err := r.Validate(); err != nil {
		return nil, errors.Join(errors.New("drift reference"), err)
	}
	return r, nil
}

// newFeature chooses the bins of a number: shares of a 32nd of the samples,
// what is below and above all of them, and values that come often apart.
func newFeature(name string, column []float64) Feature {
	s := slices.Clone(column)
	slices.Sort(s)
	n := len(s)
	edges := []float64{math.Nextafter(s[0], math.Inf(-1))}
	for p := 1; p < parts; p++ {
		v := s[p*n/parts]
		if s[min(p*n/parts+n/(2*parts), n-1)] == v && v > s[0] {
			edges = append(edges, math.Nextafter(v, math.Inf(-1)))
		}
		edges = append(edges, v)
	}
	edges = append(edges, s[n-1])
	slices.Sort(edges)
	edges = slices.Compact(edges)
	f := Feature{Name: name, Edges: edges, Counts: make([]uint32, len(edges)+1), Center: s[n/2]}
	f.Scale = (s[n*3/4] - s[n/4]) / 1.349 // of a normal distribution the standard deviation
	if f.Scale == 0 {
		sum := 0.0
		for _, v := range s {
			sum += (v - f.Center) * (v - f.Center)
		}
		f.Scale = math.Sqrt(sum / float64(n))
	}
	f.Scale = max(f.Scale, 1e-9*math.Abs(f.Center), 1e-30)
	return f
}

// measure holds windows of w samples that follow each other, each half over
// the next, against the rest of the reference. Samples that depend on each
// other (a temperature, day and night) make windows that are far from the
// whole though nothing has changed: by how much is seen here, and learned.
func (r *Reference) measure(columns [][]float64, bins [][]uint8, w int) Spread {
	blocks := r.Samples / w
	s := Spread{Samples: w, Blocks: blocks}
	ne := effective(float64(w), float64(r.Samples-w))
	for k := range r.Features {
		f := &r.Features[k]
		to, groups := f.groups(w)
		block, rest := make([]uint32, groups), make([]uint32, groups)
		a, b := make([]uint32, len(f.Counts)), make([]uint32, len(f.Counts))
		sum, worst, n := 0.0, 0.0, 0
		for from := 0; from+w <= r.Samples; from += max(1, w/2) {
			clear(a)
			for _, bin := range bins[k][from : from+w] {
				a[bin]++
			}
			for i := range a {
				b[i] = f.Counts[i] - a[i]
			}
			d := 0.0
			if f.class() {
				gather(block, to, a)
				gather(rest, to, b)
				d = PSI(block, rest)
				sum += d * ne
			} else {
				d = KS(a, b)
				sum += shift(d, float64(r.Samples)) * math.Sqrt(ne/(2*math.Pi))
			}
			worst = max(worst, d)
			n++
		}
		ratio := sum / float64(n) / f.expect()
		if f.class() {
			ratio = sum / float64(n) / float64(f.degrees(to, groups))
		}
		s.Inflate = append(s.Inflate, inflation(ratio, blocks, f.class(), f.degrees(to, groups)))
		s.Worst = append(s.Worst, worst)
		out, together := 0.0, 1.0
		if !f.class() {
			out, together = outside(columns[k], w), clusters(columns[k], w)
		}
		s.Outside, s.Together = append(s.Outside, out), append(s.Together, together)
	}
	return s
}

// expect is the mean of sqrt(n) times the KS distance of independent samples in
// the bins of a number. In fine bins it is that of Kolmogorov's distribution,
// sqrt(pi/2) ln 2; of a number with few values it is less. It is the mean of
// 400 Brownian bridges, looked at where the bins end; always the same ones.
func (f *Feature) expect() float64 {
	rng := rand.New(rand.NewPCG(1, 2))
	n := float64(total(f.Counts))
	path := make([]float64, len(f.Counts))
	sum := 0.0
	const bridges = 400
	for range bridges {
		at := 0.0
		for i, c := range f.Counts {
			at += rng.NormFloat64() * math.Sqrt(float64(c)/n)
			path[i] = at
		}
		far, t := 0.0, 0.0
		for i, c := range f.Counts {
			t += float64(c) / n
			far = max(far, math.Abs(path[i]-t*at))
		}
		sum += far
	}
	return max(sum/bridges, 1e-3) // of a number that never changes
}

// inflation is how many times as far windows are than independent samples
// would be, given that the mean of so many blocks is ratio times as far. The
// mean of few blocks is not sure: its bound in four of five cases counts.
func inflation(ratio float64, blocks int, class bool, degrees int) float64 {
	sd := 0.3 // of one block, in means: Kolmogorov's distribution
	if class {
		sd = math.Sqrt(2 / float64(degrees))
	}
	ratio = max(ratio, 1)
	w := depends(ratio)
	sd = (1-w)*sd + w*0.756
	return ratio * (1 + 0.842*sd/math.Sqrt(float64(blocks)))
}

// depends is the part of windows' distances that is of samples which depend on
// each other: what they do together moves whole windows, and is spread as one
// number is, with more far away than the many of independent samples.
func depends(inflate float64) float64 { return 1 - 1/(inflate*inflate) }

// outside is the largest share of a window of w samples that is above, or
// below, all samples that are not in it.
func outside(column []float64, w int) float64 {
	n := len(column)
	// Of what is before a place, and of what is from it on.
	type reach struct{ low, high float64 }
	none := reach{math.Inf(1), math.Inf(-1)}
	before, behind := make([]reach, n+1), make([]reach, n+1)
	before[0], behind[n] = none, none
	for i, v := range column {
		before[i+1] = reach{min(before[i].low, v), max(before[i].high, v)}
	}
	for i, v := range slices.Backward(column) {
		behind[i] = reach{min(behind[i+1].low, v), max(behind[i+1].high, v)}
	}
	most := 0
	for from := 0; from+w <= n; from += max(1, w/2) {
		low := min(before[from].low, behind[from+w].low)
		high := max(before[from].high, behind[from+w].high)
		under, over := 0, 0
		for _, v := range column[from : from+w] {
			if v < low {
				under++
			} else if v > high {
				over++
			}
		}
		most = max(most, under, over)
	}
	return float64(most) / float64(w)
}

// clusters is how many extreme values come together: of two windows of
// independent samples one has, where it has any above all of the other, two on
// average; a hot day has many.
func clusters(column []float64, w int) float64 {
	const most = 64 // windows that are compared
	n := len(column) / w
	var blocks [][]float64 // sorted
	for i := range min(n, most) {
		b := slices.Clone(column[i*n/min(n, most)*w:][:w])
		slices.Sort(b)
		blocks = append(blocks, b)
	}
	sum, pairs := 0.0, 0.0
	for i, a := range blocks {
		for j, b := range blocks {
			if i == j {
				continue
			}
			over := w - sort.Search(w, func(k int) bool { return a[k] > b[w-1] })
			under := sort.Search(w, func(k int) bool { return a[k] >= b[0] })
			for _, k := range []int{over, under} {
				if k > 0 {
					sum += float64(k)
					pairs++
				}
			}
		}
	}
	return max(1, sum/max(pairs, 1)/2)
}

// groups gives for each bin the group that it is counted in: classes of which
// a window of w samples holds fewer than eight are one group, the last, and so
// are those that the reference does not know. Numbers are in tenths.
func (f *Feature) groups(w int) (to []int, groups int) {
	to = make([]int, len(f.Counts))
	n := float64(total(f.Counts))
	if f.class() {
		next := 0
		for i, c := range f.Counts {
			if to[i] = -1; i < len(f.Classes) && float64(c)/n*float64(w) >= 8 {
				to[i] = next
				next++
			}
		}
		for i := range to {
			if to[i] < 0 {
				to[i] = next
			}
		}
		return to, next + 1
	}
	sum, at := 0.0, 0
	for i, c := range f.Counts {
		to[i] = at
		if sum += float64(c); sum >= n/10*float64(at+1) && at < 9 {
			at++
		}
	}
	return to, at + 1
}

// degrees is how many of the groups may vary freely: one less than those that
// the reference has anything in.
func (f *Feature) degrees(to []int, groups int) int {
	sums := make([]uint32, groups)
	gather(sums, to, f.Counts)
	n := 0
	for _, s := range sums {
		if s > 0 {
			n++
		}
	}
	return max(1, n-1)
}

// gather adds up bins by group.
func gather(dst []uint32, to []int, counts []uint32) {
	clear(dst)
	for i, c := range counts {
		dst[to[i]] += c
	}
}
