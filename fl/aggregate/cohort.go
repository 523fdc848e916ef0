package aggregate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// member is what is kept of an update: some 400 bytes with its name.
type member struct {
	from    string
	age     int
	at      int // place in the order of arrival
	samples int64
	norm    float64 // of the update as it came
	scale   float64 // what each of its values counts for, by age and clip
	why     string  // it counts for less; "" where it does not
	sketch  [sketchSize]float32
}

// cohort is who took part in a round.
type cohort struct {
	members []member
	seen    map[seen]bool
	twice   bool    // the same update may come again
	median  float64 // length of an update in the round before; 0: unknown
}

type seen struct {
	from string
	age  int
}

func (c *cohort) begin() {
	c.members = c.members[:0]
	c.seen = map[seen]bool{}
}

// room says whether there is room for u, and whether it is new.
func (c *cohort) room(u *Update) error {
	switch {
	case !c.twice && c.seen[seen{u.From, u.Age}]:
		return fmt.Errorf("update of %s: %w", u.From, ErrTwice)
	case len(c.members) >= maxUpdates:
		return fmt.Errorf("update of %s: %w: %d are in", u.From, ErrFull, maxUpdates)
	}
	return nil
}

// judge measures u and says what it counts for.
func (c *cohort) judge(u *Update, cfg Config) member {
	m := member{from: u.From, age: u.Age, samples: u.Samples, scale: 1}
	m.norm = norm(u.Delta)
	m.sketch = sketch(u.Delta)
	if u.Age > 0 {
		m.scale = weakening(u.Age)
		if cfg.Kind != "fedbuff" { // whose way it is
			m.why = fmt.Sprintf("late by %d: counts for %.2f", u.Age, m.scale)
		}
	}
	if limit := cfg.limit(c.median); m.norm > limit {
		m.scale *= limit / m.norm
		m.why = fmt.Sprintf("shortened from %.3g to %.3g", m.norm, limit)
	}
	return m
}

func (c *cohort) take(m member) {
	m.at = len(c.members)
	c.members = append(c.members, m)
	c.seen[seen{m.from, m.age}] = true
}

// sorted are the members by name, so that nothing depends on who came first.
func (c *cohort) sorted() []member {
	slices.SortStableFunc(c.members, func(a, b member) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.age, b.age))
	})
	return c.members
}

// finish remembers how long the updates were.
func (c *cohort) finish(members []member) {
	if len(members) == 0 {
		return
	}
	norms := make([]float64, len(members))
	for i := range members {
		norms[i] = members[i].norm
	}
	c.median = middle(norms)
}

// middle is the median of x, which it sorts.
func middle(x []float64) float64 {
	slices.Sort(x)
	n := len(x)
	return (x[(n-1)/2] + x[n/2]) / 2
}

// norm is the length of x, summed in four lanes: quicker, and the same
// everywhere.
func norm(x []float32) float64 {
	var s [4]float64
	for ; len(x) >= 4; x = x[4:] {
		a, b, c, d := float64(x[0]), float64(x[1]), float64(x[2]), float64(x[3])
		s[0] += float64(a * a)
		s[1] += float64(b * b)
		s[2] += float64(c * c)
		s[3] += float64(d * d)
	}
	for i, v := range x {
		s[i] += float64(float64(v) * float64(v))
	}
	return math.Sqrt((s[0] + s[1]) + (s[2] + s[3]))
}
