package train

import (
	"fmt"
	"math"
)

// Param is one trained array and its gradient, with what the optimizer keeps.
type Param struct {
	Name  string
	Shape []int
	W, G  []float32 // of the product of Shape
	// Decay says whether weight decay and L2 apply: to weights, not to biases
	// and the parameters of batch norm.
	Decay bool

	m, v   []float32 // first and second moment
	fake   []float32 // what the passes use for W, in quantization-aware training
	frozen bool      // takes no step: running averages, layers that are kept
	kept   bool      // never changes at all
	hold   holds
}

func newParam(name string, shape []int, decay bool) *Param {
	n := product(shape)
	return &Param{Name: name, Shape: shape, W: make([]float32, n), G: make([]float32, n), Decay: decay}
}

func product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// OptimizerConfig says how weights follow their gradients.
type OptimizerConfig struct {
	Kind     string  `yaml:"kind" enum:"adam,adamw,sgd" desc:"how weights follow their gradients"`
	Rate     float64 `yaml:"rate" desc:"learning rate"`
	Momentum float64 `yaml:"momentum" desc:"sgd: share of the last step that is kept"`
	Decay    float64 `yaml:"decay" desc:"adamw: share of a weight that goes each step, times the rate"`
	Schedule string  `yaml:"schedule" enum:"constant,cosine,step" desc:"how the rate changes: not at all, down along a cosine, a tenth at 50 % and 75 %"`
	Warmup   int     `yaml:"warmup" desc:"epochs over which the rate rises from 0"`
}

// DefaultOptimizer is Adam with its authors' rate.
func DefaultOptimizer() OptimizerConfig {
	return OptimizerConfig{Kind: "adam", Rate: 0.001, Momentum: 0.9, Decay: 0.01, Schedule: "constant"}
}

// Validate says what is wrong.
func (c OptimizerConfig) Validate() error {
	switch {
	case c.Kind != "adam" && c.Kind != "adamw" && c.Kind != "sgd":
		return fmt.Errorf("optimizer.kind: %q is none of adam, adamw, sgd", c.Kind)
	case c.Schedule != "constant" && c.Schedule != "cosine" && c.Schedule != "step":
		return fmt.Errorf("optimizer.schedule: %q is none of constant, cosine, step", c.Schedule)
	case !(c.Rate > 0):
		return fmt.Errorf("optimizer.rate: %v is not above 0", c.Rate)
	case !(c.Momentum >= 0 && c.Momentum < 1):
		return fmt.Errorf("optimizer.momentum: %v is outside 0..1", c.Momentum)
	case !(c.Decay >= 0 && c.Decay < 1):
		return fmt.Errorf("optimizer.decay: %v is outside 0..1", c.Decay)
	case c.Warmup < 0:
		return fmt.Errorf("optimizer.warmup: %d is negative", c.Warmup)
	}
	return nil
}

// rate is the learning rate at a point of the training, done from 0 to 1.
func (c OptimizerConfig) rate(done float64, epochs int) float64 {
	r := c.Rate
	switch c.Schedule {
	case "cosine":
		r *= 0.5 * (1 + math.Cos(math.Pi*min(done, 1)))
	case "step":
		if done >= 0.75 {
			r *= 0.01
		} else if done >= 0.5 {
			r *= 0.1
		}
	}
	if at := done * float64(epochs); c.Warmup > 0 && at < float64(c.Warmup) {
		r *= at / float64(c.Warmup)
	}
	return r
}

// optimizer takes steps.
type optimizer struct {
	cfg      OptimizerConfig
	step     int
	relative bool // see Trainer.Relative
}

// The constants of Adam's paper, arXiv:1412.6980.
const (
	beta1, beta2 = 0.9, 0.999
	epsilon      = 1e-7
)

// take moves all weights one step against their gradients.
func (o *optimizer) take(params []*Param, rate float64) {
	o.step++
	for _, p := range params {
		if p.frozen {
			continue
		}
		if o.cfg.Kind == "sgd" {
			o.sgd(p, float32(rate))
			continue
		}
		if p.m == nil {
			p.m, p.v = make([]float32, len(p.W)), make([]float32, len(p.W))
		}
		// Both corrections of the moments' start at 0 go into the rate and
		// epsilon, as the paper's section 2 has it.
		c1, c2 := 1-math.Pow(beta1, float64(o.step)), math.Sqrt(1-math.Pow(beta2, float64(o.step)))
		size := 1.0
		if o.relative {
			size = p.size()
		}
		s := adamStep{rate: float32(rate * size * c2 / c1), beta1: beta1, beta2: beta2, epsilon: float32(epsilon * c2)}
		if o.cfg.Kind == "adamw" && p.Decay {
			s.decay = float32(rate * o.cfg.Decay)
		}
		adam(p.W, p.G, p.m, p.v, s)
	}
}

// size is the root of the mean square of what is not 0, in tenths, about which
// Glorot's first weights are. Biases of 0 are to move too.
func (p *Param) size() float64 {
	sum, n := 0.0, 0
	for _, w := range p.W {
		if w != 0 {
			sum += float64(w) * float64(w)
			n++
		}
	}
	least := 1e-4
	if !p.Decay {
		least = 0.1
	}
	return min(max(10*math.Sqrt(sum/float64(max(n, 1))), least), 100)
}

// sgd keeps its velocity in m.
func (o *optimizer) sgd(p *Param, rate float32) {
	mu := float32(o.cfg.Momentum)
	if mu == 0 {
		for i, g := range p.G {
			p.W[i] -= rate * g
		}
		return
	}
	if p.m == nil {
		p.m = make([]float32, len(p.W))
	}
	for i, g := range p.G {
		p.m[i] = mu*p.m[i] - rate*g
		p.W[i] += p.m[i]
	}
}

// adamStep is what one step of Adam is made of; decay is that of AdamW
// (arXiv:1711.05101).
type adamStep struct {
	rate, beta1, beta2, epsilon, decay float32
}

// adam is m = b1 m + (1-b1) g; v = b2 v + (1-b2) g²;
// w = (1-decay) w - rate m / (sqrt(v) + epsilon).
func adam(w, g, m, v []float32, s adamStep) {
	if fast != nil {
		fast.adam(w, g, m, v, s)
		return
	}
	adamPlain(w, g, m, v, s)
}

// leastMoment is the least moment that is kept, as 0 otherwise: where a
// gradient stays 0 they would fade for ever among numbers so small that
// processors take a hundred times as long for them.
const leastMoment = 1e-30

func adamPlain(w, g, m, v []float32, s adamStep) {
	g, m, v = g[:len(w)], m[:len(w)], v[:len(w)]
	c1, c2, keep, least := 1-s.beta1, 1-s.beta2, 1-s.decay, math.Float32bits(leastMoment)
	for i, x := range g {
		mm := s.beta1*m[i] + c1*x
		vv := s.beta2*v[i] + c2*x*x
		// Without its sign, which nobody foretells: as a branch it costs more than
		// the root.
		if math.Float32bits(mm)&^(1<<31) < least {
			mm = 0
		}
		if vv < leastMoment {
			vv = 0
		}
		m[i], v[i] = mm, vv
		w[i] = keep*w[i] - s.rate*mm/(float32(math.Sqrt(float64(vv)))+s.epsilon)
	}
}
