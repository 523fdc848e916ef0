package drift

import (
	"fmt"
	"math"
)

// What is looked at of a sample, so that it stays within MaxFeatures.
const (
	mostInputs   = 32 // numbers that are taken as they are
	mostChannels = 6  // of readings that are told apart
	mostValues   = 8  // of what a model answers
	perChannel   = 5
)

// Inputs appends to dst what a sample's numbers are looked at by: themselves,
// or where they are many, or readings one after another (readings of so many
// values, 0 for none), for each value of a reading the mean, the standard
// deviation, the lowest and the highest, and the mean step from one reading to
// the next. It allocates nothing where dst has room.
func Inputs(dst, values []float64, readings int) []float64 {
	if readings == 0 && len(values) <= mostInputs {
		return append(dst, values...)
	}
	width := channels(readings)
	n := float64(len(values) / width)
	for c := range width {
		low, high, sum, square, step := math.Inf(1), math.Inf(-1), 0.0, 0.0, 0.0
		for i := c; i+width <= len(values)+c; i += width {
			v := values[i]
			low, high = min(low, v), max(high, v)
			sum, square = sum+v, square+(v-values[c])*(v-values[c]) // near the first, so that large numbers keep their digits
			if i >= width {
				step += math.Abs(v - values[i-width])
			}
		}
		mean := sum / n
		off := mean - values[c]
		dst = append(dst, mean, math.Sqrt(max(square/n-off*off, 0)), low, high, step/max(n-1, 1))
	}
	return dst
}

// channels is how many values of a reading are told apart: all, or none.
func channels(readings int) int {
	if readings < 1 || readings > mostChannels {
		return 1
	}
	return readings
}

// channelParts are what Inputs says of each value of a reading.
var channelParts = [perChannel]string{"mean", "std", "min", "max", "step"}

// InputNames are the names of what Inputs gives for n numbers that have these
// names, or nil for none; of readings, the names of one reading's values.
func InputNames(names []string, n, readings int) []string {
	var list []string
	name := func(i int) string {
		if i < len(names) {
			return names[i]
		}
		return fmt.Sprintf("input[%d]", i)
	}
	if readings == 0 && n <= mostInputs {
		for i := range n {
			list = append(list, name(i))
		}
		return list
	}
	width := channels(readings)
	for c := range width {
		of := "input"
		if width == readings {
			of = name(c)
		}
		for _, what := range channelParts {
			list = append(list, of+"."+what)
		}
	}
	return list
}

// Answers appends what a model answered: its score, and the first of its
// values. The label comes beside it.
func Answers(dst []float64, score float64, values []float64) []float64 {
	return append(append(dst, score), values[:min(len(values), mostValues)]...)
}

// AnswerNames are their names.
func AnswerNames(values int) []string {
	list := []string{"score"}
	for i := range min(values, mostValues) {
		list = append(list, fmt.Sprintf("values[%d]", i))
	}
	return list
}
