package compress

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"

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
	Judged      Inputs // what both models are compared on; nil: Calibration
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
// not follow the float model's at all.
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
	out, err := Quantize(m, j.Config, stats, fixed)
	if err != nil {
		return nil, err
	}
	made.Outcome = *out
	made.Notes = append(j.notes, made.Notes...)
	if made.File, err = out.Model.Write(); err != nil {
		return nil, err
	}
	made.Size = len(made.File)
	if err := j.prove(ctx, made, j.Judged); err != nil {
		return nil, err
	}
	return made, nil
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
	if err := floatModel(m); err != nil {
		return nil, nil, nil, err
	}
	if j.Progress == nil {
		j.Progress = func(string, int, int) {}
	}
	if j.Calibration == nil {
		j.Calibration, j.guessed = Structured{N: madeUp, Seed: 1}, true
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

// unlike is the share of the float model's range by which answers may differ
// on average before they have nothing to do with it.
const unlike = 0.25

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
	if r := made.Builtin.Relative(); r > unlike || math.IsNaN(r) {
		return fmt.Errorf("the quantized model does not follow the float one: they differ by %.0f %% of the outputs' range on average; nothing is written", 100*r)
	}
	x, err := compare(ctx, j.File, made.File, [2]string{"builtin", "xnnpack:3"}, j.Library, judged, func(d, of int) { j.Progress("comparing, XNNPACK", d, of) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		made.Notes = append(made.Notes, fmt.Sprintf("XNNPACK does not run it (%v); the built-in kernels do", err))
		return nil
	}
	if r := x.Relative(); r > unlike || math.IsNaN(r) {
		made.Notes = append(made.Notes, fmt.Sprintf("on XNNPACK it differs from the float model by %.0f %% of the range; the gateway's trial will leave that out", 100*r))
	}
	made.XNNPACK = &x
	return nil
}
