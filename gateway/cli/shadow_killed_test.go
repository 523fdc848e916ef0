package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// A gateway that is killed with a version beside the live one goes on with its
// stage; after the third time it withdraws it, and serves.
func TestShadowKilled(t *testing.T) {
	dir, broker := t.TempDir(), testkit.FreeAddr(t)
	data := filepath.Join(dir, "data")
	config := write(t, dir, "gateway.yaml", fmt.Sprintf(`
gateway: hall-7
data: %s
broker: {listeners: [{tcp: %q}]}
dashboard: {listen: ""}
infer: {delegate: builtin}
models: {sine: {file: %q, output: regression}}
streams: {s: {topics: [x/+], input: {json: [x]}, model: sine}}
rollout: {preflight: {eager: true}, models: {sine: {shadow: {promote: ""}}}}
`, data, broker, testkit.Shared(t, "models/hello_world_float.tflite")))
	done(t, "", "model", "add", "--config", config, "--name", "sine@1", testkit.Shared(t, "models/hello_world_int8.tflite"))
	done(t, "", "model", "activate", "--rollout", "--config", config, "sine@1") // for the next gateway
	s := openStore(t, data)
	state := func() *store.ModelState { return stateOf(t, s, "sine") }
	for times := 1; times <= 3; times++ {
		p := start(t, "run", "--config", config)
		p.Line(` shadow model=sine part=rollout version=1`)
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) { // the audit log has it behind the log
			b, err := os.ReadFile(filepath.Join(store.Dir(data), "audit.jsonl"))
			if err == nil && strings.Count(string(b), `"step":"shadow"`) == times {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("the audit log does not tell of shadow %d: %s", times, b)
			}
		}
		p.Kill()
		if m := state(); m.Want == nil || m.Find("1").Stage != store.Shadow {
			t.Fatalf("%+v", m)
		}
	}
	p := start(t, "run", "--config", config)
	p.Line(`the gateway ended without a word 3 times while it was beside the live version`)
	p.Line(` ready `)
	interrupt(t, p)
	if m := state(); m.Want != nil || m.Find("1").Stage != store.Withdrawn {
		t.Fatalf("%+v", m)
	}
}
