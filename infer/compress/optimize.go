package compress

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Budget is what a model may take and lose; 0 is no bound, of Drop a negative
// number.
type Budget struct {
	Size   int     `json:"max_size,omitempty"`    // bytes of the file that is deployed
	Micros float64 `json:"max_latency,omitempty"` // µs an inference on the fastest delegate of this box
	Peak   int     `json:"max_memory,omitempty"`  // bytes of values at one time, as Cost has it
	// Drop is what the first figure of quality may lose: a share (0.01 is one
	// point) of right answers, of an area under a curve or of agreement, and of
	// an error the share by which it grows.
	Drop float64 `json:"max_drop"`
}

// Validate says what is wrong.
func (b Budget) Validate() error {
	switch {
	case b.Size < 0 || b.Peak < 0 || !(b.Micros >= 0) || math.IsInf(b.Micros, 0):
		return errors.New("a bound is above 0")
	case b.Size == 0 && b.Micros == 0 && b.Peak == 0 && b.Drop < 0:
		return errors.New("there is no bound: give the most that the model may take or lose")
	case b.Drop >= 1 || b.Drop != b.Drop:
		return fmt.Errorf("a drop of %v is not below 1", b.Drop)
	}
	return nil
}

// least is the drop by which an excess is measured where none may be: a tenth
// of a point.
const least = 0.001

// MarshalJSON leaves out bounds that are none; a drop of 0 is one.
func (b Budget) MarshalJSON() ([]byte, error) {
	type plain Budget
	doc := struct {
		plain
		Drop *float64 `json:"max_drop,omitempty"`
	}{plain: plain(b)}
	if b.Drop >= 0 {
		doc.Drop = &b.Drop
	}
	return json.Marshal(doc)
}

// Over is by how much a trial is over the bound that it meets least, as a share
// of the bound: 0 where it meets all, infinite where it came to nothing.
func (b Budget) Over(t *Trial) float64 {
	over, _ := b.Misses(t)
	return over
}

// Misses is Over, and what the bound is about: size, latency, memory or drop; ""
// where all are met.
func (b Budget) Misses(t *Trial) (over float64, bound string) {
	if t.Why != "" {
		return math.Inf(1), ""
	}
	add := func(by float64, name string) {
		if by > over {
			over, bound = by, name
		}
	}
	of := func(is, most float64, name string) {
		if most > 0 {
			add(is/most-1, name)
		}
	}
	of(float64(t.Bytes), float64(b.Size), "size")
	of(float64(t.Peak), float64(b.Peak), "memory")
	of(t.Micros, b.Micros, "latency")
	if b.Micros > 0 && t.Micros == 0 { // no delegate runs it
		add(math.Inf(1), "latency")
	}
	// What shares are apart is rounded: 0.9 - 0.89 is a little more than 0.01.
	if b.Drop >= 0 && t.Drop-b.Drop > 1e-9 {
		add((t.Drop-b.Drop)/max(b.Drop, least), "drop")
	}
	return over, bound
}

// Trial is a recipe and what came of it.
type Trial struct {
	Recipe  Recipe  `json:"recipe"`
	Bytes   int     `json:"bytes"` // of the file that is deployed: packed, where that was asked for
	Peak    int     `json:"peak_bytes"`
	MACs    int     `json:"multiply_adds"`
	Micros  float64 `json:"us"` // 0: not measured
	On      string  `json:"delegate,omitempty"`
	Quality float64 `json:"quality"` // the first figure, on the samples that choose
	Drop    float64 `json:"drop"`
	Why     string  `json:"why,omitempty"` // why it came to nothing
}

// better orders trials: those within the budget first, among them the one that
// loses least where something must fit, else the smallest; then those that are
// least over it.
func (b Budget) better(x, y *Trial) int {
	ox, oy := b.Over(x), b.Over(y)
	if ox > 0 || oy > 0 {
		return cmp.Or(cmp.Compare(ox, oy), cmp.Compare(x.Drop, y.Drop), cmp.Compare(x.Bytes, y.Bytes))
	}
	bySize := cmp.Or(cmp.Compare(x.Bytes, y.Bytes), cmp.Compare(x.Micros, y.Micros))
	if b.Size == 0 && b.Micros == 0 && b.Peak == 0 {
		return cmp.Or(bySize, cmp.Compare(x.Drop, y.Drop))
	}
	return cmp.Or(cmp.Compare(x.Drop, y.Drop), bySize)
}

// Quality is the first figure where all of Drop is lost, beside the trials of a
// search, the first of which is the model as it is; false where there is no
// bound, or no trial that says whether the figure is an error.
func (b Budget) Quality(list []*Trial) (at float64, ok bool) {
	if b.Drop < 0 || len(list) == 0 || list[0].Why != "" {
		return 0, false
	}
	base := list[0].Quality
	for _, t := range list {
		if t.Why != "" || t.Drop == 0 {
			continue
		}
		if math.Abs(base-t.Quality-t.Drop) <= 1e-9*max(1, math.Abs(base)) { // points of a share
			return base - b.Drop, true
		}
		return base * (1 + b.Drop), true
	}
	return 0, false
}

// Best is the trial to take, nil without any that came to something.
func (b Budget) Best(list []*Trial) *Trial {
	list = slices.DeleteFunc(slices.Clone(list), func(t *Trial) bool { return t.Why != "" })
	if len(list) == 0 {
		return nil
	}
	return slices.MinFunc(list, b.better)
}

// Front are the trials that no other beats in bytes, time and quality at once,
// the smallest first.
func Front(list []*Trial) (front []*Trial) {
	for _, t := range list {
		if t.Why != "" {
			continue
		}
		beaten := func(o *Trial) bool {
			if o.Why != "" || o == t || o.Bytes > t.Bytes || o.Micros > t.Micros || o.Drop > t.Drop {
				return false
			}
			return o.Bytes < t.Bytes || o.Micros < t.Micros || o.Drop < t.Drop
		}
		if !slices.ContainsFunc(list, beaten) {
			front = append(front, t)
		}
	}
	slices.SortStableFunc(front, func(a, b *Trial) int {
		return cmp.Or(cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(a.Micros, b.Micros))
	})
	return front
}
