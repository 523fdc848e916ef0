package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"edgegateway/infer/compress"
	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/train"
)

// judgedData is data with what a picture's bytes stand for.
type judgedData struct {
	dataSource
	pixels  string
	library string
	flags   *pflag.FlagSet // of the command
}

// usualPixels is what --pixels is where nobody says it.
const usualPixels = "-1..1"

func (s *judgedData) add(cmd *cobra.Command, what string) {
	s.dataSource.add(cmd, what)
	s.flags = cmd.Flags()
	cmd.Flags().StringVar(&s.pixels, "pixels", usualPixels, "of pictures: the real numbers that the bytes 0 and 255 are for the model, such as 0..1 or 0..255")
	cmd.Flags().StringVar(&s.library, "library", "", "the TensorFlow Lite library; the one in the program where it is empty")
	completeWords(cmd, "pixels", usualPixels, "0..1", "0..255")
}

// samples loads the data for a model, with classes in the order of its labels.
func (s *judgedData) samples(ctx context.Context, m *model.Model, say io.Writer) (*compress.Samples, error) {
	made, err := s.made(m, func(shape train.Shape) (*train.Dataset, error) { return s.load(ctx, shape, say) })
	if err == nil {
		if text := otherClasses(m, made.Set); text != "" {
			fmt.Fprintf(say, "warning: %s: %s; what is right by labels, and what is learned from them, means nothing\n", s.path, text)
		}
	}
	return made, err
}

// otherClasses says how the classes of data cannot be those of a model, "" where
// they can: as many in their order, or some of its labels.
func otherClasses(m *model.Model, d *train.Dataset) string {
	if d.Labels == nil {
		return ""
	}
	if labels, err := m.Labels(); err == nil && len(labels) > 1 {
		for _, c := range d.Classes {
			if len(labels) != len(d.Classes) && !slices.ContainsFunc(labels, func(l string) bool { return strings.EqualFold(l, c) }) {
				return fmt.Sprintf("its %d classes are not the model's %d: %q is none of its labels", len(d.Classes), len(labels), c)
			}
		}
		return ""
	}
	g := m.Main()
	shape := g.Tensors[g.Outputs[0]].Shape
	if n := len(shape); n > 0 && compress.TellsClasses(m) {
		if width := shape[n-1]; width != len(d.Classes) && !(width == 1 && len(d.Classes) == 2) {
			return fmt.Sprintf("it has %d classes, the model answers %d", len(d.Classes), width)
		}
	}
	return ""
}

// levels are what the bytes 0 and 255 of a picture stand for.
func (s *judgedData) levels() (a, b float64, err error) { return pixelRange(s.pixels) }

// madeUp are inputs for a model without data. What pictures are is what --pixels
// says, else what the model does, else -1..1.
func (s *judgedData) madeUp(m *model.Model, n int, seed uint64) compress.Structured {
	made := compress.MadeUp(m, n, seed)
	if s.pixelsSaid() {
		made.Low, made.High, _ = s.levels()
	}
	return made
}

// pixelsSaid says whether --pixels was given.
func (s *judgedData) pixelsSaid() bool {
	return s.pixels != usualPixels || s.flags != nil && s.flags.Changed("pixels")
}

// pixelRange reads what --pixels says.
func pixelRange(text string) (a, b float64, err error) {
	low, high, ok := strings.Cut(text, "..")
	a, errA := strconv.ParseFloat(low, 64)
	b, errB := strconv.ParseFloat(high, 64)
	if !ok || errA != nil || errB != nil || !(a < b) {
		return 0, 0, &exitError{exitUsage, fmt.Errorf("--pixels %q is no range such as -1..1", text)}
	}
	return a, b, nil
}

// judging loads other data of the same kind, by which what was learned from all
// is judged.
func (s *judgedData) judging(ctx context.Context, m *model.Model, path string, all *compress.Samples) (*compress.Samples, error) {
	other := *s
	other.path, other.dataSource.samples, other.from, other.before = path, 0, "", ""
	d, err := other.samples(ctx, m, io.Discard)
	if err == nil && (!slices.Equal(d.Set.Classes, all.Set.Classes) || !slices.Equal(d.Set.Shape, all.Set.Shape) || !slices.Equal(d.Set.Features, all.Set.Features)) {
		err = invalid(fmt.Errorf("%s has other inputs or classes than %s", path, s.path))
	}
	return d, err
}

// made gives the samples that load gives for the model's input.
func (s *judgedData) made(m *model.Model, load func(train.Shape) (*train.Dataset, error)) (*compress.Samples, error) {
	a, b, err := s.levels()
	if err != nil {
		return nil, err
	}
	g := m.Main()
	if len(g.Inputs) != 1 {
		return nil, invalid(fmt.Errorf("the model takes %d inputs; data has one", len(g.Inputs)))
	}
	var shape train.Shape
	if in := g.Tensors[g.Inputs[0]].Shape; len(in) > 1 {
		shape = train.Shape(in[1:])
	}
	d, err := load(shape)
	if err != nil {
		return nil, err
	}
	if d.Pixels == nil && s.pixels != usualPixels {
		return nil, &exitError{exitUsage, fmt.Errorf("--pixels does nothing here: it is about pictures, and %s holds none", s.path)}
	}
	if labels, err := m.Labels(); err == nil && len(labels) > 0 && d.Labels != nil {
		inOrderOf(d, labels)
	}
	return &compress.Samples{Set: d, Low: a, High: b}, nil
}

// inOrderOf numbers a data set's classes as a model's labels are, where all of
// them are there.
func inOrderOf(d *train.Dataset, labels []string) {
	to := make([]int32, len(d.Classes))
	for i, c := range d.Classes {
		to[i] = -1
		for k, l := range labels {
			if strings.EqualFold(c, l) {
				to[i] = int32(k)
				break
			}
		}
		if to[i] < 0 {
			return
		}
	}
	for i, l := range d.Labels {
		d.Labels[i] = to[l]
	}
	d.Classes = labels
}

// readModel reads a model of the command line, packed or not.
func readModel(path string) ([]byte, *model.Model, error) {
	data, err := pack.ReadFile(path)
	if err != nil {
		return nil, nil, invalid(err)
	}
	m, err := model.Read(data)
	if err != nil {
		return nil, nil, invalid(fmt.Errorf("%s: %w", path, err))
	}
	return data, m, nil
}

// usableModel is readModel of one that is to be run: what the runtime would
// misread, or die of, is refused by name.
func usableModel(path string) ([]byte, *model.Model, error) {
	data, m, err := readModel(path)
	if err != nil {
		return nil, nil, err
	}
	if _, _, _, err := m.Adapted(data); err != nil {
		return nil, nil, invalid(fmt.Errorf("%s: %w", path, err))
	}
	return data, m, nil
}

// steps shows the progress of work of several kinds, a bar each.
type steps struct{ bar *bar }

func (s *steps) show(what string, done, of int) {
	if s.bar == nil || s.bar.what != what {
		s.end()
		s.bar = newBar(what)
	}
	s.bar.step(done, of)
}

func (s *steps) end() {
	if s.bar != nil {
		s.bar.end()
	}
}

func quantizeCommand() *cobra.Command {
	var data judgedData
	var live streamSource
	cfg := compress.DefaultConfig()
	var out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "quantize MODEL",
		Short: "Make a shorter model of a float one, and prove it beside that",
		Long: `Make a shorter model of a float .tflite: int8 or int16 numbers throughout, int8
weights alone (dynamic), or float16 weights. What is written was loaded, run on
the built-in kernels and on XNNPACK, and compared with the float model on the
data: half of the samples calibrate, the other half compare. Without --data the
inputs are made up, and the ranges that int8 and int16 need are guesses.`,
		Example: `  edgegateway quantize --data cifar10/ --pixels 0..255 pretrainedResnet.tflite
  edgegateway quantize --scheme float16 --out small.tflite model.tflite
  edgegateway quantize --config gateway.yaml --stream rooms --samples 500 occupancy.tflite
  edgegateway quantize --method mse --data rooms.csv --target Occupancy occupancy.tflite`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cfg.Validate(); err != nil {
				return &exitError{exitUsage, err}
			}
			file, m, err := usableModel(args[0])
			if err != nil {
				return err
			}
			if err := compress.CheckFloat(m); err != nil {
				return invalid(fmt.Errorf("%s: %w", args[0], err))
			}
			if out == "" {
				out = strings.TrimSuffix(args[0], filepath.Ext(args[0])) + "-" + cfg.Scheme + ".tflite"
			}
			if err := unpacked(out, args[0]); err != nil {
				return err
			}
			if _, _, err := data.levels(); err != nil {
				return err
			}
			var show steps
			defer show.end()
			job := compress.Job{File: file, Config: cfg, Library: data.library, Progress: show.show}
			if data.path != "" && live.name != "" {
				return &exitError{exitUsage, errors.New("--data and --stream both say what to calibrate with: give one")}
			}
			if data.path != "" || live.name != "" {
				load := func(shape train.Shape) (*train.Dataset, error) {
					if live.name == "" {
						return data.load(cmd.Context(), shape, cmd.ErrOrStderr())
					}
					n := data.dataSource.samples
					if n < 1 {
						n = 200
					}
					return live.load(cmd.Context(), shape, n, cmd.ErrOrStderr())
				}
				s, err := data.made(m, load)
				if err != nil {
					return err
				}
				job.Calibration, job.Judged = halves(s)
			} else {
				job.Calibration = data.madeUp(m, 64, 1)
			}
			made, err := compress.Shorten(cmd.Context(), job)
			show.end()
			stopped := cmd.Context().Err() != nil
			if made == nil {
				if stopped {
					return fmt.Errorf("stopped before there was a model: %s is not written", out)
				}
				return invalid(fmt.Errorf("%s: %w", args[0], err))
			}
			if err := writeWhole(out, made.File); err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), struct {
					Out string `json:"out"`
					*compress.Made
				}{out, made})
			} else {
				describeMade(cmd.OutOrStdout(), out, made)
			}
			if err == nil && stopped {
				err = errors.New("stopped: this is the best so far; the same command makes it whole")
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Scheme, "scheme", cfg.Scheme, "what becomes of numbers: "+strings.Join(compress.Schemes, ", "))
	f.StringVar(&cfg.Method, "method", cfg.Method, "how ranges are chosen: "+strings.Join(compress.Methods, ", "))
	f.Float64Var(&cfg.Keep, "keep", cfg.Keep, "the share of values that --method percentile covers")
	f.BoolVar(&cfg.FloatIO, "float-io", false, "keep inputs and outputs float32")
	f.BoolVar(&cfg.Equalise, "equalise", false, "even out the channels of neighbouring layers first (arXiv:1906.04721)")
	f.StringVar(&cfg.CorrectBias, "correct-bias", cfg.CorrectBias, "take the mean error of rounded weights out of the biases: yes, no, or auto, which keeps what is nearer to the float model on the calibration data")
	f.IntSliceVar(&cfg.Float, "keep-float", nil, "operators that stay float, by their number in the command sensitivity")
	f.BoolVar(&cfg.Sparse, "sparse", false, "of a pruned model, with --scheme int8: store weights of which most are 0 in sparse rows, where the file has a fifth less by it")
	f.StringVar(&out, "out", "", "the file to write; by default MODEL-SCHEME.tflite")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	data.add(cmd, "samples to calibrate and compare with")
	live.add(cmd)
	completeWords(cmd, "scheme", compress.Schemes...)
	completeWords(cmd, "method", compress.Methods...)
	completeWords(cmd, "correct-bias", compress.Choices...)
	return cmd
}

// quickly is at most 200 of the samples, for who waits for an end.
func quickly(s *compress.Samples) *compress.Samples {
	const most = 200
	if s == nil || s.Len() <= most {
		return s
	}
	at := make([]int, most)
	for i := range at {
		at[i] = i * s.Len() / most
	}
	return &compress.Samples{Set: s.Set.Subset(at), Low: s.Low, High: s.High}
}

// halves gives every second sample to calibrate with, and the others; one
// sample is both.
func halves(s *compress.Samples) (a, b *compress.Samples) {
	if s.Len() < 2 {
		return s, s
	}
	var at [2][]int
	for i := range s.Len() {
		at[i%2] = append(at[i%2], i)
	}
	part := func(i int) *compress.Samples {
		return &compress.Samples{Set: s.Set.Subset(at[i]), Low: s.Low, High: s.High}
	}
	return part(0), part(1)
}

func describeMade(w io.Writer, out string, m *compress.Made) {
	fmt.Fprintf(w, "%s: %d bytes, %.1f %% of %d\n", out, m.Size, 100*float64(m.Size)/float64(m.Was), m.Was)
	if m.Calibrated != "" {
		fmt.Fprintf(w, "calibrated on %s\n", m.Calibrated)
	}
	say := func(on string, a compress.Agreement) {
		fmt.Fprintf(w, "%-17s %v\n", on, a)
	}
	say("built-in kernels:", m.Builtin)
	if m.XNNPACK != nil {
		say("XNNPACK:", *m.XNNPACK)
	}
	for _, l := range m.Left {
		fmt.Fprintf(w, "stays float: %s: %s\n", l.Op, l.Why)
	}
	for _, n := range m.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
}
