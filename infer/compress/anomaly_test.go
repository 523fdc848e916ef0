package compress

import (
	"encoding/binary"
	"math"
	"math/cmplx"
	"math/rand/v2"
	"os"
	"testing"

	"gonum.org/v1/gonum/dsp/fourier"

	"edgegateway/infer"
	"edgegateway/internal/testkit"
)

// The anomaly detector of MLPerf Tiny beside its official int8 file, on the
// spectra of shifted and noisy cuts of four recordings. What counts of it is
// the reconstruction error: the mean squared difference between what goes in
// and what comes out.
func TestAnomalyBesideTheExperts(t *testing.T) {
	all := spectra(t, 1200)
	cal, judge := all.every(2, 0), all.every(2, 1)
	m, float := sharedModel(t, "ad01_fp32.tflite")
	_, official := sharedModel(t, "ad01_int8.tflite")
	stats, err := Calibrate(t.Context(), m, "", cal, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := errorsOf(t, float, "builtin", judge)
	for _, delegate := range []string{"builtin", "xnnpack:3"} {
		theirs := meanDifference(want, errorsOf(t, official, delegate, judge))
		t.Logf("%s: official %.4f, of errors of %.2f on average, %d bytes", delegate, theirs, mean(want), len(official))
		for _, method := range Methods[1:] {
			for _, correct := range []string{"no", "yes"} {
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
				ours := meanDifference(want, errorsOf(t, file, delegate, judge))
				t.Logf("%s, %s, bias corrected %s: %.4f, %d bytes, left %v", delegate, method, correct, ours, len(file), out.Left)
				if ours > 1.1*theirs {
					t.Errorf("%s, %s, bias corrected %s: the reconstruction error is off by %.4f, by %.4f in the official file", delegate, method, correct, ours, theirs)
				}
				if n := len(file); 100*n > 103*len(official) {
					t.Errorf("%d bytes, the official file has %d", n, len(official))
				}
			}
		}
	}
}

// errorsOf is the reconstruction error of each sample, against its real
// numbers.
func errorsOf(t *testing.T, file []byte, delegate string, data samples) (list []float64) {
	t.Helper()
	s, err := infer.OpenSession(file, delegate, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, row := range data {
		if err := data.Fill(s.In, i); err != nil {
			t.Fatal(err)
		}
		if err := s.Invoke(); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for k, v := range s.Out[0].Floats(nil) {
			sum += (v - row[k]) * (v - row[k])
		}
		list = append(list, sum/float64(len(row)))
	}
	return list
}

func meanDifference(a, b []float64) (sum float64) {
	for i := range a {
		sum += math.Abs(a[i]-b[i]) / float64(len(a))
	}
	return sum
}

func mean(v []float64) (sum float64) {
	for _, x := range v {
		sum += x / float64(len(v))
	}
	return sum
}

// spectra are n cuts of the recordings, each begun anywhere, louder or softer,
// with noise of its own, as the detector takes sound: 5 frames of 1024 samples,
// 512 apart, and of each the decibels of 128 mel bands up to 8 kHz. The noise
// keeps them within the ranges that the official file was made for; without it
// that one cuts, and the comparison is too easy.
func spectra(t testing.TB, n int) (s samples) {
	t.Helper()
	var clips [][]float64
	for _, name := range []string{"yes", "no", "noise", "silence"} {
		clips = append(clips, recording(t, name+"_1000ms.wav"))
	}
	bands := melBands(128, 1024, 16000)
	fft := fourier.NewFFT(1024)
	r := rand.New(rand.NewPCG(5, 5))
	frame := make([]float64, 1024)
	for i := range n {
		clip := clips[i/2%len(clips)] // as many of each in both halves
		start := r.IntN(len(clip) - 1024 - 4*512)
		gain, noise := math.Pow(10, r.Float64()-1), math.Pow(10, -3+1.5*r.Float64())
		cut := make([]float64, 1024+4*512)
		for k := range cut {
			cut[k] = gain*clip[start+k] + noise*r.NormFloat64()
		}
		var row []float64
		for f := range 5 {
			for k := range frame {
				frame[k] = cut[512*f+k] * (0.5 - 0.5*math.Cos(2*math.Pi*float64(k)/1024))
			}
			spectrum := fft.Coefficients(nil, frame)
			for _, band := range bands {
				power := 0.0
				for b, w := range band {
					if w > 0 {
						power += w * cmplx.Abs(spectrum[b]) * cmplx.Abs(spectrum[b])
					}
				}
				row = append(row, 10*math.Log10(power+2.2e-16))
			}
		}
		s = append(s, row)
	}
	return s
}

// melBands are triangles evenly apart on the mel scale of Slaney's toolbox,
// each of the same area: what the detector was trained with.
func melBands(n, length int, rate float64) (bands [][]float64) {
	const knee, perHz, growth = 1000, 3.0 / 200, 27 / 1.8562979903656263 // ln 6.4
	hz := func(mel float64) float64 {
		if mel < knee*perHz {
			return mel / perHz
		}
		return knee * math.Exp((mel-knee*perHz)/growth)
	}
	top := knee*perHz + growth*math.Log(rate/2/knee)
	for i := range n {
		low, mid, high := hz(top*float64(i)/float64(n+1)), hz(top*float64(i+1)/float64(n+1)), hz(top*float64(i+2)/float64(n+1))
		band := make([]float64, length/2+1)
		for b := range band {
			f := float64(b) * rate / float64(length)
			band[b] = max(0, min((f-low)/(mid-low), (high-f)/(high-mid))) * 2 / (high - low)
		}
		bands = append(bands, band)
	}
	return bands
}

// recording reads a mono file of 16 bits, from -1 to 1.
func recording(t testing.TB, name string) (v []float64) {
	t.Helper()
	data, err := os.ReadFile(testkit.Shared(t, "data/"+name))
	if err != nil {
		t.Fatal(err)
	}
	for i := 44; i+1 < len(data); i += 2 {
		v = append(v, float64(int16(binary.LittleEndian.Uint16(data[i:])))/32768)
	}
	return v
}
