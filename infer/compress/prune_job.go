package compress

import (
	"context"
	"fmt"
	"math"

	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// PruneJob is a model to prune with samples.
type PruneJob struct {
	Config  PruneConfig
	Samples Inputs // of which no labels are needed; nil: made up inputs
	Library string // the TensorFlow Lite library; "": the one in the program
	// Progress is told what is being done, and how far; may be nil.
	Progress func(what string, done, of int)
	// Tune trains on while the model is pruned; nil: it is not trained. Weights
	// become 0 little by little over the first three fifths of its steps. Channels
	// go in so many Parts, 0: 3, with half of the epochs between them.
	Tune  *Tune
	Parts int
}

// look is how many samples say what channels hold.
const look = 512

// Run prunes m. Of pattern channels the samples say which ones are missed least,
// and what stays takes over what they said; other patterns look at weights
// alone, as Prune does. The report says where inputs were made up. Where ctx ends
// in a training the model comes as far as it was trained, pruned to the end,
// beside the error of ctx; before the first epoch is whole there is none.
func (j PruneJob) Run(ctx context.Context, m *model.Model) (*model.Model, *PruneReport, error) {
	if j.Progress == nil {
		j.Progress = func(string, int, int) {}
	}
	if j.Tune == nil {
		small, report, err := j.once(ctx, m)
		if err == nil {
			report.Notes = append(report.Notes, undone(m, small)...)
		}
		return small, report, err
	}
	if err := j.Config.Validate(); err != nil {
		return nil, nil, err
	}
	was, err := widened(m)
	if err != nil {
		return nil, nil, err
	}
	tune, say, epochs := *j.Tune, j.Tune.Epoch, 0
	tune.Epoch = func(e train.Epoch) {
		if epochs++; say != nil {
			say(e)
		}
	}
	j.Tune = &tune
	var notes []string
	if j.Config.Pattern == "channels" {
		m, notes, err = j.inParts(ctx, was)
	} else {
		m, err = j.gradually(ctx, was)
	}
	if m == nil || err != nil && epochs == 0 {
		return nil, nil, err
	}
	r, failed := pruneReport(was, m, j.Config)
	if failed != nil {
		return nil, nil, failed
	}
	r.Notes = append(append(r.Notes, notes...), undone(was, m)...)
	return m, r, err
}

// once prunes without training.
func (j PruneJob) once(ctx context.Context, m *model.Model) (*model.Model, *PruneReport, error) {
	samples, note := j.Samples, ""
	if samples == nil {
		samples, note = MadeUp(m, look, 1), "what channels hold was looked at on made up inputs: give samples for real ones"
	}
	small, report, err := prune(m, j.Config, func(u *units, m *model.Model) (map[int]*moments, error) {
		return u.seen(ctx, m, j.Library, sparse{samples, look}, func(done, of int) { j.Progress("looking at channels", done, of) })
	})
	if err == nil && note != "" && j.Config.Pattern == "channels" {
		report.Notes = append(report.Notes, note)
	}
	return small, report, err
}

// undone says what zeros and shared values a model had that a smaller one has
// no more, for what channels said that went is written into the weights that stay.
func undone(was, now *model.Model) (notes []string) {
	const order = ": take channels out first, then prune weights and share values"
	zeros, shared := spared(was)
	left, still := spared(now)
	if left < zeros-0.01 {
		notes = append(notes, fmt.Sprintf("%.2f %% of the weights were 0, and %.2f %% are: those that stay took over what channels said that went, zeros too%s", 100*zeros, 100*left, order))
	}
	if still < shared {
		notes = append(notes, fmt.Sprintf("the weights of %d layers shared values, and of %d do: those that stay took over what channels said that went, each its own%s", shared, still, order))
	}
	return notes
}

// spared is the share of weights that are 0, and the number of layers whose weights
// share values.
func spared(m *model.Model) (zeros float64, shared int) {
	g, all := m.Main(), 0
	for i := range g.Ops {
		if op := &g.Ops[i]; weighted(g, op) {
			t := &g.Tensors[op.Inputs[1]]
			w, err := t.Floats()
			if err != nil {
				continue
			}
			for _, v := range w {
				if v == 0 {
					zeros++
				}
			}
			all += len(w)
			if Shared(w, t.Shape, 0) != nil {
				shared++
			}
		}
	}
	return zeros / float64(max(all, 1)), shared
}

// Gradual is how much is pruned at a step of a training (Zhu and Gupta,
// arXiv:1710.01878): from the sparsity first at step from to last at step to,
// quickly at the beginning, while there is much to spare, and slowly at the end.
func Gradual(first, last float64, step, from, to int) float64 {
	switch {
	case step >= to:
		return last
	case step <= from:
		return first
	}
	left := 1 - float64(step-from)/float64(to-from)
	return last + (first-last)*math.Pow(left, 3)
}

// gradually makes weights 0 while the model is trained.
func (j PruneJob) gradually(ctx context.Context, m *model.Model) (*model.Model, error) {
	at, err := taking(m.Main(), j.Config)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, i := range at {
		names[m.Main().Tensors[i].Name] = true
	}
	t := *j.Tune
	then := -1.0
	t.Before = func(net *train.Network, step, of int) {
		end := of * 3 / 5
		share := Gradual(0, j.Config.Sparsity, step, 0, end)
		if every := max(of/25, 1); share == then || step%every != 0 && step < end {
			return
		}
		then = share
		var list []matrix
		var params []*train.Param
		for _, p := range net.Params() {
			if names[p.Name] {
				list, params = append(list, matrixOf(p.Shape, p.W)), append(params, p)
			}
		}
		zeroSmallest(list, j.Config.Pattern, j.Config.Scope, share)
		for _, p := range params {
			p.KeepZeros()
		}
	}
	m, err = t.Run(ctx, m)
	if m == nil {
		return nil, err
	}
	// Nothing is left to do where the training came to its end.
	if failed := pruneWeights(m, j.Config); failed != nil {
		return nil, failed
	}
	return m, err
}

// inParts takes channels out a part after the other, and trains between.
func (j PruneJob) inParts(ctx context.Context, m *model.Model) (*model.Model, []string, error) {
	epochs, parts := j.Tune.Config.Epochs, j.Parts
	if parts == 0 {
		parts = 3
	}
	parts = min(parts, max(epochs, 1))
	between := epochs / 2 / max(parts-1, 1)
	all, left := macs(m.Main()), 1.0
	var notes []string
	take := func(part int) error { // all that is to be gone after it
		one, done := j, float64(part)/float64(parts)
		if one.Config.MACs > 0 {
			share := (1 - done*(1-j.Config.MACs)) * float64(all) / float64(macs(m.Main()))
			one.Config.MACs = min(share, math.Nextafter(1, 0))
		} else {
			now := 1 - done*j.Config.Sparsity
			one.Config.Sparsity, left = 1-now/left, now
		}
		small, report, err := one.once(ctx, m)
		if err == nil {
			m, notes = small, report.Notes
		}
		return err
	}
	for part := 1; part <= parts; part++ {
		if err := take(part); err != nil {
			return nil, nil, err
		}
		t := *j.Tune
		if t.Config.Epochs = between; part == parts {
			t.Config.Epochs = epochs - between*(parts-1)
		}
		if t.Config.Epochs == 0 {
			continue
		}
		tuned, err := t.Run(ctx, m)
		if tuned != nil {
			m = tuned
		}
		if err == nil {
			continue
		}
		if ctx.Err() == nil || tuned == nil {
			return nil, nil, fmt.Errorf("part %d of %d: %w", part, parts, err)
		}
		if part < parts { // the rest goes untrained
			ctx = context.WithoutCancel(ctx)
			if failed := take(parts); failed != nil {
				return nil, nil, failed
			}
		}
		return m, notes, err
	}
	return m, notes, nil
}
