package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/model"
	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// Where a version of the store is live, `check` names a file of the configuration
// that is no model any more, or is gone; a gateway serves the version all the same.
func TestCheckPassedOver(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "sine.tflite", read(t, testkit.Shared(t, "models/hello_world_float.tflite")))
	config := write(t, dir, "hall.yaml", fmt.Sprintf(`data: %s
infer: {delegate: builtin}
broker: {listeners: [{tcp: "127.0.0.1:0"}]}
dashboard: {listen: ""}
models: {sine: {file: sine.tflite, output: regression}}
streams: {s: {topics: [x/+], input: {json: [x]}, model: sine}}
rollout: {preflight: {calls: 20, eager: true}}
`, filepath.Join(dir, "data")))
	done(t, "", "model", "add", "--config", config, "--name", "sine@1", testkit.Shared(t, "models/hello_world_int8.tflite"))
	done(t, "", "model", "activate", "--config", config, "sine@1")
	if got := run(t, "", "check", config); got.code != 0 || got.stderr != "" {
		t.Errorf("%+v", got)
	}
	write(t, dir, "sine.tflite", "this is no model")
	const over = "served, and perhaps not meant:\n"
	named := "hall.yaml:5:17: models.sine.file: " + file + " is passed over, and version 1 of the store is to be live: "
	if got := run(t, "", "check", config); got.code != 0 || !strings.Contains(got.stderr, over) || !strings.Contains(got.stderr, named+"not a valid .tflite file") {
		t.Errorf("%+v", got)
	}
	gateway := start(t, "run", "--config", config)
	gateway.Line(`a model file of the configuration says nothing .*is passed over`)
	gateway.Line(` ready `)
	interrupt(t, gateway)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "", "check", config); got.code != 0 || !strings.Contains(got.stderr, over) || !strings.Contains(got.stderr, named+"open ") {
		t.Errorf("%+v", got)
	}
}

// A thin bundle finds what it builds on also where that is the configuration's
// own file, by command as by push.
func TestThinOnConfigured(t *testing.T) {
	dir := t.TempDir()
	old := testkit.Shared(t, "models/hello_world_float.tflite")
	m, err := model.Read([]byte(read(t, old)))
	if err != nil {
		t.Fatal(err)
	}
	m.SetMeta("note", []byte("another version"))
	changed, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	next := write(t, dir, "next.tflite", string(changed))
	config := write(t, dir, "hall.yaml", fmt.Sprintf("data: %s\nmodels: {sine: {file: %s}}\n", filepath.Join(dir, "data"), old))
	thin := filepath.Join(dir, "sine-2.bundle")
	done(t, "", "model", "bundle", "--name", "sine", "--version", "2", "--base", old, "--out", thin, next)
	says(t, 3, "nor is it one of the configuration's own files; add that one first", "model", "add", "--data", filepath.Join(dir, "other"), thin)
	done(t, "", "model", "add", "--config", config, thin)
	if m := stateOf(t, openStore(t, filepath.Join(dir, "data")), "sine"); m.Find("2") == nil || m.Find("2").Model != fileSum(t, next) {
		t.Errorf("%+v", m)
	}
}

// Who moved the state file away loses no version: commands say what to do, and a
// gateway finds them again and says that it does not know what was live.
func TestStateMovedAway(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	config := write(t, dir, "hall.yaml", fmt.Sprintf(`data: %s
broker: {listeners: [{tcp: "127.0.0.1:0"}]}
dashboard: {listen: ""}
models: {hello: {file: %s, delegate: builtin}}
`, data, testkit.Shared(t, "models/hello_world_float.tflite")))
	file := testkit.Shared(t, "models/hello_world_int8.tflite")
	done(t, "", "model", "add", "--config", config, "--name", "hello@1", file)
	if err := os.Rename(filepath.Join(store.Dir(data), "state.json"), filepath.Join(dir, "state.json")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"add", "--name", "hello@2", file}, {"list"}, {"rm", "hello@1"}} {
		says(t, 3, "state.json: damaged: it is gone, and files of versions are there; put it back, or start a gateway", append([]string{"model", "--config", config}, args...)...)
	}
	gateway := start(t, "run", "--config", config)
	gateway.Line(`the state of the versions was damaged or gone: .*state.gone-1.json`)
	gateway.Line(` ready `)
	if text := done(t, "", "model", "list", "--config", config); !strings.Contains(text, "found again: the state file was damaged or gone") {
		t.Error(text)
	}
	interrupt(t, gateway)
}
