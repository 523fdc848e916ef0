package sensors

import (
	"bytes"
	"testing"
	"time"
)

// What is done for each message takes no memory once its buffers have grown.
func TestAllocations(t *testing.T) {
	text := []byte(`{"v":[0.1234567`)
	for range 639 {
		text = append(text, ",12.345678"...)
	}
	text = append(text, "]}"...)
	for name, c := range map[string]struct {
		cfg     InputConfig
		payload []byte
	}{
		"raw":        {input(func(c *InputConfig) { c.Raw = "f32le" }), make([]byte, 2560)},
		"raw i24":    {input(func(c *InputConfig) { c.Raw, c.Channels = "i24be", []string{"x", "y"} }), make([]byte, 600)},
		"tensor":     {input(func(c *InputConfig) { c.Raw = "tensor" }), make([]byte, 2560)},
		"number":     {input(func(c *InputConfig) { c.Number = true }), []byte("21.5")},
		"JSON array": {input(func(c *InputConfig) { c.JSON = []string{"v[*]"} }), text},
		"JSON": {input(func(c *InputConfig) { c.JSON, c.Time, c.Seq = []string{"cpu", "mem.used"}, "at", "n" }),
			[]byte(`{"cpu":0.25,"mem":{"used":0.5},"at":1700000000123,"n":7}`)},
		"CSV": {input(func(c *InputConfig) {
			c.CSV, c.Time, c.Seq = &CSVConfig{Columns: []string{"n", "at", "a", "b"}}, "at", "n"
		}), []byte(`7,2015-02-02 14:19:00,23.7,"26.272"`)},
		"picture": {input(func(c *InputConfig) { c.Image = "auto" }), jpegOf(t, 16, 16)},
	} {
		d, err := NewDecoder(c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		var s Sample
		if n := testing.AllocsPerRun(100, func() { err = d.Decode(c.payload, &s) }); n != 0 || err != nil {
			t.Errorf("%s: %v allocations a message, %v", name, n, err)
		}
	}
	names, err := NewNamePath("mem.id")
	if err != nil {
		t.Fatal(err)
	}
	doc := []byte(`{"cpu":0.25,"mem":{"id":"press7"}}`)
	if n := testing.AllocsPerRun(100, func() { _, err = names.Name(doc) }); n != 0 || err != nil {
		t.Errorf("a name: %v allocations, %v", n, err)
	}

	for _, cfg := range []WindowConfig{{Size: "64", Every: "1"}, {Size: "1s", Every: "100ms"}} {
		w := NewWindow(cfg, 2)
		f, err := NewFeatures([]string{"mean", "std", "min", "max", "rms", "peak", "crest", "kurtosis", "last", "fft:8", "band:1-5"}, []string{"x", "y"})
		if err != nil {
			t.Fatal(err)
		}
		at, full := time.Unix(0, 0), 0
		values, out, flat := []float64{1, 2}, []float64(nil), []float64(nil)
		push := func() {
			at = at.Add(10 * time.Millisecond)
			values[0], values[1] = values[1]+1, -values[0]
			if w.Push(at, values) {
				full++
				out = f.Compute(w, 0, out[:0])
				flat = w.Flatten(flat[:0])
			}
		}
		for range 1000 {
			push()
		}
		if n := testing.AllocsPerRun(1000, push); n != 0 || full < 100 {
			t.Errorf("window %+v: %v allocations a reading, %d windows", cfg, n, full)
		}
	}

	// A picture costs what its decoder makes for it, its way into the tensor
	// nothing.
	images, cfg := NewImageDecoder(), DefaultImageConfig()
	bitmap := bmpOf(t, 64, 48)
	dst := Target{W: 96, H: 96, C: 3, Type: Float32, Data: make([]byte, 4*96*96*3)}
	decode := testing.AllocsPerRun(20, func() { _, err = images.whole(bitmap, "bmp") })
	all := testing.AllocsPerRun(20, func() { _, err = images.Into(bitmap, cfg, dst) })
	if all > decode || err != nil || bytes.Equal(dst.Data, make([]byte, len(dst.Data))) {
		t.Errorf("%v allocations to decode, %v for all of it, %v", decode, all, err)
	}
}
