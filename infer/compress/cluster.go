package compress

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"edgegateway/infer/model"
)

// ClusterMethods are the values of ClusterConfig.Method.
var ClusterMethods = []string{"linear", "optimal"}

// ClusterConfig says how weights are shared.
type ClusterConfig struct {
	// Clusters is the most values that a layer has then, or that a channel has;
	// the 0 of a pruned layer is one of them.
	Clusters int `json:"clusters"`
	// PerChannel shares within each output channel alone: nearer to the weights,
	// and more values to keep.
	PerChannel bool `json:"per_channel"`
	// Method is linear, k-means from evenly spaced centres (arXiv:1510.00149), or
	// optimal, the least squared error there is. Layers too large for its table
	// (2^25 weights times clusters) are shared by k-means, and the report says so.
	Method string `json:"method"`
}

// DefaultCluster is 16 values a layer: four bits a weight.
func DefaultCluster() ClusterConfig { return ClusterConfig{Clusters: 16, Method: "linear"} }

// Validate says what is wrong.
func (c ClusterConfig) Validate() error {
	if c.Clusters < 2 || c.Clusters > 4096 {
		return fmt.Errorf("clusters: %d is outside 2..4096", c.Clusters)
	}
	if !slices.Contains(ClusterMethods, c.Method) {
		return fmt.Errorf("method: %q is none of %s", c.Method, strings.Join(ClusterMethods, ", "))
	}
	return nil
}

// ClusterReport says what became of each layer with weights.
type ClusterReport struct {
	Config ClusterConfig    `json:"config"`
	Layers []ClusteredLayer `json:"layers"`
	Notes  []string         `json:"notes,omitempty"`
}

// ClusteredLayer is one layer whose weights are shared.
type ClusteredLayer struct {
	Op      int    `json:"op"`
	Code    string `json:"code"`
	Name    string `json:"name"` // of its weights
	Weights int    `json:"weights"`
	Zeros   int    `json:"zeros"` // which stay 0
	// Before and Distinct are the different values that the layer had and has;
	// Clusters the most of one channel, or of the layer.
	Before   int `json:"values_before"`
	Distinct int `json:"values"`
	Clusters int `json:"clusters"`
	// RMS is the root of the mean squared change of a weight, Relative that as a
	// share of the root of the mean squared weight.
	RMS      float64 `json:"rms_error"`
	Relative float64 `json:"relative_error"`

	old []float32
}

// Cluster makes the weights of convolutions and dense layers share few values:
// each becomes the mean of its cluster. What is 0 stays 0 and is a cluster of its
// own; biases stay as they are. The .tflite is as large as before: the few values
// pay where it is zipped or packed. m, a float model, is not changed.
func Cluster(m *model.Model, cfg ClusterConfig) (*model.Model, *ClusterReport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	if err := CheckFloat(m); err != nil {
		return nil, nil, err
	}
	m = m.Clone()
	if _, err := m.Fold(); err != nil {
		return nil, nil, err
	}
	g, r := m.Main(), &ClusterReport{Config: cfg}
	seen := map[int]bool{}
	for i := range g.Ops {
		op := &g.Ops[i]
		dim, ok := sharing(op.Code)
		if !ok || len(op.Inputs) < 2 || op.Inputs[1] < 0 || seen[op.Inputs[1]] {
			continue
		}
		t := &g.Tensors[op.Inputs[1]]
		if !t.Constant() || t.Type != model.Float32 || t.Sparsity != nil || len(t.Shape) <= dim || t.Elements() == 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("op %d %s is left as it is: its weights are no dense float constant", i, op.Code))
			continue
		}
		seen[op.Inputs[1]] = true
		v, err := t.Floats()
		if err != nil {
			return nil, nil, fmt.Errorf("op %d %s: %w", i, op.Code, err)
		}
		for j, x := range v {
			if x-x != 0 {
				return nil, nil, fmt.Errorf("op %d %s: weight %d is %v", i, op.Code, j, x)
			}
		}
		old := slices.Clone(v)
		groups := channels(t.Shape, dim)
		if !cfg.PerChannel {
			groups = []stretch{{run: len(v), step: len(v), n: 1}}
		}
		l := ClusteredLayer{Op: i, Code: op.Code, Name: t.Name, Weights: len(v), Before: distinct(old), old: old}
		plain := 0
		for _, at := range groups {
			n, asked := share(v, at, cfg)
			l.Clusters = max(l.Clusters, n)
			if !asked {
				plain++
			}
		}
		if plain > 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("op %d %s is shared by k-means: %d weights are too many for the table of the optimum", i, op.Code, len(v)/len(groups)))
		}
		l.measure(v)
		t.Buffer = model.FloatBytes(v)
		r.Layers = append(r.Layers, l)
	}
	if len(r.Layers) == 0 {
		return nil, nil, fmt.Errorf("the model has no convolution or dense layer with float weights: there is nothing to share")
	}
	return m, r, nil
}

// sharing gives the dimension of the output channels of an operator's weights.
func sharing(code string) (dim int, ok bool) {
	switch code {
	case "CONV_2D", "FULLY_CONNECTED":
		return 0, true
	case "DEPTHWISE_CONV_2D":
		return 3, true
	}
	return 0, false
}

// stretch is every step-th of some weights: n runs of length run.
type stretch struct{ from, run, step, n int }

// channels divides weights along a dimension.
func channels(shape []int, dim int) (list []stretch) {
	outer, inner := elements(shape[:dim]), elements(shape[dim+1:])
	for c := range shape[dim] {
		list = append(list, stretch{from: c * inner, run: inner, step: shape[dim] * inner, n: outer})
	}
	return list
}

// each calls f with the index of every weight.
func (s stretch) each(f func(i int)) {
	for k := range s.n {
		for i := range s.run {
			f(s.from + k*s.step + i)
		}
	}
}

// share makes the weights at those places share values, and gives their number;
// asked is false where it was not by the method that was asked for.
func share(v []float32, at stretch, cfg ClusterConfig) (clusters int, asked bool) {
	var some []float32
	k := cfg.Clusters
	at.each(func(i int) {
		if v[i] != 0 {
			some = append(some, v[i])
		}
	})
	if len(some) < at.n*at.run {
		k--
		clusters++
	}
	if asked = true; len(some) == 0 {
		return clusters, asked
	}
	l := newLine(some)
	values := slices.Compact(slices.Clone(l.v))
	if len(values) <= k { // few enough as they are
		return clusters + len(values), asked
	}
	var cuts []int
	if cfg.Method == "optimal" {
		cuts = l.optimal(k)
		asked = cuts != nil
	}
	if cuts == nil {
		cuts = l.lloyd(k)
	}
	cuts = l.whole(cuts)
	clusters += len(cuts) - 1
	ends, means := make([]float32, 0, len(cuts)), make([]float32, 0, len(cuts)) // the largest value and the mean of each
	for i := 1; i < len(cuts); i++ {
		ends = append(ends, l.v[cuts[i]-1])
		means = append(means, float32(l.mean(cuts[i-1], cuts[i])))
	}
	at.each(func(i int) {
		if v[i] != 0 {
			v[i] = means[sort.Search(len(ends), func(j int) bool { return ends[j] >= v[i] })]
		}
	})
	return clusters, asked
}

// Measure counts values and errors anew, of the model that Cluster gave as
// training has changed it since.
func (r *ClusterReport) Measure(m *model.Model) error {
	g := m.Main()
	for i := range r.Layers {
		l := &r.Layers[i]
		if l.Op >= len(g.Ops) || g.Ops[l.Op].Code != l.Code {
			return fmt.Errorf("op %d of the model is no %s: it is another model", l.Op, l.Code)
		}
		v, err := g.Tensors[g.Ops[l.Op].Inputs[1]].Floats()
		if err != nil {
			return fmt.Errorf("op %d %s: %w", l.Op, l.Code, err)
		}
		if len(v) != l.Weights {
			return fmt.Errorf("op %d %s has %d weights, not %d: it is another model", l.Op, l.Code, len(v), l.Weights)
		}
		l.measure(v)
	}
	return nil
}

// measure counts values and errors.
func (l *ClusteredLayer) measure(now []float32) {
	l.Distinct, l.Zeros = distinct(now), 0
	sq, all := 0.0, 0.0
	for i, x := range l.old {
		if x == 0 {
			l.Zeros++
		}
		d := float64(now[i]) - float64(x)
		sq += d * d
		all += float64(x) * float64(x)
	}
	l.RMS = math.Sqrt(sq / float64(len(now)))
	if all > 0 {
		l.Relative = math.Sqrt(sq / all)
	}
}

func distinct(v []float32) int {
	seen := map[float32]bool{}
	for _, x := range v {
		seen[x] = true
	}
	return len(seen)
}
