package aggregate

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// gatherer makes one mean of a round's updates.
type gatherer interface {
	memory
	begin(n int)
	keeps() bool
	// weight is what u counts for, before it is weakened by age or clipped.
	weight(u *Update) float64
	// add takes an update of which each value counts scale times.
	add(u *Update, scale float64) error
	// mean is by what they would have the weights move together, nil for not at
	// all; it adds to the report whom it set aside. members are by name. The
	// mean is the caller's to change.
	mean(r *Report, members []member) []float64
}

// server turns a mean of updates into a step of the weights, in place.
type server interface {
	memory
	step(mean []float64)
}

// strategy is each kind: a way to gather and a way to step.
type strategy struct {
	cfg    Config // with the kind's own values
	n      int    // of the round, -1 outside of one
	cohort cohort
	gather gatherer
	server server
}

func kinds() []string {
	return []string{"fedavg", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "fedbuff", "median", "trimmed-mean", "krum", "multi-krum"}
}

// New makes a strategy that remembers nothing yet, or says what is wrong with
// its configuration.
func New(cfg Config) (Strategy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return fresh(cfg.own()), nil
}

// fresh joins the parts of a kind; c has no field left at 0 that the kind uses.
func fresh(c Config) *strategy {
	s := &strategy{cfg: c, n: -1, gather: &averaged{}, server: &fedavg{rate: c.Rate}}
	switch c.Kind {
	case "fedavgm":
		s.server = &fedavgm{rate: c.Rate, momentum: c.Momentum}
	case "fedadam":
		s.server = fedadam(c)
	case "fedyogi":
		s.server = fedyogi(c)
	case "fedadagrad":
		s.server = fedadagrad(c)
	case "fedbuff":
		s.gather = &buffered{size: c.Buffer}
		s.cohort.twice = true
	case "median":
		s.gather = newMedian()
	case "trimmed-mean":
		s.gather = newTrimmed(c.Trim)
	case "krum":
		s.gather = &krum{attackers: c.Attackers, keep: 1}
	case "multi-krum":
		s.gather = &krum{attackers: c.Attackers, keep: c.Keep}
	}
	return s
}

// Keeps implements Strategy.
func (s *strategy) Keeps() bool { return s.gather.keeps() }

// Begin implements Strategy. An error says that what it remembers is of a model
// of another size.
func (s *strategy) Begin(n int) error {
	if n < 1 {
		return fmt.Errorf("a round over %d weights", n)
	}
	if err := errors.Join(s.server.fits(n), s.gather.fits(n)); err != nil {
		return err
	}
	s.n = n
	s.cohort.begin()
	s.gather.begin(n)
	return nil
}

// Add implements Strategy. The error is one of those above, with more words.
func (s *strategy) Add(u Update) error {
	if s.n < 0 {
		return errors.New("an update outside of a round: call Begin first")
	}
	largest, err := u.check(s.n)
	if err != nil {
		return err
	}
	if err := s.cohort.room(&u); err != nil {
		return err
	}
	m := s.cohort.judge(&u, s.cfg)
	if term := largest * s.gather.weight(&u) * m.scale; term > maxTerm {
		return fmt.Errorf("update of %s: %w: by %.3g, times what it counts for %.3g, over %d", u.From, ErrHuge, largest, term, maxTerm)
	}
	if err := s.gather.add(&u, m.scale); err != nil {
		return err
	}
	s.cohort.take(m)
	return nil
}

// maxWeight is far above what a network holds; steps cannot leave float32 from
// below it.
const maxWeight = 1 << 100

// Finish implements Strategy. An error leaves all as it was.
func (s *strategy) Finish(weights []float32) (*Report, error) {
	if len(weights) != s.n {
		return nil, fmt.Errorf("%d weights at the end of a round over %d", len(weights), s.n)
	}
	if math.Float32frombits(peak(weights)) > maxWeight || peak(weights) >= infinite {
		return nil, errors.New("the model's weights are not finite: nothing is added to them")
	}
	members := s.cohort.sorted()
	r := &Report{Counted: len(members)}
	for i := range members {
		m := &members[i]
		r.Samples += m.samples
		if m.why != "" {
			r.SetAside = append(r.SetAside, Aside{m.from, m.why, m.norm, true})
		}
	}
	r.Outliers = outliers(members)
	s.n = -1
	s.cohort.finish(members)
	step := s.gather.mean(r, members)
	slices.SortStableFunc(r.SetAside, func(a, b Aside) int { return cmp.Compare(a.From, b.From) })
	if step == nil {
		return r, nil
	}
	s.server.step(step)
	sum := 0.0
	for i, v := range step {
		weights[i] = float32(float64(weights[i]) + v)
		sum += float64(v * v)
	}
	r.Norm = math.Sqrt(sum)
	return r, nil
}
