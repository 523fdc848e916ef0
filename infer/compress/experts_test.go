package compress

import (
	"bytes"
	"image"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/draw"

	"edgegateway/internal/testkit"
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

// The visual wake words network beside its official int8 file. Every fifth
// picture shows people. The biases are corrected, as by default; without that
// the figures are only said.
func TestWakeWordsBesideTheExperts(t *testing.T) {
	all, _ := pictures(t, "cats", 96, 96, 1.0/255)
	all = append(all, people(t, 96, 1.0/255, 260)...)
	cal, judge := all.every(2, 0), all.every(2, 1)
	m, float := sharedModel(t, "vww_96_float.tflite")
	_, official := sharedModel(t, "vww_96_int8.tflite")
	stats, err := Calibrate(t.Context(), m, "", cal, nil)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := Compare(t.Context(), float, official, [2]string{}, "", judge)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("official: %+v, %d bytes", theirs, len(official))
	cfg := DefaultConfig()
	for _, method := range Methods {
		for _, correct := range []bool{false, true} {
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
			t.Logf("%s, bias corrected %v: %+v, %d bytes", method, correct, ours, len(file))
			if len(file) > len(official)*103/100 {
				t.Errorf("%d bytes, the official file has %d", len(file), len(official))
			}
			if correct && (ours.Top1 < theirs.Top1-0.005 || ours.MeanAbs > 1.1*theirs.MeanAbs) {
				t.Errorf("%s: worse than the official file", method)
			}
		}
	}
}

// people are seeded crops of photographs that show people.
func people(t *testing.T, size int, scale float64, n int) (s samples) {
	t.Helper()
	var photos []image.Image
	for _, name := range []string{"grace_hopper.bmp", "squat.bmp"} {
		data, err := os.ReadFile(testkit.Shared(t, "data/"+name))
		if err != nil {
			t.Fatal(err)
		}
		img, err := bmp.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		photos = append(photos, img)
	}
	r := rand.New(rand.NewPCG(3, 3))
	for i := range n {
		img := photos[i%len(photos)]
		b := img.Bounds()
		side := int(float64(min(b.Dx(), b.Dy())) * (0.6 + 0.4*r.Float64()))
		x, y := b.Min.X+r.IntN(b.Dx()-side+1), b.Min.Y+r.IntN(b.Dy()-side+1)
		rgba := image.NewRGBA(image.Rect(0, 0, size, size))
		draw.BiLinear.Scale(rgba, rgba.Bounds(), img, image.Rect(x, y, x+side, y+side), draw.Src, nil)
		light := 0.7 + 0.5*r.Float64()
		row := make([]float64, 0, size*size*3)
		for k := 0; k < len(rgba.Pix); k += 4 {
			for c := range 3 {
				row = append(row, scale*min(255, light*float64(rgba.Pix[k+c])))
			}
		}
		s = append(s, row)
	}
	return s
}
