package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"edgegateway/infer"
	"edgegateway/infer/compress"
	"edgegateway/infer/model"
	"edgegateway/infer/train"
	"edgegateway/internal/chart"
)

// taskOf is the task that was named, or the one that the data suggests.
func (s *dataSource) taskOf(task string, d *train.Dataset) compress.Task {
	switch {
	case task != "auto":
		return compress.Task(task)
	case d.Labels != nil:
		return compress.Classes
	case s.csv.Ahead > 0:
		return compress.Forecast
	case d.Targets != nil && slices.Equal(d.Targets, d.Values):
		return compress.Reconstruction
	}
	return compress.Regression
}

// evaluation is what the command was told.
type evaluation struct {
	data     judgedData
	task     string
	positive string
	format   string
	plot     string
	quick    bool
	packed   bool // say what large models are packed, too
	asBytes  bool // no --pixels: integer inputs take pictures as bytes, as in the gateway
}

func evaluateCommand() *cobra.Command {
	var e evaluation
	cmd := &cobra.Command{
		Use:   "evaluate MODEL...",
		Short: "Judge models side by side: right how often, how large, how fast on this box",
		Long: `Judge models side by side. With --data: accuracy (or error, or the area under
the ROC curve for anomalies) and agreement with the first model; of two classes
of numbers also what the best threshold on one of them alone gives. Always: bytes
of the file by part, zipped and packed (of more than 2 MB with --packed alone: it
takes half a second a megabyte), multiply-adds, the most bytes of values at one
time, and the time of every delegate on this box, each tried in a process of
its own.`,
		Example: `  edgegateway evaluate --data cifar10/ --pixels 0..255 pretrainedResnet.tflite pretrainedResnet_quant.tflite
  edgegateway evaluate --format markdown --plot figure --data test.csv --target Occupancy float.tflite int8.tflite`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"text", "json", "markdown"}, e.format) {
				return usage(cmd, fmt.Errorf("--format %q is none of text, json, markdown", e.format))
			}
			if err := noneIdle(cmd, e.data.noData("task", "positive", "pixels")); err != nil {
				return err
			}
			e.asBytes = !cmd.Flags().Changed("pixels")
			return e.run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.task, "task", "auto", "what the answers are: auto, classes, regression, forecast, reconstruction")
	f.StringVar(&e.positive, "positive", "", "of two classes: the one that is looked for, such as broken, in AUC and PR; by default the second")
	f.StringVar(&e.format, "format", "text", "text, json or markdown")
	f.StringVar(&e.plot, "plot", "", "draw accuracy against size and time: PLOT-size.svg, PLOT-time.svg and the same as .png")
	f.BoolVar(&e.quick, "no-latency", false, "do not try the delegates")
	f.BoolVar(&e.packed, "packed", false, "pack models of more than 2 MB too, to say how large they are then")
	e.data.add(cmd, "labelled samples to judge with")
	completeWords(cmd, "task", "auto", "classes", "regression", "forecast", "reconstruction")
	completeWords(cmd, "format", "text", "json", "markdown")
	return cmd
}

func (e *evaluation) run(ctx context.Context, files []string, out, say io.Writer) error {
	list, err := e.judge(ctx, files, say)
	stopped := err != nil && ctx.Err() != nil
	switch {
	case stopped && len(list) == 0:
		return errors.New("stopped before the first model was judged")
	case err != nil && !stopped:
		return err
	}
	if e.plot != "" && !stopped {
		if err := e.draw(list); err != nil {
			return err
		}
	}
	if e.format == "json" {
		err = printJSON(out, list)
	} else {
		_, err = io.WriteString(out, compress.Table(list, e.format == "markdown"))
	}
	if err == nil && stopped {
		err = fmt.Errorf("stopped: %d of %d models were judged", len(list), len(files))
	}
	return err
}

// judge gives what there is to say of the models, as far as it came.
func (e *evaluation) judge(ctx context.Context, files []string, say io.Writer) (list []compress.Evaluation, err error) {
	trial, err := childTrial()
	if err != nil {
		return nil, err
	}
	names := modelNames(files)
	var first []byte
	var firstSamples *compress.Samples // as the first model takes them
	for i, path := range files {
		file, m, err := usableModel(path)
		if err != nil {
			return list, err
		}
		done := waiting("packing " + filepath.Base(path))
		cost, err := costOf(file, e.packed)
		done()
		if err != nil {
			return list, invalid(fmt.Errorf("%s: %w", path, err))
		}
		one := compress.Evaluation{Name: names[i], File: path, Cost: *cost}
		if e.data.path != "" {
			notes := say
			if i > 0 {
				notes = io.Discard
			}
			s, err := e.data.samples(ctx, m, notes)
			if err != nil {
				return list, err
			}
			if e.asBytes {
				s.Low, s.High = 0, 0
			}
			if s.Set.Positive = e.positive; e.positive != "" && !slices.Contains(s.Set.Classes, e.positive) {
				return list, &exitError{exitUsage, fmt.Errorf("--positive: there is no class %q; there are %s", e.positive, strings.Join(s.Set.Classes, ", "))}
			}
			b := newBar("judging " + one.Name)
			task := e.taskFor(m, s.Set)
			if e.task == "auto" && compress.TellsClasses(m) && s.Set.Labels == nil {
				way := "it has no labels"
				if s.Set.Targets != nil {
					way = "--target names the column that it answers with"
				}
				return list, &exitError{exitUsage, fmt.Errorf("%s tells classes apart, and %s says none: %s", path, e.data.path, way)}
			}
			one.Quality, err = compress.Judge(ctx, file, "", e.data.library, task, s, b.step)
			b.end()
			if err != nil && e.task == "auto" && task == compress.Reconstruction && s.Set.Targets != nil {
				err = fmt.Errorf("%w; --target names the column that it answers with", err)
			}
			if err != nil {
				return list, e.failed(ctx, path, err)
			}
			if one.Quality.Task == compress.Classes {
				one.Quality.Baseline = compress.OneThreshold(s.Set, s.Set)
			}
			if i == 0 {
				first, firstSamples = file, s
			} else {
				a, err := compress.CompareEach(ctx, first, file, e.data.library, [2]compress.Inputs{firstSamples, s})
				if err != nil {
					return list, e.failed(ctx, path+" beside "+files[0], err)
				}
				one.Agreement = &a
			}
		}
		if !e.quick {
			done := waiting("trying the delegates with " + one.Name)
			one.Latency, err = trial(ctx, infer.TrialRequest{Library: e.data.library, File: path, Candidates: infer.Candidates(m)})
			if done(); err != nil {
				if ctx.Err() != nil && one.Quality != nil {
					list = append(list, one) // all but the time
				}
				return list, e.failed(ctx, path, err)
			}
		}
		list = append(list, one)
	}
	return list, nil
}

// modelNames are the names of files without their folders, where those tell
// them apart, else the whole paths.
func modelNames(files []string) []string {
	names, times := make([]string, len(files)), map[string]int{}
	for i, path := range files {
		names[i] = strings.TrimSuffix(filepath.Base(path), ".tflite")
		times[names[i]]++
	}
	for i, path := range files {
		if times[names[i]] > 1 {
			names[i] = strings.TrimSuffix(path, ".tflite")
		}
	}
	return names
}

// taskFor is the task that was named, or the one that data and model suggest: a
// model that answers with as many values as it takes, and not one a class, gives
// its inputs back, and labels say what is an anomaly.
func (e *evaluation) taskFor(m *model.Model, d *train.Dataset) compress.Task {
	g := m.Main()
	if e.task != "auto" || len(g.Outputs) == 0 || compress.TellsClasses(m) {
		return e.data.taskOf(e.task, d)
	}
	takes, gives := g.Tensors[g.Inputs[0]].Elements(), g.Tensors[g.Outputs[0]].Elements()
	if takes == gives && (d.Labels != nil && gives != len(d.Classes) || d.Labels == nil && d.Targets == nil) {
		return compress.Reconstruction
	}
	return e.data.taskOf(e.task, d)
}

func (e *evaluation) failed(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return invalid(fmt.Errorf("%s: %w", what, err))
}

// draw writes the figures; quality without data has none.
func (e *evaluation) draw(list []compress.Evaluation) error {
	size := chart.Scatter{Title: "Quality over size", X: "bytes of the file", LogX: true}
	time := chart.Scatter{Title: "Quality over time", X: "µs on the fastest delegate", LogX: true}
	matrices := map[string]*chart.Drawing{}
	for i := range list {
		q := list[i].Quality
		if q == nil || len(q.Figures()) == 0 {
			return &exitError{exitUsage, fmt.Errorf("--plot draws quality: it needs --data")}
		}
		f := q.Figures()[0]
		size.Y, time.Y = f.Name, f.Name
		size.Points = append(size.Points, chart.Point{X: float64(list[i].Cost.Bytes), Y: f.Value, Label: list[i].Name})
		if _, us := list[i].Best(); us > 0 {
			time.Points = append(time.Points, chart.Point{X: us, Y: f.Value, Label: list[i].Name})
		}
		if q.Task == compress.Classes && len(q.Classes) <= maxDrawn {
			h := chart.Heat{Title: list[i].Name, X: "answer", Y: "class", PerRow: true}
			for c, row := range q.Confused {
				h.Rows = append(h.Rows, q.Classes[c].Name)
				v := make([]float64, len(row))
				for k := range row {
					v[k] = float64(row[k])
				}
				h.Values = append(h.Values, v)
			}
			h.Columns = h.Rows
			matrices["-confusion-"+strings.ReplaceAll(list[i].Name, string(filepath.Separator), "_")] = h.Draw()
		}
	}
	matrices["-size"] = size.Draw()
	if len(time.Points) > 0 {
		matrices["-time"] = time.Draw()
	}
	return writeFigures(e.plot, matrices)
}
