package pipeline

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/infer"
	"edgegateway/internal/testkit"
	"edgegateway/sensors"
)

// modelStream is a stream with a real model and one worker, which the test
// drives itself.
func modelStream(t testing.TB, model infer.ModelConfig, pub Publisher, change func(*Config)) *Stream {
	t.Helper()
	model.File = testkit.Shared(t, "models/"+model.File)
	e, err := infer.New(infer.Config{Delegate: "builtin", Workers: 1}, map[string]infer.ModelConfig{"m": model},
		t.TempDir(), nil, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	cfg := DefaultConfig()
	cfg.Topics, cfg.Model, cfg.Workers = []string{"x/+"}, "m", 1
	cfg.Input.Raw = "f32le"
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	p, err := New(map[string]Config{"s": cfg}, e, pub, nil, nil, nil, func() (uint64, error) { return 1, nil }, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return p.table.Load().streams["s"]
}

var sine = infer.ModelConfig{File: "hello_world_float.tflite", Output: "regression"}

// lastOne keeps the last result.
type lastOne struct{ payload []byte }

func (l *lastOne) Publish(_ string, payload []byte, _ byte, _ bool) error {
	l.payload = payload
	return nil
}

func floats(values ...float64) item {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
	}
	return item{msg: broker.Message{Topic: "x/a", Payload: b, Received: time.Unix(1000, 0)}, source: "a"}
}

// The model takes normalised numbers, the result keeps the real ones; a window
// goes into the model reading after reading.
func TestModelTakes(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		in     [][]float64
		want   float64 // of which the model's answer is the sine
	}{
		{"as it is", nil, [][]float64{{1}}, 1},
		{"normalised", func(c *Config) { c.Normalise = sensors.NormaliseConfig{Mean: []float64{10}, Std: []float64{2}} }, [][]float64{{13}}, 1.5},
		{"a window of one", func(c *Config) { c.Window = &sensors.WindowConfig{Size: "1"} }, [][]float64{{2}}, 2},
		{"a feature", func(c *Config) {
			c.Input.Channels, c.Window, c.Features = []string{"v"}, &sensors.WindowConfig{Size: "2"}, []string{"mean"}
			c.Normalise = sensors.NormaliseConfig{Mean: []float64{1}}
		}, [][]float64{{2}, {4}}, 2},
	} {
		out := &lastOne{}
		w := modelStream(t, sine, out, c.change).workers[0]
		for _, values := range c.in {
			it := floats(values...)
			w.handle(t.Context(), &it)
			w.flush(t.Context())
		}
		var r struct {
			Values   []float64
			Features map[string]float64
		}
		if err := json.Unmarshal(out.payload, &r); err != nil || len(r.Values) != 1 || math.Abs(r.Values[0]-math.Sin(c.want)) > 0.1 {
			t.Errorf("%s: %s, want the sine of %v (%v)", c.name, out.payload, c.want, err)
		}
		if c.name == "a feature" && r.Features["v.mean"] != 3 {
			t.Errorf("the result is to keep the mean of 3: %s", out.payload)
		}
	}
}

// A number too large for the model's float32 would be an infinity in it: the
// message is a counted drop like one that holds no number.
func TestTooLargeForTheModel(t *testing.T) {
	out := &lastOne{}
	s := modelStream(t, sine, out, func(c *Config) { c.Input.Raw, c.Input.Number = "", true })
	for _, payload := range []string{"1e300", "-3.5e38", "3.4028235e38"} {
		s.workers[0].handle(t.Context(), &item{msg: msg("x/a", payload), source: "a"})
		s.workers[0].flush(t.Context())
	}
	if n := s.drops.counts()["not_a_number"]; n != 2 {
		t.Errorf("%d of 2 were dropped: %v", n, s.drops.counts())
	}
}

// A message through a model costs its id, and now and then a block for JSON.
func TestAllocations(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		it     item
	}{
		"raw":  {nil, floats(1)},
		"json": {func(c *Config) { c.Input.Raw, c.Input.JSON = "", []string{"v"} }, item{msg: msg("x/a", `{"v":1.5}`), source: "a"}},
		"window": {func(c *Config) {
			c.Input.Channels, c.Window, c.Features = []string{"v"}, &sensors.WindowConfig{Size: "8", Every: "1"}, []string{"kurtosis"}
		}, floats(1)},
	} {
		w := modelStream(t, sine, discard{}, c.change).workers[0]
		for range 100 {
			w.handle(t.Context(), &c.it)
			w.flush(t.Context())
		}
		if n := testing.AllocsPerRun(1000, func() { w.handle(t.Context(), &c.it); w.flush(t.Context()) }); n > 1 {
			t.Errorf("%s: %v allocations a message", name, n)
		}
		if w.s.results.Load() < 1000 {
			t.Errorf("%s: %v", name, w.s.drops.counts())
		}
	}
}

// BenchmarkModel is a message's whole way through a worker with a real model:
// decode, fill, invoke, decode the output, JSON. What the runtime takes of it
// is printed as invoke-ns/op.
func BenchmarkModel(b *testing.B) {
	ad01 := infer.ModelConfig{File: "ad01_fp32.tflite", Output: "reconstruction", Delegate: "xnnpack:0"}
	var raw []float64
	text := []byte(`{"v":[`)
	for i := range 640 {
		raw = append(raw, math.Sin(float64(i)))
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendFloat(text, float64(float32(raw[i])), 'g', -1, 32)
	}
	for name, c := range map[string]struct {
		model  infer.ModelConfig
		change func(*Config)
		it     item
	}{
		"hello_world":   {sine, nil, floats(1)},
		"ad01_fp32 raw": {ad01, nil, floats(raw...)},
		"ad01_fp32 JSON": {ad01, func(c *Config) { c.Input.Raw, c.Input.JSON = "", []string{"v[*]"} },
			item{msg: msg("x/a", string(text)+"]}"), source: "a"}},
	} {
		b.Run(name, func(b *testing.B) {
			w := modelStream(b, c.model, discard{}, c.change).workers[0]
			b.ReportAllocs()
			for b.Loop() {
				w.handle(b.Context(), &c.it)
				w.flush(b.Context())
			}
			if w.s.results.Load() == 0 {
				b.Fatal(w.s.drops.counts())
			}
			// testing.Benchmark would wait for this benchmark's end.
			none := func([]infer.Tensor) error { return nil }
			begun := time.Now()
			for range 1000 {
				if err := w.s.model.Run(b.Context(), none, &w.slots[0].result.Infer); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(time.Since(begun).Nanoseconds())/1000, "invoke-ns/op")
		})
	}
}
