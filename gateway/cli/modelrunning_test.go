package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// TestConfiguredFileKept keeps the file that the configuration names as version
// 0 before another version is live in its place.
func TestConfiguredFileKept(t *testing.T) {
	dir := t.TempDir()
	file := testkit.Shared(t, "models/hello_world_float.tflite")
	config := write(t, dir, "hall.yaml", fmt.Sprintf("data: %s\nmodels: {hello: {file: %s}}\n", filepath.Join(dir, "data"), file))
	done(t, "", "model", "add", "--config", config, "--name", "hello", testkit.Shared(t, "models/hello_world_int8.tflite"))
	done(t, "", "model", "activate", "--config", config, "hello@1")
	done(t, "", "model", "rollback", "--config", config, "hello")
	// What needs a gateway is left to the next one, and withdrawn without.
	if text := done(t, "", "model", "activate", "--rollout", "--config", config, "hello@1"); !strings.Contains(text, "brings hello@1 in") {
		t.Error(text)
	}
	s, err := store.Open(store.Dir(filepath.Join(dir, "data")), store.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if st, err := s.State(); err != nil || st.Models["hello"].Live != "0" || st.Models["hello"].Want == nil {
		t.Fatalf("%+v, %v", st.Models["hello"], err)
	}
	if err := s.Mark("hello", "1", store.Shadow, "", nil); err != nil {
		t.Fatal(err)
	}
	if text := done(t, "", "model", "withdraw", "--config", config, "hello"); !strings.Contains(text, "hello@1 is withdrawn") {
		t.Error(text)
	}
	if st, err := s.State(); err != nil || st.Models["hello"].Find("1").Stage != store.Withdrawn || st.Models["hello"].Want != nil {
		t.Errorf("%+v, %v", st.Models["hello"], err)
	}
	var shown struct {
		Version string
		Files   string
	}
	if err := json.Unmarshal([]byte(done(t, "", "model", "show", "--json", "--config", config, "hello")), &shown); err != nil {
		t.Fatal(err)
	}
	if shown.Version != "0" || read(t, shown.Files) != read(t, file) {
		t.Errorf("it went back to %+v", shown)
	}
}

// TestTriedWithoutGateway tries a version on this box before it goes live also
// where no gateway runs, keeps what came of it, and has one way around.
func TestTriedWithoutGateway(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	config := write(t, dir, "hall.yaml", fmt.Sprintf(`data: %s
infer: {delegate: builtin}
models: {sine: {file: %s, output: regression}}
streams:
  s: {topics: [x/+], input: {json: [x]}, model: sine}
  pinned: {topics: [y/+], input: {json: [x]}, model: sine, version: 5}
rollout: {preflight: {calls: 20, eager: true}}
`, data, testkit.Shared(t, "models/hello_world_float.tflite")))
	for version, says := range map[string]float32{"2": 0.842, "3": -0.5} {
		done(t, "", "model", "add", "--config", config, golden(t, dir, version, "hello_world_float", says))
	}
	done(t, "", "model", "add", "--config", config, "--name", "sine@4", testkit.Shared(t, "models/vww_96_int8.tflite"))
	s := openStore(t, data)
	state := func() *store.ModelState { return stateOf(t, s, "sine") }
	shown := func(version string) (v struct {
		Stage, Why string
		Trial      struct {
			OK    bool
			Calls int
		}
	}) {
		t.Helper()
		if err := json.Unmarshal([]byte(done(t, "", "model", "show", "--json", "--config", config, "sine@"+version)), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	says(t, 3, "sine@3 failed: golden answers: ", "model", "activate", "--config", config, "sine@3")
	if m := state(); m.Live != "0" || m.Want != nil {
		t.Errorf("%+v", m)
	}
	if v := shown("3"); v.Stage != "failed" || !strings.Contains(v.Why, "golden answers") || v.Trial.OK {
		t.Errorf("%+v", v)
	}
	says(t, 3, "sine@4 failed: streams.s.model: ", "model", "activate", "--config", config, "sine@4")
	done(t, "", "model", "activate", "--config", config, "sine@2")
	if log, err := os.ReadFile(filepath.Join(store.Dir(data), "audit.jsonl")); err != nil || !strings.Contains(string(log), `"step":"activated","model":"sine","version":"2","before":"0"`) {
		t.Errorf("the audit log holds %s, %v", log, err)
	}
	if v := shown("2"); v.Stage != "live" || !v.Trial.OK || v.Trial.Calls != 20 {
		t.Errorf("%+v", v)
	}
	// What was at work here needs no trial again, nor what somebody insists on.
	done(t, "", "model", "rollback", "--config", config, "sine")
	if text := done(t, "", "model", "activate", "--force", "--config", config, "sine@3"); !strings.Contains(text, "sine@3 is live") {
		t.Error(text)
	}
	if m := state(); m.Live != "3" || m.Previous != "0" {
		t.Errorf("%+v", m)
	}
	done(t, "", "model", "add", "--config", config, "--name", "sine@5", testkit.Shared(t, "models/hello_world_int8.tflite"))
	if got := run(t, "", "model", "rm", "--config", config, "sine@5"); got.code == 0 || !strings.Contains(got.stderr, "a stream is pinned to it") {
		t.Errorf("what a stream is pinned to is removed: %+v", got)
	}
}

// TestVersionsOfRunningGateway changes the version of a gateway that runs, by
// command and through its inbox.
func TestVersionsOfRunningGateway(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	int8 := testkit.Shared(t, "models/hello_world_int8.tflite")
	config := write(t, dir, "hall.yaml", fmt.Sprintf(`gateway: hall-7
data: %s
broker: {listeners: [{tcp: %q}]}
dashboard: {listen: ""}
models: {hello: {file: %s, delegate: builtin}}
store: {inbox: inbox}
`, at("data"), testkit.FreeAddr(t), testkit.Shared(t, "models/hello_world_float.tflite")))
	gateway := start(t, "run", "--config", config)
	gateway.Line("INF ready ")

	if err := os.Mkdir(at("inbox"), 0o700); err != nil {
		t.Fatal(err)
	}
	done(t, "", "model", "bundle", "--name", "hello", "--version", "3", "--golden", "1", "--out", at("inbox/any.bundle"), int8)
	write(t, at("inbox"), "hello@4.tflite", "this is no model")
	gateway.Line(`added .*version=3`)
	gateway.Line(`refused from the inbox .*hello@4.tflite: damaged`)
	if said := done(t, "", "model", "activate", "--config", config, "hello@3"); !strings.Contains(said, "hello@3 is live: ") || strings.Contains(said, "next gateway") {
		t.Error(said)
	}
	gateway.Line(`live .*version=3`)
	if said := done(t, "", "model", "rollback", "--config", config, "hello"); !strings.Contains(said, "hello@0 is live: ") {
		t.Error(said)
	}
	gateway.Line(`live .*version=0`)
	interrupt(t, gateway)
}
