package cli_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/model"
	"edgegateway/internal/testkit"
)

// quantize calibrates with what a running stream gets: here readings whose
// range is known, through a window and constants of the configuration.
func TestQuantizeFromStream(t *testing.T) {
	float := testkit.Shared(t, "models/hello_world_float.tflite")
	_, broker, _ := gateway(t, "}")
	dir := t.TempDir()
	config := write(t, dir, "gateway.yaml", fmt.Sprintf(`
gateway: g
data: %s
broker: {listeners: [{tcp: "127.0.0.1:0"}]}
streams:
  phase: {topics: [phase/+], input: {number: true}, window: {size: 2, every: 2}, features: [max], normalise: {mean: [100], std: [10]}}
  door: {topics: [door/+], input: {image: jpeg}, record: {every: "1"}}
`, filepath.Join(dir, "data")))
	var rows strings.Builder
	for i := range 100 {
		fmt.Fprintf(&rows, "%d\n", 100+(i*7)%60)
	}
	player := start(t, "replay", "--broker", broker, "--loop", "--every", "1ms", "phase/a", write(t, dir, "rows.csv", rows.String()))
	out := filepath.Join(dir, "int8.tflite")
	quantize := func(args ...string) ran {
		return run(t, "", append([]string{"quantize", "--broker", broker, "--config", config, "--out", out, float}, args...)...)
	}
	r := quantize("--stream", "phase", "--samples", "60")
	if r.code != 0 || !strings.Contains(r.stdout, "calibrated on") || !strings.Contains(r.stdout, "of 30 samples") {
		t.Fatalf("%+v", r)
	}
	// Its input's scale is that of 0.7..5.9, which is what the model is given,
	// with 0 inside.
	made := parse(t, out)
	if g := made.Main(); math.Abs(float64(g.Tensors[g.Inputs[0]].Quant.Scale[0])*255-5.9) > 0.3 {
		t.Errorf("the input is quantized as %v", g.Tensors[g.Inputs[0]].Quant)
	}
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{3, "has no stream \"phases\"; it has door, phase", []string{"--stream", "phases"}},
		{2, "--data and --stream", []string{"--stream", "phase", "--data", "x.csv"}},
		{3, "stream door has pictures", []string{"--stream", "door"}},
	} {
		if r := quantize(c.args...); r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
	interrupt(t, player)
	// Nobody publishes any more: what waits is stopped, and says how far it came.
	waits := start(t, "quantize", "--broker", broker, "--config", config, "--stream", "phase", "--out", filepath.Join(dir, "none.tflite"), float)
	waits.Line(`waiting for 200 samples`)
	cut(t, waits, "stopped: 0 of 200 samples came; nothing was written")
}

// parse reads a model that a command wrote.
func parse(t *testing.T, path string) *model.Model {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
