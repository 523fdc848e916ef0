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
