package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"edgegateway/gateway/pipeline"
	"edgegateway/infer"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// schemas are the committed descriptions of what goes out.
func schemas(t *testing.T) (result, alert *jsonschema.Schema) {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for _, name := range []string{"result", "alert"} {
		b, err := os.ReadFile(filepath.Join(testkit.Root(t), "docs", name+".schema.json"))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource("file:///docs/"+name+".schema.json", doc); err != nil {
			t.Fatal(err)
		}
	}
	return c.MustCompile("file:///docs/result.schema.json"), c.MustCompile("file:///docs/alert.schema.json")
}

func valid(t *testing.T, s *jsonschema.Schema, payload []byte) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err == nil {
		err = s.Validate(doc)
	}
	if err != nil {
		t.Errorf("%s: %v", payload, err)
	}
}

// Results of every kind, and alerts in every state, are as their schemas say.
func TestSchemas(t *testing.T) {
	results, alerts := schemas(t)
	shared := func(name string) string { return testkit.Shared(t, "models/"+name+".tflite") }
	g := begin(t, t.TempDir(), "edge", fmt.Sprintf(`
models:
  sine: {file: %s, output: regression}
  vww: {file: %s, output: classes}
  face: {file: %s, output: blazeface}
  detect: {file: %s, output: detection}
  machine: {file: %s, output: reconstruction}
streams:
  values: {topics: [values/+], input: {json: [x]}}
  window: {topics: [window], input: {json: [x, y.z], time: at}, window: {size: "4"}, features: [mean, kurtosis, "fft:2"]}
  regression: {topics: [regression], input: {number: true}, model: sine}
  classes: {topics: [classes], input: {image: auto}, model: vww}
  boxes: {topics: [boxes/#], input: {image: auto}, model: face}
  detection: {topics: [detection], input: {image: auto}, model: detect}
  reconstruction: {topics: [reconstruction], input: {raw: f32le}, model: machine}
alerts:
  high: {stream: values, when: x > 1, repeat: 1s, clear: x < 0}
  seen: {stream: boxes, when: len(objects) > 0}
`, shared("hello_world_float"), shared("vww_96_int8"), testkit.Cached(t, "demo/face_detection_short_range.tflite"), shared("detect"), shared("ad01_fp32")))
	here := g.subscribe("results/#", "alerts/#")
	c := g.client("sensor")
	picture := func(topic, file string) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Publish(t.Context(), link.Msg{Topic: topic, Payload: b, QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, c, "values/a", `{"x":0.5}`, `{"x":2}`)
	for i := range 4 {
		publish(t, c, "window", fmt.Sprintf(`{"x":1,"y":{"z":%d},"at":%d}`, i, 1700000000+i))
	}
	publish(t, c, "regression", "1.5")
	picture("classes", testkit.Shared(t, "data/person.bmp"))
	picture("boxes/front/door", testkit.Cached(t, "demo/sample1.jpg"))
	picture("boxes/none", testkit.Shared(t, "data/cat.bmp"))
	picture("detection", testkit.Shared(t, "data/pets.jpg"))
	publish(t, c, "reconstruction", string(make([]byte, 640*4)))
	for topic, part := range map[string]string{
		"results/values/a": `"features":{"x":0.5}`, "results/window/window": `"y.z.fft`, "results/regression/regression": `"values":[`,
		"results/classes/classes": `"top":[{`, "results/boxes/front/door": `"objects":[{`, "results/boxes/none": `"model":"face"`,
		"results/detection/detection": `"objects":[{`, "results/reconstruction/reconstruction": `"score":`,
	} {
		valid(t, results, here.on(topic, part).Payload)
	}
	valid(t, alerts, here.on("alerts/high/a", "raised").Payload)
	valid(t, alerts, here.on("alerts/high/a", "repeated").Payload)
	publish(t, c, "values/a", `{"x":-1}`)
	valid(t, alerts, here.on("alerts/high/a", "cleared").Payload)
	valid(t, alerts, here.on("alerts/seen/front/door", "raised").Payload)
	here.wait("the picture beside the alert", func(m link.Msg) bool {
		return m.Topic == "alerts/seen/front/door/picture" && bytes.HasPrefix(m.Payload, []byte{0xff, 0xd8})
	})
	for _, m := range here.all() {
		switch {
		case strings.HasPrefix(m.Topic, "results/"):
			valid(t, results, m.Payload)
		case !strings.HasSuffix(m.Topic, "/picture"):
			valid(t, alerts, m.Payload)
		}
	}
}

// The writer of results has no encoder of the standard library below it:
// whatever stands in a result, the text is JSON and as the schema says.
func TestSchemaOfOddResults(t *testing.T) {
	results, _ := schemas(t)
	now := time.Now()
	for _, r := range []pipeline.Result{
		{ID: "s/a/1-1", Stream: "s", Source: "a\"\\\n\x01\xff\u2028", Time: now, Received: now},
		{ID: "s//1-0", Stream: "s", Time: now.In(time.FixedZone("east", 3600)), Received: now, Features: []pipeline.Feature{{Name: "", Value: math.NaN()}, {Name: "é", Value: math.Inf(-1)}, {Name: "x", Value: math.MaxFloat64}, {Name: "y", Value: math.Copysign(0, -1)}, {Name: "z", Value: 5e-324}}},
		{ID: "s/a/1-1.3", Stream: "s", Source: "a", Time: now, Received: now, Infer: infer.Result{Model: "m", Delegate: "builtin", Score: math.NaN(), Values: []float64{math.NaN(), 1e21, 1e-7}, Objects: []infer.Object{}}},
	} {
		b := r.AppendJSON(nil)
		valid(t, results, b)
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Errorf("%s: %v", b, err)
		}
	}
	for _, wrong := range []string{
		`{}`, `{"id":"x","stream":"s","source":"a","time":"2026-01-01T00:00:00Z","received":"2026-01-01T00:00:00Z","seq":1}`,
		`{"id":"s/a/1-1","stream":"s","source":"a","time":"yesterday","received":"2026-01-01T00:00:00Z","seq":1}`,
		`{"id":"s/a/1-1","stream":"s","source":"a","time":"2026-01-01T00:00:00Z","received":"2026-01-01T00:00:00Z","seq":1,"more":1}`,
		`{"id":"s/a/1-1","stream":"s","source":"a","time":"2026-01-01T00:00:00Z","received":"2026-01-01T00:00:00Z","seq":1,"model":"m"}`,
	} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(wrong))
		if err != nil {
			t.Fatal(err)
		}
		if results.Validate(doc) == nil {
			t.Errorf("the schema takes %s", wrong)
		}
	}
}
