package compress

import (
	"math/rand/v2"
	"strings"
	"testing"

	"edgegateway/infer/train"
)

// trained gives a small network of each kind, trained a little on data that
// has something to learn, as a file, with its data.
func trained(t *testing.T, preset string) ([]byte, *train.Network, *train.Dataset) {
	t.Helper()
	r := rand.New(rand.NewPCG(7, 7))
	d := &train.Dataset{Name: preset, Shape: train.Shape{16, 16, 1}, Classes: []string{"a", "b", "c"}}
	cfg := train.DefaultConfig()
	cfg.Epochs, cfg.Batch, cfg.Patience = 4, 32, 0
	out := 3
	switch preset {
	case "autoencoder":
		// Features of very different sizes, so that the normalisation at the entry
		// counts.
		d = &train.Dataset{Name: preset, Shape: train.Shape{8}, Width: 8}
		for range 600 {
			a, b := r.NormFloat64(), r.NormFloat64()
			for k := range 8 {
				size := []float64{1, 1000, 0.01, 50, 1, 5, 300, 2}[k]
				v := float32(size * (a*float64(k%3) + b + 10))
				d.Values, d.Targets = append(d.Values, v), append(d.Targets, v)
			}
		}
		out = 8
	default:
		side := 16
		if preset == "mobilenet-0.25" { // it halves pictures five times
			side = 48
			cfg.Epochs, cfg.Optimizer.Rate, cfg.Optimizer.Schedule = 6, 0.004, "cosine"
		}
		d.Shape = train.Shape{side, side, 1}
		for i := range 150 {
			c := i % 3
			d.Labels = append(d.Labels, int32(c))
			for p := range side * side {
				x, y := p%side, p/side
				v := 30 + 20*r.NormFloat64()
				if c == 0 && x < side/2 || c == 1 && y < side/2 || c == 2 && (x+y)%4 < 2 {
					v += 150
				}
				d.Pixels = append(d.Pixels, byte(min(max(v, 0), 255)))
			}
		}
	}
	spec, err := train.Preset(preset, d.Shape, out)
	if err != nil {
		t.Fatal(err)
	}
	n, err := train.New(spec, d.Shape, out, 1)
	if err != nil {
		t.Fatal(err)
	}
	n.Norm = d.LearnNorm()
	tr := &train.Trainer{Config: cfg, Net: n, Train: d, Val: d}
	if err := tr.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if last := tr.History[len(tr.History)-1]; preset == "mobilenet-0.25" && last.ValAccuracy < 0.95 {
		t.Fatalf("%s learned nothing: %+v", preset, last)
	}
	m, err := n.Export(preset, d.Classes)
	if err != nil {
		t.Fatal(err)
	}
	file, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	return file, n, d
}

// bound is what a scheme may lose: the mean difference as a share of the
// range, and the share of samples whose first class changes. Beside int16
// values only the weights are rounded, by 8 bits: 0.0052 of the range was the
// most (visual wake words, one picture of 40 changes), a third of a hundredth
// is usual; int8 values add their own rounding in each layer.
var bound = map[string]struct{ relative, changed float64 }{
	"int8": {0.03, 0.1}, "int16": {0.008, 0.03}, "dynamic": {0.03, 0.1}, "float16": {0.001, 0.01},
}

// Every scheme on every network of train and every float model that is at
// hand: the runtime loads and runs it on the built-in kernels and on XNNPACK,
// and it follows the float model.
func TestEveryScheme(t *testing.T) {
	type subject struct {
		name string
		file []byte
		data Inputs
	}
	var list []subject
	for _, preset := range []string{"mlp", "lenet5", "ds-cnn", "mobilenet-0.25", "autoencoder"} {
		file, _, d := trained(t, preset)
		list = append(list, subject{preset, file, &Samples{Set: d}})
	}
	cifar, _ := pictures(t, "cifar10", 32, 32, 1)
	cats, _ := pictures(t, "cats", 96, 96, 1.0/255)
	faces, _ := pictures(t, "cats", 128, 128, 1.0/127.5)
	for i := range faces {
		for k := range faces[i] {
			faces[i][k]--
		}
	}
	for _, s := range []subject{
		{"pretrainedResnet.tflite", nil, cifar.every(25, 0)}, {"vww_96_float.tflite", nil, cats.every(25, 0)},
		{"ad01_fp32.tflite", nil, Structured{N: 40, Seed: 3}}, {"face_detection_front.tflite", nil, faces.every(100, 0)},
		{"hello_world_float.tflite", nil, angles()},
	} {
		_, s.file = sharedModel(t, s.name)
		list = append(list, s)
	}
	for _, s := range list {
		for _, scheme := range Schemes {
			t.Run(s.name+"/"+scheme, func(t *testing.T) {
				for _, floatIO := range []bool{false, true} {
					if floatIO && scheme != "int8" && scheme != "int16" {
						continue // ends are float either way
					}
					cfg := DefaultConfig()
					cfg.Scheme, cfg.FloatIO = scheme, floatIO
					made, err := Shorten(t.Context(), Job{File: s.file, Config: cfg, Calibration: s.data})
					if err != nil {
						t.Fatal(err)
					}
					x := Agreement{}
					if made.XNNPACK != nil {
						x = *made.XNNPACK
					} else {
						t.Errorf("XNNPACK: %v", made.Notes)
					}
					t.Logf("float ends %v: %d of %d bytes; builtin %.4f (top-1 %.3f), XNNPACK %.4f; left %v; notes %v", floatIO,
						made.Size, made.Was, made.Builtin.Relative(), made.Builtin.Top1, x.Relative(), made.Left, made.Notes)
					b := bound[scheme]
					for _, a := range []Agreement{made.Builtin, x} {
						// Numbers that are no classes have no first class.
						if strings.HasPrefix(s.name, "face") || strings.HasPrefix(s.name, "ad01") || s.name == "autoencoder" {
							a.Top1 = 1
						}
						if a.Relative() > b.relative || a.Top1 < 1-b.changed {
							t.Errorf("float ends %v: differs by %.4f of the range, top-1 %.3f", floatIO, a.Relative(), a.Top1)
						}
					}
				}
			})
		}
	}
}

func angles() (s samples) {
	for i := range 100 {
		s = append(s, []float64{float64(i) * 0.0628})
	}
	return s
}

// What is quantized already is refused, with the tensor that says so.
func TestRefusesIntegers(t *testing.T) {
	for _, name := range []string{"yamnet_audio_classifier_with_metadata.tflite", "vww_96_int8.tflite", "kws_ref_model_float32.tflite", "trained_lstm_int8.tflite"} {
		_, file := sharedModel(t, name)
		for _, scheme := range Schemes {
			cfg := DefaultConfig()
			cfg.Scheme = scheme
			_, err := Shorten(t.Context(), Job{File: file, Config: cfg})
			if err == nil || !strings.Contains(err.Error(), "already; give the float model that it was quantized from") && !strings.Contains(err.Error(), "subgraphs") {
				t.Errorf("%s, %s: %v", name, scheme, err)
			}
		}
	}
}
