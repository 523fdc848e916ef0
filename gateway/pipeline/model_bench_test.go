package pipeline

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/infer"
	"edgegateway/internal/testkit"
	"edgegateway/sensors"
)

// BenchmarkModel is a message's whole way through a worker with a real model:
// decode, fill, invoke, decode the output, JSON. What the runtime takes of it
// is printed as invoke-ns/op.
func BenchmarkModel(b *testing.B) {
	for _, c := range []struct {
		file, output, delegate string
		n                      int
	}{
		{"hello_world_float.tflite", "regression", "builtin", 1},
		{"ad01_fp32.tflite", "reconstruction", "xnnpack:0", 640},
	} {
		b.Run(c.file, func(b *testing.B) {
			e, err := infer.New(infer.DefaultConfig(), map[string]infer.ModelConfig{"m": {
				File: testkit.Shared(b, "models/"+c.file), Output: c.output, Delegate: c.delegate,
			}}, b.TempDir(), nil, zerolog.Nop(), prometheus.NewRegistry())
			if err != nil {
				b.Skip(err) // a build without the library
			}
			defer e.Close()
			cfg := numbers("n/+")
			cfg.Input = sensors.DefaultInputConfig()
			cfg.Input.Raw = "f32le"
			cfg.Model = "m"
			p, err := New(map[string]Config{"n": cfg}, e, discard{}, nil, func() (uint64, error) { return 1, nil }, zerolog.Nop(), prometheus.NewRegistry())
			if err != nil {
				b.Fatal(err)
			}
			var payload []byte
			for i := range c.n {
				payload = binary.LittleEndian.AppendUint32(payload, math.Float32bits(float32(math.Sin(float64(i)))))
			}
			w := p.table.Load().streams["n"].workers[0]
			it := item{msg: broker.Message{Topic: "n/a", Payload: payload}, source: "a"}
			b.ReportAllocs()
			for b.Loop() {
				w.handle(b.Context(), &it)
			}
			if w.s.results.Load() == 0 {
				b.Fatal(w.s.drops)
			}
			b.StopTimer()
			m, err := e.Model("m")
			if err != nil {
				b.Fatal(err)
			}
			none := func([]infer.Tensor) error { return nil }
			alone := testing.Benchmark(func(b *testing.B) {
				for b.Loop() {
					if err := m.Run(b.Context(), none, &w.result.Infer); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.ReportMetric(float64(alone.NsPerOp()), "invoke-ns/op")
		})
	}
}
