package simulate

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"edgegateway/fl"
	"edgegateway/fl/aggregate"
	"edgegateway/infer/train"
)

// blobs are classes of points around corners, in a random order.
func blobs(n int, seed uint64) *train.Dataset {
	r := rand.New(rand.NewPCG(seed, 1))
	d := &train.Dataset{Name: "blobs", Shape: train.Shape{6}, Classes: []string{"a", "b", "c"}}
	for range n {
		c := r.IntN(3)
		for k := range 6 {
			v := r.NormFloat64()
			if k%3 == c {
				v += 2
			}
			d.Values = append(d.Values, float32(v))
		}
		d.Labels = append(d.Labels, int32(c))
	}
	return d
}

func task() fl.Task {
	t := fl.DefaultTask()
	t.Name, t.Model.Input, t.Model.Classes = "blobs", []int{6}, []string{"a", "b", "c"}
	t.Model.Network.Layers = []train.LayerSpec{{Type: "dense", Units: 16, Activation: "relu"}, {Type: "dense", Activation: "softmax"}}
	t.Data.Holdout, t.Rounds, t.Cohort.Size = 0, 5, 4
	return t
}

func world20() Config {
	cfg := DefaultConfig()
	cfg.Participants, cfg.Workers = 20, 2
	return cfg
}

func simulated(t *testing.T, task fl.Task, cfg Config) *Outcome {
	t.Helper()
	cfg.Dir = t.TempDir()
	out, err := Run(t.Context(), task, cfg, blobs(600, 1), blobs(300, 2))
	if err != nil {
		t.Fatal(err)
	}
	if len(out.History) != task.Rounds || out.Status.State != "done" {
		t.Fatalf("%d rounds of %d, %s", len(out.History), task.Rounds, out.Status.State)
	}
	if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left on disk, %v", left, err)
	}
	return out
}

// seedOf is that of a participant's round, as docs/federated-protocol.md has it.
func seedOf(seed uint64, round int, gateway string) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", seed, round, gateway))
	return binary.BigEndian.Uint64(sum[:])
}

// Rounds over the machines, the clock and the broker give what a plain loop of
// training and averaging gives, to the last bit.
func TestRunIsFederatedAveraging(t *testing.T) {
	task, cfg, learn := task(), world20(), blobs(600, 1)
	task.Cohort.Size, task.Rounds, task.Data.Holdout = 0, 3, 0.1
	task.Compression.Kind = "int8"
	cfg.Spread = 0.8
	cfg.Partition = Partition{"quantity", 1}
	out := simulated(t, task, cfg)

	parts, err := cfg.Partition.Divide(learn, 20, task.Seed)
	if err != nil {
		t.Fatal(err)
	}
	net, err := task.Network()
	if err != nil {
		t.Fatal(err)
	}
	w, err := fl.FromNetwork(net)
	if err != nil {
		t.Fatal(err)
	}
	strategy, err := aggregate.New(task.Strategy)
	if err != nil {
		t.Fatal(err)
	}
	for r, report := range out.History {
		if err := strategy.Begin(len(w.Values)); err != nil {
			t.Fatal(err)
		}
		samples, after := 0, 0
		for i, p := range parts {
			v := virtual{name: fmt.Sprintf("p%05d", i), samples: p}
			d := learn.Subset(v.places(len(p)))
			job := &fl.Job{Task: &task, Round: r + 1, Gateway: v.name, Base: w, Samples: len(p), Seed: seedOf(task.Seed, r+1, v.name)}
			res, err := fl.Train(t.Context(), job, d, nil)
			if err != nil {
				t.Fatal(err)
			}
			delta, err := aggregate.Decode(res.Update.Delta, len(w.Values))
			if err != nil {
				t.Fatal(err)
			}
			if err := strategy.Add(aggregate.Update{From: v.name, Samples: int64(res.Update.Samples), Delta: delta}); err != nil {
				t.Fatal(err)
			}
			samples += res.Update.Samples
			after += res.Update.After.Samples
		}
		if _, err := strategy.Finish(w.Values); err != nil {
			t.Fatal(err)
		}
		if report.Model != w.Hash() {
			t.Fatalf("round %d: other weights than those of a plain loop", r+1)
		}
		if report.Samples != int64(samples) || report.After.Samples != after || report.Counted != 20 {
			t.Errorf("round %d: %+v, the loop counts %d samples, %d held out", r+1, report, samples, after)
		}
		if err := w.Into(net); err != nil {
			t.Fatal(err)
		}
		if m, err := fl.Judge(net, blobs(300, 2)); err != nil || m != report.Held {
			t.Errorf("round %d is judged %+v, the loop %+v, %v", r+1, report.Held, m, err)
		}
	}
	if out.History[2].Held.Accuracy < 0.8 {
		t.Errorf("an accuracy of %v after 3 rounds", out.History[2].Held.Accuracy)
	}
}

// The same seed gives the same history, however many train at a time; another
// gives another.
func TestRunIsTheSame(t *testing.T) {
	task, cfg := task(), world20()
	task.Compression, task.Deadline, task.Cohort.Quorum = aggregate.Compression{Kind: "topk", Share: 0.2}, 20*time.Second, 2
	task.Late = "next"
	cfg.Spread, cfg.Dropout, cfg.Away = 1, 0.3, time.Minute
	cfg.Attack = Attack{"gaussian", 0.2, 0.1}
	cfg.Partition = Partition{"dirichlet", 0.5}
	want := simulated(t, task, cfg)
	for workers := 1; workers <= 5; workers += 2 {
		cfg.Workers = workers
		got := simulated(t, task, cfg)
		if got.Weights.Hash() != want.Weights.Hash() || got.Clock != want.Clock || got.Refused != want.Refused || !slices.Equal(got.Hostile, want.Hostile) {
			t.Errorf("%d workers: another outcome", workers)
		}
		for i, r := range got.History {
			if w := want.History[i]; r.Model != w.Model || r.Ended != w.Ended || r.Updates != w.Updates || r.Held != w.Held || r.Bytes != w.Bytes {
				t.Errorf("%d workers, round %d: %+v, want %+v", workers, i+1, r, w)
			}
		}
	}
	task.Seed = 2
	if got := simulated(t, task, cfg); got.Weights.Hash() == want.Weights.Hash() {
		t.Error("another seed gives the same weights")
	}
}

// Who drops out is waited for without a deadline; with one the round goes on,
// and what comes late counts where the task says so.
func TestRunDropout(t *testing.T) {
	task, cfg := task(), world20()
	cfg.Dropout, cfg.Away = 0.3, time.Hour
	out := simulated(t, task, cfg)
	for _, r := range out.History {
		if r.Updates != 4 {
			t.Errorf("round %d has %d updates of 4, though nothing ends it", r.Round, r.Updates)
		}
	}
	if out.Clock < time.Hour {
		t.Errorf("nobody was waited for: it took %v", out.Clock)
	}
	task.Deadline, task.Rounds = 10*time.Second, 20
	short := simulated(t, task, cfg)
	few := 0
	for _, r := range short.History {
		few += 4 - r.Updates
		// Where all four dropped out it waits for the first of them.
		if took := time.Duration(r.Ended-r.Began) * time.Millisecond; took > 10*time.Second && r.Updates > 1 {
			t.Errorf("round %d took %v with %d updates", r.Round, took, r.Updates)
		}
	}
	if few == 0 || short.Clock > out.Clock {
		t.Errorf("%d updates are missing after %v", few, short.Clock)
	}
	task.Late, cfg.Away = "next", 20*time.Second
	late := 0
	for _, r := range simulated(t, task, cfg).History {
		late += r.Late
	}
	if late == 0 {
		t.Error("no update came late")
	}
}

// Hours of absence take no longer than minutes: a machine that asks to be woken
// again and again is woken once.
func TestRunLongAbsence(t *testing.T) {
	task, cfg := task(), world20()
	task.Cohort.WaitFor = 21 // of 20: all are there, whatever it says
	cfg.Dropout, cfg.Away = 0.5, 3*time.Hour
	out := simulated(t, task, cfg)
	if out.Clock < 3*time.Hour {
		t.Errorf("nobody was waited for: it took %v", out.Clock)
	}
}

// A mean is at the mercy of those who send noise, a median is not.
func TestRunAttacked(t *testing.T) {
	task, cfg := task(), world20()
	task.Cohort.Size, task.Rounds = 0, 8
	cfg.Attack = Attack{"gaussian", 0.2, 3}
	best := func(kind string) float64 {
		task.Strategy.Kind = kind
		out := simulated(t, task, cfg)
		if len(out.Hostile) != 4 {
			t.Errorf("%d of 20 are hostile", len(out.Hostile))
		}
		return out.History[7].Held.Accuracy
	}
	if mean, median := best("fedavg"), best("median"); mean > 0.85 || median < 0.9 {
		t.Errorf("fedavg %.3f, median %.3f", mean, median)
	}
}

func TestRunStops(t *testing.T) {
	cfg := world20()
	cfg.Dir = t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg.Round = func(r fl.RoundReport) {
		if r.Round == 2 {
			cancel()
		}
	}
	out, err := Run(ctx, task(), cfg, blobs(600, 1), nil)
	if !errors.Is(err, context.Canceled) || out == nil || len(out.History) < 2 || len(out.History) > 3 {
		t.Fatalf("%v, %+v", err, out)
	}
	if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left on disk, %v", left, err)
	}
}

func TestRunRefuses(t *testing.T) {
	for _, c := range []struct {
		change func(*fl.Task, *Config)
		want   string
	}{
		{func(_ *fl.Task, c *Config) { c.Participants = 0 }, "participants: 0"},
		{func(_ *fl.Task, c *Config) { c.Participants = 601 }, "not enough for 601"},
		{func(_ *fl.Task, c *Config) { c.Dropout = 1 }, "dropout"},
		{func(_ *fl.Task, c *Config) { c.Spread = -1 }, "spread"},
		{func(_ *fl.Task, c *Config) { c.Rate = 0 }, "link"},
		{func(_ *fl.Task, c *Config) { c.Partition.Kind = "half" }, "half"},
		{func(t *fl.Task, _ *Config) { t.Data.Minimum = 31 }, "0 have the 31 samples"},
		{func(t *fl.Task, _ *Config) { t.Model.Classes = []string{"a", "b"} }, "3 classes"},
	} {
		task, cfg := task(), world20()
		cfg.Dir = t.TempDir()
		c.change(&task, &cfg)
		if _, err := Run(t.Context(), task, cfg, blobs(600, 1), blobs(30, 2)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
