package compress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// Recipe is how a smaller model is made of a float one: steps in their order.
type Recipe struct {
	Steps []Step `yaml:"steps" json:"steps" desc:"what is done, in this order"`
}

// Step is one of them. What it does says which of its fields count; a field
// that is 0 or empty has the default of the command of that name.
type Step struct {
	Do         string  `yaml:"do" json:"do" enum:"prune,cluster,tune,quantize" desc:"what is done"`
	Pattern    string  `yaml:"pattern,omitempty" json:"pattern,omitempty" desc:"prune: unstructured, 1x4, 4x4, 2:4 or channels"`
	Sparsity   float64 `yaml:"sparsity,omitempty" json:"sparsity,omitempty" desc:"prune: the share of weights that becomes 0"`
	MACs       float64 `yaml:"macs,omitempty" json:"macs,omitempty" desc:"prune, pattern channels: the share of multiply-adds that is left"`
	Clusters   int     `yaml:"clusters,omitempty" json:"clusters,omitempty" desc:"cluster: the most values that a layer has"`
	PerChannel bool    `yaml:"per_channel,omitempty" json:"per_channel,omitempty" desc:"cluster: of each channel alone"`
	Scheme     string  `yaml:"scheme,omitempty" json:"scheme,omitempty" desc:"quantize: int8, int16, dynamic or float16"`
	Method     string  `yaml:"method,omitempty" json:"method,omitempty" desc:"quantize: auto, minmax, percentile or mse"`
	Sparse     bool    `yaml:"sparse,omitempty" json:"sparse,omitempty" desc:"quantize: weights of zeros in sparse rows, where the file gains by it"`
	Teacher    bool    `yaml:"teacher,omitempty" json:"teacher,omitempty" desc:"prune, cluster, tune: learn what the model answered as it was, not labels"`
	Epochs     int     `yaml:"epochs,omitempty" json:"epochs,omitempty" desc:"prune, cluster, tune: times that the data is seen; 0: without data"`
	Rate       float64 `yaml:"rate,omitempty" json:"rate,omitempty" desc:"learning rate"`
}

var stepKinds = []string{"prune", "cluster", "tune", "quantize"}

// Validate says what is wrong, each error with its YAML path in front.
func (r Recipe) Validate() error {
	var errs []error
	if len(r.Steps) == 0 {
		errs = append(errs, errors.New("steps: there is none"))
	}
	for i, s := range r.Steps {
		at := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("steps[%d].%s", i, fmt.Sprintf(format, args...)))
		}
		if !slices.Contains(stepKinds, s.Do) {
			at("do: %q is none of %s", s.Do, strings.Join(stepKinds, ", "))
		}
		for _, f := range []struct {
			name string
			set  bool
			of   []string
		}{
			{"pattern", s.Pattern != "", []string{"prune"}}, {"sparsity", s.Sparsity != 0, []string{"prune"}}, {"macs", s.MACs != 0, []string{"prune"}},
			{"clusters", s.Clusters != 0, []string{"cluster"}}, {"per_channel", s.PerChannel, []string{"cluster"}},
			{"scheme", s.Scheme != "", []string{"quantize"}}, {"method", s.Method != "", []string{"quantize"}}, {"sparse", s.Sparse, []string{"quantize"}},
			{"teacher", s.Teacher, []string{"prune", "cluster", "tune"}},
			{"epochs", s.Epochs != 0, []string{"prune", "cluster", "tune"}}, {"rate", s.Rate != 0, []string{"prune", "cluster", "tune"}},
		} {
			if f.set && slices.Contains(stepKinds, s.Do) && !slices.Contains(f.of, s.Do) {
				at("%s: says nothing to %s", f.name, s.Do)
			}
		}
		if s.Do == "tune" && s.Epochs < 1 {
			at("epochs: is missing")
		}
		if s.Teacher && s.Epochs == 0 && s.Do != "tune" {
			at("teacher: there are no epochs in which it is learned from")
		}
		if s.Epochs < 0 || s.Rate < 0 {
			at("epochs: %d, and a rate of %v: neither is below 0", s.Epochs, s.Rate)
		}
		if s.Do == "quantize" && i != len(r.Steps)-1 {
			at("do: quantize is the last step: the others take a float model")
		}
	}
	return errors.Join(errs...)
}

// Kinds is how many kinds of steps there are; training belongs to what it is
// done after.
func (r Recipe) Kinds() int {
	kinds := map[string]bool{}
	for _, s := range r.Steps {
		if s.Do != "tune" {
			kinds[s.Do+s.Pattern] = true
		}
	}
	return len(kinds)
}

// String is the recipe in a line, such as "prune channels to 0.5, int8".
func (r Recipe) String() string {
	if len(r.Steps) == 0 {
		return "as it is"
	}
	var words []string
	for i := 0; i < len(r.Steps); i++ {
		n := 1
		for i+n < len(r.Steps) && r.Steps[i+n] == r.Steps[i] {
			n++
		}
		w := r.Steps[i].String()
		if n > 1 {
			w = fmt.Sprintf("%d times %s", n, w)
		}
		words = append(words, w)
		i += n - 1
	}
	return strings.Join(words, ", ")
}

// String is a step in few words.
func (s Step) String() string {
	w := ""
	switch s.Do {
	case "prune":
		w = fmt.Sprintf("prune %s", cmp.Or(s.Pattern, DefaultPrune().Pattern))
		if s.MACs > 0 {
			w += fmt.Sprintf(" to %.3g of the multiply-adds", s.MACs)
		} else if s.Sparsity > 0 {
			w += fmt.Sprintf(" %.3g", s.Sparsity)
		}
	case "cluster":
		w = fmt.Sprintf("%d clusters", s.Clusters)
	case "quantize":
		if w = cmp.Or(s.Scheme, DefaultConfig().Scheme); s.Sparse {
			w += " in sparse rows"
		}
		return w
	default:
		w = s.Do
	}
	if s.Epochs > 0 {
		w += fmt.Sprintf(" (%d epochs", s.Epochs)
		if s.Teacher {
			w += " by its own answers"
		}
		w += ")"
	}
	return w
}

// Ground is what a recipe works on beside the model.
type Ground struct {
	Learn, Val *train.Dataset // nil: the steps do without data
	Low, High  float64        // of pictures, as Samples has it, and as Structured has it without data
	Train      train.Config   // of what learns; steps say epochs and rate
	Task       Task           // what is learned; "": by what Learn has
	Original   []byte         // whose answers are learned where Learn has neither labels nor targets
	Library    string
	Progress   func(what string, done, of int)
}

// Apply does one step to a model.
func (s Step) Apply(ctx context.Context, g Ground, file []byte) ([]byte, error) {
	m, err := model.Read(file)
	if err != nil {
		return nil, err
	}
	switch s.Do {
	case "prune":
		cfg := DefaultPrune()
		cfg.Pattern, cfg.Sparsity, cfg.MACs = cmp.Or(s.Pattern, cfg.Pattern), s.Sparsity, s.MACs
		if s.Sparsity == 0 && s.MACs == 0 {
			cfg.Sparsity = DefaultPrune().Sparsity
		}
		j := PruneJob{Config: cfg, Samples: g.some(m), Library: g.Library, Progress: g.Progress, Parts: 1}
		if s.Epochs > 0 {
			if j.Tune, err = s.tuning(g); err != nil {
				return nil, err
			}
		}
		if m, _, err = j.Run(ctx, m); err != nil {
			return nil, err
		}
		return m.Write()
	case "cluster":
		cfg := DefaultCluster()
		cfg.Clusters, cfg.PerChannel = cmp.Or(s.Clusters, cfg.Clusters), s.PerChannel
		if m, _, err = Cluster(m, cfg); err != nil {
			return nil, err
		}
	case "quantize":
		return s.quantize(ctx, g, m, file)
	}
	if s.Epochs > 0 {
		t, err := s.tuning(g)
		if err != nil {
			return nil, err
		}
		if m, err = t.Run(ctx, m); err != nil {
			return nil, err
		}
	}
	return m.Write()
}

// mostLooked is how many samples a step that learns nothing looks at,
// mostCompared those on which a quantized model is proved: who runs a recipe
// judges it too.
const mostLooked, mostCompared = 300, 50

// Seeds of made up inputs: those that a step chooses by, and those that judge
// what came of it.
const chooses, judges = 1, 2

// madeUp are inputs for m where there is no data.
func (g Ground) madeUp(m *model.Model, n int, seed uint64) Structured {
	s := MadeUp(m, n, seed)
	s.Low, s.High = g.Low, g.High
	return s
}

// some are samples to look at, made up for m where there is no data.
func (g Ground) some(m *model.Model) Inputs {
	if g.Learn == nil {
		return g.madeUp(m, look, chooses)
	}
	n := g.Learn.Len()
	var at []int
	for i := range min(n, mostLooked) {
		at = append(at, i*n/min(n, mostLooked))
	}
	return &Samples{Set: g.Learn.Subset(at), Low: g.Low, High: g.High}
}

func (s Step) quantize(ctx context.Context, g Ground, m *model.Model, file []byte) ([]byte, error) {
	j := Job{File: file, Config: DefaultConfig(), Library: g.Library, Progress: g.Progress}
	j.Config.Scheme, j.Config.Method, j.Config.Sparse = cmp.Or(s.Scheme, j.Config.Scheme), cmp.Or(s.Method, j.Config.Method), s.Sparse
	if g.Learn != nil {
		j.Calibration = g.some(m)
		j.Judged = sparse{j.Calibration, mostCompared}
	} else {
		j.Calibration = g.madeUp(m, madeUp, chooses)
	}
	made, err := Shorten(ctx, j)
	if err != nil {
		return nil, err
	}
	return made.File, nil
}

// tuning is how a step trains: what is 0 stays 0, what is shared stays shared.
func (s Step) tuning(g Ground) (*Tune, error) {
	if g.Learn == nil {
		return nil, errors.New("training takes data")
	}
	t := &Tune{Config: g.Train, Learn: g.Learn, Val: g.Val, Low: g.Low, High: g.High, Task: g.Task, Library: g.Library, Progress: g.Progress}
	t.Config.Epochs = s.Epochs
	t.Config.Optimizer.Rate = cmp.Or(s.Rate, t.Config.Optimizer.Rate)
	if s.Teacher || g.Learn.Labels == nil && g.Learn.Targets == nil {
		t.Teacher, t.Task = g.Original, ""
	}
	return t, nil
}
