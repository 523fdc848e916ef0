package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"edgegateway/infer"
	"edgegateway/infer/compress"
	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// pruning is one run of the command.
type pruning struct {
	data          judgedData
	test          string // path of data to judge by, in place of half of the samples
	task          string
	model         string
	out           string
	cfg           compress.PruneConfig
	tune          compress.Tune
	parts         int
	unlabelled    bool
	quick, asJSON bool
}

// pruned is what the command says of what it made.
type pruned struct {
	Out string `json:"out"`
	*compress.PruneReport
	Models []compress.Evaluation `json:"models"` // before and after
	MadeUp bool                  `json:"made_up,omitempty"`
	Doubt  *compress.Doubt       `json:"doubt,omitempty"` // of what was made up
}

func pruneCommand() *cobra.Command {
	p := &pruning{cfg: compress.DefaultPrune(), tune: compress.DefaultTune()}
	p.tune.Config.Epochs = 0
	cmd := &cobra.Command{
		Use:   "prune MODEL",
		Short: "Take weights or whole channels out of a float model",
		Long: `Make weights of a float .tflite 0, or take whole channels and neurons out of it
(--pattern channels), with all that hangs on them: then the file and the time
shrink, with the kernels that every runtime has. Zeros make a file smaller where it
is zipped or packed.

With --data half of the samples (no labels needed) say which channels are missed
least, and what stays takes over what they said; the other half judges, or what
--test names does. Without it made up inputs say so. The report shows the model
before and after: quality, bytes, multiply-adds, and the time of every delegate on
this box.`,
		Example: `  edgegateway prune pretrainedResnet.tflite --pattern channels --macs 0.85 --data cifar10/ --pixels 0..255
  edgegateway prune digits.tflite --sparsity 0.9 --data train-images-idx3-ubyte --epochs 5
  edgegateway prune digits.tflite --pattern 2:4 --out digits-24.tflite`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.model = args[0]
			if err := p.idle(cmd); err != nil {
				return err
			}
			return p.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.cfg.Pattern, "pattern", p.cfg.Pattern, "what goes together: "+strings.Join(compress.Patterns, ", "))
	f.Float64Var(&p.cfg.Sparsity, "sparsity", p.cfg.Sparsity, "the share of weights that becomes 0, or of channels that goes; 2:4 is half")
	f.Float64Var(&p.cfg.MACs, "macs", 0, "with --pattern channels, in place of --sparsity: the share of multiply-adds that is left")
	f.StringVar(&p.cfg.Scope, "scope", p.cfg.Scope, "global: where they count least; layer: the same share in each layer")
	f.BoolVar(&p.cfg.Depthwise, "depthwise", false, "with --pattern unstructured: depthwise convolutions take part")
	f.BoolVar(&p.cfg.Last, "last", false, "the layer that gives the answers takes part")
	f.IntVar(&p.cfg.Least, "least", p.cfg.Least, "with --pattern channels: what a layer keeps at least")
	f.IntVar(&p.cfg.Multiple, "multiple", p.cfg.Multiple, "with --pattern channels: what is kept is rounded up to a multiple of this")
	f.IntVar(&p.tune.Config.Epochs, "epochs", 0, "train on for so many epochs, on --data, while it is pruned")
	f.Float64Var(&p.tune.Config.Optimizer.Rate, "rate", 0.001, "learning rate of that; it falls along a cosine")
	f.IntVar(&p.tune.Config.Batch, "batch", p.tune.Config.Batch, "samples a step")
	f.IntVar(&p.tune.Config.Augment.Shift, "shift", 0, "training on pictures: up to so many pixels to any side")
	f.BoolVar(&p.tune.Config.Augment.Flip, "flip", false, "training on pictures: half of them left to right")
	f.Uint64Var(&p.tune.Config.Seed, "seed", p.tune.Config.Seed, "the same seed gives the same weights")
	f.BoolVar(&p.unlabelled, "unlabelled", false, "learn what the model answers before it is pruned, in place of labels")
	f.IntVar(&p.parts, "parts", 3, "with --pattern channels and --epochs: channels go in so many parts, with half of the epochs between them")
	f.StringVar(&p.test, "test", "", "data of the same kind to judge by, in place of a part of --data")
	f.StringVar(&p.task, "task", "auto", "what the answers are: auto, classes, regression, forecast, reconstruction")
	f.BoolVar(&p.quick, "no-latency", false, "do not try the delegates")
	f.StringVar(&p.out, "out", "", "the file to write; by default MODEL-pruned.tflite")
	f.BoolVar(&p.asJSON, "json", false, "print JSON")
	p.data.add(cmd, "samples that say what can go, and that judge")
	completeWords(cmd, "pattern", compress.Patterns...)
	completeWords(cmd, "scope", compress.Scopes...)
	completeWords(cmd, "task", "auto", "classes", "regression", "forecast", "reconstruction")
	return cmd
}

// idle refuses flags that do nothing.
func (p *pruning) idle(cmd *cobra.Command) error {
	channels, given := p.cfg.Pattern == "channels", cmd.Flags().Changed
	if epochs := p.tune.Config.Epochs; given("parts") && epochs > 0 && p.parts > epochs {
		return usage(cmd, fmt.Errorf("--parts %d: channels go in no more parts than there are epochs, %d", p.parts, epochs))
	}
	if given("macs") && !(p.cfg.MACs > 0 && p.cfg.MACs < 1) {
		return usage(cmd, fmt.Errorf("--macs %v: a share of the multiply-adds is between 0 and 1", p.cfg.MACs))
	}
	return noneIdle(cmd,
		idle{p.cfg.Pattern == "2:4", "--pattern 2:4 takes two of each four weights, everywhere", []string{"sparsity", "scope"}},
		idle{given("macs"), "--macs says how much goes", []string{"sparsity"}},
		idle{!channels, "it is about --pattern channels", []string{"least", "multiple", "parts"}},
		idle{channels, "what the last layer gives are the answers, which --pattern channels leaves as many as they are", []string{"last"}},
		p.data.noData("test", "task"),
		idle{p.tune.Config.Epochs == 0, "it is about --epochs, in which the model is trained on", []string{"rate", "batch", "shift", "flip", "seed", "parts"}})
}

func (p *pruning) run(ctx context.Context, out, say io.Writer) error {
	if err := p.cfg.Validate(); err != nil {
		return &exitError{exitUsage, err}
	}
	if p.unlabelled && p.tune.Config.Epochs == 0 {
		return &exitError{exitUsage, errors.New("--unlabelled says what --epochs learn, and there are none")}
	}
	_, _, err := p.data.levels()
	if err != nil {
		return err
	}
	if p.tune.Config.Epochs < 0 || p.parts < 1 {
		return &exitError{exitUsage, fmt.Errorf("--epochs %d and --parts %d: neither may be so small", p.tune.Config.Epochs, p.parts)}
	}
	if p.tune.Config.Epochs > 0 {
		if p.data.path == "" {
			return &exitError{exitUsage, errors.New("--epochs trains on --data: say which")}
		}
		if err := p.tune.Config.Validate(); err != nil {
			return &exitError{exitUsage, err}
		}
	}
	if p.out, err = madeOf(p.model, p.out, "pruned"); err != nil {
		return err
	}
	file, m, err := usableModel(p.model)
	if err == nil {
		err = p.failed(ctx, compress.CheckPrune(m, p.cfg)) // before data is read
	}
	if err != nil {
		return err
	}
	var show steps
	defer show.end()
	made := &pruned{Out: p.out, MadeUp: p.data.path == ""}
	job := compress.PruneJob{Config: p.cfg, Library: p.data.library, Progress: show.show, Samples: p.data.madeUp(m, 512, 1)}
	var judged *compress.Samples
	if !made.MadeUp {
		var learn *compress.Samples
		if learn, judged, err = p.samples(ctx, m, say); err != nil {
			return err
		}
		job.Samples = learn
		if p.tune.Config.Epochs > 0 {
			if job.Tune, err = p.tuning(learn, file, say, &show); err != nil {
				return err
			}
			job.Parts = p.parts
		}
	}
	small, report, err := job.Run(ctx, m)
	show.end()
	stopped := err != nil && small != nil && ctx.Err() != nil
	if err != nil && ctx.Err() != nil && job.Tune != nil && !stopped {
		return fmt.Errorf("stopped before the first epoch was whole: %s is not written", p.out)
	}
	if err != nil && !stopped {
		return p.failed(ctx, err)
	}
	made.PruneReport = report
	if stopped { // what was trained is worth its file though the user wants to go
		report.Notes = append(report.Notes, "stopped in the training: this is what it came to")
		p.quick, ctx, judged = true, context.WithoutCancel(ctx), quickly(judged)
	}
	after, err := small.Write()
	if err != nil {
		return invalid(err)
	}
	made.Models, made.Doubt, err = p.judge(ctx, file, after, judged, p.data.madeUp(m, 50, 2))
	if err != nil && (ctx.Err() == nil || job.Tune == nil) {
		return p.failed(ctx, err)
	}
	if err != nil { // it was trained, which takes long
		if err := writeWhole(p.out, after); err != nil {
			return err
		}
		return fmt.Errorf("stopped while it was judged; %s is written, and not compared", p.out)
	}
	if err := writeWhole(p.out, after); err != nil {
		return err
	}
	if !p.quick {
		if err := p.time(ctx, made.Models); err != nil {
			return err
		}
	}
	if p.asJSON {
		err = printJSON(out, made)
	} else {
		err = made.describe(out, p.cfg)
	}
	if err == nil && stopped {
		err = fmt.Errorf("stopped: %s is what the training came to", p.out)
	}
	return err
}

// tuning is how the model is trained on, on nine tenths of the samples; the
// others say which epoch is best.
func (p *pruning) tuning(learn *compress.Samples, file []byte, say io.Writer, show *steps) (*compress.Tune, error) {
	t := p.tune
	var err error
	if t.Learn, t.Val, err = learn.Set.Split(0.1, false, t.Config.Seed); err != nil {
		return nil, invalid(err)
	}
	t.Low, t.High, t.Library, t.Progress = learn.Low, learn.High, p.data.library, show.show
	if p.unlabelled {
		t.Teacher = file
	} else {
		t.Task = p.data.taskOf(p.task, learn.Set)
	}
	t.Epoch = func(e train.Epoch) {
		show.end()
		fmt.Fprintf(say, "epoch %d: loss %.4f, validation loss %.4f (%.1f s)\n", e.Epoch, e.Loss, e.ValLoss, e.Seconds)
	}
	return &t, nil
}

// samples are those that say what can go, and those that judge.
func (p *pruning) samples(ctx context.Context, m *model.Model, say io.Writer) (look, judged *compress.Samples, err error) {
	all, err := p.data.samples(ctx, m, say)
	if err != nil {
		return nil, nil, err
	}
	if p.test == "" && p.tune.Config.Epochs == 0 {
		look, judged = halves(all)
		return look, judged, nil
	}
	if p.test == "" {
		learn, off, err := all.Set.Split(0.2, false, p.tune.Config.Seed)
		if err != nil {
			return nil, nil, invalid(err)
		}
		return &compress.Samples{Set: learn, Low: all.Low, High: all.High}, &compress.Samples{Set: off, Low: all.Low, High: all.High}, nil
	}
	judged, err = p.data.judging(ctx, m, p.test, all)
	return all, judged, err
}

// judge says what both models are worth; without data they are compared on made
// up inputs.
func (p *pruning) judge(ctx context.Context, before, after []byte, judged *compress.Samples, madeUp compress.Structured) (list []compress.Evaluation, doubt *compress.Doubt, err error) {
	// XNNPACK serves nearly all float models, and is quick.
	on := [2]string{"xnnpack:0", "xnnpack:0"}
	for k, file := range [][]byte{before, after} {
		s, err := infer.OpenSession(file, on[k], p.data.library)
		if err != nil {
			on = [2]string{}
			break
		}
		s.Close()
	}
	for k, file := range [][]byte{before, after} {
		path := []string{p.model, p.out}[k]
		e := compress.Evaluation{Name: strings.TrimSuffix(filepath.Base(path), ".tflite"), File: path}
		cost, err := costOf(file, false)
		if err != nil {
			return nil, nil, err
		}
		e.Cost = *cost
		if judged != nil {
			b := newBar("judging " + e.Name)
			e.Quality, err = compress.Judge(ctx, file, on[k], p.data.library, p.data.taskOf(p.task, judged.Set), judged, b.step)
			if b.end(); err != nil {
				return nil, nil, err
			}
		}
		if k == 1 {
			var inputs compress.Inputs = madeUp
			if judged != nil {
				inputs = judged
			}
			a, err := compress.Compare(ctx, before, after, on, p.data.library, inputs)
			if err == nil && judged == nil {
				doubt, err = compress.Doubted(ctx, before, after, on, p.data.library, madeUp, a)
			}
			if err != nil {
				return nil, nil, err
			}
			e.Agreement = &a
		}
		list = append(list, e)
	}
	return list, doubt, nil
}

// rounds is how often delegates are tried with both files, in turns: what else
// the box does then strikes both.
const rounds = 3

// time tries every delegate with both files; the fastest round counts.
func (p *pruning) time(ctx context.Context, list []compress.Evaluation) error {
	trial, err := childTrial()
	if err != nil {
		return err
	}
	done := waiting("trying the delegates")
	defer done()
	for range rounds {
		for i := range list {
			_, m, err := readModel(list[i].File)
			if err != nil {
				return err
			}
			report, err := trial(ctx, infer.TrialRequest{Library: p.data.library, File: list[i].File, Candidates: infer.Candidates(m)})
			if ctx.Err() != nil {
				return fmt.Errorf("stopped while the time was measured; %s is written", p.out)
			}
			if err != nil {
				return invalid(fmt.Errorf("%s: %w", list[i].File, err))
			}
			list[i].Latency = fastest(list[i].Latency, report)
		}
	}
	return nil
}

// fastest keeps the faster of two reports of each delegate.
func fastest(a, b []infer.CandidateReport) []infer.CandidateReport {
	for k := range b {
		i := slices.IndexFunc(a, func(r infer.CandidateReport) bool { return r.Name == b[k].Name })
		if i >= 0 && a[i].OK && (!b[k].OK || a[i].Micros < b[k].Micros) {
			b[k] = a[i]
		}
	}
	return b
}

func (p *pruning) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stopped before the model was proved: %s is not written", p.out)
	}
	return invalid(fmt.Errorf("%s: %w", p.model, err))
}

func (p *pruned) describe(out io.Writer, cfg compress.PruneConfig) error {
	w := tabwriter.NewWriter(out, 2, 4, 2, ' ', 0)
	if cfg.Pattern == "channels" {
		fmt.Fprintln(w, "OP\tKIND\tLAYER\tCHANNELS\tBEFORE\tWEIGHTS")
	} else {
		fmt.Fprintln(w, "OP\tKIND\tLAYER\tWEIGHTS\tZEROS\tSHARE\tWHY NOT")
	}
	for _, l := range p.Layers {
		if cfg.Pattern == "channels" {
			fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%d\t%d\n", l.Op, l.Code, layerName(l.Name), l.Channels[1], l.Channels[0], l.Weights)
			continue
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%d\t%.2f %%\t%s\n", l.Op, l.Code, layerName(l.Name), l.Weights, l.Zeros, 100*l.Share(), l.Whole)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d of %d weights are 0\n\n%s\n", p.Zeros, p.Weights, compress.Table(p.Models, false))
	a, b := p.Models[0], p.Models[1]
	fmt.Fprintf(out, "%s: %.1f times smaller, zipped %.1f times", p.Out, float64(a.Cost.Bytes)/float64(b.Cost.Bytes), float64(a.Cost.Zipped)/float64(b.Cost.Zipped))
	if a.Cost.Packed > 0 && b.Cost.Packed > 0 {
		fmt.Fprintf(out, ", packed %.1f times", float64(a.Cost.Packed)/float64(b.Cost.Packed))
	}
	fmt.Fprintf(out, ", %.2f times the multiply-adds", float64(b.Cost.MACs)/float64(max(a.Cost.MACs, 1)))
	if _, us := b.Best(); us > 0 {
		_, was := a.Best()
		fmt.Fprintf(out, ", %.2f times as fast", was/us)
	}
	fmt.Fprintln(out)
	if q := b.Quality; q != nil {
		fmt.Fprintf(out, "both were judged on %d samples\n", q.Samples)
	}
	if p.MadeUp {
		fmt.Fprintf(out, "compared on %d made up inputs alone (%s): real data may be answered quite otherwise; give --data\n", b.Agreement.Samples, b.Agreement.Assumed)
		doubted(out, p.Doubt)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(out, "note: %s\n", n)
	}
	return nil
}

// doubted warns where a comparison hangs on how inputs were made up.
func doubted(out io.Writer, d *compress.Doubt) {
	if d == nil {
		return
	}
	how := "--data decides"
	if strings.Contains(d.Assumed, "pictures") {
		how = "--pixels says what pictures are for the model, and --data decides"
	}
	fmt.Fprintf(out, "warning: %v; %s\n", d, how)
}
