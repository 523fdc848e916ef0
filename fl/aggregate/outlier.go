package aggregate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// sketchSize is how many numbers stand for an update's direction.
const sketchSize = 64

// sketch folds x to a few sums of its values with signs by lot: angles between
// sketches are about those between what they were made of, with a standard
// deviation of 1/8 (Charikar, Chen, Farach-Colton, "Finding Frequent Items in
// Data Streams", 2002). So a direction is kept of each update without the update.
func sketch(x []float32) (s [sketchSize]float32) {
	for block := uint64(1); len(x) > 0; block++ {
		// SplitMix64 of the block's number gives a sign for each of its values.
		z := block * 0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		z ^= z >> 31
		part := x[:min(sketchSize, len(x))]
		x = x[len(part):]
		for i, v := range part {
			s[i] += math.Float32frombits(math.Float32bits(v) ^ uint32(z)<<31)
			z >>= 1
		}
	}
	return s
}

// An update stands out where its length is farther above the median than this
// many robust standard deviations, or its direction as far below and against
// the common one.
const (
	farLonger  = 6.0
	farAgainst = 3.5
	against    = -0.25 // two standard deviations of a sketch's angle
)

// spread is the median of x and a robust standard deviation: 1.4826 times the
// median of the distances to it, which for a normal distribution is the usual
// one. It sorts x.
func spread(x []float64) (center, deviation float64) {
	center = middle(x)
	for i, v := range x {
		x[i] = math.Abs(v - center)
	}
	return center, 1.4826 * middle(x)
}

// outliers are the members that stand out by length or direction. It is cheap
// and for information: who knows it can hide from it, and participants with
// rare data may stand out too.
func outliers(members []member) (list []Aside) {
	if len(members) < 5 {
		return nil
	}
	x := make([]float64, len(members))
	for i := range members {
		x[i] = members[i].norm
	}
	length, lengths := spread(x)
	// The common direction: the median of each number of the sketches, each of
	// length 1 first, so that none has it by its size.
	var common [sketchSize]float64
	sizes := make([]float64, len(members))
	for i := range members {
		for _, v := range members[i].sketch {
			sizes[i] += float64(float64(v) * float64(v))
		}
		sizes[i] = math.Sqrt(sizes[i])
	}
	for k := range common {
		for i := range members {
			x[i] = 0
			if sizes[i] > 0 {
				x[i] = float64(members[i].sketch[k]) / sizes[i]
			}
		}
		common[k] = middle(x)
	}
	size := 0.0
	for _, v := range common {
		size += float64(v * v)
	}
	size = math.Sqrt(size)
	cosines := make([]float64, len(members))
	for i := range members {
		if sizes[i] == 0 || size == 0 {
			continue
		}
		for k, v := range members[i].sketch {
			cosines[i] += float64(float64(v) * common[k])
		}
		cosines[i] /= sizes[i] * size
	}
	copy(x, cosines)
	direction, directions := spread(x)
	for i := range members {
		m := &members[i]
		// The least deviation keeps equal updates from making a hair an outlier.
		if z := (m.norm - length) / max(lengths, 0.05*length, math.SmallestNonzeroFloat64); z > farLonger {
			list = append(list, Aside{m.from, fmt.Sprintf("its length %.3g is far over the median %.3g", m.norm, length), z, true})
		}
		if z := (cosines[i] - direction) / max(directions, 0.05); z < -farAgainst && cosines[i] < against {
			list = append(list, Aside{m.from, fmt.Sprintf("it points against the others: cosine %.2f, the median is %.2f", cosines[i], direction), z, true})
		}
	}
	slices.SortStableFunc(list, func(a, b Aside) int { return cmp.Compare(a.From, b.From) })
	return list
}
