package compress

import (
	"bytes"
	"image"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/image/bmp"
	"golang.org/x/image/draw"

	"edgegateway/infer"
	"edgegateway/internal/testkit"
)

// Time beside the official files, in turns, on the kernels that are fastest
// for both and on the built-in ones: the medians, and how many times the
// official file's ours is.
func BenchmarkBesideTheExperts(b *testing.B) {
	for _, e := range []struct {
		name, float, official string
		data                  func() samples
	}{
		{"vww", "vww_96_float.tflite", "vww_96_int8.tflite", func() samples {
			s, _ := pictures(b, "cats", 96, 96, 1.0/255)
			return s.every(10, 0)
		}},
		{"ResNet8", "pretrainedResnet.tflite", "pretrainedResnet_quant.tflite", func() samples {
			s, _ := pictures(b, "cifar10", 32, 32, 1)
			return s.every(10, 0)
		}},
		{"ad01", "ad01_fp32.tflite", "ad01_int8.tflite", func() samples { return spectra(b, 100) }},
	} {
		m, _ := sharedModel(b, e.float)
		_, official := sharedModel(b, e.official)
		data := e.data()
		stats, err := Calibrate(b.Context(), m, "", data, nil)
		if err != nil {
			b.Fatal(err)
		}
		out, err := Quantize(m, DefaultConfig(), stats, nil)
		if err != nil {
			b.Fatal(err)
		}
		ours, err := out.Model.Write()
		if err != nil {
			b.Fatal(err)
		}
		for _, delegate := range []string{"xnnpack:3", "builtin"} {
			b.Run(e.name+"/"+delegate, func(b *testing.B) { inTurns(b, delegate, ours, official, data) })
		}
	}
}

// inTurns measures two files in slices of about a millisecond each.
func inTurns(b *testing.B, delegate string, ours, official []byte, data samples) {
	var s [2]*infer.Session
	for k, file := range [][]byte{ours, official} {
		var err error
		if s[k], err = infer.OpenSession(file, delegate, ""); err != nil {
			b.Fatal(err)
		}
		defer s[k].Close()
		if err := data.Fill(s[k].In, 0); err != nil {
			b.Fatal(err)
		}
	}
	var times [2][]float64
	for i := 0; b.Loop(); i++ {
		for k := range s {
			k = (k + i) % 2
			begin, n := time.Now(), 0
			for n == 0 || time.Since(begin) < time.Millisecond {
				if err := s[k].Invoke(); err != nil {
					b.Fatal(err)
				}
				n++
			}
			times[k] = append(times[k], float64(time.Since(begin).Nanoseconds())/1e3/float64(n))
		}
	}
	for k := range times {
		slices.Sort(times[k])
	}
	a, o := times[0][len(times[0])/2], times[1][len(times[1])/2]
	b.ReportMetric(a, "µs-ours")
	b.ReportMetric(o, "µs-official")
	b.ReportMetric(a/o, "times-official")
	b.ReportMetric(0, "ns/op")
}

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
