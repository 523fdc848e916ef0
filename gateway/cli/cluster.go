package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"edgegateway/infer/compress"
	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// clustering is one run of the command.
type clustering struct {
	data       judgedData
	test       string // path of data to judge by, in place of half of the samples
	model      string
	out        string
	cfg        compress.ClusterConfig
	tune       compress.Tune
	unlabelled bool
	biases     compress.ClusterConfig // of the biases; no clusters: they stay
	asJSON     bool
}

// clustered is what the command says of what it made.
type clustered struct {
	Out string `json:"out"`
	*compress.ClusterReport
	Biases    *compress.SharedBiases `json:"biases,omitempty"`
	Epochs    []train.Epoch          `json:"epochs,omitempty"`  // of the shared values
	Cost      [2]*compress.Cost      `json:"cost"`              // before and after
	Quality   [2]*compress.Quality   `json:"quality,omitempty"` // likewise, with labelled data
	Agreement compress.Agreement     `json:"agreement"`
	MadeUp    bool                   `json:"made_up,omitempty"` // the inputs that they agree on
	Doubt     *compress.Doubt        `json:"doubt,omitempty"`   // of these
}

func clusterCommand() *cobra.Command {
	c := &clustering{cfg: compress.DefaultCluster(), tune: compress.DefaultTune()}
	c.tune.Config.Epochs = 0
	cmd := &cobra.Command{
		Use:   "cluster MODEL",
		Short: "Make the weights of a float model share few values",
		Long: `Make the weights of each convolution and dense layer of a float .tflite share few
values, found by k-means. What is 0, as in a pruned model, stays 0; biases stay as
they are. The file is as large as before: it gains where it is zipped or packed.
With --epochs the shared values and the biases are trained on half of --data, and the
other half judges, or what --test names does. What is written was run beside the model
that it was made of: on that, else on made up inputs.`,
		Example: `  edgegateway cluster digits.tflite --clusters 16 --out digits-16.tflite
  edgegateway cluster pretrainedResnet.tflite --clusters 32 --data cifar10/ --pixels 0..255 --epochs 5`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.model = args[0]
			if err := noneIdle(cmd, c.data.noData("test"),
				idle{c.tune.Config.Epochs == 0, "it is about --epochs, in which the shared values are trained", []string{"rate", "batch", "seed", "shift"}}); err != nil {
				return err
			}
			return c.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.cfg.Clusters, "clusters", c.cfg.Clusters, "at most so many values a layer; 0 in a pruned layer is one of them")
	f.BoolVar(&c.cfg.PerChannel, "per-channel", false, "so many values for each output channel, not for the layer")
	f.StringVar(&c.cfg.Method, "method", c.cfg.Method, "linear: k-means from evenly spaced centres; optimal: the least squared error there is")
	f.IntVar(&c.biases.Clusters, "biases", 0, "at the end the biases of a layer share at most so many values; 0: they stay")
	f.StringVar(&c.out, "out", "", "the file to write; by default MODEL-clustered.tflite")
	f.IntVar(&c.tune.Config.Epochs, "epochs", 0, "so many epochs of training on --data, in which weights go on sharing values and 0 stays 0")
	f.Float64Var(&c.tune.Config.Optimizer.Rate, "rate", c.tune.Config.Optimizer.Rate, "with --epochs: the learning rate")
	f.IntVar(&c.tune.Config.Batch, "batch", c.tune.Config.Batch, "with --epochs: samples a step")
	f.Uint64Var(&c.tune.Config.Seed, "seed", c.tune.Config.Seed, "with --epochs: the same seed gives the same weights")
	f.IntVar(&c.tune.Config.Augment.Shift, "shift", 0, "with --epochs, of pictures: up to so many pixels to any side")
	f.BoolVar(&c.unlabelled, "unlabelled", false, "with --epochs: learn what the model itself answered, not labels")
	f.StringVar(&c.test, "test", "", "data of the same kind to judge by, in place of half of --data")
	f.BoolVar(&c.asJSON, "json", false, "print JSON")
	c.data.add(cmd, "samples to judge and compare with")
	completeWords(cmd, "method", compress.ClusterMethods...)
	return cmd
}

func (c *clustering) run(ctx context.Context, out, say io.Writer) error {
	if err := c.cfg.Validate(); err != nil {
		return &exitError{exitUsage, err}
	}
	if c.biases.Method = "optimal"; c.biases.Clusters != 0 {
		if err := c.biases.Validate(); err != nil {
			return &exitError{exitUsage, fmt.Errorf("--biases: %w", err)}
		}
	}
	tuned := c.tune.Config.Epochs != 0
	if c.unlabelled && !tuned {
		return &exitError{exitUsage, errors.New("--unlabelled says what --epochs learn, and there are none")}
	}
	if err := c.tune.Config.Validate(); tuned && err != nil {
		return &exitError{exitUsage, err}
	}
	if tuned && c.data.path == "" {
		return &exitError{exitUsage, errors.New("--epochs trains on --data, which is missing")}
	}
	var err error
	if c.out, err = madeOf(c.model, c.out, "clustered"); err != nil {
		return err
	}
	_, _, err = c.data.levels()
	if err != nil {
		return err
	}
	file, m, err := usableModel(c.model)
	if err != nil {
		return err
	}
	if err := compress.CheckFloat(m); err != nil {
		return c.failed(ctx, err)
	}
	made := &clustered{Out: c.out}
	var samples *compress.Samples
	guess := c.data.madeUp(m, 50, 1)
	var inputs compress.Inputs = guess
	if c.data.path == "" {
		made.MadeUp = true
	} else {
		if samples, err = c.samples(ctx, m, say, tuned); err != nil {
			return err
		}
		inputs = samples
	}
	shared, report, err := compress.Cluster(m, c.cfg)
	if err != nil {
		return invalid(fmt.Errorf("%s: %w", c.model, err))
	}
	made.ClusterReport = report
	var stopped error
	if tuned {
		if shared, stopped, err = c.train(ctx, file, shared, made, say); err != nil {
			return c.failed(ctx, err)
		}
		if stopped != nil && len(made.Epochs) == 0 {
			return fmt.Errorf("stopped before the first epoch was whole: %s is not written", c.out)
		}
		if stopped != nil { // what was trained is worth its file though the user wants to go
			samples, ctx = quickly(samples), context.WithoutCancel(ctx)
			inputs = samples
		}
	}
	if c.biases.Clusters != 0 {
		if shared, made.Biases, err = compress.ShareBiases(shared, c.biases); err != nil {
			return c.failed(ctx, err)
		}
	}
	after, err := shared.Write()
	if err != nil {
		return invalid(err)
	}
	for k, f := range [][]byte{file, after} {
		if made.Cost[k], err = costOf(f, false); err != nil {
			return invalid(err)
		}
		if samples == nil {
			continue
		}
		b := newBar("judging " + []string{filepath.Base(c.model), filepath.Base(c.out)}[k])
		made.Quality[k], err = compress.Judge(ctx, f, "", c.data.library, c.data.taskOf("auto", samples.Set), samples, b.step)
		if b.end(); err != nil {
			return c.failed(ctx, err)
		}
	}
	if made.Agreement, err = compress.Compare(ctx, file, after, [2]string{}, c.data.library, inputs); err != nil {
		return c.failed(ctx, err)
	}
	if made.MadeUp {
		if made.Doubt, err = compress.Doubted(ctx, file, after, [2]string{}, c.data.library, guess, made.Agreement); err != nil {
			return c.failed(ctx, err)
		}
	}
	if err := writeWhole(c.out, after); err != nil {
		return err
	}
	if c.asJSON {
		err = printJSON(out, made)
	} else {
		err = made.describe(out)
	}
	if err == nil && stopped != nil {
		err = fmt.Errorf("stopped: %s is the best so far", c.out)
	}
	return err
}

// samples are those that judge; where the shared values are trained on the
// others, these go to c.tune.
func (c *clustering) samples(ctx context.Context, m *model.Model, say io.Writer, tuned bool) (judged *compress.Samples, err error) {
	all, err := c.data.samples(ctx, m, say)
	if err != nil || !tuned && c.test == "" {
		return all, err
	}
	learn := all
	if c.test == "" {
		learn, judged = halves(all)
	} else if judged, err = c.data.judging(ctx, m, c.test, all); err != nil {
		return nil, err
	}
	c.tune.Low, c.tune.High, c.tune.Library = learn.Low, learn.High, c.data.library
	c.tune.Task = c.data.taskOf("auto", learn.Set)
	if c.tune.Learn, c.tune.Val, err = learn.Set.Split(0.1, false, c.tune.Config.Seed); err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("--data: %w", err)}
	}
	return judged, nil
}

// train moves the shared values. stopped is the error of an ended ctx, beside
// the best so far.
func (c *clustering) train(ctx context.Context, file []byte, m *model.Model, made *clustered, say io.Writer) (out *model.Model, stopped, err error) {
	if c.unlabelled {
		c.tune.Teacher, c.tune.Task = file, ""
	}
	var show steps
	defer show.end()
	c.tune.Shared = c.cfg.Clusters
	c.tune.Progress = show.show
	c.tune.Epoch = func(e train.Epoch) {
		show.end()
		made.Epochs = append(made.Epochs, e)
		fmt.Fprintf(say, "epoch %d of %d: loss %.4f, validation loss %.4f\n", e.Epoch, c.tune.Config.Epochs, e.Loss, e.ValLoss)
	}
	if out, err = c.tune.Run(ctx, m); out == nil {
		return nil, nil, err
	}
	return out, err, made.Measure(out)
}

func (c *clustering) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("stopped before the model was proved: %s is not written", c.out)
	}
	return invalid(fmt.Errorf("%s: %w", c.model, err))
}

// sizesText says what both models take: as they are, zipped, and packed where
// that is known.
func sizesText(before, after *compress.Cost) string {
	text := fmt.Sprintf("%d bytes, before %d", after.Bytes, before.Bytes)
	for _, z := range []struct {
		how     string
		was, is int
	}{{"zipped", before.Zipped, after.Zipped}, {"packed", before.Packed, after.Packed}} {
		if z.was > 0 && z.is > 0 {
			text += fmt.Sprintf("; %s %d, before %d (%.1f times)", z.how, z.is, z.was, float64(z.was)/float64(z.is))
		}
	}
	return text
}

func (c *clustered) describe(out io.Writer) error {
	w := tabwriter.NewWriter(out, 2, 4, 2, ' ', 0)
	fmt.Fprintln(w, "OP\tKIND\tLAYER\tWEIGHTS\tZEROS\tVALUES\tNOW\tCLUSTERS\tERROR")
	for _, l := range c.Layers {
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%.2f %%\n", l.Op, l.Code, layerName(l.Name), l.Weights, l.Zeros, l.Before, l.Distinct, l.Clusters, 100*l.Relative)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if r := c.Biases; r != nil {
		fmt.Fprintf(out, "%d biases have %d values, before %d\n", r.Biases, r.Values, r.Before)
	}
	a, b := c.Cost[0], c.Cost[1]
	fmt.Fprintf(out, "%s: %s\n", c.Out, sizesText(a, b))
	if c.Quality[0] != nil {
		fmt.Fprintf(out, "before: %s\nafter:  %s\n", qualityLine(c.Quality[0]), qualityLine(c.Quality[1]))
	}
	fmt.Fprintln(out, c.Agreement)
	doubted(out, c.Doubt)
	for _, n := range c.Notes {
		fmt.Fprintf(out, "note: %s\n", n)
	}
	return nil
}
