package fl

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgegateway/fl/aggregate"
	"edgegateway/infer/train"
)

// blobs are three classes of points of eight numbers.
func blobs(n int, seed uint64) *train.Dataset {
	r := rand.New(rand.NewPCG(seed, 1))
	d := &train.Dataset{Name: "blobs", Shape: train.Shape{8}, Classes: []string{"a", "b", "c"}}
	for range n {
		c := r.IntN(3)
		for k := range 8 {
			v := r.NormFloat64()
			if k == c {
				v += 3
			}
			d.Values = append(d.Values, float32(v))
		}
		d.Labels = append(d.Labels, int32(c))
	}
	return d
}

func jobOf(t testing.TB, task *Task, samples int) *Job {
	t.Helper()
	net, err := task.Network()
	do(t, err)
	w, err := FromNetwork(net)
	do(t, err)
	return &Job{Task: task, Round: 1, Gateway: "press7", Base: w, Samples: samples, Seed: 7}
}

// learned is the weights of a job and its update together.
func learned(t testing.TB, job *Job, r *Result) []float32 {
	t.Helper()
	delta, err := aggregate.Decode(r.Update.Delta, len(job.Base.Values))
	do(t, err)
	for i, w := range job.Base.Values {
		delta[i] += w
	}
	return delta
}

// What a job gives is what plain training gives of the same samples.
func TestTrainIsPlainTraining(t *testing.T) {
	task, d := smallTask(), blobs(300, 1)
	task.Data.Holdout, task.Local.Epochs = 0.25, 3
	job := jobOf(t, task, 200)
	epochs := 0
	got, err := Train(t.Context(), job, d, func(train.Epoch) { epochs++ })
	do(t, err)

	first := d.Subset(places(200))
	rest, held, err := first.HoldOut(0.25, task.Seed)
	do(t, err)
	net, err := task.Network()
	do(t, err)
	cfg := train.DefaultConfig()
	cfg.Epochs, cfg.Batch, cfg.Optimizer, cfg.Seed = 3, 10, task.Local.Optimizer, 7
	do(t, (&train.Trainer{Net: net, Config: cfg, Train: first.Subset(rest)}).Run(t.Context()))
	want, err := FromNetwork(net)
	do(t, err)
	for i, v := range learned(t, job, got) {
		if math.Abs(float64(v-want.Values[i])) > 1e-6 {
			t.Fatalf("weight %d is %v, plain training gives %v", i, v, want.Values[i])
		}
	}
	up := got.Update
	if up.Samples != len(rest) || up.Before.Samples != len(held) || up.After.Samples != len(held) || epochs != 3 {
		t.Errorf("%+v after %d epochs; %d are trained on, %d judge", up, epochs, len(rest), len(held))
	}
	if after, err := Judge(net, first.Subset(held)); err != nil || math.Abs(after.Loss-up.After.Loss) > 1e-6 || up.After.Accuracy <= up.Before.Accuracy {
		t.Errorf("before %+v, after %+v, plain training %+v %v", up.Before, up.After, after, err)
	}
}

func places(n int) []int {
	at := make([]int, n)
	for i := range at {
		at[i] = i
	}
	return at
}

// The same job gives the same update, by a new network or one that trained
// others before, on one processor or more; another seed gives another.
func TestTrainIsTheSame(t *testing.T) {
	task, d := smallTask(), blobs(200, 1)
	task.Local.Optimizer, task.Local.Proximal = train.OptimizerConfig{Kind: "adam", Rate: 0.01, Schedule: "constant"}, 0.1
	task.Compression = aggregate.Compression{Kind: "int8"}
	job := jobOf(t, task, 200)
	want, err := Train(t.Context(), job, d, nil)
	do(t, err)
	check := func(what string, got *Result, err error) {
		t.Helper()
		do(t, err)
		if !slices.Equal(got.Update.Delta, want.Update.Delta) || got.Update.After != want.Update.After {
			t.Errorf("%s: another update", what)
		}
	}
	l, err := NewLocal(task)
	do(t, err)
	other := *job
	other.Seed++
	if got, err := l.Train(t.Context(), &other, blobs(200, 2), nil); err != nil || slices.Equal(got.Update.Delta, want.Update.Delta) {
		t.Errorf("other data and another seed give the same update, %v", err)
	}
	got, err := l.Train(t.Context(), job, d, nil)
	check("a network that trained others", got, err)
	before := runtime.GOMAXPROCS(1)
	got, err = Train(t.Context(), job, d, nil)
	runtime.GOMAXPROCS(before)
	check("one processor", got, err)
	if &want.Update.Delta[0] == &got.Update.Delta[0] {
		t.Error("two results share their bytes")
	}
}

// The proximal term keeps what is learned nearer to where it began.
func TestTrainProximal(t *testing.T) {
	task, d := smallTask(), blobs(200, 1)
	job := jobOf(t, task, 200)
	last := math.Inf(1)
	for _, mu := range []float64{0, 1, 8} {
		task.Local.Proximal = mu
		r, err := Train(t.Context(), job, d, nil)
		do(t, err)
		norm := 0.0
		for i, v := range learned(t, job, r) {
			norm += math.Pow(float64(v-job.Base.Values[i]), 2)
		}
		if norm >= last {
			t.Errorf("proximal %v: a step of %v, not below %v", mu, norm, last)
		}
		last = norm
	}
}

func TestTrainBefore(t *testing.T) {
	task, d := smallTask(), blobs(100, 1)
	job := jobOf(t, task, 100)
	l, err := NewLocal(task)
	do(t, err)
	l.Before = append(l.Before, func(j *Job, delta []float32) error {
		if j != job {
			t.Error("another job")
		}
		clear(delta)
		delta[3] = 5
		return nil
	}, func(_ *Job, delta []float32) error {
		delta[3]++
		return nil
	})
	r, err := l.Train(t.Context(), job, d, nil)
	do(t, err)
	delta, err := aggregate.Decode(r.Update.Delta, len(job.Base.Values))
	do(t, err)
	if delta[3] != 6 || delta[0] != 0 {
		t.Errorf("%v was sent", delta[:5])
	}
	broken := errors.New("no mask")
	l.Before = append(l.Before, func(*Job, []float32) error { return broken })
	if _, err := l.Train(t.Context(), job, d, nil); !errors.Is(err, broken) {
		t.Errorf("it was sent although a function failed: %v", err)
	}
}

func TestTrainRefuses(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	for _, c := range []struct {
		ctx    context.Context
		change func(task *Task, job *Job, d *train.Dataset)
		want   string
	}{
		{t.Context(), func(_ *Task, job *Job, _ *train.Dataset) { job.Samples = 101 }, "there are 100 samples, it takes 101"},
		{t.Context(), func(_ *Task, job *Job, _ *train.Dataset) { job.Samples = 0 }, "it takes 0"},
		{t.Context(), func(_ *Task, job *Job, _ *train.Dataset) { job.Base.Layout[0]++ }, "layout"},
		{t.Context(), func(task *Task, _ *Job, _ *train.Dataset) { task.Local.Optimizer.Rate = 1e30 }, "diverged"},
		{t.Context(), func(_ *Task, _ *Job, d *train.Dataset) { d.Labels[3] = 9 }, "label 9 of sample 3"},
		{t.Context(), func(_ *Task, job *Job, _ *train.Dataset) { job.Residual = []float32{1} }, "residual of 1"},
		{t.Context(), func(task *Task, job *Job, _ *train.Dataset) { task.Data.Holdout, job.Samples = 0.999, 2 }, "all are held out"},
		{ended, func(*Task, *Job, *train.Dataset) {}, "canceled"},
	} {
		task, d := smallTask(), blobs(100, 1)
		task.Data.Holdout = 0
		job := jobOf(t, task, 100)
		c.change(task, job, d)
		if r, err := Train(c.ctx, job, d, nil); err == nil || r != nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "round 1 of task digits") {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// A client epoch of the FedAvg paper's setting: 600 digits at a batch of 10 by
// 784-200-200-10, as a job and as plain training in turns: the processor's time
// for each, which neighbours on the box disturb least, and how many times as much
// a job takes.
func BenchmarkClientEpoch(b *testing.B) {
	task := DefaultTask()
	task.Name, task.Data.Holdout = "2nn", 0
	task.Model.Input = []int{28, 28, 1}
	task.Model.Network.Layers = []train.LayerSpec{{Type: "flatten"}, {Type: "dense", Units: 200, Activation: "relu"}, {Type: "dense", Units: 200, Activation: "relu"}, {Type: "dense", Activation: "softmax"}}
	d := &train.Dataset{Name: "digits", Shape: train.Shape{28, 28, 1}, Pixels: make([]byte, 600*784), Labels: make([]int32, 600)}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range d.Pixels {
		if r.IntN(5) == 0 { // as much as is not ground in MNIST
			d.Pixels[i] = byte(r.IntN(256))
		}
	}
	for c := range 10 {
		task.Model.Classes = append(task.Model.Classes, string(rune('0'+c)))
	}
	d.Classes = task.Model.Classes
	for i := range d.Labels {
		d.Labels[i] = int32(r.IntN(10))
	}
	job := jobOf(b, &task, 600)
	l, err := NewLocal(&task)
	do(b, err)
	net, err := task.Network()
	do(b, err)
	cfg := train.DefaultConfig()
	cfg.Epochs, cfg.Batch, cfg.Optimizer = 1, 10, task.Local.Optimizer
	used := func() time.Duration {
		var u syscall.Rusage
		do(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	var total [2]time.Duration
	for b.Loop() {
		for i, f := range []func() error{
			func() error { _, err := l.Train(b.Context(), job, d, nil); return err },
			func() error {
				return errors.Join(job.Base.Into(net), (&train.Trainer{Net: net, Config: cfg, Train: d}).Run(b.Context()))
			},
		} {
			before := used()
			do(b, f())
			total[i] += used() - before
		}
	}
	b.ReportMetric(total[0].Seconds()*1e3/float64(b.N), "ms/job")
	b.ReportMetric(total[1].Seconds()*1e3/float64(b.N), "ms/plain")
	b.ReportMetric(total[0].Seconds()/total[1].Seconds(), "job/plain")
}

// A job that was killed between its epochs gives the same update from its
// checkpoint on; a checkpoint of something else does no harm.
func TestTrainFromCheckpoint(t *testing.T) {
	task := roundTask()
	task.Local.Epochs = 4
	job := &Job{Task: task, Round: 1, Gateway: "g", Base: first(t, task), Samples: 80, Seed: 7}
	d := clouds(80, 3)
	want, err := Train(t.Context(), job, d, nil)
	do(t, err)
	file := filepath.Join(t.TempDir(), "checkpoint")
	ctx, kill := context.WithCancel(t.Context())
	l, err := NewLocal(task)
	do(t, err)
	l.Checkpoint = file
	if _, err := l.Train(ctx, job, d, func(e train.Epoch) {
		if e.Epoch == 2 {
			kill()
		}
	}); err == nil {
		t.Fatal("it was not killed")
	}
	begun := 0
	if l, err = NewLocal(task); err != nil {
		t.Fatal(err)
	}
	l.Checkpoint = file
	got, err := l.Train(t.Context(), job, d, func(e train.Epoch) {
		if begun == 0 {
			begun = e.Epoch
		}
	})
	do(t, err)
	if begun != 3 || !slices.Equal(got.Update.Delta, want.Update.Delta) || !slices.Equal(got.Residual, want.Residual) {
		t.Errorf("from epoch %d on it gives another update", begun)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the checkpoint is still there")
	}
	do(t, os.WriteFile(file, []byte("something else"), 0o600))
	if got, err = l.Train(t.Context(), job, d, nil); err != nil || !slices.Equal(got.Update.Delta, want.Update.Delta) {
		t.Errorf("over a damaged checkpoint: %v", err)
	}
}
