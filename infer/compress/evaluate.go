package compress

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"edgegateway/infer"
	"edgegateway/infer/train"
)

// Task says what a model's answers are judged as.
type Task string

// The tasks that Evaluate knows.
const (
	Classes        Task = "classes"        // one output a class, or one for two classes
	Regression     Task = "regression"     // outputs are the targets
	Forecast       Task = "forecast"       // the next values, judged against persistence
	Reconstruction Task = "reconstruction" // outputs are the inputs; labels say what is an anomaly
)

// Quality is how right a model's answers are. Fields that the task has not are
// 0, and left out of Figures and JSON.
type Quality struct {
	Task     Task
	Samples  int
	Top1     float64
	Top5     float64
	Classes  []ClassQuality
	Confused [][]int // [true class][answer]
	// AUC is the area under the ROC curve of the score of the second of two
	// classes, or of the anomaly score; PR that under precision and recall
	// (average precision). Ranked says that both classes were there.
	AUC    float64
	PR     float64
	Ranked bool
	// MAE and RMSE are errors in the targets' units; R2 the share of their
	// variance that is explained; Persistence the MAE of saying that nothing
	// changes.
	MAE         float64
	RMSE        float64
	R2          float64
	Persistence float64
	// Baseline is what one feature alone gives; nil where it was not asked for.
	Baseline *Baseline
	// Scores are those of a reconstruction, as results have them: the mean
	// squared error of each sample.
	Scores *Spread
}

// Spread is how numbers lie.
type Spread struct {
	Median  float64 `json:"median"`
	P99     float64 `json:"p99"`
	Largest float64 `json:"largest"`
}

// ClassQuality is one class.
type ClassQuality struct {
	Name      string  `json:"name"`
	Samples   int     `json:"samples"`
	Precision float64 `json:"precision"`
	Recall    float64 `json:"recall"`
}

// Labelled is samples with what a model should answer.
type Labelled interface {
	Inputs
	Data() *train.Dataset // labels and targets of the same samples
}

// Judge runs a model on samples and says how right it is. delegate is "" for
// the built-in kernels; progress may be nil.
func Judge(ctx context.Context, file []byte, delegate, library string, task Task, data Labelled, progress func(done, of int)) (*Quality, error) {
	s, err := infer.OpenSession(file, cmp.Or(delegate, "builtin"), library)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	d := data.Data()
	j := &judge{d: d, q: &Quality{Task: task, Samples: data.Len()}}
	if err := j.begin(s); err != nil {
		return nil, err
	}
	var out []float64
	for i := range data.Len() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := data.Fill(s.In, i); err != nil {
			return nil, fmt.Errorf("sample %d: %w", i, err)
		}
		var in []float64
		if task == Reconstruction {
			in = s.In[0].Floats(nil)
		}
		if err := s.Invoke(); err != nil {
			return nil, fmt.Errorf("sample %d: %w", i, err)
		}
		out = s.Out[0].Floats(out[:0])
		for k, v := range out {
			if v-v != 0 {
				return nil, fmt.Errorf("sample %d: the model answers %v as its value %d: such answers cannot be judged", i, v, k)
			}
		}
		j.take(i, in, out)
		if progress != nil {
			progress(i+1, data.Len())
		}
	}
	j.end()
	return j.q, nil
}

// judge gathers answers.
type judge struct {
	d      *train.Dataset
	q      *Quality
	width  int
	scores []float64 // of anomalies
	abs    float64
	sq     float64
	still  float64 // of persistence
	mean   []float64
	spread float64
}

func (j *judge) begin(s *infer.Session) error {
	j.width = s.Out[0].Len()
	switch j.q.Task {
	case Classes:
		n := len(j.d.Classes)
		if j.d.Labels == nil {
			return fmt.Errorf("data %s has no classes; judge it as regression", j.d.Name)
		}
		if j.width != 1 && j.width < n || j.width == 1 && n > 2 {
			return fmt.Errorf("data %s has %d classes, the model answers with %d values", j.d.Name, n, j.width)
		}
		j.q.Confused = make([][]int, n)
		for i := range j.q.Confused {
			j.q.Confused[i] = make([]int, max(n, j.width))
		}
	case Regression, Forecast:
		if j.d.Targets == nil && j.d.Labels == nil {
			return fmt.Errorf("data %s has neither labels nor values to judge by", j.d.Name)
		}
		if j.d.Targets == nil || j.d.Width != j.width {
			return fmt.Errorf("data %s has %d targets a sample, the model answers with %d values", j.d.Name, j.d.Width, j.width)
		}
		j.mean = make([]float64, j.width)
		for i, v := range j.d.Targets {
			j.mean[i%j.width] += float64(v) / float64(len(j.d.Targets)/j.width)
		}
		for i, v := range j.d.Targets {
			d := float64(v) - j.mean[i%j.width]
			j.spread += d * d
		}
	case Reconstruction:
		if n := s.In[0].Len(); n != j.width {
			return fmt.Errorf("the model takes %d values and answers with %d: it reconstructs nothing", n, j.width)
		}
	default:
		return fmt.Errorf("there is no task %q", j.q.Task)
	}
	return nil
}

func (j *judge) take(i int, in, out []float64) {
	switch j.q.Task {
	case Classes:
		best := 0
		if j.width == 1 {
			if out[0] > 0.5 {
				best = 1
			}
			j.scores = append(j.scores, out[0])
		} else {
			for k, v := range out {
				if v > out[best] {
					best = k
				}
			}
			if len(j.d.Classes) == 2 {
				j.scores = append(j.scores, out[1]-out[0])
			}
		}
		label := int(j.d.Labels[i])
		j.q.Confused[label][best]++
		above := 0
		for k, v := range out {
			if k != label && label < len(out) && v > out[label] {
				above++
			}
		}
		if above < 5 {
			j.q.Top5++
		}
	case Regression, Forecast:
		inputs := j.d.Values
		size := 0
		if inputs != nil {
			size = len(inputs) / j.d.Len()
		}
		for k, v := range out {
			want := float64(j.d.Targets[i*j.width+k])
			d := v - want
			j.abs += math.Abs(d)
			j.sq += d * d
			if j.q.Task == Forecast && size > 0 {
				// The last row of the window, again and again.
				row := j.row()
				j.still += math.Abs(float64(inputs[i*size+size-row+k%row]) - want)
			}
		}
	case Reconstruction:
		sum := 0.0
		for k, v := range out {
			d := v - in[k]
			sum += d * d
		}
		score := sum / float64(len(out))
		j.scores = append(j.scores, score)
		j.sq += sum
		for k, v := range out {
			j.abs += math.Abs(v - in[k])
		}
	}
}

// row is how many values a row of a forecast's window has.
func (j *judge) row() int { return max(j.d.Row, 1) }

func (j *judge) end() {
	n := float64(max(j.q.Samples, 1))
	q := j.q
	switch q.Task {
	case Classes:
		q.Top5 /= n
		for c, row := range q.Confused {
			k := ClassQuality{Name: j.d.Classes[c]}
			answered := 0
			for t := range q.Confused {
				answered += q.Confused[t][c]
			}
			for _, m := range row {
				k.Samples += m
			}
			q.Top1 += float64(row[c]) / n
			if answered > 0 {
				k.Precision = float64(row[c]) / float64(answered)
			}
			if k.Samples > 0 {
				k.Recall = float64(row[c]) / float64(k.Samples)
			}
			q.Classes = append(q.Classes, k)
		}
	default:
		values := n * float64(j.width)
		q.MAE, q.RMSE, q.Persistence = j.abs/values, math.Sqrt(j.sq/values), j.still/values
		if j.spread > 0 {
			q.R2 = 1 - j.sq/j.spread
		}
	}
	if q.Task == Reconstruction && len(j.scores) > 0 {
		v := slices.Sorted(slices.Values(j.scores))
		q.Scores = &Spread{v[len(v)/2], v[len(v)*99/100], v[len(v)-1]}
	}
	if len(j.scores) > 0 && j.d.Labels != nil && len(j.d.Classes) == 2 {
		scores, labels := j.scores, j.d.Labels
		if j.d.Positive == j.d.Classes[0] {
			labels = make([]int32, len(labels))
			for i, l := range j.d.Labels {
				labels[i] = 1 - l
				if q.Task == Classes { // the score is that of the second class
					scores[i] = -scores[i]
				}
			}
		}
		q.AUC, q.PR = ranked(scores, labels)
		q.Ranked = q.AUC == q.AUC
		if !q.Ranked {
			q.AUC, q.PR = 0, 0
		}
	}
}

// ranked gives the area under the ROC curve (the chance that a sample of class
// 1 scores above one of class 0, ties half) and the average precision.
func ranked(scores []float64, labels []int32) (auc, pr float64) {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	positive, negative := 0.0, 0.0
	for _, l := range labels {
		if l == 1 {
			positive++
		} else {
			negative++
		}
	}
	if positive == 0 || negative == 0 {
		return math.NaN(), math.NaN()
	}
	tp, fp := 0.0, 0.0
	for i := 0; i < len(order); {
		// All of one score at once.
		k, p, m := i, 0.0, 0.0
		for ; k < len(order) && cmp.Compare(scores[order[k]], scores[order[i]]) == 0; k++ {
			if labels[order[k]] == 1 {
				p++
			} else {
				m++
			}
		}
		auc += m * (tp + p/2)
		tp, fp = tp+p, fp+m
		if p > 0 {
			pr += p / positive * tp / (tp + fp)
		}
		i = k
	}
	return auc / (positive * negative), pr
}
