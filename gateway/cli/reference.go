package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"edgegateway/infer"
	"edgegateway/infer/compress"
	"edgegateway/infer/drift"
	"edgegateway/infer/train"
)

// reference is what the command was told.
type reference struct {
	data    judgedData
	model   modelFlags
	out     string
	windows []int
	asBytes bool // no --pixels: integer inputs take pictures as bytes, as in the gateway
}

// maxReferenced bounds the samples that a reference is made of.
const maxReferenced = 1 << 18

func modelReferenceCommand() *cobra.Command {
	var r reference
	cmd := &cobra.Command{
		Use:   "reference MODEL",
		Short: "Write how the data of a model is spread, to tell drift from it",
		Long: `Write how the samples that a model was made for are spread, and what it answers
to them: bins and shares of each input, of the scores and of the classes; of
pictures the histogram, and the main ways in which they differ. A stream holds
what comes against it (drift: {reference: FILE}), or a bundle carries it (model
bundle --reference FILE). No sample is in it.

The samples are taken in their order: windows of them that follow each other say
how much data varies by itself, over a day or from shift to shift. Give them as
often as the stream looks at them, of a time in which all was well. --drift-window
names the sizes of windows that streams will judge; without it a row of sizes is
looked at.`,
		Example: `  edgegateway model reference --data occupancy_train.csv --target Occupancy --out room.reference.json room.tflite
  edgegateway model reference --data train-images-idx3-ubyte --drift-window 512 --out digits.reference.json digits.tflite`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, w := range r.windows {
				if w < 32 || w > 1<<17 {
					return usage(cmd, fmt.Errorf("--drift-window %d is not in 32..131072", w))
				}
			}
			r.asBytes = !cmd.Flags().Changed("pixels")
			return r.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	r.data.add(cmd, "samples of a time in which all was well, in their order")
	r.data.loose = true
	f := cmd.Flags()
	f.StringVar(&r.out, "out", "", "file to write; by default MODEL with .reference.json")
	f.IntSliceVar(&r.windows, "drift-window", nil, "sizes of windows, in samples, that are looked at; by default a row of sizes")
	f.StringVar(&r.model.cfg.Output, "output", "auto", "what the model's outputs mean, as in the configuration")
	f.StringVar(&r.model.cfg.Labels, "labels", "", "file with a label a line, as in the configuration")
	completeWords(cmd, "output", "auto", "classes", "blazeface", "detection", "regression", "reconstruction", "raw")
	return cmd
}

func (r *reference) run(ctx context.Context, path string, out, say io.Writer) error {
	to := r.out
	if to == "" {
		to = strings.TrimSuffix(path, filepath.Ext(path)) + ".reference.json"
	}
	if err := regular(to); err != nil {
		return err
	}
	_, m, err := usableModel(path)
	if err != nil {
		return err
	}
	s, err := r.data.samples(ctx, m, say)
	if err != nil {
		return err
	}
	if n := s.Len(); n < drift.MinSamples || n > maxReferenced {
		return &exitError{exitUsage, fmt.Errorf("%d samples: a reference is made of %d to %d; --samples takes some of many, --from and --before a time", n, drift.MinSamples, maxReferenced)}
	}
	if r.asBytes {
		s.Low, s.High = 0, 0
	}
	if !ordered(s.Set) {
		fmt.Fprintln(say, "the samples lie class by class, and not in the order in which they come: they are shuffled")
	}
	r.model.cfg.Delegate, r.model.library = "builtin", r.data.library
	e, loaded, err := r.model.open(path, "", nil)
	if err != nil {
		return err
	}
	defer e.Close()
	ref, err := r.learn(ctx, loaded, s)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := ref.Write(&b); err != nil {
		return err
	}
	if err := writeWhole(to, b.Bytes()); err != nil {
		return err
	}
	return describeReference(out, to, b.Len(), ref)
}

// ordered says whether the classes of samples come mixed, as they do where a
// stream recorded them.
func ordered(d *train.Dataset) bool {
	changes := 0
	for i := 1; i < len(d.Labels); i++ {
		if d.Labels[i] != d.Labels[i-1] {
			changes++
		}
	}
	return len(d.Labels) == 0 || changes >= 2*len(d.Classes)
}

// learn asks the model about each sample as a stream would.
func (r *reference) learn(ctx context.Context, m *infer.Model, s *compress.Samples) (*drift.Reference, error) {
	d := s.Set
	order := all(d.Len())
	if !ordered(d) {
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	size := 1
	for _, n := range d.Shape {
		size *= n
	}
	readings := d.Row // of windows: values a reading
	names := drift.PictureNames
	if d.Pixels == nil {
		names = drift.InputNames(d.Features, size, readings)
	}
	b := newBar("asking the model")
	defer b.end()
	var learner *drift.Learner
	var result infer.Result
	var look drift.Look
	x := make([]float32, size)
	values := make([]float64, len(x))
	var row []float64
	for n, i := range order {
		if err := m.Run(ctx, func(in []infer.Tensor) error { return s.Fill(in, i) }, &result); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, invalid(fmt.Errorf("sample %d: %w", i, err))
		}
		if learner == nil {
			all := append(slices.Clone(names), drift.AnswerNames(len(result.Values))...)
			var err error
			if learner, err = drift.NewLearner(all, len(names), len(result.Values) == 0, d.Len()); err != nil {
				return nil, invalid(err)
			}
		}
		if d.Pixels != nil {
			pixels := d.Pixels[i*size : (i+1)*size]
			look.From(d.Shape[1], d.Shape[0], d.Shape[2], func(k int) float64 { return float64(pixels[k]) })
			row = drift.Answers(row[:0], result.Score, result.Values)
			learner.AddPicture(&look, row, result.Label)
		} else {
			d.Input(x, i)
			for k, v := range x {
				values[k] = float64(v)
			}
			row = drift.Answers(drift.Inputs(row[:0], values, readings), result.Score, result.Values)
			learner.Add(row, result.Label)
		}
		b.step(n+1, len(order))
	}
	if learner.Len() < drift.MinSamples {
		return nil, invalid(errors.New("hardly a sample has finite numbers alone"))
	}
	return learner.Reference(r.windows...)
}

// describeReference says what was written.
func describeReference(out io.Writer, path string, bytes int, ref *drift.Reference) error {
	fmt.Fprintf(out, "%s: %s, %d samples, windows of up to %d\n\n", path, sizeText(int64(bytes)), ref.Samples, ref.Largest())
	w := tabwriter.NewWriter(out, 2, 4, 2, ' ', 0)
	fmt.Fprintf(w, "FEATURE\tMIDDLE\tSPREAD\tVARIES, IN WINDOWS OF %d\n", ref.Largest())
	last := ref.Windows[len(ref.Windows)-1]
	for i, f := range ref.Features {
		if f.Edges == nil {
			fmt.Fprintf(w, "%s\t%d classes\t\t%.1f times as independent samples\n", f.Name, len(f.Classes), last.Inflate[i])
			continue
		}
		fmt.Fprintf(w, "%s\t%.5g\t%.5g\t%.1f times as independent samples\n", f.Name, f.Center, f.Scale, last.Inflate[i])
	}
	return w.Flush()
}
