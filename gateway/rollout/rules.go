package rollout

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"

	"edgegateway/gateway/pipeline"
	"edgegateway/infer"
)

// Side is what one version did in a stage: in the shadow the samples that it was
// asked too, as a canary, and of the live version, those that it answered.
type Side struct {
	Version  string  `json:"version,omitempty"`
	Samples  uint64  `json:"samples"`
	Errors   float64 `json:"errors"` // the share of inputs that got no answer, 0..1
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Labels   uint64  `json:"labels"`   // samples whose label arrived
	Accuracy float64 `json:"accuracy"` // the share of them that it answered rightly, 0..1
}

// Counters are what is known of a version beside the live one since its stage
// began. They are what rules are written over.
type Counters struct {
	Hours     float64               `json:"hours"`     // since the stage began
	Agreement float64               `json:"agreement"` // the share of the compared samples on which both say the same; 0 for a canary
	Worst     float64               `json:"worst"`     // the share on which they differ, of the class where that is largest
	Dropped   uint64                `json:"dropped"`   // samples that were not asked, for too many waited
	Side                            // the version's own
	Live      Side                  `json:"live"`
	Classes   []pipeline.ClassCount `json:"classes,omitempty"` // as the live version says them, most differences first
	Pairs     []pipeline.PairCount  `json:"pairs,omitempty"`   // what they say where they differ
}

// Bounds of what is told of classes, and of those that count as the worst.
const (
	toldClasses = 20
	fewestOf    = 30
)

// countersOf makes counters of what was counted; labels are added by who has
// them.
func countersOf(n pipeline.BesideCounts, canary bool, now time.Time) Counters {
	c := Counters{Dropped: n.Dropped, Side: sideOf(n.Beside), Live: sideOf(n.Live), Classes: n.Classes, Pairs: n.Pairs}
	if !n.Begun.IsZero() {
		c.Hours = now.Sub(n.Begun).Hours()
	}
	if !canary {
		c.Samples = n.Samples
	}
	if n.Samples > 0 {
		c.Agreement = float64(n.Agreed) / float64(n.Samples)
	}
	for _, k := range c.Classes {
		if k.Samples >= fewestOf {
			c.Worst = max(c.Worst, float64(k.Differ)/float64(k.Samples))
		}
	}
	return c
}

func sideOf(n infer.Counts) Side {
	return Side{
		Version: n.Version, Samples: n.Answers + n.Failures, Errors: n.Failed(),
		P50: millis(n.Quantile(0.5)), P99: millis(n.Quantile(0.99)),
	}
}

// short is c with no more of its tables than a message should hold.
func (c Counters) short() Counters {
	c.Classes = c.Classes[:min(len(c.Classes), toldClasses)]
	c.Pairs = c.Pairs[:min(len(c.Pairs), toldClasses)]
	return c
}

// environment is what rules see.
func (c Counters) environment() map[string]any {
	side := func(s Side) map[string]any {
		return map[string]any{
			"samples": float64(s.Samples), "errors": s.Errors, "p50": s.P50, "p99": s.P99,
			"labels": float64(s.Labels), "accuracy": s.Accuracy,
		}
	}
	differ := map[string]float64{}
	for _, k := range c.Classes {
		differ[k.Label] = float64(k.Differ) / float64(k.Samples)
	}
	env := side(c.Side)
	env["live"] = side(c.Live)
	env["hours"], env["agreement"], env["worst"], env["dropped"] = c.Hours, c.Agreement, c.Worst, float64(c.Dropped)
	env["disagreement"] = differ
	return env
}

// declared are the types of an environment.
func declared() types.Map {
	side := func() types.Map {
		m := types.Map{}
		for _, name := range []string{"samples", "errors", "p50", "p99", "labels", "accuracy"} {
			m[name] = types.Float64
		}
		return m
	}
	env := side()
	env["live"] = side()
	for _, name := range []string{"hours", "agreement", "worst", "dropped"} {
		env[name] = types.Float64
	}
	env["disagreement"] = types.Map{types.Extra: types.Float64}
	return env
}

// ruleNames are those that an error lists.
func ruleNames() []string {
	env := declared()
	names := slices.Sorted(maps.Keys(env))
	for _, name := range slices.Sorted(maps.Keys(env["live"].(types.Map))) {
		names = append(names, "live."+name)
	}
	return names
}

// rule is a condition over counters; the zero rule never holds.
type rule struct {
	text    string
	program *vm.Program
}

func newRule(text string) (rule, error) {
	if text == "" {
		return rule{}, nil
	}
	p, err := pipeline.ConditionOver(text, declared(), ruleNames())
	if err != nil {
		return rule{}, err
	}
	r := rule{text, p}
	// What compiles may fail still, as a division of whole numbers by zero does.
	if _, err := r.holds(Counters{}); err != nil {
		return rule{}, fmt.Errorf("%q: over counters that are all 0: %w", text, err)
	}
	return r, nil
}

// holds says whether it is true of the counters.
func (r rule) holds(c Counters) (bool, error) {
	if r.program == nil {
		return false, nil
	}
	out, err := expr.Run(r.program, c.environment())
	if err != nil {
		return false, err
	}
	is, _ := out.(bool)
	return is, nil
}

// String tells the counters that rules are mostly about.
func (c Counters) String() string {
	s := fmt.Sprintf("%d samples", c.Samples)
	if c.Agreement > 0 || len(c.Classes) > 0 {
		s += fmt.Sprintf(", agreement %.4f", c.Agreement)
	}
	s += fmt.Sprintf(", errors %.4f (live %.4f), p99 %.2f ms (live %.2f ms)", c.Errors, c.Live.Errors, c.P99, c.Live.P99)
	if c.Labels > 0 || c.Live.Labels > 0 {
		s += fmt.Sprintf(", accuracy %.4f of %d labels (live %.4f of %d)", c.Accuracy, c.Labels, c.Live.Accuracy, c.Live.Labels)
	}
	return s
}
