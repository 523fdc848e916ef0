package app

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/gateway/dashboard"
	"edgegateway/gateway/rollout"
	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// writeBundle writes a bundle of the model "sine".
func writeBundle(t *testing.T, file, model string, change func(*store.Manifest)) {
	t.Helper()
	data, err := os.ReadFile(testkit.Shared(t, "models/"+model+".tflite"))
	if err != nil {
		t.Fatal(err)
	}
	m := store.Manifest{Format: store.Format, Name: "sine", Model: "model.tflite", Files: map[string]store.Part{"model.tflite": store.PartOf(data)}}
	change(&m)
	var out bytes.Buffer
	if err := store.WriteBundle(&out, m, map[string][]byte{"model.tflite": data}, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// healthOf is what a gateway says of its versions, and whether all is well.
func healthOf(t *testing.T, g *gateway) (versions dashboard.Health, code int) {
	t.Helper()
	resp, err := http.Get("http://" + g.DashboardAddr() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, h := range g.Health() {
		if h.Part == "versions" {
			versions = h
		}
	}
	return versions, resp.StatusCode
}

// A gateway whose store's state was damaged serves the file that its
// configuration names, and the version that a stream is pinned to, says so
// until the damaged file is gone, and takes versions as before.
func TestDamagedStore(t *testing.T) {
	dir := t.TempDir()
	copyModel(t, "hello_world_float", filepath.Join(dir, "sine.tflite"))
	config := `
models: {sine: {file: sine.tflite, output: regression}}
streams:
  s: {topics: [x/+], input: {json: [x]}, model: sine}
`
	g := begin(t, dir, "edge", config)
	s := outside(t, g)
	addVersion(t, s, "sine@1", "hello_world_int8")
	wantVersion(t, s, store.DoActivate, "1")
	lives(t, s, "1")
	if h, code := healthOf(t, g); !h.OK || code != http.StatusOK {
		t.Errorf("%+v, %d", h, code)
	}
	state := filepath.Join(store.Dir(filepath.Join(dir, "edge")), "state.json")
	const torn = `{"format":1,"models":{"sine":`
	if err := os.WriteFile(state, []byte(torn), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the gateway that runs says that its versions are damaged", func() bool {
		h, code := healthOf(t, g)
		return !h.OK && code == http.StatusServiceUnavailable && strings.Contains(h.Detail, "state.json")
	})
	c, in := g.client("sensor"), g.subscribe("results/#")
	if v := g.answering(c, in, 1); v != "1" {
		t.Errorf("version %q answers: what was live goes on", v)
	}
	g.stop()

	cfg, err := LoadConfig(g.file)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := cfg.CheckFiles(); err != nil {
		t.Errorf("the configuration is to blame: %v", err)
	}
	g = begin(t, dir, "edge", config+"  pinned: {topics: [y/+], input: {json: [x]}, model: sine, version: 1}\n")
	if log := g.log.String(); !strings.Contains(log, stateDamaged) || !strings.Contains(log, "state.damaged-1.json") {
		t.Errorf("the log says\n%s", log)
	}
	c, in = g.client("sensor"), g.subscribe("results/#", "models/+/status")
	if v := g.answering(c, in, 2); v != "" {
		t.Errorf("version %q answers", v)
	}
	aside := filepath.Join(filepath.Dir(state), "state.damaged-1.json")
	if h, code := healthOf(t, g); h.OK || code != http.StatusServiceUnavailable || !strings.Contains(h.Detail, aside) {
		t.Errorf("%+v, %d", h, code)
	}
	if kept, err := os.ReadFile(aside); err != nil || string(kept) != torn {
		t.Errorf("kept is %q, %v", kept, err)
	}
	if st := in.step(rollout.StepFailed, "1"); st.Version != "" || !strings.Contains(st.Why, "the configuration's file answers") {
		t.Errorf("%+v", st)
	}
	s = outside(t, g)
	wantVersion(t, s, store.DoActivate, "1")
	lives(t, s, "1")
	if v := g.answering(c, in, 3); v != "1" {
		t.Errorf("version %q answers", v)
	}
	if err := os.Remove(aside); err != nil {
		t.Fatal(err)
	}
	if h, code := healthOf(t, g); !h.OK || code != http.StatusOK {
		t.Errorf("%+v, %d", h, code)
	}
}

// The way back is open from a version that forbids older ones, also by itself,
// and not to one that was found wanting.
func TestWayBack(t *testing.T) {
	g := versioned(t, t.TempDir(), "rollout: {after: 10, p99_ms: 0.000001}\n")
	s := outside(t, g)
	c, in := g.client("sensor"), g.subscribe("results/#", "models/+/status")
	file := filepath.Join(t.TempDir(), "sine-5.bundle")
	writeBundle(t, file, "hello_world_int8", func(m *store.Manifest) { m.Version, m.Minimum = "5", "5" })
	if _, err := s.Add(t.Context(), "", file, "test"); err != nil {
		t.Fatal(err)
	}
	wantVersion(t, s, store.DoActivate, "5")
	in.step(rollout.StepLive, "5")
	for i := range 20 {
		g.answering(c, in, i)
	}
	in.step(rollout.StepRolledBack, "5")
	st, err := s.State()
	if err != nil {
		t.Fatal(err)
	}
	if m := st.Models["sine"]; m.Live != "0" || m.Minimum != "5" {
		t.Errorf("%+v", m)
	}
	if _, err := g.command(t.Context(), "model/rollback", []byte(`{"model":"sine"}`)); err == nil || !strings.Contains(err.Error(), "no way back: the version before is sine@5, which failed (its p99 is ") {
		t.Errorf("back to what was taken back: %v", err)
	}
}
