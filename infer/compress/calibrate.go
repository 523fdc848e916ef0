package compress

import (
	"context"
	"fmt"
	"math"

	"edgegateway/infer"
	"edgegateway/infer/model"
)

// Inputs are samples that a model is run on: Len of them; Fill writes sample i
// into the model's inputs.
type Inputs interface {
	Len() int
	Fill(in []infer.Tensor, i int) error
}

// Stats is what was seen of one tensor of a float model while it ran.
type Stats struct {
	Low, High float64
	// Mean and Top (the largest value) of each channel, the last dimension.
	Mean, Top []float64
	// bins counts values by size, between Low and High of the first pass.
	bins []float64
	rows float64
}

// bins is how finely values are counted by size.
const bins = 2048

// Calibrate runs a float model on samples and gathers what each computed
// tensor of its first subgraph reaches. Two passes: ranges, then how often
// each value occurs. progress may be nil.
func Calibrate(ctx context.Context, m *model.Model, library string, data Inputs, progress func(done, of int)) (map[int]*Stats, error) {
	if data.Len() == 0 {
		return nil, fmt.Errorf("calibration: there is no sample")
	}
	look, watched := instrumented(m)
	file, err := look.Encode()
	if err != nil {
		return nil, err
	}
	s, err := infer.OpenSession(file, "builtin", library)
	if err != nil {
		return nil, fmt.Errorf("calibration: %w", err)
	}
	defer s.Close()
	stats := map[int]*Stats{}
	for _, t := range watched {
		shape := m.Main().Tensors[t].Shape
		width := 1
		if len(shape) > 1 {
			width = max(shape[len(shape)-1], 1)
		}
		stats[t] = &Stats{Low: math.Inf(1), High: math.Inf(-1), Mean: make([]float64, width), Top: make([]float64, width), bins: make([]float64, bins)}
	}
	var v []float64
	for pass := range 2 {
		for i := range data.Len() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := data.Fill(s.In, i); err != nil {
				return nil, fmt.Errorf("calibration: sample %d: %w", i, err)
			}
			if pass == 0 { // inputs are constants for the interpreter, not outputs
				for k, t := range m.Main().Inputs {
					if st := stats[t]; st != nil {
						v = s.In[k].Floats(v[:0])
						if err := st.first(v); err != nil {
							return nil, fmt.Errorf("calibration: sample %d, input %d: %w", i, k, err)
						}
					}
				}
			} else {
				for k, t := range m.Main().Inputs {
					if st := stats[t]; st != nil {
						st.second(s.In[k].Floats(v[:0]))
					}
				}
			}
			if err := s.Invoke(); err != nil {
				return nil, fmt.Errorf("calibration: sample %d: %w", i, err)
			}
			for k, t := range watched[len(m.Main().Inputs):] {
				v = s.Out[k].Floats(v[:0])
				if pass == 0 {
					if err := stats[t].first(v); err != nil {
						return nil, fmt.Errorf("calibration: sample %d, tensor %q: %w", i, m.Main().Tensors[t].Name, err)
					}
				} else {
					stats[t].second(v)
				}
			}
			if progress != nil {
				progress(pass*data.Len()+i+1, 2*data.Len())
			}
		}
	}
	return stats, nil
}

// instrumented is m with every computed float tensor as an output. watched are
// the inputs and then those outputs, as tensors of m.
func instrumented(m *model.Model) (look *model.Model, watched []int) {
	look = m.Clone()
	look.Signatures = nil
	g := look.Main()
	watched = append(watched, g.Inputs...)
	g.Outputs = nil
	for _, op := range g.Ops {
		for _, o := range op.Outputs {
			if g.Tensors[o].Type == model.Float32 {
				g.Outputs = append(g.Outputs, o)
			}
		}
	}
	return look, append(watched, g.Outputs...)
}

// offset says whether values lie within a quarter of what a scale must cover
// that holds 0.
func (s *Stats) offset() bool { return s.High-s.Low < (max(s.High, 0)-min(s.Low, 0))/4 }

// first takes the range and the means in.
func (s *Stats) first(v []float64) error {
	w := len(s.Mean)
	for i, x := range v {
		if x-x != 0 {
			return fmt.Errorf("a value is %v", x)
		}
		s.Low, s.High = min(s.Low, x), max(s.High, x)
		s.Mean[i%w] += x
		s.Top[i%w] = max(s.Top[i%w], x)
	}
	s.rows += float64(len(v) / w)
	return nil
}

// second counts values by size. The first time the sums become means.
func (s *Stats) second(v []float64) {
	if s.rows > 0 {
		for i := range s.Mean {
			s.Mean[i] /= s.rows
		}
		s.rows = 0
	}
	if s.High <= s.Low {
		return
	}
	scale := bins / (s.High - s.Low)
	for _, x := range v {
		s.bins[min(int((x-s.Low)*scale), bins-1)]++
	}
}

// Range chooses what of the values int8 is to cover.
//
//	minmax      all of them
//	percentile  all but the share 1-keep, split between both ends
//	mse         the range with the least squared error of rounding and cutting
func (s *Stats) Range(method string, keep float64, levels int) (low, high float64) {
	low, high = min(s.Low, 0), max(s.High, 0)
	if s.High <= s.Low {
		return low, high
	}
	switch method {
	case "percentile":
		low, high = s.percentile(keep)
	case "mse":
		low, high = s.leastError(levels)
	}
	return min(low, 0), max(high, 0)
}

func (s *Stats) percentile(keep float64) (low, high float64) {
	total := 0.0
	for _, n := range s.bins {
		total += n
	}
	cut := total * (1 - keep) / 2
	step := (s.High - s.Low) / bins
	low, high = s.Low, s.High
	sum := 0.0
	for i := 0; i < bins; i++ {
		if sum += s.bins[i]; sum > cut {
			low = s.Low + float64(i)*step
			break
		}
	}
	sum = 0
	for i := bins - 1; i >= 0; i-- {
		if sum += s.bins[i]; sum > cut {
			high = s.Low + float64(i+1)*step
			break
		}
	}
	return low, high
}

// leastError tries ranges of 30 to 100 % at each end.
func (s *Stats) leastError(levels int) (low, high float64) {
	best := math.Inf(1)
	step := (s.High - s.Low) / bins
	low, high = s.Low, s.High
	from, to := min(s.Low, 0), max(s.High, 0)
	const tries = 36
	for a := range tries {
		l := from * (1 - 0.02*float64(a))
		for b := range tries {
			h := to * (1 - 0.02*float64(b))
			if h <= l {
				continue
			}
			scale := (h - l) / float64(levels)
			rounding := scale * scale / 12
			sum := 0.0
			for i, n := range s.bins {
				if n == 0 {
					continue
				}
				x := s.Low + (float64(i)+0.5)*step
				switch {
				case x < l:
					sum += n * (l - x) * (l - x)
				case x > h:
					sum += n * (x - h) * (x - h)
				default:
					sum += n * rounding
				}
			}
			if sum < best {
				best, low, high = sum, l, h
			}
			if to == 0 {
				break
			}
		}
		if from == 0 {
			break
		}
	}
	return low, high
}
