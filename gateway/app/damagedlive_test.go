package app

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/gateway/rollout"
	"edgegateway/infer/store"
)

// A live version whose file was damaged is told wherever it would be taken for
// the one that answers, also when it is wanted again, until it is whole.
func TestDamagedLive(t *testing.T) {
	dir := t.TempDir()
	copyModel(t, "hello_world_float", filepath.Join(dir, "sine.tflite"))
	const config = `
models: {sine: {file: sine.tflite, output: regression}}
streams: {s: {topics: [x/+], input: {json: [x]}, model: sine}}
`
	g := begin(t, dir, "edge", config)
	s := outside(t, g)
	addVersion(t, s, "sine@1", "hello_world_int8")
	wantVersion(t, s, store.DoActivate, "1")
	lives(t, s, "1")
	f, err := s.Files("sine", "1")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(f.Model)
	if err != nil {
		t.Fatal(err)
	}
	broken := func() string {
		t.Helper()
		st, err := s.State()
		if err != nil {
			t.Fatal(err)
		}
		m := st.Models["sine"]
		if m.Live != "1" || m.Find("1").Stage != store.Live {
			t.Errorf("%+v", m)
		}
		return m.Find("1").Broken
	}
	put := func(change byte) {
		t.Helper()
		b := append([]byte(nil), whole...)
		b[len(b)/2] ^= change
		if err := os.WriteFile(f.Model, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	model := func() (detail string, ok bool, code int) {
		t.Helper()
		_, code = healthOf(t, g)
		for _, h := range g.Health() {
			if h.Part == "model sine" {
				detail, ok = h.Detail, h.OK
			}
		}
		return detail, ok, code
	}
	// Damaged while it is at work: it answers, and the next start needs it.
	put(1)
	wantVersion(t, s, store.DoActivate, "1")
	until(t, "the version is told to be damaged", func() bool { return strings.Contains(broken(), "version 1 answers") })
	g.stop()

	g = begin(t, dir, "edge", config)
	c, in := g.client("sensor"), g.subscribe("results/#", "models/+/status")
	if v := g.answering(c, in, 1); v != "0" {
		t.Errorf("version %q answers", v)
	}
	told := func(st rollout.Status) {
		t.Helper()
		if st.Version != "0" || !strings.Contains(st.Broken, "damaged") || !strings.HasSuffix(st.Why, "version 0 answers") {
			t.Errorf("%+v", st)
		}
	}
	told(in.step(rollout.StepFailed, "1"))
	if why := broken(); !strings.Contains(why, "damaged") || !strings.HasSuffix(why, "version 0 answers") {
		t.Errorf("it is broken: %q", why)
	}
	if detail, ok, code := model(); ok || code != http.StatusServiceUnavailable || !strings.Contains(detail, "version 1 is to be live") {
		t.Errorf("%q, %v, %d", detail, ok, code)
	}
	in = g.subscribe("results/#", "models/+/status")
	told(in.step(rollout.StepFailed, "1")) // as it stays there
	wantVersion(t, s, store.DoActivate, "1")
	lives(t, s, "1") // nothing is wanted any more
	if broken() == "" {
		t.Error("it is activated, and nothing is said to be wrong")
	}
	put(0)
	wantVersion(t, s, store.DoActivate, "1")
	lives(t, s, "1")
	until(t, "it is whole again", func() bool { return broken() == "" })
	if st := in.step(rollout.StepLive, "1"); st.Version != "1" || st.Broken != "" {
		t.Errorf("%+v", st)
	}
	if v := g.answering(c, in, 2); v != "1" {
		t.Errorf("version %q answers", v)
	}
	if detail, ok, code := model(); !ok || code != http.StatusOK {
		t.Errorf("%q, %v, %d", detail, ok, code)
	}
}
