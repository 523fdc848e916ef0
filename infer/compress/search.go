package compress

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Search looks for the recipe that fits a model into a budget.
type Search struct {
	File   []byte // a float .tflite
	Given  []byte // what File was widened from, which counts as it is; nil: File
	Ground Ground
	// Choose are the samples that recipes are compared on; nil: made up inputs.
	// With labels and a Task the first figure of quality counts, else how well
	// the answers are those of the model as it was.
	Choose Inputs
	Task   Task
	Budget Budget
	Packed bool // the deployed file is the packed one
	Trials int  // the most recipes that are tried, those of Dir that come up again among them
	Epochs int  // of fine-tuning after each step, where there is data
	// Time gives µs an inference and on what; nil where there is no bound on it
	// and nobody asks.
	Time func(ctx context.Context, file []byte) (micros float64, on string, err error)
	Dir  string       // keeps what was tried, so that a search goes on where it ended
	Done func(*Trial) // after each trial; may be nil

	list []*Trial
	base float64 // quality of the model as it is
	log  *trialLog
}

// Tried are the trials so far, in their order.
func (s *Search) Tried() []*Trial { return s.list }

// schemes are what each float model is tried as.
var schemes = []string{"int8", "dynamic", "float16"}

// What a step takes at a time.
const (
	cutMACs  = 0.7 // of the multiply-adds that are left
	mostCuts = 9
)

// Run searches until all trials are used or nothing is left to try, and gives
// the best, those that Dir keeps of earlier runs among them: Budget.Over says
// whether it fits. Where ctx ends it gives the best so far, and the error.
func (s *Search) Run(ctx context.Context) (*Trial, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.log.close()
	err := s.sweep(ctx)
	if err == nil {
		err = s.refine(ctx)
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	s.earlier()
	best := s.Budget.Best(s.list)
	if best == nil && err == nil {
		err = fmt.Errorf("nothing came of any recipe: %s", s.list[0].Why)
	}
	return best, err
}

// errEnough ends a search whose trials are used up.
var errEnough = errors.New("all trials are used")

// sweep tries each kind of step alone, as far as it goes, and each network that
// lost channels as int8.
func (s *Search) sweep(ctx context.Context) error {
	if t, err := s.try(ctx, nil); err != nil {
		return err
	} else if t.Why != "" {
		return fmt.Errorf("the model as it is: %s", t.Why)
	}
	for _, scheme := range schemes {
		if _, err := s.try(ctx, []Step{{Do: "quantize", Scheme: scheme}}); err != nil {
			return err
		}
	}
	if s.Packed { // zeros and shared weights count in a packed file alone
		if _, err := s.chain(ctx, s.sparse(0.6), s.sparse(0.85), s.sparse(0.93)); err != nil {
			return err
		}
		if _, err := s.chain(ctx, s.shared(16)); err != nil {
			return err
		}
	} else if _, err := s.try(ctx, []Step{s.sparse(0.9), s.rows()}); err != nil {
		return err
	}
	cuts, err := s.chain(ctx, slices.Repeat([]Step{s.cut()}, mostCuts)...)
	if err != nil {
		return err
	}
	for _, steps := range cuts {
		if _, err := s.try(ctx, append(slices.Clone(steps), Step{Do: "quantize", Scheme: schemes[0]})); err != nil {
			return err
		}
	}
	return nil
}

func (s *Search) cut() Step {
	return Step{Do: "prune", Pattern: "channels", MACs: cutMACs, Epochs: s.epochs()}
}
func (s *Search) sparse(share float64) Step {
	return Step{Do: "prune", Pattern: "unstructured", Sparsity: share, Epochs: s.epochs()}
}

// rows is int8 in which zeros take hardly any room in the file itself.
func (s *Search) rows() Step { return Step{Do: "quantize", Scheme: schemes[0], Sparse: true} }

func (s *Search) shared(n int) Step { return Step{Do: "cluster", Clusters: n, Epochs: s.epochs()} }

func (s *Search) epochs() int {
	if s.Ground.Learn == nil {
		return 0
	}
	return s.Epochs
}

// chain tries steps one after the other, until the model is worth nothing any
// more, and gives the recipes up to there.
func (s *Search) chain(ctx context.Context, steps ...Step) (good [][]Step, err error) {
	var from []Step
	for _, next := range steps {
		if n := len(from); n > 0 && next.Sparsity > 0 {
			from = from[:n-1] // a higher share replaces the lower one
		}
		from = append(slices.Clone(from), next)
		t, err := s.try(ctx, from)
		if err != nil || s.hopeless(t) {
			return good, err
		}
		good = append(good, from)
	}
	return good, nil
}

// hopeless is a model that has lost so much that nothing behind it helps.
func (s *Search) hopeless(t *Trial) bool {
	most := 0.25
	if s.Budget.Drop >= 0 {
		most = max(3*s.Budget.Drop, s.Budget.Drop+0.05)
	}
	return t.Why != "" || t.Drop > most
}

// refine tries what is one change away from the best, then from the next best.
func (s *Search) refine(ctx context.Context) error {
	seen := map[string]bool{}
	for {
		rest := slices.DeleteFunc(slices.Clone(s.list), func(t *Trial) bool { return seen[key(t.Recipe)] })
		best := s.Budget.Best(rest)
		if best == nil || s.hopeless(best) {
			return nil
		}
		seen[key(best.Recipe)] = true
		for _, n := range s.neighbours(best.Recipe.Steps) {
			if s.failed(n) {
				continue
			}
			if _, err := s.try(ctx, n); err != nil {
				return err
			}
		}
	}
}

// failed says whether a recipe begins with one that came to nothing.
func (s *Search) failed(steps []Step) bool {
	return slices.ContainsFunc(s.list, func(t *Trial) bool {
		n := len(t.Recipe.Steps)
		return t.Why != "" && n <= len(steps) && slices.Equal(t.Recipe.Steps, steps[:n])
	})
}

// neighbours are recipes that are one change away. Steps stand in the order
// channels, single weights, shared weights, training, numbers.
func (s *Search) neighbours(steps []Step) (list [][]Step) {
	at := func(is func(Step) bool) int { return slices.IndexFunc(steps, is) }
	edit := func(from, to int, with ...Step) {
		list = append(list, slices.Replace(slices.Clone(steps), from, to, with...))
	}
	cuts := 0
	for cuts < len(steps) && steps[cuts].Pattern == "channels" {
		cuts++
	}
	sparse := at(func(t Step) bool { return t.Sparsity > 0 })
	shared := at(func(t Step) bool { return t.Do == "cluster" })
	tuned := at(func(t Step) bool { return t.Do == "tune" })
	short := at(func(t Step) bool { return t.Do == "quantize" })
	end := len(steps)
	if short >= 0 {
		end = short
	}
	if e := s.epochs(); e > 0 && tuned < 0 {
		edit(end, end, Step{Do: "tune", Epochs: 3 * e})
		edit(end, end, Step{Do: "tune", Epochs: 3 * e, Teacher: true})
	}
	if tuned >= 0 {
		end = tuned
	}
	if short < 0 {
		edit(len(steps), len(steps), Step{Do: "quantize", Scheme: schemes[0]})
	}
	if s.Packed {
		if shared < 0 {
			edit(end, end, s.shared(16))
		} else {
			end = shared
			for _, n := range []int{steps[shared].Clusters / 2, steps[shared].Clusters * 2} {
				if n >= 4 && n <= 128 {
					edit(shared, shared+1, s.shared(n))
				}
			}
		}
		if sparse < 0 {
			edit(end, end, s.sparse(0.6))
		}
	} else if short >= 0 && sparse < 0 && steps[short].Scheme == schemes[0] {
		list = append(list, append(slices.Insert(slices.Clone(steps[:short]), cuts, s.sparse(0.85)), s.rows()))
	}
	if sparse >= 0 {
		for _, left := range []float64{0.7, 1.4} {
			if share := rounded(1 - (1-steps[sparse].Sparsity)*left); share > 0.2 {
				edit(sparse, sparse+1, s.sparse(share))
			}
		}
	}
	edit(cuts, cuts, s.cut())
	if cuts > 0 {
		last := steps[cuts-1]
		for _, m := range []float64{math.Sqrt(last.MACs), last.MACs * math.Sqrt(last.MACs)} {
			if m > 0.2 && m < 0.97 {
				last.MACs = rounded(m)
				edit(cuts-1, cuts, last)
			}
		}
		edit(cuts-1, cuts)
	}
	return list
}

func rounded(v float64) float64 { return math.Round(1000*v) / 1000 }
