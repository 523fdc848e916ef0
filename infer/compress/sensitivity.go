package compress

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"edgegateway/infer/model"
)

// Layer is how much a model loses by one of its layers alone.
type Layer struct {
	Way        string  `json:"way"` // what was done to it, one of Ways
	Op         int     `json:"op"`
	Code       string  `json:"code"`
	Name       string  `json:"name"` // of its output
	Weights    int     `json:"weights"`
	Difference float64 `json:"difference"` // mean, as a share of the outputs' range
	Top1       float64 `json:"same_top1"`  // share of samples with the same first class
	Classes    bool    `json:"classes"`    // the outputs are classes, so that Top1 means something
	// Lost is what the first figure of quality loses (an error: gains), where
	// the samples have labels.
	Lost float64 `json:"lost"`
}

// Ways are what Sensitivity does to a layer: its weights and values become int8,
// half of its weights and more of them become 0, the smallest first, or all share
// 16 values.
var Ways = []string{"int8", "pruned-50", "pruned-80", "pruned-90", "16-values"}

// Sensitivity makes one layer with weights after the other smaller alone, all
// others staying as they are, in each of some Ways (nil: all), and says what the
// model loses by it, in the order of the ways and of the layers. The first
// result is the float model's quality, nil without labels. Where ctx ends it
// gives the layers that are done, and the error.
func Sensitivity(ctx context.Context, j Job, task Task, ways []string) (*Quality, []Layer, error) {
	if ways == nil {
		ways = Ways
	}
	for _, w := range ways {
		if !slices.Contains(Ways, w) {
			return nil, nil, fmt.Errorf("%q is none of %s", w, strings.Join(Ways, ", "))
		}
	}
	m, stats, fixed, err := j.prepared(ctx)
	if err != nil {
		return nil, nil, err
	}
	judged := j.Judged
	if judged == nil {
		judged = j.Calibration
	}
	labelled, _ := judged.(Labelled)
	var before *Quality
	if labelled != nil && task != "" {
		if before, err = Judge(ctx, j.File, "", j.Library, task, labelled, nil); err != nil {
			return nil, nil, err
		}
	}
	q := &quantizer{m: m, g: m.Main()}
	var ops []int
	for i := range q.g.Ops {
		if q.weightOf(&q.g.Ops[i]) >= 0 {
			ops = append(ops, i)
		}
	}
	if len(ops) == 0 {
		return before, nil, fmt.Errorf("the model has no layer with float weights")
	}
	var list []Layer
	for _, way := range ways {
		for _, i := range ops {
			var small *model.Model
			if way == "int8" {
				small, err = int8Alone(m, i, j.Config, stats, fixed)
			} else {
				small, err = smallerAlone(m, i, way)
			}
			if err != nil {
				return before, list, err
			}
			file, err := small.Write()
			if err != nil {
				return before, list, err
			}
			a, err := Compare(ctx, j.File, file, [2]string{}, j.Library, judged)
			if err != nil {
				return before, list, fmt.Errorf("%s, %s: %w", q.opName(i), way, err)
			}
			op := &q.g.Ops[i]
			l := Layer{Way: way, Op: i, Code: op.Code, Name: q.g.Tensors[op.Outputs[0]].Name, Weights: q.g.Tensors[op.Inputs[1]].Elements(), Difference: a.Relative(), Top1: a.Top1, Classes: a.Classes}
			if before != nil {
				after, err := Judge(ctx, file, "", j.Library, task, labelled, nil)
				if err != nil {
					return before, list, err
				}
				l.Lost = lost(before, after)
			}
			list = append(list, l)
			if j.Progress != nil {
				j.Progress("one layer after the other", len(list), len(ops)*len(ways))
			}
		}
	}
	return before, list, nil
}

// lost is what the first figure loses; of an error, what it gains.
func lost(before, after *Quality) float64 {
	b, c := before.Figures(), after.Figures()
	if len(b) == 0 || len(c) == 0 {
		return 0
	}
	was, is := b[0].Value, c[0].Value
	if math.Abs(was-is) < 1e-12*math.Abs(was) { // sums of the same in another order
		return 0
	}
	if b[0].Name == "mae" {
		return is - was
	}
	return was - is
}

// int8Alone is m with the operator at i alone quantized.
func int8Alone(m *model.Model, i int, cfg Config, stats map[int]*Stats, fixed map[string][2]float64) (*model.Model, error) {
	cfg.Scheme, cfg.Float = "int8", nil
	for k := range m.Main().Ops {
		if k != i {
			cfg.Float = append(cfg.Float, k)
		}
	}
	out, err := Quantize(m, cfg, stats, fixed)
	if err != nil {
		return nil, err
	}
	return out.Model, nil
}

// smallerAlone is m with the weights of the operator at i pruned or shared.
func smallerAlone(m *model.Model, i int, way string) (*model.Model, error) {
	m = m.Clone()
	g := m.Main()
	t := g.Tensors[g.Ops[i].Inputs[1]]
	w, err := t.Floats()
	if err != nil {
		return nil, err
	}
	if way == "16-values" {
		share(w, stretch{run: len(w), step: len(w), n: 1}, ClusterConfig{Clusters: 16, Method: "linear"})
	} else {
		part := map[string]float64{"pruned-50": 0.5, "pruned-80": 0.8, "pruned-90": 0.9}[way]
		zeroSmallest([]matrix{matrixOf(t.Shape, w)}, "unstructured", "layer", part)
	}
	t.Buffer = model.FloatBytes(w)
	g.Ops[i].Inputs[1] = g.Add(t)
	m.Tidy()
	return m, nil
}
