package compress

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"edgegateway/infer/model"
)

// A file that is cut, or has a bit flipped anywhere, is refused with an error or
// is another model; nothing panics. What is cut makes no model.
func TestDamagedFiles(t *testing.T) {
	whole, good := sharedModel(t, "hello_world_float.tflite")
	r := rand.New(rand.NewPCG(9, 9))
	for i := range 1500 {
		b := append([]byte(nil), good...)
		for range 1 + i%3 {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
		if i%5 == 0 {
			b = b[:r.IntN(len(b))]
			if _, err := Shorten(t.Context(), Job{File: b, Config: DefaultConfig()}); err == nil {
				t.Errorf("cut at %d it is quantized", len(b))
			}
		}
		m, err := model.Read(b)
		if err != nil {
			continue
		}
		model.Diff(whole, m)
		_, _ = CostOf(b)
		stats := map[int]*Stats{}
		for k := range m.Main().Tensors {
			stats[k] = &Stats{Low: -1, High: 1, Mean: []float64{0}, Top: []float64{1}, bins: make([]float64, bins)}
		}
		for _, scheme := range Schemes {
			cfg := DefaultConfig()
			cfg.Scheme = scheme
			if out, err := Quantize(m, cfg, stats, nil); err == nil {
				_, _ = out.Model.Write()
			}
		}
	}
}

// Who stops a sensitivity report has the layers that were judged.
func TestStopped(t *testing.T) {
	_, file := sharedModel(t, "pretrainedResnet.tflite")
	ctx, stop := context.WithCancel(t.Context())
	job := Job{File: file, Config: DefaultConfig(), Calibration: Structured{N: 4, Seed: 1}}
	job.Progress = func(what string, done, of int) {
		if what == "one layer after the other" && done == 2 {
			stop()
		}
	}
	_, layers, err := Sensitivity(ctx, job, "", nil)
	if len(layers) != 2 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d layers, %v", len(layers), err)
	}
}
