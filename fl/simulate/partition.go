package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"edgegateway/infer/train"
)

// Partition says how samples are divided among participants.
type Partition struct {
	Kind string  // iid, shards, dirichlet or quantity
	By   float64 // shards: how many each gets; dirichlet, quantity: alpha
}

// ParsePartition reads iid, shards:2, dirichlet:0.5 or quantity:0.5.
func ParsePartition(s string) (Partition, error) {
	kind, by, has := strings.Cut(s, ":")
	p := Partition{Kind: kind}
	if has {
		var err error
		if p.By, err = strconv.ParseFloat(by, 64); err != nil {
			return p, fmt.Errorf("partition %q: %q is no number", s, by)
		}
	} else if kind == "shards" {
		p.By = 2
	} else if kind != "iid" {
		p.By = 0.5
	}
	return p, p.Validate()
}

func (p Partition) String() string {
	if p.Kind == "iid" {
		return p.Kind
	}
	return p.Kind + ":" + strconv.FormatFloat(p.By, 'g', -1, 64)
}

// Validate says what is wrong.
func (p Partition) Validate() error {
	switch p.Kind {
	case "iid":
		if p.By != 0 {
			return fmt.Errorf("partition iid takes no number")
		}
	case "shards":
		if p.By != math.Trunc(p.By) || !(p.By >= 1 && p.By <= 1000) {
			return fmt.Errorf("partition shards:%v: each participant gets 1..1000 shards", p.By)
		}
	case "dirichlet", "quantity":
		if !(p.By >= 1e-3 && p.By <= 1e6) {
			return fmt.Errorf("partition %s:%v: alpha is 0.001..1000000", p.Kind, p.By)
		}
	default:
		return fmt.Errorf("partition %q is none of iid, shards:N, dirichlet:ALPHA, quantity:ALPHA", p.Kind)
	}
	return nil
}

// Divide gives each of k participants the places of its samples in d, in a
// random order; each has at least one, and each sample goes to one.
//
//	iid        equal parts of all, as in arXiv:1602.05629
//	shards     sorted by class and cut into k times By parts, By of them each,
//	           the pathological partition of the same paper
//	dirichlet  of each class, shares drawn from Dirichlet(By), as in
//	           arXiv:2102.02079, section IV
//	quantity   the classes alike, but sizes drawn from Dirichlet(By)
func (p Partition) Divide(d *train.Dataset, k int, seed uint64) ([][]int32, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	n := d.Len()
	least := 1
	if p.Kind == "shards" {
		least = int(p.By)
	}
	if k < 1 || k*least > n {
		return nil, fmt.Errorf("%d samples are not enough for %d participants by %s", n, k, p)
	}
	if d.Labels == nil && (p.Kind == "shards" || p.Kind == "dirichlet") {
		return nil, fmt.Errorf("partition %s goes by classes, and data %s has none", p, d.Name)
	}
	r := rand.New(rand.NewPCG(seed, 0x706172))
	order := make([]int32, n)
	for i, at := range r.Perm(n) {
		order[i] = int32(at)
	}
	var parts [][]int32
	switch p.Kind {
	case "iid":
		parts = cut(order, equal(k))
	case "quantity":
		parts = cut(order, dirichlet(p.By, k, r))
	case "shards":
		parts = shards(order, d.Labels, k, least, r)
	case "dirichlet":
		parts = make([][]int32, k)
		for c := range d.Classes {
			var of []int32
			for _, i := range order {
				if d.Labels[i] == int32(c) {
					of = append(of, i)
				}
			}
			for j, part := range cut(of, dirichlet(p.By, k, r)) {
				parts[j] = append(parts[j], part...)
			}
		}
	}
	feed(parts)
	for _, part := range parts {
		r.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	return parts, nil
}

// cut divides a list by shares that sum to 1.
func cut(list []int32, shares []float64) [][]int32 {
	parts := make([][]int32, len(shares))
	sum, from := 0.0, 0
	for i, s := range shares {
		sum += s
		to := min(int(math.Round(sum*float64(len(list)))), len(list))
		if i == len(shares)-1 {
			to = len(list)
		}
		parts[i] = list[from:to:to]
		from = to
	}
	return parts
}

func equal(k int) []float64 {
	s := make([]float64, k)
	for i := range s {
		s[i] = 1 / float64(k)
	}
	return s
}

// dirichlet draws k shares: gamma variates, divided by their sum. Those of a
// small alpha may all be too small for a float64: one gets everything then.
func dirichlet(alpha float64, k int, r *rand.Rand) []float64 {
	g := distuv.Gamma{Alpha: alpha, Beta: 1, Src: r}
	s, sum := make([]float64, k), 0.0
	for i := range s {
		s[i] = g.Rand()
		sum += s[i]
	}
	if !(sum > 0) {
		s[r.IntN(k)], sum = 1, 1
	}
	for i := range s {
		s[i] /= sum
	}
	return s
}

// shards deals k times each parts of what is sorted by class.
func shards(order []int32, labels []int32, k, each int, r *rand.Rand) [][]int32 {
	slices.SortStableFunc(order, func(a, b int32) int { return int(labels[a]) - int(labels[b]) })
	pieces := cut(order, equal(k*each))
	parts := make([][]int32, k)
	for i, at := range r.Perm(len(pieces)) {
		parts[i/each] = append(parts[i/each], pieces[at]...)
	}
	return parts
}

// feed gives those that got nothing a sample of the one that has the most.
func feed(parts [][]int32) {
	for i := range parts {
		if len(parts[i]) > 0 {
			continue
		}
		most := 0
		for j := range parts {
			if len(parts[j]) > len(parts[most]) {
				most = j
			}
		}
		last := len(parts[most]) - 1
		parts[i], parts[most] = []int32{parts[most][last]}, parts[most][:last]
	}
}
