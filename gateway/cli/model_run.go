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
	"text/tabwriter"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"edgegateway/infer"
	"edgegateway/sensors"
)

// modelFlags say how a model of a file is to be understood.
type modelFlags struct {
	cfg     infer.ModelConfig
	library string
	workers int // interpreters; one where it is 0
}

func (f *modelFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.cfg.Output, "output", "auto", "what the outputs mean: auto, classes, blazeface, detection, regression, reconstruction, raw")
	fl.StringVar(&f.cfg.Labels, "labels", "", "file with a label a line")
	fl.StringVar(&f.cfg.Delegate, "delegate", "auto", "auto, builtin, xnnpack:FLAGS, xnnpack:FLAGS:THREADS or external")
	fl.StringVar(&f.cfg.Accelerated, "accelerated", "", "the same model compiled for the accelerator")
	fl.StringVar(&f.cfg.External.Library, "external", "", "shared library of an external delegate")
	fl.Func("threshold", "the least score that is shown; by default what the kind of output has", func(text string) error {
		v, err := strconv.ParseFloat(text, 64)
		f.cfg.Threshold = &v
		return err
	})
	fl.IntVar(&f.cfg.Top, "top", 5, "how many classes are shown")
	fl.StringVar(&f.library, "library", "", "the TensorFlow Lite library; the one in the program where it is empty")
}

// open loads one model, without a trial where trial is nil.
func (f *modelFlags) open(file, dir string, trial infer.TrialFunc) (*infer.Engine, *infer.Model, error) {
	cfg := infer.DefaultConfig()
	cfg.Library, cfg.Workers = f.library, max(1, f.workers)
	mc := f.cfg
	mc.File = file
	if err := mc.Validate(); err != nil {
		return nil, nil, &exitError{exitUsage, err}
	}
	if trial == nil && mc.Delegate == "auto" {
		mc.Delegate = "builtin"
	}
	name := filepath.Base(file)
	e, err := infer.New(cfg, map[string]infer.ModelConfig{name: mc}, dir, trial, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		return nil, nil, invalid(plain(plain(err, "models."+name+".file: "), "models."+name+"."))
	}
	m, err := e.Model(name)
	return e, m, err
}

// plain takes the place in a configuration from an error of a file that was
// named on the command line.
func plain(err error, place string) error {
	if text, ok := strings.CutPrefix(err.Error(), place); ok {
		return errors.New(text)
	}
	return err
}

func modelTryCommand() *cobra.Command {
	var f modelFlags
	cmd := &cobra.Command{
		Use:     "try FILE",
		Short:   "Try every delegate on this box: does it load, is it right, how fast is it",
		Example: "  edgegateway model try kws_ref_model.tflite",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			trial, err := childTrial()
			if err != nil {
				return err
			}
			dir, err := os.MkdirTemp("", "edgegateway-try-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			f.cfg.Delegate = "auto"
			e, m, err := f.open(args[0], dir, trial)
			if err != nil {
				return err
			}
			defer e.Close()
			done := waiting("trying the delegates, each as often as it takes to be sure")
			err = e.Try(cmd.Context(), m)
			if done(); err != nil {
				return err
			}
			s := e.Models()[0]
			printCandidates(cmd.OutOrStdout(), s.Candidates, lineWidth(200))
			fmt.Fprintf(cmd.OutOrStdout(), "\n%s: %s\n", s.Delegate, s.Why)
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

// printCandidates writes the table of a trial; reasons are cut where the line
// ends.
func printCandidates(out io.Writer, list []infer.CandidateReport, width int) {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 2, 4, 2, ' ', 0)
	fmt.Fprintln(w, "CANDIDATE\tTIME\t\tAGREES")
	for _, c := range list {
		time, right, mark := "-", "yes", ""
		switch {
		case c.Micros >= 1000:
			time = fmt.Sprintf("%.2f ms", c.Micros/1000)
		case c.Micros > 0:
			time = fmt.Sprintf("%.1f µs", c.Micros)
		}
		if !c.OK {
			right = "no: " + c.Why
		}
		if c.Chosen {
			mark = "chosen"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Name, time, mark, right)
	}
	w.Flush()
	for line := range strings.Lines(table.String()) {
		fmt.Fprintln(out, shorten(strings.TrimRight(line, " \n"), width))
	}
}

func modelRunCommand() *cobra.Command {
	var f modelFlags
	var raw, csv bool
	var drawTo, fit string
	cmd := &cobra.Command{
		Use:   "run FILE INPUT...",
		Short: "Classify pictures, CSV rows or raw files at once",
		Long: `Classify inputs at once, without a broker. A picture is fitted to the model's
input; --csv takes a file's lines as numbers, --raw a file's bytes as they stand.`,
		Example: `  edgegateway model run --labels imagenet_labels.txt mobilenet_v2_1.0_224_quant.tflite cat.bmp
  edgegateway model run --draw faces.png face_detection_short_range.tflite party.jpg
  edgegateway model run --csv hello_world_float.tflite angles.csv
  edgegateway model run --raw ad01_fp32.tflite spectrum.f32`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, m, err := f.open(args[0], os.TempDir(), nil)
			if err != nil {
				return err
			}
			defer e.Close()
			picture := sensors.DefaultImageConfig()
			picture.Fit = fit
			if err := picture.Validate(); err != nil {
				return &exitError{exitUsage, err}
			}
			r := modelRun{model: m, picture: picture, raw: raw, csv: csv, draw: drawTo, out: cmd.OutOrStdout()}
			for _, input := range args[1:] {
				if err := r.file(cmd.Context(), input); err != nil {
					return fmt.Errorf("%s: %w", input, err)
				}
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&raw, "raw", false, "inputs are the tensor's bytes as they stand")
	cmd.Flags().BoolVar(&csv, "csv", false, "inputs are files with a row of numbers a line")
	cmd.Flags().StringVar(&drawTo, "draw", "", "write the last picture with its boxes and their labels to this PNG")
	cmd.Flags().StringVar(&fit, "fit", "letterbox", "how a picture is fitted: stretch, letterbox or crop")
	return cmd
}

// modelRun runs a model on files.
type modelRun struct {
	model    *infer.Model
	picture  sensors.ImageConfig
	raw, csv bool
	draw     string
	out      io.Writer
}

func (r *modelRun) file(ctx context.Context, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	switch {
	case r.raw:
		return r.show(ctx, path, func(in []infer.Tensor) error { return in[0].SetBytes(data) }, nil)
	case r.csv:
		return r.rows(ctx, path, data)
	}
	var place sensors.Placement
	images := sensors.NewImageDecoder()
	return r.show(ctx, path, func(in []infer.Tensor) error {
		dst, err := pictureTarget(in[0])
		if err != nil {
			return fmt.Errorf("%w; use --csv or --raw", err)
		}
		place, err = images.Into(data, r.picture, dst)
		return err
	}, func(res *infer.Result) error {
		for i := range res.Objects {
			b := &res.Objects[i].Box
			b[0], b[1] = place.ToPicture(b[0], b[1])
			b[2], b[3] = place.ToPicture(b[2], b[3])
		}
		if r.draw == "" {
			return nil
		}
		return drawBoxes(path, r.draw, res.Objects)
	})
}

// pictureTarget is a model's input as sensors wants it.
func pictureTarget(t infer.Tensor) (sensors.Target, error) {
	kind, ok := map[infer.ElemType]sensors.ElemType{infer.Float32: sensors.Float32, infer.Int8: sensors.Int8, infer.Uint8: sensors.Uint8}[t.Type]
	if !ok || len(t.Shape) != 4 {
		return sensors.Target{}, fmt.Errorf("the model takes %v of shape %v, no picture", t.Type, t.Shape)
	}
	return sensors.Target{W: t.Shape[2], H: t.Shape[1], C: t.Shape[3], Type: kind, Scale: t.Scale, ZeroPoint: t.ZeroPoint, Data: t.Data}, nil
}

func (r *modelRun) rows(ctx context.Context, path string, data []byte) error {
	n := 1
	for _, d := range r.model.Inputs()[0].Shape {
		n *= d
	}
	columns := make([]string, n)
	for i := range columns {
		columns[i] = fmt.Sprintf("v%d", i)
	}
	cfg := sensors.DefaultInputConfig()
	cfg.CSV = &sensors.CSVConfig{Columns: columns}
	d, err := sensors.NewDecoder(cfg)
	if err != nil {
		return err
	}
	var s sensors.Sample
	for i, line := range splitLines(data) {
		if err := d.Decode(line, &s); err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		if err := r.show(ctx, fmt.Sprintf("%s:%d", path, i+1), func(in []infer.Tensor) error { return in[0].SetFloats(s.Values) }, nil); err != nil {
			return err
		}
	}
	return nil
}

func splitLines(data []byte) (lines [][]byte) {
	begin := 0
	for i, c := range data {
		if c == '\n' {
			if i > begin {
				lines = append(lines, data[begin:i])
			}
			begin = i + 1
		}
	}
	if begin < len(data) {
		lines = append(lines, data[begin:])
	}
	return lines
}

// show runs the model once and prints what it says.
func (r *modelRun) show(ctx context.Context, name string, fill func([]infer.Tensor) error, after func(*infer.Result) error) error {
	var res infer.Result
	if err := r.model.Run(ctx, fill, &res); err != nil {
		return err
	}
	if after != nil {
		if err := after(&res); err != nil {
			return err
		}
	}
	fmt.Fprintf(r.out, "%s (%s, %.2f ms)\n", name, res.Delegate, float64(res.Took.Microseconds())/1000)
	for _, o := range res.Objects {
		fmt.Fprintf(r.out, "  %s %.2f  box %.3f %.3f %.3f %.3f\n", o.Label, o.Score, o.Box[0], o.Box[1], o.Box[2], o.Box[3])
	}
	for _, c := range res.Top {
		fmt.Fprintf(r.out, "  %.3f %s\n", c.Score, c.Label)
	}
	if len(res.Top) == 0 && len(res.Values) == 0 && len(res.Objects) == 0 {
		if res.Label == "" && res.Score == 0 {
			fmt.Fprintln(r.out, "  nothing found")
		} else {
			fmt.Fprintf(r.out, "  score %.6g %s\n", res.Score, res.Label)
		}
	}
	if n := len(res.Values); n > 0 {
		fmt.Fprintf(r.out, "  %.6g", res.Values[:min(n, 16)])
		if n > 16 {
			fmt.Fprintf(r.out, " ... %d more", n-16)
		}
		fmt.Fprintln(r.out)
	}
	return nil
}
