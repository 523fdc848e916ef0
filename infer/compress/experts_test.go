package compress

import (
	"testing"
)

// ResNet8 quantized here beside the official int8 file, on pictures that
// calibration did not see.
func TestBesideTheExperts(t *testing.T) {
	all, _ := pictures(t, "cifar10", 32, 32, 1)
	cal, judge := all.every(2, 0), all.every(2, 1)
	m, float := sharedModel(t, "pretrainedResnet.tflite")
	_, official := sharedModel(t, "pretrainedResnet_quant.tflite")
	stats, err := Calibrate(t.Context(), m, "", cal, nil)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := Compare(t.Context(), float, official, [2]string{}, "", judge)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("official: %+v, %d bytes", theirs, len(official))
	for _, method := range Methods {
		for _, correct := range []bool{false, true} {
			cfg := DefaultConfig()
			cfg.Method, cfg.CorrectBias = method, correct
			out, err := Quantize(m, cfg, stats, nil)
			if err != nil {
				t.Fatal(err)
			}
			file, err := out.Model.Write()
			if err != nil {
				t.Fatal(err)
			}
			ours, err := Compare(t.Context(), float, file, [2]string{}, "", judge)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s, bias corrected %v: %+v, %d bytes, left %v", method, correct, ours, len(file), out.Left)
			if ours.Top1 < theirs.Top1-0.005 || ours.MeanAbs > 1.1*theirs.MeanAbs || len(file) > len(official)*103/100 {
				t.Errorf("%s, bias corrected %v: worse than the official file", method, correct)
			}
		}
	}
}
