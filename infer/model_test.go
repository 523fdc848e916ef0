package infer

import (
	"bytes"
	"context"
	"errors"
	"image"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/internal/testkit"
)

// oneModel is an engine of one model on a pinned delegate.
func oneModel(t testing.TB, cfg ModelConfig) (*Engine, *Model) {
	t.Helper()
	e := newEngine(t, t.TempDir(), nil, map[string]ModelConfig{"m": cfg})
	m, err := e.Model("m")
	if err != nil {
		t.Fatal(err)
	}
	return e, m
}

// TestRunAllocatesNothing: with a result that is used again, whatever the
// outputs mean and on whatever they are computed.
func TestRunAllocatesNothing(t *testing.T) {
	pets := readPicture(t, testkit.Shared(t, "data/pets.jpg"))
	face := readPicture(t, testkit.Cached(t, "demo/sample1.jpg"))
	for _, c := range []struct {
		file, output, delegate string
		in                     []byte
	}{
		{testkit.Shared(t, "models/hello_world_float.tflite"), "regression", "builtin", floats32(nil, 1).Data},
		{testkit.Shared(t, "models/vww_96_int8.tflite"), "classes", "xnnpack:3", make([]byte, 96*96*3)},
		{testkit.Shared(t, "models/ad01_int8.tflite"), "reconstruction", "xnnpack:3", nil},
		{testkit.Shared(t, "models/movenet_single_pose_lightning_ptq.tflite"), "raw", "builtin", nil},
		{testkit.Shared(t, "models/trained_lstm.tflite"), "classes", "builtin", nil},
		{testkit.Shared(t, "models/detect.tflite"), "detection", "builtin", rgb(pets, 300, 300, false)},
		{testkit.Cached(t, "demo/face_detection_short_range.tflite"), "blazeface", "xnnpack:0", unit(rgb(face, 128, 128, true))},
	} {
		_, m := oneModel(t, ModelConfig{File: c.file, Output: c.output, Delegate: c.delegate})
		var r Result
		fill := func(in []Tensor) error {
			if c.in == nil {
				clear(in[0].Data)
				return nil
			}
			return in[0].SetBytes(c.in)
		}
		run := func() {
			r.Reset()
			if err := m.Run(context.Background(), fill, &r); err != nil {
				t.Fatal(err)
			}
		}
		// Each interpreter has its own first call.
		for range 2 * runtime.GOMAXPROCS(0) {
			run()
		}
		if n := testing.AllocsPerRun(10, run); n > 0 && !raceDetector {
			t.Errorf("%s: %v allocations a call", filepath.Base(c.file), n)
		}
		if (c.output == "detection" || c.output == "blazeface") && len(r.Objects) == 0 {
			t.Errorf("%s: nothing was found", filepath.Base(c.file))
		}
	}
}

// TestReloadUnderLoad: while models are replaced by others every message is
// answered by the old one or by the new one, and by nothing else.
func TestReloadUnderLoad(t *testing.T) {
	needLibrary(t)
	files := []string{testkit.Shared(t, "models/hello_world_float.tflite"), testkit.Shared(t, "models/hello_world_int8.tflite")}
	config := func(i int) map[string]ModelConfig {
		return map[string]ModelConfig{"m": {File: files[i], Output: "regression", Delegate: "builtin"}}
	}
	var answers [2][8]float64
	others := 0 // interpreters of the models that were asked alone: one program opens the library once
	for i := range files {
		_, m := oneModel(t, config(i)["m"])
		others = m.live.Load().lib.Interpreters()
		for x := range answers[i] {
			answers[i][x] = ask(t, m, float64(x)/2)
		}
	}
	for x := range 8 {
		if answers[0][x] == answers[1][x] {
			t.Fatalf("the models cannot be told apart at %d", x)
		}
	}
	e := newEngine(t, t.TempDir(), nil, config(0))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var by [2]atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			var r Result
			for i := g; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				x := i % 8
				r.Reset()
				err := ErrClosed
				for errors.Is(err, ErrClosed) { // as who holds a model over a reload does
					var m *Model
					if m, err = e.Model("m"); err == nil {
						err = m.Run(context.Background(), func(in []Tensor) error { return in[0].SetFloats([]float64{float64(x) / 2}) }, &r)
					}
				}
				switch {
				case err != nil:
					t.Error(err)
					return
				case r.Values[0] == answers[0][x]:
					by[0].Add(1)
				case r.Values[0] == answers[1][x]:
					by[1].Add(1)
				default:
					t.Errorf("for %d: %v, neither %v nor %v", x, r.Values[0], answers[0][x], answers[1][x])
					return
				}
			}
		})
	}
	bad := map[string]ModelConfig{"m": {File: filepath.Join(t.TempDir(), "none")}}
	for i := range 50 {
		// Each model has answered before it is replaced for the first time.
		await(t, "an answer of the model in service", func() bool { return by[i%2].Load() > 0 || t.Failed() })
		if err := e.Reload(DefaultConfig(), config((i+1)%2)); err != nil {
			t.Error(err)
		}
		if err := e.Reload(DefaultConfig(), bad); err == nil {
			t.Error("a file that is not there was loaded")
		}
	}
	close(stop)
	wg.Wait()
	await(t, "the replaced models are freed", func() bool { return e.lib.Interpreters() <= others+runtime.GOMAXPROCS(0) })
}

// TestRunGivesUp: who waits for an interpreter stops with its context, and a
// model that is gone says so.
func TestRunGivesUp(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Workers = 1
	needLibrary(t)
	e, err := New(cfg, sine(t), t.TempDir(), nil, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.Model("sine")
	if err != nil {
		t.Fatal(err)
	}
	var r, other Result
	ctx, cancel := context.WithCancel(t.Context())
	err = m.Run(t.Context(), func(in []Tensor) error {
		cancel()
		if err := m.Run(ctx, func([]Tensor) error { return nil }, &other); !errors.Is(err, context.Canceled) {
			t.Errorf("with the only interpreter taken: %v", err)
		}
		e.Close()
		return in[0].SetFloats([]float64{1})
	}, &r)
	if err != nil || math.Abs(r.Values[0]-math.Sin(1)) > 0.1 {
		t.Errorf("what was under way when the engine closed: %v, %v", r.Values, err)
	}
	if err := m.Run(t.Context(), func([]Tensor) error { return nil }, &r); err != ErrClosed {
		t.Errorf("after the close: %v", err)
	}
	own := errors.New("no frame")
	_, m = oneModel(t, sine(t)["sine"])
	if err := m.Run(t.Context(), func([]Tensor) error { return own }, &r); err != own {
		t.Errorf("the caller's own error comes back as %v", err)
	}
}

// TestStateful: an answer of a recurrent model does not depend on the frame
// before.
func TestStateful(t *testing.T) {
	for _, file := range []string{"trained_lstm", "trained_lstm_int8", "keras_lstm_mnist_ptq"} {
		cfg := DefaultConfig()
		cfg.Workers = 1
		e, err := New(cfg, map[string]ModelConfig{"m": {File: testkit.Shared(t, "models/"+file+".tflite"), Output: "raw"}}, t.TempDir(), nil, zerolog.Nop(), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		m, err := e.Model("m")
		if err != nil {
			t.Fatal(err)
		}
		answer := func(variant int) []float64 {
			var r Result
			if err := m.Run(t.Context(), func(in []Tensor) error { fixedInput(in, variant); return nil }, &r); err != nil {
				t.Fatal(err)
			}
			return r.Values
		}
		first := answer(0)
		if slices.Equal(answer(1), first) {
			t.Fatalf("%s answers two inputs alike", file)
		}
		if again := answer(0); !slices.Equal(again, first) {
			t.Errorf("%s: %v, and after another input %v", file, first, again)
		}
		e.Close()
	}
}

// TestEncodingsAreRefusedAtLoad: the engine takes no model that the runtime
// gets wrong, and says which part of it and what to do.
func TestEncodingsAreRefusedAtLoad(t *testing.T) {
	needLibrary(t)
	for name, want := range map[string][]string{
		"dense_int8_sparse":       {"FULLY_CONNECTED", "sparse int8 weights", "DENSIFY"},
		"conv_int8_sparse":        {"CONV_2D", "sparse int8 weights", "DENSIFY"},
		"dense_int4":              {"\"dense/weights\"", "int4", "convert with"},
		"dense_float16":           {"FULLY_CONNECTED", "float16", "DEQUANTIZE"},
		"conv_int8_dimension":     {"quantized_dimension is", "convert the model again"},
		"matmul_int8_per_channel": {"BATCH_MATMUL", "per-channel", "convert with"},
		"mul_int8_per_channel":    {"MUL", "per-channel", "convert with"},
		"edgetpu":                 {"edgetpu-custom-op", "Edge TPU", "the file that it was compiled from"},
	} {
		_, err := New(DefaultConfig(), map[string]ModelConfig{"m": {File: "model/testdata/" + name + ".tflite"}}, t.TempDir(), nil, zerolog.Nop(), prometheus.NewRegistry())
		for _, part := range append(want, "models.m.file: "+name+".tflite: ") {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v, want %q", name, err, part)
			}
		}
	}
	// One that only XNNPACK refuses runs on the built-in kernels, and is not
	// tried elsewhere.
	for name, want := range map[string]int{"conv_int8_zero_scale": 1, "conv_int8": 5} {
		_, m := oneModel(t, ModelConfig{File: "model/testdata/" + name + ".tflite"})
		if list := m.live.Load().candidates(false); len(list) < want || want == 1 && len(list) > 1 || list[0] != "builtin" {
			t.Errorf("%s: the candidates are %q", name, list)
		}
	}
}

// TestDenseWithAScaleAChannel: what today's converters write is rewritten when
// it is loaded, said, and answered as arithmetic has it on every delegate that
// serves.
func TestDenseWithAScaleAChannel(t *testing.T) {
	for _, c := range []struct {
		file string
		in   []float64
		want []float64
		step float64
	}{
		// As in TestWrongEncodings; 508 is the most that the output can say.
		{"dense_int8_per_channel", []float64{10, 10, 10, 10}, []float64{100, 508, 508}, 4},
		{"dense_hybrid_per_channel", []float64{1, 2, 3, 4}, []float64{30, 140, 330}, 3},
	} {
		for _, delegate := range []string{"builtin", "xnnpack:3"} {
			var log bytes.Buffer
			e, err := New(DefaultConfig(), map[string]ModelConfig{"m": {File: "model/testdata/" + c.file + ".tflite", Delegate: delegate, Output: "raw"}},
				t.TempDir(), nil, zerolog.New(&log), prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			m, err := e.Model("m")
			if err != nil {
				t.Fatal(err)
			}
			var r Result
			if err := m.Run(t.Context(), func(in []Tensor) error { return in[0].SetFloats(c.in) }, &r); err != nil {
				t.Fatal(err)
			}
			for i, v := range r.Values {
				if math.Abs(v-c.want[i]) > c.step {
					t.Errorf("%s on %s: %v, want %v", c.file, delegate, r.Values, c.want)
					break
				}
			}
			if !strings.Contains(log.String(), "1x1 CONV_2D") {
				t.Errorf("%s: the log says %s", c.file, log.String())
			}
			e.Close()
		}
	}
}

// TestIndexesOutsideTheTable: a word id outside the vocabulary is an error of
// that message. The runtime itself would read memory of others by it.
func TestIndexesOutsideTheTable(t *testing.T) {
	_, m := oneModel(t, ModelConfig{File: testkit.Shared(t, "models/movie_review.tflite")})
	var r Result
	ids := make([]float64, 256)
	run := func(id float64) error {
		ids[100] = id
		return m.Run(t.Context(), func(in []Tensor) error { return in[0].SetFloats(ids) }, &r)
	}
	for _, id := range []float64{10003, 1e8, math.MaxInt32, -1, math.MinInt32} {
		if err := run(id); !errors.Is(err, ErrOutOfRange) || !strings.Contains(err.Error(), "0 to 10002") {
			t.Errorf("id %v: %v", id, err)
		}
	}
	for _, id := range []float64{0, 10002} {
		if err := run(id); err != nil || r.Label == "" && len(r.Values) == 0 && len(r.Top) == 0 {
			t.Errorf("id %v: %v, %+v", id, err, r)
		}
	}
}

// TestChoiceIsOfThisModelAndBox: what was chosen holds for the same file,
// library, accelerator and pin, wherever the file lies, and for no other.
func TestChoiceIsOfThisModelAndBox(t *testing.T) {
	file := copyTo(t, t.TempDir(), "dense_int8", "a")
	base := ModelConfig{File: file}
	key := func(cfg ModelConfig) string {
		e, m := oneModel(t, cfg)
		return e.key(m.live.Load())
	}
	want := key(base)
	for name, c := range map[string]struct {
		change func(*ModelConfig)
		same   bool
	}{
		"nothing":        {func(*ModelConfig) {}, true},
		"another place":  {func(c *ModelConfig) { c.File = copyTo(t, t.TempDir(), "dense_int8", "b") }, true},
		"other labels":   {func(c *ModelConfig) { c.Classes = []string{"x"} }, true},
		"another model":  {func(c *ModelConfig) { c.File = copyTo(t, t.TempDir(), "conv_int8", "a") }, false},
		"an accelerator": {func(c *ModelConfig) { c.External.Library = "/none.so" }, false},
		"pinned to it":   {func(c *ModelConfig) { c.Delegate = "external" }, false},
	} {
		cfg := base
		c.change(&cfg)
		if got := key(cfg); (got == want) != c.same {
			t.Errorf("%s: the choice holds %v, want %v", name, got == want, c.same)
		}
	}
	one, other := base, base
	one.External.Library, other.External.Library = "/one.so", "/other.so"
	if key(one) == key(other) {
		t.Error("the choice holds for another accelerator")
	}
	e, m := oneModel(t, base)
	m.live.Load().engine.Library = "/another/library.so"
	if e.key(m.live.Load()) == want {
		t.Error("the choice holds for another library")
	}
	if cpuName() == runtime.GOARCH && runtime.GOOS == "linux" {
		t.Error("the processor has no name")
	}
}

// TestPinned: the configuration's delegate serves without a trial; one that is
// not to be had here costs speed, not the service.
func TestPinned(t *testing.T) {
	for pinned, c := range map[string]struct {
		delegate, degraded string
		workers            int
	}{
		"xnnpack:3":   {"xnnpack:3", "", runtime.GOMAXPROCS(0)},
		"builtin:2":   {"builtin:2", "", max(1, runtime.GOMAXPROCS(0)/2)},
		"xnnpack:0:2": {"xnnpack:0:2", "", max(1, runtime.GOMAXPROCS(0)/2)},
		"builtin":     {"builtin", "", runtime.GOMAXPROCS(0)},
	} {
		e, m := oneModel(t, ModelConfig{File: testkit.Shared(t, "models/hello_world_int8.tflite"), Output: "regression", Delegate: pinned})
		if y := ask(t, m, 1); math.Abs(y-math.Sin(1)) > 0.1 {
			t.Errorf("%s: %v", pinned, y)
		}
		s := e.Models()[0]
		if s.Delegate != c.delegate || s.Degraded != c.degraded || s.Trying || s.Why != "pinned by the configuration" || m.live.Load().serving.Load().size != c.workers {
			t.Errorf("%s: %+v with %d interpreters, want %d", pinned, s, m.live.Load().serving.Load().size, c.workers)
		}
	}
	// XNNPACK refuses this model with its int8 kernels.
	p := readPicture(t, testkit.Shared(t, "data/cat.bmp"))
	e, m := oneModel(t, ModelConfig{File: testkit.Shared(t, "models/mobilenet_v1_0.25_128_quant.tflite"), Delegate: "xnnpack:3"})
	var r Result
	if err := m.Run(t.Context(), func(in []Tensor) error { return in[0].SetBytes(rgb(p, 128, 128, false)) }, &r); err != nil || !strings.Contains(r.Label, "cat") {
		t.Errorf("%+v, %v", r, err)
	}
	if s := e.Models()[0]; s.Delegate != "builtin" || !strings.Contains(s.Degraded, "xnnpack:3: XNNPACK refuse the model") {
		t.Errorf("%+v", s)
	}
}

// TestLabelsAreReadAgain: a label file that was edited counts from the reload
// on, though the model's file is as it was.
func TestLabelsAreReadAgain(t *testing.T) {
	labels := filepath.Join(t.TempDir(), "labels.txt")
	write(t, labels, "nobody\nperson\n")
	models := map[string]ModelConfig{"m": {File: testkit.Shared(t, "models/vww_96_int8.tflite"), Labels: labels, Delegate: "builtin"}}
	e := newEngine(t, t.TempDir(), nil, models)
	person := readPicture(t, testkit.Shared(t, "data/person.bmp")).(*image.Paletted)
	label := func() string {
		m, err := e.Model("m")
		if err != nil {
			t.Fatal(err)
		}
		var r Result
		if err := m.Run(t.Context(), func(in []Tensor) error {
			for i, b := range person.Pix {
				in[0].Data[3*i], in[0].Data[3*i+1], in[0].Data[3*i+2] = b, b, b
			}
			return nil
		}, &r); err != nil {
			t.Fatal(err)
		}
		return r.Label
	}
	if l := label(); l != "person" {
		t.Errorf("label %q", l)
	}
	before := e.models["m"]
	if err := e.Reload(DefaultConfig(), models); err != nil || e.models["m"] != before {
		t.Errorf("a reload of the same made a new model, %v", err)
	}
	write(t, labels, "nobody\nsomebody there\n")
	if err := e.Reload(DefaultConfig(), models); err != nil {
		t.Fatal(err)
	}
	if l := label(); l != "somebody there" {
		t.Errorf("after the reload label %q", l)
	}
}
