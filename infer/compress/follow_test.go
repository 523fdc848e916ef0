package compress

import (
	"math"
	"slices"
	"strings"
	"testing"

	"edgegateway/infer/model"
)

// A model with one weight far beyond the others leaves int8 no room for the
// rest: what answers no better than by chance is not given, and a class that is
// merely frequent does not hide it.
func TestDoesNotFollow(t *testing.T) {
	m, _ := sharedModel(t, "pretrainedResnet.tflite")
	rows, _ := pictures(t, "cifar10", 32, 32, 1)
	data := rows[:60]
	w := &m.Main().Tensors[m.Main().Ops[5].Inputs[1]]
	v, err := w.Floats()
	if err != nil {
		t.Fatal(err)
	}
	v[1581] = -1e5
	w.Buffer = model.FloatBytes(v)
	for _, scheme := range []string{"int8", "int16"} {
		cfg := DefaultConfig()
		cfg.Scheme, cfg.Method, cfg.CorrectBias = scheme, "minmax", "no"
		_, err := Shorten(t.Context(), Job{File: written(t, m), Config: cfg, Calibration: data})
		if err == nil || !strings.Contains(err.Error(), "does not follow the float one") {
			t.Errorf("%s: %v", scheme, err)
		}
	}
}

// Cohen's kappa, by hand: the same in 60 of 100, of classes that are as often
// 70 and 30 of 100 by the first as 80 and 20 by the second, by chance 0.62.
func TestKappa(t *testing.T) {
	o := outputSum{chosen: map[[2]int]int{{0, 0}: 55, {0, 1}: 15, {1, 0}: 25, {1, 1}: 5}}
	k, answers := o.kappa(100)
	if math.Abs(k-(0.6-0.62)/(1-0.62)) > 1e-12 || answers != 2 {
		t.Errorf("kappa %v of %d classes", k, answers)
	}
	one := outputSum{chosen: map[[2]int]int{{3, 3}: 9}}
	if k, answers := one.kappa(9); k != 1 || answers != 1 {
		t.Errorf("one class alone: kappa %v of %d", k, answers)
	}
	always := Agreement{Samples: 100, Classes: true, Top1: 0.6353, Kappa: 0, Largest: 1, Range: 1}
	rare := Agreement{Samples: 1000, Classes: true, Top1: 0.998, Kappa: 0.1, Largest: 0.6, Range: 1}
	if !always.byChance() || rare.byChance() {
		t.Error("one class for all is by chance, two rare ones missed of a thousand are not")
	}
}

// Whether answers are classes shows in the model.
func TestGivesClasses(t *testing.T) {
	for file, want := range map[string]bool{
		"pretrainedResnet.tflite": true, "pretrainedResnet_quant.tflite": true, "movie_review.tflite": true, "micro_speech_quantized.tflite": true,
		"ad01_fp32.tflite": false, "face_detection_front.tflite": false, "hello_world_float.tflite": false,
	} {
		m, data := sharedModel(t, file)
		g := m.Main()
		if got := givesClasses(data, max(slices.Max(g.Tensors[g.Outputs[0]].Shape), 1), Structured{N: 1}); got != want {
			t.Errorf("%s: %v", file, got)
		}
	}
}
