package compress

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"edgegateway/infer/model"
)

// PruneConfig says what is pruned away, and by what it is chosen.
type PruneConfig struct {
	// Sparsity is the share of weights that becomes 0, or of channels that goes.
	// It counts the layers that take part. Of pattern 2:4 it is half, whatever
	// is said here.
	Sparsity float64
	// MACs is, for pattern channels, the share of multiply-adds that is left, in
	// place of Sparsity; 0: Sparsity says.
	MACs float64
	// Pattern is what goes together:
	//	unstructured  single weights
	//	1x4, 4x4      blocks of outputs x inputs of a layer's matrix
	//	2:4           two of four inputs that follow one another
	//	channels      whole channels and neurons, which are removed
	Pattern string
	// Scope is global, where layers are compared with one another, or layer,
	// where each gives the same share.
	Scope string
	// Depthwise lets depthwise convolutions take part in pattern unstructured:
	// they have few weights, each of which counts for much. In pattern channels
	// they follow the layer before them in any case.
	Depthwise bool
	// Last lets the layer that gives the answers take part: it is small, and each
	// of its weights is one class's own. Its channels are the outputs and stay.
	Last bool
	// Least is how many channels a layer keeps, Multiple what their number is
	// rounded up to a multiple of: kernels compute several at a time, and XNNPACK
	// gains a sixth by 8 in place of 1.
	Least, Multiple int
}

// Patterns and Scopes are the values that PruneConfig takes.
var (
	Patterns = []string{"unstructured", "1x4", "4x4", "2:4", "channels"}
	Scopes   = []string{"global", "layer"}
)

// DefaultPrune makes half of the weights 0, wherever they count least.
func DefaultPrune() PruneConfig {
	return PruneConfig{Sparsity: 0.5, Pattern: "unstructured", Scope: "global", Least: 4, Multiple: 8}
}

// Validate says what is wrong.
func (c PruneConfig) Validate() error {
	var errs []error
	if !slices.Contains(Patterns, c.Pattern) {
		errs = append(errs, fmt.Errorf("pattern %q is none of %s", c.Pattern, strings.Join(Patterns, ", ")))
	}
	if !slices.Contains(Scopes, c.Scope) {
		errs = append(errs, fmt.Errorf("scope %q is none of %s", c.Scope, strings.Join(Scopes, ", ")))
	}
	if !(c.Sparsity >= 0 && c.Sparsity < 1) {
		errs = append(errs, fmt.Errorf("a sparsity of %v is outside 0..1", c.Sparsity))
	}
	if !(c.MACs >= 0 && c.MACs < 1) {
		errs = append(errs, fmt.Errorf("%v of the multiply-adds is outside 0..1", c.MACs))
	}
	if c.MACs > 0 && c.Pattern != "channels" {
		errs = append(errs, fmt.Errorf("pattern %s leaves the multiply-adds as many as they are; a share of them goes with pattern channels", c.Pattern))
	}
	if c.Depthwise && c.Pattern != "unstructured" {
		errs = append(errs, fmt.Errorf("depthwise convolutions take part in pattern unstructured alone"))
	}
	if c.Least < 1 || c.Multiple < 1 {
		errs = append(errs, fmt.Errorf("at least %d channels, in multiples of %d: neither may be below 1", c.Least, c.Multiple))
	}
	return errors.Join(errs...)
}

// PruneReport says what became of each layer.
type PruneReport struct {
	Layers []PrunedLayer `json:"layers"`
	// Weights are those of all layers, biases left out; Zeros those that are 0.
	Weights int      `json:"weights"`
	Zeros   int      `json:"zeros"`
	MACs    [2]int   `json:"multiply_adds"` // before and after
	Notes   []string `json:"notes,omitempty"`
}

// PrunedLayer is one layer: Weights and Zeros of the pruned model, Channels
// before and after.
type PrunedLayer struct {
	Op       int    `json:"op"`
	Code     string `json:"code"`
	Name     string `json:"name"` // of its output
	Weights  int    `json:"weights"`
	Zeros    int    `json:"zeros"`
	Channels [2]int `json:"channels"`
	Whole    string `json:"whole,omitempty"` // why it takes no part
}

// Share is the part of the weights that are 0.
func (l PrunedLayer) Share() float64 { return float64(l.Zeros) / float64(max(l.Weights, 1)) }

// Prune gives a float model with fewer weights, chosen by their size alone: by
// patterns other than channels they are 0 in a graph that stays as it is. m is
// not changed.
func Prune(m *model.Model, cfg PruneConfig) (*model.Model, *PruneReport, error) {
	return prune(m, cfg, nil)
}

// prune is Prune; look, where it is not nil, says what channels hold.
func prune(m *model.Model, cfg PruneConfig, look func(*units, *model.Model) (map[int]*moments, error)) (*model.Model, *PruneReport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	was, err := widened(m)
	if err != nil {
		return nil, nil, err
	}
	m = was.Clone()
	if cfg.Pattern == "channels" {
		u := followUnits(m.Main())
		var seen map[int]*moments
		if err = u.some(); err == nil && look != nil {
			seen, err = look(u, m)
		}
		if err == nil {
			err = u.prune(m, cfg, seen)
		}
	} else {
		err = pruneWeights(m, cfg)
	}
	if err != nil {
		return nil, nil, err
	}
	r, err := pruneReport(was, m, cfg)
	return m, r, err
}

// CheckPrune says in a moment what Prune would refuse: a model that is none of
// floats, has no layer that takes part, or no channel that can go.
func CheckPrune(m *model.Model, cfg PruneConfig) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	m, err := widened(m)
	if err != nil {
		return err
	}
	if cfg.Pattern == "channels" {
		return followUnits(m.Main()).some()
	}
	_, err = taking(m.Main(), cfg)
	return err
}

// widened is a copy of a float model with its float16 weights as float32.
func widened(m *model.Model) (*model.Model, error) {
	if err := CheckFloat(m); err != nil {
		return nil, err
	}
	m = m.Clone()
	if _, err := m.Fold(); err != nil {
		return nil, err
	}
	m.Tidy()
	return m, nil
}

// pruneWeights makes weights of m 0.
func pruneWeights(m *model.Model, cfg PruneConfig) error {
	g := m.Main()
	var list []matrix
	at, err := taking(g, cfg)
	if err != nil {
		return err
	}
	for _, i := range at {
		w, err := g.Tensors[i].Floats()
		if err != nil {
			return err
		}
		list = append(list, matrixOf(g.Tensors[i].Shape, w))
	}
	zeroSmallest(list, cfg.Pattern, cfg.Scope, cfg.Sparsity)
	for k, i := range at {
		g.Tensors[i].Buffer = model.FloatBytes(list[k].w)
	}
	return nil
}

// taking are the weights that take part, as tensors.
func taking(g *model.Subgraph, cfg PruneConfig) (list []int, err error) {
	for i := range g.Ops {
		if whole(g, i, cfg) == "" {
			list = append(list, g.Ops[i].Inputs[1])
		}
	}
	if len(list) == 0 {
		return nil, errors.New("the model has no layer that can be pruned, but for depthwise ones or the last, which can be let take part")
	}
	return list, nil
}

// whole says why the weights of the operator at i stay as they are, "" where
// they take part.
func whole(g *model.Subgraph, i int, cfg PruneConfig) string {
	op := &g.Ops[i]
	if _, ok := linear(op.Code); !ok {
		return "no layer with weights"
	}
	switch {
	case !weighted(g, op):
		return "its weights are no float constant of its own"
	case op.Code == "DEPTHWISE_CONV_2D" && !cfg.Depthwise:
		return "depthwise: few weights, each of which counts for much"
	case !cfg.Last && isLast(g, i):
		return "it gives the answers"
	}
	return ""
}

// isLast says whether no other layer with weights takes what op i gives.
func isLast(g *model.Subgraph, i int) bool {
	reached := map[int]bool{}
	for _, o := range g.Ops[i].Outputs {
		reached[o] = true
	}
	for k := i + 1; k < len(g.Ops); k++ {
		op := &g.Ops[k]
		if !slices.ContainsFunc(op.Inputs, func(t int) bool { return reached[t] }) {
			continue
		}
		if _, ok := linear(op.Code); ok {
			return false
		}
		for _, o := range op.Outputs {
			reached[o] = true
		}
	}
	return true
}

// pruneReport tells of a model's layers beside what they were.
func pruneReport(was, m *model.Model, cfg PruneConfig) (*PruneReport, error) {
	g, before := m.Main(), was.Main()
	r := &PruneReport{MACs: [2]int{macs(before), macs(g)}}
	for i := range g.Ops {
		op := &g.Ops[i]
		if _, ok := linear(op.Code); !ok || len(op.Inputs) < 2 || op.Inputs[1] < 0 || !g.Tensors[op.Inputs[1]].Constant() {
			continue
		}
		w, err := g.Tensors[op.Inputs[1]].Floats()
		if err != nil {
			return nil, err
		}
		l := PrunedLayer{Op: i, Code: op.Code, Name: g.Tensors[op.Outputs[0]].Name, Weights: len(w), Channels: [2]int{outChannels(before, &before.Ops[i]), outChannels(g, op)}}
		for _, v := range w {
			if v == 0 {
				l.Zeros++
			}
		}
		if cfg.Pattern != "channels" {
			l.Whole = whole(g, i, cfg)
		}
		r.Weights += l.Weights
		r.Zeros += l.Zeros
		r.Layers = append(r.Layers, l)
	}
	return r, nil
}
