package fl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"edgegateway/fl/aggregate"
	"edgegateway/infer/train"
)

// Local trains jobs of one task, one after the other, in one network: what a
// job leaves in it the next replaces. It is for one goroutine.
type Local struct {
	// Before is passed each update before it is packed.
	Before []func(job *Job, delta []float32) error
	// Checkpoint is a file that keeps the state of a job after each epoch, so that
	// the same job goes on there after a kill; "": none. One that is of something
	// else is begun anew. It is removed when the job is done.
	Checkpoint string

	net *train.Network
}

// NewLocal builds the network of a task.
func NewLocal(task *Task) (*Local, error) {
	net, err := task.Network()
	if err != nil {
		return nil, err
	}
	return &Local{net: net}, nil
}

// Train does a job on the first job.Samples samples of d: the same job gives
// the same update to the last bit, on how many processors whatever, but for the
// seconds that it took. An ended ctx is its error. progress is told of each
// epoch; nil: nobody.
func Train(ctx context.Context, job *Job, d *train.Dataset, progress func(train.Epoch)) (*Result, error) {
	l, err := NewLocal(job.Task)
	if err != nil {
		return nil, err
	}
	return l.Train(ctx, job, d, progress)
}

// Train is as the function Train, for a job of this task.
func (l *Local) Train(ctx context.Context, job *Job, d *train.Dataset, progress func(train.Epoch)) (*Result, error) {
	began := time.Now()
	fail := func(err error) (*Result, error) {
		return nil, fmt.Errorf("round %d of task %s: %w", job.Round, job.Task.Name, err)
	}
	part, held, err := l.divide(job, d)
	if err != nil {
		return fail(err)
	}
	if err := job.Base.Into(l.net); err != nil {
		return fail(err)
	}
	up := Update{Samples: part.Len()}
	if up.Before, err = l.judge(held); err != nil {
		return fail(err)
	}
	if err := l.run(ctx, job, part, progress); err != nil {
		return fail(err)
	}
	if up.After, err = l.judge(held); err != nil {
		return fail(err)
	}
	delta, err := l.step(job)
	if err != nil {
		return fail(err)
	}
	res := &Result{Update: up}
	if res.Update.Delta, res.Residual, err = aggregate.Encode(job.Task.Compression, delta, job.Residual, job.Seed); err != nil {
		return fail(err)
	}
	res.Update.Seconds = time.Since(began).Seconds()
	return res, nil
}

// divide gives the samples to train on and those to judge by, nil for none.
func (l *Local) divide(job *Job, d *train.Dataset) (part, held *train.Dataset, err error) {
	if d.Len() < job.Samples || job.Samples < 1 {
		return nil, nil, fmt.Errorf("there are %d samples, it takes %d", d.Len(), job.Samples)
	}
	if d.Len() > job.Samples {
		at := make([]int, job.Samples)
		for i := range at {
			at[i] = i
		}
		d = d.Subset(at)
	}
	share := job.Task.Data.Holdout
	if share == 0 {
		return d, nil, nil
	}
	a, b, err := d.HoldOut(share, job.Task.Seed)
	if err != nil {
		return nil, nil, err
	}
	if len(a) == 0 {
		return nil, nil, errors.New("too few samples: all are held out to judge by")
	}
	if part = d.Subset(a); len(b) > 0 {
		held = d.Subset(b)
	}
	return part, held, nil
}

// judge gives the network's figures on samples that it does not train on.
func (l *Local) judge(d *train.Dataset) (Metrics, error) {
	if d == nil {
		return Metrics{}, nil
	}
	return Judge(l.net, d)
}

// Judge gives a network's figures on labelled samples.
func Judge(net *train.Network, d *train.Dataset) (Metrics, error) {
	loss, accuracy, err := net.Evaluate(d)
	if err != nil {
		return Metrics{}, err
	}
	if loss-loss != 0 {
		return Metrics{}, fmt.Errorf("the loss is %v on data %s", loss, d.Name)
	}
	if accuracy != accuracy {
		accuracy = -1
	}
	return Metrics{Samples: d.Len(), Loss: loss, Accuracy: accuracy}, nil
}

// run trains the network, from the round's weights and with an optimizer that
// remembers nothing.
func (l *Local) run(ctx context.Context, job *Job, d *train.Dataset, progress func(train.Epoch)) error {
	local := job.Task.Local
	cfg := train.DefaultConfig()
	cfg.Epochs, cfg.Batch, cfg.Optimizer, cfg.Seed = local.Epochs, local.Batch, local.Optimizer, job.Seed
	if cfg.Batch == 0 {
		cfg.Batch = d.Len()
	}
	l.net.Forget()
	cfg.Checkpoint = l.Checkpoint
	t := train.Trainer{Net: l.net, Config: cfg, Train: d, Pull: local.Proximal, Done: progress}
	err := t.Run(ctx)
	if err != nil && cfg.Checkpoint != "" && len(t.History) == 0 && ctx.Err() == nil {
		// It may be the checkpoint's fault: damaged, or of samples that have left.
		if os.Remove(cfg.Checkpoint) != nil {
			return err
		}
		if err := job.Base.Into(l.net); err != nil {
			return err
		}
		l.net.Forget()
		t = train.Trainer{Net: l.net, Config: cfg, Train: d, Pull: local.Proximal, Done: progress}
		err = t.Run(ctx)
	}
	if err == nil && cfg.Checkpoint != "" {
		err = os.Remove(cfg.Checkpoint)
	}
	return err
}

// step is what the weights moved by, after all that updates pass through.
func (l *Local) step(job *Job) ([]float32, error) {
	now, err := FromNetwork(l.net)
	if err != nil {
		return nil, err
	}
	delta := now.Values
	for i, w := range job.Base.Values {
		delta[i] -= w
	}
	for _, f := range l.Before {
		if err := f(job, delta); err != nil {
			return nil, err
		}
	}
	return delta, nil
}
