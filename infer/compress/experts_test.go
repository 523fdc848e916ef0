package compress

import (
	"bytes"
	"fmt"
	"image"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	_ "golang.org/x/image/bmp"
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
	besideOfficial(t, "pretrainedResnet.tflite", "pretrainedResnet_quant.tflite", all.every(2, 0), all.every(2, 1))
}

// The visual wake words network beside its official int8 file. Every fifth
// picture shows people; all crops of one photograph are on one side.
func TestWakeWordsBesideTheExperts(t *testing.T) {
	all, _ := pictures(t, "cats", 96, 96, 1.0/255)
	cal, judge := all.every(2, 0), all.every(2, 1)
	var photos []string
	for i := range 6 {
		photos = append(photos, testkit.Cached(t, fmt.Sprintf("demo/sample%d.jpg", i+1)))
	}
	photos = append(photos, testkit.Shared(t, "data/grace_hopper.bmp"), testkit.Shared(t, "data/squat.bmp"))
	cal = append(cal, people(t, 1, 96, 1.0/255, 130, photos[0], photos[1], photos[2], photos[6])...)
	judge = append(judge, people(t, 2, 96, 1.0/255, 130, photos[3], photos[4], photos[5], photos[7])...)
	besideOfficial(t, "vww_96_float.tflite", "vww_96_int8.tflite", cal, judge)
}

// besideOfficial holds what is made here against an official int8 file, both
// beside the float model: on the kernels that serve both in a gateway, and on
// the built-in ones. How it is made is chosen on the calibration half alone.
func besideOfficial(t *testing.T, floatName, officialName string, cal, judge samples) {
	t.Helper()
	m, float := sharedModel(t, floatName)
	_, official := sharedModel(t, officialName)
	stats, err := Calibrate(t.Context(), m, "", cal, nil)
	if err != nil {
		t.Fatal(err)
	}
	theirs := map[string]Agreement{}
	for _, method := range Methods {
		cfg := DefaultConfig()
		cfg.Method = method
		j := Job{File: float, Config: cfg, Calibration: cal, Progress: func(string, int, int) {}}
		out, file, err := j.quantized(t.Context(), m, stats, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, on := range []string{"xnnpack:3", "builtin"} {
			if on == "builtin" && method != "auto" {
				continue // slow
			}
			if method == "auto" {
				if theirs[on], err = Compare(t.Context(), float, official, [2]string{"xnnpack:0", on}, "", judge); err != nil {
					t.Fatal(err)
				}
				t.Logf("%s: official: top-1 as the float model %.2f %%, mean difference %.5f, %d bytes", on, 100*theirs[on].Top1, theirs[on].MeanAbs, len(official))
			}
			ours, err := Compare(t.Context(), float, file, [2]string{"xnnpack:0", on}, "", judge)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %s: top-1 as the float model %.2f %%, mean difference %.5f, %d bytes, left %v; %v", on, method, 100*ours.Top1, ours.MeanAbs, len(file), out.Left, out.Notes)
			if 100*len(file) > 103*len(official) || ours.MeanAbs > 1.1*theirs[on].MeanAbs {
				t.Errorf("%s, %s: worse than the official file", on, method)
			}
			if method == "auto" && ours.Top1 < theirs[on].Top1-0.005 {
				t.Errorf("%s: top-1 worse than the official file's", on)
			}
		}
	}
}

// people are n seeded crops of photographs that show people.
func people(t *testing.T, seed uint64, size int, scale float64, n int, files ...string) (s samples) {
	t.Helper()
	var photos []image.Image
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		img, _, err := image.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		photos = append(photos, img)
	}
	r := rand.New(rand.NewPCG(seed, 3))
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
