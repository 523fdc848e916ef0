package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/gateway/alert"
	"edgegateway/gateway/dataset"
	"edgegateway/gateway/pipeline"
	"edgegateway/infer/drift"
	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// A stream's drift in a whole gateway: the alert at its topic, retained and as
// its schema says, the metric, the samples for labelling; after a restart what
// was learned and what is raised are still known; a stream that is watched no
// more is cleared.
func TestDrift(t *testing.T) {
	const config = `
streams:
  room: {topics: [room/+], input: {json: [x]}, drift: {window: 64, learn: 512, keep: 4, max_samples: 100}}
  other: {topics: [other/+], input: {json: [x]}, drift: {}}
`
	dir := t.TempDir()
	g := begin(t, dir, "edge", config)
	_, schema := schemas(t)
	rng := rand.New(rand.NewPCG(1, 2))
	send := func(g *gateway, n int, off float64) {
		t.Helper()
		var list []string
		for range n {
			list = append(list, fmt.Sprintf(`{"x":%g}`, off+rng.NormFloat64()))
		}
		publish(t, g.client("sensor"), "room/hall", list...)
	}
	state := func(g *gateway) pipeline.DriftStatus {
		for _, s := range g.pipe.Status() {
			if s.Stream == "room" {
				return *s.Drift
			}
		}
		t.Fatal("no status")
		return pipeline.DriftStatus{}
	}
	send(g, 512, 0)
	until(t, "learned", func() bool { return state(g).State == pipeline.DriftFills })
	send(g, 128, 0)
	until(t, "steady", func() bool { return state(g).State == pipeline.DriftSteady })
	if active := g.alerts.Active(); len(active) != 0 {
		t.Errorf("raised: %+v", active)
	}
	send(g, 64, 5)
	m := g.subscribe("alerts/#").on("alerts/drift/room", `"state":"raised"`) // retained: it may be there before
	valid(t, schema, m.Payload)
	e := decode[alert.Event](t, m.Payload)
	var s pipeline.DriftStatus
	if err := json.Unmarshal(e.Drift, &s); err != nil || s.State != pipeline.DriftRaised || s.Drift <= 1 || s.Feature != "x" || e.Message != s.Text || e.Stream != "room" {
		t.Errorf("%s %v", m.Payload, err)
	}
	_, metrics := get(t, "http://"+g.DashboardAddr()+"/metrics")
	if !strings.Contains(metrics, `edgegateway_pipeline_drifts{stream="room"} 1`) || !strings.Contains(metrics, `edgegateway_pipeline_drift{stream="room"}`) || !strings.Contains(metrics, `edgegateway_pipeline_drift{stream="other"} 0`) {
		t.Error("metrics do not say so")
	}
	g.stop()
	list, err := dataset.List(g.data.dir)
	if err != nil || len(list) != 1 || list[0].Name != "room.review" || list[0].Samples == 0 || list[0].Samples > 100 {
		t.Errorf("data sets %+v %v", list, err)
	}

	g = begin(t, dir, "edge", config)
	if s := state(g); s.State != pipeline.DriftFills {
		t.Errorf("after a restart: %+v", s)
	}
	again := decode[alert.Event](t, g.subscribe("alerts/#").on("alerts/drift/room", `"state":"raised"`).Payload)
	if again.ID != e.ID {
		t.Errorf("raised again as %s, was %s", again.ID, e.ID)
	}
	send(g, 128, 0)
	in := g.subscribe("alerts/#")
	cleared := in.on("alerts/drift/room", `"state":"cleared"`)
	valid(t, schema, cleared.Payload)
	send(g, 64, 5)
	until(t, "raised once more", func() bool { return len(g.alerts.Active()) == 1 })
	g.change(", drift: {window: 64, learn: 512, keep: 4, max_samples: 100}", "")
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	if active := g.alerts.Active(); len(active) != 0 {
		t.Errorf("raised after the reload: %+v", active)
	}
}

// What the configuration may not say of drift.
func TestDriftRefused(t *testing.T) {
	dir := t.TempDir()
	for want, text := range map[string]string{
		"alerts.drift: streams that are watched": "streams: {a: {topics: [a], input: {json: [x]}, drift: {}}}\nalerts: {drift: {stream: a, when: x > 1}}",
		"streams.a.drift.window":                 "streams:\n  a: {topics: [a], input: {json: [x]}, drift: {window: 3}}",
	} {
		file := filepath.Join(dir, "c.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadConfig(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A stream that records to the name of another's samples for labelling is
// refused.
func TestDriftSetTaken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("data: "+t.TempDir()+rest+"streams:\n  a: {topics: [a], input: {json: [x]}, drift: {}}\n  a.review: {topics: [b], input: {json: [x]}, record: {}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if g, err := New(cfg, nil, nil, zerolog.Nop(), prometheus.NewRegistry()); err == nil || !strings.Contains(err.Error(), "a.review") {
		t.Errorf("%v %v", g, err)
	}
}

// A version that brings a reference is held against that as soon as it answers,
// and after a restart from the start on.
func TestDriftOfBundle(t *testing.T) {
	file := testkit.Shared(t, "models/hello_world_float.tflite")
	dir := t.TempDir()
	config := fmt.Sprintf(`
models: {sine: {file: %s, output: regression}}
streams:
  sine: {topics: [angle], input: {json: [x]}, model: sine, drift: {window: 64}}
`, file)
	g := begin(t, dir, "edge", config)
	c := g.client("sensor")
	state := func() pipeline.DriftStatus { return *g.pipe.Status()[0].Drift }
	publish(t, c, "angle", `{"x":1}`)
	until(t, "learning", func() bool {
		s := state()
		return s.State == pipeline.DriftLearns && s.Samples == 1 && s.From == "stream"
	})

	l, err := drift.NewLearner([]string{"x", "score", "values[0]"}, 1, false, 128)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 128 {
		l.Add([]float64{float64(i*37%128) / 20, 0, float64(i) / 128}, "")
	}
	ref, err := l.Reference(32)
	if err != nil {
		t.Fatal(err)
	}
	var text, bundle bytes.Buffer
	if err := ref.Write(&text); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string][]byte{"model.tflite": data, "reference.json": text.Bytes()}
	m := store.Manifest{Format: store.Format, Name: "sine", Version: "1", Model: "model.tflite", Reference: "reference.json", Files: map[string]store.Part{}, Settings: store.Settings{Output: "regression"}}
	for name, b := range parts {
		m.Files[name] = store.PartOf(b)
	}
	if err := store.WriteBundle(&bundle, m, parts, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "sine-1"+store.Ext)
	if err := os.WriteFile(path, bundle.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := g.store.Add(t.Context(), "sine", path, "a test"); err != nil {
		t.Fatal(err)
	}
	if err := g.store.Want("sine", store.Want{Version: "1", Do: "activate", Force: true, By: "a test"}); err != nil {
		t.Fatal(err)
	}
	until(t, "the bundle's reference", func() bool {
		publish(t, c, "angle", `{"x":2}`)
		return state().From == "bundle"
	})
	// One of another model is not used, whoever made it.
	other, err := drift.NewLearner([]string{"x", "y", "score"}, 2, true, 128)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 128 {
		other.Add([]float64{float64(i * 37 % 128), float64(i), 0}, "on")
	}
	if ref, err = other.Reference(32); err != nil {
		t.Fatal(err)
	}
	text.Reset()
	if err := ref.Write(&text); err != nil {
		t.Fatal(err)
	}
	const not = "is not of model sine: it knows 2 numbers of an input, and the model takes 1"
	m.Version, parts["reference.json"] = "2", text.Bytes()
	m.Files["reference.json"] = store.PartOf(text.Bytes())
	bundle.Reset()
	if err := store.WriteBundle(&bundle, m, parts, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bundle.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := g.store.Add(t.Context(), "sine", path, "a test"); err != nil {
		t.Fatal(err)
	}
	if err := g.store.Want("sine", store.Want{Version: "2", Do: "activate", Force: true, By: "a test"}); err != nil {
		t.Fatal(err)
	}
	until(t, "the reference that is not of the model", func() bool {
		publish(t, c, "angle", `{"x":2}`)
		return strings.Contains(g.log.String(), not)
	})
	own := filepath.Join(dir, "other.json")
	if err := os.WriteFile(own, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	g.change("{window: 64}", "{window: 64, reference: other.json}")
	if err := g.Reload(); err == nil || !strings.Contains(err.Error(), "streams.sine.drift.reference: "+own+": the reference "+not) {
		t.Errorf("it is loaded: %v", err)
	}
	cfg, err := LoadConfig(g.file)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := cfg.CheckFiles(); err == nil || !strings.Contains(err.Error(), "streams.sine.drift.reference: "+own+" is not of this model: it knows 2 numbers") {
		t.Errorf("check says %v", err)
	}
	g.change("{window: 64, reference: other.json}", "{window: 64}")
	if err := g.store.Want("sine", store.Want{Do: "rollback", By: "a test"}); err != nil {
		t.Fatal(err)
	}
	until(t, "version 1 again", func() bool {
		publish(t, c, "angle", `{"x":2}`)
		st, err := g.store.State()
		return err == nil && st.Models["sine"].Live == "1"
	})
	g.stop()
	g = begin(t, dir, "edge", config)
	if s := state(); s.From != "bundle" || s.State != pipeline.DriftFills {
		t.Errorf("after a restart: %+v", s)
	}
}
