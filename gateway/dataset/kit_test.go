package dataset

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/gateway/pipeline"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// all reads a set.
func all(t testing.TB, dir string) (list []Sample, damaged int) {
	t.Helper()
	damaged, err := Each(dir, func(_ Header, s Sample) error {
		list = append(list, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list, damaged
}

func values(n int) Sample {
	return Sample{Time: noon.Add(time.Duration(n) * time.Second), Source: "a", ID: fmt.Sprint(n), Label: "ok", Values: []float64{float64(n), 0.1}}
}

// jpegOf is a picture of one colour.
func jpegOf(t testing.TB, w, h int, c color.Color) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var pair = Header{Features: []string{"x", "y"}}

// write makes a set of these samples.
func write(t testing.TB, dir string, h Header, most limits, samples ...Sample) {
	t.Helper()
	w, err := openWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range samples {
		if _, err := w.append(h, most, &samples[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
}

// newest is the path of a set's last log.
func newest(t testing.TB, dir string) string {
	t.Helper()
	list, err := logs(dir)
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	return filepath.Join(dir, logName(list[len(list)-1]))
}

func onDisk(t testing.TB, dir string) int64 {
	t.Helper()
	n, err := size(dir)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// recording is a stream's configuration.
func recording(t testing.TB, cfg pipeline.Config) pipeline.Config {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// recorder runs one over the streams; stop ends it, and all is on the disk.
func recorder(t testing.TB, data string, streams map[string]pipeline.Config) (r *Recorder, stop func()) {
	t.Helper()
	r, err := NewRecorder(data, streams, zerolog.New(os.Stderr).Level(zerolog.ErrorLevel), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return r, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func floats(b []byte) (v []float32) {
	for ; len(b) >= 4; b = b[4:] {
		v = append(v, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return v
}
