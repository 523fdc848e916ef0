package compress

import (
	"context"

	"edgegateway/infer/model"
)

// PruneJob is a model to prune with samples.
type PruneJob struct {
	Config  PruneConfig
	Samples Inputs // of which no labels are needed; nil: made up inputs
	Library string // the TensorFlow Lite library; "": the one in the program
	// Progress is told what is being done, and how far; may be nil.
	Progress func(what string, done, of int)
}

// look is how many samples say what channels hold.
const look = 512

// Run prunes m. Of pattern channels the samples say which ones are missed least,
// and what stays takes over what they said; other patterns look at weights
// alone, as Prune does. The report says where inputs were made up.
func (j PruneJob) Run(ctx context.Context, m *model.Model) (*model.Model, *PruneReport, error) {
	samples, note := j.Samples, ""
	if samples == nil {
		samples, note = Structured{N: look, Seed: 1}, "what channels hold was looked at on made up inputs: give --data for real ones"
	}
	if j.Progress == nil {
		j.Progress = func(string, int, int) {}
	}
	small, report, err := prune(m, j.Config, func(u *units, m *model.Model) (map[int]*moments, error) {
		return u.seen(ctx, m, j.Library, sparse{samples, look}, func(done, of int) { j.Progress("looking at channels", done, of) })
	})
	if err == nil && note != "" && j.Config.Pattern == "channels" {
		report.Notes = append(report.Notes, note)
	}
	return small, report, err
}
