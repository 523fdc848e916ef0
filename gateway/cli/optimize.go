package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/infer"
	"edgegateway/infer/compress"
	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/train"
)

// fitting is what the commands optimize and compress share: a model, data that
// it learns from, is chosen by and judged by.
type fitting struct {
	data       judgedData
	test       string // data of the same kind: half of it chooses, half judges
	task       string
	split, val float64
	byTime     bool
	cfg        train.Config
	out        string

	given, file      []byte // as it was given, and float
	learn, hold, off *train.Dataset
	samples          *compress.Samples // all of them
	low, high        float64           // what pictures are by the model itself; both 0: it does not say
}

func (f *fitting) add(cmd *cobra.Command) {
	f.cfg = train.DefaultConfig()
	f.cfg.Optimizer.Schedule = "cosine"
	f.data.add(cmd, "what to learn from, choose by and judge by; without it nothing learns, and the model's own answers to made up inputs are kept")
	fl := cmd.Flags()
	fl.StringVar(&f.test, "test", "", "data of the same kind that the model did not learn from: half of it chooses, the other half judges, in place of --split and --val")
	fl.StringVar(&f.task, "task", "auto", "what the answers are: auto, classes, regression, forecast, reconstruction")
	fl.Float64Var(&f.split, "split", 0.2, "the part of the data that only judges in the end")
	fl.Float64Var(&f.val, "val", 0.2, "the part of the rest that chooses")
	fl.BoolVar(&f.byTime, "by-time", false, "judge by the latest samples, not by random ones")
	fl.IntVar(&f.cfg.Batch, "batch", f.cfg.Batch, "samples a step")
	fl.Float64Var(&f.cfg.Optimizer.Rate, "rate", 0.0005, "learning rate of what is trained on after a step")
	fl.IntVar(&f.cfg.Augment.Shift, "shift", 0, "pictures: up to so many pixels to any side")
	fl.BoolVar(&f.cfg.Augment.Flip, "flip", false, "pictures: half of them left to right")
	fl.Uint64Var(&f.cfg.Seed, "seed", f.cfg.Seed, "the same seed gives the same model")
	completeWords(cmd, "task", "auto", "classes", "regression", "forecast", "reconstruction")
}

// learning are the flags that say how is trained after a step.
var learning = []string{"batch", "rate", "shift", "flip"}

// idle refuses flags that do nothing.
func (f *fitting) idle(cmd *cobra.Command) error {
	return noneIdle(cmd, f.data.noData(append([]string{"test", "split", "val", "by-time", "seed"}, learning...)...),
		idle{f.test != "", "--test names what chooses and judges", []string{"split", "val"}})
}

// load reads model and data, and divides that.
func (f *fitting) load(ctx context.Context, path string, say io.Writer) error {
	file, m, err := usableModel(path)
	if err != nil {
		return err
	}
	if _, _, err := f.data.levels(); err != nil {
		return err
	}
	f.low, f.high, _ = compress.PictureRange(m)
	wide, changed, err := compress.Widen(m)
	if err != nil {
		return invalid(fmt.Errorf("%s: %w", path, err))
	}
	if f.given, f.file = file, file; changed {
		fmt.Fprintf(say, "%s holds integers; it is widened to the float model that they stand for\n", path)
		if f.file, err = wide.Write(); err != nil {
			return invalid(fmt.Errorf("%s: %w", path, err))
		}
		// Where it makes no numbers of inputs, no step could be judged by them.
		if _, err := compress.Compare(ctx, file, f.file, [2]string{}, f.data.library, f.data.madeUp(wide, 2, 1)); err != nil {
			return invalid(fmt.Errorf("%s: the float model that its integers stand for does not answer as it does (%w); give the float model that it was quantized from; pack takes it as it is", path, err))
		}
	}
	if f.data.path == "" {
		return nil
	}
	if f.samples, err = f.data.samples(ctx, wide, say); err != nil {
		return err
	}
	if f.test != "" {
		t, err := f.data.judging(ctx, wide, f.test, f.samples)
		if err != nil {
			return err
		}
		f.learn = f.samples.Set
		if f.hold, f.off, err = t.Set.Split(0.5, f.byTime, f.cfg.Seed); err != nil {
			return &exitError{exitUsage, fmt.Errorf("--test: %w", err)}
		}
		return nil
	}
	var rest *train.Dataset
	if rest, f.off, err = f.samples.Set.Split(f.split, f.byTime, f.cfg.Seed); err != nil {
		return &exitError{exitUsage, fmt.Errorf("--split: %w", err)}
	}
	if f.learn, f.hold, err = rest.Split(f.val, f.byTime, f.cfg.Seed); err != nil {
		return &exitError{exitUsage, fmt.Errorf("--val: %w", err)}
	}
	return nil
}

// ground is what recipes work on.
func (f *fitting) ground(show *steps) compress.Ground {
	g := compress.Ground{Learn: f.learn, Val: f.hold, Train: f.cfg, Original: f.file, Library: f.data.library, Progress: show.show}
	switch {
	case f.samples != nil:
		g.Low, g.High, g.Task = f.samples.Low, f.samples.High, f.kind()
	case f.data.pixelsSaid():
		g.Low, g.High, _ = f.data.levels()
	default:
		g.Low, g.High = f.low, f.high
	}
	return g
}

// part are some of the samples as a model takes them, nil without data.
func (f *fitting) part(d *train.Dataset) compress.Inputs {
	if d == nil {
		return nil
	}
	return &compress.Samples{Set: d, Low: f.samples.Low, High: f.samples.High}
}

// kind is the task: that of the data, else what the model's last operator says.
func (f *fitting) kind() compress.Task {
	if f.samples != nil {
		return f.data.taskOf(f.task, f.samples.Set)
	}
	m, err := model.Read(f.file)
	if err != nil || f.task != "auto" {
		return compress.Task(strings.TrimPrefix(f.task, "auto"))
	}
	g := m.Main()
	if p := g.Producer(g.Outputs[0]); p >= 0 && g.Ops[p].Code == "SOFTMAX" {
		return compress.Classes
	}
	return ""
}

// optimizing is what the command was told beside that.
type optimizing struct {
	fitting
	size, memory, drop string
	latency            time.Duration
	work               string
	search             compress.Search
	asJSON             bool
}

func optimizeCommand() *cobra.Command {
	o := &optimizing{}
	cmd := &cobra.Command{
		Use:   "optimize MODEL",
		Short: "Find the smaller, faster model that fits a budget",
		Long: `Look for the recipe (pruning, shared weights, quantization, with training between
the steps where there is data) that fits a float model into a budget: the most
bytes, the most time on this box, the most values at one time, the most that it
may lose. What was tried is drawn, quality over size and time; the best is
written with its report and its recipe, which "compress --recipe" repeats. Where
none fits the nearest is written, and the exit code is 1. Integer models are
widened first. Ctrl-C writes the best so far; the same command goes on from there.`,
		Example: `  edgegateway optimize --data rooms.csv --target Occupancy --max-size 4kB --max-drop 0.5% occupancy.tflite
  edgegateway optimize --data train-images-idx3-ubyte --max-latency 5us --max-drop 1% digits.tflite
  edgegateway optimize --packed --max-size 50kB model.tflite`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := o.idle(cmd)
			if err == nil && o.search.Epochs > 0 {
				err = noneIdle(cmd, o.data.noData("epochs"))
			}
			if err == nil {
				err = noneIdle(cmd, idle{o.search.Epochs == 0, "--epochs 0 trains nothing", learning})
			}
			if err != nil {
				return err
			}
			return o.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.size, "max-size", "", "the most bytes of the file, such as 40kB or 1.5MB")
	f.DurationVar(&o.latency, "max-latency", 0, "the most time an inference, on the fastest delegate of this box, such as 50us")
	f.StringVar(&o.memory, "max-memory", "", "the most bytes of values at one time, as evaluate shows them")
	f.StringVar(&o.drop, "max-drop", "", "the most that the first figure of quality may lose: 1% is one point of right answers, or an error that grows by a hundredth")
	f.BoolVar(&o.search.Packed, "packed", false, "deploy the packed file: its size counts, and zeros and shared weights pay")
	f.IntVar(&o.search.Trials, "trials", 60, "the most recipes that are tried")
	f.IntVar(&o.search.Epochs, "epochs", 2, "times that the data is seen after each step; 0: nothing learns")
	f.StringVar(&o.out, "out", "", "the file to write; by default MODEL-best.tflite")
	f.StringVar(&o.work, "work", "", "folder that keeps what was tried; by default OUT.trials")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	return cmd
}

// budget reads the bounds.
func (o *optimizing) budget() (b compress.Budget, err error) {
	b.Micros, b.Drop = float64(o.latency)/float64(time.Microsecond), -1
	if b.Size, err = bytesOf("max-size", o.size); err != nil {
		return b, err
	}
	if b.Peak, err = bytesOf("max-memory", o.memory); err != nil {
		return b, err
	}
	if o.drop != "" {
		text, points := strings.CutSuffix(o.drop, "%")
		if b.Drop, err = strconv.ParseFloat(strings.TrimSpace(text), 64); err != nil || b.Drop < 0 {
			return b, &exitError{exitUsage, fmt.Errorf("--max-drop %q is no share such as 1%% or 0.01", o.drop)}
		}
		if points {
			b.Drop /= 100
		}
	}
	if o.size == "" && o.memory == "" && o.latency == 0 && o.drop == "" {
		return b, &exitError{exitUsage, errors.New("there is no bound: --max-size, --max-latency, --max-memory and --max-drop say the most that the model may take or lose")}
	}
	if b.Drop >= 1 {
		return b, &exitError{exitUsage, fmt.Errorf("--max-drop %s: all is lost by 100%%; a drop is below that, such as 1%% or 0.01", o.drop)}
	}
	if err := b.Validate(); err != nil {
		return b, &exitError{exitUsage, err}
	}
	return b, nil
}

func (o *optimizing) run(ctx context.Context, path string, out, say io.Writer) error {
	s := &o.search
	var err error
	if s.Budget, err = o.budget(); err != nil {
		return err
	}
	if s.Trials < 1 || s.Epochs < 0 {
		return &exitError{exitUsage, errors.New("--trials is 1 or more, --epochs 0 or more")}
	}
	if err := o.cfg.Validate(); err != nil {
		return &exitError{exitUsage, err}
	}
	stem := strings.TrimSuffix(path, filepath.Ext(path)) + "-best"
	if o.out != "" {
		stem = strings.TrimSuffix(o.out, filepath.Ext(o.out))
	} else if o.out = stem + ".tflite"; s.Packed {
		o.out = stem + pack.Ext
	}
	if s.Packed != (filepath.Ext(o.out) == pack.Ext) {
		return &exitError{exitUsage, fmt.Errorf("--out %s: a model that --packed deploys is named %s, any other .tflite", o.out, pack.Ext)}
	}
	if err := spares(o.out, path); err != nil {
		return err
	}
	if err := o.load(ctx, path, say); err != nil {
		return err
	}
	if o.work == "" {
		o.work = o.out + ".trials"
	}
	var show steps
	defer show.end()
	s.Given, s.File, s.Ground, s.Choose, s.Task, s.Dir = o.given, o.file, o.ground(&show), o.part(o.hold), o.kind(), o.work
	trial, err := childTrial()
	if err != nil {
		return err
	}
	s.Time = (&stopwatch{trial, o.data.library}).best
	s.Done = func(t *compress.Trial) {
		show.end()
		show.bar = nil
		fmt.Fprintf(say, "%3d  %s\n", len(s.Tried()), trialLine(t, s.Budget))
	}
	best, stopped := s.Run(ctx)
	show.end()
	if best == nil {
		if ctx.Err() != nil {
			return errors.New("stopped before the first recipe was tried")
		}
		return invalid(stopped)
	}
	if stopped != nil && ctx.Err() == nil {
		return stopped
	}
	r, err := o.write(context.WithoutCancel(ctx), best, stem)
	if err != nil {
		return err
	}
	if o.asJSON {
		err = printJSON(out, r)
	} else {
		_, err = io.WriteString(out, r.text())
	}
	if err == nil && stopped != nil {
		err = fmt.Errorf("stopped: this is the best of %d recipes; the same command goes on from %s", len(s.Tried()), o.work)
	}
	if err == nil && !r.Fits { // a script is to see it
		err = fmt.Errorf("none of %d recipes fits: the nearest is written", len(s.Tried()))
	}
	return err
}

// stopwatch measures models in a process of their own.
type stopwatch struct {
	trial   infer.TrialFunc
	library string
}

// all tries every delegate of this box's processor.
func (w *stopwatch) all(ctx context.Context, file []byte) ([]infer.CandidateReport, error) {
	m, err := model.Read(file)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "edgegateway-*.tflite")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(file)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return w.trial(ctx, infer.TrialRequest{Library: w.library, File: f.Name(), Candidates: infer.Candidates(m)})
}

// best is the time on the fastest delegate.
func (w *stopwatch) best(ctx context.Context, file []byte) (micros float64, on string, err error) {
	e := compress.Evaluation{}
	if e.Latency, err = w.all(ctx, file); err != nil {
		return 0, "", err
	}
	on, micros = e.Best()
	return micros, on, nil
}

// bytesOf reads a number of bytes such as 4kB, 1.5MB or 4096; "" is 0.
func bytesOf(flag, text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	unit, lower := 1.0, strings.ToLower(strings.ReplaceAll(text, " ", ""))
	for _, u := range []struct {
		name string
		is   float64
	}{{"kib", 1 << 10}, {"mib", 1 << 20}, {"kb", 1e3}, {"mb", 1e6}, {"k", 1e3}, {"m", 1e6}, {"b", 1}} {
		if rest, ok := strings.CutSuffix(lower, u.name); ok {
			lower, unit = rest, u.is
			break
		}
	}
	v, err := strconv.ParseFloat(lower, 64)
	if err != nil || !(v*unit >= 1) || v*unit > 1<<40 {
		return 0, &exitError{exitUsage, fmt.Errorf("--%s %q is no number of bytes such as 40kB or 1.5MB", flag, text)}
	}
	return int(v * unit), nil
}
