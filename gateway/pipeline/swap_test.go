package pipeline

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/infer"
	"edgegateway/internal/testkit"
	"edgegateway/sensors"
)

// everyOne keeps all results.
type everyOne struct{ results [][]byte }

func (k *everyOne) Publish(_ string, payload []byte, _ byte, _ bool) error {
	k.results = append(k.results, payload)
	return nil
}

// sines are an engine with a float model m and its int8 version 2, pinned too.
func sines(t testing.TB) (*infer.Engine, infer.ModelConfig) {
	t.Helper()
	one := infer.ModelConfig{File: testkit.Shared(t, "models/hello_world_float.tflite"), Output: "regression", Version: "1"}
	two := one
	two.File, two.Version = testkit.Shared(t, "models/hello_world_int8.tflite"), "2"
	e, err := infer.New(infer.Config{Delegate: "builtin", Workers: 1}, map[string]infer.ModelConfig{"m": one, "m@2": two},
		t.TempDir(), nil, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, two
}

// A stream goes on while the version under it changes, from a message to the
// next and in the middle of a line of messages; a pinned stream does not see it.
func TestVersionUnderStream(t *testing.T) {
	e, two := sines(t)
	live, pinned := DefaultConfig(), DefaultConfig()
	live.Topics, live.Model, live.Workers, live.Input.Raw = []string{"x/+"}, "m", 1, "f32le"
	pinned = live
	pinned.Version = "2"
	out := &everyOne{}
	p, err := New(map[string]Config{"live": live, "pinned": pinned}, e, out, nil, nil, nil, func() (uint64, error) { return 1, nil }, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	push := func(stream string, n int) {
		w := p.table.Load().streams[stream].workers[0]
		for i := range n {
			it := floats(float64(i))
			w.handle(t.Context(), &it)
		}
		w.flush(t.Context())
	}
	push("live", 17)
	if err := p.FitsInstead("m", []infer.TensorInfo{{Type: infer.Int8, Shape: []int{1, 1}}}); err != nil {
		t.Error(err)
	}
	err = p.FitsInstead("m", []infer.TensorInfo{{Type: infer.Int8, Shape: []int{1, 2}}})
	if err == nil || !strings.Contains(err.Error(), "streams.live.model: it takes 2 numbers, the version at work takes 1") || strings.Contains(err.Error(), "pinned") {
		t.Error(err)
	}
	if err := e.Swap("m", two, func(in []infer.TensorInfo) error { return p.FitsInstead("m", in) }, nil); err != nil {
		t.Fatal(err)
	}
	push("live", 3)
	push("pinned", 1)
	var got []string
	for _, b := range out.results {
		var r struct {
			Stream, Model, Version string
			Seq                    int
		}
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(r.Stream, " ", r.Seq, " ", r.Model, " ", r.Version))
	}
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint("live ", i+1, " m ", 1+i/17))
	}
	want = append(want, "pinned 1 m 2")
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("results\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	pinned.Version = "3"
	if _, err := p.Prepare(map[string]Config{"pinned": pinned}, e); err == nil || !strings.Contains(err.Error(), `streams.pinned.version: there is no model "m@3"`) {
		t.Error(err)
	}
}

// A stream whose windows fill within one message makes room for several
// samples at once when a version comes that takes them so; none is mixed up.
func TestRoomForSeveral(t *testing.T) {
	out := &everyOne{}
	s := modelStream(t, sine, out, func(c *Config) {
		c.Input.Channels, c.Window, c.Features = []string{"v"}, &sensors.WindowConfig{Size: "1"}, []string{"mean"}
	})
	w := s.workers[0]
	w.line(1) // as where the version before took them one by one
	w.slot = &w.slots[0]
	var values []float64
	for i := range 40 {
		values = append(values, float64(i))
	}
	it := floats(values...)
	w.handle(t.Context(), &it)
	w.flush(t.Context())
	if len(w.slots) != maxSlots || len(out.results) != 40 {
		t.Fatalf("%d results, room for %d", len(out.results), len(w.slots))
	}
	for i, b := range out.results {
		var r struct {
			ID, Source string
			Features   map[string]float64
		}
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatal(err)
		}
		id := "s/a/1-1"
		if i > 0 {
			id += fmt.Sprintf(".%d", i)
		}
		if r.Features["v.mean"] != float64(i) || r.ID != id || r.Source != "a" {
			t.Errorf("result %d: %s", i, b)
		}
	}
}

func TestFitsInstead(t *testing.T) {
	numbers := func(kind infer.ElemType, shape ...int) []infer.TensorInfo {
		return []infer.TensorInfo{{Type: kind, Shape: shape, Scale: 1}}
	}
	raw, bytes, picture := DefaultConfig(), DefaultConfig(), DefaultConfig()
	raw.Input.Raw, bytes.Input.Raw, picture.Input.Image = "f32le", "tensor", "auto"
	for _, c := range []struct {
		name      string
		cfg       Config
		now, next []infer.TensorInfo
		want      string // "": fits
	}{
		{"the same", raw, numbers(infer.Float32, 1, 4), numbers(infer.Float32, 1, 4), ""},
		{"another shape of as many", raw, numbers(infer.Float32, 1, 4), numbers(infer.Float32, 1, 2, 2), ""},
		{"another type", raw, numbers(infer.Float32, 1, 4), numbers(infer.Int8, 1, 4), ""},
		{"more", raw, numbers(infer.Float32, 1, 4), numbers(infer.Float32, 1, 5), "it takes 5 numbers, the version at work takes 4"},
		{"bytes of another type", bytes, numbers(infer.Float32, 1, 4), numbers(infer.Int8, 1, 4), "bytes as they stand, of float32"},
		{"a larger picture", picture, numbers(infer.Uint8, 1, 96, 96, 3), numbers(infer.Int8, 1, 128, 128, 3), ""},
		{"no picture", picture, numbers(infer.Uint8, 1, 96, 96, 3), numbers(infer.Int8, 1, 128), "no pictures"},
	} {
		err := c.cfg.FitsInstead(c.now, c.next)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(strings.ToLower(err.Error()), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// A version's own word on pictures holds where the stream says nothing.
func TestFitted(t *testing.T) {
	plain, said := sensors.DefaultImageConfig(), sensors.DefaultImageConfig()
	said.Fit, said.Channels, said.Std = "stretch", "bgr", []float64{2}
	says := &infer.PictureInput{Fit: "crop", Channels: "bgr", Mean: []float64{127.5}, Std: []float64{127.5}}
	if got := fitted(plain, nil); !reflect.DeepEqual(got, plain) {
		t.Errorf("%+v", got)
	}
	if got := fitted(said, says); !reflect.DeepEqual(got, said) {
		t.Errorf("%+v", got)
	}
	want := plain
	want.Fit, want.Channels, want.Mean, want.Std = "crop", "bgr", says.Mean, says.Std
	if got := fitted(plain, says); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

// Two versions of one model that want their pictures otherwise see them so,
// from one frame to the next.
func TestPicturesByVersion(t *testing.T) {
	one := infer.ModelConfig{File: testkit.Shared(t, "models/vww_96_int8.tflite"), Output: "classes", Version: "1"}
	two := one
	two.Version, two.Picture = "2", &infer.PictureInput{Mean: []float64{255}, Std: []float64{100}}
	e, err := infer.New(infer.Config{Delegate: "builtin", Workers: 1}, map[string]infer.ModelConfig{"m": one},
		t.TempDir(), nil, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	cfg := DefaultConfig()
	cfg.Topics, cfg.Model, cfg.Workers, cfg.Input.Image = []string{"x/+"}, "m", 1, "auto"
	out := &lastOne{}
	p, err := New(map[string]Config{"s": cfg}, e, out, nil, nil, nil, func() (uint64, error) { return 1, nil }, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	photo, err := os.ReadFile(testkit.Shared(t, "data/pets.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	score := func(version string) float64 {
		t.Helper()
		w := p.table.Load().streams["s"].workers[0]
		it := item{msg: broker.Message{Topic: "x/a", Payload: photo, Received: time.Unix(1000, 0)}, source: "a"}
		w.handle(t.Context(), &it)
		w.flush(t.Context())
		var r struct {
			Version string
			Score   float64
		}
		if err := json.Unmarshal(out.payload, &r); err != nil || r.Version != version {
			t.Fatalf("%s, %v", out.payload, err)
		}
		return r.Score
	}
	before := score("1")
	if err := e.Swap("m", two, nil, nil); err != nil {
		t.Fatal(err)
	}
	if score("2") == before {
		t.Error("the second version sees what the first one saw")
	}
	if err := e.Swap("m", one, nil, nil); err != nil {
		t.Fatal(err)
	}
	if after := score("1"); after != before {
		t.Errorf("the first version says %v, and before %v", after, before)
	}
	two.Picture = &infer.PictureInput{Mean: []float64{1, 2}}
	if err := e.Swap("m", two, nil, nil); err == nil || !strings.Contains(err.Error(), "2 numbers as the mean of pictures") {
		t.Error(err)
	}
}
