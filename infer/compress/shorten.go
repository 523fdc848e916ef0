package compress

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"

	"edgegateway/infer"
	"edgegateway/infer/model"
)

// Made is a model that was quantized, written, read back by the runtime, run
// and held against the model that it was made of.
type Made struct {
	Outcome
	File []byte `json:"-"`
	Was  int    `json:"bytes_before"`
	Size int    `json:"bytes"`
	// Calibrated says on what the ranges of values were learned.
	Calibrated string `json:"calibrated,omitempty"`
	// Builtin is how it agrees with the float model on the built-in kernels,
	// XNNPACK on the XNNPACK delegate with flags 3; nil, with a note, where that
	// does not take it.
	Builtin Agreement  `json:"agreement"`
	XNNPACK *Agreement `json:"agreement_xnnpack,omitempty"`
}

// Job is what Shorten works on.
type Job struct {
	File        []byte // a float .tflite
	Config      Config
	Calibration Inputs // nil: made up inputs, said in Made.Calibrated
	Judged      Inputs // what both models are compared on; nil: Calibration, or others that are made up
	// Fixed are ranges by the name of a tensor that go before what calibration
	// sees, as quantization-aware training learns them.
	Fixed   map[string][2]float64
	Library string // the TensorFlow Lite library; "": the one in the program
	// Progress is told what is being done, and how far; may be nil.
	Progress func(what string, done, of int)

	guessed bool // Calibration is made up
	notes   []string
}

// madeUp is how many inputs stand in for data that is not there.
const madeUp = 64

// Shorten makes a shorter model and proves it: nothing comes back that the
// runtime did not load and run, nor an answer that is no number or that does
// not follow the float model's at all. Where ctx ends and something was made
// already, that is proved on a few samples and given beside the error: the best
// so far.
func Shorten(ctx context.Context, j Job) (*Made, error) {
	m, stats, fixed, err := j.prepared(ctx)
	if err != nil {
		return nil, err
	}
	made := &Made{Was: len(j.File)}
	if stats != nil {
		made.Calibrated = fmt.Sprintf("%d samples", j.Calibration.Len())
		if j.guessed {
			made.Calibrated = fmt.Sprintf("%d made up inputs: without real data the ranges of values are guesses; give --data", j.Calibration.Len())
		}
		if n := len(j.Fixed); n > 0 {
			made.Calibrated += fmt.Sprintf(", %d ranges from training", n)
		}
	}
	out, file, err := j.quantized(ctx, m, stats, fixed)
	if err != nil {
		return nil, err
	}
	made.Outcome, made.File = *out, file
	made.Notes = append(j.notes, made.Notes...)
	if j.Config.Sparse {
		if err := j.thin(ctx, made); err != nil {
			return nil, err
		}
	}
	made.Size = len(made.File)
	if err = j.prove(ctx, made, j.Judged); err != nil && ctx.Err() != nil {
		made.Notes = append(made.Notes, fmt.Sprintf("stopped: compared on %d samples alone", sparse{j.Judged, few}.Len()))
		err = j.prove(context.WithoutCancel(ctx), made, sparse{j.Judged, few})
	}
	if err != nil {
		return nil, err
	}
	return made, ctx.Err()
}

// prepared reads the model, equalises it where that is asked for, and
// calibrates it; data that is not there is made up.
func (j *Job) prepared(ctx context.Context) (m *model.Model, stats map[int]*Stats, fixed map[string][2]float64, err error) {
	if err := j.Config.Validate(); err != nil {
		return nil, nil, nil, err
	}
	if m, err = model.Read(j.File); err != nil {
		return nil, nil, nil, err
	}
	if err := CheckFloat(m); err != nil {
		return nil, nil, nil, err
	}
	if j.Progress == nil {
		j.Progress = func(string, int, int) {}
	}
	if j.Calibration == nil {
		j.Calibration = MadeUp(m, madeUp, 1)
	}
	made, guessed := structured(j.Calibration)
	if j.guessed = guessed; guessed && j.Judged == nil {
		made.Seed++ // what chose the ranges does not judge them
		j.Judged = made
	}
	if j.Judged == nil {
		j.Judged = j.Calibration
	}
	if j.Config.Equalise {
		// It changes what values reach, so it comes before they are looked at.
		if !j.guessed {
			stats, err = Calibrate(ctx, m, j.Library, j.Calibration, func(d, of int) { j.Progress("looking before equalising", d, of) })
			if err != nil {
				return nil, nil, nil, err
			}
		}
		m, j.notes = Equalise(m, stats)
		stats = nil
	}
	if fixed = inputRanges(m, j.Calibration); fixed == nil {
		fixed = map[string][2]float64{}
	}
	maps.Copy(fixed, j.Fixed)
	if j.Config.NeedsData() {
		stats, err = Calibrate(ctx, m, j.Library, j.Calibration, func(d, of int) { j.Progress("calibrating", d, of) })
	}
	return m, stats, fixed, err
}

// quantized makes the shorter model and its file. Where the configuration says
// auto an int8 one is made in every way, and the calibration data says which is
// kept; int16 values are fine enough to cover all that was seen.
func (j *Job) quantized(ctx context.Context, m *model.Model, stats map[int]*Stats, fixed map[string][2]float64) (out *Outcome, file []byte, err error) {
	methods, biases := []string{j.Config.Method}, []string{j.Config.CorrectBias}
	if j.Config.Scheme == "int8" && methods[0] == "auto" {
		methods = Methods[1:]
	}
	if j.Config.Scheme == "int8" && biases[0] == "auto" {
		biases = Choices[1:]
	}
	some := sparse{j.Calibration, enough}
	tries, done := len(methods)*len(biases), 0
	best := math.Inf(1)
	chosen := ""
	for _, method := range methods {
		for _, correct := range biases {
			cfg := j.Config
			cfg.Method, cfg.CorrectBias = method, correct
			o, err := Quantize(m, cfg, stats, fixed)
			if err != nil {
				return nil, nil, err
			}
			f, err := o.Model.Write()
			if err != nil {
				return nil, nil, err
			}
			if tries == 1 {
				return o, f, nil
			}
			off, err := j.off(ctx, f, some, done, tries)
			if err != nil && ctx.Err() != nil && file != nil {
				out.Notes = append(out.Notes, fmt.Sprintf("stopped: %d of %d ways were compared", done, tries), chosen)
				return out, file, nil
			}
			if err != nil {
				return nil, nil, fmt.Errorf("the quantized model beside the float one, on the calibration data: %w", err)
			}
			done++
			if file == nil || off < best {
				best, out, file = off, o, f
				chosen = fmt.Sprintf("ranges by %s, biases corrected: %s; of %d ways the nearest to the float model, %.2f %% of the range off on %d calibration samples",
					method, correct, tries, 100*off, some.Len())
			}
		}
	}
	out.Notes = append(out.Notes, chosen)
	return out, file, nil
}

// off is how far a file is from the float model on some samples, on XNNPACK
// where that takes both: it serves nearly all of them, and is quick.
func (j *Job) off(ctx context.Context, file []byte, some Inputs, done, tries int) (float64, error) {
	say := func(d, of int) { j.Progress("choosing how", done*of+d, tries*of) }
	a, err := compare(ctx, j.File, file, [2]string{"xnnpack:0", "xnnpack:3"}, j.Library, some, say)
	if err != nil && ctx.Err() == nil {
		a, err = compare(ctx, j.File, file, [2]string{}, j.Library, some, say)
	}
	return a.Relative(), err
}

// enough samples tell one way to quantize from another.
const enough = 200

// few samples prove what was made when there is no time for more.
const few = 20

// sparse is at most n of its samples, evenly apart.
type sparse struct {
	Inputs
	n int
}

func (s sparse) Len() int { return min(s.Inputs.Len(), s.n) }

func (s sparse) Fill(in []infer.Tensor, i int) error {
	return s.Inputs.Fill(in, i*s.Inputs.Len()/s.Len())
}

// unlike is the share of the float model's range by which answers may differ
// on average before they have nothing to do with it.
const unlike = 0.25

// outputSteps is what one step of each output is worth, 0 for floats that were
// not made of integers.
func outputSteps(m *model.Model) (list []float64) {
	g := m.Main()
	for _, o := range g.Outputs {
		if p := g.Producer(o); p >= 0 && g.Ops[p].Code == "DEQUANTIZE" {
			o = g.Ops[p].Inputs[0]
		}
		step := 0.0
		if q := g.Tensors[o].Quant; len(q.Scale) == 1 {
			step = float64(q.Scale[0])
		}
		list = append(list, step)
	}
	return list
}

// fewSteps are what int8 may lose of an output whatever the range of its
// answers: 3 % of what its scale covers.
const fewSteps = 8

// beyond is Relative for what differs by more than a few steps of an output:
// answers that hardly differ from one another cannot be followed any better.
func (a Agreement) beyond(steps []float64) (r float64) {
	more := a.More
	a.More = nil
	for k, one := range append([]Agreement{a}, more...) {
		if k >= len(steps) || !(one.MeanAbs <= fewSteps*steps[k]) {
			r = max(r, one.Relative())
		}
	}
	return r
}

// prove runs the written file beside the float one.
func (j *Job) prove(ctx context.Context, made *Made, judged Inputs) error {
	again, err := model.Read(made.File)
	if err != nil {
		return fmt.Errorf("the quantized model cannot be read back: %w", err)
	}
	if w, err := again.Write(); err != nil || !bytes.Equal(w, made.File) {
		return fmt.Errorf("the quantized model is written in two ways: %v", err)
	}
	made.Builtin, err = compare(ctx, j.File, made.File, [2]string{}, j.Library, judged, func(d, of int) { j.Progress("comparing", d, of) })
	if err != nil {
		return fmt.Errorf("the quantized model beside the float one, built-in kernels: %w", err)
	}
	if r := made.Builtin.beyond(outputSteps(again)); r > unlike || math.IsNaN(r) {
		return fmt.Errorf("the quantized model does not follow the float one: they differ by %.0f %% of the outputs' range on average; nothing is written", 100*r)
	}
	switch a := made.Builtin; {
	case a.byChance() && !j.guessed:
		return fmt.Errorf("the quantized model does not follow the float one: %.1f %% of %d samples have the same first class, no more than by chance; nothing is written", 100*a.Top1, a.Samples)
	case a.byChance():
		made.Notes = append(made.Notes, "on made up inputs its classes are those of the float model no more often than by chance: give --data, or do not use it")
	case a.Classes && a.Answers == 1 && a.Samples > 1:
		made.Notes = append(made.Notes, "the float model answers all of these inputs with one class: that both agree says little")
	}
	x, err := compare(ctx, j.File, made.File, [2]string{"builtin", "xnnpack:3"}, j.Library, judged, func(d, of int) { j.Progress("comparing, XNNPACK", d, of) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		made.Notes = append(made.Notes, fmt.Sprintf("XNNPACK does not run it (%v); the built-in kernels do", err))
		return nil
	}
	if r := x.beyond(outputSteps(again)); r > unlike || math.IsNaN(r) {
		made.Notes = append(made.Notes, fmt.Sprintf("on XNNPACK it differs from the float model by %.0f %% of the range; the gateway's trial will leave that out", 100*r))
	}
	made.XNNPACK = &x
	return nil
}
