package app

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/image/bmp"

	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// What is no input is a counted drop with its reason and a log line at most
// once a second; the gateway lives and the next good message is answered.
func TestBadInput(t *testing.T) {
	g := begin(t, t.TempDir(), "edge", fmt.Sprintf(`
models:
  vww: {file: %s, output: classes}
  sine: {file: %s, output: regression}
streams:
  json: {topics: [json], input: {json: [a.b]}}
  field: {topics: [field], input: {image: auto, field: shot.data}, model: vww}
  picture: {topics: [picture], input: {image: auto}, model: vww}
  number: {topics: [number], input: {number: true}, model: sine}
  raw: {topics: [raw], input: {raw: f32le}, model: sine}
  bytes: {topics: [bytes], input: {raw: tensor}, model: sine}
`, testkit.Shared(t, "models/vww_96_int8.tflite"), testkit.Shared(t, "models/hello_world_float.tflite")))
	var good bytes.Buffer
	if err := jpeg.Encode(&good, image.NewGray(image.Rect(0, 0, 120, 90)), nil); err != nil {
		t.Fatal(err)
	}
	// A picture whose header claims 65,500 by 65,500.
	bomb := slices.Clone(good.Bytes())
	at := bytes.Index(bomb, []byte{0xff, 0xc0})
	if at < 0 {
		t.Fatal("no frame header in the JPEG")
	}
	binary.BigEndian.PutUint16(bomb[at+5:], 65500)
	binary.BigEndian.PutUint16(bomb[at+7:], 65500)
	var p, b bytes.Buffer
	if err := errors.Join(png.Encode(&p, image.NewGray(image.Rect(0, 0, 9, 9))), bmp.Encode(&b, image.NewGray(image.Rect(0, 0, 9, 9)))); err != nil {
		t.Fatal(err)
	}
	pngBomb, bmpBomb := slices.Clone(p.Bytes()), slices.Clone(b.Bytes())
	binary.BigEndian.PutUint32(pngBomb[16:], 65500)
	binary.BigEndian.PutUint32(pngBomb[20:], 65500)
	binary.LittleEndian.PutUint32(bmpBomb[18:], 65500)
	binary.LittleEndian.PutUint32(bmpBomb[22:], 65500)
	float := func(v float64) string {
		return string(binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v))))
	}
	large := strings.Repeat("x", 10<<20+1)
	deep := strings.Repeat(`{"a":`, 100_000)
	const times = 50
	c := g.client("sensor")
	want := map[string]map[string]uint64{}
	for _, bad := range []struct{ stream, payload, reason string }{
		{"json", "\x00\xff garbage", "bad_json"},
		{"json", "", "bad_json"},
		{"json", deep, "bad_json"},
		{"json", strings.Repeat("[", 100_000), "bad_json"},
		{"json", `{"a":{"b":NaN}}`, "bad_json"},
		{"json", `{"a":{"b":"NaN"}}`, "not_a_number"},
		{"json", `{"a":{"b":1e999}}`, "not_a_number"},
		{"json", `{"a":{"c":1}}`, "missing_field"},
		{"picture", "\x00\xff garbage", "bad_base64"},
		{"picture", good.String()[:good.Len()/2], "bad_picture"},
		{"picture", good.String()[:20], "bad_picture"},
		{"picture", string(bomb), "picture_too_large"},
		{"picture", base64.StdEncoding.EncodeToString(bomb), "picture_too_large"},
		{"picture", string(pngBomb), "picture_too_large"},
		{"picture", string(bmpBomb), "picture_too_large"},
		{"picture", p.String()[:p.Len()/2], "bad_picture"},
		{"picture", b.String()[:b.Len()/2], "bad_picture"},
		{"number", "NaN", "not_a_number"},
		{"number", "1e300", "not_a_number"},
		{"field", `{"shot":{"data":"!!"}}`, "bad_base64"},
		{"field", `{"shot":{}}`, "missing_field"},
		{"raw", "\x00\x00\x00", "wrong_length"},
		{"raw", float(1) + float(2), "wrong_length"},
		{"raw", float(math.NaN()), "not_a_number"},
		{"raw", float(math.Inf(1)), "not_a_number"},
		{"bytes", "\x00\x00\x00", "wrong_length"},
		{"bytes", float(math.NaN()), "not_a_number"},
	} {
		msgs := make([]string, times)
		for i := range msgs {
			msgs[i] = bad.payload
		}
		publish(t, c, bad.stream, msgs...)
		if want[bad.stream] == nil {
			want[bad.stream] = map[string]uint64{}
		}
		want[bad.stream][bad.reason] += times
	}
	publish(t, c, "json", large)
	publish(t, c, "picture", large)
	want["json"]["too_large"]++
	want["picture"]["too_large"]++

	here := g.subscribe("results/#")
	publish(t, c, "json", `{"a":{"b":7}}`)
	publish(t, c, "picture", good.String())
	publish(t, c, "raw", float(1))
	publish(t, c, "bytes", float(1))
	if r := decode[result](t, here.on("results/json/json", "").Payload); r.Features["a.b"] != 7 {
		t.Errorf("%+v", r)
	}
	if r := decode[result](t, here.on("results/picture/picture", "").Payload); r.Score == 0 || r.Model != "vww" {
		t.Errorf("%+v", r)
	}
	for _, stream := range []string{"raw", "bytes"} {
		r := decode[result](t, here.on("results/"+stream+"/"+stream, "").Payload)
		if len(r.Values) != 1 || math.Abs(r.Values[0]-math.Sin(1)) > 0.1 {
			t.Errorf("%+v", r)
		}
	}
	g.stop()
	got := map[string]map[string]uint64{}
	for _, s := range g.pipe.Status() {
		got[s.Stream] = s.Drops
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	// Not a line each: at most one a second for each stream and reason, as
	// the test of the pipeline's drops shows.
	lines := map[string]int{}
	for _, line := range strings.Split(g.log.String(), "\n") {
		if strings.Contains(line, `"message":"dropped"`) {
			l := decode[struct{ Stream, Reason string }](t, []byte(line))
			lines[l.Stream+" "+l.Reason]++
		}
	}
	for stream, reasons := range want {
		for reason, drops := range reasons {
			if n := lines[stream+" "+reason]; n == 0 || n > 1+int(drops)/2 {
				t.Errorf("%d lines for %d times %s %s", n, drops, stream, reason)
			}
		}
	}
}

// What is too large for the broker itself costs its sender the connection and
// nobody else anything.
func TestTooLargeForTheBroker(t *testing.T) {
	g := begin(t, t.TempDir(), "edge", room)
	here := g.subscribe("results/#")
	c := g.client("large")
	if err := c.Publish(t.Context(), link.Msg{Topic: "room/a/climate", Payload: make([]byte, 13_000_000), QoS: 1}); err == nil {
		t.Error("13 MB are acknowledged")
	}
	publish(t, g.client("sensor"), "room/a/climate", `{"v":1,"n":1}`)
	here.on("results/room/a", "")
}
