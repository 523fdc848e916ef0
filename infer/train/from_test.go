package train

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edgegateway/infer/model"
	"edgegateway/infer/tflite"
	"edgegateway/internal/testkit"
)

func readModel(t testing.TB, file string) *model.Model {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// answers runs a model in the runtime on samples that lie one after the other,
// and gives all outputs of each, one behind the other.
func answers(t fataler, m *model.Model, x []float32, n int) []float32 {
	t.Helper()
	file, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	lib, err := tflite.Open("")
	if err != nil {
		t.Fatal(err)
	}
	handle, err := lib.NewModel(file)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	in, err := handle.NewInterpreter(tflite.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var y []float32
	size := len(x) / n
	for i := range n {
		copy(in.Inputs[0].Data, floatBytes(x[i*size:(i+1)*size]))
		if err := in.Invoke(); err != nil {
			t.Fatal(err)
		}
		for _, o := range in.Outputs {
			y = append(y, bytesFloat(o.Data)...)
		}
	}
	return y
}

// near holds two sets of answers against each other, within a part of their
// range.
func near(t fataler, got, want []float32, part float64) {
	t.Helper()
	nearSums(t, got, want, part, 0)
}

// nearSums is near for answers that are sums of terms of which some cancel
// out: float32 rounds by the size of the terms (a half ulp is 6e-8 of it), not
// by what is left of them, so a few ulp of the largest terms are allowed too.
func nearSums(t fataler, got, want []float32, part, terms float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, not %d", len(got), len(want))
	}
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range want {
		low, high = min(low, float64(v)), max(high, float64(v))
	}
	limit := max(part*max(high-low, math.Abs(high), math.Abs(low), 1e-3), 5e-7*terms)
	for i := range want {
		if d := math.Abs(float64(got[i] - want[i])); !(d <= limit) {
			t.Fatalf("value %d: %v, the runtime says %v (range %v to %v, of terms up to %v)", i, got[i], want[i], low, high, terms)
		}
	}
}

func imported(t fataler, m *model.Model) *Network {
	t.Helper()
	n, err := From(m)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sameWeights holds all float constants of two models against each other, bit
// by bit, by the names of their tensors.
func sameWeights(t fataler, a, b *model.Model) {
	t.Helper()
	d := model.Diff(a, b)
	if !d.Same() {
		var w bytes.Buffer
		_ = d.Describe(&w)
		t.Fatalf("the model is another: %s", w.String())
	}
}

// Which float models of others are taken, and why the others are not. Those
// taken answer as the runtime does, give the very same model back, learn, and
// then answer as the runtime does with what they have learned.
func TestFromModelsOfOthers(t *testing.T) {
	for _, c := range []struct {
		file      string
		low, high float32 // of inputs
		refused   string
		rate      float64
	}{
		{file: "ad01_fp32.tflite", low: -1, high: 1},
		{file: "hello_world_float.tflite", low: 0, high: 6.28},
		{file: "vww_96_float.tflite", low: 0, high: 1},
		{file: "pretrainedResnet.tflite", low: 0, high: 255},
		{file: "face_detection_front.tflite", low: -1, high: 1},
		{file: "../demo/face_detection_short_range.tflite", low: -1, high: 1},
		{file: "kws_ref_model_float32.tflite", refused: "op 0 CONV_2D: its weights \"functional_1/conv2d/Conv2D\" are int8"},
		{file: "trained_lstm.tflite", refused: "UNIDIRECTIONAL_SEQUENCE_LSTM: this operator is not trained"},
		{file: "yamnet_audio_classifier_with_metadata.tflite", refused: "is float32 of shape [15600]"},
		{file: "vww_96_int8.tflite", refused: "is int8 of shape [1 96 96 3]"},
		{file: "mobilenet_v1_0.25_128_quant.tflite", refused: "is uint8"},
		{file: "movie_review.tflite", refused: "is int32"},
		{file: "keras_lstm_mnist_ptq.tflite", refused: "is uint8"},
	} {
		t.Run(c.file, func(t *testing.T) {
			file := filepath.Join(testkit.Shared(t, "models"), c.file)
			if strings.HasPrefix(c.file, "../") {
				file = testkit.Cached(t, strings.TrimPrefix(c.file, "../"))
			}
			m := readModel(t, file)
			if c.refused != "" {
				if _, err := From(m); err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%v", err)
				}
				return
			}
			n := imported(t, m)
			samples := 3
			d := &Dataset{Name: "noise", Shape: n.In, Width: product(n.Out)}
			r := rand.New(rand.NewPCG(1, 2))
			for range samples * product(n.In) {
				d.Values = append(d.Values, c.low+(c.high-c.low)*r.Float32())
			}
			want := answers(t, m, d.Values, samples)
			near(t, n.Predict(d.Values, samples), want, 1e-5)
			back, err := n.Model()
			if err != nil {
				t.Fatal(err)
			}
			if c.file != "../demo/face_detection_short_range.tflite" { // which is unpacked from float16
				sameWeights(t, m, back)
			}
			near(t, answers(t, back, d.Values, samples), want, 1e-6)
			// Other targets, so that there is something to learn.
			d.Targets = slices.Clone(want)
			slices.Reverse(d.Targets)
			cfg := DefaultConfig()
			cfg.Epochs, cfg.Batch, cfg.Loss, cfg.Optimizer.Rate = 2, 2, "mse", 1e-5
			tr := &Trainer{Net: n, Config: cfg, Train: d}
			run(t, tr)
			trained, err := n.Model()
			if err != nil {
				t.Fatal(err)
			}
			now := answers(t, trained, d.Values, samples)
			near(t, n.Predict(d.Values, samples), now, 1e-5)
			if slices.Equal(now, want) {
				t.Error("it learned nothing")
			}
			t.Logf("%d weights, %d layers, %d multiply-adds", n.Weights(), len(n.layers), n.origin.work)
		})
	}
}

// What New made, Export wrote and From read answers as what was exported, and
// comes back as it was written.
func TestFromOwnModels(t *testing.T) {
	for _, c := range []struct {
		name string
		in   Shape
		out  int
		norm bool
	}{
		{"mlp", Shape{12, 12, 1}, 10, true},
		{"lenet5", Shape{28, 28, 1}, 10, true},
		{"ds-cnn", Shape{28, 28, 1}, 10, true},
		{"mobilenet-0.25", Shape{32, 32, 3}, 5, true},
		{"autoencoder", Shape{20}, 20, true},
		{"forecast", Shape{24}, 3, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec, err := Preset(c.name, c.in, c.out)
			if err != nil {
				t.Fatal(err)
			}
			n, err := New(spec, c.in, c.out, 1)
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 2))
			for _, p := range n.Params() { // batch norms too
				for i := range p.W {
					p.W[i] += float32(0.03 * r.NormFloat64())
				}
			}
			d := &Dataset{Name: "noise", Shape: c.in, Width: c.out}
			for range 6 * product(c.in) {
				d.Values = append(d.Values, float32(20+5*r.NormFloat64()))
			}
			for range 6 * c.out {
				d.Targets = append(d.Targets, float32(100*r.NormFloat64()))
			}
			n.Norm = d.LearnNorm()
			if n.linearEnd() {
				n.OutNorm = d.LearnOutNorm()
			}
			m, err := n.Export("test", nil)
			if err != nil {
				t.Fatal(err)
			}
			g := imported(t, m)
			if len(g.Params()) == 0 || g.Weights() > n.Weights() || !slices.Equal(g.Out, n.Out) || g.Final() != n.Final() {
				t.Errorf("%d weights of %d, answers %v of %v, ends in %s", g.Weights(), n.Weights(), g.Out, n.Out, g.Final())
			}
			want := answers(t, m, d.Values, 6)
			near(t, g.Predict(d.Values, 6), want, 1e-5)
			near(t, g.Predict(d.Values, 6), n.Predict(d.Values, 6), 1e-5)
			back, err := g.Model()
			if err != nil {
				t.Fatal(err)
			}
			sameWeights(t, m, back)
		})
	}
}

// A network made from a model says what it cannot be.
func TestFromRefuses(t *testing.T) {
	d := rings(50, 1)
	layers := ringNet(t, d, 1)
	if _, err := layers.Model(); err == nil || !strings.Contains(err.Error(), "Export writes it") {
		t.Errorf("%v", err)
	}
	m, err := layers.Export("rings", d.Classes)
	if err != nil {
		t.Fatal(err)
	}
	n := imported(t, m)
	if _, err := n.Export("again", nil); err == nil || !strings.Contains(err.Error(), "made from a model") {
		t.Errorf("%v", err)
	}
	if err := (&Trainer{Net: n.Aware(), Config: DefaultConfig(), Train: d}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "quantization-aware") {
		t.Errorf("%v", err)
	}
	if n.Normalise(d); n.Norm != nil {
		t.Error("it has a normalisation beside that of its model")
	}
	n.Norm = d.LearnNorm()
	if err := (&Trainer{Net: n, Config: DefaultConfig(), Train: d}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no normalisation beside it") {
		t.Errorf("%v", err)
	}
	if _, err := n.Model(); err == nil {
		t.Error("its model leaves out a normalisation")
	}
}

// Labels and names outlive a training, and it goes on from a checkpoint of the
// same model only.
func TestFromKeepsNamesAndCheckpoints(t *testing.T) {
	d, val := rings(600, 1), rings(200, 2)
	net := ringNet(t, d, 1)
	m, err := net.Export("rings", d.Classes)
	if err != nil {
		t.Fatal(err)
	}
	m.SetMeta("mine", []byte("kept"))
	cfg := DefaultConfig()
	cfg.Epochs, cfg.Batch, cfg.Checkpoint = 2, 32, filepath.Join(t.TempDir(), "state")
	trained := func(epochs int) *Network {
		n := imported(t, m)
		cfg := cfg
		cfg.Epochs = epochs
		run(t, &Trainer{Net: n, Config: cfg, Train: d, Val: val})
		return n
	}
	first := trained(2)
	more := trained(4)
	cfg.Checkpoint = ""
	if whole := trained(4); !slices.Equal(weightsOf(whole), weightsOf(more)) || slices.Equal(weightsOf(first), weightsOf(more)) {
		t.Error("resumed: other weights")
	}
	back, err := more.Model()
	if err != nil {
		t.Fatal(err)
	}
	labels, err := back.Labels()
	if err != nil || !slices.Equal(labels, d.Classes) || string(back.Meta("mine")) != "kept" || back.Description != "rings" {
		t.Errorf("labels %v, %v, metadata %q, description %q", labels, err, back.Meta("mine"), back.Description)
	}
	if p := more.Params()[0]; p.Name != "0_dense_0/weights" {
		t.Errorf("the first weights are %s", p.Name)
	}
	cfg.Checkpoint = filepath.Join(t.TempDir(), "state")
	trained(1)
	if err := (&Trainer{Net: imported(t, back), Config: cfg, Train: d, Val: val}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another network") {
		t.Errorf("%v", err)
	}
}

// BenchmarkFrom is a step of training a ds-cnn, as New makes it and as From
// reads what it exported.
func BenchmarkFrom(b *testing.B) {
	in := Shape{28, 28, 1}
	spec, err := Preset("ds-cnn", in, 10)
	if err != nil {
		b.Fatal(err)
	}
	made, err := New(spec, in, 10, 1)
	if err != nil {
		b.Fatal(err)
	}
	m, err := made.Export("ds-cnn", nil)
	if err != nil {
		b.Fatal(err)
	}
	for i := range spec.Layers {
		spec.Layers[i].BatchNorm = false
	}
	folded, err := New(spec, in, 10, 1)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	d := &Dataset{Name: "noise", Shape: in, Values: random(r, 32*product(in)), Classes: make([]string, 10)}
	for range 32 {
		d.Labels = append(d.Labels, int32(r.IntN(10)))
	}
	for _, c := range []struct {
		name string
		net  *Network
	}{{"New", made}, {"New without batch norms", folded}, {"From", imported(b, m)}} {
		b.Run(c.name, func(b *testing.B) {
			cfg := DefaultConfig()
			cfg.Epochs, cfg.Batch = b.N, 32
			b.ResetTimer()
			run(b, &Trainer{Net: c.net, Config: cfg, Train: d})
		})
	}
}
