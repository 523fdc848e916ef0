package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"edgegateway/infer/compress"
	"edgegateway/infer/train"
)

// training is one run of the command.
type training struct {
	data             dataSource
	test             string // path of data to judge by, in place of a split
	network          string
	front            // of --head
	split, val       float64
	byTime, resume   bool
	aware            int
	out              string
	cfg              train.Config
	asJSON           bool
	result, say      io.Writer      // of what it came to, and of what happens on the way
	spec             *train.Spec    // that --network named a file of; nil: a preset
	learn, hold, off *train.Dataset // learned from, chosen by (nil: none), judged by
	all              *train.Dataset // as it was read, without what --test named
	lesson           *lesson        // of a teacher; nil: the labels alone
	itself           bool           // the inputs are what is learned
}

func trainCommand() *cobra.Command {
	t := &training{cfg: train.DefaultConfig()}
	cmd := &cobra.Command{
		Use:   "train",
		Short: "Train a small network, or a head on an existing model, and write it as .tflite",
		Long: `Train a small network, or new last layers of an existing model (--head), and
write it as a .tflite file. The figures at the end are those of the written file,
run on samples that it was not trained on. Beside the file come NAME.metrics.json,
and the curves and confusion matrix as SVG and PNG. Ctrl-C writes the best so far.`,
		Example: `  edgegateway train --data train-images-idx3-ubyte --network mlp --out digits.tflite
  edgegateway train --data room.csv --target Occupancy --network mlp --out room.tflite
  edgegateway train --data machine.csv --window 24 --ahead 6 --network forecast --out next.tflite
  edgegateway train --data pictures --network autoencoder --class good --out odd.tflite
  edgegateway train --data pictures --head mobilenet_v2_1.0_224_quant.tflite --out cats.tflite`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.start(cmd)
		},
	}
	f := cmd.Flags()
	f.StringVar(&t.head, "head", "", "train new last layers of this model")
	f.StringVar(&t.cut, "cut", "", "with --head: the tensor whose values are the features; by default what the last dense layer takes")
	f.StringVar(&t.pixels, "pixels", "", "with --head: the real numbers that the bytes 0 and 255 of pictures are for its model, such as 0..255; by default -1..1, and to integer inputs the bytes as they are")
	f.IntVar(&t.copies, "copies", 0, "with --head: how often each picture is learned from, once as it is, the others changed by --flip, --shift and so on; by default 2 with --flip alone, 4 with others")
	completeWords(cmd, "pixels", "-1..1", "0..1", "0..255")
	t.add(cmd)
	return cmd
}

// add declares the flags of a training, whatever it learns from.
func (t *training) add(cmd *cobra.Command) {
	t.data.add(cmd, "what to learn from")
	f := cmd.Flags()
	f.StringVar(&t.test, "test", "", "data of the same kind to judge by, in place of --split")
	f.StringVar(&t.network, "network", "mlp", strings.Join(train.Presets, ", ")+", or a YAML file with layers")
	f.Float64Var(&t.split, "split", 0.2, "the part of the data that only judges")
	f.Float64Var(&t.val, "val", 0.1, "the part of the rest that chooses the best epoch; 0: the last is taken")
	f.BoolVar(&t.byTime, "by-time", false, "judge by the latest samples, not by random ones")
	f.IntVar(&t.cfg.Epochs, "epochs", t.cfg.Epochs, "times that all samples are seen")
	f.IntVar(&t.cfg.Batch, "batch", t.cfg.Batch, "samples a step")
	f.Float64Var(&t.cfg.Optimizer.Rate, "rate", t.cfg.Optimizer.Rate, "learning rate")
	f.StringVar(&t.cfg.Optimizer.Kind, "optimizer", t.cfg.Optimizer.Kind, "adam, adamw or sgd")
	f.Float64Var(&t.cfg.Optimizer.Momentum, "momentum", t.cfg.Optimizer.Momentum, "sgd: the share of the last step that is kept")
	f.StringVar(&t.cfg.Optimizer.Schedule, "schedule", t.cfg.Optimizer.Schedule, "of the rate: constant, cosine or step")
	f.Float64Var(&t.cfg.L2, "l2", 0, "penalty on the squares of weights")
	f.StringVar(&t.cfg.ClassWeights, "class-weights", t.cfg.ClassWeights, "none, or balanced: rare classes count as much as frequent ones")
	f.IntVar(&t.cfg.Augment.Shift, "shift", 0, "pictures: up to so many pixels to any side")
	f.BoolVar(&t.cfg.Augment.Flip, "flip", false, "pictures: half of them left to right")
	f.Float64Var(&t.cfg.Augment.Crop, "crop", 0, "pictures: a part of each, at least so much of its sides (0.2 to 1), made as large as the whole")
	f.Float64Var(&t.cfg.Augment.Brightness, "brightness", 0, "pictures: up to so much brighter or darker; 1 is from black to white")
	f.Float64Var(&t.cfg.Augment.Noise, "noise", 0, "standard deviation of noise: of pictures in halves of black to white, of numbers in their own units")
	f.IntVar(&t.cfg.Patience, "patience", 0, "stop after so many epochs without a better one; 0: never")
	f.Uint64Var(&t.cfg.Seed, "seed", t.cfg.Seed, "the same seed gives the same weights")
	f.IntVar(&t.aware, "aware", 0, "so many epochs more of quantization-aware training; the file is int8 then")
	f.StringVar(&t.out, "out", "model.tflite", "the file to write")
	f.StringVar(&t.cfg.Checkpoint, "checkpoint", "", "file that keeps the state after each epoch; by default OUT.checkpoint")
	f.BoolVar(&t.resume, "resume", false, "go on from the checkpoint")
	f.BoolVar(&t.asJSON, "json", false, "print what it came to as JSON, and the rest to standard error")
}

// start refuses what does nothing, and runs the training.
func (t *training) start(cmd *cobra.Command) error {
	if err := noneIdle(cmd, idle{t.test != "", "--test names what judges", []string{"split"}},
		idle{t.cfg.Optimizer.Kind != "sgd", "it is about --optimizer sgd", []string{"momentum"}},
		idle{t.val == 0, "--val 0 leaves nothing by which an epoch could be the better one", []string{"patience"}}); err != nil {
		return err
	}
	t.result, t.say = cmd.OutOrStdout(), cmd.OutOrStdout()
	if t.asJSON {
		t.say = cmd.ErrOrStderr()
	}
	return t.run(cmd.Context())
}

func (t *training) run(ctx context.Context) error {
	if t.aware < 0 || t.aware > 0 && t.head != "" {
		return &exitError{exitUsage, errors.New("--aware takes a number of epochs, and no --head: its features are as they were quantized")}
	}
	if err := t.cfg.Validate(); err != nil {
		return &exitError{exitUsage, err}
	}
	if err := t.readNetwork(); err != nil {
		return err
	}
	if t.cfg.Checkpoint == "" {
		t.cfg.Checkpoint = t.out + ".checkpoint"
	}
	if err := unpacked(t.out, append([]string{t.head}, t.lesson.teachers()...)...); err != nil {
		return err
	}
	if err := writable("--checkpoint", t.cfg.Checkpoint); err != nil {
		return err
	}
	if _, err := os.Stat(t.cfg.Checkpoint); err == nil && !t.resume {
		return &exitError{exitUsage, fmt.Errorf("%s is there from a training that was cut short: --resume goes on from it, or remove it", t.cfg.Checkpoint)}
	} else if err != nil && t.resume {
		fmt.Fprintf(t.say, "there is no checkpoint %s: the training begins anew\n", t.cfg.Checkpoint)
	}
	if err := t.load(ctx); err != nil {
		return err
	}
	raw := t.off // as the written file takes it
	if t.base != nil {
		if err := t.extract(ctx); err != nil {
			return err
		}
	}
	if t.lesson != nil {
		if err := t.lesson.open(t); err != nil {
			return err
		}
		defer t.lesson.teacher.Close()
	}
	net, err := t.build()
	if err != nil {
		return invalid(err)
	}
	fmt.Fprintf(t.say, "%d samples to learn from, %d that judge; %d weights\n", t.learn.Len(), raw.Len(), net.Weights())
	history, stopped := []train.Epoch(nil), error(nil)
	cfg := t.cfg
	if t.base != nil {
		cfg.Augment = train.AugmentConfig{} // the pictures were changed, not their features
	}
	tr := t.trainer(net, cfg)
	if stopped = tr.Run(ctx); stopped != nil && !errors.Is(stopped, context.Canceled) {
		return invalid(stopped)
	}
	if len(tr.History) == 0 {
		return t.unwritten("before the first epoch was whole")
	}
	t.kept(tr, stopped)
	history = tr.History
	if t.aware > 0 && stopped == nil {
		cfg.Epochs, cfg.Checkpoint = t.aware, ""
		cfg.Optimizer.Rate /= 10
		net = net.Aware()
		tr = t.trainer(net, cfg)
		tr.Teacher = tr.Teacher.Outside()
		if stopped = tr.Run(ctx); stopped != nil && !errors.Is(stopped, context.Canceled) {
			return invalid(stopped)
		}
		if len(tr.History) == 0 {
			return t.unwritten("before the first of the epochs of --aware was whole")
		}
		t.kept(tr, stopped)
		history = append(slices.Clone(history), tr.History...)
	}
	// What was trained is worth its file though the user wants to go.
	rest := context.WithoutCancel(ctx)
	file, err := t.export(rest, net)
	if err != nil {
		return err
	}
	q, err := t.judge(rest, file, raw)
	if err != nil {
		return fmt.Errorf("the exported model: %w", err)
	}
	var alarm *alarm
	if q != nil && q.Task == compress.Reconstruction {
		if alarm, err = t.alarm(rest, file); err != nil {
			return err
		}
	}
	if err := writeWhole(t.out, file); err != nil {
		return err
	}
	made, err := t.report(history, q, alarm)
	if err != nil {
		return err
	}
	if t.asJSON {
		if err := printJSON(t.result, struct {
			Out   string `json:"out"`
			Bytes int    `json:"bytes"`
			*learned
		}{t.out, len(file), made}); err != nil {
			return err
		}
	}
	fmt.Fprintf(t.say, "%s: %.1f KB, run on %d samples it was not trained on: %s\n", t.out, float64(len(file))/1000, raw.Len(), t.lesson.line(q))
	if q != nil && q.Baseline != nil {
		b := q.Baseline
		fmt.Fprintf(t.say, "without a model, on the same samples: %q is right in %.2f %%, the order of %s alone has AUC %.4f\n", b.Rule, 100*b.Top1, b.Order, b.AUC)
	}
	if alarm != nil {
		fmt.Fprintf(t.say, "scores (reconstruction errors) of all %d samples: half below %.4g, 99 %% below %.4g, the largest %.4g\n", t.all.Len(), alarm.Scores.Median, alarm.Scores.P99, alarm.Scores.Largest)
		fmt.Fprintf(t.say, "an alert on what was not among them: when: score > %.4g, clear: score < %.4g\n", alarm.When, alarm.Clear)
	}
	if stopped != nil {
		return fmt.Errorf("stopped: %s is the best so far; the same command with --resume goes on from %s", t.out, t.cfg.Checkpoint)
	}
	for _, name := range []string{t.cfg.Checkpoint, t.featureFile()} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// unwritten is the error of a training that was stopped before there was
// anything to write: what stood at --out stays.
func (t *training) unwritten(when string) error {
	way := "the same command begins anew"
	if _, err := os.Stat(t.cfg.Checkpoint); err == nil {
		way = "the same command with --resume goes on from " + t.cfg.Checkpoint
	}
	return fmt.Errorf("stopped %s: %s is not written; %s", when, t.out, way)
}

// kept says which epoch's weights are in the model, and why there are no more.
func (t *training) kept(tr *train.Trainer, stopped error) {
	n := len(tr.History)
	if stopped == nil && n < tr.Config.Epochs {
		fmt.Fprintf(t.say, "no better epoch in %d: the training ends after %d of %d\n", tr.Config.Patience, n, tr.Config.Epochs)
	}
	if tr.Best != n && tr.Best > 0 {
		fmt.Fprintf(t.say, "the weights are those of epoch %d: its validation loss is the least, %.4f\n", tr.Best, tr.History[tr.Best-1].ValLoss)
	}
}

// judge runs the written file on what it was not trained on; nil where that has
// no labels.
func (t *training) judge(ctx context.Context, file []byte, raw *train.Dataset) (*compress.Quality, error) {
	if t.lesson != nil {
		if err := t.lesson.agree(file, raw); err != nil {
			return nil, err
		}
	}
	task := t.data.taskOf("auto", raw)
	if t.itself {
		task = compress.Reconstruction
	} else if raw.Labels == nil && raw.Targets == nil {
		return nil, nil
	}
	q, err := compress.Judge(ctx, file, "", "", task, &compress.Samples{Set: raw, Low: t.low, High: t.high}, nil)
	if err == nil && t.base == nil && t.learn.Labels != nil {
		q.Baseline = compress.OneThreshold(t.learn, raw)
	}
	return q, err
}

func (t *training) trainer(net *train.Network, cfg train.Config) *train.Trainer {
	bar := newBar("training")
	tr := &train.Trainer{Net: net, Config: cfg, Train: t.learn, Val: t.hold, Teacher: t.lesson.pupil()}
	tr.Step = func(done, of int, _ float64) {
		bar.what = epochText(tr.Running, cfg.Epochs)
		bar.step(done, of)
	}
	tr.Done = func(e train.Epoch) {
		bar.end()
		fmt.Fprintf(t.say, "%s (%.1f s)\n", epochText(e, cfg.Epochs), e.Seconds)
	}
	return tr
}

// epochText says how an epoch went, or goes.
func epochText(e train.Epoch, of int) string {
	text := fmt.Sprintf("epoch %d of %d: loss %.4f", e.Epoch, of, e.Loss)
	for _, v := range []struct {
		name string
		is   float64
	}{{"accuracy", e.Accuracy}, {"validation loss", e.ValLoss}, {"validation accuracy", e.ValAccuracy}} {
		if !math.IsNaN(v.is) {
			text += fmt.Sprintf(", %s %.4f", v.name, v.is)
		}
	}
	return text
}

// export gives the bytes of the model: float, or int8 after aware training.
func (t *training) export(ctx context.Context, net *train.Network) ([]byte, error) {
	const by = "trained by edgegateway"
	labels := t.learn.Classes
	if t.learn.Labels != nil || t.lesson.blind() && !t.lesson.values {
		net = net.TwoClasses()
	}
	if t.base != nil {
		m, err := t.base.Attach(net, by, labels)
		if err != nil {
			return nil, err
		}
		return m.Write()
	}
	m, ranges, err := net.ExportAware(by, labels)
	if err != nil {
		return nil, err
	}
	if len(ranges) > 0 {
		fixed := map[string][2]float64{}
		for name, r := range ranges {
			fixed[name] = [2]float64{float64(r.Low), float64(r.High)}
		}
		stats, err := compress.Calibrate(ctx, m, "", &compress.Samples{Set: t.learn}, nil)
		if err != nil {
			return nil, err
		}
		cfg := compress.DefaultConfig()
		cfg.CorrectBias = "no" // it was trained with the weights as they are rounded
		o, err := compress.Quantize(m, cfg, stats, fixed)
		if err != nil {
			return nil, err
		}
		m = o.Model
	}
	return m.Write()
}
