package compress

import (
	"fmt"
	"math"
	"slices"

	"edgegateway/infer/model"
)

// Cross-layer equalisation (arXiv:1906.04721, section 4.1): where one linear
// layer feeds another through something that commutes with a positive factor,
// channel c of the first is divided by s_c and the second's weights for it are
// multiplied: s_c = sqrt(r1_c r2_c) / r2_c, with r the largest magnitude of the
// weights. The network computes the same; its weights have like ranges.

// Equalise gives m with the channels of neighbouring layers evened out, without
// data. A RELU6 does not commute with a factor, for it cuts at 6: stats, where
// they are not nil, show the channels that stay below, and these alone take
// part, as far as the cut stays above what they reach.
func Equalise(m *model.Model, stats map[int]*Stats) (*model.Model, []string) {
	m = m.Clone()
	g := m.Main()
	pairs, notes := findPairs(g, stats)
	const passes = 30
	for range passes {
		most := 0.0
		for i := range pairs {
			most = max(most, pairs[i].even(g))
		}
		if most < 1e-3 {
			break
		}
	}
	if len(pairs) > 0 {
		notes = append([]string{fmt.Sprintf("%d pairs of layers equalised", len(pairs))}, notes...)
	} else {
		notes = append(notes, "there is no pair of layers to equalise")
	}
	return m, notes
}

// pair is a linear operator that feeds another one alone.
type pair struct {
	a, b     int       // operators
	channels int       // of a's output
	least    []float64 // how small a channel's whole factor must stay above; nil: any
	most     []float64
	total    []float64
	err      error
}

// passThrough are operators that commute with a factor a channel, and keep
// channels where they are.
var passThrough = []string{"MAX_POOL_2D", "AVERAGE_POOL_2D", "RELU", "RESHAPE", "PAD", "MEAN", "SQUEEZE"}

func findPairs(g *model.Subgraph, stats map[int]*Stats) (list []pair, notes []string) {
	for a := range g.Ops {
		op := &g.Ops[a]
		if !weighted(g, op) {
			continue
		}
		clipped := false
		switch act := activation(op); act {
		case model.NoActivation, model.Relu:
		case model.Relu6:
			clipped = true
		default:
			continue
		}
		out := op.Outputs[0]
		channels := outChannels(g, op)
		at, ok := out, channels > 1
		b := -1
		for ok {
			users := g.Consumers(at)
			if len(users) != 1 || slices.Contains(g.Outputs, at) {
				break
			}
			next := &g.Ops[users[0]]
			if weighted(g, next) && next.Inputs[0] == at {
				b = users[0]
				break
			}
			if next.Code == "RELU6" {
				clipped = true
			} else if !slices.Contains(passThrough, next.Code) || next.Inputs[0] != at || activation(next) != model.NoActivation {
				break
			}
			if next.Code == "MEAN" && !overPixels(g, next) {
				break
			}
			at = next.Outputs[0]
			// A reshape must leave channels the fastest that change.
			if s := g.Tensors[at].Shape; len(s) == 0 || s[len(s)-1]%channels != 0 {
				break
			}
		}
		if b < 0 || !fits(g, &g.Ops[b], channels) {
			continue
		}
		p := pair{a: a, b: b, channels: channels, total: make([]float64, channels)}
		for c := range p.total {
			p.total[c] = 1
		}
		if clipped {
			s := stats[out]
			if s == nil || len(s.Top) != channels {
				notes = append(notes, fmt.Sprintf("op %d %s: cut at 6 behind it, and no data shows that it is not reached; left as it is", a, op.Code))
				continue
			}
			p.least, p.most = make([]float64, channels), make([]float64, channels)
			for c, top := range s.Top {
				p.least[c], p.most[c] = top*1.1/6, math.Inf(1)
				if top >= 6*0.99 {
					p.least[c], p.most[c] = 1, 1
				}
			}
		}
		list = append(list, p)
	}
	return list, notes
}

// overPixels says whether a MEAN is over height and width alone.
func overPixels(g *model.Subgraph, op *model.Op) bool {
	if len(op.Inputs) != 2 || len(g.Tensors[op.Inputs[0]].Shape) != 4 {
		return false
	}
	axes, err := g.Tensors[op.Inputs[1]].Floats()
	return err == nil && (slices.Equal(axes, []float32{1, 2}) || slices.Equal(axes, []float32{2, 1}))
}

// weighted says whether an operator has constant float weights of its own that
// may be changed, and a bias where it has one.
func weighted(g *model.Subgraph, op *model.Op) bool {
	if !slices.Contains([]string{"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}, op.Code) || len(op.Inputs) < 2 || len(op.Outputs) != 1 {
		return false
	}
	for _, i := range op.Inputs[1:] {
		if i < 0 {
			continue
		}
		t := &g.Tensors[i]
		if !t.Constant() || t.Type != model.Float32 || t.Sparsity != nil || len(g.Consumers(i)) != 1 {
			return false
		}
	}
	if o, ok := op.Builtin.(*model.DepthwiseConv2DOptions); ok && o.DepthMultiplier > 1 {
		return false
	}
	return op.Inputs[1] >= 0
}

func activation(op *model.Op) model.Activation {
	switch o := op.Builtin.(type) {
	case *model.Conv2DOptions:
		return o.FusedActivationFunction
	case *model.DepthwiseConv2DOptions:
		return o.FusedActivationFunction
	case *model.FullyConnectedOptions:
		return o.FusedActivationFunction
	case *model.Pool2DOptions:
		return o.FusedActivationFunction
	}
	return model.NoActivation
}

func outChannels(g *model.Subgraph, op *model.Op) int {
	s := g.Tensors[op.Inputs[1]].Shape
	if len(s) == 0 {
		return 0
	}
	if op.Code == "DEPTHWISE_CONV_2D" {
		return s[len(s)-1]
	}
	return s[0]
}

// fits says whether the weights of op take so many channels; a dense layer
// behind a flattening takes each several times.
func fits(g *model.Subgraph, op *model.Op, channels int) bool {
	s := g.Tensors[op.Inputs[1]].Shape
	in := s[len(s)-1]
	if op.Code == "FULLY_CONNECTED" {
		return in%channels == 0
	}
	return in == channels
}

// channelOf gives the output channel (of a) or the input channel (of b) of
// weight i.
func channelOf(op *model.Op, shape []int, channels int, output bool) func(i int) int {
	if op.Code == "DEPTHWISE_CONV_2D" || !output {
		return func(i int) int { return i % channels }
	}
	per := 1
	for _, d := range shape[1:] {
		per *= d
	}
	return func(i int) int { return i / per }
}

// even makes the ranges of both sides alike and says how far the largest
// factor was from 1.
func (p *pair) even(g *model.Subgraph) (moved float64) {
	if p.err != nil {
		return 0
	}
	a, b := &g.Ops[p.a], &g.Ops[p.b]
	wa, errA := g.Tensors[a.Inputs[1]].Floats()
	wb, errB := g.Tensors[b.Inputs[1]].Floats()
	var bias []float32
	var errBias error
	hasBias := len(a.Inputs) > 2 && a.Inputs[2] >= 0
	if hasBias {
		bias, errBias = g.Tensors[a.Inputs[2]].Floats()
	}
	if errA != nil || errB != nil || errBias != nil {
		p.err = fmt.Errorf("weights cannot be read")
		return 0
	}
	ca := channelOf(a, g.Tensors[a.Inputs[1]].Shape, p.channels, true)
	cb := channelOf(b, g.Tensors[b.Inputs[1]].Shape, p.channels, false)
	ra, rb := make([]float64, p.channels), make([]float64, p.channels)
	for i, v := range wa {
		ra[ca(i)] = max(ra[ca(i)], math.Abs(float64(v)))
	}
	for i, v := range wb {
		rb[cb(i)] = max(rb[cb(i)], math.Abs(float64(v)))
	}
	s := make([]float64, p.channels)
	for c := range s {
		s[c] = 1
		if ra[c] > 0 && rb[c] > 0 {
			s[c] = math.Sqrt(ra[c] / rb[c])
		}
		whole := min(max(p.total[c]*s[c], 1e-4), 1e4)
		if p.least != nil {
			whole = min(max(whole, p.least[c]), p.most[c])
		}
		s[c] = whole / p.total[c]
		p.total[c] = whole
		moved = max(moved, math.Abs(math.Log(s[c])))
	}
	for i := range wa {
		wa[i] = float32(float64(wa[i]) / s[ca(i)])
	}
	for c := range bias {
		bias[c] = float32(float64(bias[c]) / s[c])
	}
	for i := range wb {
		wb[i] = float32(float64(wb[i]) * s[cb(i)])
	}
	g.Tensors[a.Inputs[1]].Buffer = model.FloatBytes(wa)
	g.Tensors[b.Inputs[1]].Buffer = model.FloatBytes(wb)
	if hasBias {
		g.Tensors[a.Inputs[2]].Buffer = model.FloatBytes(bias)
	}
	return moved
}
