package sensors

import (
	"bytes"
	"testing"
	"time"
)

// FuzzDecode puts any bytes through every decoder: an error with a reason or
// finite numbers, never a panic.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"cpu":0.5,"data":{"temp":"21.5"},"axes":[1,true],"at":1,"n":7}`))
	f.Add([]byte("date,a,n,b\n2015-02-02 14:19:00,1,\"5\",2.5"))
	f.Add(jpegOf(f, 8, 8))
	f.Add([]byte("data:image/jpeg;base64,/9j/4AAQ"))
	f.Add([]byte("BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x18\x00"))
	f.Add([]byte(`{"axes":[1,-2.5],"at":"2026-01-31T12:00:00.5+01:00"}`))
	f.Add([]byte(" ON\n"))
	var decoders []Decoder
	for _, c := range []InputConfig{
		input(func(c *InputConfig) {
			c.JSON, c.Time, c.Seq = []string{"cpu", "data.temp", "axes[1]", "axes[*]"}, "at", "n"
		}),
		input(func(c *InputConfig) {
			c.CSV, c.Time, c.Seq = &CSVConfig{Columns: []string{"date", "a", "n", "b"}}, "date", "n"
		}),
		input(func(c *InputConfig) { c.Raw = "f32le" }),
		input(func(c *InputConfig) { c.Raw = "i24be" }),
		input(func(c *InputConfig) { c.Raw, c.Channels = "f16le", []string{"x", "y", "z"} }),
		input(func(c *InputConfig) { c.Raw = "tensor" }),
		input(func(c *InputConfig) {
			c.JSON, c.Channels, c.Time, c.TimeFormat = []string{"axes[*]"}, []string{"x", "y"}, "at", "rfc3339"
		}),
		input(func(c *InputConfig) { c.Number = true }),
		input(func(c *InputConfig) { c.Image, c.Time = "auto", "t" }),
	} {
		d, err := NewDecoder(c)
		if err != nil {
			f.Fatal(err)
		}
		decoders = append(decoders, d)
	}
	names, err := NewNamePath("data.temp")
	if err != nil {
		f.Fatal(err)
	}
	images, fit := NewImageDecoder(), DefaultImageConfig()
	fit.MaxPixels = 1 << 16
	dst := Target{W: 8, H: 8, C: 3, Type: Uint8, Data: make([]byte, 192)}
	f.Fuzz(func(t *testing.T, payload []byte) {
		before := bytes.Clone(payload)
		for _, d := range decoders {
			var s Sample
			err := d.Decode(payload, &s)
			if err != nil && Reason(err) == "" {
				t.Fatalf("an error without a reason: %v", err)
			}
			if err != nil {
				continue
			}
			// What RFC 3339 cannot hold would be no time in a result.
			if _, err := s.Time.MarshalText(); err != nil {
				t.Fatal(err)
			}
			for _, v := range s.Values {
				if v-v != 0 {
					t.Fatalf("not finite: %v", s.Values)
				}
			}
			if s.Picture != nil {
				images.Into(s.Picture, fit, dst)
			}
		}
		if name, err := names.Name(payload); (err == nil) != (name != "") || err != nil && Reason(err) == "" {
			t.Fatalf("name %q, %v", name, err)
		}
		if !bytes.Equal(before, payload) {
			t.Fatal("the payload was changed")
		}
	})
}

func benchDecode(b *testing.B, cfg InputConfig, payload []byte) {
	d, err := NewDecoder(cfg)
	if err != nil {
		b.Fatal(err)
	}
	var s Sample
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		if err := d.Decode(payload, &s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRaw640(b *testing.B) {
	benchDecode(b, input(func(c *InputConfig) { c.Raw = "f32le" }), make([]byte, 2560))
}

func BenchmarkJSON640(b *testing.B) {
	text := []byte(`{"v":[0.1234567`)
	for range 639 {
		text = append(text, ",12.345678"...)
	}
	benchDecode(b, input(func(c *InputConfig) { c.JSON = []string{"v[*]"} }), append(text, "]}"...))
}

func BenchmarkJSONTelemetry(b *testing.B) {
	benchDecode(b, input(func(c *InputConfig) { c.JSON = []string{"cpu", "memory"} }), []byte(`{"cpu":0.25,"memory":0.5,"time":1700000000}`))
}

func BenchmarkCSV(b *testing.B) {
	benchDecode(b, input(func(c *InputConfig) { c.CSV = &CSVConfig{Columns: []string{"-", "a", "b", "c"}} }), []byte("2015-02-02 14:19:00,23.7,26.272,585.2"))
}

func BenchmarkWindow(b *testing.B) {
	w := NewWindow(WindowConfig{Size: "64", Every: "1"}, 2)
	f, _ := NewFeatures([]string{"mean", "max", "rms"}, []string{"a", "b"})
	var out []float64
	at := time.Unix(0, 0)
	b.ReportAllocs()
	for b.Loop() {
		at = at.Add(time.Second)
		if w.Push(at, []float64{1, 2}) {
			out = f.Compute(w, 0, out[:0])
		}
	}
}
