package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"edgegateway/infer/compress"
	"edgegateway/infer/train"
	"edgegateway/internal/chart"
)

// alarm is from where on a reconstruction error is worth an alert: twice the
// largest of all samples that were given, which are taken for good ones.
type alarm struct {
	When   float64          `json:"when_above"`
	Clear  float64          `json:"clear_below"`
	Scores *compress.Spread `json:"scores"`
}

func (t *training) alarm(ctx context.Context, file []byte) (*alarm, error) {
	q, err := compress.Judge(ctx, file, "", "", compress.Reconstruction, &compress.Samples{Set: t.all}, nil)
	if err != nil {
		return nil, fmt.Errorf("the exported model: %w", err)
	}
	return &alarm{2 * q.Scores.Largest, q.Scores.Largest, q.Scores}, nil
}

func qualityLine(q *compress.Quality) string {
	if q.Task == compress.Classes {
		line := fmt.Sprintf("%.2f %% right", 100*q.Top1)
		if q.Ranked {
			line += fmt.Sprintf(", AUC %.4f", q.AUC)
		}
		return line
	}
	line := fmt.Sprintf("mean absolute error %.4g, root of the squared %.4g", q.MAE, q.RMSE)
	if q.Task == compress.Reconstruction && q.Ranked {
		line += fmt.Sprintf(", AUC of the errors %.4f", q.AUC)
	}
	if q.Task == compress.Forecast {
		line += fmt.Sprintf(" (saying that nothing changes: %.4g)", q.Persistence)
	}
	return line
}

// maxDrawn is the most classes of a confusion matrix that anybody can read.
const maxDrawn = 50

// learned is what there is to say of a training.
type learned struct {
	Config  train.Config      `json:"config"`
	History []train.Epoch     `json:"history"`
	Test    *compress.Quality `json:"test"`
	Alert   *alarm            `json:"alert,omitempty"`
	Distil  *lesson           `json:"distillation,omitempty"`
}

// report writes metrics and figures beside the model.
func (t *training) report(history []train.Epoch, q *compress.Quality, a *alarm) (*learned, error) {
	stem := strings.TrimSuffix(t.out, ".tflite")
	made := &learned{t.cfg, history, q, a, t.lesson}
	text, err := json.MarshalIndent(made, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := writeWhole(stem+".metrics.json", append(text, '\n')); err != nil {
		return nil, err
	}
	series := []chart.Series{{Name: "loss"}, {Name: "validation loss"}, {Name: "accuracy", Dash: true}, {Name: "validation accuracy", Dash: true}}
	for _, e := range history {
		for i, v := range []float64{e.Loss, e.ValLoss, e.Accuracy, e.ValAccuracy} {
			series[i].Y = append(series[i].Y, v)
		}
	}
	series = slices.DeleteFunc(series, func(s chart.Series) bool { return !slices.ContainsFunc(s.Y, func(v float64) bool { return v-v == 0 }) })
	figures := map[string]*chart.Drawing{".curves": chart.Lines{Title: "Training of " + filepath.Base(stem), X: "epoch", Y: "loss, accuracy", Series: series}.Draw()}
	if q != nil && len(q.Confused) > 0 && len(q.Confused) <= maxDrawn {
		heat := chart.Heat{Title: "Answers of " + filepath.Base(stem), X: "answer", Y: "is", Rows: t.learn.Classes, Columns: t.learn.Classes, PerRow: true}
		for _, row := range q.Confused {
			var v []float64
			for _, n := range row {
				v = append(v, float64(n))
			}
			heat.Values = append(heat.Values, v)
		}
		figures[".confusion"] = heat.Draw()
	}
	return made, writeFigures(stem, figures)
}
