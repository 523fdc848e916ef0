package cli_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// TestTrialGivenUp leaves no version at its trial for good: neither where
// something else is wanted meanwhile, nor where it is withdrawn.
func TestTrialGivenUp(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	config := write(t, dir, "hall.yaml", fmt.Sprintf(`gateway: hall-8
data: %s
broker: {listeners: [{tcp: %q}]}
dashboard: {listen: ""}
models: {hello: {file: %s, delegate: builtin}}
rollout: {preflight: {calls: 1000000}}
`, data, testkit.FreeAddr(t), testkit.Shared(t, "models/hello_world_float.tflite")))
	gateway := start(t, "run", "--config", config)
	gateway.Line("INF ready ")
	for _, version := range []string{"1", "2"} {
		done(t, "", "model", "add", "--config", config, "--name", "hello@"+version, testkit.Shared(t, "models/hello_world_int8.tflite"))
	}
	s := openStore(t, data)
	done(t, "", "model", "activate", "--no-wait", "--config", config, "hello@1")
	gateway.Line("trying .*version=1")
	says(t, 1, "withdraw it first", "model", "rm", "--config", config, "hello@1")
	done(t, "", "model", "activate", "--force", "--config", config, "hello@2")
	for end := time.Now().Add(30 * time.Second); stateOf(t, s, "hello").Find("1").Stage != store.Added; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", stateOf(t, s, "hello"))
		}
	}
	done(t, "", "model", "activate", "--no-wait", "--config", config, "hello@1")
	gateway.Line("trying .*version=1")
	if said := done(t, "", "model", "withdraw", "--config", config, "hello"); !strings.Contains(said, "hello@1 is withdrawn; version 2 answers as before") {
		t.Error(said)
	}
	done(t, "", "model", "rm", "--config", config, "hello@1")
	interrupt(t, gateway)
}
